//! Runs that stand still where a test wants them, and how they must end.

use std::fs::DirEntry;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cc_ci_core::process::MarkerOwner;
use cc_ci_tests::{CcCi, Ended, Recipe, StartedCommand, World, pipes};
use nix::sys::signal::Signal;
use serde_json::Value;

/// The id of every run here.
pub const RUN: &str = "1";

/// A call that tests `recipe`.
pub fn run(world: &World, recipe: &Recipe) -> CcCi {
    world.cc_ci(["run", "--run-id", RUN, "--pr", "7"]).arg(recipe.path())
}

/// A recipe whose last test tells its pid through the pipe, then does `body`.
pub fn recipe(world: &World, body: &str) -> (Recipe, PathBuf) {
    let pipe = world.fifo("told");
    let recipe = world.recipe("plain");
    recipe.script("tests/custom.sh", &format!("echo $$ > {}\n{body}", pipe.display())).commit();
    (recipe, pipe)
}

/// A run in its last test, which does `body`, and the test's pid. The app is up.
pub fn in_a_test(world: &World, body: &str) -> (StartedCommand, i32) {
    in_a_test_with(world, body, |call| call)
}

/// The same with something else in the call.
pub fn in_a_test_with(world: &World, body: &str, call: impl FnOnce(CcCi) -> CcCi) -> (StartedCommand, i32) {
    let (recipe, pipe) = recipe(world, body);
    let running = call(run(world, &recipe)).start();
    let pid = pipes::hear(&pipe).parse().expect("a pid");
    (running, pid)
}

/// A run that waits for the lock of its app, and who has it.
pub fn at_its_lock(world: &World) -> (StartedCommand, Foreign) {
    let recipe = world.recipe("plain");
    recipe.commit();
    let holder = Foreign::lock(&world.lock_file(&world.domain("plain", 7)));
    let mut running = run(world, &recipe).start();
    running.wait_for("in flight — waiting");
    (running, holder)
}

/// What a run says that it does, once whoever told that it is there has been started for good.
#[track_caller]
pub fn state(running: &mut StartedCommand) -> String {
    loop {
        running.signal(Signal::SIGUSR1);
        let state = running.wait_for("   ");
        if !state.contains("started") {
            return state;
        }
    }
}

/// A lock that somebody else holds: flock(1), as any program may. Not this process: between fork and exec a child of
/// another test has a copy of whatever is open here.
#[derive(Debug)]
pub struct Foreign(Child);

impl Foreign {
    /// Takes the lock at `path`.
    pub fn lock(path: &Path) -> Self {
        let mut holder = Command::new("flock")
            .arg(path)
            .args(["sh", "-c", "echo held; cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("flock(1) runs");
        let mut stdout = holder.stdout.take().expect("a pipe");
        let message = pipes::in_time("flock(1) has the lock", move || {
            let mut message = [0; 5];
            stdout.read_exact(&mut message).map(|()| message)
        });
        assert_eq!(&message.expect("flock(1) speaks"), b"held\n");
        Self(holder)
    }

    /// Lets it go.
    pub fn release(mut self) {
        drop(self.0.stdin.take());
        let mut holder = self.0;
        let status = pipes::in_time("flock(1) ends", move || holder.wait());
        assert!(status.is_ok_and(|status| status.success()));
    }
}

/// How many processes are a `sleep` of so many seconds.
pub fn sleeping(seconds: &str) -> usize {
    let wanted = ["sleep", seconds, ""].join("\0").into_bytes();
    let entries = std::fs::read_dir("/proc").expect("/proc is there").flatten();
    let sleeps =
        |entry: &DirEntry| std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == wanted);
    entries.filter(sleeps).count()
}

/// The pid of the app's service.
pub fn service(world: &World) -> i32 {
    let processes = world.processes();
    let mut services =
        processes.iter().filter(|found| matches!(found.marker.owner, MarkerOwner::Service { .. }));
    services.next().expect("the app's service runs").process.pid
}

/// The command ended early with `code`, told so once, tore down, and left nothing.
#[track_caller]
pub fn torn_down(world: &World, running: StartedCommand, code: i32) -> (Ended, Value) {
    let end = running.wait().expect(code);
    assert_eq!(end.stderr.matches("tearing down").count(), 1, "{}", end.stderr);
    (end, recorded(world, code))
}

/// The run's own files say so.
#[track_caller]
pub fn recorded(world: &World, code: i32) -> Value {
    world.assert_empty();
    let record = world.record(RUN);
    assert_eq!(record["verdict"], "cancelled", "{record}");
    assert_eq!(record["exit_code"], code, "{record}");
    assert_eq!(record["receipt"]["left"], Value::Array(Vec::new()), "{record}");
    let events = world.events(RUN);
    let order: Vec<&str> = events
        .iter()
        .filter_map(|event| match event["event"].as_str()? {
            name @ ("cancelled" | "children_ended") => Some(name),
            _ => event["phase"].as_str().filter(|phase| *phase == "teardown"),
        })
        .collect();
    assert_eq!(order, ["cancelled", "children_ended", "teardown"]);
    let ended = children_ended(&events);
    assert_eq!(ended["left"], Value::Array(Vec::new()), "{ended}");
    let after = ended["signalled_after"].as_f64().expect("measured where a run was cancelled");
    println!("children signalled {:.1} ms after the cancellation", after * 1e3);
    // 100 ms are promised on a host that has time for us.
    assert!(after < 1.0, "children were signalled {after} s after the cancellation");
    record
}

/// The event of the children's end.
#[track_caller]
pub fn children_ended(events: &[Value]) -> &Value {
    events.iter().find(|event| event["event"] == "children_ended").expect("the children's end is told")
}

/// After the death of a run: the audit names what is left, one pass of the janitor removes it.
#[track_caller]
pub fn reaped_by_one_pass(world: &World) {
    let domain = world.domain("plain", 7);
    let audit = world.cc_ci(["audit"]).run().expect(4);
    assert!(audit.stdout.contains(domain.as_str()), "{}", audit.stdout);
    world.cc_ci(["janitor"]).run().expect(0);
    world.assert_empty();
    world.cc_ci(["audit"]).run().expect(0);
    assert!(!world.lock_file(&domain).exists(), "the lock file of an empty domain is stale");
}
