//! Taking a node off the books that left the Swarm for good.

use crate::inventory::ci_host::{CiHost, search_failure};
use crate::inventory::debts::Debts;
use crate::lock::Description;
use crate::model::error_chain;
use crate::model::failure::Failure;
use crate::names::Domain;
use crate::sys::blocking;

/// Strikes off what is owed on `node`; gives the domains that owed it a look. Whatever they had there, nobody looks for it
/// any more, so the caller says so.
///
/// # Errors
/// When the engine has such a node still: that is looked at by every pass. When nobody owes it a look, and when somebody
/// owns an app that does: that one owes it still.
pub async fn forget_node(ci_host: &CiHost, node: &str) -> Result<Vec<Domain>, Failure> {
    let seen = ci_host.engine.inventory(Some(&[])).await?;
    if seen.seen().contains(node) || seen.unseen().any(|(name, _)| name == node) {
        return Err(Failure::configuration(format!("{node} is a node of this Swarm: it is not forgotten"))
            .with_hint(format!("bring it back, and the next pass looks there; or, if it is gone for good: docker node rm {node}")));
    }
    let (ci_host, node) = (ci_host.clone(), node.to_owned());
    blocking::run(move || strike_off(&ci_host, &node)).await
}

/// Strikes it off each debt, under the domain's lock. Blocks.
fn strike_off(ci_host: &CiHost, node: &str) -> Result<Vec<Domain>, Failure> {
    let debts = Debts::of(ci_host.runs.runs_dir());
    let read = || debts.read().map_err(|error| search_failure("what is owed on nodes", error));
    let all = read()?;
    let owing: Vec<&Domain> =
        all.iter().filter(|(_, nodes)| nodes.contains_key(node)).map(|(domain, _)| domain).collect();
    if owing.is_empty() {
        let mut names: Vec<&str> = all.values().flat_map(|nodes| nodes.keys().map(String::as_str)).collect();
        names.sort_unstable();
        names.dedup();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        return Err(Failure::configuration(format!("nothing is owed on {node}"))
            .with_hint(format!("the nodes on which something is: {names}")));
    }
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for domain in owing {
        match ci_host.locks.try_acquire(domain) {
            Ok(Some(guard)) => {
                guard.describe(&Description { run_id: None, recipe: None, phase: "janitor".to_owned() });
                // Whoever owned it meanwhile may have paid.
                let Some(mut nodes) = read()?.remove(domain) else { continue };
                nodes.remove(node);
                let written =
                    if nodes.is_empty() { debts.remove(domain) } else { debts.write(domain, nodes) };
                match written {
                    Ok(()) => done.push(domain.clone()),
                    Err(error) => failed.push(format!("{domain}: {error}")),
                }
            }
            Ok(None) => failed.push(format!("{domain} is owned by somebody at work")),
            Err(error) => failed.push(format!("{domain}: {}", error_chain(&error))),
        }
    }
    if failed.is_empty() {
        return Ok(done);
    }
    Err(Failure::host(format!("{node} is not forgotten of all apps: {}", failed.join("; ")))
        .with_hint("repeat it when they have ended"))
}
