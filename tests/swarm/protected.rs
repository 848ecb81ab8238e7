//! Apps below the suffix that are no run apps (I5).

use std::fs;

use cc_ci_core::engine::Engine as _;
use cc_ci_core::names::Domain;
use cc_ci_tests::engine::{Bystanders, Object, TestEngine, until};
use cc_ci_tests::unconfined;

use crate::orphans::orphan;
use crate::support::{LIMIT, block_on, swarm};

#[test]
fn what_is_protected_or_no_run_app_is_left_beside_an_orphan() {
    let Some(engine) = TestEngine::shared("what_is_protected_or_no_run_app_is_left_beside_an_orphan") else {
        return;
    };
    let world = engine.world();
    let left = world.domain("app", 1);
    // By its name alone, it would be a run app.
    let protected = world.domain("app", 2);
    let foreign: Domain = format!("blog.{}", world.suffix()).parse().unwrap();
    for domain in [&left, &protected, &foreign] {
        orphan(&engine, domain);
        let service = format!("{}_app", domain.stack());
        until(&format!("{service} runs"), || engine.running(&service) == 1);
        fs::write(world.abra_dir().join(format!("servers/default/{domain}.env")), "TYPE=x\n").unwrap();
    }
    let config = world.path().join("protect.toml");
    fs::write(&config, unconfined(format!("protect = [\"{protected}\"]\n"))).unwrap();
    let theirs = |object: &Object| {
        [&protected, &foreign].iter().any(|domain| {
            let stack = domain.stack();
            stack.prefixes(&object.name) || object.stack.as_deref() == Some(stack.as_str())
        })
    };
    let kinds = |domain: &Domain| {
        let stack = domain.stack();
        let mut kinds: Vec<_> =
            engine.left().into_iter().filter(|object| stack.prefixes(&object.name)).collect();
        kinds.sort();
        kinds.into_iter().map(|object| object.kind).collect::<Vec<_>>()
    };
    let every = ["config", "container", "network", "secret", "service", "task", "volume"];
    for domain in [&protected, &foreign] {
        assert_eq!(kinds(domain), every, "{domain}");
    }
    let before = Bystanders::look_at(&engine, theirs);
    let files = world.snapshot_of(&world.abra_dir());

    for (command, code, list) in [("audit", 4, "apps"), ("janitor", 0, "findings")] {
        let call = world.cc_ci([command, "--format", "json"]).env("CCCI_CONFIG", &config);
        let message = call.run().expect(code);
        let list: Vec<_> =
            message.json()[list].as_array().unwrap().iter().map(|app| app["domain"].clone()).collect();
        assert_eq!(list, [left.as_str()], "{command}: {}", message.stdout);
    }
    assert_eq!(kinds(&left), Vec::<&str>::new());
    before.assert_same(&Bystanders::look_at(&engine, theirs));
    let mut now = files.clone();
    now.remove(&world.abra_dir().join(format!("servers/default/{left}.env")));
    assert_eq!(world.snapshot_of(&world.abra_dir()), now);
    assert!(files.len() > now.len(), "the orphan had a file");
    for domain in [&protected, &foreign] {
        assert!(!world.lock_file(domain).exists(), "the lock of {domain} was opened");
    }

    // The test can fail: only its protection kept the one, and only its name keeps the other.
    let report = world.cc_ci(["janitor", "--format", "json"]).run().expect(0).json();
    assert_eq!(report["findings"][0]["domain"], protected.as_str(), "{report:#}");
    assert_eq!(kinds(&protected), Vec::<&str>::new());
    assert_eq!(kinds(&foreign), every);
    block_on(swarm(&engine, world.suffix()).remove(&foreign, LIMIT)).expect("its owner removes it");
}
