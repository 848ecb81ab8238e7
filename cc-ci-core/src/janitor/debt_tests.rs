//! What becomes of an app that may have something on a node that can't be seen.

use std::time::Duration;

use super::conformance::Scene as _;
use super::conformance_tests::Memory;
use super::{Decision, HostJanitor, Janitor as _, Pass, PendingRequests, Reaped, forget_node, reap};
use crate::engine::{Fault, Kind, Resource};
use crate::inventory::debts::Debts;
use crate::lifetime::{Bounds, EmbeddedMode, RunLifetime as _};
use crate::lock::AppGuard;

const LIMIT: Duration = Duration::from_mins(1);

fn owned(scene: &Memory) -> AppGuard {
    scene.ci_host.locks.try_acquire(&scene.run_app(1)).unwrap().unwrap()
}

async fn reaped(scene: &Memory, guard: &AppGuard, pending: PendingRequests) -> Reaped {
    reap(&scene.ci_host, guard, None, pending, LIMIT).await.unwrap()
}

fn unseen(node: &str) -> Resource {
    Resource::new(Kind::UnseenNode, node)
}

/// How many domains owe a look.
fn debts(scene: &Memory) -> usize {
    Debts::of(scene.ci_host.runs.runs_dir()).read().unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn what_may_be_on_a_node_is_owed_until_it_is_seen() {
    let scene = Memory::sound();
    let guard = owned(&scene);
    scene.deploy(guard.domain()).await;
    scene.engine.set_node("worker", false);
    let first = reaped(&scene, &guard, PendingRequests::Done).await;
    assert_eq!((first.removed.len(), first.left), (2, vec![unseen("worker")]));
    assert_eq!(debts(&scene), 1);
    // Whoever looks at the domain later, e.g. a new run of it, is told.
    let later = reaped(&scene, &guard, PendingRequests::Unknown).await;
    assert_eq!(later.left, [unseen("worker")]);
    scene.engine.set_node("worker", true);
    let paid = reaped(&scene, &guard, PendingRequests::Unknown).await;
    assert_eq!((paid.left, paid.removed, debts(&scene)), (Vec::new(), Vec::new(), 0));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_left_for_good_is_owed_a_look_all_the_same() {
    let scene = Memory::sound();
    let guard = owned(&scene);
    scene.deploy(guard.domain()).await;
    scene.engine.set_node("worker", false);
    reaped(&scene, &guard, PendingRequests::Done).await;
    scene.engine.remove_node("worker");
    let later = reaped(&scene, &guard, PendingRequests::Unknown).await;
    assert_eq!((later.left, debts(&scene)), (vec![unseen("worker")], 1));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_be_seen_is_nothing_to_an_app_that_was_never_there() {
    let scene = Memory::sound();
    let guard = owned(&scene);
    scene.engine.set_node("worker", false);
    assert_eq!(reaped(&scene, &guard, PendingRequests::Unknown).await, Reaped::default());
    assert_eq!(debts(&scene), 0);
    // Who has just worked on it can't know where that went.
    let worked = reaped(&scene, &guard, PendingRequests::Done).await;
    assert_eq!((worked.left, debts(&scene)), (vec![unseen("worker")], 1));
}

#[tokio::test(start_paused = true)]
async fn a_janitor_pays_when_the_node_is_back_and_keeps_the_lock_file_until_then() {
    let scene = Memory::sound();
    let domain = scene.run_app(1);
    scene.deploy(&domain).await;
    scene.engine.set_node("worker", false);
    let lifetime =
        EmbeddedMode::new(Bounds::default(), std::sync::Arc::new(crate::model::event::Silent)).unwrap();
    let pass = Pass::by_hand(lifetime.cancellation().clone());
    let janitor = HostJanitor::new(scene.ci_host.clone(), std::sync::Arc::new(lifetime));
    let decisions = async || {
        let report = janitor.pass(&pass).await.unwrap();
        report.findings.iter().map(|finding| (finding.decision, finding.left.clone())).collect::<Vec<_>>()
    };
    // Oftener than what can't be reaped is tried: it is not put into quarantine.
    for _ in 0..5 {
        assert_eq!(decisions().await, [(Decision::Failed, vec![unseen("worker")])]);
        assert_eq!(scene.ci_host.locks.domains().unwrap(), std::slice::from_ref(&domain));
    }
    scene.engine.set_node("worker", true);
    assert_eq!(decisions().await, [(Decision::StaleLock, Vec::new())]);
    assert_eq!(debts(&scene), 0);
    assert!(scene.ci_host.locks.domains().unwrap().is_empty());
}

/// A run app whose debt is on `worker`, which is gone from the Swarm; it is nobody's by now.
async fn owed_by_a_node_that_left(scene: &Memory) -> crate::names::Domain {
    let guard = owned(scene);
    scene.deploy(guard.domain()).await;
    scene.engine.set_node("worker", false);
    reaped(scene, &guard, PendingRequests::Done).await;
    scene.engine.remove_node("worker");
    guard.domain().clone()
}

#[tokio::test(start_paused = true)]
async fn a_node_that_left_for_good_is_taken_off_the_books_by_its_name() {
    let scene = Memory::sound();
    let domain = owed_by_a_node_that_left(&scene).await;
    let error = forget_node(&scene.ci_host, "worker-9").await.unwrap_err();
    assert_eq!((error.fault(), debts(&scene)), (Fault::Configuration, 1), "{error}");
    assert!(error.hint().unwrap().contains("worker"), "{error:?}");
    assert_eq!(forget_node(&scene.ci_host, "worker").await.unwrap(), std::slice::from_ref(&domain));
    assert_eq!(debts(&scene), 0);
    let guard = owned(&scene);
    assert_eq!(reaped(&scene, &guard, PendingRequests::Unknown).await, Reaped::default());
}

#[tokio::test(start_paused = true)]
async fn a_node_of_the_swarm_is_not_forgotten_and_an_app_with_an_owner_owes_it_still() {
    let scene = Memory::sound();
    let domain = owed_by_a_node_that_left(&scene).await;
    for seen in [true, false] {
        scene.engine.set_node("worker", seen);
        let error = forget_node(&scene.ci_host, "worker").await.unwrap_err();
        assert_eq!((error.fault(), debts(&scene)), (Fault::Configuration, 1), "{error}");
    }
    scene.engine.remove_node("worker");
    let guard = scene.ci_host.locks.try_acquire(&domain).unwrap().unwrap();
    let error = forget_node(&scene.ci_host, "worker").await.unwrap_err();
    assert_eq!((error.fault(), debts(&scene)), (Fault::Host, 1), "{error}");
    drop(guard);
    forget_node(&scene.ci_host, "worker").await.unwrap();
    assert_eq!(debts(&scene), 0);
}
