//! What comes from outside is harmless where it is shown, and tells no secret.

use std::fs;

use cc_ci_tests::World;

use crate::paused_runs::RUN;

/// A name that would clear a terminal, turn its writing, and order something of a CI system.
const NAME: &str = "x\u{1b}[2J\u{9b}1m\u{202e}\n::add-mask::y\n##[error]z";

fn assert_harmless(text: &str) {
    let hostile = |c: char| c != '\n' && c.is_control() || c == '\u{202e}';
    assert!(!text.contains(hostile), "{text:?}");
    let orders = |line: &str| line.trim_start().starts_with("::") || line.contains("##[");
    assert!(!text.lines().any(orders), "{text:?}");
}

#[test]
fn names_of_volumes_reach_no_terminal_as_orders() {
    let world = World::new();
    let domain = world.domain("dead", 1);
    fs::create_dir_all(world.local_root().join("apps").join(domain.as_str()).join("volumes").join(NAME))
        .unwrap();
    for (args, code) in [(&["audit"][..], 4), (&["janitor", "--dry-run"], 4), (&["janitor"], 0)] {
        let end = world.cc_ci(args).run().expect(code);
        assert!(end.stdout.contains("\\u{1b}[2J"), "{args:?}: {}", end.stdout);
        assert_harmless(&end.stdout);
        assert_harmless(&end.stderr);
    }
}

/// No line of what is shown for people begins like one of the command's, but for what a recipe wrote.
fn assert_not_forged(shown: &str) {
    assert!(shown.contains("forged"), "{shown}");
    assert!(
        !shown.lines().any(|line| line.starts_with("forged") || line.starts_with("   forged")),
        "{shown}"
    );
}

#[test]
fn a_name_with_a_line_feed_begins_no_line_of_a_run() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.script("tests/custom\nforged: passed", "echo here; exit 1").commit();
    let end = world.cc_ci(["run", "--pr", "7", "--run-id", RUN]).arg(recipe.path()).run().expect(1);
    assert_not_forged(&end.stderr);
    assert!(!end.stdout.lines().any(|line| line.starts_with("forged")), "{}", end.stdout);
    world.assert_empty();
}

#[test]
fn what_a_finding_quotes_begins_no_line_of_the_check() {
    let world = World::new();
    let recipe = world.recipe("plain");
    let compose = fs::read_to_string(recipe.path().join("compose.yml")).unwrap();
    let forged = compose.replace("image: test/app:1", r#"image: "test\nforged\e[31m""#);
    assert_ne!(compose, forged);
    recipe.write("compose.yml", &forged).commit();
    let end = world.cc_ci(["recipe", "check"]).arg(recipe.path()).run().expect(1);
    assert_not_forged(&end.stdout);
    assert_harmless(&end.stdout);
}

#[test]
fn what_is_named_like_a_secret_is_told_by_no_report() {
    let world = World::new();
    let recipe = world.recipe("plain");
    let kept = world.path().join("kept");
    let volumes = world.local_root().join("apps").join(world.domain("plain", 7).as_str()).join("volumes");
    let body = format!(
        "cp \"$CCCI_SECRETS_DIR/key\" '{}'\nmkdir -p '{}'/\"$(cat \"$CCCI_SECRETS_DIR/key\")\"",
        kept.display(),
        volumes.display()
    );
    recipe.script("tests/custom", &body).commit();
    for format in ["human", "json"] {
        let id = format!("{RUN}-{format}");
        let run = world.cc_ci(["run", "--format", format, "--pr", "7", "--run-id", &id]);
        let end = run.arg(recipe.path()).run().expect(0);
        let secret = fs::read_to_string(&kept).unwrap();
        let directory = world.runs().join(&id);
        let read = |file: &str| fs::read_to_string(directory.join(file)).unwrap();
        let record = read("run.json");
        assert!(record.contains("[secret]"), "the receipt names it: {record}");
        let reports = ["events.ndjson", "report.html", "junit.xml"].map(read);
        for text in reports.iter().chain([&record, &end.stdout, &end.stderr]) {
            assert!(!text.contains(secret.trim()), "{secret} is told: {text}");
        }
    }
    world.assert_empty();
}
