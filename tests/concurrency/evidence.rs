//! What a person looks for when a run was red: it is in the run's directory once the app is gone.

use std::fs;

use cc_ci_tests::{Recipe, World, until};
use nix::sys::signal::Signal;

use crate::paused_runs::{self, RUN};

/// The recipe at `version`, with a service that logs, its secret too, before it serves.
fn logs(recipe: &Recipe, version: &str) {
    recipe.compose(version, "environment:\n        KEY: ${CCCI_SECRET_KEY:-}");
    let compose = fs::read_to_string(recipe.path().join("compose.yml")).unwrap();
    let wrapped = format!(
        "command: [sh, -c, 'echo came up as version {version} with $$(cat \"$$KEY\"); exec \"$$0\" \"$$@\"', "
    );
    recipe.write("compose.yml", &compose.replace("command: [", &wrapped));
}

#[test]
fn the_logs_of_services_that_were_replaced_and_removed_are_kept_without_secrets() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.script("tests/custom-fails", "exit 1");
    logs(&recipe, "1");
    recipe.release("1.0.0+1");
    logs(&recipe, "2");
    recipe.release("1.1.0+2");
    world.cc_ci(["run", "--run-id", "1"]).arg(recipe.path()).run().expect(1);
    world.assert_empty();
    let log = fs::read_to_string(world.runs().join("1/logs/service-app.log")).unwrap();
    let [before, after] =
        ["1", "2"].map(|version| log.find(&format!("came up as version {version} with [secret]")));
    assert!(before.is_some() && before < after, "{log}");
}

#[test]
fn a_service_that_ended_while_it_was_tested_tells_how() {
    let world = World::new();
    let recipe = world.recipe("plain");
    logs(&recipe, "1");
    let pid = world.path().join("pid");
    let compose = fs::read_to_string(recipe.path().join("compose.yml")).unwrap();
    let tells = format!("echo $$$$ > {}; exec", pid.display());
    recipe.write("compose.yml", &compose.replace("exec", &tells));
    recipe.script(
        "tests/custom-ends-it",
        &format!(
            "pid=$(cat {})\nkill -KILL \"$pid\"\nwhile readlink \"/proc/$pid/exe\" > /dev/null; do :; done",
            pid.display()
        ),
    );
    recipe.commit();
    world.cc_ci(["run", "--run-id", "1"]).arg(recipe.path()).run().expect(1);
    let log = fs::read_to_string(world.runs().join("1/logs/service-app.log")).unwrap();
    assert!(log.contains("of app: ended, the process ended\ncame up"), "{log}");
}

#[test]
fn what_a_test_printed_before_the_run_was_killed_is_in_its_log() {
    let world = World::new();
    let (running, _) = paused_runs::in_a_test(&world, "echo got so far\nexec sleep 1000");
    let logs = world.runs().join(RUN).join("logs");
    until("the line is in the log", || {
        let mut files = fs::read_dir(&logs).unwrap();
        files.any(|file| {
            fs::read_to_string(file.unwrap().path()).is_ok_and(|text| text.contains("got so far\n"))
        })
    });
    running.signal(Signal::SIGKILL);
    running.wait().expect(137);
    paused_runs::reaped_by_one_pass(&world);
}
