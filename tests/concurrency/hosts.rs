//! Hosts that fail in the middle of a run, and the shells that call it.

use std::fs;
use std::process::Command;

use cc_ci_tests::{Recipe, World, pipes, skip};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::paused_runs::{self, RUN};

/// What makes a mount namespace of its own; a visible skip of `test` where the kernel makes none for us.
fn private_mounts(test: &str) -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["unshare", "--mount"], &["unshare", "--user", "--map-root-user", "--mount"]];
    let works = |way: &&&[&str]| {
        let output =
            Command::new(way[0]).args(&way[1..]).args(["mount", "-t", "tmpfs", "none", "/mnt"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let way = ways.iter().find(works).copied();
    if way.is_none() {
        skip(test, "needs a mount namespace");
    }
    way
}

/// The shell that the CI runner has, and the one that many write for.
fn shells(test: &str) -> Vec<&'static str> {
    let there = |shell: &&str| {
        let there = Command::new(shell).args(["-c", ":"]).status().is_ok_and(|status| status.success());
        if !there {
            skip(test, &format!("there is no {shell}"));
        }
        there
    };
    ["/bin/sh", "bash"].into_iter().filter(there).collect()
}

/// The step of a pipeline: the command in a session of its own, and a TERM that is passed on.
const WRAPPER: &str = r#"setsid "$0" "$@" & PID=$!
trap 'kill -s TERM -- -$PID 2>/dev/null || :' TERM EXIT
wait $PID"#;

#[test]
fn a_disk_that_is_full_when_the_result_is_written_never_looks_green() {
    let test = "a_disk_that_is_full_when_the_result_is_written_never_looks_green";
    let Some(unshare) = private_mounts(test) else { return };
    let world = World::new();
    let directory = world.runs().join(RUN);
    fs::create_dir(world.runs()).expect("a directory");
    let recipe = world.recipe("plain");
    // Teardown must not make room for the result.
    let fill = format!("cd {}; rm -rf abra home tmp; cat /dev/zero > logs/full || :", directory.display());
    recipe.script("tests/custom.sh", &fill).commit();
    let left = world.path().join("left");
    let script = format!(
        r#"mount -t tmpfs -o size=4m none {} || exit 99; "$0" "$@"; code=$?; ls {} > {}; exit $code"#,
        world.runs().display(),
        directory.display(),
        left.display()
    );
    let outer = [unshare, &["sh", "-c", &script]].concat();
    let end = paused_runs::run(&world, &recipe).arg("--format").arg("json").inside(&outer).run().expect(3);
    assert_eq!(end.json()["verdict"], "harness_failed", "{}", end.stdout);
    assert!(end.stderr.contains("can't write "), "{}", end.stderr);
    world.assert_empty();
    let left = fs::read_to_string(left).expect("a list of the run's directory");
    assert!(!left.lines().any(|name| ["abra", "home", "tmp"].contains(&name)), "{left}");
}

#[test]
fn a_runs_directory_from_which_nothing_is_executed_is_the_hosts_fault() {
    let test = "a_runs_directory_from_which_nothing_is_executed_is_the_hosts_fault";
    let Some(unshare) = private_mounts(test) else { return };
    let world = World::new();
    fs::create_dir(world.runs()).expect("a directory");
    let recipe = world.recipe("plain");
    recipe.script("tests/custom.sh", ":").commit();
    let script = format!(r#"mount -t tmpfs -o noexec none {} || exit 99; "$0" "$@""#, world.runs().display());
    let outer = [unshare, &["sh", "-c", &script]].concat();
    let end = paused_runs::run(&world, &recipe).inside(&outer).run().expect(3);
    let message = end.stdout + &end.stderr;
    assert!(message.contains("is mounted noexec") && message.contains("hint: name another one"), "{message}");
    let end = world.cc_ci(["doctor", "--executor", "local"]).inside(&outer).run().expect(1);
    assert!(end.stdout.contains("is mounted noexec"), "{}", end.stdout);
    world.assert_empty();
}

#[test]
fn a_read_only_lock_directory_is_refused_before_anything_is_changed() {
    let test = "a_read_only_lock_directory_is_refused_before_anything_is_changed";
    let Some(unshare) = private_mounts(test) else { return };
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    let locks = world.locks();
    let script = format!(
        r#"mount --bind {0} {0} && mount -o remount,bind,ro {0} || exit 99; exec "$0" "$@""#,
        locks.display()
    );
    let outer = [unshare, &["sh", "-c", &script]].concat();
    let end = paused_runs::run(&world, &recipe).inside(&outer).run().expect(2);
    assert!(end.stdout.contains("it is read-only"), "{}", end.stdout);
    assert!(end.stderr.contains("hint: ") && end.stderr.contains("CCCI_APP_LOCK_DIR"), "{}", end.stderr);
    assert!(!world.runs().join(RUN).exists() && !world.local_root().exists(), "something was changed");
}

#[test]
fn a_run_directory_that_is_gone_in_mid_run_costs_the_result_and_leaves_nothing() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.script("tests/custom.sh", &format!("rm -rf {}", world.runs().join(RUN).display())).commit();
    let end = paused_runs::run(&world, &recipe).arg("--format").arg("json").run().expect(3);
    assert_eq!(end.json()["verdict"], "harness_failed", "{}", end.stdout);
    assert_eq!(end.json()["receipt"]["left"], json!([]), "{}", end.stdout);
    world.assert_empty();
}

#[test]
fn green_stays_green_and_red_stays_red_below_a_wrapper() {
    for shell in shells("green_stays_green_and_red_stays_red_below_a_wrapper") {
        for code in [0, 1] {
            let world = World::new();
            let recipe = world.recipe("plain");
            recipe.script("tests/custom.sh", &format!("exit {code}")).commit();
            paused_runs::run(&world, &recipe).inside(&[shell, "-e", "-c", WRAPPER]).run().expect(code);
            assert_eq!(world.record(RUN)["exit_code"], code, "{shell}");
            world.assert_empty();
        }
    }
}

#[test]
fn a_wrapper_that_is_told_to_end_passes_it_on() {
    for shell in shells("a_wrapper_that_is_told_to_end_passes_it_on") {
        let world = World::new();
        let (wrapper, _) = paused_runs::in_a_test_with(&world, "exec sleep 1000", |call| {
            call.inside(&[shell, "-e", "-c", WRAPPER])
        });
        wrapper.signal(Signal::SIGTERM);
        // Until the command is gone too: it outlives its wrapper by its teardown.
        let end = wrapper.wait().expect(143);
        assert!(end.stderr.contains("ended by SIGTERM"), "{shell}: {}", end.stderr);
        paused_runs::recorded(&world, 143);
    }
}

#[test]
fn a_killed_shell_and_a_workspace_that_is_deleted_leave_nothing() {
    let world = World::new();
    let (recipe, pipe) = paused_runs::recipe(&world, "exec sleep 1000");
    // The runner's workspace, with the recipe and the home in it.
    let workspace = recipe.path().parent().expect("a directory").to_owned();
    let mut call = paused_runs::run(&world, &recipe).env("HOME", workspace.join("home")).inside(&[
        "/bin/sh",
        "-e",
        "-c",
        &format!("{WRAPPER}; :"),
    ]);
    call.command().current_dir(&workspace);
    let shell = call.start();
    pipes::hear(&pipe);
    shell.signal(Signal::SIGKILL);
    fs::remove_dir_all(&workspace).expect("the runner may");
    let end = shell.wait().expect(137);
    assert!(end.stderr.contains("ended by death of the parent process"), "{}", end.stderr);
    paused_runs::recorded(&world, 143);
}

#[test]
fn a_caller_whose_directory_and_home_are_gone_gets_its_result() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    let gone = world.path().join("gone");
    fs::create_dir(&gone).expect("a directory");
    let mut call = paused_runs::run(&world, &recipe).env("HOME", &gone).inside(&[
        "sh",
        "-c",
        r#"rmdir "$PWD"; exec "$0" "$@""#,
    ]);
    call.command().current_dir(&gone);
    call.run().expect(0);
    world.assert_empty();
}

/// Words that run a call as an ordinary user who sees no other user's processes; a visible skip of `test` where that can't
/// be. The world is that user's from now on, and programs of the build are copied there: it may be in root's home.
fn as_an_ordinary_user(test: &str, world: &World, recipe: &Recipe) -> Option<[String; 5]> {
    as_a_user(12_345, HIDDEN, test, world, recipe)
}

/// Where that user's processes are seen by no other.
const HIDDEN: &str = "mount -t proc -o hidepid=2 none /proc";

/// The same for any user, and after other `mounts`.
fn as_a_user(user: u32, mounts: &str, test: &str, world: &World, recipe: &Recipe) -> Option<[String; 5]> {
    if !nix::unistd::geteuid().is_root() {
        skip(test, "needs root, to become another user");
        return None;
    }
    private_mounts(test)?;
    let compose = recipe.path().join("compose.yml");
    let written = fs::read_to_string(&compose).unwrap();
    let probe = written.split('"').find(|word| word.ends_with("service-probe")).unwrap();
    let program = world.cc_ci([""; 0]).words().remove(0);
    let own = world.path().join("own");
    let done = |command: &mut Command| assert!(command.status().unwrap().success());
    fs::create_dir_all(&own).unwrap();
    // By another process: what this one has open to write, a child that is being started has open too.
    done(Command::new("cp").arg(&program).arg(probe).arg(&own));
    let own_probe = own.join("service-probe");
    recipe.write("compose.yml", &written.replace(probe, own_probe.to_str().unwrap())).commit();
    done(Command::new("chown").args(["-R", &format!("{user}:{user}")]).arg(world.path()));
    let script = format!(
        r#"{mounts} && exec setpriv --reuid {user} --regid {user} --clear-groups {} "$@""#,
        own.join("cc-ci").display()
    );
    Some(["unshare", "--mount", "sh", "-c", &script].map(str::to_owned))
}

#[test]
fn an_ordinary_user_who_sees_no_others_processes_runs_and_leaves_nothing() {
    let test = "an_ordinary_user_who_sees_no_others_processes_runs_and_leaves_nothing";
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.script("tests/custom", "test $(id -u) = 12345; ! test -e /proc/1/environ");
    let Some(outer) = as_an_ordinary_user(test, &world, &recipe) else { return };
    let outer = outer.each_ref().map(String::as_str);
    // The process that it was started for is another user's.
    let parent = std::process::id().to_string();
    paused_runs::run(&world, &recipe).arg("--parent-pid").arg(&parent).inside(&outer).run().expect(0);
    world.cc_ci(["janitor"]).inside(&outer).run().expect(0);
    world.assert_empty();
}

#[test]
fn an_ordinary_user_without_bubblewrap_runs_what_a_recipe_brings_and_says_so() {
    let test = "an_ordinary_user_without_bubblewrap_runs_what_a_recipe_brings_and_says_so";
    let world = World::new();
    fs::write(world.config(), "").unwrap();
    let recipe = world.recipe("plain");
    recipe.script("tests/custom", "test $(id -u) = 12345");
    let mounts = "for program in $(command -v bwrap); do mount --bind /dev/null $program; done";
    let Some(outer) = as_a_user(12_345, mounts, test, &world, &recipe) else { return };
    let outer = outer.each_ref().map(String::as_str);
    let run = world.cc_ci(["run", "--format", "json", "--pr", "1"]).arg(recipe.path());
    let end = run.inside(&outer).run().expect(0);
    let why = "not confined: bwrap (bubblewrap) is not installed";
    assert_eq!(end.json()["recipe_code"], why);
    assert!(end.stderr.lines().next().is_some_and(|line| line.contains(why)), "{}", end.stderr);
    let doctor = world.cc_ci(["doctor"]).inside(&outer).run();
    assert!(doctor.stdout.contains("not confined, as an ordinary user's"), "{}", doctor.stdout);
    world.assert_empty();
}

#[test]
fn a_proc_without_its_settings_is_the_hosts_fault_and_says_what_helps() {
    let test = "a_proc_without_its_settings_is_the_hosts_fault_and_says_what_helps";
    let Some(unshare) = private_mounts(test) else { return };
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    let outer =
        [unshare, &["sh", "-c", r#"mount -t proc -o subset=pid none /proc || exit 99; exec "$0" "$@""#]];
    let outer = outer.concat();
    let end = paused_runs::run(&world, &recipe).inside(&outer).run().expect(3);
    assert!(end.stderr.contains("boot_id") && end.stderr.contains("ProcSubset"), "{}", end.stderr);
    world.assert_empty();
}

#[test]
fn a_host_that_starts_few_processes_leaves_nothing_and_says_so() {
    let test = "a_host_that_starts_few_processes_leaves_nothing_and_says_so";
    if !nix::unistd::geteuid().is_root() {
        return skip(test, "needs root, to become another user");
    }
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.script("tests/custom", ":");
    // A user of its own: the kernel counts a user's processes over the whole host, and suites may run beside each other.
    let id = 1_000_000 + std::process::id();
    let Some(user) = as_a_user(id, HIDDEN, test, &world, &recipe) else { return };
    let user = user.each_ref().map(String::as_str);
    let inside = |limit| [&["prlimit", limit][..], &user].concat();
    let mut ends = Vec::new();
    for limit in ["--nproc=1", "--nproc=2", "--nproc=3", "--nproc=4", "--nproc=5", "--nproc=6", "--nproc=8"] {
        let end = paused_runs::run(&world, &recipe).arg("--format").arg("json").inside(&inside(limit)).run();
        ends.push(end.code);
        assert!([0, 2, 3].contains(&end.code), "{limit}: {end:?}");
        assert!(!end.stderr.contains("panicked"), "{limit}: {}", end.stderr);
        // What a run that could start nobody left is named in its receipt, and a janitor of a better day takes it.
        world.cc_ci(["janitor"]).inside(&user).run().expect(0);
        world.assert_empty();
        let _none = fs::remove_dir_all(world.runs().join(RUN));
    }
    assert!(ends.contains(&3), "no limit was felt: {ends:?}");
    paused_runs::run(&world, &recipe).inside(&inside("--nproc=200")).run().expect(0);
    world.assert_empty();
}

#[test]
fn directories_that_are_called_by_another_name_are_the_same() {
    let world = World::new();
    let (link, recipe) = (world.path().with_extension("link"), world.recipe("plain"));
    let _link = Removed(link.clone());
    std::os::unix::fs::symlink(world.path(), &link).expect("a link");
    let by_the_link = |args: &[&str]| {
        let mut call = world.cc_ci(args);
        for (variable, name) in
            [("CCCI_APP_LOCK_DIR", "locks"), ("CCCI_RUNS_DIR", "runs"), ("CCCI_LOCAL_ROOT", "local")]
        {
            call = call.env(variable, link.join(name));
        }
        call
    };
    let gate = world.gate("live");
    recipe.script("tests/custom", &gate.script()).commit();
    let live = paused_runs::run(&world, &recipe).start();
    gate.wait();
    let domain = world.domain("plain", 7);
    let status = by_the_link(&["status"]).run().expect(0).stdout;
    assert!(status.contains(domain.as_str()), "{status}");
    by_the_link(&["janitor"]).run().expect(0);
    gate.open();
    live.wait().expect(0);
    world.assert_empty();

    world.killed_run(&world.recipe("other"), 8);
    let audit = by_the_link(&["audit"]).run().expect(4).stdout;
    assert!(audit.contains(world.domain("other", 8).as_str()), "{audit}");
    by_the_link(&["janitor"]).run().expect(0);
    world.children_are_gone();
    world.assert_empty();
}

/// A file that goes with its test.
struct Removed(std::path::PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.0).is_err();
    }
}
