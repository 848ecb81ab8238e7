//! Two runs share no writable path (I7), and nothing of a recipe's repository runs or is written to (I11, I13).

use std::fs;

use cc_ci_tests::{Gate, World};

#[test]
fn two_runs_of_one_recipe_clone_and_deploy_in_parallel() {
    let world = World::new();
    let recipe = world.recipe("both");
    let gates = [world.gate("one"), world.gate("two")];
    // Each works in its own tree: what one writes there, the other never sees.
    let script: Vec<String> = gates
        .iter()
        .zip(1..)
        .map(|(gate, n)| {
            let own = "[ ! -e \"$CCCI_RECIPE_DIR/mine\" ]; touch \"$CCCI_RECIPE_DIR/mine\" \"$HOME/mine\" \"$TMPDIR/mine\"";
            format!("[ $CCCI_RUN_ID != {n} ] || {{ {own}; {}; }}", gate.script())
        })
        .collect();
    recipe.script("tests/custom", &script.join("\n"));
    recipe.release("1.0.0+1");
    recipe.compose("2", "").commit();
    let runs = ["1", "2"].map(|n| world.cc_ci(["run", "--pr", n, "--run-id", n]).arg(recipe.path()).start());
    Gate::meet(&gates);
    for run in runs {
        run.wait().expect(0);
    }
    world.assert_empty();
}

#[test]
fn a_plain_file_in_the_way_of_servers_is_told_and_nothing_is_half_used() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    let canonical = world.path().join("abra");
    fs::create_dir(&canonical).unwrap();
    fs::write(canonical.join("servers"), "not a directory").unwrap();
    let run = world.cc_ci(["run", "--format", "json", "--run-id", "1"]).arg(recipe.path());
    let end = run.env("ABRA_DIR", &canonical).run().expect(3);
    let errors = end.json()["errors"].to_string();
    assert!(errors.contains("servers is a plain file"), "{errors}");
    assert!(!world.runs().join("1").exists(), "nothing stays of a run that could not begin");
    world.assert_empty();
}

#[test]
fn with_skip_fetch_the_canonical_recipe_is_copied_and_stays_as_it_is() {
    let world = World::new();
    let canonical = world.path().join("abra");
    fs::create_dir_all(canonical.join("servers/local")).unwrap();
    let good = world.recipe_at(&canonical.join("recipes/local"));
    good.commit();
    good.git(["remote", "add", "origin", "file:///nonexistent/recipe"]);
    let before = world.snapshot_of(&canonical);
    // The same recipe elsewhere, at a commit that is red.
    let bad = world.recipe("local");
    bad.compose("1", "environment:\n        EXIT: \"7\"").commit();
    let run = || world.cc_ci(["run"]).arg(bad.path()).env("ABRA_DIR", &canonical);
    run().run().expect(1);
    let end = run().env("CCCI_SKIP_FETCH", "1").run().expect(0);
    assert!(end.stderr.contains("nothing was fetched"), "{}", end.stderr);
    assert_eq!(world.snapshot_of(&canonical), before, "the canonical tree is only read");
    world.assert_empty();
}

#[test]
fn a_run_without_an_id_is_named_by_its_process() {
    let world = World::new();
    let recipe = world.recipe("name");
    recipe.commit();
    let run = world.cc_ci(["run", "--format", "json"]).arg(recipe.path()).start();
    let id = format!("manual-{}", run.pid());
    assert_eq!(run.wait().expect(0).json()["run_id"], id.as_str());
    assert_eq!(world.record(&id)["verdict"], "green");
}

#[test]
fn a_run_id_that_is_taken_gets_a_suffix_and_neither_record_is_lost() {
    let world = World::new();
    let recipe = world.recipe("taken");
    recipe.commit();
    let run = |pr: &str| world.cc_ci(["run", "--run-id", "7", "--pr", pr]).arg(recipe.path()).start();
    for run in [run("1"), run("2"), run("1")] {
        run.wait().expect(0);
    }
    let mut domains = ["7", "7.2", "7.3"].map(|id| world.record(id)["domain"].as_str().unwrap().to_owned());
    domains.sort();
    let mut expected = [1, 1, 2].map(|number| world.domain("taken", number).to_string());
    expected.sort();
    assert_eq!(domains, expected);
    world.assert_empty();
}

#[test]
fn nothing_of_the_recipes_repository_runs_and_nothing_is_pushed_to_it() {
    let world = World::new();
    let recipe = world.recipe("hooks");
    let ran = world.path().join("ran");
    let note = |what: &str| format!("echo {what} >> '{}'", ran.display());
    recipe.write(".gitattributes", "* filter=evil diff=evil merge=evil\n");
    recipe.write(
        ".gitmodules",
        "[submodule \"x\"]\n\tpath = x\n\turl = file:///nonexistent\n\tupdate = !touch evil\n",
    );
    let push = "git -C \"$CCCI_RECIPE_DIR\" push origin HEAD:refs/heads/evil && exit 1\n\
                git -C \"$CCCI_RECIPE_DIR\" push . HEAD:refs/heads/evil || :\n\
                cd \"$CCCI_RECIPE_DIR\" && git commit -q --allow-empty -m mine || :";
    recipe.script("tests/custom", push);
    recipe.release("1.0.0+1");
    recipe.compose("2", "").commit();
    for hook in [
        "post-checkout",
        "post-merge",
        "pre-push",
        "reference-transaction",
        "post-index-change",
        "pre-commit",
    ] {
        recipe.script(&format!(".git/hooks/{hook}"), &note(hook));
    }
    for (key, value) in [
        ("filter.evil.smudge", format!("{}; cat", note("smudge"))),
        ("filter.evil.clean", format!("{}; cat", note("clean"))),
        ("filter.evil.required", "true".to_owned()),
        ("core.fsmonitor", note("fsmonitor")),
        ("core.sshCommand", note("ssh")),
        ("uploadpack.packObjectsHook", note("pack")),
        ("diff.evil.textconv", note("textconv")),
    ] {
        recipe.git(["config", key, &value]);
    }
    let refs = recipe.git(["-c", "core.fsmonitor=false", "for-each-ref"]);
    let message = fs::read_to_string(&ran).unwrap_or_default();
    drop(fs::remove_file(&ran));
    let end = world.cc_ci(["run", "--pr", "1"]).arg(recipe.path()).run().expect(0);
    let found = fs::read_to_string(&ran).unwrap_or_default();
    assert_eq!(found, "", "{}\n(the set-up itself ran: {message})", end.stderr);
    assert_eq!(recipe.git(["-c", "core.fsmonitor=false", "for-each-ref"]), refs, "I13");
    world.assert_empty();
}
