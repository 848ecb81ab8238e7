//! What takes a double to be seen: clocks and boots, locks that tell who asks, deployers that lie.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cc_ci_core::CiHost;
use cc_ci_core::cancellation::Cancellation;
use cc_ci_core::engine::{
    App, Deployer as _, DeployerLayer, Engine as _, Failure, Kind, Resource, RunContext,
};
use cc_ci_core::event::{Reporter, Silent};
use cc_ci_core::exit::Exit;
use cc_ci_core::janitor::{
    Decision, Finding, HostJanitor, Janitor as _, Pass, PendingRequests, Report, reap,
};
use cc_ci_core::lifetime::{Bounds, EmbeddedMode};
use cc_ci_core::local::LocalExecutor;
use cc_ci_core::lock::{AcquireError, AppGuard, AppLock, LockError, LockView, Wait};
use cc_ci_core::names::Domain;
use cc_ci_core::run::{Status, TierName, Verdict};
use cc_ci_core::system_info::{BootId, SystemInfo};
use cc_ci_tests::{World, until};
use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::Signal;

use crate::eventful::Eventful;

/// This host at another time, or after a reboot.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    pub(crate) real: Arc<dyn SystemInfo>,
    pub(crate) ahead: SignedDuration,
    pub(crate) boot: BootId,
}

impl SystemInfo for Elsewhere {
    fn boot_id(&self) -> BootId {
        self.boot.clone()
    }
    fn machine_id(&self) -> String {
        self.real.machine_id()
    }
    fn hostname(&self) -> String {
        self.real.hostname()
    }
    fn now(&self) -> Timestamp {
        self.real.now() + self.ahead
    }
}

/// Real locks that note who was asked for, and let the test act right before one is taken.
struct Watched {
    real: Arc<dyn AppLock>,
    asked: Mutex<Vec<Domain>>,
    before: Box<dyn Fn(&Domain) + Send + Sync>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "watched {}", self.real)
    }
}

#[async_trait]
impl AppLock for Watched {
    fn try_acquire(&self, domain: &Domain) -> Result<Option<AppGuard>, LockError> {
        self.asked.lock().unwrap().push(domain.clone());
        (self.before)(domain);
        self.real.try_acquire(domain)
    }
    async fn acquire(
        &self,
        domain: &Domain,
        wait: Wait,
        cancellation: &Cancellation,
        reporter: &dyn Reporter,
    ) -> Result<AppGuard, AcquireError> {
        self.asked.lock().unwrap().push(domain.clone());
        self.real.acquire(domain, wait, cancellation, reporter).await
    }
    fn inspect(&self, domain: &Domain) -> Result<Option<LockView>, LockError> {
        self.asked.lock().unwrap().push(domain.clone());
        self.real.inspect(domain)
    }
    fn domains(&self) -> Result<Vec<Domain>, LockError> {
        self.real.domains()
    }
    fn space(&self) -> Result<String, LockError> {
        self.real.space()
    }
}

fn watched(ci_host: &mut CiHost, before: impl Fn(&Domain) + Send + Sync + 'static) -> Arc<Watched> {
    let watched =
        Arc::new(Watched { real: ci_host.locks.clone(), asked: Mutex::default(), before: Box::new(before) });
    ci_host.locks = watched.clone();
    watched
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

pub(crate) fn lifetime() -> Arc<EmbeddedMode> {
    Arc::new(EmbeddedMode::new(Bounds::default(), Arc::new(Silent)).unwrap())
}

pub(crate) fn pass(ci_host: &CiHost, change: impl FnOnce(&mut Pass)) -> Report {
    until("what this process let go of is free", || !holds_a_lock_of(ci_host));
    let mut pass = Pass::by_hand(Cancellation::new());
    change(&mut pass);
    block_on(HostJanitor::new(ci_host.clone(), lifetime()).pass(&pass)).unwrap()
}

/// Whether this process holds a lock of the world. It lets go of each before it returns; but what another test starts at
/// that moment has a copy until it executes its program, and on a busy machine that takes its time.
fn holds_a_lock_of(ci_host: &CiHost) -> bool {
    let runs = ci_host.runs.runs_dir();
    let entries = |directory: &Path| fs::read_dir(directory).into_iter().flatten().flatten();
    let files = entries(&runs.with_file_name("locks"))
        .map(|entry| entry.path())
        .chain(entries(runs).map(|run| run.path().join("run.lock")));
    let inodes: Vec<String> =
        files.filter_map(|file| Some(format!(":{}", file.metadata().ok()?.ino()))).collect();
    let own = std::process::id().to_string();
    // 1: FLOCK  ADVISORY  WRITE 4711 00:19:1234 0 EOF
    fs::read_to_string("/proc/locks").unwrap().lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(4) == Some(&own.as_str())
            && words.get(5).is_some_and(|file| inodes.iter().any(|inode| file.ends_with(inode)))
    })
}

pub(crate) fn of<'r>(report: &'r Report, domain: &Domain) -> &'r Finding {
    report.findings.iter().find(|finding| finding.domain == *domain).unwrap()
}

#[test]
fn a_lock_that_is_held_for_long_is_told_with_its_holder() {
    let world = World::new();
    let gate = world.gate("holder");
    let domain = world.domain("long", 1);
    let holder = world.cc_ci(["with-lock", domain.as_str(), "--", "sh", "-c", &gate.script()]).start();
    gate.wait();
    let at = |minutes| {
        let (real, boot) = (world.host(), BootId::current().unwrap());
        let host = Elsewhere { real, ahead: SignedDuration::from_mins(minutes), boot };
        pass(&world.ci_host_on(Arc::new(host), []), |_| ())
    };
    let soon = at(119);
    assert_eq!((of(&soon, &domain).decision, of(&soon, &domain).detail.len()), (Decision::Live, 0));
    let late = at(125);
    assert_eq!(of(&late, &domain).decision, Decision::Live, "never an age fallback (I2)");
    let message = of(&late, &domain).detail.join("");
    assert!(
        message.contains("held for 12") && message.contains(&format!("pid {}", holder.pid())),
        "{message}"
    );
    gate.open();
    holder.wait().expect(0);
}

#[test]
fn a_passs_own_domains_are_not_even_probed() {
    let world = World::new();
    let domain = world.killed_run(&world.recipe("mine"), 1);
    let mut ci_host = world.ci_host();
    let locks = watched(&mut ci_host, |_| ());
    let report = pass(&ci_host, |pass| pass.own = vec![domain.clone()]);
    assert_eq!(of(&report, &domain).decision, Decision::Own);
    assert_eq!(*locks.asked.lock().unwrap(), []);
    let report = pass(&ci_host, |_| ());
    assert_eq!(of(&report, &domain).decision, Decision::Reaped);
    assert_ne!(*locks.asked.lock().unwrap(), []);
    world.assert_empty();
}

#[test]
fn a_dry_run_only_looks_at_locks() {
    let world = World::new();
    let domain = world.killed_run(&world.recipe("only"), 1);
    let mut ci_host = world.ci_host();
    watched(&mut ci_host, |domain| panic!("the lock of {domain} was to be taken"));
    let report = pass(&ci_host, |pass| pass.dry_run = true);
    assert_eq!(of(&report, &domain).decision, Decision::WouldReap);
    pass(&world.ci_host(), |_| ());
    world.assert_empty();
}

#[test]
fn what_changed_between_the_look_and_the_lock_is_read_again() {
    let world = World::new();
    let recipe = world.recipe("race");
    let (gone, grown) = (world.killed_run(&recipe, 1), world.killed_run(&recipe, 2));
    let mut ci_host = world.ci_host();
    let (other, root) = (world.ci_host(), world.local_root());
    let [gone_too, grown_too] = [gone.clone(), grown.clone()];
    watched(&mut ci_host, move |domain| {
        if *domain == gone_too {
            // Somebody else was faster; a run even, which is done by now.
            let domain = domain.clone();
            let other = other.clone();
            std::thread::spawn(move || {
                block_on(async {
                    let guard = other.locks.try_acquire(&domain).unwrap().unwrap();
                    reap(&other, &guard, None, PendingRequests::Unknown, Duration::from_mins(1))
                        .await
                        .unwrap();
                    guard.unlink().unwrap();
                });
            })
            .join()
            .unwrap();
        } else if *domain == grown_too {
            let secrets = root.join("apps").join(domain.as_str()).join("secrets");
            fs::write(secrets.join("late"), "came after the look").unwrap();
        }
    });
    let report = pass(&ci_host, |_| ());
    assert_eq!(of(&report, &gone).decision, Decision::StaleLock, "{report:#?}");
    let removed = &of(&report, &grown).removed;
    assert!(
        removed.iter().any(|residue| residue.kind == Kind::Secret && residue.name == "late"),
        "{removed:?}"
    );
    world.assert_empty();
    assert!(world.ci_host().locks.domains().unwrap().is_empty());
}

#[test]
fn a_pass_without_time_takes_no_lock_and_says_what_it_did_not_reach() {
    let world = World::new();
    let domain = world.killed_run(&world.recipe("none"), 1);
    world.children_are_gone();
    let before = world.resources();
    let mut ci_host = world.ci_host();
    watched(&mut ci_host, |domain| panic!("the lock of {domain} was to be taken"));
    let report = pass(&ci_host, |pass| pass.budget = Duration::ZERO);
    assert_eq!(of(&report, &domain).decision, Decision::NotReached);
    assert!(report.leaves_residue(), "exit 4");
    let report = pass(&ci_host, |pass| {
        pass.cancellation.cancel(cc_ci_core::cancellation::Cause::Term);
    });
    assert_eq!(of(&report, &domain).decision, Decision::NotReached);
    assert_eq!(world.resources(), before);
    pass(&world.ci_host(), |_| ());
    world.assert_empty();
}

#[test]
fn after_a_reboot_everything_of_the_boot_before_is_reaped() {
    let world = World::new();
    let domain = world.killed_run(&world.recipe("boot"), 1);
    world.kill_everything();
    // /run/lock is a new directory, and empty.
    fs::remove_dir_all(world.locks()).unwrap();
    fs::create_dir(world.locks()).unwrap();
    let boot = BootId::new("another-boot");
    let host = Elsewhere { real: world.host(), ahead: SignedDuration::ZERO, boot };
    let ci_host = world.ci_host_on(Arc::new(host), []);
    block_on(ci_host.claim()).unwrap();
    assert_eq!(of(&pass(&ci_host, |_| ()), &domain).decision, Decision::Reaped);
    world.assert_empty();
    assert!(ci_host.locks.domains().unwrap().is_empty());
}

#[test]
fn whatever_kind_is_left_the_receipt_names_it_and_the_run_is_red_with_4() {
    let world = World::new();
    let recipe = world.recipe("leak");
    recipe.commit();
    let kinds = [
        ("services", Kind::Service),
        ("tasks", Kind::Task),
        ("containers", Kind::Container),
        ("volumes", Kind::Volume),
        ("secrets", Kind::Secret),
        ("configs", Kind::Config),
        ("networks", Kind::Network),
    ];
    for ((directory, kind), number) in kinds.into_iter().zip(1..) {
        let mut harness = world.harness(lifetime());
        harness.ci_host.engine = Eventful::leaky(&world, directory);
        let request = world.request(recipe.path(), number, &number.to_string());
        // The lane itself is as green as can be.
        let end = block_on(harness.with_app(&request, async |_: &_| ()));
        assert_eq!((end.exit, end.record.verdict), (Exit::Residue, Some(Verdict::Residue)), "{directory}");
        let left = end.record.receipt.unwrap().left;
        assert!(left.iter().any(|residue| residue.kind == kind && residue.name == "left"), "{left:?}");
        // A janitor in the same plight says so, and keeps the lock file.
        let domain = world.domain("leak", number);
        let report = pass(&harness.ci_host, |_| ());
        assert_eq!(of(&report, &domain).decision, Decision::Failed);
        assert!(report.leaves_residue() && world.lock_file(&domain).exists());
        // One that can, does.
        assert_eq!(of(&pass(&world.ci_host(), |_| ()), &domain).decision, Decision::Reaped);
    }
    world.assert_empty();
}

/// A run that fetches is alive while its domain's removal begins, and killed before that is verified.
fn killed_meanwhile(work: impl Fn(&CiHost, &Domain)) {
    let world = World::new();
    let recipe = world.recipe("late");
    let domain = world.killed_run(&recipe, 1);
    // A git that stops: the run has a tree and marked children by now, and no lock yet.
    let gate = world.gate("git");
    let bin = world.path().join("bin");
    world.recipe_at(&bin).script("git", &gate.script());
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let run =
        world.cc_ci(["run", "--pr", "1", "--run-id", "late"]).arg(recipe.path()).env("PATH", path).start();
    gate.wait();
    let run = Mutex::new(Some(run));
    let mut ci_host = world.ci_host();
    ci_host.engine = Eventful::engine(&world, move |_| {
        if let Some(run) = run.lock().unwrap().take() {
            run.signal(Signal::SIGKILL);
            std::thread::spawn(|| run.wait().expect(137)).join().unwrap();
        }
    });
    work(&ci_host, &domain);
    world.assert_empty();
}

#[test]
fn a_pass_removes_what_a_run_left_that_died_while_it_reaped() {
    killed_meanwhile(|ci_host, domain| {
        let report = pass(ci_host, |_| ());
        let found = of(&report, domain);
        assert_eq!(found.decision, Decision::Reaped, "{found}");
        let late = |residue: &Resource| residue.kind == Kind::RunTree && residue.name.ends_with("late");
        assert!(found.removed.iter().any(late), "{found}");
    });
}

#[test]
fn a_teardown_is_not_red_with_what_another_run_left_that_died_meanwhile() {
    killed_meanwhile(|ci_host, domain| {
        let guard = ci_host.locks.try_acquire(domain).unwrap().unwrap();
        let reaped =
            block_on(reap(ci_host, &guard, None, PendingRequests::Unknown, Duration::from_mins(1))).unwrap();
        assert_eq!(reaped.left, [], "{:?}", reaped.failures);
    });
}

/// Deploys anew where it should upgrade in place.
#[derive(Debug)]
struct Redeploys(Arc<LocalExecutor>);

impl fmt::Display for Redeploys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redeploying {}", self.0)
    }
}

#[async_trait]
impl DeployerLayer for Redeploys {
    type Inner = LocalExecutor;

    fn inner(&self) -> &LocalExecutor {
        &self.0
    }
    async fn upgrade(&self, context: &RunContext, app: &App) -> Result<(), Failure> {
        // Data and secrets stay: only the engine's own ids tell.
        let services = [Resource::new(Kind::Service, "app")];
        self.0.remove_selected(&app.domain, &services, Duration::from_secs(10)).await?;
        self.0.deploy(context, app).await
    }
    fn environment(&self) -> Vec<(OsString, OsString)> {
        vec![("DOCKER_HOST".into(), "unix:///of/the/deployer".into())]
    }
}

#[test]
fn what_reaches_the_deployers_engine_is_in_the_environment_of_every_child() {
    let world = World::new();
    let recipe = world.recipe("reaches");
    recipe.script("tests/install", "test \"$DOCKER_HOST\" = unix:///of/the/deployer").commit();
    let mut harness = world.harness(lifetime());
    harness.deployer = Arc::new(Redeploys(world.executor(world.host())));
    let end = block_on(harness.run_cold(&world.request(recipe.path(), 1, "1")));
    assert_eq!(end.exit, Exit::Green, "{:#?}", end.record);
    world.assert_empty();
}

#[test]
fn a_second_deploy_in_an_upgrades_clothes_is_red_whatever_the_counter_says() {
    let world = World::new();
    let recipe = world.recipe("twice");
    recipe.release("1.0.0+1");
    recipe.compose("2", "").commit();
    let mut harness = world.harness(lifetime());
    harness.deployer = Arc::new(Redeploys(world.executor(world.host())));
    let end = block_on(harness.run_cold(&world.request(recipe.path(), 1, "1")));
    assert_eq!((end.exit, end.record.deploy_count), (Exit::Red, 1), "{:#?}", end.record);
    let upgrade = end.record.tiers.iter().find(|tier| tier.name == TierName::Upgrade).unwrap();
    let failed: Vec<&str> = upgrade
        .steps
        .iter()
        .filter(|step| step.status == Status::Failed)
        .map(|step| step.name.as_str())
        .collect();
    assert_eq!(failed, ["generic/in-place"]);
    world.assert_empty();
}
