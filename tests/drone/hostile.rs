//! Values from outside are words for cc-ci, and nothing for a shell.

use std::fs;

use cc_ci_tests::ci::Runner;
use cc_ci_tests::executable;

use crate::{Ci, everywhere};

/// What a shell, a YAML parser or a command line might take for more than a value.
fn values(ci: &Ci) -> Vec<String> {
    let marker = ci.marker().display().to_string();
    let touch = format!("touch {marker}");
    vec![
        format!("$({touch})"),
        format!("`{touch}`"),
        format!("x; {touch} #"),
        format!("x\"; {touch}; \""),
        format!("x'; {touch}; '"),
        format!("x\n{touch}\n"),
        format!("x\n      - {touch}\n"),
        format!("x & {touch} &"),
        format!("x | tee {marker}"),
        format!("${{IFS:=$({touch})}}"),
        "--help".to_owned(),
        "--version".to_owned(),
        "-h".to_owned(),
        "-- --help".to_owned(),
        "--config=/dev/null".to_owned(),
        "*".to_owned(),
        "a b".to_owned(),
    ]
}

/// A command in cc-ci's place that tells its arguments, and is green.
fn impostor(ci: &Ci, runner: Runner) -> Runner {
    let (program, message) = (ci.world.path().join("bin/cc-ci"), ci.world.path().join("told"));
    fs::remove_file(&program).expect("the command's link");
    executable(&program, &format!("#!/bin/sh\nprintf '%s\\n' \"$@\" > '{}'\n", message.display()));
    runner
}

/// What it was told.
fn message(ci: &Ci) -> Option<String> {
    let path = ci.world.path().join("told");
    let message = fs::read_to_string(&path).ok();
    drop(fs::remove_file(path));
    message
}

#[test]
fn a_parameter_that_is_no_value_is_refused_and_never_run() {
    everywhere(|ci| {
        let recipe = ci.world.recipe("plain");
        let commit = recipe.commit();
        for name in ["RECIPE", "COMMIT", "PR"] {
            for value in values(ci).iter().map(String::as_str).chain([""]) {
                let end = ci.build_of(&recipe, &commit).set(name, value).start("parameters").wait();
                assert_eq!(end.code, 2, "{name}={value:?}: {}", end.stderr);
                assert!(!ci.marker().exists(), "{name}={value:?} was run");
            }
        }
        ci.world.assert_empty();
    });
}

#[test]
fn what_an_event_says_of_a_pull_request_is_refused_likewise() {
    everywhere(|ci| {
        let recipe = ci.world.recipe("plain");
        let commit = recipe.commit();
        for name in ["DRONE_GIT_HTTP_URL", "DRONE_COMMIT_SHA", "DRONE_PULL_REQUEST"] {
            let name = match ci.system {
                cc_ci_tests::ci::System::Drone => name,
                cc_ci_tests::ci::System::Woodpecker => match name {
                    "DRONE_GIT_HTTP_URL" => "CI_REPO_CLONE_URL",
                    "DRONE_COMMIT_SHA" => "CI_COMMIT_SHA",
                    _ => "CI_COMMIT_PULL_REQUEST",
                },
            };
            for value in values(ci).iter().map(String::as_str).chain([""]) {
                let end = ci.pull_request_at(&recipe, &commit).set(name, value).start("pull-request").wait();
                assert_eq!(end.code, 2, "{name}={value:?}: {}", end.stderr);
                assert!(!ci.marker().exists(), "{name}={value:?} was run");
            }
        }
        ci.world.assert_empty();
    });
}

#[test]
fn the_quick_lane_is_asked_for_in_one_way_only() {
    everywhere(|ci| {
        let recipe = ci.world.recipe("plain");
        let commit = recipe.commit();
        let step = impostor(ci, ci.build_of(&recipe, &commit).set("QUICK", "1")).start("parameters");
        step.wait().expect(0);
        let quick = message(ci).expect("it was called");
        assert!(quick.starts_with("run\n--quick\n--commit="), "{quick}");
        assert!(quick.ends_with(&format!("--\n{}\n", recipe.path().display())), "{quick}");
        ci.build_of(&recipe, &commit).start("parameters").wait().expect(0);
        let cold = message(ci).expect("it was called");
        assert!(cold.starts_with("run\n--commit="), "{cold}");
        for value in values(ci).iter().map(String::as_str).chain(["0", "true", "yes", "01", "1 ", " 1", "11"])
        {
            ci.build_of(&recipe, &commit).set("QUICK", value).start("parameters").wait().expect(2);
            assert_eq!(message(ci), None, "QUICK={value:?}");
        }
        ci.build_of(&recipe, &commit).set("QUICK", "").start("parameters").wait().expect(0);
        assert_eq!(message(ci).map(|message| message.contains("quick")), Some(false));
        assert!(!ci.marker().exists(), "a value was run");
    });
}
