//! A storm of faults: runs of the same few apps, killed at whatever they were doing, beside janitors and audits, and
//! an app of somebody else that must not feel any of it.
//!
//! The moments are events, the nth line that a run prints, drawn from a seed that is told. `CCCI_STORM_SEED` repeats
//! the draws of a storm; how its processes interleave is the kernel's.

#![expect(clippy::expect_used, reason = "this is test code: a panic is a failed test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use cc_ci_core::names::Domain;
use cc_ci_core::process::{Marked, MarkerOwner};
use cc_ci_tests::{Chance, Recipe, StartedCommand, World, pipes, unconfined};
use nix::sys::signal::Signal;

/// Each is a handful of runs at once.
const ROUNDS: u64 = 8;

const RUNS: u64 = 4;

const PULL_REQUESTS: u64 = 2;

/// More than a run prints: some are left to end by themselves.
const LINES: u64 = 45;

/// What a run is sent, and what it then ends with. Nothing else here makes one red, or leaves residue behind one that
/// tore down.
const SIGNALS: [(Signal, i32); 5] = [
    (Signal::SIGKILL, 137),
    (Signal::SIGKILL, 137),
    (Signal::SIGTERM, 143),
    (Signal::SIGINT, 130),
    (Signal::SIGHUP, 129),
];

/// An app that lives through all of it: a whole one, protected by name.
struct Bystander {
    domain: Domain,
    config: PathBuf,
    files: BTreeMap<PathBuf, Vec<u8>>,
    services: Vec<Marked>,
}

impl Bystander {
    fn new(world: &World) -> Self {
        let domain = world.killed_run(&world.recipe("blog"), 1);
        world.children_are_gone();
        let config = world.path().join("protect.toml");
        fs::write(&config, unconfined(format!("protect = [\"{domain}\"]\n"))).expect("a configuration");
        let (files, services) = (Self::files(world, &domain), Self::services(world, &domain));
        assert!(!files.is_empty() && !services.is_empty(), "it is up");
        Self { domain, config, files, services }
    }

    fn files(world: &World, domain: &Domain) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = world.snapshot();
        let is = |text: &[u8]| text == domain.as_str().as_bytes();
        let of = |path: &Path| path.iter().any(|part| part.to_string_lossy().contains(domain.as_str()));
        // A port is a link that names its owner.
        files.retain(|path, content| of(path) || is(content));
        files
    }

    fn services(world: &World, domain: &Domain) -> Vec<Marked> {
        let mut processes = world.processes();
        processes.retain(|found| found.marker.domain == *domain);
        processes
    }

    #[track_caller]
    fn assert_undisturbed(&self, world: &World) {
        assert_eq!(Self::files(world, &self.domain), self.files);
        let alive: Vec<i32> =
            Self::services(world, &self.domain).iter().map(|found| found.process.pid).collect();
        let before: Vec<i32> = self.services.iter().map(|found| found.process.pid).collect();
        assert_eq!(alive, before);
    }
}

/// One that installs, one that upgrades, and one whose test leaves everything behind that it can.
fn recipes(world: &World) -> [Recipe; 3] {
    let [plain, newer, careless] = ["plain", "newer", "careless"].map(|name| world.recipe(name));
    plain.commit();
    newer.release("1.0.0+1");
    newer.compose("2", "").commit();
    let body = "setsid sh -c 'trap \"\" TERM; while :; do sleep 1000; done' >/dev/null 2>&1 &\n\
                sleep 1000 &\nclosed=$(mktemp -d)\nmkdir \"$closed/inner\"\nchmod 000 \"$closed\"";
    careless.script("tests/install_steps.sh", body).script("tests/custom", body).commit();
    [plain, newer, careless]
}

/// Signals a run at its `line`th line, unless it ends before; gives how it ended and what it said.
fn strike(mut run: StartedCommand, line: u64, signal: Signal) -> (i32, String) {
    if run.says_lines(line) {
        run.signal(signal);
    }
    let end = run.wait();
    (end.code, end.stderr)
}

fn round(world: &World, bystander: &Bystander, recipes: &[Recipe], chance: &mut Chance) {
    let call = |args: &[&str]| world.cc_ci(args).env("CCCI_CONFIG", &bystander.config);
    thread::scope(|scope| {
        for _ in 0..RUNS {
            let (recipe, pr) = (chance.of(recipes), chance.below(PULL_REQUESTS).to_string());
            // Build numbers repeat.
            let id = chance.below(3).to_string();
            let (line, (signal, code)) = (chance.below(LINES), *chance.of(&SIGNALS));
            let run = call(&["run", "--pr", &pr, "--run-id", &id]).arg(recipe.path()).start();
            scope.spawn(move || {
                let (ended, message) = strike(run, line, signal);
                assert!(ended == 0 || ended == code, "{ended} after {signal} at line {line}:\n{message}");
                assert!(!message.contains("panicked"), "{message}");
            });
        }
        for _ in 0..chance.below(3) {
            let janitor = call(&["janitor"]).start();
            scope.spawn(move || janitor.wait().expect(0));
        }
        if chance.below(2) == 0 {
            let audit = call(&["audit"]).start();
            scope.spawn(move || {
                let end = audit.wait();
                assert!([0, 4].contains(&end.code), "{end:?}");
            });
        }
    });
}

#[test]
fn whatever_is_killed_whenever_one_pass_leaves_nothing_and_a_bystander_feels_nothing() {
    let mut chance = Chance::of_a_storm();
    let world = World::new();
    let recipes = recipes(&world);
    let bystander = Bystander::new(&world);
    for _ in 0..ROUNDS {
        round(&world, &bystander, &recipes, &mut chance);
        if chance.below(4) == 0 {
            world.cc_ci(["janitor"]).env("CCCI_CONFIG", &bystander.config).run().expect(0);
        }
    }
    bystander.assert_undisturbed(&world);

    world.cc_ci(["janitor"]).env("CCCI_CONFIG", &bystander.config).run().expect(0);
    bystander.assert_undisturbed(&world);
    let mut left = world.processes();
    left.retain(|found| found.marker.domain != bystander.domain);
    assert!(left.is_empty(), "{left:#?}");
    // Without its protection it is what a dead run left: it was whole until now, and goes whole.
    assert!(matches!(bystander.services[0].marker.owner, MarkerOwner::Service { .. }));
    world.cc_ci(["janitor"]).run().expect(0);
    world.assert_empty();
    assert!(bystander.services.iter().all(|service| pipes::ends(&service.process)));
    for recipe in &recipes {
        for number in 0..PULL_REQUESTS {
            let domain = world.domain(recipe.name(), number);
            world.cc_ci(["with-lock", "--lock-timeout", "0s", domain.as_str(), "--", "true"]).run().expect(0);
        }
    }
}
