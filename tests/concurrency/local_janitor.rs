//! The janitor over what is beside the apps of the local executor: services that left them, and strangers' things.

use std::fs;
use std::os::unix::fs::symlink;

use cc_ci_tests::{World, built, until};
use nix::sys::signal::Signal;

use crate::janitor::{decision, pass};
use crate::paused_runs;

#[test]
fn a_strangers_thing_in_the_local_root_is_told_and_keeps_no_janitor_from_the_rest() {
    let world = World::new();
    let domain = world.killed_run(&world.recipe("dead"), 1);
    let elsewhere = world.path().join("elsewhere");
    let (ports, trash) = (world.local_root().join("ports"), world.local_root().join("trash"));
    fs::create_dir_all(elsewhere.join(domain.as_str())).unwrap();
    for path in [&ports, &trash] {
        if path.exists() {
            fs::rename(path, world.path().join("theirs").with_extension(path.file_name().unwrap())).unwrap();
        }
        symlink(&elsewhere, path).unwrap();
    }
    let audit = world.cc_ci(["audit"]).run().expect(4);
    assert!(audit.stderr.contains("is no directory of this executor's"), "{}", audit.stderr);
    let report = pass(&world, 4).json();
    assert_eq!(decision(&report, &domain), "reaped", "{report}");
    assert_eq!(report["in_the_way"].as_array().unwrap().len(), 2, "{report}");
    assert!(elsewhere.join(domain.as_str()).exists());
    for path in [&ports, &trash] {
        fs::remove_file(path).unwrap();
    }
    pass(&world, 0);
    world.assert_empty();
}

#[test]
fn what_a_service_left_its_user_and_its_session_for_ends_with_a_run_and_with_the_janitor() {
    let world = World::new();
    let recipe = world.recipe("plain");
    // No other process sleeps so long.
    let [hidden, waiting] = [6, 7].map(|digit| format!("{digit}{}", std::process::id()));
    let path = recipe.path().join("compose.yml");
    let compose = fs::read_to_string(&path).unwrap();
    let line = compose.lines().find(|line| line.contains("command:")).unwrap().trim().to_owned();
    let user = if nix::unistd::geteuid().is_root() { "setpriv --reuid=12345 --clear-groups" } else { "" };
    let command = format!(
        "command: [\"sh\", \"-c\", \"{user} env -i PATH=$PATH setsid -f sleep {hidden}; exec {} ${{CCCI_PORT:-}} 1\"]",
        built("service-probe").display()
    );
    fs::write(&path, compose.replace(&line, &command.replace("$PATH", "/usr/bin:/bin"))).unwrap();
    recipe.commit();
    let call = || world.cc_ci(["run", "--pr", "1"]).arg(recipe.path());
    call().run().expect(0);
    assert_eq!(paused_runs::sleeping(&hidden), 0, "a run left nothing, and said so");
    recipe.script("tests/custom-waits", &format!("exec sleep {waiting}")).commit();
    let running = call().start();
    until("the test runs", || (paused_runs::sleeping(&hidden), paused_runs::sleeping(&waiting)) == (1, 1));
    running.signal(Signal::SIGKILL);
    running.wait().expect(137);
    world.cc_ci(["janitor"]).run().expect(0);
    assert_eq!(paused_runs::sleeping(&hidden), 0);
    world.assert_empty();
}
