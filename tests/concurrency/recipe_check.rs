//! `recipe check` as people and programs call it: on real repositories, hostile ones too.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use cc_ci_core::recipe::rules::RULES;
use cc_ci_tests::{CcCi, Ended, Recipe, World, executable, pipes};
use nix::sys::signal::Signal;
use serde_json::Value;

const COMPOSE: &str = r#"version: "3.8"
services:
  app:
    image: pad:1.2
    configs:
      - source: conf
        target: /etc/pad
    healthcheck:
      test: ["CMD", "true"]
    deploy:
      labels:
        - "coop-cloud.${STACK_NAME}.version=1.0.0+1.2"
configs:
  conf:
    name: ${STACK_NAME}_conf_${CONF_VERSION}
    file: pad.conf
"#;

/// A recipe that keeps every rule, not committed yet.
fn clean(world: &World) -> Recipe {
    let recipe = world.recipe("pad");
    recipe.write("compose.yml", COMPOSE).write(".env.sample", "TYPE=pad\nDOMAIN=pad.example.org\n");
    recipe.write("abra.sh", "export CONF_VERSION=v1\n").write("pad.conf", "x\n");
    recipe
}

fn tmp(world: &World) -> PathBuf {
    world.path().join("tmp")
}

/// The call, with nothing of the world's configuration.
fn call(world: &World, path: &Path, args: &[&str]) -> CcCi {
    fs::create_dir_all(tmp(world)).unwrap();
    let mut call = world.cc_ci(["recipe", "check"]).arg(path).env("TMPDIR", tmp(world));
    for arg in args {
        call = call.arg(arg);
    }
    for name in ["CCCI_SUFFIX", "CCCI_EXECUTOR", "CCCI_RUNS_DIR", "CCCI_LOCAL_ROOT", "CCCI_APP_LOCK_DIR"] {
        call.command().env_remove(name);
    }
    call
}

/// Runs it; it leaves the world as it was.
#[track_caller]
fn check(world: &World, path: &Path, args: &[&str]) -> Ended {
    let call = call(world, path, args);
    let before = world.snapshot();
    let end = call.run();
    assert!(world.snapshot() == before, "a look changed something");
    end
}

#[track_caller]
fn report(world: &World, recipe: &Recipe) -> Value {
    let end = check(world, recipe.path(), &["--format", "json"]);
    let report = end.json();
    assert_eq!(report["schema"], "cc-ci.recipe-check/v1");
    let errors = report["findings"].as_array().unwrap().iter().any(|found| found["severity"] == "error");
    assert_eq!(end.code, i32::from(errors), "{}", end.stdout);
    report
}

/// The findings as `rule file:line`.
#[track_caller]
fn found(world: &World, recipe: &Recipe) -> Vec<String> {
    let report = report(world, recipe);
    let place = |found: &Value| {
        let line = found["line"].as_u64().map(|line| format!(":{line}")).unwrap_or_default();
        format!("{} {}{line}", found["rule"].as_str().unwrap(), found["file"].as_str().unwrap())
    };
    report["findings"].as_array().unwrap().iter().map(place).collect()
}

#[test]
fn people_are_told_the_place_the_reason_and_the_remedy() {
    let world = World::new();
    let recipe = clean(&world);
    recipe.release("1.0.0+1.2");
    let end = check(&world, recipe.path(), &[]).expect(0);
    assert!(
        end.stdout.starts_with("skipped: rules about releases: there is none before 1.0.0+1.2\n"),
        "{}",
        end.stdout
    );
    recipe.write("pad.conf", "y\n");
    let end = check(&world, recipe.path(), &[]).expect(1);
    let mut lines = end.stdout.lines();
    let first = lines.next().unwrap();
    assert!(
        first.starts_with("compose.yml:15: error: config conf: its file changed since 1.0.0+1.2"),
        "{first}"
    );
    assert!(first.ends_with("[config-not-bumped]"), "{first}");
    assert!(lines.next().unwrap().starts_with("    why: "));
    assert_eq!(lines.next().unwrap(), "    mend: raise its version in `abra.sh`");
    let summary = lines.next().unwrap();
    assert!(summary.starts_with("pad: 1 error, 0 warnings, 0 notes; names as at pad-"), "{summary}");
    assert!(summary.ends_with(".ci.example.org, compared with 1.0.0+1.2"), "{summary}");
    assert_eq!(end.stderr, "");
}

#[test]
fn releases_are_read_from_the_repository() {
    let world = World::new();
    let recipe = clean(&world);
    recipe.commit();
    let message = report(&world, &recipe);
    assert_eq!(message["skipped"], serde_json::json!(["rules about releases: it has none yet"]));
    recipe.release("1.0.0+1.2");
    recipe.git(["tag", "0.9.0+1.1"]);
    recipe.git(["tag", "no-release"]);
    assert_eq!(found(&world, &recipe), ["release-tag-lightweight compose.yml"]);
    recipe.git(["tag", "-d", "0.9.0+1.1"]);
    // The next release: as it is being worked on, then with a label that was forgotten.
    recipe.write("abra.sh", "export CONF_VERSION=v2\n").write("pad.conf", "y\n");
    recipe.write("compose.yml", &COMPOSE.replace("pad:1.2", "pad:${TAG}"));
    recipe.write(".env.sample", "TYPE=pad\nDOMAIN=pad.example.org\nTAG=1.3\n");
    let unannounced = "new-variable-unannounced compose.yml:4";
    assert_eq!(found(&world, &recipe), [unannounced]);
    recipe.commit();
    assert_eq!(found(&world, &recipe), [unannounced]);
    recipe.write("release/1.1.0+1.3", "Set TAG.\n");
    assert_eq!(found(&world, &recipe), [""; 0]);
    recipe.release("1.1.0+1.3");
    assert_eq!(found(&world, &recipe), ["version-label-not-the-tag compose.yml:12"]);
    assert_eq!(report(&world, &recipe)["compared_with"], "1.0.0+1.2");
    // A release that is changed is no release, and what was bumped in it was not bumped since.
    recipe.write("pad.conf", "z\n");
    assert_eq!(found(&world, &recipe), ["config-not-bumped compose.yml:15"]);
    assert_eq!(report(&world, &recipe)["compared_with"], "1.1.0+1.3");
}

#[test]
fn what_has_no_history_is_judged_without_it_and_says_so() {
    let world = World::new();
    let recipe = clean(&world);
    let skipped = |recipe: &Path| {
        let report = check(&world, recipe, &["--format", "json"]).expect(0).json();
        report["skipped"][0].as_str().unwrap().to_owned()
    };
    assert!(skipped(recipe.path()).ends_with("nothing was committed yet"));
    recipe.release("0.9.0+1.2");
    recipe.release("1.0.0+1.2");
    let shallow = world.path().join("recipes/shallow");
    let from = format!("file://{}", recipe.path().display());
    recipe.git(["clone", "-q", "--depth", "1", &from, shallow.to_str().unwrap()]);
    assert!(skipped(&shallow).contains("git fetch --unshallow --tags"));
    fs::remove_dir_all(recipe.path().join(".git")).unwrap();
    assert!(skipped(recipe.path()).ends_with("it is no git repository"));
}

#[test]
fn the_example_recipe_keeps_every_rule_in_both_releases() {
    let world = World::new();
    let recipe = world.recipe("note-keeper");
    for release in ["1.0.0", "1.1.0"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/recipe").join(release);
        let end = std::process::Command::new("cp").arg("-R").arg(from.join(".")).arg(recipe.path()).status();
        assert!(end.unwrap().success());
        recipe.release(&format!("{release}+{release}"));
        assert_eq!(found(&world, &recipe), [""; 0], "{release}");
    }
}

#[test]
fn sarif_is_what_forges_read() {
    let world = World::new();
    let recipe = clean(&world);
    recipe
        .write("compose.more.yml", "version: '3.8'\nservices: {more: {image: more}}\n")
        .release("1.0.0+1.2");
    recipe.git(["tag", "0.9.0+1.1"]);
    let log = check(&world, recipe.path(), &["--sarif", "--format", "json"]).expect(1).json();
    assert_eq!(log["version"], "2.1.0");
    assert!(log["$schema"].as_str().unwrap().contains("sarif-2.1.0"));
    let run = &log["runs"][0];
    assert_eq!(run["invocations"][0]["executionSuccessful"], true);
    let notices = run["invocations"][0]["toolExecutionNotifications"].as_array().unwrap();
    assert!(notices[0]["message"]["text"].as_str().unwrap().starts_with("skipped: rules about releases"));
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), RULES.len());
    for (rule, known) in rules.iter().zip(RULES) {
        assert_eq!(rule["id"], known.id);
        assert_eq!(rule["defaultConfiguration"]["level"], known.severity.as_str());
        for text in ["/shortDescription/text", "/fullDescription/text", "/help/text", "/help/markdown"] {
            assert!(!rule.pointer(text).unwrap().as_str().unwrap().is_empty());
        }
    }
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), 3, "{results:#?}");
    for result in results {
        let rule = &rules[usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
        assert_eq!(result["ruleId"], rule["id"]);
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
        let place = &result["locations"][0]["physicalLocation"];
        let uri = place["artifactLocation"]["uri"].as_str().unwrap();
        assert!(!uri.starts_with('/') && recipe.path().join(uri).is_file(), "{uri}");
        // A tag is in no line.
        let line = place["region"]["startLine"].as_u64();
        assert_eq!(line.is_none(), result["ruleId"] == "release-tag-lightweight");
        assert_ne!(line, Some(0));
    }
}

#[test]
fn what_is_no_recipe_is_the_callers_fault_and_what_is_broken_is_not() {
    let world = World::new();
    let nothing = world.path().join("nothing");
    let empty = world.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let recipe = clean(&world);
    let ill_named = world.path().join("no name");
    recipe.commit();
    fs::create_dir(&ill_named).unwrap();
    fs::copy(recipe.path().join("compose.yml"), ill_named.join("compose.yml")).unwrap();
    let file = recipe.path().join("compose.yml");
    for (path, says) in [
        (&nothing, "no such directory"),
        (&file, "no such directory"),
        (&empty, "no compose.yml"),
        (&ill_named, "recipe"),
    ] {
        let end = check(&world, path, &[]).expect(2);
        assert!(end.stderr.contains(says) && end.stderr.contains("hint: "), "{}", end.stderr);
        assert_eq!(end.stdout, "");
    }
    world.cc_ci(["recipe", "check"]).run().expect(2);
    // Without git nothing can be said of its releases.
    fs::create_dir_all(tmp(&world)).unwrap();
    call(&world, recipe.path(), &[]).env("PATH", "/nonexistent").run().expect(3);
    let objects = recipe.path().join(".git/objects");
    fs::rename(&objects, world.path().join("objects")).unwrap();
    fs::create_dir(&objects).unwrap();
    let end = check(&world, recipe.path(), &[]).expect(3);
    assert!(end.stderr.contains("can't read the releases"), "{}", end.stderr);
}

#[test]
fn nothing_that_a_repository_names_is_run() {
    let world = World::new();
    let recipe = clean(&world);
    let ran = world.path().join("ran");
    let program = world.path().join("program");
    executable(&program, &format!("#!/bin/sh\necho \"$0 $*\" >> '{}'\ncat\n", ran.display()));
    recipe.write(".gitattributes", "* filter=evil diff=evil\n").release("0.9.0+1.2");
    recipe.release("1.0.0+1.2");
    let program = program.display().to_string();
    for name in [
        "core.fsmonitor",
        "core.sshCommand",
        "core.pager",
        "core.alternateRefsCommand",
        "filter.evil.smudge",
        "filter.evil.clean",
        "filter.evil.process",
        "diff.evil.textconv",
        "diff.external",
        "uploadpack.packObjectsHook",
        "credential.helper",
        "gpg.program",
        "alias.fetch",
    ] {
        recipe.git(["config", name, &program]);
    }
    fs::create_dir(recipe.path().join(".git/hooks")).unwrap();
    for hook in ["post-checkout", "post-index-change", "reference-transaction", "pre-auto-gc"] {
        symlink(&program, recipe.path().join(".git/hooks").join(hook)).unwrap();
    }
    assert_eq!(found(&world, &recipe), [""; 0]);
    assert!(!ran.exists(), "{}", fs::read_to_string(&ran).unwrap());
}

/// A check whose git tells its pid through the pipe, and hangs.
fn with_a_git_that_hangs(world: &World) -> (CcCi, PathBuf) {
    let recipe = clean(world);
    recipe.commit();
    let started = world.fifo("started");
    let bin = world.path().join("bin");
    let script = format!("echo $$ > '{}'\nexec sleep 1000", started.display());
    world.recipe_at(&bin).script("git", &script);
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    (call(world, recipe.path(), &[]).env("PATH", path), started)
}

#[test]
fn one_that_is_ended_leaves_no_clone() {
    let world = World::new();
    let (call, started) = with_a_git_that_hangs(&world);
    let running = call.start();
    let git = pipes::hear(&started);
    running.signal(Signal::SIGTERM);
    let end = running.wait().expect(143);
    assert_eq!(end.stdout, "");
    assert_eq!(fs::read_dir(tmp(&world)).unwrap().count(), 0);
    assert!(!Path::new("/proc").join(git).exists(), "its git lives");
}

#[test]
fn one_whose_parent_is_killed_ends_and_leaves_no_clone() {
    let world = World::new();
    let (call, started) = with_a_git_that_hangs(&world);
    // The shell has something left to do, so it does not become the command.
    let shell = call.inside(&["sh", "-c", r#""$0" "$@"; :"#]).start();
    let git = fs::read_to_string(started).unwrap();
    shell.signal(Signal::SIGKILL);
    // Until the last one that could write to stderr is gone.
    let end = shell.wait().expect(137);
    assert!(end.stderr.contains("ended by death of the parent process"), "{}", end.stderr);
    assert_eq!(fs::read_dir(tmp(&world)).unwrap().count(), 0);
    assert!(!Path::new("/proc").join(git.trim()).exists(), "its git lives");
}

#[test]
fn the_documentation_has_every_rule_as_it_is() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/recipe-check.md");
    let text = fs::read_to_string(file).unwrap();
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
    let row = |rule: &&cc_ci_core::recipe::rules::Rule| {
        let severity = rule.severity.as_str();
        format!("| `{}` | {severity} | {} | {} | {} |", rule.id, rule.summary, rule.why, rule.mend)
    };
    assert_eq!(rows, RULES.iter().map(row).collect::<Vec<_>>());
}
