//! What the stand-in does wrong, seen from outside: a test of how cc-ci takes it proves nothing if it does not happen.

use std::fs;

use cc_ci_core::names::Domain;
use cc_ci_tests::engine::{TestEngine, until};
use cc_ci_tests::stand_in::Wrong;
use cc_ci_tests::{Abra, World};

use crate::stand_in::make;

/// The app of a light recipe with a release behind its head, and the recipe's tree.
fn light(world: &World) -> (Abra<'_>, Domain, std::path::PathBuf) {
    let (abra, recipe) = (world.abra(), world.light("light"));
    recipe.release("1.0.0+1");
    recipe.write("later", "not released").commit();
    let tree = abra.fetch(&recipe);
    let domain: Domain = format!("light.{}", world.suffix()).parse().unwrap();
    make(world, "light", &domain);
    (abra, domain, tree)
}

fn head(tree: &std::path::Path) -> String {
    let message = std::process::Command::new("git").arg("-C").arg(tree).args(["rev-parse", "HEAD"]).output();
    String::from_utf8(message.unwrap().stdout).unwrap()
}

#[test]
fn a_deploy_goes_wrong_in_each_way() {
    let Some(engine) = TestEngine::shared("a_deploy_goes_wrong_in_each_way") else { return };
    let world = engine.world();
    let (abra, domain, tree) = light(world);
    let name = domain.as_str();
    let deploy = || abra.run(&["app", "deploy", "-n", "-C", "-c", "-f", name]);
    let services = || engine.left().iter().filter(|left| left.kind == "service").count();
    let env = || fs::read_to_string(world.abra_dir().join(format!("servers/default/{domain}.env"))).unwrap();
    let (before, untouched) = (head(&tree), env());

    for (wrong, code, says) in [
        (Wrong::R014, 1, "R014"),
        (Wrong::Unstaged, 1, "locally unstaged changes"),
        (Wrong::NonzeroAfterPartial, 1, "rejected"),
        (Wrong::ZeroAfterPartial, 0, "is deployed"),
        (Wrong::KilledHalfWay, 137, ""),
    ] {
        abra.does(std::slice::from_ref(&wrong));
        let ended = deploy().expect(code);
        assert!(ended.stderr.contains(says), "{wrong}: {}", ended.stderr);
        assert_eq!(services(), 0, "{wrong}: its only service is left out");
    }
    assert_eq!((head(&tree), env()), (before.clone(), untouched.clone()));

    abra.does(&[Wrong::ConvergeFata]);
    assert!(deploy().expect(1).stderr.contains("deploy failed"));
    assert_eq!(services(), 1);
    abra.does(&[Wrong::EnvRewritten]);
    deploy().expect(0);
    let rewritten = env();
    assert!(rewritten.contains("TYPE=light:1.0.0+1\n") && rewritten.contains("TIMEOUT=1\n"), "{rewritten}");
    assert_eq!(head(&tree), before);
    abra.does(&[Wrong::CheckoutMoved]);
    deploy().expect(0);
    assert_ne!(head(&tree), before);
    let moved = head(&tree);
    abra.does(&[Wrong::SecondAbra]);
    deploy().expect(0);
    assert!(tree.join("another-abra").exists());
    assert!(fs::read_to_string(tree.join("compose.yml")).unwrap().contains("another abra"));
    assert_ne!(head(&tree), moved);

    abra.does(&[]);
    let service = format!("{}_app", domain.stack());
    until("the app runs", || engine.running(&service) == 1);
    abra.run(&["app", "undeploy", "-n", name]).expect(0);
    abra.run(&["app", "remove", "-nf", name]).expect(0);
}

#[test]
fn what_it_says_goes_wrong_in_each_way() {
    let world = World::new();
    let (abra, recipe) = (world.abra(), world.light("light"));
    recipe.commit();
    abra.fetch(&recipe);
    abra.run(&["app", "new", "-nC", "light", "--server=default", "--domain=one.example.org"]).expect(0);
    let list = || abra.run(&["app", "ls", "-n", "-m"]);
    assert_eq!(list().expect(0).json()["default"]["appCount"], 1);
    abra.does(&[Wrong::JsonNoise]);
    let noisy = list().expect(0).stdout;
    assert!(noisy.starts_with("WARN ") && noisy.contains("\n{\"default\""), "{noisy}");
    abra.does(&[Wrong::LsStatusFata]);
    list().expect(0);
    let refused = abra.run(&["app", "ls", "-n", "-m", "-S"]).expect(1);
    assert!(refused.stderr.contains("FATA unable to resolve"), "{}", refused.stderr);

    let help = || abra.run(&["app", "deploy", "--help"]).expect(0).stdout;
    abra.does(&[]);
    for shown in ["  -C, --chaos", "  -c, --no-converge-checks", "  -n, --no-input"] {
        assert!(help().contains(shown), "{}", help());
    }
    abra.does(&[Wrong::LacksFlag("--chaos".to_owned())]);
    assert!(!help().contains("chaos"), "{}", help());
    let refused = abra.run(&["app", "deploy", "-n", "-C", "one.example.org"]).expect(1);
    assert!(refused.stderr.contains("unknown shorthand flag"), "{}", refused.stderr);
    abra.does(&[Wrong::OldVersion]);
    assert!(abra.run(&["--version"]).expect(0).stdout.contains("0.8.1"));
    assert!(help().contains("   --chaos, -C"), "{}", help());
    // One of many deploys can be meant.
    abra.does_at(&[(Wrong::R014, Some(3))]);
    for meant in [false, true, false] {
        let ended = abra.run(&["app", "deploy", "-n", "-C", "one.example.org"]);
        assert_eq!(ended.stderr.contains("R014"), meant, "{}", ended.stderr);
    }
}

#[test]
fn what_hangs_stays_until_it_is_killed() {
    let Some(engine) = TestEngine::shared("what_hangs_stays_until_it_is_killed") else { return };
    let world = engine.world();
    let (abra, domain, _) = light(world);
    abra.does(&[Wrong::Hangs]);
    std::thread::scope(|threads| {
        let hung = threads.spawn(|| abra.run(&["app", "deploy", "-n", "-C", "-c", domain.as_str()]));
        let call = abra.wait_for("hangs");
        let pid = nix::unistd::Pid::from_raw(call.pid.cast_signed());
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let child: i32 = children.trim().parse().unwrap();
        let child = nix::unistd::Pid::from_raw(child);
        cc_ci_tests::until("the child is in a session of its own", || {
            nix::unistd::getsid(Some(child)).is_ok_and(|session| session == child)
        });
        for pid in [pid, child] {
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        hung.join().unwrap().expect(137);
    });
    abra.does(&[]);
    let service = format!("{}_app", domain.stack());
    until("the app runs", || engine.running(&service) == 1);
    abra.run(&["app", "undeploy", "-n", domain.as_str()]).expect(0);
    abra.run(&["app", "remove", "-nf", domain.as_str()]).expect(0);
}
