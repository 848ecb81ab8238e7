//! The processes of an app's services: found by record, session and mark, ended through pidfds.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::LocalExecutor;
use super::state_dir::{ContainerRecord, StateDir, host};
use crate::engine::Failure;
use crate::names::Domain;
use crate::sys::blocking;
use crate::sys::process::{self, Marked, Marker, MarkerOwner, ProcessIdentity, StatLine};
use crate::sys::system_info::BootId;

/// What one pass over all of `/proc` showed that may be of this world's services. It is the same for each app.
#[derive(Debug)]
pub(super) struct ProcessTable {
    /// Those that carry the mark of a service of this world.
    pub services: Vec<Marked>,
    /// See [`Logging`].
    pub logging: Vec<Logging>,
    sessions: HashMap<i32, Vec<ProcessIdentity>>,
    /// This process and its ancestors.
    spared: BTreeSet<i32>,
}

impl ProcessTable {
    /// Reads it; blocks.
    pub(super) fn read(state_dir: &StateDir, boot: &BootId) -> io::Result<Self> {
        let ours = state_dir.id();
        let is_ours = |marker: &Marker| matches!(&marker.owner, MarkerOwner::Service { state_dir, .. } if *state_dir == ours);
        let services = process::marked(boot)?.into_iter().filter(|found| is_ours(&found.marker)).collect();
        let spared = process::self_and_ancestors();
        let Some(root) = state_dir.real_path()? else {
            // Neither a record nor a log is there: nobody's session and streams say anything.
            return Ok(Self { services, logging: Vec::new(), sessions: HashMap::new(), spared });
        };
        let (mut logging, mut sessions) = (Vec::new(), HashMap::<i32, Vec<ProcessIdentity>>::new());
        for pid in process::pids()? {
            let Ok(StatLine { session, start_time, state, .. }) = StatLine::read(pid) else { continue };
            let process = ProcessIdentity { pid, start_time, boot_id: boot.clone() };
            if let Some((domain, task)) = log_of(&root, pid)
                // What was read above was of this process and of no later one.
                && process.is_alive(boot)
            {
                logging.push(Logging { domain, task, process: process.clone() });
            }
            if !matches!(state, 'Z' | 'X' | 'x') {
                sessions.entry(session).or_default().push(process);
            }
        }
        Ok(Self { services, logging, sessions, spared })
    }

    /// What runs of an app, or of one of its services, of which `recorded` was read before this table was.
    ///
    /// A record counts where the kernel agrees with it, see [`is_proven`]; then all of its session is the app's, since
    /// nobody gets into a session but by birth. What carries the mark is the app's without a record too: its writer may
    /// have died, or the mark is forged, and neither may stay. So is what writes to the app's log, whatever user, session
    /// and environment it made its own: see [`Logging`]. This process and its ancestors are never among them.
    fn of_app(
        &self,
        state_dir: &StateDir,
        domain: &Domain,
        service: Option<&str>,
        recorded: &[(String, ContainerRecord)],
        boot: &BootId,
    ) -> Vec<ProcessIdentity> {
        let wanted = |name: &str| service.is_none_or(|service| service == name);
        let recorded: Vec<_> = recorded.iter().filter(|(_, container)| wanted(&container.service)).collect();
        let mut found = Vec::new();
        for (_, ContainerRecord { process, .. }) in &recorded {
            // A leader that is alive now was so when the table was read: a session keeps its number from being given away.
            if is_proven(state_dir, domain, process, boot) {
                found.extend(self.sessions.get(&process.pid).into_iter().flatten().cloned());
            }
        }
        let is_its = |of: &&Logging| {
            of.domain == *domain && (service.is_none() || recorded.iter().any(|(task, _)| *task == of.task))
        };
        found.extend(self.logging.iter().filter(is_its).map(|of| of.process.clone()));
        found.retain(|process| !self.spared.contains(&process.pid));
        let is_its = |found: &&Marked| {
            found.marker.domain == *domain
                && matches!(&found.marker.owner, MarkerOwner::Service { service, .. } if wanted(service))
        };
        found.extend(self.services.iter().filter(is_its).map(|found| found.process.clone()));
        // One that is both marked and of the session needs one signal.
        found.sort_by_key(|process| (process.pid, process.start_time));
        found.dedup();
        found
    }
}

/// The running task of a service, and its process.
pub(super) async fn running(
    executor: &LocalExecutor,
    domain: &Domain,
    service: &str,
) -> Result<Option<(String, ProcessIdentity)>, Failure> {
    let (executor, domain, service) = (executor.clone(), domain.clone(), service.to_owned());
    let find = move || {
        let boot = executor.host.boot_id();
        let containers = executor.state_dir.records::<ContainerRecord>(&domain, "containers")?;
        let runs =
            |container: &ContainerRecord| container.service == service && container.process.is_alive(&boot);
        let mut running = containers.into_iter().filter(|(_, container)| runs(container));
        Ok(running.next().map(|(id, container)| (id, container.process)))
    };
    blocking::run(find).await.map_err(host)
}

/// Whether a recorded process is the app's. A record is a file that a recipe's script can write as well, so it is
/// believed only of a session's leader that is neither this process nor an ancestor, and that is of this user and whose
/// environment names the same app of the same world, or, where it has lost its mark, whose output is the app's log.
pub(super) fn is_proven(
    state_dir: &StateDir,
    domain: &Domain,
    process: &ProcessIdentity,
    boot: &BootId,
) -> bool {
    let leads = process::StatLine::read(process.pid).is_ok_and(|stat| stat.session == process.pid);
    let root = || state_dir.real_path().ok().flatten();
    let is_logging =
        || root().and_then(|root| log_of(&root, process.pid)).is_some_and(|(app, _)| app == *domain);
    let agrees = || match process::marker_of(process.pid) {
        Some(marker) if !is_of(state_dir, domain, &marker) => false,
        Some(_) if process::is_own(process.pid) => true,
        _ => is_logging(),
    };
    leads
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

/// A process whose output is the log of a task. A log is opened for an app's own service, and nobody else gets it but by
/// birth: not who came to a dead leader's number. Where cc-ci is root, the user is another one where a service gave its own
/// up; another user's process is not shown to anybody else.
#[derive(Debug)]
pub(super) struct Logging {
    pub domain: Domain,
    task: String,
    pub process: ProcessIdentity,
}

/// Of which app and task a file is that is a standard stream of the process, if it is a log.
fn log_of(root: &Path, pid: i32) -> Option<(Domain, String)> {
    [1, 2].iter().find_map(|stream| {
        let file = std::fs::read_link(format!("/proc/{pid}/fd/{stream}")).ok()?;
        StateDir::owner_of_log(root, &file)
    })
}

/// Ends what runs of an app, or of one of its services: TERM, `grace`, KILL, until nothing is left. Gives what
/// survived `limit`.
pub(super) async fn end(
    executor: &LocalExecutor,
    domain: &Domain,
    service: Option<&str>,
    grace: Duration,
    limit: Duration,
) -> io::Result<Vec<ProcessIdentity>> {
    let until = crate::sys::after(Instant::now(), limit);
    let term_until = crate::sys::after(Instant::now(), grace.min(limit));
    let mut signal = if grace.is_zero() { process::Signal::Kill } else { process::Signal::Term };
    let (state_dir, boot_id) = (&executor.state_dir, &executor.host.boot_id());
    let _at_work = executor.tables.begin_removal();
    loop {
        let (of, app) = (state_dir.clone(), domain.clone());
        let recorded = blocking::run(move || of.records(&app, "containers")).await?;
        let (of, boot) = (state_dir.clone(), boot_id.clone());
        let table = executor.tables.get(blocking::run(move || ProcessTable::read(&of, &boot))).await?;
        let (of, app, boot) = (state_dir.clone(), domain.clone(), boot_id.clone());
        let service = service.map(str::to_owned);
        let found =
            blocking::run(move || table.of_app(&of, &app, service.as_deref(), &recorded, &boot)).await;
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

    fn of_app(
        state_dir: &StateDir,
        domain: &Domain,
        service: Option<&str>,
        boot: &BootId,
    ) -> io::Result<Vec<ProcessIdentity>> {
        let recorded = state_dir.records(domain, "containers")?;
        Ok(ProcessTable::read(state_dir, boot)?.of_app(state_dir, domain, service, &recorded, boot))
    }

    /// A session's leader that sleeps, perhaps with a mark, until it is dropped.
    struct Leader(Child);

    impl Leader {
        fn start(mark: Option<&Marker>, output: Stdio) -> Self {
            Self::spawn(Self::command(mark, output))
        }

        fn command(mark: Option<&Marker>, output: Stdio) -> Command {
            let mut command = Command::new("setsid");
            command.args(["sleep", "1000"]).env_remove(Marker::VARIABLE).stdout(output);
            if let Some(mark) = mark {
                command.env(Marker::VARIABLE, mark.to_string());
            }
            command
        }

        fn spawn(mut command: Command) -> Self {
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
    fn a_service_that_became_another_user_in_another_session_is_the_apps_by_its_log() {
        let boot = BootId::current().unwrap();
        let root = tempfile::tempdir().unwrap();
        let state_dir = StateDir::new(root.path().join("local"));
        let [domain, other]: [Domain; 2] =
            ["wiki-00a1b2.own.test", "blog-00a1b2.own.test"].map(|d| d.parse().unwrap());
        let log = |path: std::path::PathBuf| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            Stdio::from(std::fs::File::create(path).unwrap())
        };
        let mut user = Leader::command(None, log(state_dir.log_of(&domain, "1")));
        if nix::unistd::geteuid().is_root() {
            user.uid(54_321).gid(54_321);
        }
        // No record names one of them; each is the leader of a session.
        let service = Leader::spawn(user);
        let _others = [
            Leader::start(None, log(state_dir.log_of(&other, "2"))),
            Leader::start(None, log(state_dir.of(&domain, "volumes").join("data/logs/1.log"))),
            Leader::start(None, log(root.path().join("elsewhere/logs/1.log"))),
        ];
        let expected = [service.identity(&boot)];
        assert_eq!(of_app(&state_dir, &domain, None, &boot).unwrap(), expected);
        let process = expected[0].clone();
        assert!(is_proven(&state_dir, &domain, &process, &boot));
        assert_eq!(of_app(&state_dir, &domain, Some("web"), &boot).unwrap(), [], "whose task is not known");
        let record = ContainerRecord { service: "web".into(), process };
        state_dir.write_record(&domain, "containers", "1", &record).unwrap();
        assert_eq!(of_app(&state_dir, &domain, Some("web"), &boot).unwrap(), expected);
        assert_eq!(of_app(&state_dir, &domain, Some("db"), &boot).unwrap(), []);
        // Where its files were taken out of the way, and where they are gone.
        state_dir.trash_app(&domain).unwrap();
        assert_eq!(of_app(&state_dir, &domain, None, &boot).unwrap(), expected);
        state_dir.remove_app(&domain, &|| false).unwrap();
        assert_eq!(of_app(&state_dir, &domain, None, &boot).unwrap(), expected);
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
