//! The private engine itself: it comes whole, goes whole, and touches nothing of the machine.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cc_ci_core::process::ProcessIdentity;
use cc_ci_core::system_info::BootId;
use cc_ci_tests::engine::{self, BUSYBOX, PrivateEngine, TestEngine};
use cc_ci_tests::{StartedCommand, World, pipes};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// `private-engine run` with its files in this world, and a pipe to say that the command is there.
struct Owner {
    world: World,
    running: Option<StartedCommand>,
    directory: PathBuf,
    /// The engine's first process, then every other one of it, and the command.
    processes: Vec<ProcessIdentity>,
    command: ProcessIdentity,
}

impl Owner {
    /// Starts one. `script` is the command, a line of shell; it has told where it is already.
    fn start(options: &[&str], script: &str) -> Self {
        let world = World::new();
        let here = world.fifo("here");
        let tell = format!("echo $$ ${{{}#unix://}} > '{}'; {script}", engine::ENGINE, here.display());
        let running = run(&world, options, &tell);
        let shown = pipes::hear(&here);
        let (pid, socket) = shown.split_once(' ').expect("a pid and a socket");
        let directory = Path::new(socket).parent().expect("a socket is in a directory").to_owned();
        assert!(directory.starts_with(world.path().canonicalize().expect("the world is there")));
        let processes = processes_of(&directory);
        assert!(processes.len() > 2, "the first process, dockerd and containerd");
        let command = pipes::process(pid.parse().expect("a pid"));
        Self { world, running: Some(running), directory, processes, command }
    }

    /// Kills the owner, and whoever else is to be dead before anybody notices.
    fn kill_owner(&mut self, then: impl FnOnce()) {
        let running = self.running.take().expect("it runs");
        running.signal(Signal::SIGKILL);
        assert!(pipes::ends(&pipes::process(running.pid())), "SIGKILL ends it");
        then();
        running.wait().expect(137);
    }

    #[track_caller]
    fn assert_gone(&self) {
        for process in self.processes.iter().chain([&self.command]) {
            assert!(pipes::ends(process), "{process} lives on");
        }
        // The kernel tells nobody when it has let go of a control group.
        engine::until("nothing is left", || left_of(&self.directory).is_empty());
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // A failed test's own: the owner's end is the engine's and the command's.
        if let Some(running) = self.running.take() {
            running.signal(Signal::SIGTERM);
            drop(running.wait());
        }
    }
}

fn run(world: &World, options: &[&str], script: &str) -> StartedCommand {
    let child = Command::new(env!("CARGO_BIN_EXE_private-engine"))
        .arg("run")
        .args(options)
        .args(["--", "sh", "-c", script])
        .env("TMPDIR", world.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    StartedCommand::new(child.expect("private-engine starts"))
}

/// Every process of the engine in `directory`, its first one first.
fn processes_of(directory: &Path) -> Vec<ProcessIdentity> {
    let name = directory.file_name().expect("it has a name").to_string_lossy();
    let boot = BootId::current().expect("a boot id");
    let found = engine::processes_of(&name).into_iter();
    // Some come and go.
    found.filter_map(|(pid, _)| ProcessIdentity::of(pid, boot.clone()).ok()).collect()
}

fn left_of(directory: &Path) -> Vec<String> {
    engine::left_of(directory).expect("one can look")
}

fn is_there(test: &str) -> bool {
    TestEngine::shared(test).is_some()
}

#[test]
fn it_is_gone_when_its_owner_is_killed() {
    if !is_there("it_is_gone_when_its_owner_is_killed") {
        return;
    }
    let container = format!("docker -H ${} run -d {BUSYBOX} sleep 1000 >&2", engine::ENGINE);
    let mut owner = Owner::start(&["--bare"], &format!("{container}; exec sleep 1000"));
    owner.kill_owner(|| ());
    owner.assert_gone();
}

#[test]
fn what_a_kill_of_everything_leaves_goes_with_the_next_start() {
    if !is_there("what_a_kill_of_everything_leaves_goes_with_the_next_start") {
        return;
    }
    let mut owner = Owner::start(&["--bare"], "exec sleep 1000");
    let living = Owner::start(&["--bare"], "exec sleep 1000");
    // Stopped, the first process can't tidy up when its owner dies.
    let first = Pid::from_raw(owner.processes[0].pid);
    kill(first, Signal::SIGSTOP).expect("it is there");
    owner.kill_owner(|| kill(first, Signal::SIGKILL).expect("it is there"));
    for process in &owner.processes {
        assert!(pipes::ends(process), "{process} lives on");
    }
    assert!(owner.directory.exists(), "this is about what is left");
    assert!(!left_of(&owner.directory).is_empty());

    // As the start of another engine does.
    let sweep = |world: &World| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_private-engine"));
        let output = command.arg("sweep").env("TMPDIR", world.path()).output().expect("it starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    sweep(&living.world);
    let message = sweep(&owner.world);
    assert!(message.contains(&*owner.directory.to_string_lossy()), "{message}");
    assert_eq!(left_of(&owner.directory), Vec::<String>::new());
    let first = &living.processes[0];
    assert!(first.is_alive(&first.boot_id), "a living engine was ended");
    assert!(living.directory.join("docker.sock").exists(), "a living engine was swept");
}

#[test]
fn it_is_gone_when_its_first_process_is_killed() {
    if !is_there("it_is_gone_when_its_first_process_is_killed") {
        return;
    }
    let go = World::new();
    let gate = go.gate("go");
    let mut owner = Owner::start(&["--bare"], &gate.hold());
    kill(Pid::from_raw(owner.processes[0].pid), Signal::SIGKILL).expect("it is there");
    for process in &owner.processes {
        assert!(pipes::ends(process), "{process} lives on");
    }
    gate.open();
    let ended = owner.running.take().expect("it runs").wait().expect(2);
    assert!(ended.stderr.contains("ended before the command did"), "{}", ended.stderr);
    owner.assert_gone();
}

#[test]
fn a_signal_ends_the_command_and_all_that_it_started() {
    if !is_there("a_signal_ends_the_command_and_all_that_it_started") {
        return;
    }
    let away = World::new();
    let (escaped, asked) = (away.fifo("escaped"), away.fifo("asked"));
    let script = format!(
        "trap 'echo TERM > {}; exit' TERM
         setsid sh -c 'trap \"\" TERM; echo $$ > {}; while :; do sleep 1000; done' & wait",
        asked.display(),
        escaped.display()
    );
    let mut owner = Owner::start(&["--bare"], &script);
    let escaped = pipes::process(pipes::hear(&escaped).parse().expect("a pid"));
    let running = owner.running.take().expect("it runs");
    running.signal(Signal::SIGTERM);
    assert_eq!(pipes::hear(&asked), "TERM");
    running.wait().expect(143);
    assert!(!escaped.is_alive(&escaped.boot_id), "{escaped} lives on");
    assert_eq!(left_of(&owner.directory), Vec::<String>::new());
    owner.assert_gone();
}

#[test]
fn the_commands_status_is_told_when_the_engine_is_empty() {
    if !is_there("the_commands_status_is_told_when_the_engine_is_empty") {
        return;
    }
    let world = World::new();
    let ended = run(&world, &["--bare"], "exit 3").wait().expect(3);
    assert!(ended.stderr.ends_with("private engine: empty, and gone\n"), "{}", ended.stderr);
    assert!(world.snapshot().keys().all(|path| !path.to_string_lossy().contains("cc-ci-engine")));
}

#[test]
fn a_command_that_leaves_something_or_touches_a_bystander_has_failed() {
    if !is_there("a_command_that_leaves_something_or_touches_a_bystander_has_failed") {
        return;
    }
    let world = World::new();
    let docker = format!("docker -H ${}", engine::ENGINE);
    let script = format!(
        "{docker} volume create left-volume; {docker} network create left-network
         {docker} config create left-config /etc/passwd; {docker} secret create left-secret /etc/passwd
         {docker} run -d --name left-container {BUSYBOX} sleep 1000
         {docker} service create -d --no-resolve-image --name left-service {BUSYBOX} sleep 1000
         {docker} service update -d --label-add touched=yes loose-service; {docker} volume create loose-other"
    );
    let message = run(&world, &[], &script).wait().expect(1).stderr;
    assert!(message.contains("private engine: not empty, and gone:"), "{message}");
    for kind in ["volume", "network", "config", "secret", "container", "service"] {
        assert!(message.contains(&format!("  left: {kind} left-{kind}\n")), "no {kind} in {message}");
    }
    assert!(message.contains("service loose-service") && message.contains("touched"), "{message}");
    assert!(message.contains("volume loose-other loose-other is new"), "{message}");
}

#[test]
fn two_engines_know_nothing_of_each_other() {
    let Some(first) = PrivateEngine::start("two_engines_know_nothing_of_each_other") else { return };
    let Some(second) = PrivateEngine::start("two_engines_know_nothing_of_each_other") else { return };
    first.docker(["volume", "create", "of-the-first"]);
    first.docker(["run", "--detach", "--name", "one", BUSYBOX, "sleep", "1000"]);
    assert_eq!(second.objects(), []);
    let id = |engine: &PrivateEngine| engine.docker(["info", "--format", "{{.Swarm.Cluster.ID}}"]);
    assert_ne!(id(&first), id(&second));
    second.end().expect("nothing is left of it");
    assert_eq!(first.docker(["inspect", "--format", "{{.State.Running}}", "one"]), "true");
    first.end().expect("nothing is left of it");
}

#[test]
fn its_daemon_can_die_and_come_back_and_stand_still() {
    let Some(mut engine) = PrivateEngine::start("its_daemon_can_die_and_come_back_and_stand_still") else {
        return;
    };
    let pid = |engine: &PrivateEngine| {
        let found = engine.processes().into_iter().find(|(_, name)| name == "dockerd");
        found.map(|(pid, _)| pipes::process(pid))
    };
    let before = pid(&engine).expect("dockerd runs");
    engine.docker(["run", "--detach", "--name", "app", BUSYBOX, "sleep", "1000"]);
    // A container counts as started before its program is executed.
    let runs = |engine: &PrivateEngine| engine.processes().iter().any(|(_, name)| name == "sleep");
    engine::until("the container runs", || runs(&engine));
    engine.kill_daemon();
    assert_eq!(pid(&engine), None);
    assert!(!before.is_alive(&before.boot_id));
    assert!(runs(&engine), "containers live on");
    assert_ne!(engine.try_docker(["version"]).code, 0);

    engine.start_daemon();
    assert!(engine.docker(["ps", "--all", "--format", "{{.Names}}"]).contains("app"));
    engine::until("the Swarm is back", || engine.try_docker(["service", "ls"]).code == 0);

    let state = |engine: &PrivateEngine| {
        let pid = pid(engine).expect("dockerd runs").pid;
        cc_ci_core::process::StatLine::read(pid).expect("dockerd runs").state
    };
    engine.freeze_daemon();
    assert_eq!(state(&engine), 'T');
    engine.thaw_daemon();
    engine.docker(["version"]);
    assert_ne!(state(&engine), 'T');
    engine.end().expect("nothing is left of it");
}

#[test]
fn it_sees_and_changes_nothing_of_the_machine() {
    let Some(engine) = PrivateEngine::start("it_sees_and_changes_nothing_of_the_machine") else { return };
    let inside = |script: &str| {
        let output = Command::new("nsenter")
            .arg(format!("--mount=/proc/{}/ns/mnt", engine.host_pid()))
            .args(["--", "sh", "-c", script])
            .output();
        let output = output.expect("nsenter starts");
        let message = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&message).into_owned())
    };
    for path in ["/usr", "/var", "/root", env!("CARGO_MANIFEST_DIR")] {
        let (done, message) = inside(&format!("touch {path}/cc-ci-engine-was-here"));
        assert!(!done && message.contains("Read-only file system"), "{path}: {message}");
    }
    // Whether the machine has an engine or not: of it, nothing is there.
    let device = |path: &str| fs::metadata(path).ok().map(|found| found.dev().to_string());
    for path in [
        "/etc/docker",
        "/etc/containerd",
        "/etc/cni",
        "/var/lib/docker",
        "/var/lib/containerd",
        "/run/docker",
    ] {
        // What a link shows counts, not the link.
        let (is_there, of) = inside(&format!("stat --dereference --format %d {path}"));
        assert!(!is_there || Some(of.trim().to_owned()) != device(path), "{path} is the machine's");
    }
    let (_, sockets) = inside("find /run -name docker.sock | sort -u");
    assert_eq!(sockets.trim(), "/run/cc-ci-engine/directory/docker.sock");
    // Its containers are in the engine's own control groups.
    engine.docker(["run", "--detach", BUSYBOX, "sleep", "1000"]);
    let mut sleep = 0;
    engine::until("the container runs", || {
        let found = engine.processes().into_iter().find(|(_, name)| name == "sleep");
        sleep = found.map_or(0, |(pid, _)| pid);
        sleep != 0
    });
    let groups = fs::read_to_string(format!("/proc/{sleep}/cgroup")).expect("it runs");
    let ours = format!(":/{}/", engine.name());
    assert!(groups.lines().all(|line| line.contains(&ours)), "{groups}");
}
