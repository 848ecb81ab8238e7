//! Ways out of a sandbox: each is first seen to lead out where there is none.

use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use cc_ci_tests::{built, require_root, skip, until};
use tempfile::TempDir;

/// Who tries it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Root and an ordinary user.
    Anyone,
    /// Root: an ordinary user can't, with or without a sandbox.
    Root,
}
use Who::{Anyone, Root};

/// Shell scripts that end with 0 where they got out.
const WAYS: &[(&str, Who, &str)] = &[
    // Files.
    ("reads another run", Anyone, r#"cat "$GIVEN_HOST/other/run.json""#),
    ("writes to another run", Anyone, r#"echo x >> "$GIVEN_HOST/other/run.json""#),
    ("lists what is on the host", Anyone, r#"ls "$GIVEN_HOST/other""#),
    (
        "holds a lock",
        Anyone,
        r#"grep -q host "$GIVEN_HOST/app.lock" && flock -n "$GIVEN_HOST/app.lock" true"#,
    ),
    (
        "leaves a file in a directory that is for all",
        Anyone,
        r#"[ -d "$GIVEN_HOST/for-all" ] && touch "$GIVEN_HOST/for-all/left-$$""#,
    ),
    ("changes the recipe", Anyone, r#"echo x >> "$GIVEN_RECIPE/compose.yml""#),
    ("adds to the recipe", Anyone, r#"touch "$GIVEN_RECIPE/added""#),
    ("reads shadow", Root, "cat /etc/shadow"),
    ("reads root's home", Root, "ls /root"),
    ("makes a device", Root, r#"mknod "$GIVEN_SCRATCH/zero" c 1 5"#),
    ("reads a disk's name", Anyone, "ls /sys/block"),
    ("reads the host's name", Anyone, r#"[ "$(cat /proc/sys/kernel/hostname)" = "$GIVEN_NAME" ]"#),
    (
        "writes to a parameter of the kernel",
        Root,
        "cat /proc/sys/kernel/panic > /tmp/panic && cat /tmp/panic > /proc/sys/kernel/panic",
    ),
    ("sees the host's mounts", Anyone, r#"grep -q " $GIVEN_MOUNT " /proc/self/mountinfo"#),
    // Other processes.
    (
        "reads the environment of what started it",
        Anyone,
        r#"p=$PPID; while [ "$p" -gt 0 ]; do tr '\0' '\n' < /proc/$p/environ 2>/dev/null | grep TOKEN= && exit 0; p=$(awk '{print $4}' /proc/$p/stat); done; exit 1"#,
    ),
    (
        "reads others' command lines",
        Anyone,
        r#"for p in /proc/[0-9]*; do case "$(tr '\0' ' ' < $p/cmdline)" in bystander-of-the-host*) exit 0 ;; esac; done; exit 1"#,
    ),
    (
        "writes to the first process's memory",
        Anyone,
        "[ -w /proc/1/mem ] || [ \"$(readlink /proc/1/ns/pid)\" = \"$GIVEN_NS_PID\" ] || [ -e /proc/1/mem ]",
    ),
    ("finds another process", Anyone, r#"kill -0 "$GIVEN_PID""#),
    ("reads another process's memory map", Anyone, r#"cat "/proc/$GIVEN_PID/maps" | grep -q ."#),
    ("goes through another process's root", Anyone, r#"ls "/proc/$GIVEN_PID/root/""#),
    ("goes through another process's descriptor", Anyone, r#"ls "/proc/$GIVEN_PID/fd/""#),
    // Namespaces.
    ("is in the host's network", Anyone, r#"[ "$(readlink /proc/self/ns/net)" = "$GIVEN_NS_NET" ]"#),
    ("is in the host's pid namespace", Anyone, r#"[ "$(readlink /proc/self/ns/pid)" = "$GIVEN_NS_PID" ]"#),
    ("is in the host's mount namespace", Anyone, r#"[ "$(readlink /proc/self/ns/mnt)" = "$GIVEN_NS_MNT" ]"#),
    ("is in the host's ipc namespace", Anyone, r#"[ "$(readlink /proc/self/ns/ipc)" = "$GIVEN_NS_IPC" ]"#),
    ("is in the host's uts namespace", Anyone, r#"[ "$(readlink /proc/self/ns/uts)" = "$GIVEN_NS_UTS" ]"#),
    (
        "is in the host's cgroup namespace",
        Anyone,
        r#"[ "$(readlink /proc/self/ns/cgroup)" = "$GIVEN_NS_CGROUP" ]"#,
    ),
    ("is in the host's user namespace", Anyone, r#"[ "$(readlink /proc/self/ns/user)" = "$GIVEN_NS_USER" ]"#),
    ("makes a user namespace", Anyone, "unshare --user true"),
    (
        "makes a namespace by clone",
        Anyone,
        "perl -e 'my $p = syscall(56, 0x10000000 | 17, 0, 0, 0, 0); exit($p == -1)'",
    ),
    ("mounts", Root, "unshare --mount sh -c 'mount -t tmpfs none /mnt'"),
    // Network.
    (
        "connects to the host's loopback",
        Anyone,
        r#"perl -MIO::Socket::INET -e 'exit(!IO::Socket::INET->new("127.0.0.1:$ENV{GIVEN_PORT}"))'"#,
    ),
    (
        "connects to a socket of the engine's kind",
        Anyone,
        r#"perl -MIO::Socket::UNIX -e 'exit(!IO::Socket::UNIX->new(Peer => "$ENV{GIVEN_HOST}/docker.sock"))'"#,
    ),
    (
        "connects to an abstract socket",
        Anyone,
        r#"perl -MIO::Socket::UNIX -e 'exit(!IO::Socket::UNIX->new(Peer => "\0$ENV{GIVEN_ABSTRACT}"))'"#,
    ),
    ("has another interface than the loopback", Anyone, "[ $(grep -c : /proc/net/dev) -gt 1 ]"),
    ("asks for a name", Anyone, "grep -q nameserver /etc/resolv.conf"),
    ("opens a vsock", Anyone, "perl -e 'exit(!socket(my $s, 40, 1, 0))'"),
    ("opens a packet socket", Root, "perl -e 'exit(!socket(my $s, 17, 3, 0))'"),
    // Privileges.
    ("may gain privileges", Anyone, "grep -q 'NoNewPrivs:.0' /proc/self/status"),
    ("keeps a bounding set", Anyone, "! grep -q 'CapBnd:.0000000000000000' /proc/self/status"),
    ("has capabilities", Root, "! grep -q 'CapEff:.0000000000000000' /proc/self/status"),
    ("has groups of the host's", Root, "chgrp 4 \"$GIVEN_SCRATCH\""),
    // Limits.
    (
        "writes a huge file",
        Anyone,
        r#"truncate -s 3G "$GIVEN_SCRATCH/huge-$$" && rm "$GIVEN_SCRATCH/huge-$$""#,
    ),
    (
        "has more processes than a test needs",
        Anyone,
        "perl -e 'setpgrp; for (1..1500) { my $p = fork; exit 1 unless defined $p; if (!$p) { sleep 20; exit } } kill KILL => -$$'; [ $? -gt 100 ]",
    ),
    (
        "fills the memory of /dev/shm",
        Anyone,
        "fallocate -l 300M /dev/shm/left-by-a-test && rm /dev/shm/left-by-a-test",
    ),
    ("dumps core", Anyone, "ulimit -c unlimited && [ \"$(ulimit -c)\" = unlimited ]"),
];

/// System calls that a filter refuses: `EPERM` (1) or `ENOSYS` (38), whatever the kernel says else. The arguments are such that nothing happens.
#[cfg(target_arch = "x86_64")]
const CALLS: &[(&str, &str)] = &[
    ("ptrace", "101, 0, 0, 0, 0"),
    ("add_key", "248, 0, 0, 0, 0, -3"),
    ("keyctl", "250, 0, -3, 0, 0, 0"),
    ("process_vm_readv", "310, $$, 0, 0, 0, 0, 0"),
    ("userfaultfd", "323, 1 << 30"),
    ("io_uring_setup", "425, 0, 0"),
    ("setns", "308, -1, 0"),
    ("pidfd_getfd", "438, -1, 0, 0"),
    ("open_by_handle_at", "304, -1, 0, 0"),
    ("name_to_handle_at", "303, -1, 0, 0, 0, 0"),
    ("kcmp", "312, $$, $$, 99, 0, 0"),
    ("bpf", "321, 9999, 0, 0"),
    ("perf_event_open", "298, 0, 0, 0, 0, 1 << 20"),
    ("fsopen", "430, 0, 1 << 20"),
    ("open_tree", "428, -1, 0, 1 << 30"),
    ("clone3", "435, 0, 0"),
];

/// A host with what nobody else may touch, and a process that is none of ours.
struct Host {
    directory: TempDir,
    bystander: Child,
    abstract_name: String,
    port: u16,
    _sockets: (std::net::TcpListener, UnixListener, UnixListener),
}

impl Host {
    /// One whose bystander is of `user`.
    fn new(user: Option<u32>) -> Self {
        let directory = tempfile::Builder::new().prefix("cc-ci-test-").tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["other", "for-all", "recipe", "scratch", "bin"] {
            fs::create_dir(path(name)).unwrap();
        }
        fs::write(path("other/run.json"), "{}").unwrap();
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

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a shell script as `user`.
    fn run(&self, user: Option<u32>, confined: bool, script: &str) -> Output {
        self.call(user, confined, &["/bin/sh", "-c", script]).output().unwrap()
    }

    fn call(&self, user: Option<u32>, confined: bool, program: &[&str]) -> Command {
        self.call_with(user, confined, &[], program)
    }

    fn call_with(&self, user: Option<u32>, confined: bool, more: &[String], program: &[&str]) -> Command {
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

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.bystander.kill());
        drop(self.bystander.wait());
    }
}

/// Whether this kernel lets bubblewrap work for `user`; a skip says why not. Where it does, sandboxes must work, too.
fn can_confine(test: &str, host: &Host, user: Option<u32>) -> bool {
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

fn all_ways(test: &str, user: Option<u32>) {
    let host = Host::new(user);
    if !can_confine(test, &host, user) {
        return;
    }
    let is_root = user.is_none();
    let mut wrong = Vec::new();
    for (way, _, script) in WAYS.iter().filter(|(_, who, _)| is_root || *who == Anyone) {
        let [open, confined] = [false, true].map(|confined| host.run(user, confined, script));
        let printed = |output: &Output| {
            String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
        };
        if !open.status.success() {
            wrong.push(format!("{way}: leads nowhere without a sandbox: {}", printed(&open)));
        }
        if confined.status.success() || confined.status.code() == Some(125) {
            wrong.push(format!("{way}: {} in a sandbox: {}", confined.status, printed(&confined)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_way_out_of_roots_sandbox_is_closed() {
    let test = "every_way_out_of_roots_sandbox_is_closed";
    if require_root(test) {
        all_ways(test, None);
    }
}

#[test]
fn every_way_out_of_an_ordinary_users_sandbox_is_closed() {
    let test = "every_way_out_of_an_ordinary_users_sandbox_is_closed";
    if require_root(test) {
        all_ways(test, Some(65_534));
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn system_calls_that_no_test_needs_are_refused() {
    let test = "system_calls_that_no_test_needs_are_refused";
    let host = Host::new(None);
    if !can_confine(test, &host, None) {
        return;
    }
    let mut wrong = Vec::new();
    for (name, args) in CALLS {
        let script = format!("perl -e 'my $r = syscall({args}); print $r == -1 ? $!+0 : 0'");
        let output = host.run(None, true, &script);
        let errno = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let expected = if *name == "clone3" { "38" } else { "1" };
        if errno != expected {
            wrong.push(format!("{name}: errno {errno}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Ends a process, unless it has ended.
fn kill(pid: i32) {
    let _gone =
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).is_err();
}

/// The processes whose command line has `word` in it.
fn processes(word: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(word))
    })
    .collect()
}

/// Scripts that leave a process `sleep SECONDS` behind, as hidden as can be.
const SURVIVORS: &[(&str, &str)] = &[
    ("in a session of its own, without a mark", "env -i setsid -f sleep SECONDS"),
    ("with another's mark", "CCCI_MARKER=v1/service/nobody.example.org/w/app setsid -f sleep SECONDS"),
    ("twice removed", "(env -i setsid sh -c 'env -i setsid sleep SECONDS & exit' &)"),
    ("that takes no signal", "env -i setsid -f sh -c 'trap \"\" TERM INT HUP; exec sleep SECONDS'"),
    (
        "that stops itself",
        "env -i setsid -f sh -c 'kill -STOP $$; exec sleep SECONDS' & env -i setsid -f sleep SECONDS",
    ),
];

#[test]
fn nobody_survives_the_end_of_a_sandbox() {
    let test = "nobody_survives_the_end_of_a_sandbox";
    if !require_root(test) {
        return;
    }
    let host = Host::new(None);
    for user in [None, Some(65_534)] {
        if !can_confine(test, &host, user) {
            return;
        }
        for (number, (how, script)) in SURVIVORS.iter().enumerate() {
            let seconds = format!("7{}{number:03}", std::process::id());
            let script = script.replace("SECONDS", &seconds);
            let seen = r#"case "$(tr '\0' ' ' < $p/cmdline)" in "sleep SECONDS "*) exit 0 ;; esac"#;
            let seen = seen.replace("SECONDS", &seconds);
            let script =
                format!("{script}\nwhile :; do for p in /proc/[0-9]*; do {seen}; done; done 2>/dev/null");
            assert!(host.run(user, false, &script).status.success(), "{how}");
            let left = processes(&seconds);
            assert!(!left.is_empty(), "{how}: nobody survives without a sandbox either");
            for pid in left {
                kill(pid);
            }
            until("the survivor is gone", || processes(&seconds).is_empty());
            assert!(host.run(user, true, &script).status.success(), "{how}");
            assert_eq!(processes(&seconds).len(), 0, "{how}: it has ended when its leader has");
        }
    }
}

#[test]
fn whoever_is_killed_the_sandbox_dies_whole() {
    let test = "whoever_is_killed_the_sandbox_dies_whole";
    if !require_root(test) {
        return;
    }
    let host = Host::new(None);
    for (number, user) in [None, Some(65_534)].into_iter().enumerate() {
        if !can_confine(test, &host, user) {
            return;
        }
        for victim in ["sandbox-probe", "bwrap"] {
            let seconds = format!("8{}{number:03}", std::process::id());
            let script = format!("env -i setsid -f sleep {seconds}; exec sleep {seconds}");
            let mut probe = host.call(user, true, &["/bin/sh", "-c", &script]);
            let mut probe = probe.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            until("both are there", || processes(&seconds).len() >= 4);
            let pid = if victim == "bwrap" {
                // The thread that starts children is another one than the first.
                let of_thread =
                    |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_default();
                let all: String = fs::read_dir(format!("/proc/{}/task", probe.id()))
                    .unwrap()
                    .flatten()
                    .map(of_thread)
                    .collect();
                all.split_whitespace().next().unwrap().parse().unwrap()
            } else {
                probe.id().cast_signed()
            };
            kill(pid);
            drop(probe.wait());
            until("all of it is gone", || processes(&seconds).is_empty());
        }
    }
}

#[test]
fn what_is_forwarded_is_reached_and_nothing_else() {
    let test = "what_is_forwarded_is_reached_and_nothing_else";
    if !require_root(test) {
        return;
    }
    let host = Host::new(None);
    for user in [None, Some(65_534)] {
        if !can_confine(test, &host, user) {
            return;
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            std::io::copy(&mut &b"reached\n"[..], &mut stream).unwrap();
        });
        let ask = "perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(\"app.example.org:80\")->getline'";
        let more = ["name=app.example.org".to_owned(), format!("forward=127.0.0.2:80>{to}")];
        let output = host.call_with(user, true, &more, &["/bin/sh", "-c", ask]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "reached\n", "{output:?}");
        server.join().unwrap();
    }
}

#[test]
fn the_kernel_sees_a_user_who_is_nobody_else() {
    let test = "the_kernel_sees_a_user_who_is_nobody_else";
    if !require_root(test) {
        return;
    }
    let host = Host::new(None);
    if !can_confine(test, &host, None) {
        return;
    }
    assert!(host.run(None, true, r#"echo mine > "$GIVEN_SCRATCH/mine""#).status.success());
    let owner = host.path("scratch/mine").metadata().unwrap().uid();
    assert!((1_879_048_192..2_013_265_920).contains(&owner), "{owner}");
}
