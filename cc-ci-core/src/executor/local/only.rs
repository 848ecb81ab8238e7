//! Removing some things of an app, and leaving the others.

use std::fs;
use std::io;

use super::LocalExecutor;
use super::deploy::{self, host};
use super::world::ServiceRecord;
use crate::executor::{EngineError, Kind, Residue};
use crate::names::Domain;

/// Services first: they use the rest.
const ORDER: [Kind; 5] = [Kind::Service, Kind::Volume, Kind::Secret, Kind::Config, Kind::Network];

/// Removes what `residue` names of the app. Processes, tasks and containers go with their service.
pub(super) async fn remove(
    executor: &LocalExecutor,
    domain: &Domain,
    residue: &[Residue],
) -> Result<(), EngineError> {
    for kind in ORDER {
        for residue in residue.iter().filter(|residue| residue.kind == kind && is_plain(&residue.name)) {
            let name = &residue.name;
            match kind {
                Kind::Service => service(executor, domain, name).await?,
                Kind::Volume => {
                    let volume = executor.world.of(domain, "volumes").join(name);
                    let work = move || crate::workspace::remove_tree(&volume).map_err(host);
                    super::blocking(work).await?;
                }
                Kind::Secret => file(executor, domain, "secrets", name)?,
                Kind::Config => file(executor, domain, "configs", name)?,
                _ => file(executor, domain, "networks", name)?,
            }
        }
    }
    Ok(())
}

async fn service(executor: &LocalExecutor, domain: &Domain, name: &str) -> Result<(), EngineError> {
    let records = executor.world.records::<ServiceRecord>(domain, "services").map_err(host)?;
    match records.iter().find(|(known, _)| known == name) {
        Some((_, record)) => deploy::drop_service(executor, domain, name, record).await,
        None => Ok(()),
    }
}

fn file(executor: &LocalExecutor, domain: &Domain, kind: &str, name: &str) -> Result<(), EngineError> {
    match fs::remove_file(executor.world.of(domain, kind).join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(host(error)),
        _ => Ok(()),
    }
}

/// A port of a service goes with it, and has no file of its own here.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && name != "." && name != ".." && !name.starts_with("port ")
}
