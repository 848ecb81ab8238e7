//! What belongs to the engine: whether it answers, what it manages, and whose it is.

use std::path::Path;
use std::time::Duration;

use cc_ci_core::blocking;
use cc_ci_core::engine::{Failure, LockSpace};
use cc_ci_core::local::LocalExecutor;
use cc_ci_docker::{EngineInfo, NodeEngine, NodeInfo, OtherClaim, ProxyNetwork, SwarmInfo};
use jiff::SignedDuration;

use super::host::disk;
use super::{Check, Patient};
use crate::config::Socket;
use crate::engine::inspect;

/// What the engine may take for one answer.
const LIMIT: Duration = Duration::from_secs(5);

/// Clocks that differ by more than an answer may take are wrong.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(10);

/// So many other claims are shown.
const OTHERS_SHOWN: usize = 10;

/// Everything of the engine that is there or should be. Docker's is a matter of facts where it is not used.
pub async fn all(patient: &Patient) -> Vec<Check> {
    let mut checks = docker(patient).await;
    if patient.uses_local() {
        let (root, host) = (patient.base.config.local_root.clone(), patient.base.host.clone());
        let claimed = blocking::run(move || LocalExecutor::new(root, host).claimed()).await;
        checks.push(lock_space(patient, claimed).await);
    }
    checks
}

async fn docker(patient: &Patient) -> Vec<Check> {
    let check = Check::of("engine");
    let needed = patient.needs_docker();
    let socket = match blocking::run(Socket::from_environment).await {
        Ok(socket) => socket.path,
        Err(error) if needed => return vec![check.error(&error)],
        Err(_) => return vec![check.fact("that of DOCKER_HOST is not used")],
    };
    let suffix = patient.base.config.swarm_suffix().ok();
    let config = patient.base.config.clone();
    let (nodes, unusable) = match blocking::run(move || config.nodes()).await {
        Ok(nodes) => (nodes, None),
        Err(error) => (Vec::new(), Some(Check::of("nodes").error(&error))),
    };
    let facts = match inspect(&socket, suffix.as_ref(), nodes, LIMIT).await {
        Ok(facts) => facts,
        Err(error) if needed => return vec![failed(check, &error)],
        Err(_) => {
            return vec![
                check.fact(format!("none that answers at {}, and none is needed", socket.display())),
            ];
        }
    };
    let EngineInfo { version, api_version, data_root, swarm, .. } = facts;
    let used = if needed { "" } else { ", not used" };
    let check = check.fact(format!("Docker {version}, API {api_version}, at {}{used}", socket.display()));
    if !needed {
        return vec![check];
    }
    let mut checks = vec![on_disk(check, &data_root).await];
    checks.extend(unusable);
    match swarm {
        Err(error) => checks.push(failed(Check::of("swarm"), &error)),
        Ok(SwarmInfo { this_node, other_nodes, strange_nodes, proxy, claims }) => {
            checks.push(places(this_node.as_deref(), &other_nodes));
            checks.extend(engines_of(&other_nodes, &strange_nodes));
            checks.push(network(proxy.as_ref()));
            // Without a suffix there is nothing to claim, and that is told already.
            if suffix.is_some() {
                let check = lock_space(patient, claims.ours).await;
                checks.push(beside(check, &claims.others));
            }
        }
    }
    checks
}

/// The room that the engine has, where it can be seen from here.
async fn on_disk(check: Check, root: &Path) -> Check {
    let root = root.to_owned();
    blocking::run(move || {
        let check = check.fact(format!("it keeps everything in {}", root.display()));
        if root.is_dir() { disk(check, &root) } else { check }
    })
    .await
}

fn failed(check: Check, error: &Failure) -> Check {
    let fix = error.hint().unwrap_or("see what it says itself: journalctl -u docker");
    check.problem(cc_ci_core::error_chain(error), fix)
}

fn places(here: Option<&str>, others: &[NodeInfo]) -> Check {
    let mut check = Check::of("swarm");
    check = match here {
        Some(name) => check.fact(format!("managed from here; this node, {name}, takes tasks")),
        None => check.problem(
            "this node is given no tasks",
            "docker node update --availability active \"$(docker info --format '{{.Swarm.NodeID}}')\"",
        ),
    };
    for NodeInfo { name, id, .. } in others.iter().filter(|node| !node.drained && node.engine.is_none()) {
        check = check.problem(
            format!("the node {name} is given tasks, and its engine is not named: run and janitor are refused"),
            format!(
                "name it in the configuration: [nodes.{name:?}] (docs/nodes.md); or give it no tasks: docker node update \
                 --availability drain {id}"
            ),
        );
    }
    check
}

/// The engines of other nodes, where there are any.
fn engines_of(others: &[NodeInfo], strange: &[String]) -> Option<Check> {
    let mut check = Check::of("nodes");
    for NodeInfo { name, drained, engine, .. } in others {
        let state = if *drained { ", drained" } else { "" };
        check = match engine {
            None => check.fact(format!("{name}{state}: nobody said where its engine listens")),
            Some(Err(error)) => {
                let fix = error.hint().unwrap_or("see what it says itself: journalctl -u docker");
                check.problem(cc_ci_core::error_chain(error), fix)
            }
            Some(Ok(NodeEngine { address, version, clock_ahead, data_root })) => {
                let root = data_root.display();
                let check = check.fact(format!(
                    "{name}{state}: Docker {version}, at {address}; it keeps everything in {root}"
                ));
                match skew(*clock_ahead) {
                    Some(skew) => check.problem(
                        format!("the clock of the node {name} is {skew} that of this host"),
                        "set both by the same time: timedatectl set-ntp true",
                    ),
                    None => check,
                }
            }
        };
    }
    for name in strange {
        check = check.problem(
            format!("[nodes.{name}] is no node of this Swarm, or may be one of several"),
            "name it as the Swarm does, by host name or id: docker node ls",
        );
    }
    (!check.facts.is_empty() || !check.problems.is_empty()).then_some(check)
}

/// How a clock is wrong, where it is: the answer that told may have taken a while.
fn skew(ahead: SignedDuration) -> Option<String> {
    let seconds = ahead.as_secs();
    let direction = if seconds < 0 { "behind" } else { "ahead of" };
    let time = humantime::format_duration(Duration::from_secs(seconds.unsigned_abs()));
    (seconds.unsigned_abs() > CLOCK_TOLERANCE.as_secs()).then(|| format!("{time} {direction}"))
}

fn network(proxy: Option<&ProxyNetwork>) -> Check {
    let check = Check::of("network proxy");
    let fix = "docker network create --driver overlay --attachable proxy";
    match proxy {
        None => {
            check.problem("there is no network proxy, which every app's reverse proxy is reached by", fix)
        }
        Some(network) if network.driver == "overlay" && network.scope == "swarm" => {
            let attachable = if network.attachable { "attachable" } else { "not attachable" };
            check.fact(format!("overlay, {attachable}"))
        }
        Some(ProxyNetwork { driver, scope, .. }) => check.problem(
            format!("the network proxy is a {driver} of the scope {scope}, and no overlay of the Swarm"),
            format!("once nothing uses it, make it anew: {fix}"),
        ),
    }
}

async fn lock_space(patient: &Patient, claimed: Result<Option<LockSpace>, Failure>) -> Check {
    let check = Check::of("lock space");
    let held = match claimed {
        Err(error) => return failed(check, &error),
        Ok(None) => return check.fact("nobody's yet: the first run or janitor claims it"),
        Ok(Some(held)) => held,
    };
    // What keeps us from having one is the lock directory's problem.
    let (host, locks) = (patient.base.host.clone(), patient.base.locks.clone());
    let Ok(ours) = blocking::run(move || LockSpace::of(host.as_ref(), locks.as_ref())).await else {
        return check.fact(format!("that of {} on {}", held.path.display(), held.hostname));
    };
    match ours.kept_out_by(&held) {
        Some(whose) => check.problem(
            format!("it belongs to {whose}: run and janitor will change nothing"),
            format!("use its lock directory: CCCI_APP_LOCK_DIR={}", held.path.display()),
        ),
        None if ours.is_same(&held) => check.fact(format!("ours: {}", held.path.display())),
        None => check.fact("ours, of an earlier boot: the first run or janitor takes it over"),
    }
}

/// Who else works on this Swarm.
fn beside(check: Check, others: &[OtherClaim]) -> Check {
    let told = |OtherClaim { suffix, hostname }: &OtherClaim| match hostname {
        Some(hostname) => {
            format!("beside it, {suffix} is that of {hostname}: its apps are not looked at here")
        }
        None => format!("beside it, {suffix} is somebody's: that claim can't be read"),
    };
    let check = others.iter().take(OTHERS_SHOWN).fold(check, |check, other| check.fact(told(other)));
    match others.len().saturating_sub(OTHERS_SHOWN) {
        0 => check,
        more => check.fact(format!("and {more} more")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_overlay_of_the_swarm_serves_as_proxy() {
        let network_of = |driver: &str, scope: &str| {
            network(Some(&ProxyNetwork { driver: driver.into(), scope: scope.into(), attachable: true }))
        };
        assert!(network_of("overlay", "swarm").problems.is_empty());
        for bad in [network(None), network_of("bridge", "local"), network_of("overlay", "local")] {
            assert!(bad.problems[0].fix.contains("docker network create --driver overlay"), "{bad:?}");
        }
    }

    fn node(name: &str, engine: Option<Result<NodeEngine, Failure>>) -> NodeInfo {
        NodeInfo { name: name.to_owned(), id: format!("id-of-{name}"), drained: false, engine }
    }

    #[test]
    fn another_node_that_takes_tasks_and_is_not_named_is_a_problem_with_its_fix() {
        assert!(places(Some("here"), &[]).problems.is_empty());
        let drained = NodeInfo { drained: true, ..node("away", None) };
        assert!(places(Some("here"), &[drained]).problems.is_empty());
        let two = places(None, &[node("there", None)]);
        assert_eq!(two.problems.len(), 2);
        assert!(two.problems[1].fix.ends_with("drain id-of-there"), "{two:?}");
        let named = node("there", Some(Err(Failure::host("no answer"))));
        assert!(places(Some("here"), &[named]).problems.is_empty(), "its engine is told elsewhere");
    }

    #[test]
    fn each_node_is_told_and_what_is_wrong_with_it() {
        assert!(engines_of(&[], &[]).is_none(), "one node has no others");
        let engine = |ahead| NodeEngine {
            address: "tcp://w:2376".to_owned(),
            version: "20.10.24".to_owned(),
            clock_ahead: SignedDuration::from_secs(ahead),
            data_root: "/var/lib/docker".into(),
        };
        let nodes = [
            node("right", Some(Ok(engine(-9)))),
            node("slow", Some(Ok(engine(-3600)))),
            node("gone", Some(Err(Failure::host("no answer").with_hint("start it")))),
            node("unnamed", None),
        ];
        let check = engines_of(&nodes, &["old".to_owned()]).unwrap();
        let problems: Vec<_> = check.problems.iter().map(|problem| problem.problem.as_str()).collect();
        assert_eq!(
            problems,
            [
                "the clock of the node slow is 1h behind that of this host",
                "no answer",
                "[nodes.old] is no node of this Swarm, or may be one of several"
            ]
        );
        assert_eq!(check.facts.len(), 3, "{check:?}");
        assert!(check.facts[0].contains("tcp://w:2376"), "{check:?}");
    }
}
