//! Whole commands beside the primitives that they stand on, as ratios, in one paired run: a table, or `--json`.
//!
//! ```sh
//! cargo build --release && cargo bench -p cc-ci-tests --bench commands [-- --json]
//! ```
//!
//! Rounds of both sides alternate, so that a busy host slows both down; medians are compared. Beside the times stand counts
//! that no load changes: how often all of `/proc` and all records were read and, where strace is installed, the system
//! calls. The last column is the exponent of the growth from the row before: 1 is linear. It needs flock(1), a C compiler
//! and, for one more peer, Python 3.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints, and may panic")]

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

const FILES: [usize; 5] = [1, 10, 100, 1_000, 10_000];
const WAITERS: [usize; 4] = [1, 10, 100, 500];
const ORPHANS: [usize; 4] = [1, 10, 100, 200];
const AT_ONCE: [usize; 4] = [1, 4, 16, 64];
const PROCESSES: [usize; 4] = [1, 100, 1_000, 15_000];
const ROUNDS: usize = 5;
const DOMAIN: &str = "own-000001.cc-ci.localhost";

/// The loop of a janitor in Python: its standard library has all that it needs.
const PYTHON: &str = "
import fcntl, os, sys
for name in os.listdir(sys.argv[1]):
    path = os.path.join(sys.argv[1], name)
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if os.path.samestat(os.fstat(fd), os.stat(path)):
        os.unlink(path)
    os.close(fd)
";

fn main() {
    let bench = Bench::new();
    let mut rows = vec![bench.with_lock()];
    rows.extend(WAITERS.map(|waiters| bench.drain(waiters)));
    rows.extend(AT_ONCE.map(|commands| bench.at_once(commands)));
    rows.extend(PROCESSES.map(|processes| bench.beside(processes)));
    rows.extend(FILES.map(|files| bench.sweep(files)));
    rows.extend(ORPHANS.map(|orphans| bench.reap(orphans)));
    for at in 1..rows.len() {
        let exponent = growth(&rows[at - 1], &rows[at]);
        rows[at]["exponent"] = exponent;
    }
    if std::env::args().any(|word| word == "--json") {
        println!("{:#}", json!({ "schema": "cc-ci.bench/v1", "rows": rows }));
        return;
    }
    println!("{:42} {:>7} {:>10} {:>22} {:>6}  counts", "what", "n", "cc-ci", "peers", "growth");
    for row in &rows {
        let peers = row["peers"].as_object().unwrap().iter();
        let peers: Vec<String> =
            peers.map(|(peer, ratio)| format!("{:.2} x {peer}", ratio["ratio"].as_f64().unwrap())).collect();
        let exponent = row["exponent"].as_f64().map_or(String::new(), |exponent| format!("{exponent:.2}"));
        println!(
            "{:42} {:>7} {:>8.2}ms {:>22} {exponent:>6}  {}",
            row["what"].as_str().unwrap(),
            row["n"],
            row["ms"].as_f64().unwrap(),
            peers.join(", "),
            row["counts"]
        );
    }
}

/// The exponent of the growth between two rows of one kind.
fn growth(before: &Value, row: &Value) -> Value {
    if before["what"] != row["what"] {
        return Value::Null;
    }
    let ratio = |key: &str| row[key].as_f64().unwrap() / before[key].as_f64().unwrap();
    json!(ratio("ms").ln() / ratio("n").ln())
}

struct Bench {
    directory: TempDir,
    cc_ci: PathBuf,
    sweep: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        for name in ["locks", "runs", "local"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let cc_ci = std::env::var_os("CCCI_BENCH_COMMAND").map_or_else(
            || std::env::current_exe().unwrap().parent().unwrap().with_file_name("cc-ci"),
            PathBuf::from,
        );
        assert!(cc_ci.exists(), "{} is missing: cargo build --release", cc_ci.display());
        let sweep = directory.path().join("lock");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/lock.c");
        assert!(Command::new("cc").args(["-O2", "-o"]).arg(&sweep).arg(source).status().unwrap().success());
        Self { directory, cc_ci, sweep }
    }

    fn locks(&self) -> PathBuf {
        self.directory.path().join("locks")
    }

    fn set_up<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let at = |name| self.directory.path().join(name);
        let command = command.env("CCCI_APP_LOCK_DIR", at("locks")).env("CCCI_RUNS_DIR", at("runs"));
        command.env("CCCI_LOCAL_ROOT", at("local")).env("CCCI_EXECUTOR", "local")
    }

    fn cc_ci(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.cc_ci);
        self.set_up(&mut command).args(words);
        command
    }

    fn flock(&self, words: &[&str]) -> Command {
        let mut command = Command::new("flock");
        command.arg(self.locks().join(format!("cc-ci-app-{DOMAIN}.lock"))).args(words);
        command
    }

    /// What `command` says of itself, and its system calls where strace is there to count them.
    fn counts(&self, command: &Command, prepare: impl Fn()) -> Value {
        let with = |program: &Path, words: &[&str]| {
            prepare();
            let mut call = Command::new(program);
            self.set_up(&mut call).args(words);
            if program != self.cc_ci {
                call.arg(command.get_program());
            }
            call.args(command.get_args()).env("CCCI_LOG", "cc_ci_core=debug").output()
        };
        let message = String::from_utf8(with(&self.cc_ci, &[]).unwrap().stderr).unwrap();
        let lines = |what| message.lines().filter(|line| line.contains(what)).count();
        let (scans, records) =
            (lines("all of /proc is searched for marks"), lines("the records of all runs are read"));
        let file = self.directory.path().join("strace");
        let traced = with(Path::new("strace"), &["-f", "-c", "-o", file.to_str().unwrap()]);
        let calls = traced.ok().and_then(|_| total(&fs::read_to_string(&file).ok()?));
        json!({ "scans_of_proc": scans, "readings_of_records": records, "system_calls": calls })
    }

    fn with_lock(&self) -> Value {
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        for _ in 0..ROUNDS * 4 {
            ours.push(time(&mut self.cc_ci(&["with-lock", DOMAIN, "--", "true"])));
            theirs.push(time(&mut self.flock(&["true"])));
        }
        let counts = self.counts(&self.cc_ci(&["with-lock", DOMAIN, "--", "true"]), || ());
        row("a command under a free lock", 1, &mut ours, [("flock(1)", &mut theirs)], &counts)
    }

    /// Commands under locks of their own, begun at once, until the last has ended.
    fn at_once(&self, commands: usize) -> Value {
        let domains: Vec<String> =
            (0..commands).map(|number| format!("many-{number:06x}.cc-ci.localhost")).collect();
        let ended = |command: &dyn Fn(&str) -> Command| {
            let begun = Instant::now();
            let mut children: Vec<_> =
                domains.iter().map(|domain| command(domain).stderr(Stdio::null()).spawn().unwrap()).collect();
            assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
            begun.elapsed()
        };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(ended(&|domain| self.cc_ci(&["with-lock", domain, "--", "true"])));
            theirs.push(ended(&|domain| {
                let mut command = Command::new("flock");
                command.arg(self.locks().join(format!("cc-ci-app-{domain}.lock"))).arg("true");
                command
            }));
        }
        row(
            "commands under locks of their own, at once",
            commands,
            &mut ours,
            [("flock(1)", &mut theirs)],
            &json!({}),
        )
    }

    /// A command under a free lock, on a host with so many more processes.
    fn beside(&self, processes: usize) -> Value {
        let mut crowd = Command::new(&self.sweep);
        crowd.arg("crowd").arg(processes.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut crowd = crowd.spawn().unwrap();
        crowd.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
        let mut row = self.with_lock();
        crowd.wait().unwrap();
        row["what"] = "the same beside so many other processes".into();
        row["n"] = processes.into();
        row
    }

    /// How long it takes until all who wait have had the lock.
    fn drain(&self, waiters: usize) -> Value {
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        for _ in 0..ROUNDS.min(1 + 500 / waiters) {
            ours.push(self.drained(waiters, || self.cc_ci(&["with-lock", DOMAIN, "--", "true"])));
            theirs.push(self.drained(waiters, || self.flock(&["true"])));
        }
        row("waiters for one lock, served", waiters, &mut ours, [("flock(1)", &mut theirs)], &json!({}))
    }

    fn drained(&self, waiters: usize, command: impl Fn() -> Command) -> Duration {
        let path = self.locks().join(format!("cc-ci-app-{DOMAIN}.lock"));
        let held = fs::File::options().create(true).truncate(false).write(true).open(path).unwrap();
        held.lock().unwrap();
        let quiet = |mut command: Command| command.stderr(Stdio::null()).spawn().unwrap();
        let mut children: Vec<_> = (0..waiters).map(|_| quiet(command())).collect();
        let inode = std::os::unix::fs::MetadataExt::ino(&held.metadata().unwrap());
        let waits = format!(":{inode} 0 EOF");
        let all_wait = || {
            let locks = fs::read_to_string("/proc/locks").unwrap();
            locks.lines().filter(|line| line.contains("->") && line.ends_with(&waits)).count() >= waiters
        };
        while !all_wait() {
            std::thread::yield_now();
        }
        let begun = Instant::now();
        drop(held);
        for child in &mut children {
            assert!(child.wait().unwrap().success());
        }
        begun.elapsed()
    }

    fn fill(&self, files: usize) {
        for number in 0..files {
            let name = format!("cc-ci-app-a-{number:06x}.cc-ci.localhost.lock");
            fs::write(self.locks().join(name), [b' '; 512]).unwrap();
        }
    }

    fn sweep(&self, files: usize) -> Value {
        let (mut ours, mut c, mut python) = (Vec::new(), Vec::new(), Vec::new());
        let locks = self.locks();
        fs::remove_file(locks.join(format!("cc-ci-app-{DOMAIN}.lock"))).ok();
        for _ in 0..ROUNDS {
            self.fill(files);
            ours.push(time(&mut self.cc_ci(&["janitor"])));
            assert_eq!(fs::read_dir(&locks).unwrap().count(), 0);
            self.fill(files);
            c.push(time(Command::new(&self.sweep).arg("sweep").arg(&locks)));
            self.fill(files);
            python.push(time(Command::new("python3").args(["-c", PYTHON]).arg(&locks)));
        }
        let counts = self.counts(&self.cc_ci(&["janitor"]), || self.fill(files));
        let peers = [("C", &mut c), ("Python", &mut python)];
        row("a janitor's pass over free lock files", files, &mut ours, peers, &counts)
    }
}

impl Bench {
    /// A janitor's pass over apps of which an `.env` file is left.
    fn reap(&self, orphans: usize) -> Value {
        let servers = self.directory.path().join("local/servers/local");
        fs::create_dir_all(&servers).unwrap();
        let leave = || {
            for number in 0..orphans {
                fs::write(servers.join(format!("dead-{number:06x}.cc-ci.localhost.env")), "TYPE=x\n")
                    .unwrap();
            }
        };
        let mut ours = Vec::new();
        for _ in 0..ROUNDS {
            leave();
            ours.push(time(&mut self.cc_ci(&["janitor"])));
            assert_eq!(fs::read_dir(&servers).unwrap().count(), 0);
        }
        let counts = self.counts(&self.cc_ci(&["janitor"]), leave);
        row("a janitor's pass over orphans", orphans, &mut ours, [], &counts)
    }
}

/// The system calls in a summary of strace.
fn total(summary: &str) -> Option<u64> {
    let line = summary.lines().find(|line| line.ends_with(" total"))?;
    // Share, seconds, microseconds a call, calls.
    line.split_ascii_whitespace().nth(3)?.parse().ok()
}

fn row<const N: usize>(
    what: &str,
    n: usize,
    ours: &mut [Duration],
    peers: [(&str, &mut Vec<Duration>); N],
    counts: &Value,
) -> Value {
    let ours = milliseconds(ours);
    let peers: serde_json::Map<String, Value> = peers
        .into_iter()
        .map(|(peer, times)| {
            let theirs = milliseconds(times);
            (peer.to_owned(), json!({ "ms": theirs, "ratio": ours / theirs }))
        })
        .collect();
    json!({ "what": what, "n": n, "ms": ours, "peers": peers, "counts": counts, "exponent": null })
}

/// The median.
fn milliseconds(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

fn time(command: &mut Command) -> Duration {
    let begun = Instant::now();
    let ended = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(ended.success(), "{command:?}: {ended}");
    begun.elapsed()
}
