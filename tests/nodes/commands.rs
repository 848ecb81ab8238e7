//! The command on a Swarm of several nodes.

use crate::support::{OnNodes, remove_by_hand};

#[test]
fn doctor_shows_each_node() {
    let Some(test) = OnNodes::new("doctor_shows_each_node") else { return };
    test.configure();
    let doctor = || test.world.cc_ci(["doctor", "--executor", "abra"]).run();
    let told = doctor();
    for fact in ["worker-1: Docker ", "worker-2: Docker ", "at tcp://198.18.0.3:2376"] {
        assert!(told.stdout.contains(fact), "no {fact:?} in {}", told.stdout);
    }
    assert!(!told.stdout.contains("is given tasks, and its engine is not named"), "{}", told.stdout);
    test.nodes.worker(2).cut();
    let told = doctor();
    assert!(told.stdout.contains("can't examine the node worker-2"), "{}", told.stdout);
}

#[test]
fn nobody_works_where_a_node_is_not_named_and_an_audit_tells_of_one_that_is_gone() {
    let test = "nobody_works_where_a_node_is_not_named_and_an_audit_tells_of_one_that_is_gone";
    let Some(test) = OnNodes::new(test) else { return };
    for command in ["janitor", "audit"] {
        let refused = test.world.cc_ci([command, "--executor", "abra"]).run();
        assert!([2, 3].contains(&refused.code), "{refused:?}");
        for part in ["[nodes.\"worker-1\"]", "docker node update --availability drain"] {
            assert!(refused.stderr.contains(part), "no {part:?} in {}", refused.stderr);
        }
    }
    test.configure();
    let (domain, stack) = test.everywhere("012345");
    let audit = |code| test.world.cc_ci(["audit", "--executor", "abra"]).run().expect(code).stdout;
    let told = audit(4);
    assert!(told.contains(&format!("volume {stack}_data on worker-2")), "{told}");
    test.nodes.worker(2).cut();
    let told = audit(4);
    assert!(told.contains("the node worker-2 can't be seen since"), "{told}");
    assert!(told.contains(&format!("{domain}: left behind")), "{told}");
    test.nodes.worker(2).heal();
    test.nodes.until_state(test.nodes.worker(2), "ready");
    remove_by_hand(&test.nodes, &stack);
    test.nodes.worker(2).pause();
    let told = audit(3);
    assert!(!told.contains("nothing exists") && told.contains("worker-2"), "{told}");
    let told = test.world.cc_ci(["audit", "--executor", "abra", domain.as_str()]).run().expect(3).stdout;
    assert!(told.contains("nothing is seen, and not all can be: unseen node worker-2"), "{told}");
    test.nodes.worker(2).resume();
    test.assert_empty();
}
