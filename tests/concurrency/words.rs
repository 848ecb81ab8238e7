//! The words of a call: names that are like known ones, recipes that may be two, completions; and a status that goes on.

use cc_ci_tests::{World, pipes};

use crate::on_terminal::Typist;
use crate::paused_runs;

#[test]
fn a_variable_that_nobody_reads_is_told() {
    let world = World::new();
    let end = world.cc_ci(["locks"]).env("CCCI_LOCK_DIR", "/nowhere").run().expect(0);
    let warning = "warning: CCCI_LOCK_DIR is ignored: did you mean CCCI_APP_LOCK_DIR?\n";
    assert_eq!(end.stderr, warning);
}

#[test]
fn a_name_is_the_canonical_trees_and_is_refused_where_a_directory_could_be_meant() {
    let world = World::new();
    let tree = world.path().join("abra");
    let call = |words: &[&str], recipe: &str| {
        let mut call = world.cc_ci(words).arg(recipe).env("ABRA_DIR", &tree);
        call.command().current_dir(world.path().join("recipes"));
        call
    };
    world.recipe("here").commit();
    world.recipe("both").commit();
    for name in ["both", "there"] {
        world.recipe_at(&tree.join("recipes").join(name)).commit();
    }
    for words in [&["recipe", "check"][..], &["run", "--pr", "7"]] {
        let refused = call(words, "both").run().expect(2);
        assert!(refused.stderr.contains("hint: say which: ./both or "), "{}", refused.stderr);
    }
    let check = ["recipe", "check"];
    for recipe in ["there", "./both", "./here"] {
        let end = call(&check, recipe).run();
        let name = recipe.trim_start_matches("./");
        assert!(end.code < 2 && end.stdout.contains(&format!("{name}: ")), "{recipe}: {}", end.stderr);
    }
    let elsewhere = call(&check, "here").run().expect(2);
    assert!(elsewhere.stderr.contains("hint: the directory here is ./here"), "{}", elsewhere.stderr);
    call(&check, "https://git.example.org/there").run().expect(2);
}

#[test]
fn a_shell_completes_what_there_is() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    let (run, tree) = (world.cc_ci(["run", "--pr", "7", "--run-id", "nightly-7"]), world.path().join("abra"));
    run.arg(recipe.path()).run().expect(0);
    world.recipe_at(&tree.join("recipes/there")).commit();
    let complete = |words: &[&str]| {
        let line = ["--", "cc-ci"].iter().chain(words);
        let call = world.cc_ci(line).env("COMPLETE", "bash").env("ABRA_DIR", &tree);
        call.env("_CLAP_COMPLETE_INDEX", words.len().to_string()).run().expect(0).stdout
    };
    assert!(complete(&["rep"]).contains("report"));
    assert!(complete(&["report", ""]).lines().any(|run| run == "nightly-7"));
    assert!(complete(&["run", "th"]).lines().any(|recipe| recipe == "there"));
    let (running, _) = paused_runs::in_a_test(&world, "exec sleep 1000");
    let domain = world.domain("plain", 7);
    assert!(complete(&["with-lock", ""]).lines().any(|known| known == domain.as_str()));
    running.signal(nix::sys::signal::Signal::SIGTERM);
    running.wait().expect(143);
}

#[test]
fn a_status_is_shown_again_until_it_is_ended() {
    let world = World::new();
    let call = world.cc_ci(["status", "--watch"]).inside(&["setsid", "--ctty", "--wait"]);
    let (typist, mut child) = Typist::start(call);
    let screen = "\x1b[H\x1b[2J";
    let typist = typist.sees(screen).sees("nothing goes on").sees(screen).sees("nothing goes on");
    let (running, _) = paused_runs::in_a_test(&world, "exec sleep 1000");
    let mut typist = typist.sees("live:").sees("run 1 of plain, custom");
    typist.types("\x03");
    assert_eq!(pipes::in_time("it ends", move || child.wait()).unwrap().code(), Some(130));
    running.signal(nix::sys::signal::Signal::SIGTERM);
    running.wait().expect(143);
}
