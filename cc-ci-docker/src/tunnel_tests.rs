//! Tunnels by the installed ssh to a real sshd, which has keys, a configuration and hosts of the test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cc_ci_core::blocking::Unblocked;
use cc_ci_core::engine::Redactor;
use cc_ci_core::process::{ProcessIdentity, Signal, kill_process, wait_gone};
use cc_ci_core::system_info::BootId;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::address::Address;
use crate::client::{ApiError, Client, Filters};
use crate::fake_engine::{FakeEngine, Reply, nothing};

/// What a call may take that is to succeed.
const LONG: Duration = Duration::from_mins(1);

/// A user's ssh: its configuration knows these hosts.
struct World {
    directory: TempDir,
}

impl World {
    /// `None` where there is no ssh or no sshd that anybody could log in to, which is told.
    fn new() -> Option<Self> {
        let sshd = programs::find("sshd".as_ref(), "/usr/sbin:/usr/local/sbin".as_ref());
        let ssh = programs::find("ssh".as_ref(), &programs::operator_path());
        let (Ok(sshd), Ok(_)) = (sshd, ssh) else {
            println!("skipped: there is no ssh, or no sshd");
            return None;
        };
        let is_root = nix::unistd::geteuid().is_root();
        let shadow = fs::read_to_string("/etc/shadow").unwrap_or_default();
        if is_root && shadow.lines().any(|line| line.starts_with("root:!")) {
            println!("skipped: sshd lets no root in whose account is locked");
            return None;
        }
        let world = Self { directory: tempfile::tempdir().unwrap() };
        for (key, kind) in
            [("host", "ed25519"), ("second", "ecdsa"), ("user", "ed25519"), ("other", "ed25519")]
        {
            let key = world.path(key);
            let made = Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", "", "-f"]).arg(&key).status();
            assert!(made.unwrap().success());
        }
        let public = |key: &str| fs::read_to_string(world.path(&format!("{key}.pub"))).unwrap();
        world.write("authorized_keys", &public("user"));
        world.write("known_hosts", &world.known());
        let at = |name: &str| world.path(name).display().to_string();
        world.write(
            "sshd_config",
            &format!(
                "HostKey {}\nHostKey {}\nAuthorizedKeysFile {}\nUsePAM no\nStrictModes no\nPidFile none\nLogLevel ERROR\n\
                 PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n",
                at("host"),
                at("second"),
                at("authorized_keys")
            ),
        );
        let mut serve = format!("{} -i -f {}", sshd.display(), at("sshd_config"));
        if is_root {
            // Root's needs a directory that only an installed service has.
            serve = format!(
                "unshare --mount --propagation private sh -c 'mount -t tmpfs none /run && mkdir /run/sshd && exec {serve}'"
            );
        }
        world.write("config", &world.configuration(&serve));
        // Written by another process: what somebody here writes to is not executed while others fork.
        let script = format!("#!/bin/sh\nexec ssh -F '{}' \"$@\"\n", at("config"));
        let write = "printf %s \"$1\" >\"$2\" && chmod 755 \"$2\"";
        let written = Command::new("sh").args(["-c", write, "sh", &script]).arg(world.path("ssh")).status();
        assert!(written.unwrap().success());
        Some(world)
    }

    /// What ssh reads: its hosts, and all that is not to count.
    fn configuration(&self, serve: &str) -> String {
        let at = |name: &str| self.path(name).display().to_string();
        let (known, user, other, pid) = (at("known_hosts"), at("user"), at("other"), at("pid"));
        let overruled = format!(
            "ControlMaster auto\nControlPath {}\nControlPersist yes\nForkAfterAuthentication yes\nLogLevel QUIET\n\
             PermitLocalCommand yes\nLocalCommand touch {}\nRemoteCommand touch {}\nStrictHostKeyChecking accept-new\n\
             UpdateHostKeys yes\nRequestTTY force\nForwardAgent yes\n",
            at("control"),
            at("local"),
            at("remote")
        );
        format!(
            "Host worker stranger\nIdentityFile {user}\nHost closed\nIdentityFile {other}\n\
             Host worker stranger closed\nProxyCommand {serve}\n\
             Host silent\nProxyCommand sh -c 'echo $PPID > {pid}; exec sleep 1000'\n\
             Host refusing\nHostName 127.0.0.1\nPort 1\n\
             Host *\nUserKnownHostsFile {known}\nGlobalKnownHostsFile /dev/null\nIdentitiesOnly yes\n{overruled}"
        )
    }

    /// The hosts that are known.
    fn known(&self) -> String {
        // One a line: ssh adds no keys of a host that shares its line.
        let key = fs::read_to_string(self.path("host.pub")).unwrap();
        ["worker", "closed", "silent"].map(|host| format!("{host} {key}")).concat()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn tunnel(&self, host: &str, socket: &Path) -> Tunnel {
        let to = format!("ssh://{host}{}", socket.display()).parse().unwrap();
        Tunnel::by(to, self.path("ssh").into(), programs::operator_path())
    }

    /// A client of what listens at `socket`, as the node `worker-1`.
    fn client(&self, host: &str, socket: &Path) -> (Tunnel, Client) {
        let tunnel = self.tunnel(host, socket);
        let client = Client::at(Address::Ssh(tunnel.clone()), Some("worker-1".to_owned()));
        (tunnel, client.with_call_limit(LONG))
    }
}

impl Tunnel {
    /// The ssh that is there.
    async fn ssh(&self) -> ProcessIdentity {
        let State::Open(ssh) = &*self.0.state.lock().await else { panic!("there is no tunnel") };
        let pid = ssh.child.lock().unwrap().0.pid();
        ProcessIdentity::of(pid, BootId::current().unwrap()).unwrap()
    }
}

async fn ask(client: &Client) -> Result<serde_json::Value, ApiError> {
    client.get("/containers/json", &Filters::new()).await
}

async fn is_gone(process: &ProcessIdentity) -> bool {
    wait_gone(process, &process.boot_id, Instant::now() + LONG).await.unwrap()
}

#[tokio::test]
async fn one_ssh_carries_all_connections_and_another_one_after_its_end() {
    let Some(world) = World::new() else { return };
    let engine =
        FakeEngine::start(|call| if call.contains("/networks") { Reply::Close } else { nothing(call) });
    let (tunnel, client) = world.client("worker", &engine.socket());
    let _unblocked = Unblocked::begin();
    let all = tokio::join!(
        ask(&client),
        ask(&client),
        ask(&client),
        client.call(async |docker| docker.info().await)
    );
    assert_eq!([all.0.unwrap(), all.1.unwrap(), all.2.unwrap()], [json!([]), json!([]), json!([])]);
    assert!(all.3.is_ok(), "{:?}", all.3);
    let first = tunnel.ssh().await;
    assert_eq!(ask(&client).await.unwrap(), json!([]));
    assert_eq!(tunnel.ssh().await, first);
    kill_process(&first, &first.boot_id, Signal::Kill).unwrap();
    assert!(is_gone(&first).await);
    assert_eq!(ask(&client).await.unwrap(), json!([]));
    assert!(client.call(async |docker| docker.info().await).await.is_ok());
    let second = tunnel.ssh().await;
    assert_ne!(second, first);
    // Whoever keeps an error keeps no tunnel.
    drop(tunnel);
    let kept = client.get("/networks", &Filters::new()).await.unwrap_err();
    assert!(matches!(kept, ApiError::Broken { .. }), "{kept:?}");
    drop(client);
    assert!(is_gone(&second).await, "{kept}");
    // Nothing of the user's configuration is done that would last.
    for made in ["control", "local", "remote"] {
        assert!(!world.path(made).exists(), "{made}");
    }
    assert_eq!(fs::read_to_string(world.path("known_hosts")).unwrap(), world.known());
}

#[tokio::test]
async fn it_is_told_in_sshs_own_words_why_there_is_none_and_what_helps() {
    let Some(world) = World::new() else { return };
    let engine = FakeEngine::start(nothing);
    let _unblocked = Unblocked::begin();
    let (socket, missing) = (engine.socket(), world.path("none.sock"));
    for (host, socket, why, helps, passes) in [
        (
            "stranger",
            &socket,
            "Host key verification failed",
            "log in once as the user that runs cc-ci",
            false,
        ),
        ("closed", &socket, "Permission denied (publickey)", "ssh-copy-id closed", false),
        ("refusing", &socket, "port 1: Connection refused", "works by hand: ssh refusing", true),
        (
            "worker",
            &missing,
            "does not take the connection there: connect failed",
            "in the group that owns",
            true,
        ),
    ] {
        let (_tunnel, client) = world.client(host, socket);
        let error = ask(&client).await.unwrap_err();
        let told = error_chain(&error);
        assert!(told.contains(why) && told.contains("(node worker-1)"), "{host}: {told}");
        assert_eq!(error.is_passing(), passes, "{host}");
        let failure = error.during("can't look");
        assert!(failure.hint().unwrap().contains(helps), "{host}: {failure:?}");
        // Through a pool of connections it is told alike.
        let pooled = client.call(async |docker| docker.info().await).await.unwrap_err();
        assert_eq!(error_chain(&pooled), told, "{host}");
    }
    assert_eq!(engine.calls(), [""; 0]);
}

#[tokio::test]
async fn without_an_ssh_it_is_told_what_to_install() {
    let to = "ssh://worker".parse().unwrap();
    let tunnel = Tunnel::by(to, "ssh".into(), "/nowhere".into());
    let error = ask(&Client::at(Address::Ssh(tunnel), None)).await.unwrap_err();
    assert!(error.to_string().ends_with("there is no ssh in PATH"), "{error}");
    assert!(!error.is_passing());
    assert!(error.during("x").hint().unwrap().contains("apt-get install openssh-client"));
}

#[tokio::test]
async fn what_ssh_says_is_shown_without_secrets() {
    let Some(world) = World::new() else { return };
    let redactor = Redactor::default();
    redactor.hide("127.0.0.1");
    let (_tunnel, client) = world.client("refusing", Path::new("/x.sock"));
    let error = ask(&client.with_redactor(redactor)).await.unwrap_err();
    assert!(error.to_string().contains("connect to host [secret] port 1"), "{error}");
}

#[tokio::test]
async fn one_that_does_not_answer_is_given_up_in_time_and_not_tried_again_at_once() {
    let Some(world) = World::new() else { return };
    nix::unistd::mkfifo(&world.path("pid"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let tunnel = world.tunnel("silent", Path::new("/x.sock"));
    let pid = blocking::run({
        let pid = world.path("pid");
        move || fs::read_to_string(pid).unwrap()
    });
    let (began, limit) = (Instant::now(), Duration::from_secs(5));
    let (refused, pid) = tokio::join!(tunnel.connect(limit), pid);
    assert!(began.elapsed() < limit);
    let refused = refused.map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("timed out") || refused.contains("not let in within"), "{refused}");
    // Another one would take as long: nobody reads the pipe any more.
    let began = Instant::now();
    let again = tunnel.connect(limit).await.map(|_| ()).unwrap_err().to_string();
    assert_eq!(again, refused);
    assert!(began.elapsed() < Duration::from_secs(1));
    let boot = BootId::current().unwrap();
    if let Ok(process) = ProcessIdentity::of(pid.trim().parse().unwrap(), boot) {
        assert!(is_gone(&process).await);
    }
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_no_ssh() {
    let Some(world) = World::new() else { return };
    nix::unistd::mkfifo(&world.path("pid"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let tunnel = world.tunnel("silent", Path::new("/x.sock"));
    let started = tokio::spawn({
        let tunnel = tunnel.clone();
        async move { tunnel.connect(LONG).await.map(|_| ()) }
    });
    let file = world.path("pid");
    let pid = blocking::run(move || fs::read_to_string(file).unwrap()).await;
    let process = ProcessIdentity::of(pid.trim().parse().unwrap(), BootId::current().unwrap()).unwrap();
    let _unblocked = Unblocked::begin();
    started.abort();
    assert!(started.await.unwrap_err().is_cancelled());
    // By itself it ends only after some seconds.
    let soon = Instant::now() + Duration::from_secs(4);
    assert!(wait_gone(&process, &process.boot_id, soon).await.unwrap());
}

#[tokio::test]
async fn an_engine_that_hangs_is_no_tunnel_that_fails() {
    let Some(world) = World::new() else { return };
    let engine = FakeEngine::start(|_| Reply::Never);
    let (tunnel, client) = world.client("worker", &engine.socket());
    drop(tunnel.connect(LONG).await.unwrap());
    let client = client.with_call_limit(Duration::from_millis(300));
    let error = ask(&client).await.unwrap_err();
    assert!(matches!(error, ApiError::Hangs { .. }), "{error:?}");
}
