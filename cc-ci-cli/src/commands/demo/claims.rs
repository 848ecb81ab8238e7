//! The claims, in the order in which a new user would doubt them.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cc_ci_core::blocking;
use cc_ci_core::engine::{Kind, Resource};
use cc_ci_core::exit::Exit;
use cc_ci_core::files;
use cc_ci_core::names::Domain;
use cc_ci_core::process::{ProcessIdentity, Signal, kill_process};
use cc_ci_core::run::{RunRecord, Status, TierName};
use cc_ci_core::system_info::BootId;
use serde::Deserialize;
use tokio::net::unix::pipe;

use super::Claim;
use super::recipe::{self, BROKEN, GOOD, RELEASE, STUCK};
use super::world::{Broken, Finished, World};
use crate::render;
use cc_ci_core::Failure;

/// A claim that takes longer hangs.
const LIMIT: Duration = Duration::from_mins(5);

/// The phase in which a run has just got its lock.
const HAS_LOCK: &str = "-- recover";

/// An operator's test that waits: a run with it holds its lock until its gate is opened.
const HOLD: &str = r#"#!/bin/sh
# Passes when the gate beside it gives a line.
read -r line <"${0%/*}/gate"
"#;

/// What all claims work with.
struct Demo<'w> {
    world: &'w World,
    note_keeper: Recipe,
    memo_board: Recipe,
    /// Gets a line when the app of the stuck pull request starts.
    started: pipe::Receiver,
}

/// A repository, and the gate of its runs.
struct Recipe {
    path: String,
    gate: pipe::Sender,
}

type Held = Result<String, Broken>;

/// Tests every claim; `claims` has what was tested, also when this is dropped.
pub async fn all(world: &World, claims: &mut Vec<Claim>) -> Result<(), Failure> {
    world.say(&format!("the demo's own locks, runs and apps are in {}", world.path("").display()));
    let demo = Demo::new(world).await?;
    let mut test = async |claim: &'static str, work: &mut (dyn Future<Output = Held> + Unpin)| {
        world.say(&format!("{}. {claim}", claims.len() + 1));
        let began = Instant::now();
        let held = tokio::time::timeout(LIMIT, work)
            .await
            .unwrap_or_else(|_| Err(Broken::new(format!("not done after {LIMIT:?}"))));
        let (holds, detail, last_lines) = match held {
            Ok(detail) => (true, detail, Vec::new()),
            Err(Broken { what, last_lines }) => (false, what, last_lines),
        };
        let claim = Claim { claim, holds, detail, last_lines, seconds: began.elapsed().as_secs_f64() };
        if world.human {
            world.terminal.result(render::claim(&claim, world.terminal.colour));
        }
        if !claim.last_lines.is_empty() {
            world.terminal.progress(format!("   it said:\n      {}\n", claim.last_lines.join("\n      ")));
        }
        claims.push(claim);
    };
    test("a release is tested", &mut Box::pin(demo.full())).await;
    test("the same pull request twice at once", &mut Box::pin(demo.twice())).await;
    test("two recipes at once", &mut Box::pin(demo.in_parallel())).await;
    test("a broken pull request", &mut Box::pin(demo.red())).await;
    test("kill -9 in the middle of a deploy", &mut Box::pin(demo.killed())).await;
    test("one janitor pass", &mut Box::pin(demo.janitor())).await;
    test("in the end", &mut Box::pin(demo.nothing_left())).await;
    Ok(())
}

impl<'w> Demo<'w> {
    async fn new(world: &'w World) -> Result<Self, Failure> {
        let started = world.path("started");
        world.fifo(&started).await?;
        let note_keeper = Recipe::new(world, "note-keeper", &started).await?;
        let memo_board = Recipe::new(world, "memo-board", &started).await?;
        let started = pipe::OpenOptions::new().read_write(true).open_receiver(&started).map_err(no_pipe)?;
        Ok(Self { world, note_keeper, memo_board, started })
    }

    async fn full(&self) -> Held {
        let run = self.world.cc_ci("run", &["run", &self.note_keeper.path, "--commit", RELEASE]).await?;
        let run = run.finish().await;
        let record = green(&run)?;
        if let Some(tier) = record.tiers.iter().find(|tier| tier.status != Status::Passed) {
            return Err(run.broken(format!("the tier {} is {}", tier.name, tier.status.as_str())));
        }
        let version = |name| {
            let tier = record.tiers.iter().find(|tier| tier.name == name);
            tier.and_then(|tier| tier.version.clone()).unwrap_or_default()
        };
        let removed = record.receipt.iter().map(|receipt| receipt.removed.len()).sum::<usize>();
        Ok(format!(
            "installed {}, upgraded it in place to {RELEASE}, backed up, restored, own tests passed; \
             removed {removed} things, left nothing",
            version(TierName::Install)
        ))
    }

    async fn twice(&self) -> Held {
        let tests = self.tests();
        let args = ["run", &self.note_keeper.path, "--commit", GOOD, "--pr", "7", "--tests-dir", &tests];
        let mut first = self.world.cc_ci("first", &args).await?;
        first.until(HAS_LOCK).await?;
        let mut second = self.world.cc_ci("second", &args).await?;
        second.until("== app lock: ").await?;
        let holder = second.until("   held by ").await?;
        if !holder.contains(&format!("pid {},", first.pid())) {
            return Err(Broken::new(format!("the second does not name the first as holder: {holder}")));
        }
        self.note_keeper.open(2)?;
        let (first, second) = tokio::join!(first.finish(), second.finish());
        let (_, waited) = (green(&first)?, green(&second)?);
        if said_it_waits(&first) {
            return Err(first.broken("it waited, though it came first"));
        }
        Ok(format!(
            "the second waited {:.1}s and said for whom, both green, deploy-count 1 each",
            waited.lock_waited_seconds
        ))
    }

    async fn in_parallel(&self) -> Held {
        let tests = self.tests();
        let args = |recipe: &'_ Recipe| {
            ["run", &recipe.path, "--commit", GOOD, "--pr", "8", "--tests-dir", &tests].map(str::to_owned)
        };
        let (one, other) = (args(&self.note_keeper), args(&self.memo_board));
        let (mut one, mut other) = (
            self.world.cc_ci("notes", &one.each_ref().map(String::as_str)).await?,
            self.world.cc_ci("memos", &other.each_ref().map(String::as_str)).await?,
        );
        tokio::try_join!(one.until(HAS_LOCK), other.until(HAS_LOCK))?;
        self.note_keeper.open(1)?;
        self.memo_board.open(1)?;
        let (one, other) = tokio::join!(one.finish(), other.finish());
        for run in [&one, &other] {
            green(run)?;
            if said_it_waits(run) {
                return Err(run.broken("it waited for a lock"));
            }
        }
        Ok("both held their locks at the same time, neither waited, both green".to_owned())
    }

    async fn red(&self) -> Held {
        let args = ["run", &self.note_keeper.path, "--commit", BROKEN, "--pr", "9"];
        let run = self.world.cc_ci("broken", &args).await?.finish().await;
        run.expect(Exit::Red)?;
        let record: RunRecord = run.json()?;
        nothing_left(&run, &record)?;
        let failed: Vec<_> = record.tiers.iter().filter(|tier| tier.status == Status::Failed).collect();
        let [tier] = failed[..] else {
            return Err(run.broken(format!("{} tiers failed, not one", failed.len())));
        };
        if tier.name != TierName::Upgrade {
            return Err(run.broken(format!("the tier {} failed, not upgrade", tier.name)));
        }
        let step = tier.steps.iter().find(|step| step.status == Status::Failed);
        let why = step.and_then(|step| step.detail.as_deref()).and_then(|detail| detail.split(':').next());
        let why = why.unwrap_or("no reason given");
        Ok(format!("exit 1, the tier {} failed ({why}), nothing left", tier.name))
    }

    async fn killed(&self) -> Held {
        let args = ["run", &self.note_keeper.path, "--commit", STUCK, "--pr", "10", "--fresh"];
        let mut run = self.world.cc_ci("killed", &args).await?;
        run.until("-- install").await?;
        let pid = run.pid();
        let mut run = Box::pin(run.finish());
        tokio::select! {
            run = &mut run => return Err(run.broken(format!("it ended by itself: {}", run.ended))),
            line = read(&self.started) => line.map_err(|error| Broken::with_source("its app", &error))?,
        }
        let kill = || {
            let boot = BootId::current()?;
            kill_process(&ProcessIdentity::of(pid, boot.clone())?, &boot, Signal::Kill)
        };
        kill().map_err(|error| Broken::with_source("can't kill it", &error))?;
        let run = run.await;
        if run.ended.signal != Some(9) {
            return Err(run.broken(format!("it was to be killed, and ended with {}", run.ended)));
        }
        let audit = self.world.cc_ci("audit", &["audit", "--all"]).await?.finish().await;
        audit.expect(Exit::Residue)?;
        let exists: Vec<Resource> =
            audit.json::<Audit>()?.apps.into_iter().flat_map(|app| app.exists).collect();
        if !exists.iter().any(|resource| resource.kind == Kind::Process) {
            return Err(
                audit.broken(format!("none of its processes is left, only {}", Resource::counts(&exists)))
            );
        }
        Ok(format!("audit finds what it left: {}", Resource::counts(&exists)))
    }

    async fn janitor(&self) -> Held {
        let janitor = self.world.cc_ci("janitor", &["janitor"]).await?.finish().await;
        janitor.expect(Exit::Green)?;
        let report: Pass = janitor.json()?;
        let reaped: Vec<Resource> = report
            .findings
            .into_iter()
            .filter(|finding| finding.decision == "reaped")
            .flat_map(|finding| finding.removed)
            .collect();
        if !reaped.iter().any(|resource| resource.kind == Kind::Process) {
            return Err(
                janitor.broken(format!("it ended no process, and removed {}", Resource::counts(&reaped)))
            );
        }
        Ok(format!("ended and removed {}", Resource::counts(&reaped)))
    }

    async fn nothing_left(&self) -> Held {
        let audit = self.world.cc_ci("audit", &["audit", "--all"]).await?.finish().await;
        audit.expect(Exit::Green)?;
        if let Some(app) = audit.json::<Audit>()?.apps.into_iter().next() {
            return Err(audit.broken(format!("{} exists: {}", app.domain, Resource::counts(&app.exists))));
        }
        let locks = self.world.cc_ci("locks", &["locks"]).await?.finish().await;
        locks.expect(Exit::Green)?;
        if let Some(lock) = locks.json::<Locks>()?.locks.into_iter().find(|lock| lock.held) {
            return Err(locks.broken(format!("the lock of {} is held", lock.domain)));
        }
        let processes =
            self.world.processes().await.map_err(|error| Broken::with_source("can't look", &error))?;
        if !processes.is_empty() {
            return Err(Broken::new(format!("processes are left: {}", processes.join(", "))));
        }
        Ok("audit finds nothing, no process is left, no lock is held".to_owned())
    }

    fn tests(&self) -> String {
        self.world.path("tests").display().to_string()
    }
}

impl Recipe {
    async fn new(world: &World, name: &str, started: &Path) -> Result<Self, Failure> {
        let path = recipe::make(world, name, started).await?;
        let tests = world.path("tests").join(name);
        let hold = move || -> io::Result<PathBuf> {
            files::private_directory(&tests)?;
            let hold = tests.join("custom-hold");
            files::write_whole(&hold, HOLD.as_bytes(), 0o755)?;
            Ok(tests.join("gate"))
        };
        let gate = blocking::run(hold)
            .await
            .map_err(|error| Failure::host("can't write the operator's test").with_source(error))?;
        world.fifo(&gate).await?;
        let gate = pipe::OpenOptions::new().read_write(true).open_sender(&gate).map_err(no_pipe)?;
        Ok(Self { path: path.display().to_string(), gate })
    }

    /// Lets so many runs pass.
    fn open(&self, runs: usize) -> Result<(), Broken> {
        let lines = "pass\n".repeat(runs);
        match self.gate.try_write(lines.as_bytes()) {
            Ok(written) if written == lines.len() => Ok(()),
            Ok(_) => Err(Broken::new("the gate took only a part")),
            Err(error) => Err(Broken::with_source("can't open the gate", &error)),
        }
    }
}

fn no_pipe(error: io::Error) -> Failure {
    Failure::host("can't open a named pipe").with_source(error)
}

/// Waits until somebody writes.
async fn read(pipe: &pipe::Receiver) -> io::Result<()> {
    loop {
        pipe.readable().await?;
        match pipe.try_read(&mut [0; 64]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read.map(drop),
        }
    }
}

/// A run that is green, deployed once and left nothing.
fn green(run: &Finished) -> Result<RunRecord, Broken> {
    run.expect(Exit::Green)?;
    let record: RunRecord = run.json()?;
    if record.deploy_count != 1 {
        return Err(run.broken(format!("deploy-count {}", record.deploy_count)));
    }
    nothing_left(run, &record)?;
    Ok(record)
}

fn nothing_left(run: &Finished, record: &RunRecord) -> Result<(), Broken> {
    match &record.receipt {
        Some(receipt) if receipt.left.is_empty() => Ok(()),
        Some(receipt) => Err(run.broken(format!("it left {}", Resource::counts(&receipt.left)))),
        None => Err(run.broken("it has no receipt")),
    }
}

fn said_it_waits(run: &Finished) -> bool {
    run.err.iter().any(|line| line.starts_with("== app lock: "))
}

/// What is used of `cc-ci audit`.
#[derive(Deserialize)]
struct Audit {
    apps: Vec<Audited>,
}

#[derive(Deserialize)]
struct Audited {
    domain: Domain,
    exists: Vec<Resource>,
}

/// What is used of `cc-ci janitor`.
#[derive(Deserialize)]
struct Pass {
    findings: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    decision: String,
    removed: Vec<Resource>,
}

/// What is used of `cc-ci locks`.
#[derive(Deserialize)]
struct Locks {
    locks: Vec<Lock>,
}

#[derive(Deserialize)]
struct Lock {
    domain: Domain,
    held: bool,
}
