//! What a recipe tries, and what a configuration forbids: no run hangs, lies or tells a secret for it.

use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use cc_ci_core::event::Silent;
use cc_ci_core::lifetime::{Bounds, EmbeddedMode};
use cc_ci_core::run::Deployed;
use cc_ci_tests::{Recipe, World, pipes, unconfined};
use nix::sys::signal::Signal;

use crate::paused_runs::RUN;

fn run(world: &World, recipe: &Recipe) -> cc_ci_tests::CcCi {
    world.cc_ci(["run", "--format", "json", "--pr", "7", "--run-id", RUN]).arg(recipe.path())
}

#[test]
fn a_run_whose_domain_is_protected_is_refused_before_anything_is_changed() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    let config = world.path().join("config.toml");
    fs::write(&config, unconfined(format!("protect = [\"{}\"]\n", world.domain("plain", 7)))).unwrap();
    let end = run(&world, &recipe).env("CCCI_CONFIG", &config).run().expect(2);
    assert!(end.stdout.contains("protected"), "{}", end.stdout);
    assert!(!world.runs().join(RUN).exists(), "something was changed");
    world.assert_empty();
}

#[test]
fn pipes_that_a_recipe_puts_where_cc_ci_reads_and_writes_are_never_waited_for() {
    let world = World::new();
    let recipe = world.recipe("plain");
    // Where the next secret is put for the tests, where this test's log is kept, and the run's record.
    recipe.script(
        "tests/install_steps.sh",
        "mkfifo \"$CCCI_SECRETS_DIR/other\"\necho SECRET_OTHER_VERSION=v1 >> \"$CCCI_ENV_FILE\"",
    );
    recipe.script(
        "tests/custom-log",
        "cd \"$TMPDIR/../../../logs\"; rm custom-recipe-custom-log.log; mkfifo custom-recipe-custom-log.log",
    );
    recipe.script(
        "tests/custom-record",
        "rm \"$TMPDIR/../../../run.json\"; mkfifo \"$TMPDIR/../../../run.json\"",
    );
    recipe.commit();
    run(&world, &recipe).run().expect(0);
    assert_eq!(world.record(RUN)["verdict"], "green");
    world.assert_empty();
}

#[test]
fn a_deploy_count_that_a_recipe_forges_is_its_own_fault() {
    for forged in ["echo 5", "echo nonsense"] {
        let world = World::new();
        let recipe = world.recipe("plain");
        recipe.script("tests/install_steps.sh", &format!("{forged} > \"$CCCI_DEPLOY_COUNT_FILE\"")).commit();
        let record = run(&world, &recipe).run().expect(1).json();
        assert_eq!(record["tiers"][0]["status"], "failed", "{forged}: {record:#}");
        world.assert_empty();
    }
}

#[test]
fn a_run_that_waits_for_the_claim_of_its_executor_can_be_ended() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    fs::create_dir_all(world.local_root()).unwrap();
    // Somebody who claims it was stopped in the middle.
    let claiming = File::create(world.local_root().join("lock-space.lock")).unwrap();
    claiming.lock().unwrap();
    for args in [&["run", "--run-id", RUN][..], &["janitor"]] {
        let mut call = world.cc_ci(args).env("CCCI_PARENT", "none");
        if args[0] == "run" {
            call = call.arg(recipe.path());
        }
        let running = call.start();
        // From its first statement on it obeys.
        cc_ci_tests::until("it listens to signals", || {
            let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
            u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << (Signal::SIGTERM as i32 - 1)) != 0
        });
        running.signal(Signal::SIGTERM);
        running.wait().expect(143);
    }
}

#[test]
fn the_tail_of_a_services_log_begins_with_no_half_of_a_secret() {
    let world = World::new();
    let recipe = world.recipe("plain");
    let pipe = world.fifo("secret");
    // 2000 bytes are shown: ten of the secret, its line feed, and what follows.
    recipe.script(
        "serve.sh",
        "cat \"$1\" > \"$2\"\ncat \"$1\"; echo\nhead -c 1989 /dev/zero | tr '\\0' x\nexit 7",
    );
    let compose = fs::read_to_string(recipe.path().join("compose.yml")).unwrap();
    let command: String = compose
        .lines()
        .map(|line| {
            if line.trim_start().starts_with("command:") {
                format!(
                    "      command: [\"${{CCCI_RECIPE_DIR}}/serve.sh\", \"${{CCCI_SECRET_KEY}}\", \"{}\"]\n",
                    pipe.display()
                )
            } else {
                format!("{line}\n")
            }
        })
        .collect();
    recipe.write("compose.yml", &command).commit();
    let running = run(&world, &recipe).start();
    let secret = pipes::hear(&pipe);
    assert_eq!(secret.len(), 24);
    let end = running.wait().expect(1);
    assert!(end.stderr.contains("xxxx"), "the last lines are shown: {}", end.stderr);
    for text in [&end.stdout, &end.stderr] {
        assert!(!text.contains(&secret[14..]), "half of {secret} is told: {text}");
    }
    world.assert_empty();
}

#[test]
fn a_panic_that_names_a_secret_leaves_it_out_of_the_report() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    let lifetime = EmbeddedMode::new(Bounds::default(), Arc::new(Silent)).unwrap();
    let harness = world.harness(Arc::new(lifetime));
    let request = world.request(recipe.path(), 7, RUN);
    let secret = Mutex::new(String::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(harness.with_app(&request, async |app: &Deployed| {
            secret.lock().unwrap().push_str(app.secrets["key"].expose());
            std::panic::panic_any(format!("expected {}", app.secrets["key"].expose()))
        }))
    }));
    assert!(panicked.is_err());
    let record = world.record(RUN).to_string();
    assert!(record.contains("expected [secret]"), "{record}");
    assert!(!record.contains(&*secret.lock().unwrap()), "{record}");
    world.assert_empty();
}

#[test]
fn two_recipes_of_one_name_are_no_dependency() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    let other = world.recipe_at(&world.path().join("elsewhere/plain"));
    other.commit();
    let config = world.path().join("config.toml");
    fs::write(&config, unconfined(format!("[recipes.plain]\ndepends = [{:?}]\n", other.path()))).unwrap();
    let end = run(&world, &recipe).env("CCCI_CONFIG", &config).run().expect(2);
    assert!(end.stdout.contains("plain"), "{}", end.stdout);
    world.assert_empty();
}
