//! What services' labels tell the reverse proxy (Traefik), which serves every app of the Swarm.
//!
//! A router takes whatever its rule matches, whoever served it before. So a rule is read as Traefik reads it, and must
//! hold for requests at the app's own domain only: each alternative of it names such a host. Routers, services and
//! middlewares of all apps share their names.
//!
//! # Limitations
//! A router without a rule has the one that the operator gave the proxy.

use std::collections::{BTreeMap, BTreeSet};

use hyper::http::uri::PathAndQuery;

use super::compose::{Compose, Service};
use super::env_file::EnvFile;
use super::issue::{Issue, Policy};
use super::rules::table;
use crate::names::Domain;

/// How deep a rule's brackets may be.
const MAX_DEPTH: usize = 32;

/// Names under which nobody serves anything (RFC 2606): what samples stand in for a real one with.
const RESERVED: [&str; 5] = ["example.com", "example.net", "example.org", "example", "invalid"];

/// The matchers that ask for a path.
const PATHS: [&str; 2] = ["path", "pathprefix"];

/// What is asked where any path will do.
const ROOT: &str = "/";

/// A longer path is asked for by nobody.
const MAX_PATH: usize = 1024;

/// The matchers that ask for a host, and whether their arguments are patterns.
const HOSTS: [(&str, bool); 5] = [
    ("host", false),
    ("hostheader", false),
    ("hostsni", false),
    ("hostregexp", true),
    ("hostsniregexp", true),
];

pub(super) fn issues(compose: &Compose, env: &EnvFile, policy: &Policy<'_>) -> Vec<Issue> {
    let hosts = OwnHosts::of(env, policy);
    let mut found = Vec::new();
    for (service, spec) in &compose.services {
        let (mut strange, mut udp) = (BTreeSet::new(), BTreeSet::new());
        let entrypoints = Entrypoints::of(spec);
        for (label, value) in &spec.labels {
            // Traefik reads them in any case.
            let label = label.to_ascii_lowercase();
            if label.starts_with("traefik.tls.") {
                let what = format!("service {service}: {label} changes the certificates of every app");
                let issue = Issue::at(&table::FOREIGN_HOST, &["services", service, "deploy", "labels"], what);
                found.push(issue.marked(&label));
            }
            if label.starts_with("traefik.") && !has_good_brackets(&label) {
                let what =
                    format!("service {service}: {label} has brackets that the proxy can't read, for no app");
                found.push(Issue::at(&table::FOREIGN_HOST, &["services", service, "deploy", "labels"], what));
            }
            let Some((protocol, kind, name, field)) = parts(&label) else { continue };
            for (what, privilege) in references(compose, kind, field, value) {
                let what = format!("service {service}: {kind} {name}: {what}");
                let issue = Issue::at(&table::PROXY_NAME, &["services", service, "deploy", "labels"], what);
                found.push(issue.marked(&label).asking(format!("proxy={privilege}")));
            }
            if protocol == "udp" && kind == "routers" {
                udp.insert(name.to_owned());
            }
            if !name.contains(&compose.stack.as_str().to_ascii_lowercase()) {
                strange.insert((protocol.to_owned(), kind.to_owned(), name.to_owned()));
            }
            if kind == "routers" && field == "rule" && !value.trim().is_empty() {
                let at = |rule, what: String| {
                    let what = format!("service {service}: router {name}: {what}");
                    Issue::at(rule, &["services", service, "deploy", "labels"], what).marked(&label)
                };
                match Reader::judge(value, &hosts) {
                    Taken::Own => {}
                    // Most protocols have no host that could be told apart: such a router has a port of its own.
                    Taken::Hosts(hosts) if protocol == "tcp" && hosts.iter().all(|host| host == "*") => {
                        for entrypoints in entrypoints.of_router(protocol, name) {
                            let what = format!("takes every connection of its entrypoint, {entrypoints}");
                            let issue = at(&table::PROXY_NAME, what);
                            found.push(issue.asking(format!("entrypoint={protocol} {entrypoints}")));
                        }
                    }
                    Taken::Hosts(hosts) => found.extend(hosts.iter().map(|host| {
                        let shown: String = host.chars().take(120).collect();
                        let what = if shown.is_empty() {
                            "takes a host without a name: a variable of its rule is not set".to_owned()
                        } else {
                            format!("takes {shown}, which is not the app's domain")
                        };
                        at(&table::FOREIGN_HOST, what).naming(host)
                    })),
                    Taken::Every => {
                        found.push(at(&table::FOREIGN_HOST, "takes requests to any host".to_owned()));
                    }
                    Taken::Unreadable => {
                        let what = "its rule can't be read as Traefik's".to_owned();
                        found.push(at(&table::FOREIGN_HOST, what));
                    }
                }
            }
        }
        // No rule tells apart what comes by UDP.
        for name in &udp {
            for entrypoints in entrypoints.of_router("udp", name) {
                let what = format!("service {service}: router {name}: takes all that comes to {entrypoints}");
                let issue = Issue::at(&table::PROXY_NAME, &["services", service, "deploy", "labels"], what);
                let issue = issue.marked(format!("traefik.udp.routers.{name}.entrypoints"));
                found.push(issue.marked(name).asking(format!("entrypoint=udp {entrypoints}")));
            }
        }
        found.extend(strange.into_iter().map(|(protocol, kind, name)| {
            let thing = kind.trim_end_matches('s');
            let what = format!(
                "service {service}: the proxy's {protocol} {thing} {name} is not named after the stack"
            );
            let issue = Issue::at(&table::PROXY_NAME, &["services", service, "deploy", "labels"], what);
            issue.marked(format!("{kind}.{name}")).asking(format!("proxy={protocol}.{kind}.{name}"))
        }));
    }
    found
}

/// A router of a service that does not tell the proxy to look at its labels, by the router's label.
pub(super) fn unseen(service: &Service) -> Option<&str> {
    let labels = || service.labels.iter().map(|(label, value)| (label, label.to_ascii_lowercase(), value));
    let is_seen = |(_, label, value): (&String, String, &String)| {
        label == "traefik.enable" && value.trim().eq_ignore_ascii_case("true")
    };
    let mut routers =
        labels().filter(|(_, label, _)| parts(label).is_some_and(|(_, kind, ..)| kind == "routers"));
    routers.next().map(|(label, ..)| label.as_str()).filter(|_| !labels().any(is_seen))
}

/// A path that the proxy leads to the app at `domain`: the root, unless every router for that takes some paths only.
pub(crate) fn served_path(compose: &Compose, domain: &Domain) -> String {
    let labels = compose.services.values().flat_map(|service| &service.labels);
    let rules = labels.filter(|(label, _)| {
        let label = label.to_ascii_lowercase();
        matches!(parts(&label), Some(("http", "routers", _, "rule")))
    });
    let hosts = OwnHosts { domain: domain.to_string(), chosen: BTreeSet::new() };
    let paths: Vec<&str> = rules.filter_map(|(_, rule)| Reader::path(rule, &hosts)).collect();
    let root = paths.iter().find(|path| **path == ROOT);
    root.or(paths.first()).copied().unwrap_or(ROOT).to_owned()
}

/// Whether each bracket of a label is a number's, behind a name.
fn has_good_brackets(label: &str) -> bool {
    label.split('.').all(|part| {
        let Some((name, rest)) = part.split_once('[') else { return !part.contains(']') };
        let number = rest.strip_suffix(']').unwrap_or_default();
        !name.is_empty()
            && !name.contains(']')
            && !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

/// A label without the number of an entry, as in `middlewares[0]`: a list may be written so.
fn without_index(label: &str) -> &str {
    match label.rsplit_once('[') {
        Some((name, number)) if number.ends_with(']') => name,
        _ => label,
    }
}

/// What a label of the proxy refers to that is not the app's own: other services and middlewares, or an address that the
/// proxy itself asks. What the operator put into the proxy's files (`name@file`) is for all.
fn references(compose: &Compose, kind: &str, field: &str, value: &str) -> Vec<(String, String)> {
    let stack = compose.stack.as_str().to_ascii_lowercase();
    let field = without_index(field);
    let last = field.rsplit_once('.').map_or("", |(_, last)| last);
    let names_service = matches!(last, "name" | "service" | "fallback")
        && ["weighted.services", "mirroring", "failover"].iter().any(|of| field.starts_with(of));
    let is_name = match kind {
        "routers" => {
            matches!(field, "service" | "middlewares") || field == "tls.options" && value != "default"
        }
        "middlewares" => field == "errors.service" || field.starts_with("chain.middlewares"),
        _ => names_service || field.ends_with("serverstransport"),
    };
    let is_address = kind == "services" && matches!(last, "url" | "address")
        || field == "forwardauth.address"
        || kind == "routers" && field.starts_with("tls.domains");
    if is_address {
        return vec![(format!("{field} is {value}"), format!("{field} {value}"))];
    }
    let foreign = |name: &&str| {
        let (name, provider) = name.split_once('@').unwrap_or((name, ""));
        let is_own = name.to_ascii_lowercase().contains(&stack) && provider != "internal";
        !(name.is_empty() || is_own || provider == "file" || (name, provider) == ("noop", "internal"))
    };
    let names = value.split(',').map(str::trim).filter(|_| is_name).filter(foreign);
    names.map(|name| (format!("{field} is {name}"), format!("{field} {name}"))).collect()
}

/// The entrypoints of a service's routers, as each of their labels says: one may be written in several cases.
struct Entrypoints<'s>(BTreeMap<String, Vec<&'s str>>);

impl<'s> Entrypoints<'s> {
    fn of(service: &'s Service) -> Self {
        let mut found: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (label, value) in &service.labels {
            let value = if value.trim().is_empty() { "*" } else { value.as_str() };
            found.entry(without_index(&label.to_ascii_lowercase()).to_owned()).or_default().push(value);
        }
        Self(found)
    }

    /// Those of one router; all of them where no label says so.
    fn of_router(&self, protocol: &str, name: &str) -> &[&'s str] {
        let label = format!("traefik.{protocol}.routers.{name}.entrypoints");
        self.0.get(&label).map_or(&["*"], Vec::as_slice)
    }
}

/// Protocol, kind and name of the thing that a label in lower case is about, and which field of it.
fn parts(label: &str) -> Option<(&str, &str, &str, &str)> {
    let mut parts = label.strip_prefix("traefik.")?.splitn(4, '.');
    let (protocol, kind, name) = (parts.next()?, parts.next()?, parts.next()?);
    let kinds = ["routers", "services", "middlewares", "serverstransports"];
    (matches!(protocol, "http" | "tcp" | "udp") && kinds.contains(&kind))
        .then(|| (protocol, kind, name, parts.next().unwrap_or_default()))
}

/// The hosts that a router of the app may take.
struct OwnHosts {
    domain: String,
    /// Those that the operator chose, or that are nobody's.
    chosen: BTreeSet<String>,
}

impl OwnHosts {
    fn of(env: &EnvFile, policy: &Policy<'_>) -> Self {
        let mut chosen: BTreeSet<String> = named(env).filter(|host| is_reserved(host)).collect();
        chosen.extend(policy.operators.into_iter().flat_map(named));
        Self { domain: policy.domain.to_string(), chosen }
    }

    fn has(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        is_below(&host, &self.domain) || self.chosen.contains(&host)
    }

    /// Whether a pattern ends with the domain, and has no other end.
    fn has_pattern(&self, pattern: &str) -> bool {
        // Which of the brackets count is too much to ask where some are escaped or in a class.
        if pattern.contains('|') && pattern.contains(['\\', '[', '{']) {
            return false;
        }
        let mut depth = 0_usize;
        for c in pattern.chars() {
            match c {
                '(' | '{' => depth += 1,
                ')' | '}' => depth = depth.saturating_sub(1),
                '|' if depth == 0 => return false,
                _ => {}
            }
        }
        let plain = pattern.trim_end_matches('$').replace('\\', "").to_ascii_lowercase();
        is_below(plain.trim_start_matches('^'), &self.domain)
    }
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn is_reserved(host: &str) -> bool {
    RESERVED.iter().any(|reserved| is_below(host, reserved))
}

/// Whatever in an `.env` looks like a host.
fn named(env: &EnvFile) -> impl Iterator<Item = String> {
    let part = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    let words = env.vars().values().flat_map(move |value| value.split(part));
    words.filter(|word| word.contains('.')).map(|word| word.trim_end_matches('.').to_ascii_lowercase())
}

/// Which requests a rule takes.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    /// Those at the app's own hosts.
    Own,
    /// Others too: at these.
    Hosts(Vec<String>),
    /// Others too, without a name.
    Every,
    Unreadable,
}

/// Reads a rule: matchers like `` Host(`a`, `b`) `` with `&&`, `||`, `!` and brackets.
struct Reader<'a> {
    rest: &'a str,
    hosts: &'a OwnHosts,
    foreign: Vec<String>,
    /// The paths that it asks for.
    paths: Vec<&'a str>,
    /// Whether it names the app's domain itself.
    at_domain: bool,
    /// Whether what was read last takes no plain request: it asks for a method, a header or the like too.
    is_special: bool,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn new(rule: &'a str, hosts: &'a OwnHosts) -> Self {
        Self {
            rest: rule,
            hosts,
            foreign: Vec::new(),
            paths: Vec::new(),
            at_domain: false,
            is_special: false,
            depth: 0,
        }
    }

    /// A path that the rule takes at the app's domain, the root where it takes all of them; nothing of a rule that names
    /// another host, takes no plain request, or can't be read.
    fn path(rule: &'a str, hosts: &'a OwnHosts) -> Option<&'a str> {
        let mut reader = Self::new(rule, hosts);
        reader.any().filter(|_| reader.rest.trim().is_empty() && reader.at_domain && !reader.is_special)?;
        // A pattern is no path, and what can't stand in a request is asked for by nobody.
        let is_path = |path: &&str| {
            let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'{' | b'}' | b'#' | b'\\');
            let is_uri = path.parse::<PathAndQuery>().is_ok();
            path.starts_with('/') && path.len() <= MAX_PATH && path.bytes().all(plain) && is_uri
        };
        Some(reader.paths.into_iter().find(is_path).unwrap_or(ROOT))
    }

    fn judge(rule: &'a str, hosts: &'a OwnHosts) -> Taken {
        let mut reader = Self::new(rule, hosts);
        match reader.any() {
            Some(_) if !reader.rest.trim().is_empty() => Taken::Unreadable,
            None => Taken::Unreadable,
            Some(true) => Taken::Own,
            Some(false) if reader.foreign.is_empty() => Taken::Every,
            Some(false) => Taken::Hosts(reader.foreign),
        }
    }

    fn eat(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        self.rest.strip_prefix(token).map(|rest| self.rest = rest).is_some()
    }

    /// Whether what is read holds at the app's own hosts only.
    fn any(&mut self) -> Option<bool> {
        let before = self.paths.len();
        let (mut own, mut some, mut is_special) = (true, true, true);
        loop {
            let known = self.paths.len();
            own &= self.all()?;
            if self.is_special {
                self.paths.truncate(known);
            } else {
                is_special = false;
                some &= self.paths.len() > known;
            }
            if !self.eat("||") {
                break;
            }
        }
        // One that asks for none takes all of them.
        if !some {
            self.paths.truncate(before);
        }
        self.is_special = is_special;
        Some(own)
    }

    fn all(&mut self) -> Option<bool> {
        let mut own = self.one()?;
        let mut is_special = self.is_special;
        while self.eat("&&") {
            own |= self.one()?;
            is_special |= self.is_special;
        }
        self.is_special = is_special;
        Some(own)
    }

    fn one(&mut self) -> Option<bool> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let own = if self.eat("!") {
            // All hosts but those: they are not its own, and not what it takes.
            let known = (self.foreign.len(), self.paths.len());
            self.one()?;
            self.foreign.truncate(known.0);
            self.paths.truncate(known.1);
            // A plain request has nothing of the kind.
            self.is_special = false;
            false
        } else if self.eat("(") {
            let own = self.any()?;
            self.eat(")").then_some(own)?
        } else {
            self.matcher()?
        };
        self.depth -= 1;
        Some(own)
    }

    fn matcher(&mut self) -> Option<bool> {
        self.rest = self.rest.trim_start();
        let len = self.rest.find(|c: char| !c.is_ascii_alphanumeric()).filter(|len| *len > 0)?;
        let (name, rest) = self.rest.split_at(len);
        self.rest = rest;
        if !self.eat("(") {
            return None;
        }
        let mut arguments = Vec::new();
        while !self.eat(")") {
            arguments.push(self.text()?);
            if !self.eat(",") && !self.rest.trim_start().starts_with(')') {
                return None;
            }
        }
        self.is_special = false;
        let Some((_, patterns)) = HOSTS.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)) else {
            if PATHS.iter().any(|path| name.eq_ignore_ascii_case(path)) {
                self.paths.append(&mut arguments);
            } else {
                let gets = arguments.iter().any(|method| method.eq_ignore_ascii_case("GET"));
                self.is_special = !(name.eq_ignore_ascii_case("method") && gets);
            }
            return Some(false);
        };
        self.at_domain |=
            !patterns && arguments.iter().any(|host| host.eq_ignore_ascii_case(&self.hosts.domain));
        let own = |host: &&str| if *patterns { self.hosts.has_pattern(host) } else { self.hosts.has(host) };
        let foreign: Vec<&str> = arguments.iter().copied().filter(|host| !own(host)).collect();
        self.foreign.extend(foreign.iter().map(|host| (*host).to_owned()));
        Some(foreign.is_empty() && !arguments.is_empty())
    }

    /// A quoted text as it stands there: one with a backslash is no host.
    fn text(&mut self) -> Option<&'a str> {
        self.rest = self.rest.trim_start();
        let quote = self.rest.chars().next().filter(|c| matches!(c, '`' | '"'))?;
        let inner = &self.rest[1..];
        let end = if quote == '`' {
            inner.find('`')?
        } else {
            let mut escaped = false;
            inner.find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            })?
        };
        self.rest = &inner[end + 1..];
        Some(&inner[..end])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judge(rule: &str) -> Taken {
        let hosts = OwnHosts { domain: "a.ci.org".to_owned(), chosen: ["b.example.com".to_owned()].into() };
        Reader::judge(rule, &hosts)
    }

    #[test]
    fn a_rule_that_names_an_own_host_in_each_alternative_is_fine() {
        for rule in [
            "Host(`a.ci.org`)",
            " Host( `a.ci.org` , \"www.A.ci.org.\" , ) ",
            "Host(`a.ci.org`) && PathPrefix(`/x`, `/y`)",
            "PathPrefix(`/x`)&&(Host(`a.ci.org`)||Host(`b.example.com`))",
            "Host(`a.ci.org`) && (PathPrefix(`/x`) || !Path(`/y`) || Headers(`a`, `b`))",
            "Host(`a.ci.org`) && !Host(`www.a.ci.org`)",
            "HostRegexp(`{sub:[a-z]+}.a.ci.org`)",
            "HostRegexp(`^[a-z]+\\.a\\.ci\\.org$`)",
            "HostRegexp(`(www|api).a.ci.org`)",
            "HOST(`a.ci.org`) || hostsni(`a.ci.org`)",
        ] {
            assert_eq!(judge(rule), Taken::Own, "{rule}");
        }
    }

    #[test]
    fn a_rule_that_takes_other_hosts_names_them() {
        for (rule, host) in [
            ("Host(`blog.org`)", "blog.org"),
            ("Host(`a.ci.org`, `blog.org`)", "blog.org"),
            ("Host(`a.ci.org`) || (Host(`blog.org`) && Path(`/`))", "blog.org"),
            ("Host(`ci.org`)", "ci.org"),
            ("Host(`xa.ci.org`)", "xa.ci.org"),
            ("Host(\"\\x62log.org\")", "\\x62log.org"),
            ("HostRegexp(`.+`)", ".+"),
            ("HostRegexp(`blog.org|x.a.ci.org`)", "blog.org|x.a.ci.org"),
            ("HostRegexp(`\\(|blog\\.org|x.a.ci.org`)", "\\(|blog\\.org|x.a.ci.org"),
            ("HostRegexp(`([(])|blog.org|.a.ci.org`)", "([(])|blog.org|.a.ci.org"),
            ("HostSNI(`*`)", "*"),
        ] {
            assert_eq!(judge(rule), Taken::Hosts(vec![host.to_owned()]), "{rule}");
        }
        for rule in [
            "PathPrefix(`/`)",
            "!Host(`a.ci.org`)",
            "!Host(`blog.org`)",
            "Host(`a.ci.org`) || Path(`/x`)",
            "Host()",
            "Method(`GET`) && (Host(`a.ci.org`) || Path(`/`))",
        ] {
            assert_eq!(judge(rule), Taken::Every, "{rule}");
        }
    }

    #[test]
    fn what_is_no_rule_is_not_taken_for_a_harmless_one() {
        for rule in [
            "Host(`a.ci.org`",
            "Host(`a.ci.org)",
            "Host(a.ci.org)",
            "Host:a.ci.org",
            "Host(`a.ci.org`) & Path(`/`)",
            "Host(`a.ci.org`) Host(`blog.org`)",
            "Host(`a.ci.org`) ||",
            "(Host(`a.ci.org`)",
            "",
        ] {
            assert_eq!(judge(rule), Taken::Unreadable, "{rule}");
        }
        assert_eq!(judge(&"(".repeat(100_000)), Taken::Unreadable);
        assert_eq!(judge(&"!".repeat(100_000)), Taken::Unreadable);
    }

    #[test]
    fn the_path_that_is_asked_is_one_that_the_rule_takes() {
        let hosts = OwnHosts { domain: "a".to_owned(), chosen: BTreeSet::new() };
        let path = |rule| Reader::path(rule, &hosts);
        for (rule, wanted) in [
            ("Host(`a`)", Some("/")),
            ("Host(`a`) && PathPrefix(`/x`)", Some("/x")),
            ("Host(`a`) && (Path(`/x`, `/y`) || PathPrefix(`/z`))", Some("/x")),
            ("Host(`a`) && !PathPrefix(`/x`)", Some("/")),
            ("Host(`a`) && !PathPrefix(`/x`) && pathprefix(`/y`)", Some("/y")),
            ("Host(`a`) && PathPrefix(`/{id:[0-9]+}`, `/y`)", Some("/y")),
            ("Host(`a`) && Path(`/x y`)", Some("/")),
            ("Host(`a`) && Path(`x", None),
            ("Host(`b.a`) && Path(`/x`)", None),
            ("HostRegexp(`.*`) && Path(`/x`)", None),
            ("Host(`a`) && Path(`/<x>`)", Some("/")),
            ("Host(`a`) && Path(`/x`) rest", None),
            ("Host(`a`) && Path(`/x`) || Host(`a`)", Some("/")),
            ("Host(`a`) || Host(`a`) && Path(`/.well-known/x`)", Some("/")),
            ("Host(`a`) && Path(`/y`) && (Host(`a`) || Path(`/x`))", Some("/y")),
            ("Host(`a`) && Path(`/y`) || Host(`b`) && Path(`/x`)", Some("/y")),
            ("Host(`a`) && PathPrefix(`/x`) && Method(`POST`)", None),
            ("Host(`a`) && (PathPrefix(`/x`) && Method(`POST`))", None),
            ("Host(`a`) && Method(`POST`, `GET`) && Path(`/x`)", Some("/x")),
            ("Host(`a`) && !Method(`POST`)", Some("/")),
            ("Host(`a`) && (Method(`POST`) || Path(`/z`))", Some("/z")),
            ("Host(`a`) && Path(`/x`) && Headers(`k`, `v`) || Host(`a`) && Path(`/y`)", Some("/y")),
        ] {
            assert_eq!(path(rule), wanted, "{rule}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_judged(rule in "(Host|Path|!|&&|\\|\\||\\(|\\)|`|\"|\\\\|a.ci.org|,| ){0,20}|\\PC{0,60}") {
            drop(judge(&rule));
        }
    }
}
