//! Warm apps on a Swarm: the quick lane upgrades, tests and rolls back, and `warm reconcile` mends what it could not.

use cc_ci_tests::StartedCommand;
use cc_ci_tests::stand_in::Wrong;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{deploys, statuses, tier, warnings};
use crate::warmed::{Warmed, added_and_sick, unhealthy};

/// The statuses of a quick run's tiers, where all went well.
const GREEN: [&str; 6] = ["skipped", "passed", "skipped", "skipped", "passed", "passed"];

/// The rollback proved what it should.
#[track_caller]
fn rolled_back(warmed: &Warmed, record: &Value) {
    assert_eq!(tier(record, "rollback")["status"], "passed", "{record:#}");
    assert_eq!(record["receipt"]["left"], json!([]), "{record:#}");
    assert_eq!(record["receipt"]["verified"], json!([warmed.domain.as_str()]), "{record:#}");
}

#[test]
fn a_green_quick_run_leaves_the_app_as_it_was_and_nothing_that_it_added() {
    let test = "a_green_quick_run_leaves_the_app_as_it_was_and_nothing_that_it_added";
    let Some(warmed) = Warmed::new(test) else { return };
    let gate = warmed.world().gate("custom");
    let script = format!(
        "test -s \"$CCCI_SECRETS_DIR/extra\"; grep -q NEW=value \"$CCCI_ENV_FILE\"; {}",
        gate.script()
    );
    warmed.adds().script("tests/custom-looks", &script).commit();
    let run = warmed.quick("green").start();
    gate.wait();
    // It is another app meanwhile, beside its own data.
    warmed.serves("1.1.0+1");
    let meanwhile: Vec<String> = warmed.look().into_keys().collect();
    for kind in ["service", "volume", "secret", "config", "network"] {
        assert!(
            meanwhile.iter().any(|name| name.starts_with(kind) && name.contains(added_name(kind))),
            "{meanwhile:?}"
        );
    }
    gate.open();
    let record = run.wait().expect(0).json();
    assert_eq!(statuses(&record), GREEN, "{record:#}");
    assert!(warnings(&record).is_empty(), "{record:#}");
    rolled_back(&warmed, &record);
    let removed = record["receipt"]["removed"].to_string();
    for kind in ["volume", "secret", "config", "network"] {
        assert!(removed.contains(&format!("\"kind\":\"{kind}\"")), "{kind}: {removed}");
    }
    assert!(!warmed.has_tree("green"));
    warmed.is_as_before();
    warmed.is_canonical();
    warmed.end();
}

fn added_name(kind: &str) -> &'static str {
    if kind == "config" { "_motd_v1" } else { "_extra" }
}

#[test]
fn an_upgrade_that_swarm_undoes_or_stops_is_red_and_the_canonical_version_serves_again() {
    let test = "an_upgrade_that_swarm_undoes_or_stops_is_red_and_the_canonical_version_serves_again";
    let Some(warmed) = Warmed::new(test) else { return };
    for (action, says) in [("rollback", "rolled back"), ("pause", "paused")] {
        // Waiting for the added service would take all of the recipe's minute, and fail.
        warmed.change(|compose| unhealthy(&added_and_sick(compose), action)).commit();
        let record = warmed.quick(action).run().expect(1).json();
        let upgrade = tier(&record, "upgrade");
        assert_eq!(upgrade["status"], "failed", "{record:#}");
        assert!(upgrade.to_string().contains(says), "{says}: {upgrade:#}");
        rolled_back(&warmed, &record);
        // What Swarm said of the upgrade is no word about what was ordered after it.
        assert!(
            warmed.update_state().is_none_or(|state| state == "completed"),
            "{:?}",
            warmed.update_state()
        );
        warmed.is_as_before();
    }
    warmed.is_canonical();
    warmed.end();
}

#[test]
fn what_an_operator_rolled_back_is_judged_by_what_it_is_after_the_next_order() {
    let test = "what_an_operator_rolled_back_is_judged_by_what_it_is_after_the_next_order";
    let Some(warmed) = Warmed::new(test) else { return };
    let service = warmed.service();
    warmed.docker(["service", "update", "--detach=false", "--quiet", "--env-add", "NEW=1", &service]);
    warmed.docker(["service", "rollback", "--detach=false", "--quiet", &service]);
    assert_eq!(warmed.update_state().as_deref(), Some("rollback_completed"));
    // Nobody knows what it was that was rolled back.
    let message = warmed.reconciled();
    assert_eq!(
        (&message["outcome"], &message["reasons"]),
        (&json!("restored"), &json!(["not healthy: app"]))
    );
    warmed.is_as_before();
    warmed.is_canonical();
    warmed.end();
}

#[test]
fn term_in_the_tests_and_in_the_middle_of_the_upgrade_is_rolled_back() {
    let test = "term_in_the_tests_and_in_the_middle_of_the_upgrade_is_rolled_back";
    let Some(warmed) = Warmed::new(test) else { return };
    let gate = warmed.world().gate("custom");
    warmed.adds().script("tests/custom-gate", &gate.script()).commit();
    let run = warmed.quick("tests").start();
    gate.wait();
    run.signal(Signal::SIGTERM);
    let record = run.wait().expect(143).json();
    rolled_back(&warmed, &record);
    warmed.is_as_before();
    warmed.hangs_at(1);
    let run = warmed.quick("upgrade").start();
    warmed.world().abra().wait_for("hangs");
    run.signal(Signal::SIGTERM);
    let record = run.wait().expect(143).json();
    rolled_back(&warmed, &record);
    warmed.is_canonical();
    warmed.end();
}

/// Kills a run, and sees that no janitor touches the app that it left in between.
#[track_caller]
fn killed(warmed: &Warmed, run: StartedCommand, id: &str) {
    run.signal(Signal::SIGKILL);
    run.wait().expect(137);
    let half_way = (warmed.look(), warmed.version_index());
    assert!(half_way.0.len() > 8, "what the upgrade added is there: {half_way:#?}");
    let janitor = warmed.call(["janitor"]).run().expect(0);
    assert!(!janitor.stdout.contains(warmed.domain.as_str()), "{}", janitor.stdout);
    warmed.call(["audit"]).run().expect(0);
    assert_eq!((warmed.look(), warmed.version_index()), half_way);
    let status = warmed.call(["status", "--format", "json"]).run().expect(0).json();
    assert_eq!(status["warm"], json!([{ "domain": warmed.domain.as_str(), "by": [id] }]));
}

#[track_caller]
fn mended(warmed: &Warmed, id: &str) {
    assert!(warmed.has_tree(id));
    let message = warmed.reconciled();
    assert_eq!(message["outcome"], "restored", "{message}");
    assert_eq!(message["reasons"][0], format!("run {id} ended in the middle of its work"));
    let removed = message["removed"].to_string();
    assert!(removed.contains("_extra") && removed.contains("_motd_v1"), "{removed}");
    assert!(!warmed.has_tree(id));
    warmed.is_as_before();
    warmed.is_canonical();
}

#[test]
fn who_is_killed_in_the_tests_or_in_the_rollback_leaves_what_reconcile_mends() {
    let test = "who_is_killed_in_the_tests_or_in_the_rollback_leaves_what_reconcile_mends";
    let Some(warmed) = Warmed::new(test) else { return };
    let gate = warmed.world().gate("dead");
    let script = format!("[ \"$CCCI_RUN_ID\" != tests ] || {{ {}; }}", gate.script());
    warmed.adds().script("tests/custom-gate", &script).commit();
    let run = warmed.quick("tests").start();
    gate.wait();
    killed(&warmed, run, "tests");
    mended(&warmed, "tests");
    // The first deploy is the upgrade's.
    warmed.hangs_at(2);
    let run = warmed.quick("rollback").start();
    warmed.world().abra().wait_for("hangs");
    killed(&warmed, run, "rollback");
    mended(&warmed, "rollback");
    warmed.end();
}

#[test]
fn a_rollback_in_which_abra_hangs_is_residue_within_its_budget_and_names_the_way_out() {
    let test = "a_rollback_in_which_abra_hangs_is_residue_within_its_budget_and_names_the_way_out";
    let Some(warmed) = Warmed::new(test) else { return };
    warmed.adds().commit();
    warmed.hangs_at(2);
    // On a busy machine abra is called some seconds after the rollback has begun.
    let run = warmed.quick("stuck").env("CCCI_TEARDOWN_BUDGET", "20s").start();
    let hung = warmed.world().abra().wait_for("hangs");
    // What hangs would do so for ever.
    let end = run.wait().expect(4);
    let record = end.json();
    assert_eq!(record["verdict"], "residue");
    let names_it = format!("cc-ci warm reconcile {}", warmed.domain);
    assert!(record["receipt"]["failures"].to_string().contains(&names_it), "{record:#}");
    assert!(end.stderr.contains(&names_it), "{}", end.stderr);
    assert!(!std::path::Path::new(&format!("/proc/{}", hung.pid)).exists());
    assert_eq!(warmed.world().processes(), [], "nor does anything that it started");
    warmed.world().abra().does(&[]);
    mended(&warmed, "stuck");
    warmed.end();
}

#[test]
fn quick_runs_of_one_recipe_wait_for_each_other_and_a_cold_run_for_none() {
    let test = "quick_runs_of_one_recipe_wait_for_each_other_and_a_cold_run_for_none";
    let Some(warmed) = Warmed::new(test) else { return };
    let gate = warmed.world().gate("custom");
    let script = format!("[ \"$CCCI_RUN_ID\" != first ] || {{ {}; }}", gate.script());
    warmed.adds().script("tests/custom-gate", &script).commit();
    let first = warmed.quick("first").start();
    gate.wait();
    let mut second = warmed.quick("second").start();
    second.wait_for(&format!("== app lock: {} in flight — waiting ==", warmed.domain));
    let meanwhile = (warmed.look(), warmed.version_index(), warmed.task_ids());
    let cold = warmed.call(["run", "--fresh", "--format", "json", "--pr", "7"]).arg(warmed.recipe.path());
    let cold = cold.run().expect(0).json();
    assert_eq!((&cold["lane"], &cold["receipt"]["left"]), (&json!("cold"), &json!([])), "{cold:#}");
    assert_eq!((warmed.look(), warmed.version_index(), warmed.task_ids()), meanwhile);
    gate.open();
    for run in [first, second] {
        let record = run.wait().expect(0).json();
        assert_eq!(statuses(&record), GREEN, "{record:#}");
        rolled_back(&warmed, &record);
    }
    warmed.is_canonical();
    warmed.end();
}

#[test]
fn an_upgrade_that_brought_more_than_was_judged_is_rolled_back() {
    let test = "an_upgrade_that_brought_more_than_was_judged_is_rolled_back";
    let Some(warmed) = Warmed::new(test) else { return };
    warmed.adds().commit();
    let overlay = Wrong::Overlay("services: {app: {volumes: ['/tmp:/host']}}".to_owned());
    warmed.world().abra().does_at(&[(overlay, Some(deploys(warmed.world()) + 1))]);
    let record = warmed.quick("more").run().expect(1).json();
    let upgrade = tier(&record, "upgrade");
    assert!(upgrade.to_string().contains("Mounts./host was not ordered"), "{upgrade:#}");
    rolled_back(&warmed, &record);
    warmed.is_as_before();
    warmed.is_canonical();
    warmed.end();
}
