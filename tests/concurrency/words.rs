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

#[test]
fn a_variable_that_shells_complete_by_makes_no_command_green() {
    let world = World::new();
    for shell in ["1", "bash"] {
        let end = world.cc_ci(["run", "./nowhere"]).env("COMPLETE", shell).run().expect(2);
        assert!(end.stderr.contains("nowhere"), "{shell}: {}", end.stderr);
        let locked = ["with-lock", "my-a-012345.ci.example.org", "--", "false"];
        world.cc_ci(locked).env("COMPLETE", shell).run().expect(1);
    }
    let end = world.cc_ci([""; 0]).env("COMPLETE", "1").run().expect(2);
    assert!(end.stderr.contains("unknown shell"), "{}", end.stderr);
    world.cc_ci(["--", "cc-ci", "run"]).env("COMPLETE", "1").run().expect(2);
    assert!(world.cc_ci([""; 0]).env("COMPLETE", "bash").run().expect(0).stdout.contains("complete"));
}

#[test]
fn only_recipes_names_are_completed() {
    let world = World::new();
    let tree = world.path().join("abra");
    for name in ["there", "the\nre", "the\u{1b}[2Jre", "The"] {
        std::fs::create_dir_all(tree.join("recipes").join(name)).unwrap();
    }
    let line = world.cc_ci(["--", "cc-ci", "run", "th"]).env("COMPLETE", "bash").env("ABRA_DIR", &tree);
    assert_eq!(line.env("_CLAP_COMPLETE_INDEX", "2").run().expect(0).stdout, "there");
    let help = world.cc_ci(["--", "cc-ci", "help", "e"]).env("COMPLETE", "bash");
    let help = help.env("_CLAP_COMPLETE_INDEX", "2").run().expect(0).stdout;
    assert_eq!(help.lines().collect::<Vec<_>>(), ["environment", "exit-codes"]);
}

#[test]
fn what_runs_give_to_scripts_is_no_strange_variable() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.script("tests/custom.sh", "env").commit();
    paused_runs::run(&world, &recipe).run().expect(0);
    let log = world.cc_ci(["logs", paused_runs::RUN, "custom.sh"]).run().expect(0).stdout;
    let variables = log.lines().filter_map(|line| line.split_once('='));
    let given: Vec<_> = variables.filter(|(name, _)| name.starts_with("CCCI_")).collect();
    assert!(given.iter().any(|(name, _)| *name == "CCCI_DOMAIN"), "{log}");
    // Services of the local executor are told theirs by the names of the recipe.
    let of_services = ["CCCI_VOLUME_DATA", "CCCI_SECRET_KEY", "CCCI_CONFIG_NGINX", "CCCI_URL_APP"];
    let names = given.iter().map(|(name, _)| *name).chain(of_services);
    let mut call = world.cc_ci(["locks"]);
    for name in names.filter(|name| *name != "CCCI_EXECUTOR") {
        call = call.env(name, "");
    }
    assert_eq!(call.run().expect(0).stderr, "");
}

#[test]
fn a_configuration_is_shown_as_it_holds() {
    let world = World::new();
    let config = std::fs::read_to_string(world.config()).unwrap_or_default();
    std::fs::write(world.config(), format!("report_only = true\ndeadline = \"2h\"\n{config}")).unwrap();
    let show = |name: &str, value: &str| {
        let mut call = world.cc_ci(["config", "show", "--format", "json"]).env(name, value);
        call.command().current_dir(world.path());
        call.run()
    };
    let row = |name: &str, value: &str, key: &str| {
        let document = show(name, value).expect(0).json();
        let rows = document["settings"].as_array().unwrap().clone();
        let row = rows.into_iter().find(|row| row["key"] == key).unwrap();
        [&row["value"], &row["origin"]].map(|text| text.as_str().unwrap().to_owned())
    };
    let line = |number: u8| format!("{}:{number}", world.config().display());
    assert_eq!(row("CCCI_REPORT_ONLY", "0", "report_only"), ["true".to_owned(), line(1)]);
    assert_eq!(row("CCCI_FRESH", "1", "deadline"), ["2h".to_owned(), line(2)]);
    assert_eq!(row("CCCI_DEADLINE", "90m", "deadline"), ["1h 30m", "CCCI_DEADLINE"]);
    assert_eq!(row("CCCI_KEEP_ON_RED", "30m", "keep_on_red"), ["30m", "CCCI_KEEP_ON_RED"]);
    assert_eq!(row("CCCI_JANITOR_DEADLINE", "60s", "janitor_deadline"), ["1m", "CCCI_JANITOR_DEADLINE"]);
    assert_eq!(row("CCCI_LOCK_TIMEOUT", "60s", "lock_timeout"), ["1m", "CCCI_LOCK_TIMEOUT"]);
    let absolute = world.path().join("rel").display().to_string();
    for (name, key) in [("ABRA_DIR", "abra_dir"), ("CCCI_TESTS_DIR", "tests_dir")] {
        assert_eq!(row(name, "rel", key), [absolute.clone(), name.to_owned()]);
    }
    for (name, value) in [("CCCI_DEADLINE", "banana"), ("CCCI_JANITOR_DEADLINE", "0s")] {
        let refused = show(name, value).expect(2);
        assert!(refused.json()["error"].as_str().unwrap().contains(value), "{}", refused.stdout);
    }
}

#[test]
fn a_watch_ends_with_its_reader_and_as_one_that_is_ended() {
    let world = World::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut watch = world.cc_ci(["status", "--watch"]);
    watch.command().stdout(std::process::Stdio::from(writer));
    watch.run().expect(0);
    let refused = world.cc_ci(["status", "--watch", "--format", "json"]).run().expect(2);
    assert!(refused.json()["hint"].as_str().unwrap().contains("ndjson"), "{}", refused.stdout);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut watch = world.cc_ci(["status", "--watch"]);
    watch.command().stdout(std::process::Stdio::from(writer));
    let watch = watch.start();
    std::io::Read::read_exact(&mut reader, &mut [0]).unwrap();
    watch.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(watch.wait().expect(130).stderr, "");
}
