//! Ways out of a sandbox: each is first seen to lead out where there is none.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Output, Stdio};

use cc_ci_tests::{require_root, until};

use crate::sandbox_host::{Host, ORDINARY, can_confine, for_each_user};

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
    (
        "makes a file without a name on the host's disk",
        Anyone,
        // O_TMPFILE and O_RDWR.
        r#"perl -e 'exit(!sysopen(my $f, "$ENV{GIVEN_HOST}/for-all", 0x410002, 0600))'"#,
    ),
    (
        "reads memory that processes of the host share",
        Anyone,
        r#"grep -q shared "/dev/shm/$(basename "$GIVEN_HOST")""#,
    ),
    ("reads the kernel's messages", Root, "dd if=/dev/kmsg of=/dev/null bs=8k count=1 iflag=nonblock"),
    ("may change control groups", Root, r#"[ -w "$(find /sys/fs/cgroup -name cgroup.procs | head -n 1)" ]"#),
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
    ("reaches the first process's memory", Anyone, "[ -e /proc/1/mem ]"),
    ("finds another process", Anyone, r#"kill -0 "$GIVEN_PID""#),
    ("reads another process's memory map", Anyone, r#"cat "/proc/$GIVEN_PID/maps" | grep -q ."#),
    ("goes through another process's root", Anyone, r#"ls "/proc/$GIVEN_PID/root/""#),
    ("goes through another process's descriptor", Anyone, r#"ls "/proc/$GIVEN_PID/fd/""#),
    ("reads the descriptors of what started it", Anyone, r#"ls "/proc/$PPID/fd/" | grep -q ."#),
    (
        "opens another process's memory",
        Root,
        r#"perl -e 'exit(!open(my $f, "+<", "/proc/$ENV{GIVEN_PID}/mem"))'"#,
    ),
    (
        "takes a descriptor of another process",
        Root,
        r"perl -e 'my $p = syscall(434, $ENV{GIVEN_PID} + 0, 0); exit(syscall(438, $p, 0, 0) < 0)'",
    ),
    ("enters another process's namespace", Root, r#"nsenter --target "$GIVEN_PID" --uts true"#),
    // But for the first process and itself there is nobody.
    ("signals everybody", Anyone, "exec perl -e 'exit(!kill(0, -1))'"),
    ("asks for another process's limits", Anyone, r#"prlimit --pid "$GIVEN_PID" --nofile"#),
    ("slows another process down", Anyone, r#"renice -n 19 -p "$GIVEN_PID""#),
    (
        "types on a terminal",
        Root,
        r#"perl -e 'open(my $t, "+<", "/dev/ptmx"); my $x = "x"; exit(!ioctl($t, 0x5412, $x))'"#,
    ),
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
    (
        "makes a user namespace by clone3",
        Anyone,
        r#"perl -e 'my $args = pack("Q8", 0x10000000, 0, 0, 0, 17, 0, 0, 0); exit(syscall(435, $args, 64) == -1)'"#,
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
    (
        "fills the disk with small files",
        Anyone,
        // In a sandbox it is ended while it waits.
        r#"d=$GIVEN_SCRATCH/many-$$; mkdir "$d"; perl -e 'chdir shift; for (1..101000) { open(my $f, ">", $_) or exit 1 }' "$d" && if [ -e "$GIVEN_HOST/other" ]; then rm -r "$d"; else sleep 50; fi"#,
    ),
    (
        "fills the memory with empty files",
        Anyone,
        r#"d=$(mktemp -d /dev/shm/cc-ci-test-XXXXXX); perl -e 'chdir shift; for (1..101000) { open(my $f, ">", $_) or exit 1 }' "$d" && if [ -e "$GIVEN_HOST/other" ]; then rm -r "$d"; else sleep 50; fi"#,
    ),
    ("runs before everybody else", Root, "chrt --fifo 1 true"),
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
    ("memfd_secret", "447, 1 << 20"),
    ("process_madvise", "440, -1, 0, 0, 0, 0"),
    ("mount_setattr", "442, -1, 0, 0, 0, 0"),
    // The number under which x32 has it.
    ("ptrace", "0x40000000 + 101, 0, 0, 0, 0"),
];

#[test]
fn every_way_out_of_a_sandbox_is_closed() {
    for_each_user("every_way_out_of_a_sandbox_is_closed", |host, user| {
        let mut wrong = Vec::new();
        for (way, _, script) in WAYS.iter().filter(|(_, who, _)| user.is_none() || *who == Anyone) {
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
    });
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
pub fn kill(pid: i32) {
    let _gone =
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).is_err();
}

/// The processes whose command line has `word` in it.
pub fn processes(word: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(word))
    })
    .collect()
}

/// How many of those sleep already: a shell has the words of its script in its command line, too.
pub fn sleepers(seconds: &str) -> usize {
    let is_asleep = |pid: &i32| fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == b"sleep\n");
    processes(seconds).iter().filter(|pid| is_asleep(pid)).count()
}

/// Whether a process is there and no zombie.
fn is_running(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

/// The child of a process, whichever of its threads started it.
fn child_of(pid: i32) -> i32 {
    let of_thread = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_default();
    let all: String = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().map(of_thread).collect();
    all.split_whitespace().next().unwrap().parse().unwrap()
}

/// Scripts that leave a process `sleep SECONDS` behind, as hidden as can be.
const SURVIVORS: &[(&str, &str)] = &[
    ("in a session of its own, without a mark", "env -i setsid -f sleep SECONDS"),
    ("with another's mark", "CCCI_MARKER=v1/service/nobody.example.org/w/app setsid -f sleep SECONDS"),
    ("twice removed", "(env -i setsid sh -c 'env -i setsid sleep SECONDS & exit' &)"),
    (
        "that is its leader's brother",
        // CLONE_PARENT.
        "perl -e 'use POSIX; my $p = syscall(56, 0x8000 | 17, 0, 0, 0, 0); if (!$p) { setsid; %ENV = (); exec \"sleep\", \"SECONDS\" }'",
    ),
    ("that takes no signal", "env -i setsid -f sh -c 'trap \"\" TERM INT HUP; exec sleep SECONDS'"),
    (
        "that stops itself",
        "env -i setsid -f sh -c 'kill -STOP $$; exec sleep SECONDS' & env -i setsid -f sleep SECONDS",
    ),
];

#[test]
fn nobody_survives_the_end_of_a_sandbox() {
    for_each_user("nobody_survives_the_end_of_a_sandbox", |host, user| {
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
    });
}

#[test]
fn whoever_is_killed_the_sandbox_dies_whole() {
    for_each_user("whoever_is_killed_the_sandbox_dies_whole", |host, user| {
        let seconds = format!("8{}", std::process::id());
        let script = format!("env -i setsid -f sleep {seconds}; exec sleep {seconds}");
        for victim in ["sandbox-probe", "bwrap"] {
            let mut probe = host.call(user, true, &["/bin/sh", "-c", &script]);
            let mut probe = probe.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            until("both sleep", || sleepers(&seconds) == 2);
            let pid = probe.id().cast_signed();
            kill(if victim == "bwrap" { child_of(pid) } else { pid });
            drop(probe.wait());
            until("all of it is gone", || processes(&seconds).is_empty());
        }
    });
}

/// A bubblewrap that loses cc-ci while it makes the sandbox: whoever started it is dead by the time that its program could begin.
#[test]
fn a_program_does_not_begin_where_nobody_waits_for_it() {
    let test = "a_program_does_not_begin_where_nobody_waits_for_it";
    let host = Host::new(Some(ORDINARY));
    if !require_root(test) || !can_confine(test, &host, Some(ORDINARY)) {
        return;
    }
    let (late, orphan) = (host.path("late"), host.path("scratch/orphan"));
    // The first call is the look whether a sandbox can be made. The second leaves what started it, and tells nobody of its sandbox:
    // as one does that had told already.
    let script = format!(
        r"#!/usr/bin/perl
use POSIX;
chdir '{}' or die;
if (!-e 'looked') {{ open(my $looked, '>', 'looked'); exec '/usr/bin/bwrap', @ARGV }}
if (fork) {{ sleep 1000; exit }}
setsid();
open(my $nowhere, '>', '/dev/null');
for (0..$#ARGV) {{ dup2(fileno $nowhere, $ARGV[$_ + 1]) if $ARGV[$_] eq '--json-status-fd' }}
open(my $pid, '>', '.pid'); print $pid $$; close $pid; rename '.pid', 'pid';
open(my $go, '<', 'go'); <$go>;
exec '/usr/bin/bwrap', @ARGV;
",
        host.path("scratch").display()
    );
    fs::create_dir(&late).unwrap();
    fs::write(late.join("bwrap"), script).unwrap();
    fs::set_permissions(late.join("bwrap"), fs::Permissions::from_mode(0o755)).unwrap();
    let go = host.path("scratch/go");
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    fs::set_permissions(&go, fs::Permissions::from_mode(0o666)).unwrap();
    for waits in [true, false] {
        drop((fs::remove_file(host.path("scratch/looked")), fs::remove_file(host.path("scratch/pid"))));
        let mut probe =
            host.call(Some(ORDINARY), true, &["/bin/sh", "-c", &format!(": > {}", orphan.display())]);
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", late.display());
        let mut probe = probe.env("PATH", path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("bubblewrap is about to be executed", || host.path("scratch/pid").exists());
        let pid: i32 = fs::read_to_string(host.path("scratch/pid")).unwrap().trim().parse().unwrap();
        if !waits {
            kill(probe.id().cast_signed());
            drop(probe.wait());
        }
        fs::write(&go, "go\n").unwrap();
        until("bubblewrap has ended", || !is_running(pid));
        assert_eq!(orphan.exists(), waits, "whether it began");
        kill(probe.id().cast_signed());
        drop((probe.wait(), fs::remove_file(&orphan)));
    }
}

/// Each descriptor that bubblewrap was given would be one to the host.
#[test]
fn a_confined_program_has_its_three_streams_open_and_nothing_else() {
    for_each_user("a_confined_program_has_its_three_streams_open_and_nothing_else", |host, user| {
        // The last one is that of the listing.
        let listed = host.run(user, true, "ls -l /proc/self/fd");
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let open: Vec<&str> = listed.lines().filter_map(|line| line.split(" -> ").nth(1)).collect();
        assert_eq!(open.len(), 4, "{listed}");
        assert!(
            open[0] == "/dev/null" && open[1..3].iter().all(|stream| stream.starts_with("pipe:")),
            "{listed}"
        );
    });
}

#[test]
fn what_is_forwarded_is_reached_and_nothing_else() {
    for_each_user("what_is_forwarded_is_reached_and_nothing_else", |host, user| {
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
    });
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
