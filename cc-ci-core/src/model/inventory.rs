//! What exists of an app, whatever its kind.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::Domain;

/// A kind of thing that a run can leave behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// A marked process, or one of a service.
    Process,
    /// A container.
    Container,
    /// A service.
    Service,
    /// A task of a service.
    Task,
    /// A volume, anonymous ones too.
    Volume,
    /// A secret.
    Secret,
    /// A config.
    Config,
    /// A network, or a reserved port.
    Network,
    /// The app's `.env`.
    EnvFile,
    /// What is left of a dead run's tree.
    RunTree,
    /// What bounded a sandbox.
    ControlGroup,
    /// Whatever is on a node of the engine that can't be seen: it is not known to be nothing.
    UnseenNode,
    /// A kind that a later version of cc-ci has written into a record, and that this one can't tell. No inventory finds one.
    #[serde(other)]
    Unknown,
}

impl Kind {
    /// So many of it, for people: `1 process`, `2 processes`.
    pub fn counted(self, count: usize) -> String {
        match (count, self) {
            (1, _) => format!("1 {self}"),
            (_, Self::Process) => format!("{count} processes"),
            (_, Self::Unknown) => format!("{count} things of an unknown kind"),
            _ => format!("{count} {self}s"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "process",
            Self::Container => "container",
            Self::Service => "service",
            Self::Task => "task",
            Self::Volume => "volume",
            Self::Secret => "secret",
            Self::Config => "config",
            Self::Network => "network",
            Self::EnvFile => ".env file",
            Self::RunTree => "run tree",
            Self::ControlGroup => "control group",
            Self::UnseenNode => "unseen node",
            Self::Unknown => "thing of an unknown kind",
        })
    }
}

/// One thing that exists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Resource {
    /// What it is.
    pub kind: Kind,
    /// Its name, id or path.
    pub name: String,
    /// The node that has it, where the engine has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

impl Resource {
    /// A thing of a kind.
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into(), node: None }
    }

    /// The same, on a node of an engine that has several.
    pub fn on(self, node: impl Into<String>) -> Self {
        Self { node: Some(node.into()), ..self }
    }

    /// Whether nothing is known to be there, and something may be, where nobody can look.
    pub fn only_unseen<'r>(resources: impl IntoIterator<Item = &'r Self>) -> bool {
        let mut resources = resources.into_iter().peekable();
        resources.peek().is_some() && resources.all(|resource| resource.kind == Kind::UnseenNode)
    }

    /// Whether nothing is there but what nodes may have that can't be seen, and the trees of dead runs, which stay until then.
    pub fn only_owed(resources: &[Self]) -> bool {
        resources.iter().any(|resource| resource.kind == Kind::UnseenNode)
            && resources.iter().all(|resource| matches!(resource.kind, Kind::UnseenNode | Kind::RunTree))
    }

    /// Several things, counted by kind: what a person reads of many.
    pub fn counts(resources: &[Self]) -> String {
        let mut kinds = BTreeMap::<Kind, usize>::new();
        for resource in resources {
            *kinds.entry(resource.kind).or_default() += 1;
        }
        if kinds.is_empty() {
            return "nothing".to_owned();
        }
        kinds.into_iter().map(|(kind, count)| kind.counted(count)).collect::<Vec<_>>().join(", ")
    }

    /// Several things in one line: by name where they are few, else counted by kind. All names are in the JSON of whoever
    /// tells it.
    pub fn brief(resources: &[Self]) -> String {
        const NAMED: usize = 4;
        if resources.len() <= NAMED { Self::list(resources) } else { Self::counts(resources) }
    }

    /// Several things, in one line, each by name.
    pub fn list(resources: &[Self]) -> String {
        resources.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A line feed in a name would begin a line that looks like the command's own.
        write!(f, "{} {}", self.kind, self.name.replace('\n', "\\n"))?;
        match &self.node {
            Some(node) => write!(f, " on {}", node.replace('\n', "\\n")),
            None => Ok(()),
        }
    }
}

/// What exists, by domain. An inventory reads the world, never a run's own notes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    apps: BTreeMap<Domain, BTreeSet<Resource>>,
    /// What is no domain's, and stands where the engine has its own.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    in_the_way: BTreeSet<String>,
    /// The nodes that can't be seen.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    unseen: BTreeMap<String, Unseen>,
    /// The nodes that were seen, where the engine has several.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    seen: BTreeSet<String>,
}

/// Since when a node can't be seen, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unseen {
    /// Since when it is known not to answer.
    pub since: Timestamp,
    /// What kept it from being seen.
    pub why: String,
}

impl Inventory {
    /// Adds one thing of `domain`.
    pub fn add(&mut self, domain: &Domain, resource: Resource) {
        self.apps.entry(domain.clone()).or_default().insert(resource);
    }

    /// Adds everything of another inventory.
    pub fn merge(&mut self, other: Self) {
        for (domain, resources) in other.apps {
            self.apps.entry(domain).or_default().extend(resources);
        }
        self.in_the_way.extend(other.in_the_way);
        self.unseen.extend(other.unseen);
        self.seen.extend(other.seen);
    }

    /// Adds a node whose things are all in this inventory.
    pub fn add_seen(&mut self, node: &str) {
        self.seen.insert(node.to_owned());
    }

    /// The nodes that were seen, where the engine has several.
    pub fn seen(&self) -> &BTreeSet<String> {
        &self.seen
    }

    /// Adds a node that can't be seen: what is there is not in this inventory.
    pub fn add_unseen(&mut self, node: &str, unseen: Unseen) {
        self.unseen.insert(node.to_owned(), unseen);
    }

    /// Leaves out the unseen nodes of domains of which nothing else is known.
    pub(crate) fn forget_unseen_of_the_empty(&mut self) {
        self.apps.retain(|_, resources| !Resource::only_unseen(&*resources));
    }

    /// The nodes that can't be seen, in order.
    pub fn unseen(&self) -> impl Iterator<Item = (&str, &Unseen)> {
        self.unseen.iter().map(|(node, unseen)| (node.as_str(), unseen))
    }

    /// Adds what stands in the place of something of the engine's, and what helps, in words. Nothing of an app is there, and
    /// nobody removes it: it is somebody else's.
    pub fn add_in_the_way(&mut self, what: String) {
        self.in_the_way.insert(what);
    }

    /// What stands in the place of something of the engine's.
    pub fn in_the_way(&self) -> impl Iterator<Item = &str> {
        self.in_the_way.iter().map(String::as_str)
    }

    /// What exists of `domain`, in order.
    pub fn of(&self, domain: &Domain) -> Vec<Resource> {
        self.apps.get(domain).into_iter().flatten().cloned().collect()
    }

    /// The domains of which something exists, in order.
    pub fn domains(&self) -> impl Iterator<Item = &Domain> {
        self.apps.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_of_a_node_says_so_and_others_are_written_as_ever() {
        let volume = Resource::new(Kind::Volume, "data");
        assert_eq!(serde_json::to_string(&volume).unwrap(), r#"{"kind":"volume","name":"data"}"#);
        let there = volume.clone().on("worker-1");
        assert_ne!(volume, there);
        assert_eq!(there.to_string(), "volume data on worker-1");
        let back: Resource = serde_json::from_str(&serde_json::to_string(&there).unwrap()).unwrap();
        assert_eq!(back, there);
    }

    #[test]
    fn few_things_are_named_and_many_are_counted() {
        let many = |kind, count| (0..count).map(move |number| Resource::new(kind, format!("n{number}")));
        let few: Vec<Resource> = many(Kind::Volume, 1).chain(many(Kind::Process, 2)).collect();
        assert_eq!(Resource::brief(&few), "volume n0, process n0, process n1");
        assert_eq!(Resource::counts(&few), "2 processes, 1 volume");
        let all: Vec<Resource> = many(Kind::EnvFile, 1).chain(many(Kind::Container, 20)).collect();
        assert_eq!(Resource::brief(&all), "20 containers, 1 .env file");
        assert_eq!(Resource::counts(&[]), "nothing");
    }

    #[test]
    fn what_is_owed_is_an_unseen_node_and_at_most_a_tree() {
        let [node, tree, volume] =
            [Kind::UnseenNode, Kind::RunTree, Kind::Volume].map(|kind| Resource::new(kind, "x"));
        assert!(
            Resource::only_owed(std::slice::from_ref(&node))
                && Resource::only_owed(&[tree.clone(), node.clone()])
        );
        for other in [&[][..], std::slice::from_ref(&tree), &[node, tree.clone(), volume]] {
            assert!(!Resource::only_owed(other), "{other:?}");
        }
    }

    #[test]
    fn a_kind_of_a_later_version_is_read_as_unknown_and_stays_with_what_is_left() {
        let written = r#"{"kind":"quantum_volume","name":"x"}"#;
        let thing: Resource = serde_json::from_str(written).unwrap();
        assert_eq!(thing, Resource::new(Kind::Unknown, "x"));
        assert_eq!(thing.to_string(), "thing of an unknown kind x");
        assert_eq!(Resource::counts(&[thing.clone(), thing.clone()]), "2 things of an unknown kind");
        assert_eq!(serde_json::to_string(&thing).unwrap(), r#"{"kind":"unknown","name":"x"}"#);
    }
}
