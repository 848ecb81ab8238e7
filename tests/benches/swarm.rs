//! What deploying, awaiting, removing and looking costs on a real Swarm, beside scripts that do the same with the
//! `docker` command, as ratios, in one run.
//!
//! `target/debug/private-engine run -- cargo bench -p cc-ci-tests --bench swarm`. The rounds of both sides alternate;
//! medians are compared. It ends with 1 when a bound does not hold, and needs an engine of its own.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints, and may panic")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cc_ci_core::engine::Engine as _;
use cc_ci_core::event::Silent;
use cc_ci_core::names::{Domain, Stack};
use cc_ci_docker::{Settings, SwarmEngine};
use cc_ci_tests::bench::{median, since_epoch, times_of, verdict};
use cc_ci_tests::engine::{Events, TestEngine};

const ROUNDS: usize = 3;
const SERVICES: usize = 4;
const SUFFIX: &str = "bench.example.org";
const STACKS: usize = 200;
const LOOKS: usize = 11;
const LIMIT: Duration = Duration::from_mins(2);

const WHOLE_BOUND: f64 = 0.6;
const TEARDOWN_BOUND: f64 = 0.25;
const NOTICE_BOUND: Duration = Duration::from_millis(50);
const AUDIT_BOUND: f64 = 1.0;

fn main() -> ExitCode {
    let Some(engine) = TestEngine::shared("the swarm benchmark") else { return ExitCode::FAILURE };
    let mut holds = whole(&engine);
    holds &= audit(&engine);
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Deploy, converge and teardown of one stack; and how soon convergence was noticed.
fn whole(engine: &TestEngine) -> bool {
    let compose = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/stack.yml");
    let swarm = swarm(engine);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut theirs, mut their_ends, mut ours, mut our_ends) = (vec![], vec![], vec![], vec![]);
    let mut noticed = Vec::new();
    for round in 0..ROUNDS {
        let [begun, up, gone] = yardstick(engine, &domain(round * 2).stack(), &compose);
        theirs.push(gone.saturating_sub(begun));
        their_ends.push(gone.saturating_sub(up));

        let domain = domain(round * 2 + 1);
        let label = format!("label=com.docker.stack.namespace={}", domain.stack());
        let events = Events::follow(engine, &[&label, "event=health_status"]);
        let begun = Instant::now();
        deploy(engine, &domain.stack(), &compose);
        runtime.block_on(swarm.wait_converged(&domain, LIMIT, &Silent)).unwrap();
        let seen = since_epoch();
        let up = Instant::now();
        runtime.block_on(swarm.remove(&domain, LIMIT)).unwrap();
        let left = runtime.block_on(swarm.inventory(Some(std::slice::from_ref(&domain)))).unwrap();
        our_ends.push(up.elapsed());
        ours.push(begun.elapsed());
        assert_eq!(left.of(&domain), [], "something is left");
        noticed.push(seen.saturating_sub(last_healthy(&events)));
    }
    let mut holds =
        compare("deploy, converge, tear down", median(&mut ours), median(&mut theirs), WHOLE_BOUND);
    holds &= compare("  teardown alone", median(&mut our_ends), median(&mut their_ends), TEARDOWN_BOUND);
    noticed.sort_unstable();
    let worst = *noticed.last().unwrap();
    println!("  convergence noticed after the engine's event: {noticed:.1?} (bound {NOTICE_BOUND:?}) {}", {
        let holds = worst <= NOTICE_BOUND;
        verdict(holds)
    });
    holds &= worst <= NOTICE_BOUND;
    holds
}

/// The audit of many stacks beside the `docker` commands that list as much.
fn audit(engine: &TestEngine) -> bool {
    let world = engine.world();
    let domains: Vec<Domain> =
        (0..STACKS).map(|number| format!("many-{number:06x}.{}", world.suffix()).parse().unwrap()).collect();
    for domain in &domains {
        objects(engine, &domain.stack());
    }
    let lists = ["service ls", "volume ls", "secret ls", "config ls", "network ls", "ps -a"];
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..LOOKS {
        let begun = Instant::now();
        for list in lists {
            engine.docker(list.split(' '));
        }
        theirs.push(begun.elapsed());
        let begun = Instant::now();
        let ended = world.cc_ci(["audit"]).run();
        ours.push(begun.elapsed());
        assert_eq!(ended.code, 4, "{}", ended.stderr);
        assert_eq!(ended.stdout.lines().filter(|line| line.starts_with("many-")).count(), STACKS);
    }
    let holds = compare(
        &format!("audit of {STACKS} stacks, {} objects", STACKS * 5),
        median(&mut ours),
        median(&mut theirs),
        AUDIT_BOUND,
    );
    let begun = Instant::now();
    world.cc_ci(["janitor"]).run().expect(0);
    println!("  janitor of the same: {:.1?}", begun.elapsed());
    holds
}

/// The five objects of a stack that has no task.
fn objects(engine: &TestEngine, stack: &Stack) {
    let label = format!("com.docker.stack.namespace={stack}");
    let network = format!("{stack}_internal");
    engine.docker(["network", "create", "--driver", "overlay", "--label", &label, &network]);
    engine.docker(["volume", "create", "--label", &label, &format!("{stack}_data")]);
    engine.docker_with(["secret", "create", &format!("{stack}_key_v1"), "-"], "secret");
    engine.docker_with(["config", "create", "--label", &label, &format!("{stack}_notice_v1"), "-"], "notice");
    let service = format!("{stack}_app");
    let app =
        ["--network", &network, "--endpoint-mode", "dnsrr", "--no-resolve-image", "cc-ci-test/busybox:1"];
    let common = ["service", "create", "--detach", "--replicas", "0", "--label", &label, "--name", &service];
    engine.docker([&common[..], &app[..]].concat());
}

/// Runs the script; gives the times that it printed.
fn yardstick(engine: &TestEngine, stack: &Stack, compose: &Path) -> [Duration; 3] {
    let host = engine.host();
    let args = [host.as_ref(), stack.as_str().as_ref(), compose.as_os_str()];
    times_of("stack.sh", &args).try_into().unwrap()
}

/// What the other side of the comparison does by hand; a run has abra for it.
fn deploy(engine: &TestEngine, stack: &Stack, compose: &Path) {
    let docker = |args: &[&str]| {
        let mut command = Command::new("docker");
        command.args(args).env("DOCKER_HOST", engine.host()).env("STACK_NAME", stack.as_str());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"secret").unwrap();
        assert!(child.wait().unwrap().success(), "docker {args:?}");
    };
    docker(&["secret", "create", &format!("{stack}_key_v1"), "-"]);
    let compose = compose.to_str().unwrap();
    docker(&["stack", "deploy", "--resolve-image", "never", "-c", compose, stack.as_str()]);
}

/// When the last of the four services' containers became healthy, by the engine's own stamps.
fn last_healthy(events: &Events) -> Duration {
    let stamp = |_| {
        let event = events.first("a healthy container", |event| event["status"] == "health_status: healthy");
        Duration::from_nanos(event["timeNano"].as_u64().unwrap())
    };
    (0..SERVICES).map(stamp).max().unwrap()
}

fn swarm(engine: &TestEngine) -> SwarmEngine {
    SwarmEngine::new(Settings {
        socket: engine.socket().to_owned(),
        suffix: SUFFIX.parse().unwrap(),
        sources: Vec::new(),
        reporter: Arc::new(Silent),
    })
}

fn compare(what: &str, ours: Duration, theirs: Duration, bound: f64) -> bool {
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    let holds = ratio <= bound;
    println!(
        "{what}: {ours:.2?}, the script {theirs:.2?}: ratio {ratio:.2} (bound {bound}) {}",
        verdict(holds)
    );
    holds
}

fn domain(number: usize) -> Domain {
    format!("note-{number:06x}.{SUFFIX}").parse().unwrap()
}
