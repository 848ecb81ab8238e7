//! What goes on, as it is told: who is live, who waits, what is left and by whom.

use cc_ci_tests::{World, unconfined, until};
use serde_json::Value;

#[track_caller]
fn status(world: &World) -> Value {
    let end = world.cc_ci(["status", "--format", "json"]).run().expect(0);
    assert_eq!(end.json()["schema"], "cc-ci.status/v1");
    end.json()
}

fn of<'s>(status: &'s Value, list: &str) -> &'s Vec<Value> {
    status[list].as_array().unwrap()
}

#[test]
fn a_quiet_host_says_so() {
    let world = World::new();
    let end = world.cc_ci(["status"]).run().expect(0);
    assert!(end.stdout.starts_with("engine: local: processes on this host, below "), "{}", end.stdout);
    assert!(end.stdout.contains("nothing goes on"), "{}", end.stdout);
}

#[test]
fn live_runs_those_that_wait_or_fetch_and_what_is_left_are_told_apart() {
    let world = World::new();
    let left = world.killed_run(&world.recipe("left"), 2);
    world.children_are_gone();
    let (recipe, gate) = (world.recipe("live"), world.gate("live"));
    // The first only: the one that waits finds it gone.
    let script = format!("[ \"$CCCI_RUN_ID\" != first ] || {{ {}; }}", gate.script());
    recipe.script("tests/install-gate", &script).commit();
    let config = world.path().join("no-janitor.toml");
    std::fs::write(&config, unconfined("janitor_budget = \"0s\"\n")).unwrap();
    let run = |id: &str| {
        let call = world.cc_ci(["run", "--pr", "1", "--run-id", id]).env("CCCI_CONFIG", &config);
        call.arg(recipe.path())
    };
    let first = run("first").start();
    gate.wait();
    let mut second = run("second").start();
    second.wait_for("in flight");
    // A git that stops: no lock is asked for yet.
    let fetching = world.gate("git");
    let bin = world.path().join("slow-git");
    world.recipe_at(&bin).script("git", &fetching.script());
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let third = world.cc_ci(["run", "--pr", "1", "--run-id", "third"]).env("PATH", path).arg(recipe.path());
    let third = third.start();
    fetching.wait();

    let domain = world.domain("live", 1);
    until("the kernel shows who waits", || {
        of(&status(&world), "waiting").iter().any(|run| run["domain"] == domain.as_str())
    });
    let locks = world.snapshot_of(&world.locks());
    let message = status(&world);
    assert_eq!(world.snapshot_of(&world.locks()), locks, "a look wrote to a lock");

    let [live] = &of(&message, "live")[..] else { panic!("{message:#}") };
    assert_eq!(live["domain"], domain.as_str());
    assert_eq!((&live["run_id"], &live["recipe"]), (&"first".into(), &"live".into()), "{live:#}");
    assert_eq!(live["phase"], "install");
    assert_eq!(live["holder"], first.pid());
    assert_eq!(live["exists"]["service"], 1, "{live:#}");
    assert_eq!(live["waiting"], 1);

    let [second_told, third_told] = &of(&message, "waiting")[..] else { panic!("{message:#}") };
    assert_eq!(second_told["run_id"], "second");
    assert_eq!(
        (&second_told["domain"], &second_told["pid"]),
        (&domain.as_str().into(), &second.pid().into())
    );
    assert_eq!((&third_told["run_id"], &third_told["domain"]), (&"third".into(), &Value::Null));

    let [left_told] = &of(&message, "left")[..] else { panic!("{message:#}") };
    assert_eq!(left_told["domain"], left.as_str());
    assert_eq!(left_told["by"], serde_json::json!(["dead-2"]));
    assert_eq!(left_told["exists"]["run_tree"], 1, "{left_told:#}");

    let text = world.cc_ci(["status"]).run().expect(0).stdout;
    for line in [
        format!("  {domain}: run first of live, install, pid {}", first.pid()),
        format!("  run second of live awaits the lock of {domain}, pid {}", second.pid()),
        format!("  run third of live has not asked for its lock yet, pid {}", third.pid()),
        format!("  {left}: by run dead-2: "),
    ] {
        assert!(text.contains(&line), "{line:?} in {text}");
    }

    third.signal(nix::sys::signal::Signal::SIGTERM);
    third.wait().expect(143);
    gate.open();
    first.wait().expect(0);
    second.wait().expect(0);
    assert_eq!(of(&status(&world), "left").len(), 1, "it only looks");
    world.cc_ci(["janitor"]).run().expect(0);
    world.assert_empty();
    assert!(world.cc_ci(["status"]).run().expect(0).stdout.contains("nothing goes on"));
}
