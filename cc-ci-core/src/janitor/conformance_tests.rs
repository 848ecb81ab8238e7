//! The suite on the real janitor, and each of its cases on one that is broken there.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::conformance::{CASES, Scene};
use super::{Decision, Finding, HostJanitor, Janitor, Pass, Report};
use crate::engine::{Engine as _, Kind, MemoryEngine, Resource};
use crate::inventory::ci_host::CiHost;
use crate::inventory::env_files::EnvFiles;
use crate::lifetime::{Bounds, EmbeddedMode, RunLifetime};
use crate::lock::{AcquireError, AppGuard, AppLock, LockError, LockView, MemoryLocks, Wait};
use crate::model::cancellation::Cancellation;
use crate::model::event::{Reporter, Silent};
use crate::model::failure::Failure;
use crate::names::{Domain, RunAppPattern};
use crate::sys::system_info::KernelSystemInfo;
use crate::workspace::{KernelWorkspace, Settings};

/// How a double goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    KeepsLockFiles,
    NeedsALockFile,
    LooksOnce,
    IgnoresStaleLocks,
    IgnoresLocks,
    RemovesHeldLockFiles,
    ForgetsItsOwn,
    ReapsEverybody,
    ActsInADryRun,
    IgnoresCancellation,
    IgnoresBudget,
}

/// What a client had ordered is there at last.
pub(super) const LAG: Duration = Duration::from_secs(2);

pub(super) struct Memory {
    pub ci_host: CiHost,
    pub engine: Arc<MemoryEngine>,
    fault: Fault,
    _directory: TempDir,
}

impl Memory {
    pub(super) fn sound() -> Arc<Self> {
        Self::new(Fault::None)
    }

    fn new(fault: Fault) -> Arc<Self> {
        let directory = tempfile::tempdir().unwrap();
        let engine = Arc::new(MemoryEngine::default().with_request_lag(LAG));
        let runs = KernelWorkspace::new(Settings::new(directory.path()).unwrap()).unwrap();
        let ci_host = CiHost {
            host: Arc::new(KernelSystemInfo::new().unwrap()),
            pattern: RunAppPattern::new("memory.test".parse().unwrap(), []),
            locks: Arc::new(MemoryLocks::default()),
            engine: engine.clone(),
            env_files: EnvFiles::new(Path::new("/nonexistent"), "memory"),
            runs: Arc::new(runs),
            reporter: Arc::new(Silent),
        };
        Arc::new(Self { ci_host, engine, fault, _directory: directory })
    }
}

#[async_trait]
impl Scene for Memory {
    fn janitor(&self) -> Arc<dyn Janitor> {
        let lifetime = EmbeddedMode::new(Bounds::default(), Arc::new(Silent)).unwrap();
        let lifetime: Arc<dyn RunLifetime> = Arc::new(lifetime);
        let sound = HostJanitor::new(self.ci_host.clone(), lifetime.clone());
        if self.fault == Fault::None {
            Arc::new(sound)
        } else {
            let (ci_host, engine) = (self.ci_host.clone(), self.engine.clone());
            Arc::new(Broken { sound, fault: self.fault, ci_host, engine, lifetime })
        }
    }
    fn locks(&self) -> Arc<dyn AppLock> {
        self.ci_host.locks.clone()
    }
    fn run_app(&self, number: u32) -> Domain {
        format!("a-{number:06x}.memory.test").parse().unwrap()
    }
    fn bystander(&self) -> Domain {
        "blog.memory.test".parse().unwrap()
    }
    async fn deploy(&self, domain: &Domain) {
        self.engine.put(domain, Resource::new(Kind::Service, "app"));
        self.engine.put(domain, Resource::new(Kind::Volume, "data"));
    }
    async fn deploy_late(&self, domain: &Domain) {
        self.deploy(domain).await;
        self.engine.put_late(domain, Resource::new(Kind::Service, "late"), LAG * 19 / 20);
    }
    async fn appeared(&self) {
        tokio::time::sleep(LAG).await;
    }
    async fn exists(&self, domain: &Domain) -> bool {
        self.engine.inventory(None).await.unwrap().domains().any(|known| known == domain)
    }
    fn removals(&self, domain: &Domain) -> usize {
        self.engine.removals().iter().filter(|removed| *removed == domain).count()
    }
}

/// The real janitor, with one thing done wrong before it.
#[derive(Debug)]
struct Broken {
    sound: HostJanitor,
    fault: Fault,
    ci_host: CiHost,
    engine: Arc<MemoryEngine>,
    lifetime: Arc<dyn RunLifetime>,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.fault)
    }
}

impl Broken {
    async fn remove_all(&self, which: impl Fn(&Domain) -> bool) {
        let inventory = self.ci_host.engine.inventory(None).await.unwrap();
        for domain in inventory.domains().filter(|domain| which(domain)) {
            self.ci_host.engine.remove(domain, std::time::Duration::MAX).await.unwrap();
        }
    }
}

#[async_trait]
impl Janitor for Broken {
    async fn pass(&self, pass: &Pass) -> Result<Report, Failure> {
        let ci_host = &self.ci_host;
        let mut pass = pass.clone();
        let locked = ci_host.locks.domains()?;
        match self.fault {
            Fault::IgnoresLocks => self.remove_all(|domain| ci_host.pattern.is_run_app(domain)).await,
            Fault::ReapsEverybody => self.remove_all(|domain| !ci_host.pattern.is_run_app(domain)).await,
            Fault::ForgetsItsOwn => pass.own.clear(),
            Fault::ActsInADryRun => pass.dry_run = false,
            Fault::IgnoresCancellation => pass.cancellation = crate::model::cancellation::Cancellation::new(),
            Fault::IgnoresBudget => pass.budget = std::time::Duration::from_mins(1),
            Fault::NeedsALockFile => {
                let inventory = ci_host.engine.inventory(None).await?;
                pass.own = inventory.domains().filter(|domain| !locked.contains(domain)).cloned().collect();
            }
            Fault::IgnoresStaleLocks => pass.own.clone_from(&locked),
            _ => {}
        }
        let mut sound = self.sound.clone();
        if self.fault == Fault::LooksOnce {
            let hasty = self.engine.with_request_lag(Duration::ZERO);
            sound = HostJanitor::new(
                CiHost { engine: Arc::new(hasty), ..ci_host.clone() },
                self.lifetime.clone(),
            );
        }
        let mut report = sound.pass(&pass).await?;
        match self.fault {
            Fault::KeepsLockFiles => {
                for domain in &locked {
                    drop(ci_host.locks.try_acquire(domain)?);
                }
            }
            Fault::RemovesHeldLockFiles => {
                for finding in &mut report.findings {
                    finding.decision = Decision::StaleLock;
                }
            }
            Fault::IgnoresLocks => {
                let again = |finding: &Finding| Finding { decision: Decision::Reaped, ..finding.clone() };
                report.findings = report.findings.iter().map(again).collect();
            }
            _ => {}
        }
        Ok(report)
    }
}

#[tokio::test(start_paused = true)]
async fn the_janitor_of_a_site_keeps_every_promise() {
    for case in CASES {
        case.run(Memory::new(Fault::None)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_case_is_red_on_a_janitor_that_is_broken_there() {
    let broken = [
        ("an_orphan_is_reaped_and_its_lock_file_removed", Fault::KeepsLockFiles),
        ("an_orphan_without_a_lock_file_is_reaped", Fault::NeedsALockFile),
        ("what_a_killed_run_had_ordered_is_reaped_though_it_appears_late", Fault::LooksOnce),
        ("a_free_lock_without_an_app_is_removed", Fault::IgnoresStaleLocks),
        ("a_held_app_is_left", Fault::IgnoresLocks),
        ("a_held_lock_without_an_app_is_left", Fault::RemovesHeldLockFiles),
        ("ones_own_app_is_left", Fault::ForgetsItsOwn),
        ("what_is_no_run_app_is_left", Fault::ReapsEverybody),
        ("a_dry_run_changes_nothing_and_says_what_it_would_do", Fault::ActsInADryRun),
        ("many_janitors_reap_once", Fault::IgnoresLocks),
        ("a_cancelled_pass_begins_nothing", Fault::IgnoresCancellation),
        ("a_pass_without_budget_begins_nothing_and_says_so", Fault::IgnoresBudget),
    ];
    assert_eq!(broken.map(|(name, _)| name).to_vec(), CASES.iter().map(|case| case.name).collect::<Vec<_>>());
    for (case, (name, fault)) in CASES.iter().zip(broken) {
        let red = tokio::spawn(case.run(Memory::new(fault))).await;
        assert!(red.is_err_and(|error| error.is_panic()), "{name} stays green with {fault:?}");
    }
}

/// Locks whose probe takes its time: until the runtime has had a turn.
#[derive(Debug)]
struct Slow(MemoryLocks, Mutex<(Option<oneshot::Sender<()>>, mpsc::Receiver<()>)>);

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("slow locks")
    }
}

#[async_trait]
impl AppLock for Slow {
    fn try_acquire(&self, domain: &Domain) -> Result<Option<AppGuard>, LockError> {
        let mut state = self.1.lock().unwrap();
        if let Some(began) = state.0.take() {
            began.send(()).unwrap();
        }
        let turn = state.1.recv_timeout(Duration::from_secs(10));
        turn.expect("a probe keeps the runtime from everything else");
        self.0.try_acquire(domain)
    }
    async fn acquire(
        &self,
        domain: &Domain,
        wait: Wait,
        cancellation: &Cancellation,
        reporter: &dyn Reporter,
    ) -> Result<AppGuard, AcquireError> {
        self.0.acquire(domain, wait, cancellation, reporter).await
    }
    fn inspect(&self, domain: &Domain) -> Result<Option<LockView>, LockError> {
        self.0.inspect(domain)
    }
    fn domains(&self) -> Result<Vec<Domain>, LockError> {
        self.0.domains()
    }
    fn space(&self) -> Result<String, LockError> {
        self.0.space()
    }
}

#[tokio::test]
async fn a_probe_that_takes_its_time_keeps_nobody_else_waiting() {
    let scene = Memory::new(Fault::None);
    let domain = scene.run_app(1);
    let locks = MemoryLocks::default();
    drop(locks.try_acquire(&domain).unwrap().unwrap());
    let ((turn, turns), (begin, probing)) = (mpsc::channel(), oneshot::channel());
    let ci_host =
        CiHost { locks: Arc::new(Slow(locks, Mutex::new((Some(begin), turns)))), ..scene.ci_host.clone() };
    let lifetime = EmbeddedMode::new(Bounds::default(), Arc::new(Silent)).unwrap();
    let janitor = HostJanitor::new(ci_host, Arc::new(lifetime));
    let pass = Pass::by_hand(Cancellation::new());
    let others = async {
        // The other side of the probe's own thread, where it has one.
        probing.await.unwrap();
        turn.send(()).unwrap();
    };
    let (report, ()) = tokio::join!(janitor.pass(&pass), others);
    assert_eq!(report.unwrap().findings[0].decision, Decision::StaleLock);
}
