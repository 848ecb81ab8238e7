//! Several CI hosts on one Swarm, each with a suffix of its own.

use nix::sys::signal::Signal;

use crate::spread::{call, debts, spread};
use crate::support::OnNodes;

/// Two hosts on the same nodes.
fn hosts(test: &str) -> Option<[OnNodes; 2]> {
    let one = OnNodes::new(test)?;
    let hosts = [one.another_host(), one];
    hosts.iter().for_each(OnNodes::configure);
    Some(hosts)
}

/// A run is killed when its app is up.
fn killed_run(host: &OnNodes) {
    let gate = host.world.gate("custom");
    let recipe = spread(host);
    recipe.script("tests/custom-gate", &gate.script()).commit();
    let running = call(host, &recipe, "1").start();
    gate.wait();
    running.signal(Signal::SIGKILL);
    running.wait().expect(137);
    host.world.children_are_gone();
}

#[test]
fn a_host_works_beside_anothers_orphan_and_leaves_it_to_that_ones_janitor() {
    let test = "a_host_works_beside_anothers_orphan_and_leaves_it_to_that_ones_janitor";
    let Some([one, other]) = hosts(test) else { return };
    killed_run(&one);
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
    assert_eq!(debts(&one), 0);
    one.assert_empty();
    other.assert_empty();
}

#[test]
fn what_a_host_had_that_is_gone_for_good_goes_once_another_one_is_given_its_suffix() {
    let test = "what_a_host_had_that_is_gone_for_good_goes_once_another_one_is_given_its_suffix";
    let Some([gone, other]) = hosts(test) else { return };
    killed_run(&gone);
    // With a suffix that is another host's, it changes nothing.
    let suffix = gone.world.suffix().as_str();
    let janitor = || other.world.cc_ci(["janitor", "--executor", "abra"]).env("CCCI_SUFFIX", suffix).run();
    let before = gone.of_this_suffix();
    let refused = janitor().expect(2);
    let claim = format!("cc-ci-lockspace-{suffix}");
    assert!(refused.stderr.contains(&format!("docker config rm {claim}")), "{}", refused.stderr);
    for (before, after) in before.iter().zip(gone.of_this_suffix()) {
        before.assert_same(&after);
    }
    gone.nodes.manager().docker(["config", "rm", &claim]);
    janitor().expect(0);
    gone.assert_empty();
}
