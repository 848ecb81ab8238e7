//! A `PATH` that means the working directory: what a recipe holds is never the program that a name stands for.

use std::fs;
use std::path::Path;

use cc_ci_tests::{World, executable};

/// Puts programs of the usual names into `directory`; they tell that they ran.
fn set_traps(directory: &Path, message: &Path) {
    for name in ["git", "abra", "docker", "sh", "cat", "unshare"] {
        let trap = directory.join(name);
        let script = format!("#!/bin/sh\necho \"$0 in $PWD\" >> '{}'\nexit 1\n", message.display());
        executable(&trap, &script);
    }
}

#[test]
fn no_program_of_the_working_directory_is_executed() {
    let world = World::new();
    let recipe = world.recipe("trap");
    let message = world.path().join("told");
    let beneath = recipe.path().join("bin");
    fs::create_dir(&beneath).unwrap();
    for directory in [recipe.path(), &beneath] {
        set_traps(directory, &message);
    }
    recipe.commit();
    let tmp = world.path().join("tmp");
    fs::create_dir_all(&tmp).unwrap();
    let usual = "/usr/local/bin:/usr/bin:/bin";
    for path in [
        String::new(),
        ".".to_owned(),
        "bin".to_owned(),
        format!(":{usual}"),
        format!(".:{usual}"),
        format!("bin:{usual}"),
        format!("./bin:{usual}"),
        format!("{usual}:"),
    ] {
        let run = |args: &[&str]| {
            let mut call = world.cc_ci(args.iter().copied()).env("PATH", &path).env("TMPDIR", &tmp);
            call.command().current_dir(recipe.path());
            call.run()
        };
        // They found the host's programs, and did their work.
        run(&["recipe", "check", "."]).expect(0);
        run(&["doctor", "--executor", "local"]).expect(0);
        run(&["run", ".", "--executor", "local", "--pr", "1"]).expect(0);
        let domain = world.domain("own", 1);
        let end = run(&["with-lock", domain.as_str(), "--", "cat", "/proc/self/environ"]).expect(0);
        let given = end.stdout.split('\0').find_map(|variable| variable.strip_prefix("PATH="));
        let given = given.expect("the command has a PATH");
        assert!(given.split(':').all(|part| part.starts_with('/')), "PATH={path}: the command got {given}");
        assert_eq!(fs::read_to_string(&message).unwrap_or_default(), "", "PATH={path}");
    }
}
