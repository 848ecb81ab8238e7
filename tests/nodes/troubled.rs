//! What is done to nodes, and how they are afterwards.

use cc_ci_tests::engine::{BUSYBOX, Nodes, until};

#[test]
fn a_node_that_crashed_comes_back_with_its_disk() {
    let Some(nodes) = Nodes::shared("a_node_that_crashed_comes_back_with_its_disk") else { return };
    let worker = nodes.worker(1);
    worker.docker(["run", "--detach", "--name", "app", "--volume", "kept:/data", BUSYBOX, "sleep", "1000"]);
    worker.docker(["exec", "app", "sh", "-c", "echo here > /data/file"]);
    worker.crash();
    assert_ne!(worker.try_docker(["version"]).code, 0);
    nodes.until_state(worker, "down");
    worker.start();
    nodes.until_state(worker, "ready");
    assert_eq!(worker.docker(["inspect", "--format", "{{.State.Running}}", "app"]), "false");
    worker.docker(["start", "app"]);
    assert_eq!(worker.docker(["exec", "app", "cat", "/data/file"]), "here");
    worker.docker(["rm", "--force", "app"]);
    worker.docker(["volume", "rm", "kept"]);
}

#[test]
fn a_node_that_is_cut_off_lives_on() {
    let Some(nodes) = Nodes::shared("a_node_that_is_cut_off_lives_on") else { return };
    let worker = nodes.worker(2);
    worker.docker(["run", "--detach", "--name", "app", BUSYBOX, "sleep", "1000"]);
    worker.cut();
    nodes.until_state(worker, "down");
    let reached = || {
        let limit = std::time::Duration::from_secs(2);
        std::net::TcpStream::connect_timeout(&worker.address(), limit).is_ok()
    };
    assert!(!reached(), "the network still leads there");
    assert_eq!(worker.docker(["inspect", "--format", "{{.State.Running}}", "app"]), "true");
    worker.heal();
    nodes.until_state(worker, "ready");
    until("the network leads there again", reached);
    worker.docker(["rm", "--force", "app"]);
}

#[test]
fn a_node_that_stands_still_goes_on_where_it_was() {
    let Some(nodes) = Nodes::shared("a_node_that_stands_still_goes_on_where_it_was") else { return };
    let worker = nodes.worker(1);
    worker.pause();
    nodes.until_state(worker, "down");
    worker.resume();
    nodes.until_state(worker, "ready");
    worker.docker(["version"]);
}

#[test]
fn a_test_that_brings_no_node_back_troubles_no_other_one() {
    let Some(nodes) = Nodes::shared("a_test_that_brings_no_node_back_troubles_no_other_one") else { return };
    nodes.worker(1).crash();
    nodes.worker(2).cut();
    nodes.manager().docker(["node", "update", "--availability", "drain", "worker-2"]);
    nodes.restore();
    let nodes = nodes.manager().docker(["node", "ls", "--format", "{{.Status}} {{.Availability}}"]);
    assert_eq!(nodes, ["Ready Active"; 3].join("\n"));
}
