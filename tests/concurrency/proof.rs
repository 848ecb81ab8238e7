//! What is green is proved, and what is not is said: tests that do not run, restores of data that was never gone.

use std::fs;
use std::path::Path;

use cc_ci_tests::{CcCi, Recipe, World, unconfined};
use serde_json::Value;

fn call(world: &World, recipe: &Recipe) -> CcCi {
    world.cc_ci(["run", "--format", "json", "--pr", "1"]).arg(recipe.path())
}

#[track_caller]
fn run(world: &World, recipe: &Recipe, code: i32) -> Value {
    let record = call(world, recipe).run().expect(code).json();
    world.assert_empty();
    record
}

fn tier<'r>(record: &'r Value, name: &str) -> &'r Value {
    record["tiers"].as_array().unwrap().iter().find(|tier| tier["name"] == name).unwrap()
}

fn steps(record: &Value, of: &str) -> Vec<String> {
    let steps = tier(record, of)["steps"].as_array().unwrap().iter();
    steps.map(|step| format!("{} {}", step["name"], step["status"]).replace('"', "")).collect()
}

/// The command that says what is wrong in it, as a person can copy it.
fn check(recipe: &Path) -> String {
    format!("cc-ci recipe check {}", fs::canonicalize(recipe).unwrap().display())
}

#[test]
fn a_test_that_cannot_run_is_red_by_its_name() {
    for (name, text, mode, why) in [
        ("custom-lost", "#!/bin/sh\nexit 0\n", 0o644, "it is not executable"),
        ("custom-crlf", "#!/bin/sh\r\nexit 0\r\n", 0o755, "carriage returns"),
        ("custom-plain", "exit 0\n", 0o755, "it has no #! line"),
    ] {
        let world = World::new();
        let recipe = world.recipe("plain");
        recipe.write(&format!("tests/{name}"), text);
        let path = recipe.path().join("tests").join(name);
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        recipe.commit();
        let record = run(&world, &recipe, 1);
        let custom = tier(&record, "custom");
        let reason = custom["reason"].as_str().unwrap();
        assert_eq!(custom["status"], "failed", "{record:#}");
        assert!(reason.starts_with(&format!("recipe/{name} failed")) && reason.contains(why), "{reason}");
        assert!(custom["steps"][0]["log"].is_null(), "it has none: {custom:#}");
        assert_eq!(record["digest"]["next"], serde_json::json!([check(recipe.path())]));
    }
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.write("tests/install_steps.sh", "echo\n").commit();
    let record = run(&world, &recipe, 1);
    let reason = tier(&record, "install")["reason"].as_str().unwrap();
    assert!(reason.contains("install_steps.sh") && reason.contains("it is not executable"), "{reason}");
    assert_eq!(record["digest"]["next"], serde_json::json!([check(recipe.path())]));
}

#[test]
fn tests_that_are_not_in_the_commit_are_red() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.write("tests", "#!/bin/sh\n").commit();
    let record = run(&world, &recipe, 1);
    assert!(record["errors"].to_string().contains("no directory of tests"), "{record:#}");
    let fetch = &record["timeline"][0];
    assert_eq!((&fetch["name"], &fetch["failed"]), (&"fetch".into(), &true.into()), "{record:#}");
    let other = world.recipe("other");
    other.commit();
    let link = format!("160000,{},tests/more", "1".repeat(40));
    other.git(["update-index", "--add", "--cacheinfo", &link]);
    other.git(["commit", "-q", "-m", "a submodule"]);
    let record = run(&world, &other, 1);
    assert!(record["errors"].to_string().contains("tests/more is a submodule"), "{record:#}");
}

#[test]
fn an_operators_test_that_cannot_run_is_no_fault_of_the_recipe() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    let with_tests = |tests: &str| {
        let run = world.cc_ci(["run", "--format", "json", "--pr", "1", "--tests-dir"]);
        let end = run.arg(world.path().join(tests)).arg(recipe.path()).run().expect(2);
        assert!(end.stderr.contains("hint: "), "{}", end.stderr);
        end.json()["errors"].to_string()
    };
    let errors = with_tests("nowhere");
    assert!(errors.contains("is no directory of tests"), "{errors}");
    fs::create_dir_all(world.path().join("operator/plain")).unwrap();
    fs::write(world.path().join("operator/plain/custom-lost"), "#!/bin/sh\n").unwrap();
    let errors = with_tests("operator");
    assert!(errors.contains("operator/custom-lost: it is not executable"), "{errors}");
    world.assert_empty();
}

#[test]
fn tests_that_all_skip_themselves_prove_nothing() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.script("tests/custom-one", "exit 77").script("tests/custom-two", "exit 77").commit();
    let record = run(&world, &recipe, 0);
    let custom = tier(&record, "custom");
    assert_eq!(
        (&custom["status"], &custom["reason"]),
        (&"skipped".into(), &"every test skipped itself".into())
    );
}

#[test]
fn what_a_change_test_changes_a_restore_brings_back() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    let alone = run(&world, &recipe, 0);
    let reason = tier(&alone, "restore")["reason"].as_str().unwrap();
    assert!(reason.contains("proved with cc-ci's own files"), "{reason}");
    let note = "\"$CCCI_STATE_DIR/note\"";
    recipe.script("tests/backup-note", &format!("echo kept > {note}"));
    recipe.script("tests/change-note", &format!("[ \"$CCCI_TIER\" = restore ] && echo lost > {note}"));
    // It is no volume, so nothing brings it back.
    recipe.script("tests/restore-note", &format!("grep -qx kept {note}")).commit();
    let record = run(&world, &recipe, 1);
    let steps = steps(&record, "restore");
    let place =
        |wanted: &str| steps.iter().position(|step| step == wanted).unwrap_or_else(|| panic!("{steps:?}"));
    assert!(place("change passed") < place("recipe/change-note passed"));
    assert!(place("recipe/change-note passed") < place("restore passed"));
    assert!(place("restore passed") < place("recipe/restore-note failed"));
}

#[test]
fn what_a_release_kept_in_a_volume_that_nothing_mounts_any_more_is_not_proved() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.compose("1", "").release("1.0.0+1");
    recipe.compose("2", "");
    let compose = fs::read_to_string(recipe.path().join("compose.yml")).unwrap();
    let moved = compose.replace("- data:/data", "- store:/data").replace("\n  data:\n", "\n  store:\n");
    recipe.write("compose.yml", &moved).commit();
    let record = run(&world, &recipe, 0);
    let reason = tier(&record, "upgrade")["reason"].as_str().unwrap();
    assert!(reason.starts_with("no service mounts ") && reason.contains("_data any more"), "{reason}");
    assert!(steps(&record, "upgrade").contains(&"generic/data skipped".to_owned()), "{record:#}");
    assert_eq!(record["level"], 3, "{record:#}");
}

/// A recipe whose service makes the directory `kept` in its volume, with these labels beside `backupbot.backup`; `$$DATA` is
/// the volume.
fn backed_up(world: &World, labels: &[&str]) -> Recipe {
    let recipe = world.recipe("plain");
    recipe.compose("1", "environment:\n        DATA: ${CCCI_VOLUME_DATA}\n");
    let compose = fs::read_to_string(recipe.path().join("compose.yml")).unwrap();
    let labels = labels.iter().map(|label| format!("        - '{label}'\n")).collect::<Vec<_>>().concat();
    let compose = compose.replace("      labels:\n", &format!("      labels:\n{labels}"));
    let compose =
        compose.replace("command: [", "command: [sh, -c, 'mkdir -p \"$$DATA/kept\"; exec \"$$@\"', sh, ");
    recipe.write("compose.yml", &compose).commit();
    recipe
}

#[test]
fn a_backup_rule_whose_path_is_not_there_is_red() {
    let world = World::new();
    let path = "backupbot.backup.volumes.data.path=kept,dump";
    let record = run(&world, &backed_up(&world, &[path]), 1);
    let backup = tier(&record, "backup");
    let reason = backup["reason"].as_str().unwrap();
    assert!(reason.contains("dump: nothing is at this path of the backup"), "{reason}");
    assert_eq!(tier(&record, "restore")["status"], "not_run");
    // A hook may make it, and take it away again.
    let hooks = [
        "backupbot.backup.pre-hook=echo 1 > \"$$DATA/dump\"",
        "backupbot.backup.post-hook=rm \"$$DATA/dump\"",
    ];
    let record = run(&world, &backed_up(&world, &[path, hooks[0], hooks[1]]), 0);
    assert_eq!(tier(&record, "backup")["status"], "passed");
}

#[test]
fn what_a_backup_takes_is_proved_where_it_takes_it_and_nothing_else_comes_back() {
    let world = World::new();
    let restored = "[ -e \"$$DATA/kept/.cc-ci-probe\" ] && [ \"$$(cat \"$$DATA/beside\")\" = since ]";
    let record = run(
        &world,
        &backed_up(
            &world,
            &[
                "backupbot.backup.volumes.data.path=kept/",
                "backupbot.backup.pre-hook=echo before > \"$$DATA/beside\"",
                "backupbot.restore.pre-hook=rm -r \"$$DATA/kept\"; echo since > \"$$DATA/beside\"",
                &format!("backupbot.restore.post-hook={restored}"),
            ],
        ),
        0,
    );
    assert!(steps(&record, "restore").contains(&"generic/data passed".to_owned()), "{record:#}");
    let reason = tier(&record, "restore")["reason"].as_str().unwrap();
    assert!(reason.contains("proved with cc-ci's own files"), "{reason}");
    // What was restored and is another then.
    let spoilt = "backupbot.restore.post-hook=echo spoilt > \"$$DATA/kept/.cc-ci-probe\"";
    let record = run(&world, &backed_up(&world, &["backupbot.backup.volumes.data.path=kept", spoilt]), 1);
    let reason = tier(&record, "restore")["reason"].as_str().unwrap();
    assert!(reason.contains("kept/ of volume") && reason.contains("holds other data"), "{reason}");
}

#[test]
fn a_directory_that_hooks_of_the_backup_make_anew_or_take_away_has_lost_nothing() {
    let anew = "rm -r \"$$DATA/kept\"; mkdir \"$$DATA/kept\"; echo 1 > \"$$DATA/kept/dump\"";
    for hook in [format!("pre-hook={anew}"), "post-hook=rm -r \"$$DATA/kept\"".to_owned()] {
        let world = World::new();
        let labels = ["backupbot.backup.volumes.data.path=kept", &format!("backupbot.backup.{hook}")];
        let record = run(&world, &backed_up(&world, &labels), 0);
        let restore = tier(&record, "restore");
        let reason = restore["reason"].as_str().unwrap();
        assert!(restore["status"] == "skipped" && reason.starts_with("nothing was proved"), "{restore:#}");
    }
    // All of a volume is all of it.
    let world = World::new();
    let emptied = "backupbot.backup.post-hook=rm \"$$DATA/.cc-ci-probe\"";
    let restored = "backupbot.restore.post-hook=rm \"$$DATA/.cc-ci-probe\"";
    let record = run(&world, &backed_up(&world, &[emptied, restored]), 1);
    let reason = tier(&record, "restore")["reason"].as_str().unwrap();
    assert!(reason.contains("lost its data"), "{reason}");
}

#[test]
fn a_restore_of_files_alone_is_proved_by_tests_or_not_at_all() {
    let world = World::new();
    let labels =
        ["backupbot.backup.volumes.data.path=dump", "backupbot.backup.pre-hook=echo 1 > \"$$DATA/dump\""];
    let recipe = backed_up(&world, &labels);
    let record = run(&world, &recipe, 0);
    let restore = tier(&record, "restore");
    let reason = restore["reason"].as_str().unwrap();
    assert!(restore["status"] == "skipped" && reason.starts_with("nothing was proved"), "{restore:#}");
    recipe.script("tests/change-nothing", "").script("tests/restore-nothing", "").commit();
    let record = run(&world, &recipe, 0);
    assert_eq!(tier(&record, "restore")["status"], "passed");
}

#[test]
fn what_is_not_the_apps_own_needs_the_operators_word() {
    let world = World::new();
    let recipe = world.recipe("plain");
    let compose = fs::read_to_string(recipe.path().join("compose.yml")).unwrap();
    let asks = "    cap_add: [NET_ADMIN]\n    secrets:\n      - key\n    ports: ['8080:80']\n";
    recipe.write("compose.yml", &compose.replace("    secrets:\n      - key\n", asks)).commit();
    let record = run(&world, &recipe, 1);
    let reason = tier(&record, "install")["reason"].as_str().unwrap();
    for says in
        ["publishes the host's port 8080", "[recipes.plain] allow = [\"cap_add=NET_ADMIN\",\"port=8080\"]"]
    {
        assert!(reason.contains(says), "{reason}");
    }
    // The line as it was told.
    let config = world.path().join("allow.toml");
    let allow = reason.split("allow = ").nth(1).unwrap().split(": service").next().unwrap();
    fs::write(&config, unconfined(format!("[recipes.plain]\nallow = {allow}\n"))).unwrap();
    let record = call(&world, &recipe).arg("--config").arg(&config).run().expect(0).json();
    assert_eq!(record["granted"], serde_json::json!(["cap_add=NET_ADMIN", "port=8080"]));
    let record = call(&world, &recipe).arg("--report-only").run().expect(0).json();
    let warnings = record["warnings"].to_string();
    assert!(
        warnings.contains("but for --report-only: service app: publishes the host's port 8080"),
        "{warnings}"
    );
    fs::write(&config, unconfined("[recipes.plain]\nallow = [\"everything=1\"]\n")).unwrap();
    let end = call(&world, &recipe).arg("--config").arg(&config).run().expect(2);
    assert!(end.stderr.contains("is no privilege"), "{}", end.stderr);
    world.assert_empty();
}
