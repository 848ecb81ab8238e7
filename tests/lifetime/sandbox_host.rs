//! A host around a sandbox: what there is to see and to touch, and who tries to.

use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use cc_ci_tests::{built, require_root, skip};
use tempfile::TempDir;

/// An ordinary user.
pub const ORDINARY: u32 = 65_534;

/// A host with what nobody else may touch, and a process that is none of ours.
pub struct Host {
    directory: TempDir,
    bystander: Child,
    abstract_name: String,
    port: u16,
    _sockets: (std::net::TcpListener, UnixListener, UnixListener),
}

impl Host {
    /// One whose bystander is of `user`.
    pub fn new(user: Option<u32>) -> Self {
        let directory = tempfile::Builder::new().prefix("cc-ci-test-").tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["other", "for-all", "recipe", "scratch", "bin"] {
            fs::create_dir(path(name)).unwrap();
        }
        fs::write(path("other/run.json"), "{}").unwrap();
        fs::write(shared(&directory), "shared\n").unwrap();
        fs::write(path("app.lock"), "of the host\n").unwrap();
        fs::write(path("recipe/compose.yml"), "services: {}\n").unwrap();
        fs::copy(built("sandbox-probe"), path("bin/sandbox-probe")).unwrap();
        // For an ordinary user to reach, and to succeed with.
        for (name, mode) in [
            (".", 0o755),
            ("other", 0o777),
            ("other/run.json", 0o666),
            ("for-all", 0o777),
            ("app.lock", 0o666),
            ("recipe", 0o777),
            ("recipe/compose.yml", 0o666),
            ("scratch", 0o777),
        ] {
            fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let engine = UnixListener::bind(path("docker.sock")).unwrap();
        fs::set_permissions(path("docker.sock"), fs::Permissions::from_mode(0o666)).unwrap();
        let abstract_name = format!("cc-ci-test-{}", directory.path().file_name().unwrap().display());
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let hidden = UnixListener::bind_addr(&address).unwrap();
        let mut bystander = Command::new("sleep");
        bystander.arg("100000").arg0("bystander-of-the-host");
        if let Some(user) = user {
            bystander.uid(user).gid(user);
        }
        let bystander = bystander.spawn().unwrap();
        Self { directory, bystander, abstract_name, port, _sockets: (tcp, engine, hidden) }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a shell script as `user`.
    pub fn run(&self, user: Option<u32>, confined: bool, script: &str) -> Output {
        self.call(user, confined, &["/bin/sh", "-c", script]).output().unwrap()
    }

    pub fn call(&self, user: Option<u32>, confined: bool, program: &[&str]) -> Command {
        self.call_with(user, confined, &[], program)
    }

    pub fn call_with(&self, user: Option<u32>, confined: bool, more: &[String], program: &[&str]) -> Command {
        let (scratch, recipe) = (self.path("scratch"), self.path("recipe"));
        let probe = self.path("bin/sandbox-probe");
        let mut command = match user {
            None => Command::new(probe),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".into()]);
                command.arg(probe);
                command
            }
        };
        if confined {
            command.arg("confined=yes").arg(format!("read={}", recipe.display()));
            command.arg(format!("write={}", scratch.display()));
        }
        command.args(more).arg("--").args(program);
        let namespace = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        for name in ["net", "pid", "mnt", "ipc", "uts", "cgroup", "user"] {
            command.env(format!("GIVEN_NS_{}", name.to_uppercase()), namespace(name));
        }
        let mount = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut mounts = mount.lines().filter_map(|line| line.split(' ').nth(4));
        let mount = mounts.rfind(|path| path.starts_with("/sys")).unwrap_or("/sys").to_owned();
        command
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("SOME_TOKEN", "TOKEN=hunter22")
            .env("GIVEN_HOST", self.directory.path())
            .env("GIVEN_SCRATCH", scratch)
            .env("GIVEN_RECIPE", recipe)
            .env("GIVEN_PORT", self.port.to_string())
            .env("GIVEN_ABSTRACT", &self.abstract_name)
            .env("GIVEN_PID", self.bystander.id().to_string())
            .env("GIVEN_MOUNT", mount)
            .env("GIVEN_NAME", fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim_end())
            .stdin(Stdio::null());
        command
    }
}

/// What this host's processes share: its directory's name, in memory.
fn shared(directory: &TempDir) -> PathBuf {
    Path::new("/dev/shm").join(directory.path().file_name().unwrap())
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(fs::remove_file(shared(&self.directory)));
        drop(self.bystander.kill());
        drop(self.bystander.wait());
    }
}

/// Whether this kernel lets bubblewrap work for `user`; a skip says why not. Where it does, sandboxes must work, too.
pub fn can_confine(test: &str, host: &Host, user: Option<u32>) -> bool {
    let mut plain = Command::new("bwrap");
    plain.args(["--unshare-all", "--ro-bind", "/", "/", "true"]);
    if let Some(user) = user {
        plain.uid(user).gid(user);
    }
    match plain.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            skip(test, String::from_utf8_lossy(&output.stderr).trim());
            return false;
        }
        Err(error) => {
            skip(test, &format!("bwrap (bubblewrap): {error}"));
            return false;
        }
    }
    let output = host.run(user, true, "true");
    assert!(output.status.success(), "bubblewrap works, and a sandbox does not: {output:?}");
    true
}

/// Tries `attempt` as root and as an ordinary user, where this host lets each of them confine.
pub fn for_each_user(test: &str, attempt: impl Fn(&Host, Option<u32>)) {
    if !require_root(test) {
        return;
    }
    for user in [None, Some(ORDINARY)] {
        let host = Host::new(user);
        if can_confine(test, &host, user) {
            attempt(&host, user);
        }
    }
}
