//! Which nodes the Swarm may give a service's tasks to, by the service's placement constraints.
//!
//! As the Swarm's scheduler reads them (`manager/constraint` of `moby/swarmkit`): all of them must hold, and letters of
//! either case are the same but in a label's name. What a node does not have is empty, so `!=` holds for it. A suite asks
//! a real Swarm the same.

use std::net::IpAddr;

use crate::node::Node;

const NODE_LABELS: &str = "node.labels.";
const ENGINE_LABELS: &str = "engine.labels.";

/// Whether `constraints` let a task on `node`. One that the Swarm takes for none is not held against it: such a service is
/// refused.
pub(crate) fn allows<'c>(
    constraints: impl IntoIterator<Item = &'c (impl AsRef<str> + 'c)>,
    node: &Node,
) -> bool {
    constraints
        .into_iter()
        .all(|text| Constraint::parse(text.as_ref()).is_none_or(|constraint| constraint.holds(node)))
}

/// `KEY==VALUE` or `KEY!=VALUE`.
#[derive(Debug)]
struct Constraint<'t> {
    key: &'t str,
    value: &'t str,
    /// Whether the value is what is wanted, or all but it.
    equal: bool,
}

impl<'t> Constraint<'t> {
    /// `==` is looked for first, wherever it stands.
    fn parse(text: &'t str) -> Option<Self> {
        let split = |operator| text.split_once(operator);
        let (equal, (key, value)) = match split("==") {
            Some(parts) => (true, parts),
            None => (false, split("!=")?),
        };
        Some(Self { key: key.trim(), value: value.trim(), equal })
    }

    fn holds(&self, node: &Node) -> bool {
        let is = |told: &str| self.value.eq_ignore_ascii_case(told) == self.equal;
        if let Some(label) = after(self.key, NODE_LABELS) {
            return is(node.labels.get(label).map_or("", String::as_str));
        }
        if let Some(label) = after(self.key, ENGINE_LABELS) {
            return is(node.engine_labels.get(label).map_or("", String::as_str));
        }
        match self.key.to_ascii_lowercase().as_str() {
            "node.id" => is(&node.id),
            "node.hostname" => is(&node.hostname),
            "node.role" => is(if node.is_manager { "manager" } else { "worker" }),
            "node.platform.os" => is(&node.os),
            "node.platform.arch" => is(&node.architecture),
            // What is no network is met by nobody, whatever is asked.
            "node.ip" => {
                Network::parse(self.value).is_some_and(|network| network.has(node.address) == self.equal)
            }
            _ => false,
        }
    }
}

/// What follows `prefix` in `key`, if anything does.
fn after<'k>(key: &'k str, prefix: &str) -> Option<&'k str> {
    let (start, label) = key.split_at_checked(prefix.len())?;
    (start.eq_ignore_ascii_case(prefix) && !label.is_empty()).then_some(label)
}

/// An address, or those that begin with as many of its bits.
#[derive(Debug)]
struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            None => (text, None),
            Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
        };
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        (bits <= width).then_some(Self { address, bits })
    }

    fn has(&self, address: Option<IpAddr>) -> bool {
        match (self.address, address) {
            (IpAddr::V4(ours), Some(IpAddr::V4(theirs))) => {
                (ours.to_bits() ^ theirs.to_bits()).leading_zeros() >= self.bits
            }
            (IpAddr::V6(ours), Some(IpAddr::V6(theirs))) => {
                (ours.to_bits() ^ theirs.to_bits()).leading_zeros() >= self.bits
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a real Swarm can't be asked in the suites: its nodes have one architecture, and addresses of one kind.
    #[test]
    fn what_no_node_of_the_suites_has_is_told_apart() {
        let node = Node {
            architecture: "aarch64".into(),
            address: Some("2001:db8::17".parse().unwrap()),
            ..Node::default()
        };
        for (text, holds) in [
            ("node.platform.arch == AARCH64", true),
            ("node.platform.arch != x86_64", true),
            ("node.platform.arch == x86_64", false),
            ("node.hostname != anything", true),
            ("node.hostname == anything", false),
            ("node.ip == 2001:db8::/32", true),
            ("node.ip != 2001:db8::/32", false),
            ("node.ip == 2001:db8::17", true),
            ("node.ip == 2001:db8::16", false),
            ("node.ip != 10.0.0.0/8", true),
            ("node.ip == 2001:db8::/129", false),
            ("node.ip == 0.0.0.0/0", false),
            ("node.ip == ::/0", true),
        ] {
            assert_eq!(allows(&[text], &node), holds, "{text}");
        }
        assert!(!allows(&["node.ip == 10.0.0.0/8"], &Node::default()));
        assert!(allows(&[] as &[&str], &node));
        assert!(!allows(&["node.ip == ::/0", "node.role == manager"], &node));
    }

    proptest::proptest! {
        /// Any text of a recipe is read: also one that ends, or has a letter of several bytes, where a prefix would end.
        #[test]
        fn no_text_panics(text in "[a-zé.]{0,16}(==|!=).{0,10}") {
            let _ = allows(&[text], &Node::default());
        }
    }
}
