//! The commands over a real Swarm: what they tell apart, what they change, and what they leave alone.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use cc_ci_core::names::Domain;
use cc_ci_tests::World;
use cc_ci_tests::engine::{TestEngine, until};
use serde_json::Value;

use crate::orphans::orphan;

/// The `.env` of an app on one of abra's servers.
fn env_file(world: &World, server: &str, domain: &str) -> PathBuf {
    let directory = world.abra_dir().join("servers").join(server);
    fs::create_dir_all(&directory).expect("abra's tree");
    let path = directory.join(format!("{domain}.env"));
    fs::write(&path, "TYPE=x\n").expect("an .env file");
    path
}

fn of<'j>(list: &'j Value, domain: &Domain) -> &'j Value {
    let found = list.as_array().unwrap().iter().find(|entry| entry["domain"] == domain.as_str());
    found.unwrap_or_else(|| panic!("no {domain} in {list:#}"))
}

#[test]
fn who_is_live_is_shown_and_left_and_the_rest_is_reaped() {
    let Some(engine) = TestEngine::shared("who_is_live_is_shown_and_left_and_the_rest_is_reaped") else {
        return;
    };
    let world = engine.world();
    let [left, live] = [1, 2].map(|number| orphan(&engine, &world.domain("app", number)));
    // Its volume is made with its container.
    until("the app runs", || engine.running(&format!("{}_app", left.stack())) == 1);
    let env = env_file(world, "default", left.as_str());
    let elsewhere = env_file(world, "elsewhere", left.as_str());
    let gate = world.gate("held");
    let holder = world.cc_ci(["with-lock", live.as_str(), "--", "sh", "-c", &gate.script()]).start();
    gate.wait();

    let audit = world.cc_ci(["audit", "--format", "json"]).run().expect(4).json();
    assert_eq!(of(&audit["apps"], &left)["state"], "left");
    assert_eq!(of(&audit["apps"], &live)["state"], "live");
    assert_eq!(audit["apps"].as_array().unwrap().len(), 2, "no bystander: {audit:#}");

    let status = world.cc_ci(["status", "--format", "json"]).run().expect(0).json();
    assert!(status["engine"].as_str().unwrap().starts_with("abra: Docker Swarm at unix://"), "{status:#}");
    let message = of(&status["live"], &live);
    assert_eq!(
        (&message["phase"], &message["holder"]),
        (&"with-lock".into(), &holder.pid().into()),
        "{message:#}"
    );
    let exists = &of(&status["left"], &left)["exists"];
    for kind in ["service", "volume", "secret", "config", "env_file"] {
        assert_eq!(exists[kind], 1, "{kind}: {exists:#}");
    }
    assert!(exists["network"].is_u64(), "{exists:#}");

    let locks = world.cc_ci(["locks"]).run().expect(0);
    assert!(locks.stdout.contains(&format!("{live}: held by pid {}", holder.pid())), "{}", locks.stdout);

    let dry = world.cc_ci(["janitor", "--dry-run", "--format", "json"]).run().expect(4).json();
    assert_eq!(of(&dry["findings"], &left)["decision"], "would_reap");
    assert!(env.exists() && !world.lock_file(&left).exists());

    let report = world.cc_ci(["janitor", "--format", "json"]).run().expect(0).json();
    assert_eq!(of(&report["findings"], &left)["decision"], "reaped");
    assert_eq!(of(&report["findings"], &live)["decision"], "live");
    assert!(!env.exists() && !world.lock_file(&left).exists());
    assert!(elsewhere.exists(), "another engine's app");
    let stacks = |domain: &Domain| {
        let stack = domain.stack();
        engine.left().iter().filter(|object| stack.prefixes(&object.name)).count()
    };
    assert_eq!(stacks(&left), 0);
    assert!(stacks(&live) > 0, "a live app was removed");

    gate.open();
    holder.wait().expect(0);
    world.cc_ci(["janitor"]).run().expect(0);
    assert_eq!(world.cc_ci(["audit"]).run().expect(0).stdout, "nothing exists\n");
    let status = world.cc_ci(["status"]).run().expect(0);
    assert!(status.stdout.contains("nothing goes on"), "{}", status.stdout);
}

/// A stopped app has no object that says by its label whose it is: only its `.env` does (I12).
#[test]
fn what_another_apps_env_file_claims_by_its_name_is_not_the_run_apps() {
    let Some(engine) =
        TestEngine::shared("what_another_apps_env_file_claims_by_its_name_is_not_the_run_apps")
    else {
        return;
    };
    let world = engine.world();
    let run_app = world.domain("app", 1);
    let longer: Domain = format!("{run_app}.uk").parse().unwrap();
    let [ours, theirs] = [&run_app, &longer].map(|domain| format!("{}_key_v1", domain.stack()));
    for secret in [&ours, &theirs] {
        engine.docker_with(["secret", "create", secret, "-"], "secret");
    }
    let env = env_file(world, "elsewhere", longer.as_str());
    world.cc_ci(["janitor"]).run().expect(0);
    let names: Vec<String> =
        engine.left().into_iter().filter(|left| left.kind == "secret").map(|left| left.name).collect();
    assert_eq!(names, [theirs.as_str()]);
    assert!(env.exists());
    // The test can fail: with the .env file, whose the secret is goes too.
    fs::remove_file(env).unwrap();
    world.cc_ci(["janitor"]).run().expect(0);
    assert!(!engine.left().iter().any(|left| left.name == theirs), "by its name it is the run app's now");
}

#[test]
fn another_lock_directory_is_told_and_changes_nothing() {
    let Some(engine) = TestEngine::shared("another_lock_directory_is_told_and_changes_nothing") else {
        return;
    };
    let world = engine.world();
    world.cc_ci(["janitor"]).run().expect(0);
    let left = orphan(&engine, &world.domain("app", 1));
    let other = world.path().join("other");
    fs::create_dir(&other).unwrap();
    let before = engine.left().len();
    let end = world.cc_ci(["janitor"]).env("CCCI_APP_LOCK_DIR", &other).run().expect(2);
    let hint = format!("CCCI_APP_LOCK_DIR={}", world.locks().display());
    assert!(end.stderr.contains("another lock directory") && end.stderr.contains(&hint), "{}", end.stderr);
    assert_eq!(engine.left().len(), before);
    let doctor = world.cc_ci(["doctor"]).env("CCCI_APP_LOCK_DIR", &other);
    let end = world.with_quiet_abra(doctor).run().expect(1);
    assert!(end.stdout.contains("lock space: it belongs to another lock directory"), "{}", end.stdout);
    assert!(end.stdout.contains(&hint), "{}", end.stdout);
    let report = world.cc_ci(["janitor", "--format", "json"]).run().expect(0).json();
    assert_eq!(of(&report["findings"], &left)["decision"], "reaped");
}

#[test]
fn the_doctor_finds_a_swarm_that_is_well() {
    let Some(engine) = TestEngine::shared("the_doctor_finds_a_swarm_that_is_well") else { return };
    let world = engine.world();
    world.cc_ci(["janitor"]).run().expect(0);
    let end = world.with_quiet_abra(world.cc_ci(["doctor", "--format", "json"])).run();
    let message = end.json();
    let mut facts = String::new();
    for check in message["checks"].as_array().unwrap() {
        for problem in check["problems"].as_array().unwrap() {
            // The disk of whoever runs the tests is no subject of theirs.
            assert!(problem["problem"].as_str().unwrap().contains("nearly full"), "{check:#}");
        }
        let name = check["name"].as_str().unwrap();
        for fact in check["facts"].as_array().unwrap() {
            writeln!(facts, "{name}: {}", fact.as_str().unwrap()).unwrap();
        }
    }
    let version = engine.docker(["version", "--format", "{{.Server.Version}}"]);
    let node = engine.docker(["node", "ls", "--format", "{{.Hostname}}"]);
    for fact in [
        format!("engine: Docker {version}, API 1."),
        format!("swarm: managed from here; this node, {node}, takes tasks"),
        "network proxy: overlay, attachable".to_owned(),
        format!("lock space: ours: {}", world.locks().display()),
        "abra: abra version 0.10.0".to_owned(),
    ] {
        assert!(facts.contains(&fact), "{fact}: {facts}");
    }
}

#[test]
fn auto_finds_the_swarm() {
    let Some(engine) = TestEngine::shared("auto_finds_the_swarm") else { return };
    let world = engine.world();
    let left = orphan(&engine, &world.domain("app", 1));
    let auto = |args: &[&str]| world.with_quiet_abra(world.cc_ci(args).env("CCCI_EXECUTOR", "auto"));
    let end = auto(&["janitor"]).run().expect(0);
    assert!(end.stderr.starts_with("executor: abra (abra is in PATH, and the engine at "), "{}", end.stderr);
    assert!(end.stdout.contains(&format!("{left}: orphan, reaped")), "{}", end.stdout);
}
