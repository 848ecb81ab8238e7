//! What is on the nodes, and what of it can't be seen.

use std::sync::{Arc, Mutex};

use cc_ci_core::engine::{Engine as _, Fault, Kind, VolumeFile, VolumePath};
use cc_ci_core::event::{Event, Reporter};
use cc_ci_docker::{Address, NodeAddress};

use crate::support::{OnNodes, block_on, inventory, nodes_with, remove_by_hand, unseen};

#[test]
fn each_container_and_volume_says_its_node() {
    let Some(test) = OnNodes::new("each_container_and_volume_says_its_node") else { return };
    let (domain, stack) = test.everywhere("012345");
    let swarm = test.swarm();
    let all = ["manager", "worker-1", "worker-2"];
    let found = inventory(&swarm, &domain);
    for kind in [Kind::Container, Kind::Volume] {
        assert_eq!(nodes_with(&found, &domain, kind), all, "{kind}");
    }
    for kind in [Kind::Service, Kind::Task, Kind::Network] {
        assert_eq!(nodes_with(&found, &domain, kind), [""; 0], "{kind}");
        assert!(found.of(&domain).iter().any(|resource| resource.kind == kind), "{kind}");
    }
    assert_eq!(found.unseen().count(), 0);
    // All of them by label alone, whoever asks.
    let everybody = block_on(swarm.inventory(None)).expect("the Swarm can be looked at");
    assert_eq!(everybody.of(&domain), found.of(&domain));
    // A task that moved leaves its volume where it was.
    test.nodes.manager().docker(["node", "update", "--availability", "drain", "worker-1"]);
    let running = || test.nodes.manager().running(&format!("{stack}_app"));
    cc_ci_tests::engine::until("nothing runs on the drained one", || running() == 2);
    assert_eq!(nodes_with(&inventory(&swarm, &domain), &domain, Kind::Volume), all);
    remove_by_hand(&test.nodes, &stack);
    test.assert_empty();
}

#[test]
fn what_is_on_a_node_that_does_not_answer_is_unseen_and_never_nothing() {
    let test = "what_is_on_a_node_that_does_not_answer_is_unseen_and_never_nothing";
    let Some(test) = OnNodes::new(test) else { return };
    let (domain, stack) = test.everywhere("012345");
    let worker = test.nodes.worker(2);
    for (trouble, way_back) in [("cut", "heal"), ("pause", "resume"), ("crash", "start")] {
        // As a command does: each has an engine of its own.
        let swarm = test.swarm();
        assert_eq!(inventory(&swarm, &domain).unseen().count(), 0);
        worker.tell(trouble);
        let found = inventory(&swarm, &domain);
        let names: Vec<&str> = found.unseen().map(|(node, _)| node).collect();
        assert_eq!(names, ["worker-2"], "{trouble}");
        assert!(found.of(&domain).contains(&unseen(worker)), "{trouble}");
        assert_eq!(nodes_with(&found, &domain, Kind::Container), ["manager", "worker-1"]);
        let (_, first) = found.unseen().next().expect("one is unseen");
        let again = inventory(&swarm, &domain);
        assert_eq!(again.unseen().next().expect("it still is").1.since, first.since, "it is one time");
        worker.tell(way_back);
        test.nodes.until_state(worker, "ready");
        let swarm = test.swarm();
        assert!(!inventory(&swarm, &domain).of(&domain).contains(&unseen(worker)), "{way_back}");
    }
    remove_by_hand(&test.nodes, &stack);
    test.assert_empty();
}

#[test]
fn a_node_without_an_engine_is_refused_unless_it_is_drained() {
    let Some(test) = OnNodes::new("a_node_without_an_engine_is_refused_unless_it_is_drained") else { return };
    let error = block_on(test.unnamed().inventory(None)).expect_err("two nodes can't be seen");
    assert_eq!(error.fault(), Fault::Configuration);
    for name in ["worker-1", "worker-2"] {
        test.nodes.manager().docker(["node", "update", "--availability", "drain", name]);
    }
    let found = block_on(test.unnamed().inventory(None)).expect("they are given nothing");
    assert_eq!(found.unseen().count(), 0);
}

#[test]
fn an_engine_that_is_another_nodes_shows_nothing_of_the_one_that_is_meant() {
    let test = "an_engine_that_is_another_nodes_shows_nothing_of_the_one_that_is_meant";
    let Some(test) = OnNodes::new(test) else { return };
    let named = |name: &str, node: &cc_ci_tests::engine::Node| NodeAddress {
        name: name.to_owned(),
        address: Address::Unix(node.socket().to_owned()),
    };
    let (first, second) = (test.nodes.worker(1), test.nodes.worker(2));
    let swarm = test.unnamed().with_nodes(vec![named("worker-1", second), named("worker-2", second)]);
    let found = block_on(swarm.inventory(None)).expect("the manager can be looked at");
    let unseen: Vec<(&str, &str)> = found.unseen().map(|(node, why)| (node, why.why.as_str())).collect();
    assert_eq!(unseen.len(), 1, "{unseen:?}");
    assert_eq!(unseen[0].0, first.name());
    assert!(unseen[0].1.contains("is not that of the node"), "{unseen:?}");
}

/// The warnings that were heard.
#[derive(Debug, Default)]
struct Warnings(Mutex<Vec<String>>);

impl Reporter for Warnings {
    fn report(&self, event: &Event) {
        if let Event::Warning { text } = event {
            self.0.lock().expect("nobody panicked").push(text.clone());
        }
    }
}

#[test]
fn of_a_volume_on_several_nodes_it_is_told_once_which_one_is_looked_at() {
    let test = "of_a_volume_on_several_nodes_it_is_told_once_which_one_is_looked_at";
    let Some(test) = OnNodes::new(test) else { return };
    let (domain, stack) = test.everywhere("012345");
    let warnings = Arc::new(Warnings::default());
    let swarm = test.swarm_that_tells(warnings.clone());
    let volume = format!("{stack}_data");
    assert_eq!(block_on(swarm.volumes(&domain)).expect("volumes"), std::slice::from_ref(&volume));
    let file = VolumeFile { domain: &domain, volume: &volume, path: "probe" };
    block_on(swarm.write_volume_file(&file, b"here")).expect("it is written");
    assert_eq!(block_on(swarm.volume_path(&file)).expect("it is there"), Some(VolumePath::Other));
    let told = warnings.0.lock().expect("nobody panicked").clone();
    let [told] = &told[..] else { panic!("{told:?}") };
    assert!(told.contains(&format!("the volume {volume} exists on manager and worker-")), "{told}");
    let node = told.split(" is that on ").nth(1).and_then(|rest| rest.split(',').next()).expect("a node");
    let on = test.nodes.all().iter().find(|found| found.name() == node).expect("it is one of the nodes");
    let container = &crate::swarm::containers(on, &stack)[0];
    assert_eq!(on.docker(["exec", container, "cat", "/data/probe"]), "here", "{node}");
    remove_by_hand(&test.nodes, &stack);
    test.assert_empty();
}
