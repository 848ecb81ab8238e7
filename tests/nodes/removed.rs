//! Removal over all nodes.

use cc_ci_core::engine::Engine as _;
use cc_ci_tests::engine::{Bystanders, Object};

use crate::support::{LIMIT, OnNodes, block_on, inventory, remove_by_hand, unseen};
use crate::swarm::volumes;

#[test]
fn an_app_goes_from_every_node_and_another_one_stays() {
    let Some(test) = OnNodes::new("an_app_goes_from_every_node_and_another_one_stays") else { return };
    let (domain, _) = test.everywhere("012345");
    let (_, other) = test.everywhere("abcdef");
    let is_other = |object: &Object| object.is_below(&other);
    let looks = || -> Vec<Bystanders> {
        let local = |node: &cc_ci_tests::engine::Node| Bystanders::look_local(node, is_other);
        test.nodes.all().iter().map(local).collect()
    };
    let before = looks();
    let swarm = test.swarm();
    block_on(swarm.remove(&domain, LIMIT)).expect("everything can be removed");
    assert_eq!(inventory(&swarm, &domain).of(&domain), []);
    for (before, after) in before.iter().zip(looks()) {
        assert!(!before.is_empty());
        before.assert_same(&after);
    }
    remove_by_hand(&test.nodes, &other);
    test.assert_empty();
}

#[test]
fn what_a_node_that_is_cut_off_has_is_not_called_gone_and_goes_when_it_is_back() {
    let name = "what_a_node_that_is_cut_off_has_is_not_called_gone_and_goes_when_it_is_back";
    let Some(test) = OnNodes::new(name) else { return };
    let (domain, stack) = test.everywhere("012345");
    let worker = test.nodes.worker(2);
    worker.cut();
    let error = block_on(test.swarm().remove(&domain, LIMIT)).expect_err("a node can't be seen");
    let message = cc_ci_core::error_chain(&error);
    assert!(message.contains("worker-2"), "{message}");
    for seen in [test.nodes.manager(), test.nodes.worker(1)] {
        assert_eq!(volumes(seen, &stack), [""; 0], "{}", seen.name());
    }
    assert_eq!(volumes(worker, &stack).len(), 1, "it lives on");
    assert!(inventory(&test.swarm(), &domain).of(&domain).contains(&unseen(worker)));

    worker.heal();
    test.nodes.until_state(worker, "ready");
    let swarm = test.swarm();
    block_on(swarm.remove(&domain, LIMIT)).expect("everything can be removed");
    assert_eq!(inventory(&swarm, &domain).of(&domain), []);
    test.assert_empty();
}
