//! The processes of an app's services: found by record, session and mark, ended through pidfds.

use std::io;
use std::time::{Duration, Instant};

use super::state_dir::{ContainerRecord, StateDir, host};
use crate::engine::Failure;
use crate::names::Domain;
use crate::sys::process::{self, Marker, MarkerOwner, ProcessIdentity};
use crate::sys::system_info::BootId;

/// What runs of an app, or of one of its services.
///
/// A record counts where the kernel agrees with it, see [`is_proven`]; then all of its session is the app's, since
/// nobody gets into a session but by birth. What carries the mark is the app's without a record too: its writer may
/// have died, or the mark is forged, and neither may stay. This process and its ancestors are never among them.
pub(super) fn of_app(
    state_dir: &StateDir,
    domain: &Domain,
    service: Option<&str>,
    boot: &BootId,
) -> io::Result<Vec<ProcessIdentity>> {
    let wanted = |name: &str| service.is_none_or(|service| service == name);
    let spared = process::self_and_ancestors();
    let mut found = Vec::new();
    for (_, container) in state_dir.records::<ContainerRecord>(domain, "containers")? {
        if !wanted(&container.service) {
            continue;
        }
        if is_proven(state_dir, domain, &container.process, boot) {
            found.extend(process::session_members(&container.process, boot)?);
        } else if !container.process.is_alive(boot) {
            // Somebody killed the leader alone. Its number stays the session's while that has a member; one who came to it
            // later by chance does not write to the app's log.
            let orphans = process::session_orphans(&container.process, boot)?;
            let is_its_own = |process: &ProcessIdentity| {
                process::is_own(process.pid) && logs_to(state_dir, domain, process.pid)
            };
            found.extend(orphans.into_iter().filter(is_its_own));
        }
    }
    found.retain(|process| !spared.contains(&process.pid));
    for process in process::marked(boot)? {
        if is_of(state_dir, domain, &process.marker)
            && let MarkerOwner::Service { service, .. } = &process.marker.owner
            && wanted(service)
        {
            found.push(process.process);
        }
    }
    // One that is both marked and of the session needs one signal.
    found.sort_by_key(|process| (process.pid, process.start_time));
    found.dedup();
    Ok(found)
}

/// The running task of a service, and its process.
pub(super) fn running(
    state_dir: &StateDir,
    domain: &Domain,
    service: &str,
    boot: &BootId,
) -> Result<Option<(String, ProcessIdentity)>, Failure> {
    let containers = state_dir.records::<ContainerRecord>(domain, "containers").map_err(host)?;
    Ok(containers
        .into_iter()
        .find(|(_, container)| container.service == service && container.process.is_alive(boot))
        .map(|(id, container)| (id, container.process)))
}

/// Whether a recorded process is the app's. A record is a file that a recipe's script can write as well, so it is
/// believed only of a session's leader of this user's that is neither this process nor an ancestor, and whose
/// environment names the same app of the same world, or, where it has lost its mark, whose output is the app's log.
pub(super) fn is_proven(
    state_dir: &StateDir,
    domain: &Domain,
    process: &ProcessIdentity,
    boot: &BootId,
) -> bool {
    let leads = process::StatLine::read(process.pid).is_ok_and(|stat| stat.session == process.pid);
    let agrees = || match process::marker_of(process.pid) {
        Some(marker) => is_of(state_dir, domain, &marker),
        None => logs_to(state_dir, domain, process.pid),
    };
    leads
        && process::is_own(process.pid)
        && !process::self_and_ancestors().contains(&process.pid)
        && agrees()
        // Asked last: what was read above was of this process and of no later one.
        && process.is_alive(boot)
}

/// Whether a mark is one of the app's services in this world.
fn is_of(state_dir: &StateDir, domain: &Domain, marker: &Marker) -> bool {
    marker.domain == *domain
        && matches!(&marker.owner, MarkerOwner::Service { state_dir: named, .. } if *named == state_dir.id())
}

/// Whether a standard stream of the process is a file in the app's directory of logs.
fn logs_to(state_dir: &StateDir, domain: &Domain, pid: i32) -> bool {
    let Ok(logs) = state_dir.of(domain, "logs").canonicalize() else { return false };
    [1, 2].iter().any(|stream| {
        std::fs::read_link(format!("/proc/{pid}/fd/{stream}")).is_ok_and(|file| file.starts_with(&logs))
    })
}

/// Ends what runs of an app, or of one of its services: TERM, `grace`, KILL, until nothing is left. Gives what
/// survived `limit`.
pub(super) async fn end(
    state_dir: &StateDir,
    domain: &Domain,
    service: Option<&str>,
    boot_id: &BootId,
    grace: Duration,
    limit: Duration,
) -> io::Result<Vec<ProcessIdentity>> {
    let until = crate::sys::after(Instant::now(), limit);
    let term_until = crate::sys::after(Instant::now(), grace.min(limit));
    let mut signal = if grace.is_zero() { process::Signal::Kill } else { process::Signal::Term };
    loop {
        let (state_dir, domain, service, boot) =
            (state_dir.clone(), domain.clone(), service.map(str::to_owned), boot_id.clone());
        let found =
            tokio::task::spawn_blocking(move || of_app(&state_dir, &domain, service.as_deref(), &boot))
                .await
                .map_err(io::Error::other)??;
        if found.is_empty() || Instant::now() >= until {
            return Ok(found);
        }
        for process in &found {
            // What makes a sandbox ends with what is in it. Told to end first, it would leave that without a leader.
            if signal == process::Signal::Kill || !process::is_sandbox(process.pid) {
                process::kill_process(process, boot_id, signal)?;
            }
        }
        // What forks while it is killed is found by the next look.
        let patience = if signal == process::Signal::Term { term_until } else { until };
        for process in &found {
            process::wait_gone(process, boot_id, patience).await?;
        }
        signal = if Instant::now() >= term_until { process::Signal::Kill } else { signal };
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A session's leader that sleeps, perhaps with a mark, until it is dropped.
    struct Leader(Child);

    impl Leader {
        fn start(mark: Option<&Marker>, output: Stdio) -> Self {
            let mut command = Command::new("setsid");
            command.args(["sleep", "1000"]).env_remove(Marker::VARIABLE).stdout(output);
            if let Some(mark) = mark {
                command.env(Marker::VARIABLE, mark.to_string());
            }
            // It leads no group, so that setsid need not fork.
            let leader = Self(command.process_group(nix::unistd::getpgrp().as_raw()).spawn().unwrap());
            let pid = leader.0.id().cast_signed();
            while process::StatLine::read(pid).unwrap().session != pid
                || std::fs::read(format!("/proc/{pid}/comm")).unwrap() != b"sleep\n"
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            leader
        }

        fn identity(&self, boot: &BootId) -> ProcessIdentity {
            ProcessIdentity::of(self.0.id().cast_signed(), boot.clone()).unwrap()
        }
    }

    impl Drop for Leader {
        fn drop(&mut self) {
            let _ended = self.0.kill().is_err();
            let _waited = self.0.wait().is_err();
        }
    }

    fn mark(state_dir: String, domain: &Domain) -> Marker {
        Marker { domain: domain.clone(), owner: MarkerOwner::Service { service: "web".into(), state_dir } }
    }

    #[test]
    fn a_forged_record_makes_nobody_the_apps() {
        let boot = BootId::current().unwrap();
        let root = tempfile::tempdir().unwrap();
        let state_dir = StateDir::new(root.path().to_owned());
        let [domain, other]: [Domain; 2] =
            ["wiki-00a1b2.own.test", "blog-00a1b2.own.test"].map(|d| d.parse().unwrap());
        let forged = [
            Leader::start(None, Stdio::null()),
            Leader::start(Some(&mark("another".into(), &domain)), Stdio::null()),
            Leader::start(Some(&mark(state_dir.id(), &other)), Stdio::null()),
        ];
        let own_session = nix::unistd::getsid(None).unwrap().as_raw();
        let mut named: Vec<ProcessIdentity> = forged.iter().map(|leader| leader.identity(&boot)).collect();
        named.extend(ProcessIdentity::of(own_session, boot.clone()));
        named.push(ProcessIdentity::current(boot.clone()).unwrap());
        for (number, process) in named.into_iter().enumerate() {
            let record = ContainerRecord { service: "web".into(), process };
            state_dir.write_record(&domain, "containers", &number.to_string(), &record).unwrap();
        }
        assert_eq!(of_app(&state_dir, &domain, None, &boot).unwrap(), []);
    }

    #[test]
    fn what_carries_the_apps_mark_is_the_apps_without_a_record() {
        let boot = BootId::current().unwrap();
        let root = tempfile::tempdir().unwrap();
        let state_dir = StateDir::new(root.path().to_owned());
        let [domain, other]: [Domain; 2] =
            ["wiki-00a1b2.own.test", "blog-00a1b2.own.test"].map(|d| d.parse().unwrap());
        let own = Leader::start(Some(&mark(state_dir.id(), &domain)), Stdio::null());
        let _others = [mark("another".into(), &domain), mark(state_dir.id(), &other)]
            .map(|mark| Leader::start(Some(&mark), Stdio::null()));
        assert_eq!(of_app(&state_dir, &domain, None, &boot).unwrap(), [own.identity(&boot)]);
        assert_eq!(of_app(&state_dir, &domain, Some("db"), &boot).unwrap(), []);
    }

    #[test]
    fn a_service_is_the_apps_by_its_mark_or_by_its_log() {
        let boot = BootId::current().unwrap();
        let root = tempfile::tempdir().unwrap();
        let state_dir = StateDir::new(root.path().to_owned());
        let domain: Domain = "wiki-00a1b2.own.test".parse().unwrap();
        let logs = state_dir.of(&domain, "logs");
        std::fs::create_dir_all(&logs).unwrap();
        let log = std::fs::File::create(logs.join("1.log")).unwrap();
        let leaders = [
            Leader::start(Some(&mark(state_dir.id(), &domain)), Stdio::null()),
            Leader::start(None, Stdio::from(log)),
        ];
        let mut expected: Vec<ProcessIdentity> =
            leaders.iter().map(|leader| leader.identity(&boot)).collect();
        expected.sort_by_key(|process| (process.pid, process.start_time));
        for (number, process) in expected.iter().cloned().enumerate() {
            let record = ContainerRecord { service: "web".into(), process };
            state_dir.write_record(&domain, "containers", &number.to_string(), &record).unwrap();
        }
        assert_eq!(of_app(&state_dir, &domain, None, &boot).unwrap(), expected);
        let link = root.path().with_extension("link");
        std::os::unix::fs::symlink(root.path(), &link).unwrap();
        let by_another_name = of_app(&StateDir::new(link.clone()), &domain, None, &boot).unwrap();
        std::fs::remove_file(link).unwrap();
        assert_eq!(by_another_name, expected);
    }
}
