//! Which engine a command works on, where nobody said.

use std::os::unix::net::UnixListener;

use cc_ci_tests::{CcCi, Ended, World};

use crate::fake_engine::{Says, host, listen};

/// A call that chooses by itself.
fn auto(world: &World, args: &[&str]) -> CcCi {
    world.cc_ci(args).env("CCCI_EXECUTOR", "auto")
}

/// A tree with the server `default`.
fn abra_tree(world: &World) -> String {
    std::fs::create_dir_all(world.abra_dir().join("servers/default")).unwrap();
    world.abra_dir().display().to_string()
}

/// It changed nothing, and above all did nothing on the local executor instead.
#[track_caller]
fn did_nothing(world: &World) {
    assert!(!world.local_root().exists() && !world.runs().exists());
}

#[test]
fn without_abra_it_is_local_and_says_so_beside_a_docker_that_nobody_asks() {
    let world = World::new();
    // It would be waited for.
    let docker = listen(&world, Says::Nothing);
    for args in [&["audit"][..], &["janitor"], &["status"]] {
        // As a timer has it.
        let call = || auto(&world, args).env("PATH", "/nonexistent");
        for end in [
            call().env("DOCKER_HOST", &docker).run().expect(0),
            call().env("DOCKER_HOST", "tcp://10.0.0.1:1").run().expect(0),
            call().env("CCCI_SERVER", "swarm.example.org").run().expect(0),
        ] {
            assert!(end.stderr.starts_with("executor: local (no abra in PATH, but "), "{}", end.stderr);
            assert!(end.stderr.contains("--executor abra"), "{}", end.stderr);
        }
    }
}

#[test]
fn with_abra_and_a_swarm_it_is_abra_and_says_so() {
    let world = World::new();
    let docker = listen(&world, Says::Manager);
    let tree = abra_tree(&world);
    let call = |args: &[&str]| {
        world.with_quiet_abra(auto(&world, args)).env("DOCKER_HOST", &docker).env("ABRA_DIR", &tree)
    };
    let message = "executor: abra (abra is in PATH, and the engine at ";
    for args in [&["audit"][..], &["janitor", "--dry-run"], &["status"]] {
        let end = call(args).run().expect(0);
        assert!(end.stderr.starts_with(message) && end.stderr.contains("manages a Swarm"), "{}", end.stderr);
    }
    assert!(!world.local_root().exists());
}

#[test]
fn a_run_with_an_abra_that_is_missing_or_lacks_what_is_needed_touches_nothing() {
    let world = World::new();
    let docker = listen(&world, Says::Manager);
    let tree = abra_tree(&world);
    let recipe = world.recipe("plain");
    recipe.commit();
    let before = world.snapshot_of(&world.abra_dir());
    let run = || {
        let run = world.cc_ci(["run", "--executor", "abra", "--pr", "1"]).arg(recipe.path());
        run.env("CCCI_EXECUTOR", "abra").env("DOCKER_HOST", &docker).env("ABRA_DIR", &tree)
    };
    let end = world.with_old_abra(run()).run().expect(2);
    for part in ["abra version 0.1.0", "lacks what cc-ci needs", "abra app new", "hint: install a newer abra"]
    {
        assert!(end.stderr.contains(part), "{part}: {}", end.stderr);
    }
    let end = run().env("PATH", "/nonexistent").run().expect(3);
    assert!(end.stderr.contains("no abra in PATH") && end.stderr.contains("hint: install"), "{}", end.stderr);
    assert_eq!(world.snapshot_of(&world.abra_dir()), before);
    assert!(!world.runs().exists(), "a run has begun");
    assert_eq!(std::fs::read_dir(world.locks()).unwrap().count(), 0);
}

#[test]
fn what_a_wrapper_of_abra_left_running_goes_with_the_command_that_asked_it() {
    let world = World::new();
    let docker = listen(&world, Says::Manager);
    let tree = abra_tree(&world);
    let recipe = world.recipe("plain");
    recipe.commit();
    let pid = world.path().join("pid");
    let run = world.cc_ci(["run", "--pr", "1"]).arg(recipe.path());
    for (call, code) in [(run, 2), (world.cc_ci(["doctor"]), 1)] {
        let call = call.env("CCCI_EXECUTOR", "abra").env("DOCKER_HOST", &docker).env("ABRA_DIR", &tree);
        world.with_leaving_abra(call, &pid).run().expect(code);
        let left = std::fs::read_to_string(&pid).unwrap();
        let is_there = std::path::Path::new("/proc").join(left.trim()).exists();
        if is_there {
            std::process::Command::new("kill").arg(left.trim()).status().unwrap();
        }
        assert!(!is_there, "a process of abra's lives on");
        std::fs::remove_file(&pid).unwrap();
    }
}

#[test]
fn with_abra_and_no_swarm_it_is_local_and_says_so() {
    let world = World::new();
    let docker = listen(&world, Says::NoSwarm);
    let why = "manages no Swarm";
    let end = world.with_quiet_abra(auto(&world, &["audit"])).env("DOCKER_HOST", &docker).run().expect(0);
    assert!(end.stderr.starts_with("executor: local (") && end.stderr.contains(why), "{}", end.stderr);
    let recipe = world.recipe("plain");
    recipe.commit();
    let run = auto(&world, &["run", "--pr", "1"]).arg(recipe.path());
    let end = world.with_quiet_abra(run).env("DOCKER_HOST", &docker).run().expect(0);
    let first = end.stderr.lines().next().unwrap();
    assert!(first.contains("executor local (the engine at ") && first.contains(why), "{first}");
}

#[test]
fn an_engine_that_does_not_say_what_it_is_is_never_taken_for_none() {
    let failed = |world: &World, docker: &str| -> Ended {
        let call = world.with_quiet_abra(auto(world, &["janitor"])).env("DOCKER_HOST", docker);
        let end = call.run().expect(3);
        assert!(end.stderr.contains("hint: ") && end.stderr.contains("--executor local"), "{}", end.stderr);
        did_nothing(world);
        end
    };
    let world = World::new();
    failed(&world, &listen(&world, Says::Nothing));
    let world = World::new();
    let end = failed(&world, &listen(&world, Says::NotYet));
    assert!(end.stderr.contains("try again"), "{}", end.stderr);
    let world = World::new();
    // Named, and so meant to be there.
    failed(&world, &host(&world.path().join("nothing.sock")));
    failed(&world, &host(world.path()));
    // Its engine died, or was restarted elsewhere.
    let stale = world.path().join("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    failed(&world, &host(&stale));
}

#[test]
fn a_remote_engine_is_refused_with_the_reason() {
    let world = World::new();
    for remote in ["tcp://10.0.0.1:2376", "ssh://root@10.0.0.1"] {
        for executor in ["auto", "abra"] {
            let call = world.cc_ci(["janitor"]).env("CCCI_EXECUTOR", executor);
            let end = world.with_quiet_abra(call).env("DOCKER_HOST", remote).run().expect(2);
            assert!(end.stderr.contains("locks are per host"), "{}", end.stderr);
            assert!(end.stderr.contains("hint: "), "{}", end.stderr);
        }
        did_nothing(&world);
    }
    world.cc_ci(["janitor"]).env("DOCKER_HOST", "tcp://10.0.0.1:2376").run().expect(0);
}

#[test]
fn abra_has_no_default_suffix_and_needs_the_servers_env_files() {
    let world = World::new();
    let docker = listen(&world, Says::Manager);
    let call = |args: &[&str]| world.cc_ci(args).env("DOCKER_HOST", &docker).env("CCCI_EXECUTOR", "abra");
    // Whatever a caller's HOME has.
    let tree = world.abra_dir();
    let end = {
        let mut call = call(&["audit"]).env("ABRA_DIR", &tree);
        call.command().env_remove("CCCI_SUFFIX");
        call.run().expect(2)
    };
    assert!(end.stderr.contains("needs a suffix") && end.stderr.contains("hint: "), "{}", end.stderr);
    let end = call(&["audit"]).env("ABRA_DIR", &tree).run().expect(2);
    assert!(end.stderr.contains("no abra tree") && end.stderr.contains("ABRA_DIR"), "{}", end.stderr);
    std::fs::create_dir_all(tree.join("servers/swarm.example.org")).unwrap();
    let end = call(&["audit"]).env("ABRA_DIR", &tree).run().expect(2);
    assert!(end.stderr.contains("no server default"), "{}", end.stderr);
    assert!(end.stderr.contains("swarm.example.org") && end.stderr.contains("--server"), "{}", end.stderr);
    call(&["audit", "--server", "swarm.example.org"]).env("ABRA_DIR", &tree).run().expect(0);
    call(&["audit", "--server", "../x"]).env("ABRA_DIR", &tree).run().expect(2);
    // What needs no engine asks for none of it.
    for args in [&["locks"][..], &["with-lock", "a.example.org", "--", "true"]] {
        world.cc_ci(args).env("CCCI_EXECUTOR", "abra").run().expect(0);
    }
}
