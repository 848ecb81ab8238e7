//! Several CI hosts on one Swarm, each with a suffix of its own.

use cc_ci_tests::engine::until;
use nix::sys::signal::Signal;

use crate::spread::{call, debts, spread};
use crate::support::OnNodes;

#[test]
fn a_host_works_beside_anothers_orphan_and_leaves_it_to_that_ones_janitor() {
    let test = "a_host_works_beside_anothers_orphan_and_leaves_it_to_that_ones_janitor";
    let Some(one) = OnNodes::new(test) else { return };
    let other = one.another_host();
    for host in [&one, &other] {
        host.configure();
    }
    let gate = one.world.gate("custom");
    let recipe = spread(&one);
    recipe.script("tests/custom-gate", &gate.script()).commit();
    let running = call(&one, &recipe, "1").start();
    gate.wait();
    running.signal(Signal::SIGKILL);
    running.wait().expect(137);
    one.world.children_are_gone();
    let before = one.of_this_suffix();
    assert!(before.iter().all(|node| !node.is_empty()), "it is on every node: {before:?}");

    call(&other, &spread(&other), "1").run().expect(0);
    let pass = other.janitor().expect(0);
    assert!(!pass.stdout.contains(one.world.suffix().as_str()), "{}", pass.stdout);
    let audit = other.world.cc_ci(["audit", "--executor", "abra"]).run().expect(0);
    assert_eq!(audit.stdout, "nothing exists\n");
    for (before, after) in before.iter().zip(one.of_this_suffix()) {
        before.assert_same(&after);
    }
    // Who works beside is told.
    let doctor = other.world.cc_ci(["doctor", "--executor", "abra"]).run();
    let beside = format!("beside it, {} is that of ", one.world.suffix());
    assert!(doctor.stdout.contains(&beside), "no {beside:?} in {}", doctor.stdout);

    one.janitor().expect(0);
    until("the engine has forgotten its tasks", || {
        one.of_this_suffix().iter().skip(1).all(|node| node.is_empty())
    });
    assert_eq!(debts(&one), 0);
    one.assert_empty();
    other.assert_empty();
}
