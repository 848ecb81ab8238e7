//! The quick lane: a warm app is upgraded, tested and rolled back, whatever ends the run.

use std::fs;

use cc_ci_tests::World;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::paused_runs::Foreign;
use crate::warmed::Warmed;

fn tier<'r>(record: &'r Value, name: &str) -> &'r Value {
    let mut tiers = record["tiers"].as_array().into_iter().flatten();
    tiers.find(|tier| tier["name"] == name).unwrap_or_else(|| panic!("no tier {name}: {record:#}"))
}

fn statuses(record: &Value) -> Vec<&str> {
    record["tiers"].as_array().into_iter().flatten().filter_map(|tier| tier["status"].as_str()).collect()
}

/// The app is what it was, and nothing of the run is left.
#[track_caller]
fn rolled_back(warmed: &Warmed, before: &std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>, run: &str) {
    assert_eq!(&warmed.persistent(), before);
    assert_eq!(warmed.answer(), "version 1");
    assert!(!warmed.has_tree(run));
    assert_eq!(warmed.reconciled()["outcome"], "at_baseline");
}

#[test]
fn a_green_run_leaves_the_app_byte_for_byte_and_nothing_that_it_added() {
    let warmed = Warmed::new();
    let seen = warmed.path().join("seen");
    let script = format!(
        "ls '{}' '{}' > '{}'; grep -q NEW=value \"$CCCI_ENV_FILE\"; test -s \"$CCCI_SECRETS_DIR/extra\"",
        warmed.app("services").display(),
        warmed.app("volumes").display(),
        seen.display()
    );
    warmed.change().script("tests/custom-looks", &script).script("tests/upgrade-fails", "exit 1").commit();
    let before = warmed.persistent();
    let end = warmed.quick("green").run().expect(0);
    let record = end.json();
    assert_eq!(statuses(&record), ["skipped", "passed", "skipped", "skipped", "passed", "passed"]);
    assert_eq!((&record["lane"], &record["domain"]), (&json!("quick"), &json!(warmed.domain.as_str())));
    assert_eq!(
        tier(&record, "upgrade")["steps"][4]["name"],
        "generic/no-restart",
        "no upgrade test of the recipe"
    );
    // It was another app meanwhile.
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.contains("extra.json") && seen.contains("_extra"), "{seen}");
    let removed = record["receipt"]["removed"].to_string();
    for kind in ["volume", "secret", "config"] {
        assert!(removed.contains(&format!("\"kind\":\"{kind}\"")), "{kind}: {removed}");
    }
    assert_eq!(record["receipt"]["verified"], json!([warmed.domain.as_str()]));
    rolled_back(&warmed, &before, "green");
    let human = warmed.call(["run", "--quick"]).arg(warmed.fork.path()).run().expect(0);
    assert!(human.stdout.contains("lower confidence"), "{}", human.stdout);
}

#[test]
fn a_network_for_the_app_is_chosen_by_its_own_env_and_by_no_new_variable() {
    let warmed = Warmed::new();
    warmed.change();
    let compose = fs::read_to_string(warmed.fork.path().join("compose.yml")).unwrap();
    let sample = fs::read_to_string(warmed.fork.path().join(".env.sample")).unwrap();
    let join = "networks: {more: {external: true, name: '${MORE}'}}\n";
    warmed.fork.write("compose.yml", &(compose + join));
    warmed.fork.write(".env.sample", &(sample + "MORE=blog_example_org_internal\n")).commit();
    let before = warmed.persistent();
    let record = warmed.quick("joins").run().expect(1).json();
    assert!(tier(&record, "upgrade").to_string().contains("neither the app's own nor shared"), "{record:#}");
    assert_eq!(tier(&record, "rollback")["reason"], "the app was not touched");
    rolled_back(&warmed, &before, "joins");
    let env = fs::read_to_string(warmed.env_file()).unwrap();
    fs::write(warmed.env_file(), env + "MORE=blog_example_org_internal\n").unwrap();
    warmed.quick("chosen").run().expect(0);
}

#[test]
fn a_fresh_install_of_the_commit_is_judged_too_where_no_install_steps_have_their_say() {
    let warmed = Warmed::new();
    let before = warmed.persistent();
    // The warm app keeps the secret that no new one would have.
    warmed.change();
    let sample = fs::read_to_string(warmed.fork.path().join(".env.sample")).unwrap();
    let lost: String = sample.split_inclusive('\n').filter(|line| !line.contains("SECRET_KEY_")).collect();
    assert_ne!(lost, sample);
    warmed.fork.write(".env.sample", &lost).commit();
    let record = warmed.quick("fresh").run().expect(1).json();
    let reason = tier(&record, "upgrade")["reason"].to_string();
    assert!(reason.contains("generic/fresh-install failed: with its own .env.sample: "), "{reason}");
    rolled_back(&warmed, &before, "fresh");
    // Nobody knows here what they would set.
    warmed.fork.script("tests/install_steps.sh", "exit 0").commit();
    let record = warmed.quick("steps").run().expect(0).json();
    assert!(!record.to_string().contains("fresh-install"), "{record:#}");
}

#[test]
fn red_tests_and_a_broken_upgrade_are_rolled_back_too() {
    let warmed = Warmed::new();
    let before = warmed.persistent();
    warmed.change().script("tests/custom-fails", "exit 3").commit();
    let record = warmed.quick("red").run().expect(1).json();
    assert_eq!(statuses(&record), ["skipped", "passed", "skipped", "skipped", "failed", "passed"]);
    rolled_back(&warmed, &before, "red");
    warmed.fork.compose("3", "environment:\n        EXIT: \"7\"").commit();
    let record = warmed.quick("broken").run().expect(1).json();
    assert_eq!(statuses(&record), ["skipped", "failed", "not_run", "not_run", "not_run", "passed"]);
    rolled_back(&warmed, &before, "broken");
    // Refused before the app is touched.
    let compose = fs::read_to_string(warmed.fork.path().join("compose.yml")).unwrap();
    warmed.fork.write("compose.yml", &compose.replace("image: test/app:3", "imagine: that")).commit();
    let record = warmed.quick("refused").run().expect(1).json();
    assert_eq!(tier(&record, "rollback")["reason"], "the app was not touched");
    rolled_back(&warmed, &before, "refused");
}

#[test]
fn a_signal_ends_in_the_rollback() {
    let warmed = Warmed::new();
    let before = warmed.persistent();
    let gate = warmed.gate("custom");
    warmed.change().script("tests/custom-gate", &gate.script()).commit();
    let run = warmed.quick("ended").start();
    gate.wait();
    run.signal(Signal::SIGTERM);
    let end = run.wait().expect(143);
    assert_eq!(tier(&end.json(), "rollback")["status"], "passed", "{}", end.stderr);
    rolled_back(&warmed, &before, "ended");
}

#[test]
fn a_signal_in_the_middle_of_the_upgrade_is_rolled_back() {
    let warmed = Warmed::new();
    let before = warmed.persistent();
    let started = warmed.fifo("started");
    warmed.fork.compose("2", &format!("environment:\n        STARTED: {}", started.display())).commit();
    let run = warmed.quick("ended").start();
    cc_ci_tests::pipes::hear(&started);
    run.signal(Signal::SIGTERM);
    run.wait().expect(143);
    rolled_back(&warmed, &before, "ended");
}

#[test]
fn what_cannot_be_rolled_back_is_residue_that_names_the_way_out() {
    let sick = std::env::temp_dir().join(format!("cc-ci-sick-{}", std::process::id()));
    let warmed = Warmed::with(&format!("environment:\n        UNHEALTHY_WHILE: {}", sick.display()));
    let before = warmed.persistent();
    warmed.change().script("tests/custom-harms", &format!("touch '{}'", sick.display())).commit();
    let end = warmed.quick("stuck").env("CCCI_TEARDOWN_BUDGET", "2s").run().expect(4);
    let record = end.json();
    assert_eq!(record["verdict"], "residue");
    let names_it = format!("cc-ci warm reconcile {}", warmed.domain);
    assert!(record["receipt"]["failures"].to_string().contains(&names_it), "{record:#}");
    assert!(end.stderr.contains(&format!("hint: restore {}: {names_it}", warmed.domain)), "{}", end.stderr);
    assert!(warmed.has_tree("stuck"));
    fs::remove_file(sick).unwrap();
    let message = warmed.reconciled();
    assert_eq!(message["outcome"], "restored", "{message}");
    rolled_back(&warmed, &before, "stuck");
}

#[test]
fn the_tags_of_a_fork_do_not_say_what_is_canonical() {
    let warmed = Warmed::new();
    let before = warmed.persistent();
    warmed.fork.compose("evil", "").release("1.0.0+1");
    warmed.change().release("9.0.0+1");
    warmed.quick("fork").run().expect(0);
    rolled_back(&warmed, &before, "fork");
}

#[test]
fn a_killed_quick_run_is_restored_by_the_next_one_before_it_tests() {
    let warmed = Warmed::new();
    let before = warmed.persistent();
    warmed.killed();
    assert_ne!(warmed.persistent(), before);
    let end = warmed.quick("next").run().expect(0);
    assert!(end.stderr.contains("is restored to 1.0.0+1: run dead ended in the middle"), "{}", end.stderr);
    assert!(!warmed.has_tree("dead"));
    rolled_back(&warmed, &before, "next");
}

#[test]
fn a_run_that_is_ended_while_it_brings_the_app_back_brings_it_back_in_its_teardown() {
    let sick = std::env::temp_dir().join(format!("cc-ci-sick-back-{}", std::process::id()));
    let warmed = Warmed::with(&format!("environment:\n        UNHEALTHY_WHILE: {}", sick.display()));
    let before = warmed.persistent();
    warmed.killed();
    fs::write(&sick, "").unwrap();
    let mut run = warmed.quick("next").start();
    run.wait_for("is restored to");
    run.signal(Signal::SIGTERM);
    run.wait_for("-- rollback");
    fs::remove_file(sick).unwrap();
    let end = run.wait().expect(143);
    assert_eq!(tier(&end.json(), "rollback")["status"], "passed", "{}", end.stderr);
    assert!(!warmed.has_tree("dead") && !warmed.has_tree("next"));
    rolled_back(&warmed, &before, "next");
}

#[test]
fn a_second_quick_run_waits_and_a_cold_run_beside_it_does_not() {
    let warmed = Warmed::new();
    let before = warmed.persistent();
    let gate = warmed.gate("custom");
    let script = format!("[ \"$CCCI_RUN_ID\" != first ] || {{ {}; }}", gate.script());
    warmed.change().script("tests/custom-gate", &script).commit();
    let first = warmed.quick("first").start();
    gate.wait();
    let mut second = warmed.quick("second").start();
    second.wait_for("in flight — waiting");
    let other = warmed.persistent();
    let cold = warmed.call(["run", "--format", "json", "--pr", "7"]).arg(warmed.fork.path()).run().expect(0);
    assert_eq!(cold.json()["lane"], "cold");
    let warm_part = |of: &std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>| {
        let app = warmed.app("");
        of.iter()
            .filter(|(path, _)| path.starts_with(&app))
            .map(|(p, c)| (p.clone(), c.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(warm_part(&warmed.persistent()), warm_part(&other));
    gate.open();
    first.wait().expect(0);
    second.wait().expect(0);
    rolled_back(&warmed, &before, "second");
}

#[test]
fn a_lock_that_does_not_come_is_75_and_nothing_is_touched() {
    let warmed = Warmed::new();
    let before = warmed.persistent();
    warmed.change().commit();
    let holder = Foreign::lock(&warmed.lock_file(&warmed.domain));
    warmed.quick("late").env("CCCI_LOCK_TIMEOUT", "1s").run().expect(75);
    holder.release();
    rolled_back(&warmed, &before, "late");
}

#[test]
fn what_is_not_configured_not_made_or_not_deployed_is_refused_with_a_way_out() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    let end = world.cc_ci(["run", "--quick"]).arg(recipe.path()).run().expect(2);
    assert!(end.stderr.contains("[recipes.plain] warm = "), "{}", end.stderr);
    let warmed = Warmed::undeployed("");
    warmed.change().commit();
    let end = warmed.quick("undeployed").run().expect(2);
    assert!(end.stderr.contains("hint: deploy its baseline: cc-ci warm reconcile"), "{}", end.stderr);
    assert!(!warmed.app("services").exists() && !warmed.has_tree("undeployed"));
    fs::remove_file(warmed.env_file()).unwrap();
    let end = warmed.quick("without").run().expect(2);
    assert!(end.stderr.contains("hint: make the app first: abra app new blog"), "{}", end.stderr);
    let end = warmed.call(["run", "--quick", "--fresh"]).arg(warmed.fork.path()).run().expect(2);
    assert!(end.stderr.contains("leave --fresh and --upgrade-from out"), "{}", end.stderr);
}

#[test]
fn a_change_that_was_not_deployed_yet_is_the_hosts_and_leaves_the_app_canonical() {
    let warmed = Warmed::with("environment:\n        GREETING: ${GREETING:-none}");
    let env = fs::read_to_string(warmed.env_file()).unwrap();
    fs::write(warmed.env_file(), format!("{env}GREETING=hello\n")).unwrap();
    warmed.change().commit();
    let record = warmed.quick("edited").run().expect(3).json();
    assert!(record["errors"].to_string().contains("had changed since it was last deployed"), "{record:#}");
    assert_eq!((&record["dirty"], &record["receipt"]["left"]), (&json!(false), &json!([])));
    assert!(record["receipt"]["removed"].to_string().contains("_extra"), "{record:#}");
    assert!(!warmed.has_tree("edited"));
    assert_eq!(warmed.reconciled()["outcome"], "at_baseline");
    warmed.quick("again").run().expect(0);
}

#[test]
fn what_does_not_build_on_the_canonical_version_is_refused_before_the_app_is_touched() {
    let warmed = Warmed::new();
    let before = warmed.persistent();
    warmed.change().commit();
    warmed.release("3", "1.1.0+1", "");
    let end = warmed.quick("stale").run().expect(2);
    assert!(end.stdout.contains("does not build on 1.1.0+1"), "{}", end.stdout);
    assert!(end.stderr.contains("hint: rebase it onto 1.1.0+1"), "{}", end.stderr);
    assert_eq!(warmed.persistent(), before);
    assert!(!warmed.has_tree("stale"));
    // One that it does have, and that is newer.
    warmed.rebase();
    warmed.fork.git(["reset", "--quiet", "--hard", "HEAD~1"]);
    warmed.quick("older").run().expect(2);
}

#[test]
fn the_canonical_version_itself_is_tested_without_an_upgrade() {
    let warmed = Warmed::new();
    warmed.canonical.script("tests/custom-looks", "ls \"$CCCI_SECRETS_DIR\"");
    warmed.release("1", "1.0.1+1", "");
    warmed.reconciled();
    let before = warmed.persistent();
    let run = warmed.call(["run", "--quick", "--format", "json", "--run-id", "same"]);
    let record = run.arg(warmed.canonical.path()).run().expect(0).json();
    assert_eq!(statuses(&record), ["skipped", "skipped", "skipped", "skipped", "passed", "passed"]);
    let reason = &tier(&record, "upgrade")["reason"];
    assert_eq!(reason, "the commit under test is the baseline, 1.0.1+1");
    rolled_back(&warmed, &before, "same");
}

#[test]
fn what_only_shares_a_name_with_the_canonical_version_is_removed() {
    let warmed = Warmed::new();
    let before = warmed.persistent();
    warmed.change();
    let compose = fs::read_to_string(warmed.fork.path().join("compose.yml")).unwrap();
    // The baseline has a volume of this name.
    warmed.fork.write("compose.yml", &compose.replace("_motd_v1", "_data")).commit();
    warmed.quick("named").run().expect(0);
    rolled_back(&warmed, &before, "named");
}

#[test]
fn a_test_that_hides_its_changes_of_the_canonical_checkout_changes_nothing() {
    let warmed = Warmed::new();
    let before = warmed.persistent();
    let script = "cd \"$CCCI_RECIPE_DIR/../../../warm/recipes/blog\"\n\
                  git update-index --skip-worktree compose.yml\n\
                  sed -i s/test.app:1/test.app:666/ compose.yml\n\
                  grep -q 666 compose.yml && test -z \"$(git status --porcelain --untracked-files=no)\"";
    warmed.change().script("tests/custom-hides", script).commit();
    warmed.quick("hidden").run().expect(0);
    rolled_back(&warmed, &before, "hidden");
}

#[test]
fn no_copy_of_the_recipe_under_test_stays_in_the_app() {
    let warmed = Warmed::new();
    warmed.change().commit();
    warmed.quick("first").run().expect(0);
    assert_eq!(fs::read_dir(warmed.app("trees")).unwrap().count(), 1);
}

#[test]
fn status_shows_who_is_at_work_on_a_warm_app_and_who_waits_for_it() {
    let warmed = Warmed::new();
    let gate = warmed.gate("custom");
    let script = format!("[ \"$CCCI_RUN_ID\" != first ] || {{ {}; }}", gate.script());
    warmed.change().script("tests/custom-gate", &script).commit();
    let first = warmed.quick("first").start();
    gate.wait();
    let status = || warmed.call(["status", "--format", "json"]).run().expect(0).json();
    let message = status();
    assert_eq!(message["waiting"], json!([]), "{message:#}");
    let live = &message["live"][0];
    assert_eq!((&live["domain"], &live["run_id"]), (&json!(warmed.domain.as_str()), &json!("first")));
    assert_eq!((&live["phase"], &live["warm"]), (&json!("custom"), &json!(true)));
    let mut second = warmed.quick("second").start();
    second.wait_for("in flight — waiting");
    let message = status();
    assert_eq!(
        (&message["waiting"][0]["run_id"], &message["waiting"][0]["domain"]),
        (&json!("second"), &live["domain"])
    );
    gate.open();
    first.wait().expect(0);
    second.wait().expect(0);
}

#[test]
fn a_recipes_test_asks_a_warm_app_through_a_socket_only_where_the_operator_allows_it() {
    let warmed = Warmed::new();
    let asks = r#"perl -MIO::Socket::UNIX -e '
        my $body = q(["echo", "from the inside"]);
        my $socket = IO::Socket::UNIX->new(Peer => $ENV{CCCI_API}) or die "no socket: $!";
        print $socket "POST /exec/app HTTP/1.0\r\nContent-Length: ", length $body, "\r\n\r\n$body";
        print <$socket>;' | grep "from the inside""#;
    for (more, test) in [("", "[ -z \"${CCCI_API:-}\" ]"), ("warm_api = true", asks)] {
        warmed.configure(more);
        warmed.fork.script("tests/custom-asks", test).commit();
        warmed.quick("1").run().expect(0);
    }
}
