//! What a lock costs beside the same system calls made from C, as ratios, in one run.
//!
//! `cargo bench -p cc-ci-tests --bench lock`. The rounds of both sides alternate, so that a busy host slows both
//! down; medians are compared. The lock directory is on tmpfs where there is one, as `/run/lock` is. It ends with 1
//! when a bound does not hold.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints, and may panic")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cc_ci_core::cancellation::Cancellation;
use cc_ci_core::event::Silent;
use cc_ci_core::lock::{AppLock, FlockLocks, Wait};
use cc_ci_core::names::Domain;
use cc_ci_core::system_info::KernelSystemInfo;
use cc_ci_tests::bench::{median, since_epoch, verdict};
use tempfile::TempDir;

const ROUNDS: usize = 41;
const TAKES: u32 = 5_000;
const FILES: usize = 10_000;
const HAND_OVERS: usize = 1_000;
const TAKE_BOUND: f64 = 1.3;
const SWEEP_BOUND: f64 = 1.5;
const HAND_OVER_BOUND: Duration = Duration::from_millis(5);

fn main() -> ExitCode {
    if let [_, mode, directory] = &std::env::args().collect::<Vec<_>>()[..]
        && mode == "wait-in"
    {
        wait_in(Path::new(directory));
        return ExitCode::SUCCESS;
    }
    let yardstick = Yardstick::compile();
    let holds = [take(&yardstick), sweep(&yardstick), hand_over(&yardstick)];
    if holds.into_iter().all(|holds| holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn take(yardstick: &Yardstick) -> bool {
    let directory = directory();
    let locks = locks(directory.path());
    let domain = domain(0);
    drop(locks.try_acquire(&domain).unwrap().unwrap());
    let path = locks.path(&domain);
    let runtime = runtime();
    let cancellation = Cancellation::new();
    let (mut c, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        c.push(yardstick.run(&["take", path.to_str().unwrap(), &TAKES.to_string()]) / TAKES);
        ours.push(runtime.block_on(async {
            let begun = Instant::now();
            for _ in 0..TAKES {
                drop(locks.acquire(&domain, Wait::Forever, &cancellation, &Silent).await.unwrap());
            }
            begun.elapsed() / TAKES
        }));
    }
    compare("acquire, check, record, release", median(&mut ours), median(&mut c), TAKE_BOUND)
}

fn sweep(yardstick: &Yardstick) -> bool {
    let (mut c, mut ours) = (Vec::new(), Vec::new());
    let domains: Vec<Domain> = (0..FILES).map(domain).collect();
    for _ in 0..ROUNDS / 2 {
        let (theirs, directory) = (directory(), directory());
        for place in [&theirs, &directory] {
            let locks = locks(place.path());
            for domain in &domains {
                // What a dead holder leaves: a file with a record in it.
                File::create(locks.path(domain)).unwrap().write_all(&[b' '; 512]).unwrap();
            }
        }
        c.push(yardstick.run(&["sweep", theirs.path().to_str().unwrap()]));
        let begun = Instant::now();
        let locks = locks(directory.path());
        for domain in locks.domains().unwrap() {
            locks.try_acquire(&domain).unwrap().unwrap().unlink().unwrap();
        }
        ours.push(begun.elapsed());
        for place in [theirs, directory] {
            assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
        }
    }
    compare(&format!("sweep of {FILES} free lock files"), median(&mut ours), median(&mut c), SWEEP_BOUND)
}

fn hand_over(yardstick: &Yardstick) -> bool {
    let (directory, domain) = (directory(), domain(0));
    let locks = locks(directory.path());
    drop(locks.try_acquire(&domain).unwrap().unwrap());
    let mut ours =
        Waiter::start(Command::new(std::env::current_exe().unwrap()).arg("wait-in").arg(directory.path()));
    let mut theirs = Waiter::start(Command::new(&yardstick.program).arg("wait").arg(locks.path(&domain)));
    let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
    for _ in 0..HAND_OVERS {
        their_times.push(theirs.hand_over(&locks, &domain));
        our_times.push(ours.hand_over(&locks, &domain));
    }
    ours.end();
    theirs.end();
    let percentiles = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        (times[HAND_OVERS / 2], times[HAND_OVERS * 99 / 100])
    };
    let ((p50, p99), (c50, c99)) = (percentiles(&mut our_times), percentiles(&mut their_times));
    let holds = p99 <= HAND_OVER_BOUND;
    println!(
        "hand-over to a waiting process: p50 {p50:.1?}, p99 {p99:.1?}, in C p50 {c50:.1?}, p99 {c99:.1?}: \
         p99 ratio {:.2} (bound {HAND_OVER_BOUND:?}) {}",
        p99.as_secs_f64() / c99.as_secs_f64(),
        verdict(holds)
    );
    holds
}

/// A process that waits for the lock once for each line that it gets, and says when it came.
struct Waiter {
    child: Child,
    go: ChildStdin,
    acquired: Lines<BufReader<ChildStdout>>,
}

impl Waiter {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let go = child.stdin.take().unwrap();
        let acquired = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, go, acquired }
    }

    fn hand_over(&mut self, locks: &FlockLocks, domain: &Domain) -> Duration {
        // The one before says when it came before it gives the lock up.
        let guard = loop {
            if let Some(guard) = locks.try_acquire(domain).unwrap() {
                break guard;
            }
        };
        self.go.write_all(b"\n").unwrap();
        while locks.inspect(domain).unwrap().unwrap().waiting == 0 {
            std::thread::yield_now();
        }
        let released = since_epoch();
        drop(guard);
        let acquired = self.acquired.next().unwrap().unwrap().parse().unwrap();
        Duration::from_nanos(acquired).saturating_sub(released)
    }

    fn end(mut self) {
        drop(self.go);
        assert!(self.child.wait().unwrap().success());
    }
}

/// The waiting process: at each line of its input it waits for the lock, says when it came, and gives it up.
fn wait_in(directory: &Path) {
    let locks = locks(directory);
    let (domain, cancellation, runtime) = (domain(0), Cancellation::new(), runtime());
    for line in std::io::stdin().lines() {
        line.unwrap();
        let taken = runtime.block_on(locks.acquire(&domain, Wait::Forever, &cancellation, &Silent));
        let acquired = since_epoch();
        drop(taken.unwrap());
        println!("{}", acquired.as_nanos());
    }
}

/// The C program.
struct Yardstick {
    program: PathBuf,
    _directory: TempDir,
}

impl Yardstick {
    fn compile() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("lock");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/lock.c");
        let status = Command::new("cc").args(["-O2", "-Wall", "-o"]).arg(&program).arg(source).status();
        assert!(status.unwrap().success(), "cc failed");
        Self { program, _directory: directory }
    }

    fn run(&self, arguments: &[&str]) -> Duration {
        let output = Command::new(&self.program).args(arguments).stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "{:?}", output.status);
        Duration::from_nanos(String::from_utf8(output.stdout).unwrap().trim().parse().unwrap())
    }
}

fn compare(what: &str, ours: Duration, c: Duration, bound: f64) -> bool {
    let ratio = ours.as_secs_f64() / c.as_secs_f64();
    let holds = ratio <= bound;
    println!("{what}: {ours:.2?}, in C {c:.2?}: ratio {ratio:.2} (bound {bound}) {}", verdict(holds));
    holds
}

fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn locks(directory: &Path) -> FlockLocks {
    FlockLocks::new(directory, Arc::new(KernelSystemInfo::new().unwrap()))
}

fn domain(number: usize) -> Domain {
    format!("note-{number:06x}.ci.example.org").parse().unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
