//! What a client that was killed had ordered appears late: when a run's own teardown looks twice, and when once.

use std::sync::Arc;
use std::time::Duration;

use cc_ci_core::cancellation::{Cancellation, Cause};
use cc_ci_core::engine::{Engine as _, Kind, Resource};
use cc_ci_core::event::Silent;
use cc_ci_core::exit::Exit;
use cc_ci_core::janitor::{Decision, HostJanitor, Janitor as _, Pass};
use cc_ci_core::lifetime::{Bounds, EmbeddedMode, RunLifetime as _};
use cc_ci_core::run::{Deployed, Harness, RunEnd, Status};
use cc_ci_tests::{Recipe, World};

use crate::eventful::Eventful;

const LAG: Duration = Duration::from_millis(200);

/// Where a test takes 2 s at the most.
fn harness(world: &World) -> (Harness, Arc<EmbeddedMode>) {
    harness_on(world, Eventful::late(world, LAG))
}

fn harness_on(world: &World, engine: Arc<Eventful>) -> (Harness, Arc<EmbeddedMode>) {
    let lifetime = Arc::new(EmbeddedMode::new(Bounds::default(), Arc::new(Silent)).unwrap());
    let mut harness = world.harness(lifetime.clone());
    harness.ci_host.engine = engine;
    harness.settings.script_limit = Duration::from_secs(2);
    (harness, lifetime)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn run(world: &World, recipe: &Recipe) -> RunEnd<()> {
    block_on(harness(world).0.run_cold(&world.request(recipe.path(), 1, "1")))
}

/// It came after the first look, and is gone; without a second look nobody would have seen it.
#[track_caller]
fn removed_late(world: &World, end: &RunEnd<()>) {
    let receipt = end.record.receipt.as_ref().unwrap();
    assert!(receipt.removed.contains(&Resource::new(Kind::Secret, "late")), "{receipt:?}");
    assert_eq!((receipt.left.as_slice(), receipt.verified.len()), ([].as_slice(), 1));
    world.assert_empty();
}

#[test]
fn a_run_that_is_ended_while_a_child_works_looks_twice() {
    let world = World::new();
    let (recipe, gate) = (world.recipe("late"), world.gate("test"));
    recipe.script("tests/install-a", &gate.script()).commit();
    let (mut harness, lifetime) = harness(&world);
    harness.settings.script_limit = Duration::MAX;
    let meanwhile = std::thread::spawn(move || {
        gate.wait();
        assert!(lifetime.cancellation().cancel(Cause::Embedder));
    });
    let end = block_on(harness.run_cold(&world.request(recipe.path(), 1, "1")));
    meanwhile.join().unwrap();
    assert!(matches!(end.exit, Exit::Cancelled(_)), "{:?}", end.exit);
    removed_late(&world, &end);
}

#[test]
fn a_run_that_is_ended_while_it_waits_itself_looks_twice() {
    let world = World::new();
    let recipe = world.recipe("late");
    recipe.commit();
    let (harness, lifetime) = harness(&world);
    let end = block_on(harness.with_app(&world.request(recipe.path(), 1, "1"), async |_: &_| {
        assert!(lifetime.cancellation().cancel(Cause::Embedder));
        std::future::pending::<()>().await;
    }));
    removed_late(&world, &end);
}

#[test]
fn a_run_whose_child_was_ended_for_its_time_long_before_looks_twice() {
    let world = World::new();
    let recipe = world.recipe("late");
    recipe.script("tests/install-a", "exec sleep 1000").script("tests/install-b", "exit 0").commit();
    let end = run(&world, &recipe);
    let steps = &end.record.tiers[0].steps;
    let of = |name| steps.iter().find(|step| step.name == name).map(|step| step.status);
    assert_eq!(of("recipe/install-a"), Some(Status::Failed), "{steps:?}");
    assert_eq!(of("recipe/install-b"), Some(Status::Passed), "{steps:?}");
    removed_late(&world, &end);
}

#[test]
fn a_run_whose_children_all_came_to_an_end_of_their_own_looks_once() {
    for (test, exit) in [("exit 0", Exit::Green), ("exit 1", Exit::Red)] {
        let world = World::new();
        let recipe = world.recipe("late");
        recipe.script("tests/install-a", test).commit();
        // Nothing appears before a minute is over: only who waits for it looks again.
        let engine = Eventful::late(&world, Duration::from_mins(1));
        let harness = harness_on(&world, engine.clone()).0;
        let end = block_on(harness.run_cold(&world.request(recipe.path(), 1, "1")));
        assert_eq!(end.exit, exit, "{:#?}", end.record);
        assert_eq!(engine.looks(), [1], "{:?}", end.record.receipt);
        world.assert_empty();
    }
}

#[test]
fn a_teardown_that_could_not_look_keeps_the_tree_that_makes_the_next_janitor_look_twice() {
    let world = World::new();
    let recipe = world.recipe("late");
    recipe.commit();
    let engine = Eventful::late(&world, LAG);
    let (harness, lifetime) = harness_on(&world, engine.clone());
    let real = world.executor(world.host());
    let ci_host = &harness.ci_host;
    let end =
        block_on(harness.with_app(&world.request(recipe.path(), 1, "1"), async |deployed: &Deployed| {
            let domain = &deployed.domain;
            // All that was ordered is still in the hands of an engine that restarts.
            real.remove(domain, Duration::MAX).await.unwrap();
            ci_host.env_files.remove(domain).unwrap();
            engine.blind(true);
        }));
    engine.blind(false);
    let tree = world.runs().join("1/tmp");
    let receipt = end.record.receipt.unwrap();
    assert!(tree.exists(), "nobody knows any more that something may appear: {receipt:?}");
    assert_eq!((receipt.verified.as_slice(), receipt.left.as_slice()), ([].as_slice(), [].as_slice()));
    assert_eq!(end.exit, Exit::Harness, "{receipt:?}");
    let janitor = HostJanitor::new(ci_host.clone(), lifetime);
    let report = block_on(janitor.pass(&Pass::by_hand(Cancellation::new()))).unwrap();
    let found = &report.findings[0];
    assert_eq!(found.decision, Decision::Reaped, "{found}");
    assert!(found.removed.contains(&Resource::new(Kind::Secret, "late")), "{found}");
    world.assert_empty();
}
