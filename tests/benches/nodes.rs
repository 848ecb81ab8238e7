//! What looking at an app and removing it costs on one, two and three nodes, with and without a way to the workers' engines
//! that takes its time; as times, and as the exponent of their growth from the row before: 0 is as fast, 1 is linear in the nodes.
//!
//! `target/debug/private-engine run --nodes 3 -- cargo bench -p cc-ci-tests --bench nodes`. The cases alternate; medians are told.
//! It ends with 1 when a look at one more node far away costs more than the bound allows; the rest is told without one, as it is the work of
//! the engines, which share this machine.
#![expect(clippy::expect_used, clippy::print_stdout, reason = "a benchmark prints, and may panic")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cc_ci_core::engine::Engine as _;
use cc_ci_core::event::Silent;
use cc_ci_core::names::{Domain, Suffix};
use cc_ci_docker::{Address, NodeAddress, Settings, SwarmEngine};
use cc_ci_tests::SocketTap;
use cc_ci_tests::bench::{median, verdict};
use cc_ci_tests::engine::{BUSYBOX, Nodes, until};
use tempfile::TempDir;

const SUFFIX: &str = "bench.example.org";
const LATENCIES: [Duration; 2] = [Duration::ZERO, Duration::from_millis(50)];
const ROUNDS: usize = 5;
const LOOKS: usize = 11;
const LIMIT: Duration = Duration::from_mins(2);

/// Nodes are asked side by side: what grows with them is only what this machine itself does more.
const BOUND: f64 = 0.5;

/// What was measured on so many nodes.
#[derive(Debug, Default, Clone)]
struct Times {
    looks: Vec<Duration>,
    removals: Vec<Duration>,
}

fn main() -> ExitCode {
    let Some(nodes) = Nodes::shared("the benchmark of nodes") else { return ExitCode::FAILURE };
    let (all, sockets) = (nodes.all().len(), TempDir::new().expect("a directory"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut times = vec![vec![Times::default(); all]; LATENCIES.len()];
    let taps: Vec<Vec<SocketTap>> = LATENCIES
        .iter()
        .enumerate()
        .map(|(at, latency)| {
            let workers = nodes.all().iter().skip(1);
            let tap = workers.map(|node| {
                let socket = sockets.path().join(format!("{}-{at}.sock", node.name()));
                SocketTap::to_afar(node.socket(), socket, *latency)
            });
            tap.collect()
        })
        .collect();
    for round in 0..ROUNDS {
        for count in 1..=all {
            for (number, node) in nodes.all().iter().enumerate() {
                let availability = if number < count { "active" } else { "drain" };
                nodes.manager().docker(["node", "update", "--availability", availability, node.name()]);
            }
            for (at, taps) in taps.iter().enumerate() {
                let named = nodes.all().iter().zip(1..count).map(|(_, worker)| NodeAddress {
                    name: nodes.worker(worker).name().to_owned(),
                    address: Address::Unix(taps[worker - 1].socket().to_owned()),
                });
                let swarm = swarm(&nodes, named.collect());
                let hex = round * 100 + count * 10 + at;
                let domain: Domain = format!("a-{hex:06}.{SUFFIX}").parse().expect("a domain");
                deploy(&nodes, &domain, count);
                let times = &mut times[at][count - 1];
                // The first one asks more.
                runtime.block_on(swarm.inventory(None)).expect("a look");
                for _ in 0..LOOKS {
                    let begun = Instant::now();
                    let found = runtime.block_on(swarm.inventory(None)).expect("a look");
                    times.looks.push(begun.elapsed());
                    assert_eq!(found.seen().iter().count().max(1), count, "each node is seen");
                }
                let begun = Instant::now();
                runtime.block_on(swarm.remove(&domain, LIMIT)).expect("a removal");
                times.removals.push(begun.elapsed());
            }
        }
    }
    println!("latency  nodes  a look     growth  a removal  growth");
    let mut holds = true;
    for (latency, mut times) in LATENCIES.into_iter().zip(times) {
        let medians: Vec<[Duration; 2]> =
            times.iter_mut().map(|of| [median(&mut of.looks), median(&mut of.removals)]).collect();
        // Of one node alone, nobody is far away.
        let first = usize::from(latency > Duration::ZERO);
        for (at, [look, removal]) in medians.iter().enumerate().skip(first) {
            let growth =
                |which: usize| (at > first).then(|| growth(medians[at - 1][which], medians[at][which], at));
            let [of_look, of_removal] = [growth(0), growth(1)];
            let bounded = latency.is_zero() || of_look.is_none_or(|growth| growth <= BOUND);
            holds &= bounded;
            let shown = |growth: Option<f64>| growth.map(|growth| format!("{growth:.2}")).unwrap_or_default();
            println!(
                "{:>4} ms  {:>5}  {:>6.1} ms  {:>6}  {:>6.0} ms  {:>6}  {}",
                latency.as_millis(),
                at + 1,
                look.as_secs_f64() * 1e3,
                shown(of_look),
                removal.as_secs_f64() * 1e3,
                shown(of_removal),
                verdict(bounded)
            );
        }
    }
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The exponent with which a time grew from so many `nodes` to one more.
fn growth(before: Duration, now: Duration, nodes: usize) -> f64 {
    let nodes = f64::from(u32::try_from(nodes).expect("a few"));
    (now.as_secs_f64() / before.as_secs_f64()).ln() / ((nodes + 1.0) / nodes).ln()
}

fn swarm(nodes: &Nodes, named: Vec<NodeAddress>) -> SwarmEngine {
    let suffix: Suffix = SUFFIX.parse().expect("a suffix");
    let socket = nodes.manager().socket().to_owned();
    SwarmEngine::new(Settings { socket, suffix, sources: Vec::new(), reporter: Arc::new(Silent) })
        .with_nodes(named)
}

/// A task with a volume on each node that is given tasks.
fn deploy(nodes: &Nodes, domain: &Domain, count: usize) {
    let stack = domain.stack().to_string();
    let compose = format!(
        "version: '3.8'\nservices:\n  app:\n    image: {BUSYBOX}\n    command: [sleep, '1000000']\n    init: true\n    \
         volumes: ['data:/data']\n    networks: [internal]\n    deploy: {{mode: global, endpoint_mode: dnsrr}}\n\
         volumes: {{data: }}\nnetworks: {{internal: }}\n"
    );
    nodes.manager().deploy(&stack, &compose);
    until("it runs on each", || nodes.manager().running(&format!("{stack}_app")) == count);
}
