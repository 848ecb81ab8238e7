//! What abra does wrong: the right verdict, and nothing left.

use cc_ci_tests::engine::TestEngine;
use cc_ci_tests::stand_in::Wrong;
use cc_ci_tests::{Recipe, World};
use serde_json::Value;

use crate::support::{call, deploys, is_work, light, nothing_left};

const GREEN: i32 = 0;
const RED: i32 = 1;
const REFUSED: i32 = 2;
const HARNESS: i32 = 3;

/// A light recipe with a worker, so that a part of it can be deployed.
fn two_services(world: &World, name: &str) -> Recipe {
    let recipe = world.light(name);
    let worker = "services:\n  worker:\n    image: cc-ci-test/busybox:1\n    command: [sleep, '1000000']\n    \
                  stop_grace_period: 1s\n    networks: [internal]\n";
    let sample = std::fs::read_to_string(recipe.path().join(".env.sample")).expect("a file of ours");
    recipe.write("compose.worker.yml", &format!("version: \"3.8\"\n{worker}"));
    recipe.write(".env.sample", &format!("{sample}COMPOSE_FILE=compose.yml:compose.worker.yml\n"));
    recipe.release("1.0.0+1");
    recipe.light_compose("1.1.0+1", "");
    recipe.commit();
    recipe
}

/// Each of these, in a run of its own, ends with this code and says so. With `at`, it is about the upgrade alone.
#[track_caller]
fn ends_with(test: &str, cases: &[(Wrong, Option<usize>, i32, &str)]) {
    let Some(engine) = TestEngine::shared(test) else { return };
    let world = engine.world();
    let recipe = two_services(world, "light");
    for (number, (wrong, at, code, says)) in (1..).zip(cases) {
        let abra = world.abra();
        let before = deploys(world);
        abra.does_at(&[(wrong.clone(), at.map(|at| before + at))]);
        let end = call(world, &recipe, number).run();
        let record: Value = serde_json::from_str(&end.stdout).unwrap_or_default();
        assert_eq!(end.code, *code, "{wrong}: {}\n{record:#}", end.stderr);
        assert!(end.stderr.contains(says) || record.to_string().contains(says), "{wrong}: {}", end.stderr);
        if *code == REFUSED {
            let calls = abra.calls();
            assert!(
                !calls[calls.len() - 1].is("app deploy -"),
                "{wrong}: refused before anything is touched"
            );
        }
        nothing_left(&engine, None);
    }
}

#[test]
fn what_abra_says_is_told_apart() {
    ends_with(
        "what_abra_says_is_told_apart",
        &[
            (Wrong::R014, None, RED, "R014: only annotated tags"),
            (Wrong::Unstaged, None, HARNESS, "has locally unstaged changes"),
            (Wrong::ConvergeFata, None, HARNESS, "deploy failed"),
            (Wrong::SecretsLost, None, HARNESS, "secret"),
        ],
    );
}

#[test]
fn half_a_deploy_is_the_hosts_fault_whatever_abra_says() {
    ends_with(
        "half_a_deploy_is_the_hosts_fault_whatever_abra_says",
        &[
            (Wrong::NonzeroAfterPartial, None, HARNESS, "was rejected"),
            (Wrong::ZeroAfterPartial, None, HARNESS, "worker"),
            (Wrong::KilledHalfWay, None, HARNESS, "signal"),
            (Wrong::NonzeroAfterPartial, Some(2), HARNESS, "was rejected"),
        ],
    );
}

#[test]
fn a_tree_that_moved_under_a_deploy_says_nothing_of_the_recipe() {
    ends_with(
        "a_tree_that_moved_under_a_deploy_says_nothing_of_the_recipe",
        &[
            (Wrong::CheckoutMoved, None, HARNESS, "moved"),
            (Wrong::SecondAbra, None, HARNESS, "moved"),
            (Wrong::CheckoutMoved, Some(2), HARNESS, "moved"),
        ],
    );
}

#[test]
fn what_can_be_put_right_is_green() {
    let Some(engine) = TestEngine::shared("what_can_be_put_right_is_green") else { return };
    let world = engine.world();
    let recipe = two_services(world, "light");
    let optional = Wrong::LacksFlag("--no-domain-checks".to_owned());
    for (number, wrong) in (1..).zip([
        &[Wrong::EnvRewritten, Wrong::JsonNoise, Wrong::LsStatusFata, optional][..],
        // It spells its help in another way, and takes no backups; cc-ci does.
        &[Wrong::OldVersion],
    ]) {
        world.abra().does(wrong);
        let end = call(world, &recipe, number).run().expect(GREEN);
        if wrong.contains(&Wrong::EnvRewritten) {
            assert!(end.stderr.contains("TIMEOUT") && end.stderr.contains("TYPE"), "{}", end.stderr);
        }
        nothing_left(&engine, None);
    }
}

#[test]
fn an_abra_that_lacks_what_is_needed_is_refused_before_anything_is_changed() {
    let test = "an_abra_that_lacks_what_is_needed_is_refused_before_anything_is_changed";
    let Some(engine) = TestEngine::shared(test) else { return };
    let world = engine.world();
    let recipe = light(world, "light");
    for flag in ["--chaos", "--no-converge-checks", "--no-input"] {
        let abra = world.abra();
        abra.does(&[Wrong::LacksFlag(flag.to_owned())]);
        let end = call(world, &recipe, 1).run().expect(REFUSED);
        assert!(end.stderr.contains(flag) && end.stderr.contains("0.11.0"), "{}", end.stderr);
        assert!(end.stderr.contains("hint: "), "{}", end.stderr);
        let calls = abra.calls();
        assert!(!calls.iter().any(|call| call.is("app new") && is_work(call)), "{calls:?}");
    }
    nothing_left(&engine, None);
}
