//! Everything that exists of an app, by label and by name.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cc_ci_core::engine::{Failure, Inventory, Kind, Resource, StackSource, Unseen};
use cc_ci_core::error_chain;
use cc_ci_core::event::Event;
use cc_ci_core::names::{Domain, RunAppPattern, Stack, Suffix};
use futures_util::future::{join_all, try_join_all};
use tokio::sync::OnceCell;

use crate::SwarmEngine;
use crate::attribution::{Anonymous, Attribution, Found, Owner};
use crate::client::ApiError;
use crate::snapshot::{Snapshot, named_by_container};

/// How often an engine that restarts is asked whether it is there again.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// What others than the engine know of stacks.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    stacks: Vec<Stack>,
    /// The sources that failed, and why: what is matched by name alone may then be somebody else's.
    pub failed: Vec<String>,
}

pub(crate) async fn inventory(
    engine: &SwarmEngine,
    domains: Option<&[Domain]>,
) -> Result<Inventory, Failure> {
    look(engine, domains).await.map_err(|error| error.during("can't look at what exists"))
}

async fn look(engine: &SwarmEngine, domains: Option<&[Domain]>) -> Result<Inventory, ApiError> {
    let sources = OnceCell::new();
    let all_sources = async {
        if domains.is_none() {
            sources.get_or_init(|| Sources::ask(engine)).await;
        }
    };
    let (snapshot, ()) = tokio::join!(read(engine), all_sources);
    let snapshot = snapshot?;
    let asked: Option<HashMap<String, &Domain>> =
        domains.map(|domains| domains.iter().map(|domain| (domain.stack().to_string(), domain)).collect());
    let stacks = asked.as_ref().map(|asked| asked.keys().map(String::as_str).collect());
    let mut known: HashSet<&str> = stacks.clone().unwrap_or_default();
    if asked.is_none() {
        known.extend(run_app_stacks(&snapshot, &engine.settings.suffix));
    }
    let found = attribute(engine, &snapshot, &known, stacks.as_ref(), &sources).await?;
    let mut inventory = Inventory::default();
    let mut domain_of: HashMap<&str, Option<Domain>> = HashMap::new();
    let mut by_name = 0_usize;
    for found in found {
        let owner = found.owner;
        let Some(stack) = owner.stack() else { continue };
        let domain = domain_of.entry(stack).or_insert_with(|| match &asked {
            Some(asked) => asked.get(stack).map(|domain| (*domain).clone()),
            None => domain_of_stack(stack),
        });
        if let Some(domain) = domain {
            inventory.add(domain, found.resource());
            by_name += usize::from(matches!(owner, Owner::Named(_)));
        }
    }
    for node in &snapshot.seen {
        inventory.add_seen(node);
    }
    for node in snapshot.unseen.iter().filter(|node| node.matters_to(domains)) {
        inventory.add_unseen(&node.name, Unseen { since: node.since, why: node.why.clone() });
        // Who asks for an app is told that something of it may be there; nobody knows whose else.
        for domain in domains.into_iter().flatten().filter(|domain| node.may_hold(domain)) {
            inventory.add(domain, Resource::new(Kind::UnseenNode, &*node.name));
        }
    }
    if let Some(sources) = sources.get().filter(|_| by_name > 0) {
        for failed in &sources.failed {
            let text =
                format!("{by_name} objects are known by name alone and may be somebody else's: {failed}");
            engine.settings.reporter.report(&Event::Warning { text });
        }
    }
    Ok(inventory)
}

/// What is no stack's, but for what the Swarm makes of it itself: tasks, and their containers.
pub(crate) async fn unowned(engine: &SwarmEngine) -> Result<BTreeSet<Resource>, Failure> {
    let snapshot = read(engine).await.map_err(|error| error.during("can't look at what exists"))?;
    let attribution = Attribution::new(&snapshot, run_app_stacks(&snapshot, &engine.settings.suffix));
    let of_services = snapshot.containers.iter().filter(|container| container.service.is_some());
    let made: HashSet<&str> = of_services.map(|container| container.id.as_str()).collect();
    let found = attribution.found(&Anonymous::new(&attribution));
    let nobodys = found
        .into_iter()
        .filter(|found| found.owner == Owner::Nobody && found.kind != Kind::Task && !made.contains(found.id));
    Ok(nobodys.map(|found| found.resource()).collect())
}

/// Everything that exists. An engine that showed it before and does not now is waited for: it restarts, and becomes a
/// manager again some time after it answers. One that hangs has had its time already.
async fn read(engine: &SwarmEngine) -> Result<Snapshot, ApiError> {
    let until = Instant::now() + engine.client.call_limit();
    loop {
        match Snapshot::read(engine).await {
            Ok(snapshot) => {
                engine.has_shown.store(true, Ordering::Relaxed);
                return Ok(snapshot);
            }
            Err(error @ ApiError::Hangs { .. }) => return Err(error),
            Err(error) if error.is_passing() => {
                if !engine.has_shown.load(Ordering::Relaxed) || Instant::now() >= until {
                    return Err(error);
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Everything of `snapshot`, and whose it is. `known` are stacks beside those that labels name; `asked` is who is asked
/// for, or everybody is. `sources` are asked only where their word decides: they can only take an object from the stack
/// that its name suggests.
pub(crate) async fn attribute<'a>(
    engine: &SwarmEngine,
    snapshot: &'a Snapshot,
    known: &HashSet<&'a str>,
    asked: Option<&HashSet<&'a str>>,
    sources: &'a OnceCell<Sources>,
) -> Result<Vec<Found<'a>>, ApiError> {
    let asked = |owner: Owner<'_>| match (owner.stack(), asked) {
        (Some(owner), Some(asked)) => asked.contains(&owner),
        (owner, None) => owner.is_some(),
        (None, _) => false,
    };
    let mut known = known.clone();
    known.extend(sources.get().into_iter().flat_map(Sources::names));
    let mut attribution = Attribution::new(snapshot, known.iter().copied());
    let named = |found: &Found<'_>| matches!(found.owner, Owner::Named(_)) && asked(found.owner);
    if sources.get().is_none() && attribution.found(&Anonymous::new(&attribution)).iter().any(named) {
        known.extend(sources.get_or_init(|| Sources::ask(engine)).await.names());
        attribution = Attribution::new(snapshot, known.iter().copied());
    }
    let mut anonymous = Anonymous::new(&attribution);
    let unsure = anonymous.unsure.iter().filter(|(_, owner)| asked(*owner));
    let message = unsure.map(async |(container, _)| match engine.on(container.node.as_ref()) {
        Some(client) => named_by_container(client, &container.id).await,
        None => Ok(Vec::new()),
    });
    for volume in try_join_all(message).await?.iter().flatten() {
        anonymous.is_named(volume);
    }
    Ok(attribution.found(&anonymous))
}

/// The stacks of run apps that only names tell of: a secret may be all that a run left, and it has no label.
fn run_app_stacks<'a>(snapshot: &'a Snapshot, suffix: &Suffix) -> impl Iterator<Item = &'a str> {
    let pattern = RunAppPattern::new(suffix.clone(), []);
    let below = format!("_{}", suffix.as_str().replace('.', "_"));
    snapshot.unlabelled().filter_map(move |name| {
        let label = &name[..name.find('_')?];
        let rest = name[label.len()..].strip_prefix(&below)?;
        let domain: Domain = format!("{label}.{}", pattern.suffix()).parse().ok()?;
        let ours = (rest.is_empty() || rest.starts_with('_')) && pattern.is_run_app(&domain);
        ours.then_some(&name[..name.len() - rest.len()])
    })
}

/// The domain of a stack that is an app's. Others are nobody's domain.
pub(crate) fn domain_of_stack(stack: &str) -> Option<Domain> {
    let domain: Domain = stack.replace('_', ".").parse().ok()?;
    (domain.stack().as_str() == stack).then_some(domain)
}

impl Sources {
    async fn ask(engine: &SwarmEngine) -> Self {
        let ask = async |source: &Arc<dyn StackSource>| source.stacks().await;
        let mut answers = Self::default();
        for answer in join_all(engine.settings.sources.iter().map(ask)).await {
            match answer {
                Ok(stacks) => answers.stacks.extend(stacks),
                Err(error) => answers.failed.push(error_chain(&error)),
            }
        }
        answers
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.stacks.iter().map(Stack::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Object;

    #[test]
    fn a_run_app_is_known_by_the_name_of_the_only_thing_that_is_left() {
        let names = [
            "immi-012345_ci_example_org_pw",
            "x-abcdef_ci_example_org",
            "immi-012345_ci_example_organic",
            "immi-01234g_ci_example_org_pw",
            "immich-012345_ci_example_org_pw",
            "immi-012345_other_example_org_pw",
            "ci_example_org_pw",
            "_ci_example_org_pw",
        ];
        let object = |name: &str, label: Option<&str>| Object {
            id: name.to_owned(),
            name: name.to_owned(),
            label: label.map(str::to_owned),
            node: None,
        };
        let mut secrets: Vec<Object> = names.iter().map(|name| object(name, None)).collect();
        secrets.push(object("y-abcdef_ci_example_org_pw", Some("elsewhere")));
        let snapshot = Snapshot { secrets, ..Snapshot::default() };
        let known: Vec<&str> = run_app_stacks(&snapshot, &"ci.example.org".parse().unwrap()).collect();
        assert_eq!(known, ["immi-012345_ci_example_org", "x-abcdef_ci_example_org"]);
    }

    #[test]
    fn a_stack_is_a_domains_only_if_it_is_that_domains_stack() {
        let domain = |stack: &str| domain_of_stack(stack).map(String::from);
        assert_eq!(domain("immi-012345_ci_example_org").unwrap(), "immi-012345.ci.example.org");
        for nobodys in ["bystander", "a.b", "a_b.c", "A_b", "a__b", "_a_b", "a_b_", ""] {
            assert_eq!(domain(nobodys), None, "{nobodys}");
        }
    }
}
