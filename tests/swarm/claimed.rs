//! The claim of a suffix: two lock spaces on one Swarm can't both have it.

use cc_ci_core::engine::{Engine as _, Fault, LockSpace};
use cc_ci_core::names::Suffix;
use cc_ci_docker::SwarmEngine;
use cc_ci_tests::engine::{PrivateEngine, TestEngine};
use futures_util::future::join_all;

use crate::support::{App, block_on, swarm};

fn claimed_by(swarm: &SwarmEngine) -> Option<LockSpace> {
    let facts = block_on(swarm.inspect()).expect("the engine answers");
    facts.swarm.expect("it is a manager").claims.ours.expect("the claim can be read")
}

#[test]
fn a_suffix_belongs_to_one_lock_space_until_its_boot_is_over() {
    let Some(test) = TestEngine::shared("a_suffix_belongs_to_one_lock_space_until_its_boot_is_over") else {
        return;
    };
    let suffix = test.world().suffix();
    let swarm = swarm(&test, suffix);
    let name = format!("cc-ci-lockspace-{suffix}");
    let first = LockSpace::made_up("m1", "b1", "8:7");
    assert_eq!(claimed_by(&swarm), None);
    block_on(swarm.claim(&first)).expect("nobody has it");
    block_on(swarm.claim(&first)).expect("it is ours");
    assert_eq!(claimed_by(&swarm), Some(first.clone()));
    let version = || test.docker(["config", "inspect", "--format", "{{.Version.Index}}", &name]);
    let before = version();

    for (other, whose) in [
        (LockSpace::made_up("m1", "b1", "8:8"), "another lock directory, /run/lock/8:7"),
        (LockSpace::made_up("m2", "b1", "8:7"), "another machine, host-of-m1"),
        (LockSpace::made_up("m2", "b2", "8:7"), "another machine, host-of-m1"),
    ] {
        let error = block_on(swarm.claim(&other)).expect_err("it is somebody else's");
        assert_eq!(error.fault(), Fault::Configuration);
        assert!(error.to_string().contains(whose), "{error}");
        let hint = error.hint().expect("it says what to do");
        // That of another machine is of no use here.
        let is_of_use = other.machine_id == first.machine_id;
        assert_eq!(hint.contains("CCCI_APP_LOCK_DIR=/run/lock/8:7"), is_of_use, "{hint}");
        assert!(hint.contains(&format!("docker config rm {name}")), "{hint}");
    }
    assert_eq!(version(), before, "who is refused changes nothing");

    let rebooted = LockSpace::made_up("m1", "b2", "8:9");
    block_on(swarm.claim(&rebooted)).expect("its boot is over");
    assert_eq!(claimed_by(&swarm), Some(rebooted));
    block_on(swarm.claim(&LockSpace::made_up("m1", "b2", "8:7")))
        .expect_err("another directory of the same boot");

    // It is nobody's residue.
    let all = block_on(swarm.inventory(None)).expect("the engine can be looked at");
    assert!(all.domains().all(|domain| all.of(domain).iter().all(|residue| residue.name != name)));
    App::new(&test, "012345").remove();
    test.docker(["config", "inspect", &name]);
}

#[test]
fn of_many_that_claim_at_once_one_has_it() {
    let Some(test) = TestEngine::shared("of_many_that_claim_at_once_one_has_it") else { return };
    let suffix = test.world().suffix();
    let swarm = swarm(&test, suffix);
    // The first round makes the claim, each later one takes that of an earlier boot over.
    for boot in 0..10 {
        let spaces: Vec<LockSpace> = (0..8)
            .map(|directory| LockSpace::made_up("m1", &format!("b{boot}"), &directory.to_string()))
            .collect();
        let claims = block_on(join_all(spaces.iter().map(|space| swarm.claim(space))));
        let winners: Vec<&LockSpace> =
            spaces.iter().zip(&claims).filter(|(_, claim)| claim.is_ok()).map(|(space, _)| space).collect();
        assert_eq!(winners.len(), 1, "{claims:?}");
        assert_eq!(claimed_by(&swarm).as_ref(), Some(winners[0]));
        for error in claims.into_iter().filter_map(Result::err) {
            assert_eq!(error.fault(), Fault::Configuration, "{error}");
        }
    }
}

#[test]
fn what_is_no_claim_is_refused_by_name() {
    let Some(test) = TestEngine::shared("what_is_no_claim_is_refused_by_name") else { return };
    let suffix = test.world().suffix();
    let swarm = swarm(&test, suffix);
    let name = format!("cc-ci-lockspace-{suffix}");
    let garbled = "--label=cc-ci.lock-space={\"machine_id\":";
    for label in ["--label=other=1", garbled, "--label=cc-ci.lock-space={}"] {
        test.docker_with(["config", "create", label, &name, "-"], "x");
        let error =
            block_on(swarm.claim(&LockSpace::made_up("m1", "b1", "8:7"))).expect_err("it can't be read");
        assert_eq!(error.fault(), Fault::Configuration);
        assert!(error.to_string().contains(&name), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains(&format!("docker config rm {name}"))));
        test.docker(["config", "rm", &name]);
    }
    // A longer suffix has a claim of its own.
    let longer: Suffix = format!("{suffix}.uk").parse().expect("a suffix");
    let theirs = crate::support::swarm(&test, &longer);
    block_on(theirs.claim(&LockSpace::made_up("m2", "b1", "8:7"))).expect("nobody has it");
    block_on(swarm.claim(&LockSpace::made_up("m1", "b1", "8:7"))).expect("nobody has it");
    test.docker(["config", "rm", &format!("{name}.uk")]);
}

#[test]
fn a_swarm_with_another_place_for_tasks_is_refused() {
    let Some(first) = PrivateEngine::start("a_swarm_with_another_place_for_tasks_is_refused") else { return };
    let swarm = swarm(&first, &"nodes.test".parse().expect("a suffix"));
    let claim = LockSpace::made_up("m1", "b1", "8:7");
    block_on(swarm.claim(&claim)).expect("one node");
    let facts = block_on(swarm.inspect()).expect("the engine answers").swarm.expect("it is a manager");
    assert!(facts.this_node.is_some() && facts.other_nodes.is_empty());
    let proxy = facts.proxy.expect("the engine has it");
    assert_eq!((proxy.driver.as_str(), proxy.scope.as_str(), proxy.attachable), ("overlay", "swarm", true));

    // The only place is elsewhere: this node takes no tasks.
    let node = first.docker(["node", "ls", "--format", "{{.ID}}"]);
    first.docker(["node", "update", "--availability", "drain", &node]);
    let facts = block_on(swarm.inspect()).expect("the engine answers").swarm.expect("it is a manager");
    assert!(facts.this_node.is_none() && facts.other_nodes.is_empty());
    first.end().expect("nothing is left of it");
}
