//! What a whole cold run costs on a real Swarm, beside the time that the recipe's own containers need to come up, to be
//! upgraded and to go, as a script finds it with the same commands; and what of it the confinement of the recipe's tests costs.
//!
//! `target/debug/private-engine run -- cargo bench -p cc-ci-tests --bench cold`. The rounds of both sides alternate;
//! medians are compared. It ends with 1 when a bound does not hold, and needs an engine of its own.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints, and may panic")]

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cc_ci_tests::bench::{median, times_of};
use cc_ci_tests::engine::TestEngine;
use cc_ci_tests::{Recipe, World, confined, unconfined};

const ROUNDS: u64 = 3;
const BOUND: f64 = 1.10;
/// Of a run that confines the recipe's tests, by one that does not.
const CONFINED_BOUND: f64 = 1.05;

fn main() -> ExitCode {
    let Some(engine) = TestEngine::shared("the benchmark of cold runs") else { return ExitCode::FAILURE };
    let world = engine.world();
    world.abra();
    let mut holds = true;
    for recipe in [world.note_keeper(), world.four_services()] {
        holds &= cold(&engine, &recipe);
    }
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn cold(engine: &TestEngine, recipe: &Recipe) -> bool {
    let world = engine.world();
    let tags = recipe.git(["tag", "--sort", "version:refname"]);
    let trees: Vec<_> = tags.lines().map(|tag| tree(recipe, tag, &world.path().join("trees"))).collect();
    let [old, new] = &trees[..] else { panic!("{} has two releases", recipe.name()) };
    let (mut theirs, mut ours, mut unconfined_runs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let domain = format!("bench-{}-{round}.{}", recipe.name(), world.suffix());
        let steps = yardstick(engine, &domain, old, new);
        println!("  {}-{round}: the script: {steps:.2?}", recipe.name());
        theirs.push(steps.iter().sum());
        let mut ways =
            [("confined", confined(world), &mut ours), ("unconfined", unconfined(""), &mut unconfined_runs)];
        // Neither is always the second one.
        ways.rotate_left(usize::from(round % 2 == 1));
        for (way, configuration, times) in ways {
            std::fs::write(world.config(), configuration).unwrap();
            times.push(run(world, recipe, &format!("{}-{round}-{way}", recipe.name())));
        }
    }
    let (ours, theirs, unconfined_run) =
        (median(&mut ours), median(&mut theirs), median(&mut unconfined_runs));
    let what = format!("a cold run of {}: {ours:.2?}", recipe.name());
    holds(&format!("{what}, its containers need {theirs:.2?}"), ours, theirs, BOUND)
        & holds(&format!("{what}, unconfined {unconfined_run:.2?}"), ours, unconfined_run, CONFINED_BOUND)
}

/// A green run, and what it took.
fn run(world: &World, recipe: &Recipe, id: &str) -> Duration {
    let begun = Instant::now();
    let run = world.cc_ci(["run", "--format", "json", "--run-id", id, "--pr", "1"]);
    let record = run.arg(recipe.path()).run().expect(0).json();
    let took = begun.elapsed();
    let tiers = record["tiers"].as_array().unwrap().iter();
    let tiers = tiers
        .map(|tier| format!("{} {:.1} s", tier["name"].as_str().unwrap(), tier["seconds"].as_f64().unwrap()));
    println!("  {id}: {took:.2?} ({})", tiers.collect::<Vec<_>>().join(", "));
    took
}

fn holds(what: &str, one: Duration, other: Duration, bound: f64) -> bool {
    let ratio = one.as_secs_f64() / other.as_secs_f64();
    let holds = ratio <= bound;
    println!("{what}: ratio {ratio:.2} (bound {bound}) {}", if holds { "ok" } else { "OVER THE BOUND" });
    holds
}

/// A release's tree, outside of the recipe's repository.
fn tree(recipe: &Recipe, tag: &str, trees: &Path) -> std::path::PathBuf {
    let path = trees.join(format!("{}-{tag}", recipe.name()));
    recipe.git(["worktree", "add", "-q", "--detach", path.to_str().unwrap(), tag]);
    path
}

/// Runs the script; gives the times that it printed: of the deploy, the upgrade, the end.
fn yardstick(engine: &TestEngine, domain: &str, old: &Path, new: &Path) -> [Duration; 3] {
    let host = engine.host();
    let args = [host.as_ref(), domain.as_ref(), old.as_os_str(), new.as_os_str()];
    times_of("cold.sh", &args).try_into().unwrap()
}
