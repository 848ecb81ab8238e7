//! What a pull request asks for is looked at before anything of it is done, wherever it comes from: the commit under
//! test, an install step, a recipe that it needs.

use cc_ci_tests::{CcCi, Recipe, World, unconfined};
use serde_json::Value;

use crate::paused_runs::RUN;

fn call(world: &World, recipe: &Recipe) -> CcCi {
    world.cc_ci(["run", "--format", "json", "--pr", "7", "--run-id", RUN]).arg(recipe.path())
}

#[track_caller]
fn run(world: &World, recipe: &Recipe, code: i32) -> Value {
    let record = call(world, recipe).run().expect(code).json();
    world.assert_empty();
    record
}

/// The status and reason of a tier.
#[track_caller]
fn tier(record: &Value, name: &str) -> (String, String) {
    let mut tiers = record["tiers"].as_array().unwrap().iter();
    let tier = tiers.find(|tier| tier["name"] == name).unwrap();
    let text = |key: &str| tier[key].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

#[track_caller]
fn assert_red(record: &Value, name: &str, says: &[&str]) {
    let (status, reason) = tier(record, name);
    assert_eq!(status, "failed", "{record:#}");
    assert!(says.iter().all(|says| reason.contains(says)), "{reason}");
}

/// The recipe's compose file, after `change`, with a service that writes the file `started` first.
fn compose(world: &World, recipe: &Recipe, change: impl Fn(String) -> String) {
    let started = world.path().join("started");
    let compose = std::fs::read_to_string(recipe.path().join("compose.yml")).unwrap();
    let script = format!(": > {}; exec \\\"$$0\\\" \\\"$$@\\\"", started.display());
    let compose = compose.replace("command: [", &format!("command: [\"sh\", \"-c\", \"{script}\", "));
    recipe.write("compose.yml", &change(compose));
}

fn was_started(world: &World) -> bool {
    world.path().join("started").exists()
}

const VOLUME: [&str; 2] = ["volumes:\n  data:\n", "volumes:\n  data:\n    name: blog_data\n"];
const SECRET: [&str; 2] = ["name: ${STACK_NAME}_key_${SECRET_KEY_VERSION}", "name: blog_key_v1"];

#[test]
fn a_commit_that_names_a_bystanders_volume_or_secret_is_red_and_nothing_of_it_is_deployed() {
    for ([own, foreign], says) in [(VOLUME, "blog_data"), (SECRET, "blog_key_v1")] {
        let world = World::new();
        let recipe = world.recipe("plain");
        recipe.release("1.0.0+1");
        compose(&world, &recipe, |compose| compose.replace(own, foreign));
        recipe.commit();
        let record = run(&world, &recipe, 1);
        assert_red(&record, "upgrade", &["upgrade failed", says, "is not of the app's stack"]);
        assert_eq!(tier(&record, "install").0, "passed");
        assert!(!was_started(&world), "{says}: it was deployed");
    }
    // The test can fail: a commit without such a name is started.
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.release("1.0.0+1");
    compose(&world, &recipe, |compose| compose);
    recipe.commit();
    run(&world, &recipe, 0);
    assert!(was_started(&world));
}

#[test]
fn an_install_step_that_takes_in_an_overlay_with_a_foreign_name_is_red_before_the_deploy() {
    let world = World::new();
    let recipe = world.recipe("plain");
    compose(&world, &recipe, |compose| compose);
    recipe.write("compose.theirs.yml", "version: \"3.8\"\nvolumes:\n  data:\n    name: blog_data\n");
    let step = "echo COMPOSE_FILE=compose.yml:compose.theirs.yml >> \"$CCCI_ENV_FILE\"";
    recipe.script("tests/install_steps.sh", step).commit();
    let record = run(&world, &recipe, 1);
    assert_red(&record, "install", &["create failed", "blog_data is not of the app's stack"]);
    assert_eq!(record["deploy_count"], 0);
    assert!(!was_started(&world));
}

#[test]
fn a_test_that_takes_in_an_overlay_with_a_foreign_name_is_red_before_the_backup() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.write("compose.theirs.yml", "version: \"3.8\"\nvolumes:\n  data:\n    name: blog_data\n");
    let step = "echo COMPOSE_FILE=compose.yml:compose.theirs.yml >> \"$CCCI_ENV_FILE\"";
    recipe.script("tests/backup", step).commit();
    let record = run(&world, &recipe, 1);
    assert_red(&record, "backup", &["backup failed", "blog_data is not of the app's stack"]);
}

#[test]
fn a_recipe_that_another_one_needs_is_looked_at_likewise() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    let dependency = world.recipe("sso");
    compose(&world, &dependency, |compose| compose.replace(VOLUME[0], VOLUME[1]));
    dependency.commit();
    let config = world.path().join("config.toml");
    std::fs::write(&config, unconfined(format!("[recipes.plain]\ndepends = [{:?}]\n", dependency.path())))
        .unwrap();
    let record = call(&world, &recipe).env("CCCI_CONFIG", &config).run().expect(3).json();
    let error = record["errors"][0].as_str().unwrap();
    assert!(error.contains("the dependency sso did not come up") && error.contains("blog_data"), "{error}");
    assert!(!was_started(&world));
    world.assert_empty();
}

#[test]
fn a_recipe_of_which_nothing_can_be_read_any_more_is_red_where_that_is_seen() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.script("tests/install", "echo COMPOSE_FILE=nosuch.yml >> \"$CCCI_ENV_FILE\"").commit();
    let record = run(&world, &recipe, 1);
    assert_red(&record, "backup", &["read failed", "nosuch.yml"]);
    assert_eq!(tier(&record, "custom").0, "skipped", "it goes on");
}

#[test]
fn a_thousand_faults_are_told_in_some_lines() {
    let world = World::new();
    let recipe = world.recipe("plain");
    let lines = |count: u32, line: &dyn Fn(u32) -> String| (0..count).map(line).collect::<Vec<_>>().concat();
    let volumes = lines(1000, &|number| format!("  v{number}:\n    name: blog_v{number}\n"));
    let ports = lines(200, &|number| format!("      - \"{}:80\"\n", 20000 + number));
    compose(&world, &recipe, |compose| {
        compose.replace("volumes:\n  data:\n", &format!("volumes:\n  data:\n{volumes}")).replace(
            "    secrets:\n      - key\n",
            &format!("    secrets:\n      - key\n    ports:\n{ports}"),
        )
    });
    recipe.commit();
    let record = run(&world, &recipe, 1);
    assert_red(&record, "install", &["and 950 more"]);
    assert!(record.to_string().len() < 64 << 10, "{} bytes", record.to_string().len());
}

#[test]
fn a_run_app_asks_for_no_certificate_that_a_commit_adds() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.script("tests/upgrade", "grep -qx 'LETS_ENCRYPT_ENV=' \"$CCCI_ENV_FILE\"");
    recipe.release("1.0.0+1");
    let sample =
        "TYPE=test\nDOMAIN=example.com\nSECRET_KEY_VERSION=v1 # length=24\nLETS_ENCRYPT_ENV=production\n";
    recipe.write(".env.sample", sample).commit();
    run(&world, &recipe, 0);
}

#[test]
fn a_restore_of_nothing_is_skipped_with_the_reason() {
    let world = World::new();
    let recipe = world.recipe("plain");
    compose(&world, &recipe, |compose| {
        let backup = "        - \"backupbot.backup=true\"\n";
        compose.replace(backup, &format!("{backup}        - \"backupbot.backup.volumes.data=false\"\n"))
    });
    recipe.commit();
    let record = run(&world, &recipe, 0);
    let (status, reason) = tier(&record, "restore");
    assert_eq!(
        (status.as_str(), reason.contains("no volume of the app is in the backup")),
        ("skipped", true)
    );
}

#[test]
fn no_test_chooses_a_verdict_other_than_red() {
    let long = "custom".to_owned() + &"x".repeat(249);
    let cases: [(&str, &str, &str); 5] = [
        (&long, "exit 1", "custom"),
        ("install-breaks", "rm -rf \"$CCCI_RECIPE_DIR/.git\"", "backup"),
        ("install-breaks", "echo nonsense > \"$CCCI_RECIPE_DIR/.git/HEAD\"", "backup"),
        ("install-breaks", "rm -rf \"$CCCI_RECIPE_DIR/.git/objects\"", "backup"),
        ("custom-interpreter", "", "custom"),
    ];
    for (name, body, red) in cases {
        let world = World::new();
        let recipe = world.recipe("plain");
        recipe.script(&format!("tests/{name}"), body);
        if body.is_empty() {
            recipe.write(&format!("tests/{name}"), "#!/nonexistent/interpreter\n");
        }
        recipe.commit();
        let record = run(&world, &recipe, 1);
        assert_eq!(tier(&record, red).0, "failed", "{name}: {body}: {record:#}");
    }
}

#[test]
fn locks_that_a_test_leaves_in_the_repository_hold_up_nothing() {
    let world = World::new();
    let recipe = world.recipe("plain");
    let locks =
        "cd \"$CCCI_RECIPE_DIR/.git\"; mkdir index.lock; touch index.lock/x HEAD.lock packed-refs.lock";
    recipe.script("tests/install", locks).release("1.0.0+1");
    recipe.compose("2", "").commit();
    run(&world, &recipe, 0);
}

#[test]
fn a_recipe_waits_for_itself_no_longer_than_the_operator_lets_it() {
    let world = World::new();
    let recipe = world.recipe("plain");
    let compose = std::fs::read_to_string(recipe.path().join("compose.yml")).unwrap();
    let compose = compose
        .replace("timeout=60", "timeout=4294967295")
        .replace("command: [", "command: [\"sleep\", \"1000\"] #");
    recipe.write("compose.yml", &compose).commit();
    let config = world.path().join("config.toml");
    std::fs::write(&config, unconfined("converge_timeout = \"1s\"\nconverge_max = \"2s\"\n")).unwrap();
    let record = call(&world, &recipe).env("CCCI_CONFIG", &config).run().expect(1).json();
    assert_red(&record, "install", &["deploy failed", "2s"]);
    assert!(record["warnings"].to_string().contains("converge_max"), "{record:#}");
    world.assert_empty();
}
