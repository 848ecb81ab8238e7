//! What of a warm app an upgrade had added, and its removal.

use std::collections::BTreeSet;
use std::time::Duration;

use super::recipe;
use super::state::Run;
use crate::engine::{App, Inventory, Kind, Resource, ServiceState};
use crate::model::failure::Failure;
use crate::names::Domain;

/// What removing the things that an upgrade had added may take.
pub(super) const REMOVAL_LIMIT: Duration = Duration::from_mins(2);

/// A warm app before its upgrade.
#[derive(Debug)]
pub(super) struct Before {
    pub persistent: Vec<Resource>,
    pub services: Vec<ServiceState>,
}

impl Before {
    /// Takes the app as it is now.
    pub async fn take(run: &Run<'_>, domain: &Domain) -> Result<Self, Failure> {
        let persistent = persistent(run, domain).await?;
        Ok(Self { persistent, services: run.harness.ci_host.engine.services(domain).await? })
    }
}

/// Waits until what killed clients had ordered is carried out, where an order may be `in_flight`: it would undo what is
/// done now, or appear after it.
pub(super) async fn pending_requests_are_done(run: &Run<'_>, in_flight: bool) {
    if in_flight {
        tokio::time::sleep(run.harness.ci_host.engine.request_lag()).await;
    }
}

/// Removes what was added since `before`, until a look finds nothing; gives what is gone. `app` is the baseline. Where an
/// order may be `in_flight`, it may yet appear, and the last look comes so much later.
pub(super) async fn remove_added(
    run: &Run<'_>,
    app: &App,
    before: &[Resource],
    in_flight: bool,
) -> Result<Vec<Resource>, Failure> {
    let domain = &app.domain;
    let mut removed = BTreeSet::new();
    let mut refused = None;
    loop {
        pending_requests_are_done(run, in_flight).await;
        let added = added(run, app, before).await?;
        if added.is_empty() {
            return Ok(removed.into_iter().collect());
        }
        // What is still there after it was removed is not removed for ever.
        if added.iter().all(|resource| removed.contains(resource)) {
            let failure = Failure::recipe(format!(
                "what was added to {domain} is still there: {}",
                Resource::list(&added)
            ));
            return Err(match refused {
                Some(refused) => failure.with_source(refused),
                None => failure,
            });
        }
        refused = run.harness.ci_host.engine.remove_selected(domain, &added, REMOVAL_LIMIT).await.err();
        removed.extend(added);
    }
}

/// What persists of the app, was not there `before`, and is nothing of the baseline `app`.
///
/// A record without any service is none of a warm app that was deployed: where the before is not known, nothing
/// counts as added.
pub(super) async fn added(run: &Run<'_>, app: &App, before: &[Resource]) -> Result<Vec<Resource>, Failure> {
    if !before.iter().any(|resource| resource.kind == Kind::Service) {
        return Ok(Vec::new());
    }
    let compose = recipe::load(run, app).await?.compose;
    let stack = &compose.stack;
    let services = compose.services.keys();
    // Engines differ in whether a service's name begins with the stack's.
    let names = services.flat_map(|name| [format!("{stack}_{name}"), name.clone()]);
    let mut kept: BTreeSet<Resource> = names.map(|name| Resource::new(Kind::Service, name)).collect();
    for (kind, objects) in [
        (Kind::Volume, &compose.volumes),
        (Kind::Secret, &compose.secrets),
        (Kind::Config, &compose.configs),
        (Kind::Network, &compose.networks),
    ] {
        kept.extend(objects.values().map(|object| Resource::new(kind, &object.name)));
    }
    let mut added = persistent(run, &app.domain).await?;
    added.retain(|resource| !before.contains(resource) && !kept.contains(resource));
    Ok(added)
}

/// What of the app outlives a restart of its services.
pub(super) async fn persistent(run: &Run<'_>, domain: &Domain) -> Result<Vec<Resource>, Failure> {
    let inventory = run.harness.ci_host.engine.inventory(Some(std::slice::from_ref(domain))).await?;
    on_one_node(domain, &inventory)?;
    let mut persistent = inventory.of(domain);
    persistent.retain(persists);
    Ok(persistent)
}

/// Refuses to work on a warm app where its tasks, and its data with them, may come to another node.
pub(super) fn on_one_node(domain: &Domain, inventory: &Inventory) -> Result<(), Failure> {
    if inventory.seen().len() + inventory.unseen().count() <= 1 {
        return Ok(());
    }
    Err(Failure::host(format!("{domain} is a warm app, and this Swarm has several nodes that are asked"))
        .with_hint("warm apps are worked on with one node: drain the others, and name none of them"))
}

/// Whether a thing is the app's own for longer than one start of its services. The rest comes and goes: a volume
/// without a name of its own with its container, a port with its service.
fn persists(resource: &Resource) -> bool {
    let anonymous = resource.name.len() == 64 && resource.name.bytes().all(|byte| byte.is_ascii_hexdigit());
    match resource.kind {
        Kind::Service | Kind::Secret | Kind::Config => true,
        Kind::Volume => !anonymous,
        Kind::Network => !resource.name.starts_with("port "),
        Kind::Process
        | Kind::Container
        | Kind::Task
        | Kind::EnvFile
        | Kind::RunTree
        | Kind::ControlGroup
        | Kind::UnseenNode
        | Kind::Unknown => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warm_app_is_left_alone_where_there_are_several_nodes() {
        let domain = "my-app.example.org".parse().unwrap();
        let mut inventory = Inventory::default();
        on_one_node(&domain, &inventory).unwrap();
        inventory.add_seen("manager");
        on_one_node(&domain, &inventory).unwrap();
        inventory.add_seen("worker");
        on_one_node(&domain, &inventory).unwrap_err();
    }

    #[test]
    fn what_comes_and_goes_with_a_start_is_never_added() {
        for (kind, name) in [
            (Kind::Task, "t"),
            (Kind::Container, "c"),
            (Kind::Process, "1"),
            (Kind::Volume, &"a".repeat(64)),
            (Kind::Network, "port 20001"),
            (Kind::EnvFile, "/x.env"),
            (Kind::RunTree, "/runs/1"),
            (Kind::ControlGroup, "/sys/fs/cgroup/x"),
        ] {
            assert!(!persists(&Resource::new(kind, name)), "{kind} {name}");
        }
        for (kind, name) in [(Kind::Volume, "a_data"), (Kind::Network, "a_net"), (Kind::Service, "a_app")] {
            assert!(persists(&Resource::new(kind, name)), "{kind} {name}");
        }
    }
}
