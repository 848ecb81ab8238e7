//! A removal of some of an app's things.
//!
//! What runs goes with its service: a process, task or container that is named is left alone where its service stays.

use std::io;
use std::time::{Duration, Instant};

use super::LocalExecutor;
use super::deploy::{self, host};
use super::world::{ServiceRecord, World, names};
use super::{Residue, blocking};
use crate::executor::{EngineError, Kind};
use crate::names::Domain;

/// What only lies there.
const KEPT: [(&str, Kind); 4] = [
    ("volumes", Kind::Volume),
    ("secrets", Kind::Secret),
    ("configs", Kind::Config),
    ("networks", Kind::Network),
];

pub(super) async fn remove(
    executor: &LocalExecutor,
    domain: &Domain,
    residue: &[Residue],
    limit: Duration,
) -> Result<(), EngineError> {
    let until = crate::after(Instant::now(), limit);
    let removed = async {
        let services = executor.world.records::<ServiceRecord>(domain, "services").map_err(host)?;
        for (name, _) in services.iter().filter(|(name, _)| is_named(residue, Kind::Service, name)) {
            deploy::stop(executor, domain, name, Duration::ZERO).await?;
            executor.world.remove_record(domain, "services", name).map_err(host)?;
        }
        // Out of the way first: what outlives a caller that gives up touches only the trash.
        trash(&executor.world, domain, residue).map_err(host)?;
        let (world, domain) = (executor.world.clone(), domain.clone());
        blocking(move || world.empty_trash(&domain).map_err(host)).await
    };
    tokio::time::timeout_at(until.into(), removed)
        .await
        .unwrap_or_else(|_| Err(EngineError::host(format!("removing things of {domain} took too long"))))
}

/// Only names that are in the app's directories count: whatever else is named is not the app's.
fn trash(world: &World, domain: &Domain, residue: &[Residue]) -> io::Result<()> {
    for (directory, kind) in KEPT {
        for name in names(&world.of(domain, directory))? {
            if is_named(residue, kind, &name) {
                world.trash_one(domain, directory, &name)?;
            }
        }
    }
    let stay = world.records::<ServiceRecord>(domain, "services")?;
    for (port, owner) in world.taken_ports()? {
        let used = stay.iter().any(|(_, record)| record.port == Some(port));
        if owner == *domain && !used && is_named(residue, Kind::Network, &format!("port {port}")) {
            world.free_port(port)?;
        }
    }
    Ok(())
}

fn is_named(residue: &[Residue], kind: Kind, name: &str) -> bool {
    residue.iter().any(|residue| residue.kind == kind && residue.name == name)
}
