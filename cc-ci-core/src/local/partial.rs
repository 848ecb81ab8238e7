//! A removal of some of an app's things.
//!
//! What runs goes with its service: a process, task or container that is named is left alone where its service stays.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::LocalExecutor;
use super::deploy;
use super::state_dir::{ServiceRecord, StateDir, host};
use super::{Resource, stop_on_drop};
use crate::engine::{Failure, Kind};
use crate::names::Domain;
use crate::sys::blocking::{self, briefly};

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
    named: &[Resource],
    limit: Duration,
) -> Result<(), Failure> {
    let until = crate::sys::after(Instant::now(), limit);
    let removed = async {
        let services = executor.services_of(domain).await?;
        for (name, _) in services.iter().filter(|(name, _)| is_named(named, Kind::Service, name)) {
            deploy::end(executor, domain, name, Duration::ZERO).await?;
            // On this thread, as what follows.
            briefly(|| {
                deploy::forget_tasks(&executor.state_dir, domain, name)?;
                executor.state_dir.remove_record(domain, "services", name)
            })
            .map_err(host)?;
        }
        // Out of the way first, and on this thread, which a few renames don't keep: what outlives a caller that gives
        // up touches only the trash.
        let in_place = briefly(|| trash(&executor.state_dir, domain, named)).map_err(host)?;
        let (state_dir, domain) = (executor.state_dir.clone(), domain.clone());
        let (stop, _stopped) = stop_on_drop();
        blocking::run(move || remove_files(&state_dir, &domain, &in_place, &*stop)).await.map_err(host)
    };
    tokio::time::timeout_at(until.into(), removed)
        .await
        .unwrap_or_else(|_| Err(Failure::host(format!("removing things of {domain} took too long"))))
}

/// Only names that are in the app's directories count: whatever else is named is not the app's.
/// Gives their paths.
fn trash(state_dir: &StateDir, domain: &Domain, named: &[Resource]) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for (directory, kind) in KEPT {
        for name in state_dir.names(&state_dir.of(domain, directory))? {
            if is_named(named, kind, &name) {
                state_dir.trash_one(domain, directory, &name)?;
                found.push(state_dir.of(domain, directory).join(&name));
            }
        }
    }
    let stay = state_dir.records::<ServiceRecord>(domain, "services")?;
    for (port, owner) in state_dir.taken_ports()? {
        let used = stay.iter().any(|(_, record)| record.port == Some(port));
        if owner == *domain && !used && is_named(named, Kind::Network, &format!("port {port}")) {
            state_dir.free_port(port)?;
        }
    }
    Ok(found)
}

/// Empties the trash, and removes what could not be moved there.
fn remove_files(
    state_dir: &StateDir,
    domain: &Domain,
    paths: &[PathBuf],
    stop: &dyn Fn() -> bool,
) -> io::Result<()> {
    let mut removed = state_dir.empty_trash(domain, stop);
    for path in paths {
        removed = removed.and(state_dir.dir()?.remove(path, stop).map_err(io::Error::from));
    }
    removed
}

fn is_named(named: &[Resource], kind: Kind, name: &str) -> bool {
    named.iter().any(|resource| resource.kind == kind && resource.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::sync::Arc;

    use super::*;
    use crate::engine::Engine as _;
    use crate::local::ports;
    use crate::sys::files::private_directory;
    use crate::sys::system_info::KernelSystemInfo;

    #[tokio::test]
    async fn what_is_named_goes_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let host = Arc::new(KernelSystemInfo::new().unwrap());
        let executor = LocalExecutor::new(root.path().join("world"), host);
        let [ours, theirs]: [Domain; 2] = ["a.test", "b.test"].map(|domain| domain.parse().unwrap());
        let record = |port| ServiceRecord {
            id: "1".to_owned(),
            created: String::new(),
            digest: String::new(),
            replicas: 1,
            port,
            health: None,
            stop_grace_seconds: 0.0,
            version: None,
        };
        let mut taken = Vec::new();
        for domain in [&ours, &theirs] {
            for (directory, _) in KEPT {
                for name in ["old", "new"] {
                    let of = executor.state_dir.of(domain, directory);
                    private_directory(&of).unwrap();
                    if directory == "volumes" {
                        private_directory(&of.join(name)).unwrap();
                    } else {
                        fs::write(of.join(name), "").unwrap();
                    }
                }
            }
            for name in ["app", "extra"] {
                let port = ports::take(&executor.state_dir, domain, name).unwrap();
                taken.push(Resource::new(Kind::Network, format!("port {port}")));
                executor.state_dir.write_record(domain, "services", name, &record(Some(port))).unwrap();
            }
        }
        let look = async |domain: &Domain| -> BTreeSet<Resource> {
            executor
                .inventory(Some(std::slice::from_ref(domain)))
                .await
                .unwrap()
                .of(domain)
                .into_iter()
                .collect()
        };
        let (before, other) = (look(&ours).await, look(&theirs).await);
        let outside = root.path().join("precious");
        fs::write(&outside, "").unwrap();
        let mut named: Vec<Resource> = KEPT.map(|(_, kind)| Resource::new(kind, "new")).to_vec();
        named.push(Resource::new(Kind::Service, "extra"));
        // The second is the one of `extra`; the first of a service that stays, the others somebody else's.
        named.extend(taken.iter().cloned());
        let gone: BTreeSet<Resource> =
            named.iter().filter(|thing| **thing == taken[1] || !taken.contains(thing)).cloned().collect();
        named.push(Resource::new(Kind::Secret, "../../../../precious"));
        named.push(Resource::new(Kind::Volume, "never"));
        executor.remove_selected(&ours, &named, Duration::from_mins(1)).await.unwrap();
        assert_eq!(look(&ours).await, before.difference(&gone).cloned().collect());
        assert_eq!(look(&theirs).await, other);
        assert!(outside.exists());
        executor.remove_selected(&ours, &named, Duration::from_mins(1)).await.unwrap();
    }
}
