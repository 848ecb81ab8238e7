//! Which commit is tested, and whose releases it is upgraded from: what a pull request says of either is its author's word.

use std::path::PathBuf;

use cc_ci_tests::{CcCi, Recipe, World, unconfined};
use serde_json::Value;

fn call(world: &World, args: &[&str], recipe: &Recipe) -> CcCi {
    world.cc_ci(["run", "--format", "json"].iter().chain(args)).arg(recipe.path())
}

/// A run with this configuration.
#[track_caller]
fn configured(world: &World, recipe: &Recipe, config: &str, code: i32) -> Value {
    let path = world.path().join("config.toml");
    std::fs::write(&path, unconfined(config)).unwrap();
    let record = call(world, &["--pr", "1"], recipe).env("CCCI_CONFIG", &path).run().expect(code).json();
    world.assert_empty();
    record
}

fn tier<'r>(record: &'r Value, name: &str) -> &'r Value {
    record["tiers"].as_array().unwrap().iter().find(|tier| tier["name"] == name).unwrap()
}

/// A clone of `recipe` beside it, with its own name for a directory.
fn fork(world: &World, recipe: &Recipe) -> Recipe {
    let fork = world.recipe_at(&world.path().join("fork").join(recipe.name()));
    fork.git(["fetch", "-q", recipe.path().to_str().unwrap(), "+refs/*:refs/*", "--update-head-ok"]);
    fork.git(["reset", "-q", "--hard", "main"]);
    fork
}

/// A recipe with a release and a commit on top, and a canonical tree.
fn beside_a_canonical_tree() -> (World, Recipe, PathBuf) {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.release("1.0.0+1");
    recipe.write("more", "").commit();
    let tree = world.path().join("abra");
    for name in ["recipes", "servers/default", "catalogue"] {
        std::fs::create_dir_all(tree.join(name)).unwrap();
    }
    (world, recipe, tree)
}

#[test]
fn the_releases_are_those_of_the_configured_source() {
    let world = World::new();
    let canonical = world.recipe("plain");
    canonical.release("1.0.0+1");
    canonical.compose("2", "").release("1.1.0+1");
    let fork = fork(&world, &canonical);
    // Its own word: the newest release is gone, and a commit of its own is one.
    fork.git(["tag", "-d", "1.1.0+1"]);
    fork.write("own", "1").release("9.0.0+1");
    fork.write("own", "2").commit();
    let source = format!("[recipes.plain]\nsource = {:?}\n", canonical.path());
    let record = configured(&world, &fork, &source, 0);
    assert_eq!(tier(&record, "upgrade")["from"], "1.1.0+1");
    // Nobody says better.
    let record = configured(&world, &fork, "", 0);
    assert_eq!(tier(&record, "upgrade")["from"], "9.0.0+1");
}

#[test]
fn the_canonical_trees_recipe_says_what_was_released() {
    let (world, recipe, tree) = beside_a_canonical_tree();
    let (from, to) = (recipe.path().to_str().unwrap(), tree.join("recipes/plain"));
    recipe.git(["clone", "-q", from, to.to_str().unwrap()]);
    recipe.git(["tag", "-d", "1.0.0+1"]);
    let upgraded = |code| {
        let call = call(&world, &["--pr", "1"], &recipe).env("ABRA_DIR", &tree);
        let record = call.run().expect(code).json();
        tier(&record, "upgrade").clone()
    };
    assert_eq!(upgraded(0)["from"], "1.0.0+1");
    std::fs::remove_dir_all(&to).unwrap();
    let upgrade = upgraded(0);
    assert!(upgrade["reason"].as_str().unwrap().contains("the tested repository's own tags"), "{upgrade}");
}

#[test]
fn a_history_of_its_own_is_red_where_the_releases_are_known() {
    let world = World::new();
    let canonical = world.recipe("plain");
    canonical.release("1.0.0+1");
    let fork = fork(&world, &canonical);
    fork.git(["checkout", "-q", "--orphan", "other"]);
    fork.write("other", "").commit();
    let source = format!("[recipes.plain]\nsource = {:?}\n", canonical.path());
    let record = configured(&world, &fork, &source, 1);
    let errors = record["errors"].to_string();
    assert!(errors.contains("no history in common with 1.0.0+1"), "{errors}");
    // Its own tags are enough to know better.
    let record = configured(&world, &fork, "", 1);
    let errors = record["errors"].to_string();
    assert!(errors.contains("1.0.0+1, a release of the tested repository"), "{errors}");
}

#[test]
fn a_source_that_is_not_there_is_no_fault_of_the_recipe() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.release("1.0.0+1");
    let record = configured(&world, &recipe, "[recipes.plain]\nsource = \"/nowhere/plain\"\n", 2);
    assert!(record["errors"].to_string().contains("/nowhere/plain"), "{record:#}");
}

#[test]
fn a_commit_is_named_in_every_way_that_git_knows_and_no_other_is_taken_for_it() {
    let world = World::new();
    let recipe = world.recipe("plain");
    let first = recipe.commit();
    recipe.write("more", "1");
    let second = recipe.commit();
    for branch in ["renovate/@types-node", "it's", "a&b", "(draft)", "x=1"] {
        recipe.git(["branch", branch]);
    }
    let tested = |revision: &str, code| {
        let call = call(&world, &["--fresh", "--commit", revision], &recipe);
        let end = call.run().expect(code);
        let record = end.json();
        (record["commit"].as_str().unwrap_or_default().to_owned(), record["errors"].to_string())
    };
    for (revision, commit) in [
        ("HEAD~1", &first),
        ("main^", &first),
        ("renovate/@types-node", &second),
        ("it's", &second),
        ("a&b~1", &first),
        ("(draft)", &second),
        (&first[..9], &first),
        (&format!("{second}~1"), &first),
    ] {
        assert_eq!(&tested(revision, 0).0, commit, "{revision}");
    }
    assert!(tested("HEAD~7", 2).1.contains("has no HEAD~7"));
    // A branch that is named like the first commit's id, and is the second.
    recipe.git(["branch", &first[..9]]);
    let (_, message) = tested(&first[..9], 2);
    assert!(message.contains("the beginning of the id of") && message.contains(&first), "{message}");
    world.assert_empty();
}

#[test]
fn what_is_missing_is_told_before_anything_is_done() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    let empty = call(&world, &["--pr", ""], &recipe).run().expect(2);
    assert!(
        empty.stderr.contains("leave --pr and CCCI_PR out where there is no pull request"),
        "{}",
        empty.stderr
    );
    let nothing = world.path().join("none/plain");
    std::fs::create_dir_all(&nothing).unwrap();
    let part = recipe.path().join("tests");
    std::fs::create_dir_all(&part).unwrap();
    for path in [nothing, part] {
        let end = world.cc_ci(["run", "--pr", "1"]).arg(&path).run().expect(2);
        let message = format!("{}{}", end.stdout, end.stderr);
        assert!(message.contains("is no git repository") && message.contains("hint: "), "{message}");
    }
    world.assert_empty();
}

#[test]
fn an_executor_that_was_chosen_by_itself_calls_no_recipe_red() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.write("compose.yml", "version: '3.8'\nservices: {app: {image: 'x:1'}}\n").commit();
    // A host that has git, and no abra.
    let programs = world.path().join("programs");
    std::fs::create_dir(&programs).unwrap();
    let git = std::process::Command::new("sh").args(["-c", "command -v git"]).output().unwrap().stdout;
    let git = String::from_utf8(git).unwrap();
    std::os::unix::fs::symlink(git.trim_end(), programs.join("git")).unwrap();
    let call = |executor: &str| {
        call(&world, &["--pr", "1"], &recipe).env("CCCI_EXECUTOR", executor).env("PATH", &programs)
    };
    let end = call("auto").run().expect(2);
    let message = end.json()["errors"].to_string();
    assert!(
        message.contains("the service app has no x-cc-ci-local") && message.contains("chosen by itself"),
        "{message}"
    );
    assert!(end.stderr.contains("install abra") && end.stderr.contains("--executor local"), "{}", end.stderr);
    // Who asks for it gets its word on the recipe.
    call("local").run().expect(1);
    world.assert_empty();
}

#[test]
fn a_fresh_install_of_the_commit_is_judged_though_it_is_upgraded_to() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.release("1.0.0+1");
    // The upgraded app keeps the secret that no new one would have.
    recipe.write(".env.sample", "TYPE=test\nDOMAIN=example.com\n").commit();
    let record = call(&world, &["--pr", "1"], &recipe).run().expect(1).json();
    let upgrade = tier(&record, "upgrade");
    let reason = upgrade["reason"].as_str().unwrap();
    assert!(reason.starts_with("generic/fresh-install failed: with its own .env.sample: "), "{reason}");
    assert!(reason.contains("secret key: its name"), "{reason}");
    world.assert_empty();
    recipe.write(".env.sample", "TYPE=test\nDOMAIN=example.com\nSECRET_KEY_VERSION=v1\n").commit();
    let record = call(&world, &["--pr", "2"], &recipe).run().expect(0).json();
    assert!(upgrade.to_string().contains("fresh-install") && record["verdict"] == "green", "{record:#}");
}

#[test]
fn a_shallow_source_lends_its_word_to_no_tag_of_the_pull_requests() {
    let world = World::new();
    let canonical = world.recipe("plain");
    canonical.release("1.0.0+1");
    canonical.compose("2", "").release("1.1.0+1");
    let fork = fork(&world, &canonical);
    // The same names, and other commits.
    fork.git(["tag", "-f", "-a", "-m", "forged", "1.1.0+1", "HEAD~1"]);
    fork.write("own", "1").commit();
    let shallow = world.path().join("shallow/plain");
    let url = format!("file://{}", canonical.path().display());
    canonical.git(["clone", "-q", "--depth", "1", &url, shallow.to_str().unwrap()]);
    let record = configured(&world, &fork, &format!("[recipes.plain]\nsource = {shallow:?}\n"), 2);
    assert!(record["errors"].to_string().contains("it is a shallow clone"), "{record:#}");
    let record = configured(&world, &fork, &format!("[recipes.plain]\nsource = {:?}\n", canonical.path()), 0);
    assert_eq!(tier(&record, "upgrade")["from"], "1.1.0+1");
    assert_eq!(tier(&record, "install")["version"], "1.1.0+1");
}

#[test]
fn a_copied_shallow_clone_says_that_its_history_is_cut() {
    let (world, recipe, tree) = beside_a_canonical_tree();
    let (from, to) = (format!("file://{}", recipe.path().display()), tree.join("recipes/plain"));
    recipe.git(["clone", "-q", "--depth", "1", &from, to.to_str().unwrap()]);
    let call = |args: &[&str]| call(&world, args, &recipe).env("ABRA_DIR", &tree);
    let record = call(&["--pr", "1", "--skip-fetch"]).run().expect(0).json();
    let reason = tier(&record, "upgrade")["reason"].as_str().unwrap();
    assert!(reason.contains("a shallow clone") && !reason.contains("tags say so"), "{reason}");
    // Nobody knows what it is upgraded from: that is no leave to go on without.
    assert_eq!((&record["releases_before"], &record["level"]), (&Value::Null, &Value::from(3)), "{record:#}");
    let unjudged = "warning: not judged: rules about releases";
    assert!(record["lint"]["findings"].to_string().contains(unjudged), "{record:#}");
    // Asked by its name, it is no source either.
    let end =
        world.cc_ci(["run", "--format", "json", "--pr", "1", "plain"]).env("ABRA_DIR", &tree).run().expect(2);
    assert!(end.json()["errors"].to_string().contains("it is a shallow clone"), "{}", end.stdout);
    world.assert_empty();
}
