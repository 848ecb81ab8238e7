//! What belongs to the engine: whether it answers, what it manages, and whose it is.

use std::path::Path;
use std::time::Duration;

use cc_ci_core::blocking;
use cc_ci_core::engine::{Failure, LockSpace};
use cc_ci_core::local::LocalExecutor;
use cc_ci_docker::{EngineInfo, ProxyNetwork, SwarmInfo};

use super::host::disk;
use super::{Check, Patient};
use crate::config::Socket;
use crate::engine::inspect;

/// What the engine may take for one answer.
const LIMIT: Duration = Duration::from_secs(5);

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
    let facts = match inspect(&socket, suffix.as_ref(), LIMIT).await {
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
    match swarm {
        Err(error) => checks.push(failed(Check::of("swarm"), &error)),
        Ok(SwarmInfo { this_node, other_nodes, proxy, claim }) => {
            checks.push(nodes(this_node.as_deref(), &other_nodes));
            checks.push(network(proxy.as_ref()));
            // Without a suffix there is nothing to claim, and that is told already.
            if suffix.is_some() {
                checks.push(lock_space(patient, claim).await);
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

fn nodes(here: Option<&str>, others: &[String]) -> Check {
    let mut check = Check::of("swarm");
    check = match here {
        Some(name) => check.fact(format!("managed from here; this node, {name}, takes tasks")),
        None => check.problem(
            "this node is given no tasks",
            "docker node update --availability active \"$(docker info --format '{{.Swarm.NodeID}}')\"",
        ),
    };
    for id in others {
        check = check.problem(
            format!("the node {id} is given tasks too: what is left there can't be seen from here"),
            format!("docker node update --availability drain {id}"),
        );
    }
    check
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

    #[test]
    fn another_node_that_takes_tasks_is_a_problem_with_its_fix() {
        assert!(nodes(Some("here"), &[]).problems.is_empty());
        let two = nodes(None, &["abc".to_owned()]);
        assert_eq!(two.problems.len(), 2);
        assert!(two.problems[1].fix.ends_with("drain abc"), "{two:?}");
    }
}
