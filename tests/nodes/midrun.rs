//! What happens to nodes while a run is at work.

use std::fs;
use std::time::Duration;

use cc_ci_tests::engine::{BUSYBOX, Bystanders, Node, until};
use cc_ci_tests::{SocketTap, skip};
use serde_json::json;

use crate::spread::{
    assert_told, call, count, debts, edited, is_green_and_leaves_nothing, manager_does, spread, tears_down,
    waiting,
};
use crate::support::OnNodes;

/// Asserts that nothing is owed, and that nothing is on any node, after one pass of the janitor.
#[track_caller]
fn assert_paid_in_one_pass(test: &OnNodes) {
    test.janitor().expect(0);
    assert_eq!(debts(test), 0);
    test.assert_empty();
    let audit = test.world.cc_ci(["audit", "--executor", "abra"]).run().expect(0);
    assert_eq!(audit.stdout, "nothing exists\n");
}

/// A script's line that waits until the Swarm calls a node `state`.
fn until_it_is(test: &OnNodes, node: &Node, state: &str) -> String {
    let inspect =
        manager_does(test, &format!("node inspect --format '{{{{.Status.State}}}}' {}", node.name()));
    format!("until [ \"$({inspect})\" = {state} ]; do :; done")
}

/// A worker crashes while the store is not up yet in `version`.
fn dies_before_it_is_up(test: &str, version: &str) {
    let Some(test) = OnNodes::new(test) else { return };
    test.configure();
    let worker = test.nodes.worker(1);
    let running = call(&test, &waiting(&test, version), "1").start();
    let begins = || worker.docker(["ps", "--quiet", "--filter", "health=starting"]);
    until("the store is not up yet", || !begins().is_empty());
    worker.crash();
    let record = running.wait().expect(3).json();
    assert_eq!(record["receipt"]["left"], json!([{"kind": "unseen_node", "name": "worker-1"}]), "{record:#}");
    // That nothing came up is the node's doing, and not the pull request's.
    assert!(record.to_string().contains("; the node worker-1 is down"), "{record:#}");
    assert_told(&test, "1", "not verified on worker-1");
    assert_eq!(debts(&test), 1);
    worker.start();
    test.nodes.until_state(worker, "ready");
    assert_paid_in_one_pass(&test);
}

#[test]
fn a_worker_that_dies_in_a_deploy_is_owed_a_look_and_is_the_cause() {
    dies_before_it_is_up("a_worker_that_dies_in_a_deploy_is_owed_a_look_and_is_the_cause", "1.0.0+1");
}

#[test]
fn a_worker_that_dies_in_an_upgrade_is_owed_a_look_and_is_the_cause() {
    dies_before_it_is_up("a_worker_that_dies_in_an_upgrade_is_owed_a_look_and_is_the_cause", "1.1.0+1");
}

#[test]
fn a_worker_that_is_cut_off_in_a_run_is_owed_a_look_while_it_lives_on() {
    let Some(test) = OnNodes::new("a_worker_that_is_cut_off_in_a_run_is_owed_a_look_while_it_lives_on")
    else {
        return;
    };
    test.configure();
    let worker = test.nodes.worker(2);
    let recipe = spread(&test);
    recipe.script("tests/custom-cut", &worker.words("cut")).commit();
    let record = call(&test, &recipe, "1").run().expect(3).json();
    assert_eq!(record["receipt"]["left"], json!([{"kind": "unseen_node", "name": "worker-2"}]), "{record:#}");
    assert_eq!(debts(&test), 1);
    let helpers = || worker.docker(["ps", "--quiet", "--filter", "name=_helper"]);
    assert!(!helpers().is_empty(), "nobody told it to end");
    test.janitor().expect(3);
    assert_eq!(debts(&test), 1);
    worker.heal();
    test.nodes.until_state(worker, "ready");
    assert_paid_in_one_pass(&test);
}

/// The Swarm can't reach it, and we can: its socket leads there.
#[test]
fn a_worker_that_only_the_swarm_lost_in_a_run_is_cleared_and_owed_a_look_all_the_same() {
    let test = "a_worker_that_only_the_swarm_lost_in_a_run_is_cleared_and_owed_a_look_all_the_same";
    let Some(test) = OnNodes::new(test) else { return };
    test.configure();
    let worker = test.nodes.worker(1);
    let recipe = spread(&test);
    let script = format!("{}\n{}", worker.words("cut"), until_it_is(&test, worker, "down"));
    recipe.script("tests/custom-cut", &script).commit();
    // It holds on to the network until the Swarm tells it otherwise.
    let record = call(&test, &recipe, "1").run().expect(4).json();
    let receipt = &record["receipt"];
    assert_eq!(count(&receipt["left"], "network", "worker-1"), 1, "{record:#}");
    assert!(receipt["left"].to_string().contains(r#""kind":"unseen_node","name":"worker-1""#), "{record:#}");
    // With the run's tree.
    assert_eq!(receipt["left"].as_array().map(Vec::len), Some(3), "{record:#}");
    assert!(count(&receipt["removed"], "volume", "worker-1") >= 2, "{record:#}");
    assert_told(&test, "1", "not verified on worker-1");
    assert_eq!(debts(&test), 1);
    test.janitor().expect(4);
    worker.heal();
    test.nodes.until_state(worker, "ready");
    assert_paid_in_one_pass(&test);
}

#[test]
fn workers_that_were_away_for_a_while_in_a_run_keep_nothing() {
    let Some(test) = OnNodes::new("workers_that_were_away_for_a_while_in_a_run_keep_nothing") else {
        return;
    };
    test.configure();
    let recipe = spread(&test);
    let away = |node: &Node, leave: &str, back: &str| {
        let (down, ready) = (until_it_is(&test, node, "down"), until_it_is(&test, node, "ready"));
        [node.words(leave), down, node.words(back), ready].join("\n")
    };
    recipe.script("tests/custom-pause", &away(test.nodes.worker(1), "pause", "resume"));
    recipe.script("tests/custom-cut", &away(test.nodes.worker(2), "cut", "heal")).commit();
    let ended = call(&test, &recipe, "1").run();
    // Whether its tasks were there again in time is the Swarm's affair.
    assert!([0, 1].contains(&ended.code), "{ended:?}");
    let record = ended.json();
    assert_eq!(record["receipt"]["left"], json!([]), "{record:#}");
    assert!(count(&record["receipt"]["removed"], "volume", "worker-2") >= 1, "{record:#}");
    assert_eq!(debts(&test), 0);
    test.assert_empty();
}

#[test]
fn a_worker_that_is_given_no_more_tasks_in_a_run_is_worked_on_all_the_same() {
    let Some(test) = OnNodes::new("a_worker_that_is_given_no_more_tasks_in_a_run_is_worked_on_all_the_same")
    else {
        return;
    };
    test.configure();
    let recipe = spread(&test);
    let pause = manager_does(&test, "node update --availability pause worker-1");
    recipe.script("tests/upgrade-pause", &pause).commit();
    is_green_and_leaves_nothing(&test, &recipe);
}

#[test]
fn a_worker_whose_engine_is_slow_to_answer_only_takes_its_time() {
    let Some(test) = OnNodes::new("a_worker_whose_engine_is_slow_to_answer_only_takes_its_time") else {
        return;
    };
    test.configure();
    let worker = test.nodes.worker(1);
    let far = test.world.path().join("far.sock");
    let tap = SocketTap::to_afar(worker.socket(), far, Duration::from_millis(500));
    let configuration = fs::read_to_string(test.world.config()).expect("a configuration");
    assert!(configuration.contains(&worker.host()));
    fs::write(test.world.config(), configuration.replace(&worker.host(), &tap.host()))
        .expect("a configuration");
    is_green_and_leaves_nothing(&test, &spread(&test));
    assert!(tap.requests().len() > 10, "it was asked there: {:?}", tap.requests());
}

#[test]
fn a_manager_that_restarts_while_a_run_takes_its_app_down_leaves_nothing_after_one_pass() {
    let test = "a_manager_that_restarts_while_a_run_takes_its_app_down_leaves_nothing_after_one_pass";
    let name = test;
    let Some(test) = OnNodes::new(name) else { return };
    let manager = test.nodes.manager();
    if !Bystanders::look(manager).is_empty() {
        return skip(name, "a restart changes the bystanders: private-engine run --bare --nodes 3");
    }
    test.configure();
    let recipe = spread(&test);
    let running = call(&test, &recipe, "1").start();
    until("the run takes its app down", || tears_down(&test, "1"));
    // Whoever asks by now has no answer when it dies.
    manager.pause();
    manager.tell("kill");
    manager.start();
    let ended = running.wait();
    assert!([0, 3, 4].contains(&ended.code), "{ended:?}");
    for node in test.nodes.all() {
        test.nodes.until_state(node, "ready");
    }
    assert_paid_in_one_pass(&test);
}

#[test]
fn a_full_disk_of_a_worker_leaves_nothing_there() {
    let Some(test) = OnNodes::new("a_full_disk_of_a_worker_leaves_nothing_there") else { return };
    test.configure();
    let worker = test.nodes.worker(1);
    let fill = "dd if=/dev/zero of=/full/blocks bs=1M; dd if=/dev/zero of=/full/rest bs=4k; true";
    worker.docker(["run", "--rm", "--volume", "full:/full", BUSYBOX, "sh", "-c", fill]);
    let recipe = spread(&test);
    let ended = call(&test, &recipe, "1").args(["--teardown-budget", "45s"]).run();
    let record = ended.json();
    assert!(record.to_string().contains("no space left on device"), "{record:#}");
    worker.docker(["volume", "rm", "full"]);
    if ended.code == 4 {
        // It could not even write down that a task is over, so that may have begun: it is awaited, and told.
        assert_ne!(record["receipt"]["left"], json!([]), "{record:#}");
        test.janitor().expect(0);
    } else {
        assert!([1, 3].contains(&ended.code), "{ended:?}");
        assert_eq!(record["receipt"]["left"], json!([]), "{record:#}");
    }
    assert_eq!(debts(&test), 0);
    test.assert_empty();
    // Nothing of it is in the way of the next one.
    call(&test, &recipe, "2").run().expect(0);
    test.assert_empty();
}

/// A script's line that has a worker join the Swarm.
fn joins(test: &OnNodes, worker: &Node) -> String {
    let token = test.nodes.manager().docker(["swarm", "join-token", "--quiet", "worker"]);
    let [here, manager] = [worker, test.nodes.manager()].map(|node| node.address().ip());
    let host = worker.host();
    format!("docker --host {host} swarm join --advertise-addr {here} --token {} {manager}:2377", token.trim())
}

#[test]
fn what_a_worker_gets_that_joins_in_a_run_goes_from_there() {
    let Some(test) = OnNodes::new("what_a_worker_gets_that_joins_in_a_run_goes_from_there") else { return };
    test.configure();
    let (manager, worker) = (test.nodes.manager(), test.nodes.worker(2));
    worker.docker(["swarm", "leave", "--force"]);
    test.nodes.until_state(worker, "down");
    manager.docker(["node", "rm", "worker-2"]);
    let recipe = edited(&test, |_, text| {
        let to_one = "placement: {constraints: [\"node.hostname == worker-2\"]}";
        assert!(text.contains(to_one));
        text.replace(to_one, "mode: global")
    });
    let helper = format!("docker --host {} ps --quiet --filter name=_helper", worker.host());
    let join = joins(&test, worker);
    let script = format!("{join}\nuntil [ -n \"$({helper})\" ]; do :; done");
    recipe.script("tests/custom-join", &script).commit();
    let record = call(&test, &recipe, "1").run().expect(0).json();
    assert_eq!(record["receipt"]["left"], json!([]), "{record:#}");
    assert_eq!(count(&record["receipt"]["removed"], "volume", "worker-2"), 1, "{record:#}");
    assert_eq!(debts(&test), 0);
    test.assert_empty();
}
