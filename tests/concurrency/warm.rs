//! `cc-ci warm reconcile`: warm apps come back to their baseline, and nobody else touches them.

use std::fs;

use cc_ci_tests::unconfined;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::paused_runs::Foreign;
use crate::warmed::Warmed;

#[test]
fn an_app_with_an_env_file_only_is_deployed_and_then_left_alone() {
    let warmed = Warmed::undeployed("");
    let env = fs::read(warmed.env_file()).unwrap();
    let message = warmed.reconciled();
    assert_eq!((&message["outcome"], &message["version"]), (&json!("deployed"), &json!("1.0.0+1")));
    assert_eq!(warmed.answer(), "version 1");
    let whole = warmed.snapshot_of(&warmed.local_root());
    assert_eq!(warmed.reconciled()["outcome"], "at_baseline");
    assert_eq!(warmed.snapshot_of(&warmed.local_root()), whole, "nothing was touched");
    assert_eq!(fs::read(warmed.env_file()).unwrap(), env, "the canonical .env is never written");
}

#[test]
fn after_a_kill_the_janitor_touches_nothing_and_reconcile_brings_the_app_back() {
    let warmed = Warmed::new();
    let before = warmed.persistent();
    warmed.killed();
    let whole = warmed.snapshot_of(&warmed.local_root());
    // It keeps no run directory but those that hold residue, and opens no lock of a warm app.
    let holder = Foreign::lock(&warmed.lock_file(&warmed.domain));
    let janitor = warmed.call(["janitor"]).run().expect(0);
    assert!(!janitor.stdout.contains(warmed.domain.as_str()), "{}", janitor.stdout);
    holder.release();
    assert_eq!(warmed.snapshot_of(&warmed.local_root()), whole);
    warmed.call(["audit"]).run().expect(0);
    let status = warmed.call(["status", "--format", "json"]).run().expect(0).json();
    assert_eq!(status["warm"], json!([{ "domain": warmed.domain.as_str(), "by": ["dead"] }]));
    let human = warmed.call(["status"]).run().expect(0).stdout;
    assert!(human.contains(&format!("cc-ci warm reconcile {}", warmed.domain)), "{human}");
    let message = warmed.reconciled();
    assert_eq!(message["outcome"], "restored");
    let removed = message["removed"].to_string();
    assert!(removed.contains("_extra") && removed.contains("_motd_v1"), "{removed}");
    assert_eq!(warmed.persistent(), before);
    assert_eq!(warmed.answer(), "version 1");
    assert!(!warmed.has_tree("dead"));
    let status = warmed.call(["status", "--format", "json"]).run().expect(0).json();
    assert_eq!(status["warm"], json!([]));
    assert_eq!(warmed.reconciled()["outcome"], "at_baseline");
}

#[test]
fn a_reconcile_that_is_killed_is_finished_by_the_next() {
    let sick = std::env::temp_dir().join(format!("cc-ci-warm-sick-{}", std::process::id()));
    let warmed = Warmed::with(&format!("environment:\n        UNHEALTHY_WHILE: {}", sick.display()));
    let before = warmed.persistent();
    warmed.killed();
    fs::write(&sick, "").unwrap();
    let mut first = warmed.reconcile().start();
    first.wait_for("is restored to");
    first.signal(Signal::SIGKILL);
    first.wait().expect(137);
    warmed.children_are_gone();
    let mut second = warmed.reconcile().start();
    second.wait_for("is restored to");
    second.signal(Signal::SIGTERM);
    let message = second.wait().expect(4).json();
    let app = &message["apps"][0];
    assert_eq!(app["outcome"], "failed", "{message}");
    let run = app["run_id"].as_str().unwrap();
    assert!(warmed.has_tree(run) && warmed.record(run)["cancelled_by"] == "term", "{message}");
    assert!(
        app["hint"].to_string().contains(&format!("cc-ci warm reconcile {}", warmed.domain)),
        "{message}"
    );
    fs::remove_file(&sick).unwrap();
    let message = warmed.reconciled();
    assert_eq!(message["outcome"], "restored");
    // Whether its health came back before it was looked at is a matter of time.
    let reasons = message["reasons"].as_array().unwrap();
    let ended = |reason: &&Value| reason.as_str().unwrap().ends_with("ended in the middle of its work");
    assert_eq!(reasons.iter().filter(ended).count(), 3, "{message}");
    assert_eq!(warmed.persistent(), before);
    let status = warmed.call(["status", "--format", "json"]).run().expect(0).json();
    assert_eq!(status["warm"], json!([]), "no tree is left");
}

#[test]
fn a_record_that_knows_no_before_costs_the_app_nothing() {
    for forged in [json!([]), json!([{ "kind": "volume", "name": "x" }]), json!("what"), Value::Null] {
        let warmed = Warmed::new();
        warmed.killed();
        let mut record = warmed.record("dead");
        record["receipt"]["before"] = forged;
        fs::write(warmed.runs().join("dead/run.json"), record.to_string()).unwrap();
        // One that was there before, and that only the record could have told.
        let theirs = warmed.app("volumes").join(format!("{}_of_the_operator", warmed.stack()));
        fs::create_dir(&theirs).unwrap();
        assert_eq!(warmed.reconciled()["outcome"], "restored");
        assert!(
            theirs.exists()
                && warmed.app("volumes").join(format!("{}_data/precious", warmed.stack())).exists()
        );
        assert_eq!(warmed.answer(), "version 1");
    }
}

#[test]
fn what_the_canonical_version_declares_is_never_removed() {
    let warmed = Warmed::new();
    warmed.killed();
    let mut record = warmed.record("dead");
    record["receipt"]["before"] = json!([{ "kind": "service", "name": "another" }]);
    fs::write(warmed.runs().join("dead/run.json"), record.to_string()).unwrap();
    assert_eq!(warmed.reconciled()["outcome"], "restored");
    assert!(warmed.app("volumes").join(format!("{}_data/precious", warmed.stack())).exists());
    assert_eq!(fs::read_dir(warmed.app("secrets")).unwrap().count(), 1, "the key stays, the added one goes");
    assert_eq!(warmed.answer(), "version 1");
}

#[test]
fn a_crashed_service_is_restored() {
    let warmed = Warmed::new();
    let before = warmed.persistent();
    warmed.kill_everything();
    let planned =
        warmed.call(["warm", "reconcile", "--dry-run", "--format", "json", "blog"]).run().expect(0).json();
    assert_eq!(planned["apps"][0]["outcome"], "would_restore", "{planned}");
    assert!(warmed.processes().is_empty(), "a dry run started something");
    let message = warmed.reconciled();
    assert_eq!(
        (&message["outcome"], &message["reasons"]),
        (&json!("restored"), &json!(["not healthy: app"]))
    );
    assert_eq!(warmed.persistent(), before);
}

#[test]
fn another_canonical_version_is_deployed_in_place() {
    let warmed = Warmed::new();
    warmed.release("2", "1.1.0+1", "");
    let message = warmed.reconciled();
    assert_eq!((&message["outcome"], &message["version"]), (&json!("restored"), &json!("1.1.0+1")));
    assert_eq!(message["reasons"], json!(["it is of version 1.0.0+1, not 1.1.0+1"]));
    assert_eq!(warmed.answer(), "version 2");
    warmed.configure("warm_version = \"1.0.0+1\"");
    let planned = warmed.call(["warm", "reconcile", "--dry-run"]).run().expect(0).stdout;
    assert!(planned.contains("would be restored: it is of version 1.1.0+1, not 1.0.0+1"), "{planned}");
    assert_eq!(warmed.reconciled()["version"], "1.0.0+1");
    assert_eq!(warmed.answer(), "version 1");
    warmed.configure("warm_version = \"3.0.0+1\"");
    let end = warmed.reconcile().run().expect(2);
    assert!(end.stdout.contains("its releases are 1.1.0+1, 1.0.0+1"), "{}", end.stdout);
}

#[test]
fn a_held_lock_is_75_and_does_not_hide_the_next_app() {
    let warmed = Warmed::new();
    let other = warmed.recipe("wiki");
    other.release("1.0.0+1");
    let wiki = format!("wiki.{}", warmed.suffix());
    let more = format!("[recipes.wiki]\nwarm = \"{wiki}\"\nsource = {:?}\n", other.path());
    warmed.configure(&more);
    let env = warmed.local_root().join(format!("servers/local/{wiki}.env"));
    fs::write(env, format!("DOMAIN={wiki}\nSECRET_KEY_VERSION=v1\n")).unwrap();
    let holder = Foreign::lock(&warmed.lock_file(&warmed.domain));
    let message = warmed.reconcile().env("CCCI_LOCK_TIMEOUT", "1s").run().expect(75).json();
    let outcomes: Vec<&str> =
        message["apps"].as_array().unwrap().iter().filter_map(|app| app["outcome"].as_str()).collect();
    assert_eq!(outcomes, ["failed", "deployed"]);
    holder.release();
    let message = warmed.call(["warm", "reconcile", "--format", "json", &wiki]).run().expect(0).json();
    assert_eq!(message["apps"].as_array().unwrap().len(), 1);
}

#[test]
fn wrong_calls_and_configurations_are_refused_with_a_way_out() {
    let warmed = Warmed::undeployed("");
    let end = warmed.call(["warm", "reconcile", "nobody"]).run().expect(2);
    assert!(end.stderr.contains(warmed.domain.as_str()), "{}", end.stderr);
    let end = warmed.cc_ci(["warm", "reconcile"]).env("CCCI_CONFIG", "/dev/null").run().expect(2);
    assert!(end.stderr.contains("has no warm app"), "{}", end.stderr);
    fs::remove_file(warmed.env_file()).unwrap();
    let end = warmed.call(["warm", "reconcile"]).run().expect(2);
    assert!(end.stdout.contains("abra app new blog"), "{}", end.stdout);
    let config = warmed.path().join("config.toml");
    let run_app = warmed.domain("blog", 1);
    for (text, says) in [
        (format!("[recipes.blog]\nwarm = \"{run_app}\"\n"), "any janitor would remove it"),
        (
            format!("[recipes.a]\nwarm = \"{0}\"\n[recipes.b]\nwarm = \"{0}\"\n", warmed.domain),
            "is the warm app of a",
        ),
        ("[recipes.blog]\nwarm_version = \"1.0.0+1\"\n".to_owned(), "no warm app"),
        ("[recipes.blog]\nwarm = \"a.b\"\nsource = \"/srv/other\"\n".to_owned(), "is of the recipe other"),
        ("[recipes.blog]\nwarm = \"a.b\"\nwarm_version = \"1\"\n".to_owned(), "1.2.0+1.27.0"),
    ] {
        fs::write(&config, unconfined(text)).unwrap();
        // A janitor that could take a warm app for a run app must not begin either.
        let end = warmed.call(["janitor"]).run().expect(2);
        assert!(end.stderr.contains(says), "{says}: {}", end.stderr);
    }
    fs::write(
        &config,
        unconfined(format!("protect = [\"{run_app}\"]\n[recipes.blog]\nwarm = \"{run_app}\"\n")),
    )
    .unwrap();
    warmed.call(["janitor"]).run().expect(0);
}

/// The variable `GREETING` of the app's process.
fn greeting(warmed: &Warmed) -> Option<String> {
    warmed.processes().iter().find_map(|found| {
        let environment = fs::read(format!("/proc/{}/environ", found.process.pid)).ok()?;
        let variables = environment.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        variables.into_iter().find_map(|variable| variable.strip_prefix("GREETING=").map(str::to_owned))
    })
}

#[test]
fn a_release_that_needs_more_gets_its_variables_and_secrets_before_it_is_deployed() {
    let warmed = Warmed::new();
    let env = fs::read(warmed.env_file()).unwrap();
    let draft = warmed.draft("2", "1.1.0+1", "environment:\n        GREETING: ${GREETING}");
    let compose = fs::read_to_string(draft.path().join("compose.yml")).unwrap();
    let compose = compose.replace("      - key\n", "      - key\n      - extra\n").replace(
        "\nsecrets:\n",
        "\nsecrets:\n  extra:\n    external: true\n    name: ${STACK_NAME}_extra_${SECRET_EXTRA_VERSION}\n",
    );
    let sample = "TYPE=blog\nDOMAIN=x\nSECRET_KEY_VERSION=v1\nSECRET_EXTRA_VERSION=v1\nGREETING=hello\n";
    draft.write("compose.yml", &compose).write(".env.sample", sample).release("1.1.0+1");
    let end = warmed.reconcile().run().expect(0);
    assert!(end.stderr.contains("lacks variables of 1.1.0+1"), "{}", end.stderr);
    assert_eq!(end.json()["apps"][0]["version"], "1.1.0+1");
    assert_eq!(greeting(&warmed).as_deref(), Some("hello"));
    assert_eq!(fs::read_dir(warmed.app("secrets")).unwrap().count(), 2);
    assert_eq!(fs::read(warmed.env_file()).unwrap(), env, "the canonical .env is never written");
    assert_eq!(warmed.reconciled()["outcome"], "at_baseline");
    // The rollback of a quick run needs the same.
    warmed.rebase();
    warmed.fork.commit();
    let before = warmed.persistent();
    warmed.quick("green").run().expect(0);
    assert_eq!(warmed.persistent(), before);
    assert_eq!(greeting(&warmed).as_deref(), Some("hello"));
}

#[test]
fn a_release_that_cannot_be_deployed_is_told_before_the_app_is_touched() {
    let warmed = Warmed::new();
    let whole = warmed.snapshot_of(&warmed.local_root());
    let draft = warmed.draft("2", "1.1.0+1", "");
    let compose = fs::read_to_string(draft.path().join("compose.yml")).unwrap();
    // Somebody else's secret.
    let compose = compose.replace("${STACK_NAME}_key_${SECRET_KEY_VERSION}", "another_key");
    draft.write("compose.yml", &compose).release("1.1.0+1");
    let end = warmed.reconcile().run().expect(3);
    let message = end.json();
    assert_eq!(message["apps"][0]["outcome"], "failed", "{message}");
    assert!(message["apps"][0]["errors"].to_string().contains("1.1.0+1 can't be deployed to"), "{message}");
    assert!(message["apps"][0]["hint"].to_string().contains("[recipes.blog] warm_version"), "{message}");
    assert_eq!(warmed.snapshot_of(&warmed.local_root()), whole);
    assert!(!warmed.has_tree(message["apps"][0]["run_id"].as_str().unwrap()));
    warmed.configure("warm_version = \"1.0.0+1\"");
    assert_eq!(warmed.reconciled()["outcome"], "at_baseline");
}

#[test]
fn where_the_operator_replaced_serving_it_is_not_asked_of_the_warm_app() {
    let warmed = Warmed::undeployed("");
    let draft = warmed.draft("2", "1.1.0+1", "");
    let compose = fs::read_to_string(draft.path().join("compose.yml")).unwrap();
    // It has no page at all.
    let probe = compose.lines().find(|line| line.contains("command:")).unwrap();
    let compose =
        compose.replace(probe, "      command: [sleep, \"600\"]").replace("      health: /health\n", "");
    draft.write("compose.yml", &compose).release("1.1.0+1");
    let end = warmed.reconcile().run().expect(3);
    assert!(end.stdout.contains("no service has a port"), "{}", end.stdout);
    let tests = warmed.recipe_at(&warmed.path().join("tests/blog"));
    tests.script("upgrade.serving", "exit 1");
    let config = warmed.path().join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("tests_dir = {:?}\n{text}", warmed.path().join("tests"))).unwrap();
    assert_eq!(warmed.reconciled()["outcome"], "restored");
    assert_eq!(warmed.reconciled()["outcome"], "at_baseline");
}

#[test]
fn a_run_that_never_touched_the_app_leaves_it_to_its_operator() {
    let warmed = Warmed::new();
    warmed.change().commit();
    let holder = Foreign::lock(&warmed.lock_file(&warmed.domain));
    let mut run = warmed.quick("early").start();
    run.wait_for("in flight — waiting");
    run.signal(Signal::SIGKILL);
    run.wait().expect(137);
    holder.release();
    warmed.children_are_gone();
    assert!(warmed.has_tree("early"));
    let status = warmed.call(["status", "--format", "json"]).run().expect(0).json();
    assert_eq!(status["warm"], json!([]), "{status}");
    // Put down on purpose.
    warmed.kill_everything();
    fs::remove_dir_all(warmed.app("services")).unwrap();
    let end = warmed.quick("next").run().expect(2);
    assert!(end.stderr.contains("hint: deploy its baseline"), "{}", end.stderr);
    assert!(!warmed.has_tree("early") && !warmed.has_tree("next"));
    assert!(!warmed.app("services").exists());
}

#[test]
fn a_run_on_another_engine_says_nothing_of_this_ones_app() {
    let warmed = Warmed::new();
    warmed.killed();
    let mut record = warmed.record("dead");
    record["executor"] = json!("abra");
    fs::write(warmed.runs().join("dead/run.json"), record.to_string()).unwrap();
    let status = warmed.call(["status", "--format", "json"]).run().expect(0).json();
    assert_eq!(status["warm"], json!([]), "{status}");
    warmed.reconciled();
    assert!(warmed.has_tree("dead"));
}
