//! A worker that is reached by ssh: a real sshd in its namespaces, with keys of the test's own.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cc_ci_core::process::ProcessIdentity;
use cc_ci_core::system_info::BootId;
use cc_ci_tests::engine::{Node, processes_of, until};
use cc_ci_tests::{World, executable, pipes, skip, unconfined};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::runs::{bystanders, call, count, spread, status};
use crate::support::OnNodes;

/// Where sshd is.
const SSHD: &str = "/usr/sbin/sshd";

/// An sshd on a worker, and the ssh of a user of this world who may log in there. Dropping it ends the sshd.
struct Ssh {
    directory: PathBuf,
    address: SocketAddr,
    sshd: Child,
}

impl Ssh {
    /// Logs in to `worker`. `None` where there is no sshd, which is written as a skip.
    fn start(test: &str, world: &World, worker: &Node) -> Option<Self> {
        if !Path::new(SSHD).exists() || Command::new("ssh").arg("-V").output().is_err() {
            skip(test, "there is no sshd or no ssh: install Debian's openssh-server and openssh-client");
            return None;
        }
        let directory = world.path().join("ssh");
        fs::create_dir_all(&directory).expect("a directory");
        let at = |name: &str| directory.join(name).display().to_string();
        for key in ["host", "user"] {
            let mut made = Command::new("ssh-keygen");
            let made = made.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at(key)).status();
            assert!(made.expect("ssh-keygen starts").success());
        }
        // It is all that the key is good for.
        let key = fs::read_to_string(at("user.pub")).expect("a key");
        let rule = "restrict,port-forwarding,command=\"/usr/bin/false\"";
        fs::write(at("authorized_keys"), format!("{rule} {key}")).expect("keys");
        let address = SocketAddr::new(worker.address().ip(), 22);
        fs::write(
            at("sshd_config"),
            format!(
                "ListenAddress {address}\nHostKey {}\nAuthorizedKeysFile {}\nUsePAM no\nStrictModes no\nPidFile none\n\
                 PermitRootLogin forced-commands-only\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n",
                at("host"),
                at("authorized_keys")
            ),
        )
        .expect("a configuration");
        fs::write(
            at("config"),
            format!(
                "Host *\n  IdentityFile {}\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n  GlobalKnownHostsFile /dev/null\n",
                at("user"),
                at("known_hosts")
            ),
        )
        .expect("a configuration");
        fs::create_dir_all(world.programs()).expect("a directory");
        executable(
            &world.programs().join("ssh"),
            &format!("#!/bin/sh\nPATH=${{PATH#*:}}\nexec ssh -F '{}' \"$@\"\n", at("config")),
        );
        let name =
            worker.socket().parent().and_then(Path::file_name).expect("an engine's directory").to_owned();
        let (first, _) = processes_of(&name.to_string_lossy()).first().cloned().expect("the worker lives");
        // The socket is where an engine's is.
        let script = "mkdir -p /run/sshd && ln -sfn /run/cc-ci-engine/directory/docker.sock /var/run/docker.sock && \
                      exec \"$0\" -D -f \"$1\" -E \"$2\"";
        let sshd = Command::new("nsenter")
            .args([
                "--target",
                &first.to_string(),
                "--mount",
                "--net",
                "--pid",
                "--",
                "sh",
                "-c",
                script,
                SSHD,
            ])
            .args([at("sshd_config"), at("log")])
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("nsenter starts");
        let ssh = Self { directory, address, sshd };
        ssh.know(true);
        until("sshd listens", || TcpStream::connect(address).is_ok());
        Some(ssh)
    }

    /// Has the user know the host's key, or not.
    fn know(&self, known: bool) {
        let key = fs::read_to_string(self.directory.join("host.pub")).expect("a key");
        let line = if known { format!("{} {key}", self.address.ip()) } else { String::new() };
        fs::write(self.directory.join("known_hosts"), line).expect("known hosts");
    }

    /// How often anybody was let in.
    fn logins(&self) -> usize {
        let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        log.matches("Accepted publickey for root").count()
    }

    /// The ssh of this user that there are.
    fn processes(&self) -> Vec<ProcessIdentity> {
        let boot = BootId::current().expect("a boot id");
        let config = self.directory.join("config");
        let is_ours = |pid: &i32| {
            let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            read("comm").trim() == "ssh" && read("cmdline").contains(&*config.to_string_lossy())
        };
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(is_ours).filter_map(|pid| ProcessIdentity::of(pid, boot.clone()).ok()).collect()
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        // Connections have processes of their own, and end with their other ends.
        let _ended = killpg(Pid::from_raw(self.sshd.id().cast_signed()), Signal::SIGKILL).is_err();
        let _waited = self.sshd.wait().is_err();
    }
}

/// The first worker is reached by ssh, the second one by its socket.
fn configured(test: &OnNodes, name: &str) -> Option<Ssh> {
    let (first, second) = (test.nodes.worker(1), test.nodes.worker(2));
    let ssh = Ssh::start(name, &test.world, first)?;
    let nodes = format!(
        "[nodes.worker-1]\nengine = \"ssh://root@{}\"\n[nodes.worker-2]\nengine = \"{}\"\n",
        ssh.address.ip(),
        second.host()
    );
    fs::write(test.world.config(), unconfined(nodes)).expect("a configuration");
    Some(ssh)
}

#[test]
fn a_run_logs_in_once_and_leaves_nothing_there_or_here() {
    let name = "a_run_logs_in_once_and_leaves_nothing_there_or_here";
    let Some(test) = OnNodes::new(name) else { return };
    let Some(ssh) = configured(&test, name) else { return };
    let before = bystanders(&test);
    let recipe = spread(&test);
    let record = call(&test, &recipe, "1").run().expect(0).json();
    for tier in ["install", "upgrade", "backup", "restore"] {
        assert_eq!(status(&record, tier), "passed", "{tier}: {record:#}");
    }
    let receipt = &record["receipt"];
    assert_eq!(receipt["left"], serde_json::json!([]), "{record:#}");
    assert!(count(&receipt["removed"], "volume", "worker-1") >= 2, "{receipt:#}");
    assert_eq!(ssh.logins(), 1);
    assert_eq!(ssh.processes(), []);
    for (before, after) in before.iter().zip(bystanders(&test)) {
        before.assert_same(&after);
    }
    test.assert_empty();
    let doctor = test.world.cc_ci(["doctor", "--executor", "abra"]).run();
    assert!(doctor.stdout.contains(&format!("at ssh://root@{}", ssh.address.ip())), "{}", doctor.stdout);
    assert_eq!(ssh.processes(), []);
}

#[test]
fn a_run_whose_ssh_is_killed_logs_in_again() {
    let name = "a_run_whose_ssh_is_killed_logs_in_again";
    let Some(test) = OnNodes::new(name) else { return };
    let Some(ssh) = configured(&test, name) else { return };
    let recipe = spread(&test);
    let script = format!(
        "for p in /proc/[0-9]*; do\n[ \"$(cat $p/comm)\" = ssh ] && grep -qF '{}' $p/cmdline && kill -9 ${{p#/proc/}} && \
         echo killed\ndone 2>/dev/null\ntrue",
        ssh.directory.display()
    );
    recipe.script("tests/custom-kill", &script).commit();
    let record = call(&test, &recipe, "1").run().expect(0).json();
    assert_eq!(record["receipt"]["left"], serde_json::json!([]), "{record:#}");
    assert!(count(&record["receipt"]["removed"], "volume", "worker-1") >= 2, "{record:#}");
    assert_eq!(ssh.logins(), 2);
    assert_eq!(ssh.processes(), []);
    test.assert_empty();
}

#[test]
fn a_command_that_is_killed_leaves_no_ssh_and_the_janitor_removes_by_another_one() {
    let name = "a_command_that_is_killed_leaves_no_ssh_and_the_janitor_removes_by_another_one";
    let Some(test) = OnNodes::new(name) else { return };
    let Some(ssh) = configured(&test, name) else { return };
    let recipe = spread(&test);
    let gate = test.world.gate("killed");
    recipe.script("tests/custom-gate", &gate.script()).commit();
    let running = call(&test, &recipe, "1").start();
    gate.wait();
    let processes = ssh.processes();
    assert_eq!(processes.len(), 1, "{processes:?}");
    running.signal(Signal::SIGKILL);
    running.wait().expect(137);
    for process in &processes {
        assert!(pipes::ends(process), "{process} lives on");
    }
    let audit = test.world.cc_ci(["audit", "--executor", "abra"]).run().expect(4);
    assert!(audit.stdout.contains("_data on worker-1"), "{}", audit.stdout);
    test.world.cc_ci(["janitor", "--executor", "abra"]).run().expect(0);
    assert_eq!(ssh.processes(), []);
    assert_eq!(ssh.logins(), 3, "one each");
    test.assert_empty();
    test.world.assert_empty();
}

#[test]
fn a_host_that_is_not_known_is_unseen_and_doctor_says_what_to_do() {
    let name = "a_host_that_is_not_known_is_unseen_and_doctor_says_what_to_do";
    let Some(test) = OnNodes::new(name) else { return };
    let Some(ssh) = configured(&test, name) else { return };
    ssh.know(false);
    let told = test.world.cc_ci(["audit", "--executor", "abra"]).run().expect(3).stdout;
    let why = format!(
        "no engine is reached at ssh://root@{} (node worker-1): Host key verification failed.",
        ssh.address.ip()
    );
    assert!(told.contains("the node worker-1 can't be seen since") && told.contains(&why), "{told}");
    let doctor = test.world.cc_ci(["doctor", "--executor", "abra"]).run().expect(1).stdout;
    assert!(doctor.contains(&why), "{doctor}");
    let fix = format!("the host's own: ssh root@{}", ssh.address.ip());
    assert!(doctor.contains(&fix), "{doctor}");
    assert_eq!((ssh.logins(), ssh.processes()), (0, Vec::new()));
    ssh.know(true);
    let told = test.world.cc_ci(["audit", "--executor", "abra"]).run().expect(0).stdout;
    assert_eq!(told, "nothing exists\n");
    test.nodes.worker(1).cut();
    let told = test.world.cc_ci(["audit", "--executor", "abra"]).run().expect(3).stdout;
    assert!(told.contains("ssh: connect to host"), "{told}");
    assert_eq!(ssh.processes(), []);
}
