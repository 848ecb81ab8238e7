//! What a person looks for when a run was red: it is in the run's directory once the app is gone.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use cc_ci_tests::{Recipe, World, pipes, until};
use nix::sys::signal::Signal;
use serde_json::json;

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
            "echo all is well\npid=$(cat {})\nkill -KILL \"$pid\"\nwhile readlink \"/proc/$pid/exe\" > /dev/null; do :; done",
            pid.display()
        ),
    );
    recipe.commit();
    world.cc_ci(["run", "--run-id", "1"]).arg(recipe.path()).run().expect(1);
    let log = fs::read_to_string(world.runs().join("1/logs/service-app.log")).unwrap();
    assert!(log.contains("of app: ended, the process ended\ncame up"), "{log}");
    let digest = &world.record("1")["digest"];
    assert!(digest["step"].as_str().unwrap().starts_with("generic/"), "{digest:#}");
    assert!(
        !digest["cause"].to_string().contains("all is well"),
        "a test that passed is no cause: {digest:#}"
    );
}

#[test]
fn install_steps_that_ended_well_are_no_cause_of_what_follows_them() {
    let world = World::new();
    let recipe = world.recipe("plain");
    let spoil = "echo all is well\necho 'what is this' >> \"$CCCI_ENV_FILE\"";
    recipe.script("tests/install_steps.sh", spoil).commit();
    world.cc_ci(["run", "--run-id", "1"]).arg(recipe.path()).run().expect(1);
    let digest = &world.record("1")["digest"];
    assert_eq!(digest["step"], "create", "{digest:#}");
    assert!(!digest["cause"].to_string().contains("all is well"), "{digest:#}");
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
    let record = world.record(RUN);
    assert_eq!(
        (&record["verdict"], &record["digest"]["step"]),
        (&json!("killed"), &json!("recipe/custom.sh"))
    );
    assert_eq!(record["receipt"]["verified"], json!([world.domain("plain", 7)]));
    let removed = record["receipt"]["removed"].as_array().unwrap();
    assert!(removed.iter().any(|resource| resource["kind"] == "volume"), "{removed:?}");
    // What had passed is told.
    assert_eq!(record["tiers"][0]["status"], "passed", "{record:#}");
    // Nobody knows when it died.
    assert!(record["finished"].is_null(), "{record:#}");
    let directory = world.runs().join(RUN);
    assert!(!fs::read_to_string(directory.join("report.html")).unwrap().contains("<dt>Took</dt>"));
    let written = || fs::metadata(directory.join("run.json")).unwrap().ino();
    let before = written();
    world.cc_ci(["janitor"]).run().expect(0);
    assert_eq!(written(), before, "another pass concluded it again");
}

#[test]
fn a_red_run_tells_the_service_its_log_and_whom_to_blame() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.compose("1", "").release("1.0.0+1");
    recipe.compose("2", "environment:\n        EXIT: '3'").release("1.1.0+2");
    let end = world.cc_ci(["run", "--run-id", "1"]).arg(recipe.path()).run().expect(1);
    let digest = &world.record("1")["digest"];
    assert_eq!((&digest["tier"], &digest["step"]), (&json!("upgrade"), &json!("upgrade")), "{digest:#}");
    assert_eq!((&digest["service"], &digest["blame"]), (&json!("app"), &json!("recipe")), "{digest:#}");
    let lines = digest["log"]["lines"].as_array().unwrap();
    assert!(lines.contains(&json!("told to exit with 3")), "{digest:#}");
    let why = end.stdout.split_once("why: ").unwrap().1;
    for message in ["upgrade failed", "told to exit with 3", "blame: the recipe", "next: cc-ci logs 1 app"] {
        assert!(why.contains(message), "{message}: {why}");
    }
}

#[test]
fn a_run_that_is_ended_tells_what_went_on_what_it_had_said_and_what_had_passed() {
    let world = World::new();
    let (running, _) = paused_runs::in_a_test(&world, "echo waits for the moon\nexec sleep 1000");
    let log = world.runs().join(RUN).join("logs/custom-recipe-custom.sh.log");
    until("the test speaks", || fs::read_to_string(&log).is_ok_and(|text| text.contains("moon")));
    running.signal(Signal::SIGTERM);
    let (_, record) = paused_runs::torn_down(&world, running, 143);
    let digest = &record["digest"];
    let what = digest["what"].as_str().unwrap();
    assert!(
        what.starts_with("ended by SIGTERM after ") && what.ends_with(" of custom: recipe/custom.sh"),
        "{what}"
    );
    assert_eq!(digest["cause"], json!(["waits for the moon"]));
    let custom = record["tiers"].as_array().unwrap().last().unwrap();
    assert_eq!((&custom["name"], &custom["status"]), (&json!("custom"), &json!("not_run")));
    assert!(record["doing"].is_null(), "{record:#}");
}

#[test]
fn the_steps_that_had_passed_are_in_the_record_of_a_run_that_is_ended() {
    let world = World::new();
    let (recipe, pipe) = paused_runs::recipe(&world, "exec sleep 1000");
    let tests = recipe.path().join("tests");
    fs::rename(tests.join("custom.sh"), tests.join("custom-b$(reboot)")).unwrap();
    recipe.script("tests/custom-a", "echo all is well").commit();
    let running = paused_runs::run(&world, &recipe).start();
    pipes::hear(&pipe);
    running.signal(Signal::SIGTERM);
    let (_, record) = paused_runs::torn_down(&world, running, 143);
    let custom = record["tiers"].as_array().unwrap().last().unwrap();
    assert_eq!(custom["steps"][0]["name"], "recipe/custom-a", "{custom:#}");
    let digest = &record["digest"];
    assert_eq!(
        digest["next"],
        json!(["cc-ci logs 1 'custom-b$(reboot)'"]),
        "a shell does nothing of its own"
    );
    assert_eq!(digest["cause"], json!([]), "what passed is no cause");
}

#[test]
fn what_a_run_was_is_asked_for_by_its_id() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.script("tests/custom-fails", "echo it is wrong; exit 1");
    recipe.commit();
    world.cc_ci(["run", "--run-id", "1"]).arg(recipe.path()).run().expect(1);
    let asked = |words: &[&str], code| world.cc_ci(words).run().expect(code);
    let listed = asked(&["runs", "--verdict", "red,killed", "--recipe", "plain", "--since", "1h"], 0).stdout;
    assert!(listed.starts_with("1  red") && listed.contains("recipe/custom-fails failed"), "{listed}");
    assert_eq!(asked(&["runs", "--verdict", "green"], 0).stdout, "no run\n");
    let json = asked(&["runs", "--format", "json"], 0).json();
    assert_eq!((&json["schema"], &json["runs"][0]["verdict"]), (&json!("cc-ci.runs/v1"), &json!("red")));
    let report = asked(&["report", "1"], 0).stdout;
    assert!(
        report.contains("why: recipe/custom-fails failed") && report.contains("blame: the recipe"),
        "{report}"
    );
    assert_eq!(asked(&["report", "1", "--format", "json"], 0).json(), world.record("1"));
    assert_eq!(asked(&["logs", "1", "custom-fails"], 0).stdout, "it is wrong\n");
    assert!(asked(&["logs", "1"], 0).stdout.contains("service-app\n"));
    let unknown = asked(&["logs", "1", "nobody"], 2).stderr;
    assert!(unknown.contains("hint: its logs: custom-recipe-custom-fails, service-app"), "{unknown}");
    assert!(asked(&["report", "2"], 2).stderr.contains("hint: cc-ci runs lists them"));
}

#[test]
fn what_a_dead_run_says_of_itself_orders_nothing_and_can_be_read_after_it_was_concluded() {
    // Each of those is longer once it is escaped: all of them would be more than a record may have.
    for hidden in [1, 1 << 20] {
        let world = World::new();
        let (running, _) = paused_runs::in_a_test(&world, "exec sleep 1000");
        running.signal(Signal::SIGKILL);
        running.wait().expect(137);
        let path = world.runs().join(RUN).join("run.json");
        let mut record = world.record(RUN);
        record["doing"]["phase"] = json!("install\u{1b}[2J\n::set-output name=a::b\n##[error]x");
        record["doing"]["step"] = json!("recipe/custom-a; reboot");
        record["run_id"] = json!("2");
        record["warnings"] = json!(["\u{200b}".repeat(hidden)]);
        fs::write(&path, record.to_string()).unwrap();
        paused_runs::reaped_by_one_pass(&world);
        let listed = world.cc_ci(["runs", "--format", "json"]).run().expect(0).json();
        let listed = listed["runs"].as_array().unwrap();
        assert_eq!((listed.len(), &listed[0]["run_id"]), (1, &json!(RUN)));
        let shown = world.cc_ci(["report", RUN]).run().expect(0).stdout;
        assert!(!shown.contains('\u{1b}') && !shown.contains("\n::") && !shown.contains("##["), "{shown}");
        if hidden > 1 {
            assert_eq!(world.record(RUN), record, "what would be too long stays as it is");
            continue;
        }
        assert!(shown.starts_with("killed: run 1 of plain"), "{shown}");
        assert!(shown.ends_with("next: cc-ci logs 1 'custom-a; reboot'\n"), "{shown}");
        for file in ["run.json", "report.html", "junit.xml"] {
            let kept = fs::read_to_string(world.runs().join(RUN).join(file)).unwrap();
            assert!(kept.contains("killed") && !kept.contains('\u{1b}') && !kept.contains("##["), "{kept}");
        }
    }
}

#[test]
fn who_reads_a_past_run_may_take_their_time_and_any_signal_ends_it() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    world.cc_ci(["run", "--run-id", "1"]).arg(recipe.path()).run().expect(0);
    let (reader, writer) = pipes::full();
    let mut call = world.cc_ci(["report", "1"]);
    call.command().stdout(writer);
    let running = call.start();
    let tasks = format!("/proc/{}/task", running.pid());
    let is_writer = |task: fs::DirEntry| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name == "stdout\n")
    };
    // No signal is heard by then, unless the process was given back.
    until("it writes", || {
        fs::read_dir(&tasks).is_ok_and(|mut all| all.any(|task| task.is_ok_and(is_writer)))
    });
    running.signal(Signal::SIGTERM);
    running.wait().expect(143);
    drop(reader);
}
