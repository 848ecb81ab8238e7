//! A run on a Swarm whose nodes are named: its tasks are where their constraints say.

use cc_ci_core::names::Domain;
use cc_ci_tests::engine::{BUSYBOX, Node, until};

use crate::spread::{assert_told, call, count, debts, manager_does, spread, status, tears_down};
use crate::support::OnNodes;

/// Somebody's container on a worker, with a volume of its name and one of none.
fn bystander(node: &Node, name: &str) {
    let volume = format!("{name}:/data");
    let run = ["run", "--detach", "--name", name, "--volume", &volume, "--volume", "/anonymous"];
    node.docker(run.iter().chain(&[BUSYBOX, "sleep", "1000000"]));
}

fn remove_bystander(node: &Node, name: &str) {
    node.docker(["rm", "--force", "--volumes", name]);
    node.docker(["volume", "rm", name]);
}

#[test]
fn a_run_works_on_every_node_leaves_nothing_and_touches_nobody() {
    let Some(test) = OnNodes::new("a_run_works_on_every_node_leaves_nothing_and_touches_nobody") else {
        return;
    };
    test.configure();
    let workers = [test.nodes.worker(1), test.nodes.worker(2)];
    for worker in workers {
        bystander(worker, "loose-neighbour");
    }
    let before = test.bystanders();
    let recipe = spread(&test);
    let record = call(&test, &recipe, "1").run().expect(0).json();
    for tier in ["install", "upgrade", "backup", "restore"] {
        assert_eq!(status(&record, tier), "passed", "{tier}: {record:#}");
    }
    let receipt = &record["receipt"];
    assert_eq!(receipt["left"], serde_json::json!([]), "{record:#}");
    assert_eq!(receipt["verified"], record["domains"], "{record:#}");
    for (kind, node, number) in [
        ("container", "worker-1", 1),
        ("container", "worker-2", 1),
        // One by name, and one without.
        ("volume", "worker-1", 2),
        ("volume", "worker-2", 1),
        ("volume", "manager", 1),
    ] {
        assert!(count(&receipt["removed"], kind, node) >= number, "{kind} on {node}: {receipt:#}");
    }
    // What it logged was read on its node.
    let logs = test.world.snapshot_of(&test.world.runs().join("1"));
    assert!(
        logs.values().any(|content| String::from_utf8_lossy(content).contains("I am the store\n")),
        "{logs:?}"
    );
    for (before, after) in before.iter().zip(test.bystanders()) {
        assert!(!before.is_empty());
        before.assert_same(&after);
    }
    test.assert_empty();
    let audit = test.world.cc_ci(["audit", "--executor", "abra"]).run().expect(0);
    assert_eq!(audit.stdout, "nothing exists\n");
    for worker in workers {
        remove_bystander(worker, "loose-neighbour");
    }
}

#[test]
fn what_a_worker_that_died_in_a_run_has_is_owed_until_a_janitor_has_seen_it() {
    let test = "what_a_worker_that_died_in_a_run_has_is_owed_until_a_janitor_has_seen_it";
    let Some(test) = OnNodes::new(test) else { return };
    test.configure();
    let worker = test.nodes.worker(1);
    let recipe = spread(&test);
    recipe.script("tests/install-crash", &worker.words("crash")).commit();
    let record = call(&test, &recipe, "1").run().expect(3).json();
    let unseen = serde_json::json!([{"kind": "unseen_node", "name": "worker-1"}]);
    assert_eq!(record["receipt"]["left"], unseen, "{record:#}");
    assert_told(&test, "1", "not verified on worker-1");
    assert_eq!(debts(&test), 1);
    let domain: Domain = record["domain"].as_str().expect("a domain").parse().expect("a domain");
    let audit = test.world.cc_ci(["audit", "--executor", "abra", domain.as_str()]).run().expect(4);
    assert!(audit.stdout.contains("the node worker-1 can't be seen since"), "{}", audit.stdout);

    // Nobody begins anew on it, and nobody forgets a node that may come back.
    let again = call(&test, &recipe, "2").run().expect(3);
    assert!(again.stderr.contains("cc-ci janitor --forget-node worker-1"), "{}", again.stderr);
    let janitor = |more: &[&str]| test.world.cc_ci(["janitor", "--executor", "abra"]).args(more).run();
    assert!(janitor(&["--forget-node", "worker-1"]).expect(2).stderr.contains("is a node of this Swarm"));
    for _ in 0..2 {
        let told = janitor(&[]).expect(3);
        assert!(told.stdout.contains("unseen node worker-1"), "{}", told.stdout);
    }
    assert_eq!(debts(&test), 1);

    worker.start();
    test.nodes.until_state(worker, "ready");
    janitor(&[]).expect(0);
    assert_eq!(debts(&test), 0);
    test.assert_empty();
    let audit = test.world.cc_ci(["audit", "--executor", "abra"]).run().expect(0);
    assert_eq!(audit.stdout, "nothing exists\n");
    test.world.assert_empty();
}

#[test]
fn a_worker_that_dies_while_a_run_takes_its_app_down_is_owed_a_look() {
    let test = "a_worker_that_dies_while_a_run_takes_its_app_down_is_owed_a_look";
    let Some(test) = OnNodes::new(test) else { return };
    test.configure();
    let worker = test.nodes.worker(2);
    let recipe = spread(&test);
    // The teardown waits for its answers, so it is at work when the worker dies.
    recipe.script("tests/custom-pause", &worker.words("pause")).commit();
    let running = call(&test, &recipe, "1").start();
    until("the run takes its app down", || tears_down(&test, "1"));
    worker.crash();
    let ended = running.wait().expect(3);
    assert_told(&test, "1", "not verified on worker-2");
    let removed = &ended.json()["receipt"]["removed"];
    assert!(count(removed, "volume", "worker-1") >= 2, "what can be seen is gone: {removed:#}");
    assert_eq!(debts(&test), 1);
    worker.start();
    test.nodes.until_state(worker, "ready");
    test.world.cc_ci(["janitor", "--executor", "abra"]).run().expect(0);
    assert_eq!(debts(&test), 0);
    test.assert_empty();
}

#[test]
fn a_worker_that_left_for_good_is_forgotten_by_its_name() {
    let Some(test) = OnNodes::new("a_worker_that_left_for_good_is_forgotten_by_its_name") else { return };
    test.configure();
    let (manager, worker) = (test.nodes.manager(), test.nodes.worker(2));
    let recipe = spread(&test);
    recipe.script("tests/custom-crash", &worker.words("crash")).commit();
    let record = call(&test, &recipe, "1").run().expect(3).json();
    let domain = record["domain"].as_str().expect("a domain");
    manager.docker(["node", "rm", "--force", "worker-2"]);
    let janitor = |more: &[&str]| test.world.cc_ci(["janitor", "--executor", "abra"]).args(more).run();
    // That it is gone proves nothing of its disk.
    assert!(janitor(&[]).expect(3).stdout.contains("unseen node worker-2"));
    let forgotten = janitor(&["--forget-node", "worker-2"]).expect(0);
    let said = format!("{domain}: nobody looks any more for what it had on worker-2");
    assert!(forgotten.stderr.contains(&said), "{}", forgotten.stderr);
    assert_eq!(debts(&test), 0);
    let audit = test.world.cc_ci(["audit", "--executor", "abra"]).run().expect(0);
    assert_eq!(audit.stdout, "nothing exists\n");

    join_anew(&test, worker);
}

/// A node that was removed from the Swarm is there again, its disk cleared as by an operator.
fn join_anew(test: &OnNodes, worker: &Node) {
    worker.start();
    test.nodes.join(worker);
    // Its helper is there until the engine has heard of its end, and had a volume without a name.
    until("no task is left there", || worker.docker(["ps", "--all", "--quiet"]).is_empty());
    let volumes = worker.docker(["volume", "ls", "--quiet"]);
    for volume in volumes.lines() {
        worker.docker(["volume", "rm", volume]);
    }
    test.assert_empty();
}

#[test]
fn a_worker_that_leaves_in_a_run_is_owed_a_look_though_the_swarm_knows_it_no_more() {
    let test = "a_worker_that_leaves_in_a_run_is_owed_a_look_though_the_swarm_knows_it_no_more";
    let Some(test) = OnNodes::new(test) else { return };
    test.configure();
    let worker = test.nodes.worker(2);
    let recipe = spread(&test);
    let leave = manager_does(&test, "node rm --force worker-2");
    recipe.script("tests/custom-leave", &format!("{}\n{leave}", worker.words("crash"))).commit();
    let record = call(&test, &recipe, "1").run().expect(3).json();
    let unseen = serde_json::json!([{"kind": "unseen_node", "name": "worker-2"}]);
    assert_eq!(record["receipt"]["left"], unseen, "{record:#}");
    assert_told(&test, "1", "not verified on worker-2");
    assert_eq!(debts(&test), 1);
    test.world.cc_ci(["janitor", "--executor", "abra", "--forget-node", "worker-2"]).run().expect(0);
    assert_eq!(debts(&test), 0);
    join_anew(&test, worker);
}

#[test]
fn what_a_worker_has_that_is_drained_in_a_run_is_removed_there() {
    let Some(test) = OnNodes::new("what_a_worker_has_that_is_drained_in_a_run_is_removed_there") else {
        return;
    };
    test.configure();
    let (manager, worker) = (test.nodes.manager(), test.nodes.worker(1));
    let recipe = spread(&test);
    let drain = manager_does(&test, "node update --availability drain worker-1");
    let on_worker = format!("docker --host {}", worker.host());
    let script = format!(
        "store=$({on_worker} ps --quiet --filter name=_store)\n{drain}\n{on_worker} wait $store || echo it is gone"
    );
    recipe.script("tests/custom-drain", &script).commit();
    let record = call(&test, &recipe, "1").run().expect(1).json();
    assert_eq!(record["receipt"]["left"], serde_json::json!([]), "{record:#}");
    assert!(count(&record["receipt"]["removed"], "volume", "worker-1") >= 2, "{record:#}");
    assert_eq!(debts(&test), 0);
    manager.docker(["node", "update", "--availability", "active", "worker-1"]);
    test.assert_empty();
}
