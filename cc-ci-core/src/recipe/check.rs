//! What can be said against a recipe's files as they are deployed together: what a run refuses or warns of before its
//! deploy, and `recipe check` reports with the place.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::compose::privilege::shown;
use super::compose::{Compose, MountKind, Protocol, Service, env_file_fault};
use super::env_file::{EnvFile, SecretSpec};
use super::issue::{Issue, Policy};
use super::rules::{Rule, Severity, table};
use super::tree::ReadError;
use super::{ABRA_SH, abra_sh, routes};
use crate::names::{Domain, RecipeName};

/// What a look at a recipe found, as lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Findings {
    /// A deploy would fail, or touch what is not the app's own.
    pub problems: Vec<String>,
    /// It asks for what the operator has not granted: the words, and the privilege as the configuration has it.
    pub ungranted: Vec<(String, String)>,
    /// The privileges that it asks for and has.
    pub granted: BTreeSet<String>,
    /// It may work, but not as meant.
    pub warnings: Vec<String>,
}

/// The external networks that apps share where the operator names no others: the proxy's.
pub const SHARED_NETWORKS: [&str; 1] = ["proxy"];

/// What a run says before its deploy.
pub(super) fn check(
    compose: &Compose,
    env: &EnvFile,
    secrets: &[SecretSpec],
    policy: &Policy<'_>,
    read: impl Fn(&Path) -> Result<Vec<u8>, ReadError>,
) -> Findings {
    let mut found = Findings::default();
    let exports = read(Path::new(ABRA_SH)).unwrap_or_default();
    for (line, what) in abra_sh::doubtful(&String::from_utf8_lossy(&exports), &compose.used) {
        found.problems.push(format!("{ABRA_SH}, line {line}: {what}"));
    }
    for issue in issues(compose, env, secrets, policy, read) {
        match (issue.privilege, issue.rule.severity) {
            (Some(privilege), _) if policy.granted.contains(&privilege) => {
                found.granted.insert(privilege);
            }
            (Some(privilege), _) => found.ungranted.push((shown(&issue.what), privilege)),
            (None, Severity::Error) => found.problems.push(issue.what),
            (None, Severity::Warning) => found.warnings.push(issue.what),
            (None, Severity::Note) => {}
        }
    }
    found
}

/// Looks at what the files say together; `read` reads a file of the recipe.
pub(super) fn issues(
    compose: &Compose,
    env: &EnvFile,
    secrets: &[SecretSpec],
    policy: &Policy<'_>,
    read: impl Fn(&Path) -> Result<Vec<u8>, ReadError>,
) -> Vec<Issue> {
    let labels = compose.labels();
    let declared: BTreeSet<String> =
        secrets.iter().map(|spec| format!("{}_{}_{}", compose.stack, spec.name, spec.version)).collect();
    let mut found: Vec<Issue> = labels.warnings.iter().map(super::labels::LabelWarning::issue).collect();
    if let Some(stack) = env.get("STACK_NAME").filter(|stack| *stack != compose.stack.as_str()) {
        let what = format!("the .env sets STACK_NAME to {stack}, which is not the app's stack");
        found.push(Issue::at(&table::FOREIGN_NAME, &[], what));
    }
    found.extend(of_recipe(env));
    for (kind, objects) in [
        ("volume", &compose.volumes),
        ("secret", &compose.secrets),
        ("config", &compose.configs),
        ("network", &compose.networks),
    ] {
        let section = format!("{kind}s");
        for (key, object) in objects {
            let at = |rule, field: &str, what: String| {
                Issue::at(rule, &[&section, key, field], format!("{kind} {key}: {what}"))
            };
            let own = compose.stack.prefixes(&object.name);
            if kind == "network" && object.external {
                // Who is in it reaches all others there, by names that may be theirs.
                if !(own || policy.has_network(&object.name)) {
                    let what = format!("{} is neither the app's own nor shared by the operator", object.name);
                    found.push(at(&table::FOREIGN_NETWORK, "name", what).naming(&object.name));
                }
            }
            if let Some(outside) = object.outside.as_ref().filter(|_| kind == "volume" && !object.external) {
                let issue = at(&table::VOLUME_OUTSIDE, "driver_opts", format!("it is kept {outside}"));
                found.push(issue.asking(format!("volume={key} {outside}")));
            }
            let mut issue = |rule, field: &str, what: String| found.push(at(rule, field, what));
            if !(own || kind == "network" && object.external) {
                let what = format!("its name {} is not of the app's stack", object.name);
                issue(&table::FOREIGN_NAME, "name", what);
            }
            if !matches!(kind, "secret" | "config") {
                continue;
            }
            if let Some((rule, says)) = name_rule(&object.name) {
                issue(rule, "name", format!("its name {} {says}", object.name));
            } else if kind == "secret" && object.external && !declared.contains(&object.name) {
                let what = format!("no SECRET_<NAME>_VERSION in the .env says {}", object.name);
                issue(&table::SECRET_NOT_IN_SAMPLE, "name", what);
            }
            if let Some((file, Err(error))) = object.file.as_deref().map(|file| (file, read(file))) {
                issue(
                    &table::FILE_UNREADABLE,
                    "file",
                    format!("reading its file {}: {error}", file.display()),
                );
            }
        }
    }
    for (key, service) in &compose.services {
        of_service(compose, key, service, policy, &read, &mut found);
    }
    for privilege in &compose.privileges {
        let what = format!("{}: {privilege}", privilege.path.join("."));
        let path: Vec<&str> = privilege.path.iter().map(String::as_str).collect();
        let name = privilege.value.split(['=', ':']).next().unwrap_or_default();
        let issue = Issue::at(&table::PRIVILEGE, &path, what).marked(&privilege.value);
        let issue = issue.marked(format!("cap_{}", privilege.value)).marked(name);
        found.push(issue.asking(privilege.to_string()));
    }
    found.append(&mut routes::issues(compose, env, policy));
    for name in &compose.unset {
        let what = format!("{name} is not set, so it is empty");
        found.push(Issue::of_variable(&table::VARIABLE_NOT_IN_SAMPLE, name, what));
    }
    found
}

/// What one service names that is not the app's own.
fn of_service(
    compose: &Compose,
    key: &str,
    service: &Service,
    policy: &Policy<'_>,
    read: &impl Fn(&Path) -> Result<Vec<u8>, ReadError>,
    found: &mut Vec<Issue>,
) {
    for file in service.env_files() {
        let fault = match read(file).map(String::from_utf8) {
            Err(error) => error.to_string(),
            Ok(Err(_)) => ReadError::NotText.to_string(),
            Ok(Ok(text)) => match env_file_fault(&text) {
                Some((line, rule)) => format!("line {line}: {rule}"),
                None => continue,
            },
        };
        let what = format!("service {key}: reading its env_file {}: {fault}", file.display());
        found.push(Issue::at(&table::FILE_UNREADABLE, &["services", key, "env_file"], what));
    }
    // Everybody there can be asked for by the service's key, too.
    let is_others = !compose.stack.prefixes(key) && may_be_others(key, policy.domain);
    let mut shared = service.networks.iter().filter_map(|network| compose.networks.get(network));
    if let Some(network) = shared.find(|network| network.external && is_others) {
        let what = format!(
            "service {key}: its key is its name in the network {}, and may be that of a host or of another app's service",
            network.name
        );
        found.push(Issue::at(&table::FOREIGN_NAME, &["services", key, "networks"], what));
    }
    for (network, aliases) in &service.aliases {
        let Some(shared) = compose.networks.get(network).filter(|network| network.external) else {
            continue;
        };
        for alias in aliases.iter().filter(|alias| !compose.stack.prefixes(alias)) {
            let what =
                format!("service {key}: its alias {alias} in the network {} is anybody's", shared.name);
            let issue = Issue::at(&table::FOREIGN_NAME, &["services", key, "networks"], what);
            found.push(issue.marked(alias));
        }
    }
    // Docker makes it an alias in all of them.
    let hostname = service.passed_on.get("hostname").and_then(Value::as_str).unwrap_or_default();
    let mut shared = service.networks.iter().filter_map(|network| compose.networks.get(network));
    if let Some(network) =
        shared.find(|network| network.external && !is_own_hostname(hostname, compose, policy))
    {
        let what = format!(
            "service {key}: its hostname {hostname} is its name in the network {}, and may be that of a host or of another app's service",
            network.name
        );
        found.push(Issue::at(&table::FOREIGN_NAME, &["services", key, "hostname"], what).marked(hostname));
    }
    for spec in &service.ports {
        let port = spec.published.map_or_else(|| "any".to_owned(), |port| port.to_string());
        let what = format!("service {key}: publishes the host's port {port}");
        let issue = Issue::at(&table::PUBLISHED_PORT, &["services", key, "ports"], what);
        let issue = issue.marked(format!("{port}:")).marked(format!("published: {port}"));
        let protocol = match spec.protocol {
            Protocol::Tcp => "",
            Protocol::Udp => "/udp",
            Protocol::Sctp => "/sctp",
        };
        let mode = if spec.host_mode { "@host" } else { "" };
        found.push(issue.marked(&port).asking(format!("port={port}{protocol}{mode}")));
    }
    for mount in service.volumes.iter().filter(|mount| mount.kind == MountKind::Bind) {
        let source = mount.source.as_deref().unwrap_or_default();
        // What time it is is no secret.
        if mount.read_only && CLOCK.contains(&source) {
            continue;
        }
        let what = format!("service {key}: mounts {source} of the host");
        let issue = Issue::at(&table::HOST_MOUNT, &["services", key, "volumes"], what).marked(source);
        let ends = source.ends_with(":ro") || source.ends_with(":rw");
        // A path that ends like a mode is not to be taken for one.
        let mode = if mount.read_only {
            ":ro"
        } else if ends {
            ":rw"
        } else {
            ""
        };
        found.push(issue.asking(format!("bind={source}{mode}")));
    }
}

/// What the `.env` says of the recipe, which abra deploys.
fn of_recipe(env: &EnvFile) -> Vec<Issue> {
    // A version may follow it.
    let said = |name| Some(env.get(name)?.split(':').next()?).filter(|recipe| !recipe.is_empty());
    let mut found: Vec<Issue> = NAMES_OF_RECIPE
        .into_iter()
        .filter_map(|name| Some((name, said(name)?)))
        .filter(|(_, recipe)| recipe.parse::<RecipeName>().is_err())
        .map(|(name, recipe)| format!("the .env sets {name} to {recipe}, which is no recipe's name"))
        .map(|what| Issue::at(&table::FOREIGN_NAME, &[], what))
        .collect();
    if let [Some(one), Some(other)] = NAMES_OF_RECIPE.map(said)
        && one != other
    {
        let what = format!("the .env names two recipes: {one} by TYPE, and {other} by RECIPE");
        found.push(Issue::at(&table::FOREIGN_NAME, &[], what));
    }
    found
}

/// Whether nobody else in a shared network is asked for by this hostname.
fn is_own_hostname(hostname: &str, compose: &Compose, policy: &Policy<'_>) -> bool {
    // What Swarm puts there is the task's own or the node's; other templates can make any name.
    let mut plain = hostname.to_owned();
    for part in
        ["Service.ID", "Service.Name", "Node.ID", "Node.Hostname", "Task.ID", "Task.Name", "Task.Slot"]
    {
        plain = plain.replace(&format!("{{{{.{part}}}}}"), "x").replace(&format!("{{{{ .{part} }}}}"), "x");
    }
    let own = policy.domain.as_str();
    let is_own = compose.stack.prefixes(&plain) || plain == own || plain.ends_with(&format!(".{own}"));
    !plain.contains("{{") && (is_own || !may_be_others(&plain, policy.domain))
}

/// Whether a key is a name by which others in a network may ask for a host, or for the service of another stack.
fn may_be_others(key: &str, domain: &Domain) -> bool {
    /// An app of the same host may be at `sso.example.org`, beside `ci.example.org`. Two labels are taken for a domain in the
    /// app's own zone, and where the second one is a top-level domain: two underscores have many names.
    const LABELS: usize = 3;
    // The last label of a host is no number, as in `php8.1`.
    let is_host = key
        .trim_end_matches('.')
        .rsplit_once('.')
        .is_some_and(|(_, last)| !last.bytes().all(|b| b.is_ascii_digit()));
    let own: Vec<&str> = domain.as_str().split('.').collect();
    let parts: Vec<&str> = key.split('_').collect();
    let is_label = |part: &&&str| {
        !(part.is_empty() || part.contains('.') || part.starts_with('-') || part.ends_with('-'))
    };
    // What follows the domain is the service.
    let labels = parts.iter().take_while(is_label).count().min(parts.len() - 1);
    let is_stack = |length: usize| {
        let last_two =
            |labels: &[&str]| labels[labels.len().saturating_sub(2)..].join(".").to_ascii_lowercase();
        let last = parts[length - 1];
        last.starts_with(|c: char| c.is_ascii_alphabetic())
            && (length >= own.len().min(LABELS)
                || length > 1 && (is_top_level(last) || last_two(&parts[..length]) == last_two(&own)))
    };
    is_host || (1..=labels).any(is_stack)
}

/// Whether apps are found below such a top-level domain: a country's, one of those that have many, or one for a network of
/// one's own.
fn is_top_level(label: &str) -> bool {
    const COMMON: [&str; 24] = [
        "app", "biz", "cloud", "com", "coop", "dev", "digital", "earth", "eco", "edu", "home", "info",
        "internal", "lan", "local", "net", "online", "org", "site", "social", "space", "tech", "test", "xyz",
    ];
    let label = label.to_ascii_lowercase();
    label.len() == 2 && label.bytes().all(|b| b.is_ascii_alphabetic()) || COMMON.contains(&label.as_str())
}

/// The variables by which abra knows the recipe of an app.
const NAMES_OF_RECIPE: [&str; 2] = ["TYPE", "RECIPE"];

/// What an app may read of the host's, to show its time.
const CLOCK: [&str; 2] = ["/etc/localtime", "/etc/timezone"];

/// How long Swarm lets the names of secrets and configs be.
pub(super) const MAX_NAME: usize = 64;

/// Swarm's rules for the names of secrets and configs.
fn name_rule(name: &str) -> Option<(&'static Rule, &'static str)> {
    if name.len() > MAX_NAME {
        Some((&table::NAME_TOO_LONG, "has more than 64 characters"))
    } else if name.ends_with(|c: char| c.is_ascii_alphanumeric()) {
        None
    } else {
        Some((&table::NAME_UNFINISHED, "does not end with a letter or digit: is its version set?"))
    }
}
