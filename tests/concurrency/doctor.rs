//! The doctor, on hosts where something is broken: it says what, how to mend it, and hides nothing else.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use cc_ci_tests::{CcCi, World, unconfined};
use serde_json::Value;

use crate::fake_engine::{Says, host, listen};

/// A host that is well.
fn host_of() -> World {
    let world = World::new();
    fs::create_dir(world.runs()).unwrap();
    world
}

fn doctor(world: &World) -> CcCi {
    world.cc_ci(["doctor", "--format", "json"])
}

/// What it says: every check's facts in one text, and the problems.
struct Diagnosis {
    facts: String,
    problems: Vec<(String, String, String)>,
}

impl Diagnosis {
    /// One problem of this check, with a text in it and one in its fix.
    #[track_caller]
    fn has(&self, check: &str, problem: &str, fix: &str) {
        let found =
            self.problems.iter().find(|(name, message, _)| name == check && message.contains(problem));
        let Some((_, _, message)) = found else { panic!("no {check}: {problem} in {:#?}", self.problems) };
        assert!(message.contains(fix), "{message}");
    }
}

/// Runs it. Its exit is that of its problems, and it changes nothing.
#[track_caller]
fn diagnosis(world: &World, call: CcCi) -> Diagnosis {
    let before = world.snapshot();
    let end = call.run();
    assert_eq!(world.snapshot(), before, "a look changed something");
    let json = end.json();
    assert_eq!(json["schema"], "cc-ci.doctor/v1");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut message = Diagnosis { facts: String::new(), problems: Vec::new() };
    for check in json["checks"].as_array().unwrap() {
        for fact in check["facts"].as_array().unwrap() {
            writeln!(message.facts, "{}: {}", text(&check["name"]), text(fact)).unwrap();
        }
        for problem in check["problems"].as_array().unwrap() {
            message.problems.push((text(&check["name"]), text(&problem["problem"]), text(&problem["fix"])));
        }
    }
    assert_eq!(json["healthy"], message.problems.is_empty());
    assert_eq!(end.code, i32::from(!message.problems.is_empty()), "{}", end.stderr);
    // The disk of whoever runs the tests is no subject of theirs.
    message.problems.retain(|(_, problem, _)| !problem.contains("nearly full"));
    assert!(message.problems.iter().all(|(_, problem, fix)| !problem.is_empty() && !fix.is_empty()));
    message
}

#[test]
fn what_recipes_may_ask_for_is_told_and_a_directory_of_tests_that_is_not_there() {
    let world = host_of();
    let config = world.path().join("allow.toml");
    let tests = world.path().join("tests");
    let text =
        format!("tests_dir = {tests:?}\n[recipes.pad]\nallow = [\"port=22\", \"cap_add=NET_ADMIN\"]\n");
    fs::write(&config, unconfined(text)).unwrap();
    let look = || diagnosis(&world, doctor(&world).arg("--config").arg(&config));
    let missing = look();
    assert!(missing.facts.contains("pad may ask for port=22, cap_add=NET_ADMIN"), "{}", missing.facts);
    missing.has("recipes", "is no directory of tests", "tests_dir");
    fs::create_dir(&tests).unwrap();
    assert!(look().facts.contains("the operator's tests are in"));
}

#[test]
fn a_host_that_is_well_has_facts_and_no_problems() {
    let world = host_of();
    let found = diagnosis(&world, doctor(&world));
    assert_eq!(found.problems, []);
    for fact in [
        "executor: local",
        "they have this host's network",
        "recipes' code: not confined",
        "git: git version",
        "nobody's yet",
        "GiB free",
    ] {
        assert!(found.facts.contains(fact), "{fact}: {}", found.facts);
    }
    world.cc_ci(["janitor"]).run().expect(0);
    assert!(diagnosis(&world, doctor(&world)).facts.contains("lock space: ours: "));
    let end = world.cc_ci(["doctor"]).run();
    assert!(end.stdout.starts_with("executor        local"), "{}", end.stdout);
}

#[test]
fn broken_directories_are_told_each_with_its_knob() {
    let world = host_of();
    fs::remove_dir(world.locks()).unwrap();
    fs::remove_dir(world.runs()).unwrap();
    fs::write(world.runs(), "").unwrap();
    fs::write(world.local_root(), "").unwrap();
    let found = diagnosis(&world, doctor(&world));
    found.has("lock directory", "it does not exist", "CCCI_APP_LOCK_DIR");
    found.has("runs directory", "no directory", "CCCI_RUNS_DIR");
    found.has("local root", "no directory", "CCCI_LOCAL_ROOT");
    assert!(found.facts.contains("git: git version"), "{}", found.facts);
}

#[test]
fn a_lock_directory_where_anybody_can_replace_a_lock_is_told() {
    let world = host_of();
    fs::set_permissions(world.locks(), PermissionsExt::from_mode(0o777)).unwrap();
    diagnosis(&world, doctor(&world)).has("lock directory", "not sticky", "CCCI_APP_LOCK_DIR");
}

#[test]
fn a_lock_file_that_nobody_can_trust_is_told_by_its_name() {
    let world = host_of();
    let domain = world.domain("x", 1);
    let path = world.fifo(&format!("locks/cc-ci-app-{domain}.lock"));
    diagnosis(&world, doctor(&world)).has(
        "lock directory",
        "FIFO",
        &format!("see who made {}: ", path.display()),
    );
}

#[test]
fn a_claim_of_another_lock_directory_is_told_before_a_run_is_refused() {
    let world = host_of();
    let other = world.path().join("other");
    fs::create_dir(&other).unwrap();
    world.cc_ci(["janitor"]).env("CCCI_APP_LOCK_DIR", &other).run().expect(0);
    let fix = format!("CCCI_APP_LOCK_DIR={}", other.display());
    diagnosis(&world, doctor(&world)).has("lock space", "another lock directory", &fix);
    world.cc_ci(["janitor"]).run().expect(2);
    fs::write(world.local_root().join("lock-space.json"), "garbage").unwrap();
    diagnosis(&world, doctor(&world)).has("lock space", "no lock-space claim", "rm ");
}

#[test]
fn a_git_that_is_missing_or_hangs_is_told() {
    let world = host_of();
    let found = diagnosis(&world, doctor(&world).env("PATH", "/nonexistent"));
    found.has("git", "no git in PATH", "install git");
    let bin = world.path().join("hanging");
    world.recipe_at(&bin).script("git", "exec sleep 1000");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    diagnosis(&world, doctor(&world).env("PATH", path)).has("git", "longer than", "install git");
}

#[test]
fn an_engine_that_is_not_there_or_hangs_is_a_problem_where_it_is_needed() {
    let world = host_of();
    let hanging = listen(&world, Says::Nothing);
    let engines = [
        (host(&world.path().join("nothing.sock")), "no Docker engine answers", "DOCKER_HOST"),
        (host(world.path()), "", ""),
        (hanging, "did not answer within", "journalctl"),
        ("tcp://10.0.0.1:2376".to_owned(), "locks are per host", "unix://"),
    ];
    for (docker, problem, fix) in engines {
        let found =
            diagnosis(&world, doctor(&world).env("CCCI_EXECUTOR", "abra").env("DOCKER_HOST", &docker));
        let check = if docker.starts_with("tcp") { "executor" } else { "engine" };
        found.has(check, problem, fix);
        // The rest is looked at all the same.
        assert!(found.facts.contains("git: git version"), "{}", found.facts);
        // To the local executor it is nothing.
        assert_eq!(diagnosis(&world, doctor(&world).env("DOCKER_HOST", &docker)).problems, []);
        // Who can't tell which one is meant says so.
        let auto = doctor(&world).env("CCCI_EXECUTOR", "auto").env("DOCKER_HOST", &docker);
        let found = diagnosis(&world, world.with_quiet_abra(auto));
        found.has("executor", "", "");
    }
}

#[test]
fn a_swarm_is_looked_at_whole() {
    let world = host_of();
    let docker = listen(&world, Says::Manager);
    fs::create_dir_all(world.abra_dir().join("servers/default")).unwrap();
    let call = || {
        let call = doctor(&world).env("CCCI_EXECUTOR", "abra").env("DOCKER_HOST", &docker);
        world.with_quiet_abra(call)
    };
    let found = diagnosis(&world, call().env("ABRA_DIR", world.abra_dir()));
    assert_eq!(found.problems, []);
    let facts = [
        "engine: Docker 20.10.24, API 1.41",
        "swarm: managed from here; this node, here, takes tasks",
        "network proxy: overlay",
        "lock space: nobody's yet",
        "abra: abra version 0.10.0",
        "abra: app deploy: --no-input, --chaos, --no-converge-checks, --force, --no-domain-checks, --offline",
        "abra: app ls lists 0 apps",
        "servers/default",
    ];
    for fact in facts {
        assert!(found.facts.contains(fact), "{fact}: {}", found.facts);
    }
    let old = doctor(&world).env("CCCI_EXECUTOR", "abra").env("DOCKER_HOST", &docker);
    let found = diagnosis(&world, world.with_old_abra(old.env("ABRA_DIR", world.abra_dir())));
    found.has("abra", "lacks what cc-ci needs: abra app new", "newer abra");
    assert!(found.facts.contains("abra: app deploy: missing, needed"), "{}", found.facts);
    let found = diagnosis(&world, call().env("ABRA_DIR", "/nonexistent"));
    found.has("abra", "no abra tree", "ABRA_DIR");
}
