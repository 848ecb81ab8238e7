//! What services' labels tell the reverse proxy (Traefik), which serves every app of the Swarm.
//!
//! A router takes whatever its rule matches, whoever served it before. So a rule is read as Traefik reads it, and must
//! hold for requests at the app's own domain only: each alternative of it names such a host. Routers, services and
//! middlewares of all apps share their names.
//!
//! # Limitations
//! A router without a rule has the one that the operator gave the proxy.

mod hosts;
mod rule;

use std::collections::{BTreeMap, BTreeSet};

use super::compose::{Compose, Service};
use super::env_file::EnvFile;
use super::issue::{Issue, Policy};
use super::rules::table;
use crate::names::Domain;
use hosts::OwnHosts;
use rule::Taken;

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
                match Taken::of(value, &hosts) {
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
    let hosts = OwnHosts::only(domain);
    let paths: Vec<&str> = rules.filter_map(|(_, rule)| rule::path(rule, &hosts)).collect();
    let root = paths.iter().find(|path| **path == rule::ROOT);
    root.or(paths.first()).copied().unwrap_or(rule::ROOT).to_owned()
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
