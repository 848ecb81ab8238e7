//! The processes of an app's services: found by record, session and mark, ended through pidfds.

use std::io;
use std::time::{Duration, Instant};

use super::world::{ContainerRecord, World};
use crate::host::BootId;
use crate::names::Domain;
use crate::process::{self, MarkerOwner, ProcessIdentity};

/// What runs of an app, or of one of its services.
///
/// A service can lose its mark by executing with a clean environment, but not leave its session without losing
/// its leader: so both are asked. A session counts only while its recorded leader lives, since a dead leader's
/// number may be somebody else's by now.
pub(super) fn of_app(
    world: &World,
    domain: &Domain,
    service: Option<&str>,
    boot: &BootId,
) -> io::Result<Vec<ProcessIdentity>> {
    let wanted = |name: &str| service.is_none_or(|service| service == name);
    let mut found = Vec::new();
    for (_, container) in world.records::<ContainerRecord>(domain, "containers")? {
        if wanted(&container.service) && container.process.is_alive(boot) {
            found.extend(process::session_members(&container.process, boot)?);
        }
    }
    let ours = world.id();
    for process in process::marked(boot)? {
        if process.marker.domain == *domain
            && let MarkerOwner::Service { service, world } = &process.marker.owner
            && wanted(service)
            && *world == ours
        {
            found.push(process.process);
        }
    }
    // One that is both marked and of the session needs one signal.
    found.sort_by_key(|process| (process.pid, process.start_time));
    found.dedup();
    Ok(found)
}

/// Ends what runs of an app, or of one of its services: TERM, `grace`, KILL, until nothing is left. Gives what
/// survived `limit`.
pub(super) async fn end(
    world: &World,
    domain: &Domain,
    service: Option<&str>,
    boot_id: &BootId,
    grace: Duration,
    limit: Duration,
) -> io::Result<Vec<ProcessIdentity>> {
    let until = crate::after(Instant::now(), limit);
    let term_until = crate::after(Instant::now(), grace.min(limit));
    let mut signal = if grace.is_zero() { process::Signal::Kill } else { process::Signal::Term };
    loop {
        let (world, domain, service, boot) =
            (world.clone(), domain.clone(), service.map(str::to_owned), boot_id.clone());
        let found = tokio::task::spawn_blocking(move || of_app(&world, &domain, service.as_deref(), &boot))
            .await
            .map_err(io::Error::other)??;
        if found.is_empty() || Instant::now() >= until {
            return Ok(found);
        }
        for process in &found {
            process::kill_process(process, boot_id, signal)?;
        }
        // What forks while it is killed is found by the next look.
        let patience = if signal == process::Signal::Term { term_until } else { until };
        for process in &found {
            process::wait_gone(process, boot_id, patience).await?;
        }
        signal = if Instant::now() >= term_until { process::Signal::Kill } else { signal };
    }
}
