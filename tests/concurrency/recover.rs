//! A new owner of a domain makes it its own first (I4): whatever a dead one left is gone, and verified, before
//! anything is deployed.

use std::collections::BTreeSet;
use std::fs;

use cc_ci_core::exit::Exit;
use cc_ci_tests::World;

use crate::doubles::{block_on, lifetime};
use crate::eventful::Eventful;

#[test]
fn the_next_run_of_a_pull_request_removes_all_that_a_killed_one_left_before_it_deploys() {
    let world = World::new();
    let recipe = world.recipe("again");
    // A process that outlives the script, the run, and every group that cc-ci knows.
    let gate = world.gate("orphan");
    let orphan =
        format!("setsid sh -c '{}; sleep 1000' > /dev/null 2>&1 &", gate.say("$$").replace('\'', ""));
    // Before the deploy of the next run: what is there?
    let seen = world.path().join("seen");
    let apps = world.local_root().join("apps");
    let steps = format!(
        "[ \"$CCCI_RUN_ID\" = dead-1 ] || {{ [ -e /proc/$(cat '{pid}')/exe ] && echo process >> '{seen}'; ls '{apps}'/\"$CCCI_DOMAIN\" >> '{seen}'; ls '{runs}/dead-1' >> '{seen}'; }}",
        pid = world.path().join("pid").display(),
        seen = seen.display(),
        apps = apps.display(),
        runs = world.runs().display(),
    );
    recipe.script("tests/install_steps.sh", &steps);
    let domain = world.killed_run_with(&recipe, 1, &orphan);
    fs::write(world.path().join("pid"), gate.wait()).unwrap();
    let volumes = apps.join(domain.as_str()).join("volumes");
    let volume = fs::read_dir(volumes).unwrap().next().unwrap().unwrap().path();
    fs::write(volume.join("old"), "the dead run's data").unwrap();
    let run = world.cc_ci(["run", "--pr", "1", "--run-id", "2", "--format", "json"]).arg(recipe.path());
    let end = run.run().expect(0);
    let recovered = end.json()["receipt"]["recovered"].clone();
    let kinds: BTreeSet<&str> =
        recovered.as_array().unwrap().iter().map(|residue| residue["kind"].as_str().unwrap()).collect();
    let all =
        ["process", "container", "service", "task", "volume", "secret", "network", "env_file", "run_tree"];
    for kind in all {
        assert!(kinds.contains(kind), "{kind}: {recovered}");
    }
    let seen = fs::read_to_string(seen).unwrap();
    let seen: BTreeSet<&str> = seen.lines().collect();
    // The secret is the new run's own, and the dead one's record stays.
    let gone = ["process", "volumes", "services", "tasks", "containers", "networks", "abra", "home", "tmp"];
    for name in gone {
        assert!(!seen.contains(name), "{name} was there when the run began to deploy: {seen:?}");
    }
    assert!(seen.contains("run.json"), "{seen:?}");
    assert_eq!(end.json()["deploy_count"], 1);
    world.assert_empty();
}

#[test]
fn a_run_inside_the_test_of_another_run_is_no_leftover() {
    let world = World::new();
    let (outer, inner) = (world.recipe("outer"), world.recipe("inner"));
    let gate = world.gate("inner");
    inner.script("tests/custom", &gate.script()).commit();
    let nested = world.cc_ci(["run", "--run-id", "inner", "--pr", "1"]).arg(inner.path());
    outer.script("tests/custom", &nested.line()).commit();
    let run = world.cc_ci(["run", "--run-id", "outer", "--pr", "1"]).arg(outer.path()).start();
    gate.wait();
    // Whoever recovers the domain or sweeps now must spare both.
    world.cc_ci(["janitor"]).run().expect(0);
    let own = world.domain("other", 1);
    world.cc_ci(["with-lock", own.as_str(), "--", "true"]).run().expect(0);
    let marks: BTreeSet<String> =
        world.processes().iter().map(|found| found.marker.domain.to_string()).collect();
    for recipe in ["outer", "inner"] {
        assert!(marks.contains(world.domain(recipe, 1).as_str()), "{marks:?}");
    }
    gate.open();
    run.wait().expect(0);
    assert_eq!(world.record("inner")["verdict"], "green");
    world.assert_empty();
}

#[test]
fn an_ancestor_survives_though_it_carries_a_dead_runs_mark() {
    let world = World::new();
    let recipe = world.recipe("kin");
    let (ready, result) = (world.gate("ready"), world.gate("result"));
    // The dead run's own orphan starts the next run, and so does it with the dead run's mark.
    let again = world.cc_ci(["run", "--run-id", "2", "--pr", "1"]).arg(recipe.path());
    let script = world.path().join("orphan.sh");
    let text = format!(
        "{}\n{}\n{} && code=0 || code=$?\n{}\n",
        ready.say("here"),
        ready.hold(),
        again.line().replace("env -i", "env -i CCCI_MARKER=\"$CCCI_MARKER\""),
        result.say("$code")
    );
    fs::write(&script, text).unwrap();
    let orphan = format!("setsid sh '{}' > /dev/null 2>&1 &", script.display());
    world.killed_run_with(&recipe, 1, &orphan);
    ready.wait();
    ready.open();
    assert_eq!(result.wait(), "0");
    assert_eq!(world.record("2")["verdict"], "green");
    world.children_are_gone();
    world.assert_empty();
}

#[test]
fn a_run_that_cannot_recover_its_domain_deploys_nothing() {
    let world = World::new();
    let recipe = world.recipe("stuck");
    world.killed_run(&recipe, 1);
    let mut harness = world.harness(lifetime());
    harness.ci_host.engine = Eventful::leaky(&world, "volumes");
    let end = block_on(harness.run_cold(&world.request(recipe.path(), 1, "2")));
    assert_eq!((end.exit, end.record.deploy_count), (Exit::Residue, 0), "{:#?}", end.record);
    assert!(end.record.errors[0].contains("could not be recovered"), "{:?}", end.record.errors);
    world.cc_ci(["run", "--pr", "1"]).arg(recipe.path()).run().expect(0);
    world.assert_empty();
}
