//! The main job, through the built command: what is green, what is red, and where it says so.

use cc_ci_core::lifetime::Line;
use cc_ci_tests::{Ended, Recipe, World, executable, pipes, unconfined};
use serde_json::Value;

fn run(world: &World, recipe: &Recipe) -> Ended {
    world.cc_ci(["run", "--format", "json", "--pr", "1"]).arg(recipe.path()).run()
}

fn tier<'r>(record: &'r Value, name: &str) -> &'r Value {
    let mut tiers = record["tiers"].as_array().into_iter().flatten();
    tiers.find(|tier| tier["name"] == name).unwrap_or_else(|| panic!("no tier {name}: {record:#}"))
}

/// The status of each tier, in order.
fn statuses(record: &Value) -> Vec<&str> {
    record["tiers"].as_array().into_iter().flatten().filter_map(|tier| tier["status"].as_str()).collect()
}

#[test]
fn a_release_is_installed_once_and_upgraded_in_place_to_the_commit() {
    let world = World::new();
    let recipe = world.recipe("app");
    recipe.compose("1", "").release("1.0.0+1");
    recipe.compose("2", "").write(".env.sample", "TYPE=app\nDOMAIN=x\nSECRET_KEY_VERSION=v1\nNEW=value\n");
    recipe.commit();
    let end = run(&world, &recipe).expect(0);
    let record = end.json();
    assert_eq!(statuses(&record), ["passed", "passed", "passed", "passed", "skipped"]);
    assert_eq!(tier(&record, "install")["version"], "1.0.0+1");
    assert_eq!(record["deploy_count"], 1);
    assert!(end.stderr.contains("new variables, with their sample's values: NEW"), "{}", end.stderr);
    let receipt = &record["receipt"];
    assert_eq!(receipt["left"], serde_json::json!([]));
    assert!(!receipt["removed"].as_array().unwrap().is_empty(), "{receipt}");
    world.assert_empty();
}

#[test]
fn a_recipe_without_a_release_is_green_and_its_upgrade_skipped_with_the_reason() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    let record = run(&world, &recipe).expect(0).json();
    let upgrade = tier(&record, "upgrade");
    assert_eq!(upgrade["status"], "skipped");
    assert!(
        upgrade["reason"]
            .as_str()
            .unwrap()
            .contains("there is no previous release (the tested repository's own tags say so)"),
        "{upgrade}"
    );
    assert_eq!(world.record(record["run_id"].as_str().unwrap()), record, "stdout and run.json say the same");
    // One that was meant as a release is named, not passed over.
    recipe.git(["tag", "1.0.0+1"]);
    recipe.write("more", "").commit();
    let record = run(&world, &recipe).expect(0).json();
    let reason = tier(&record, "upgrade")["reason"].as_str().unwrap();
    assert!(
        reason.contains("are warned of") && record["warnings"].to_string().contains("1.0.0+1"),
        "{record:#}"
    );
    world.assert_empty();
}

#[test]
fn a_commit_that_builds_on_none_of_the_releases_says_so() {
    let world = World::new();
    let recipe = world.recipe("plain");
    let first = recipe.commit();
    recipe.write("more", "").release("1.0.0+1");
    recipe.git(["checkout", "-q", "-b", "other", &first]);
    recipe.write("other", "").commit();
    let reason = || {
        let record = run(&world, &recipe).expect(0).json();
        // It is not the first release, which has none to upgrade from.
        assert_eq!((&record["releases_before"], &record["level"]), (&Value::Null, &3.into()), "{record:#}");
        tier(&record, "upgrade")["reason"].as_str().unwrap().to_owned()
    };
    let other = reason();
    assert!(
        other.contains("the newest 1.0.0+1, and the commit") && other.contains("builds on none"),
        "{other}"
    );
    // A tag of its own, that makes it older than what it builds on.
    recipe.git(["checkout", "-q", "main"]);
    recipe.write("broken", "").release("0.0.1+1");
    let own = reason();
    let says = "no release before 0.0.1+1 that it builds on; the newest other one is 1.0.0+1";
    assert!(own.contains(says) && own.contains("the tested repository's own tags"), "{own}");
}

#[test]
fn each_tier_is_red_by_its_own_name_and_what_stands_on_it_is_not_run() {
    let expected = [
        ("install", ["failed", "not_run", "not_run", "not_run", "not_run"]),
        ("upgrade", ["passed", "failed", "not_run", "not_run", "not_run"]),
        ("backup", ["passed", "passed", "failed", "not_run", "passed"]),
        ("restore", ["passed", "passed", "passed", "failed", "passed"]),
        ("custom", ["passed", "passed", "passed", "passed", "failed"]),
    ];
    for (red, wanted) in expected {
        let world = World::new();
        let recipe = world.recipe("app");
        recipe.release("1.0.0+1");
        recipe.script(&format!("tests/{red}-fails"), "echo the reason is here; exit 3");
        recipe.script("tests/custom-passes", "true").commit();
        let end = run(&world, &recipe).expect(1);
        let record = end.json();
        assert_eq!(statuses(&record), wanted, "{red}");
        assert_eq!(tier(&record, red)["reason"], format!("recipe/{red}-fails failed: exit status 3"));
        assert!(end.stderr.contains("the reason is here"), "{red}: {}", end.stderr);
        world.assert_empty();
    }
}

#[test]
fn a_service_that_ends_at_once_makes_install_red_and_leaves_nothing() {
    let world = World::new();
    let recipe = world.recipe("broken");
    recipe.compose("1", "environment:\n        EXIT: \"7\"").commit();
    let end = run(&world, &recipe).expect(1);
    assert_eq!(tier(&end.json(), "install")["status"], "failed");
    assert!(
        end.stderr.contains("told to exit with 7"),
        "the last lines that the service logged: {}",
        end.stderr
    );
    world.assert_empty();
}

#[test]
fn a_config_that_changes_under_its_name_makes_the_upgrade_red() {
    let world = World::new();
    let recipe = world.recipe("app");
    let config = "\nconfigs:\n  motd:\n    name: ${STACK_NAME}_motd_v1\n    file: motd.txt\n";
    let compose = std::fs::read_to_string(recipe.path().join("compose.yml")).unwrap() + config;
    recipe.write("compose.yml", &compose).write("motd.txt", "one").release("1.0.0+1");
    recipe.write("motd.txt", "two").commit();
    let record = run(&world, &recipe).expect(1).json();
    let upgrade = tier(&record, "upgrade");
    assert!(upgrade.to_string().contains("raise its version in abra.sh"), "{upgrade}");
    world.assert_empty();
}

#[test]
fn what_reaches_into_another_app_is_red_before_it_is_deployed() {
    let world = World::new();
    let recipe = world.recipe("app");
    let clean = std::fs::read_to_string(recipe.path().join("compose.yml")).unwrap();
    recipe.release("1.0.0+1");
    let join = "networks: {blog: {external: true, name: blog_example_org_internal}}\n";
    recipe.write("compose.yml", &(clean.clone() + join)).commit();
    let says = "network blog: blog_example_org_internal is neither the app's own nor shared by the operator";
    let record = run(&world, &recipe).expect(1).json();
    assert_eq!(statuses(&record)[..2], ["passed", "failed"]);
    assert_eq!(tier(&record, "upgrade")["reason"], format!("upgrade failed: {says}"));
    world.assert_empty();
    // It may be asked for by what the recipe's own steps write.
    recipe.write("compose.yml", &clean).write("compose.blog.yml", &format!("version: \"3.8\"\n{join}"));
    let steps = "echo COMPOSE_FILE=compose.yml:compose.blog.yml >> \"$CCCI_ENV_FILE\"";
    recipe.script("tests/install_steps.sh", steps).commit();
    let fresh = || world.cc_ci(["run", "--format", "json", "--pr", "1", "--fresh"]).arg(recipe.path());
    let record = fresh().run().expect(1).json();
    assert_eq!(tier(&record, "install")["reason"], format!("create failed: {says}"));
    world.assert_empty();
    // Unless the operator shares it.
    let config = world.path().join("config.toml");
    std::fs::write(&config, unconfined("shared_networks = [\"proxy\", \"blog_example_org_internal\"]\n"))
        .unwrap();
    fresh().env("CCCI_CONFIG", &config).run().expect(0);
    world.assert_empty();
}

#[test]
fn tests_are_skipped_with_77_and_the_last_line_they_said() {
    let world = World::new();
    let recipe = world.recipe("app");
    recipe.script("tests/custom-later", "echo 'not on this host'; exit 77").commit();
    let record = run(&world, &recipe).expect(0).json();
    let step = &tier(&record, "custom")["steps"][0];
    assert_eq!(
        (&step["status"], &step["detail"]),
        (&Value::from("skipped"), &Value::from("not on this host"))
    );
}

#[test]
fn the_operator_replaces_a_check_and_a_pull_request_cannot() {
    let world = World::new();
    let recipe = world.recipe("app");
    recipe.script("tests/install.serving", "exit 0").commit();
    let operator = world.path().join("operator/app");
    std::fs::create_dir_all(&operator).unwrap();
    let check = operator.join("install.serving");
    let steps = |world: &World| {
        let run = world.cc_ci(["run", "--format", "json", "--pr", "1", "--tests-dir"]);
        let record = run.arg(world.path().join("operator")).arg(recipe.path()).run().json();
        let steps = tier(&record, "install")["steps"].as_array().unwrap().clone();
        steps
            .iter()
            .map(|step| format!("{} {}", step["name"], step["status"]).replace('"', ""))
            .collect::<Vec<_>>()
    };
    // Without the operator's, the recipe's own is one more test, and the generic check is made.
    let plain = steps(&world);
    assert!(plain.contains(&"generic/serving passed".to_owned()), "{plain:?}");
    assert!(plain.contains(&"recipe/install.serving passed".to_owned()), "{plain:?}");
    executable(&check, "#!/bin/sh\nexit 1\n");
    let replaced = steps(&world);
    assert!(!replaced.iter().any(|step| step.starts_with("generic/serving")), "{replaced:?}");
    assert!(replaced.contains(&"operator/install.serving failed".to_owned()), "{replaced:?}");
    world.assert_empty();
}

#[test]
fn a_secret_is_in_no_output_log_event_or_report() {
    let world = World::new();
    let recipe = world.recipe("app");
    let pipe = world.fifo("secret");
    recipe.script(
        "tests/install-tells",
        &format!(
            // The first line is cut in the middle of it.
            "head -c {} /dev/zero | tr '\\0' x; for end in 1 2; do cat \"$CCCI_SECRETS_DIR/key\"; echo; done\n\
             cat \"$CCCI_SECRETS_DIR/key\" > {}; exit 1",
            Line::MAX - 12,
            pipe.display()
        ),
    );
    recipe.commit();
    let running = world.cc_ci(["run", "--format", "json", "--pr", "1"]).arg(recipe.path()).start();
    let secret = pipes::hear(&pipe);
    assert_eq!(secret.len(), 24);
    let end = running.wait().expect(1);
    assert!(end.stderr.contains("[secret]"), "{}", end.stderr);
    for text in [&end.stdout, &end.stderr] {
        assert!(!text.contains(&secret[..12]));
    }
    let id = end.json()["run_id"].as_str().unwrap().to_owned();
    let grep = std::process::Command::new("grep")
        .arg("-rF")
        .arg("-e")
        .arg(&secret[..12])
        .arg(world.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&grep.stdout), "", "run {id}");
}

#[test]
fn a_script_that_puts_a_pipe_or_a_link_in_the_place_of_the_env_file_is_red_and_harmless() {
    for trick in ["mkfifo", "ln -s /etc/hostname"] {
        let world = World::new();
        let recipe = world.recipe("app");
        recipe
            .script("tests/install_steps.sh", &format!("rm \"$CCCI_ENV_FILE\"; {trick} \"$CCCI_ENV_FILE\""));
        recipe.commit();
        let record = run(&world, &recipe).expect(1).json();
        let create = &tier(&record, "install")["steps"][0];
        assert_eq!(create["status"], "failed", "{create}");
        world.assert_empty();
    }
}

#[test]
fn what_a_script_puts_in_the_place_of_a_secret_is_replaced_and_never_opened() {
    let world = World::new();
    let theirs = world.path().join("theirs");
    std::fs::write(&theirs, "theirs").unwrap();
    for trick in [format!("ln -s '{}'", theirs.display()), "mkfifo".to_owned()] {
        let recipe = world.recipe("app");
        let late =
            format!("echo SECRET_LATE_VERSION=v1 >> \"$CCCI_ENV_FILE\"\n{trick} \"$CCCI_SECRETS_DIR/late\"");
        recipe.script("tests/install_steps.sh", &late);
        recipe.script(
            "tests/custom",
            "test -s \"$CCCI_SECRETS_DIR/late\" && ! test -L \"$CCCI_SECRETS_DIR/late\"",
        );
        recipe.commit();
        run(&world, &recipe).expect(0);
        assert_eq!(std::fs::read_to_string(&theirs).unwrap(), "theirs", "{trick}");
        world.assert_empty();
    }
}

#[test]
fn a_script_that_puts_a_pipe_in_the_place_of_its_log_holds_up_nothing() {
    let world = World::new();
    let recipe = world.recipe("app");
    let logs = world.runs().join("pipe/logs");
    let body =
        format!("cd '{}'; rm custom-recipe-custom.log; mkfifo custom-recipe-custom.log; ls", logs.display());
    recipe.script("tests/custom", &body).commit();
    let call = world.cc_ci(["run", "--pr", "1", "--run-id", "pipe"]).arg(recipe.path());
    call.run().expect(0);
    let log = std::fs::symlink_metadata(logs.join("custom-recipe-custom.log")).unwrap();
    assert!(log.is_file(), "{log:?}");
    world.assert_empty();
}

#[test]
fn what_a_service_detached_without_a_mark_goes_with_it() {
    let world = World::new();
    let recipe = world.recipe("app");
    let pipe = world.fifo("detached");
    let script = format!(
        "env -i setsid sh -c 'echo $$$$ > {}; exec sleep 1000' > /dev/null 2>&1 & exec \\\"$$0\\\" \\\"$$@\\\"",
        pipe.display()
    );
    let compose = std::fs::read_to_string(recipe.path().join("compose.yml")).unwrap();
    let compose = compose.replace("command: [", &format!("command: [\"sh\", \"-c\", \"{script}\", "));
    recipe.write("compose.yml", &compose).commit();
    let running = world.cc_ci(["run", "--pr", "1"]).arg(recipe.path()).start();
    let detached = pipes::process(pipes::hear(&pipe).parse().unwrap());
    running.wait().expect(0);
    assert!(!detached.is_alive(&detached.boot_id), "{detached:?}");
    world.assert_empty();
}

#[test]
fn what_a_recipe_needs_is_deployed_beside_it_and_removed_with_it() {
    let world = World::new();
    let recipe = world.recipe("app");
    recipe.script("tests/custom-sees-it", "test -n \"$CCCI_DEPENDENCY_SSO_DOMAIN\"").commit();
    let dependency = world.recipe("sso");
    dependency.release("1.0.0+1");
    let config = world.path().join("config.toml");
    std::fs::write(&config, unconfined(format!("[recipes.app]\ndepends = [{:?}]\n", dependency.path())))
        .unwrap();
    let run =
        world.cc_ci(["run", "--format", "json", "--pr", "1", "--config"]).arg(config).arg(recipe.path());
    let record = run.run().expect(0).json();
    let domains = record["domains"].as_array().unwrap();
    assert_eq!(domains.len(), 2, "{domains:?}");
    assert!(domains[0].as_str() < domains[1].as_str(), "locked in order: {domains:?}");
    let removed = record["receipt"]["removed"].as_array().unwrap();
    assert_eq!(removed.iter().filter(|thing| thing["kind"] == "service").count(), 2, "{removed:?}");
    world.assert_empty();
}

#[test]
fn wrong_calls_exit_with_2_and_say_what_helps() {
    let world = World::new();
    let recipe = world.recipe("app");
    recipe.commit();
    let cases: [(&[&str], &str); 4] = [
        (&["run", "--quick", "./app"], "has no warm app"),
        (&["run", "/nonexistent/recipe"], "/nonexistent/recipe"),
        (&["run", "--lock-timeout", "soon", "./app"], "90s"),
        (&["run", "ext::sh -c id"], "not taken"),
    ];
    for (args, says) in cases {
        let end = world.cc_ci(args).run().expect(2);
        let message = end.stdout + &end.stderr;
        assert!(message.contains(says), "{args:?}: {message}");
    }
    world.assert_empty();
}

#[test]
fn a_receipt_names_what_it_verified_and_nothing_that_the_run_never_owned() {
    let world = World::new();
    let recipe = world.recipe("app");
    recipe.commit();
    let record = run(&world, &recipe).expect(0).json();
    assert_eq!(record["receipt"]["verified"], serde_json::json!([record["domain"]]));
    let never =
        world.cc_ci(["run", "--format", "json", "--commit", "nosuch"]).arg(recipe.path()).run().expect(2);
    assert_eq!(never.json()["receipt"]["verified"], serde_json::json!([]));
}
