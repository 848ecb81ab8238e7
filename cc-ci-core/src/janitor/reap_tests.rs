//! How often a reap looks, and when.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::conformance::Scene as _;
use super::conformance_tests::{LAG, Memory};
use super::{Decision, Pass, PendingRequests, Reaped, reap};
use crate::engine::{Engine as _, Kind, Resource};
use crate::inventory::ci_host::CiHost;
use crate::lock::AppGuard;
use crate::model::cancellation::Cancellation;
use crate::names::Domain;
use crate::sys::process::ProcessIdentity;

const LIMIT: Duration = Duration::from_mins(1);

fn owned(scene: &Memory) -> AppGuard {
    scene.ci_host.locks.try_acquire(&scene.run_app(1)).unwrap().unwrap()
}

async fn reaped(ci_host: &CiHost, guard: &AppGuard, pending: PendingRequests) -> Reaped {
    reap(ci_host, guard, None, pending, LIMIT).await.unwrap()
}

/// A CI host whose engine has carried out whatever it was told when it answers.
fn without_lag(scene: &Memory) -> CiHost {
    let engine = scene.engine.with_request_lag(Duration::ZERO);
    CiHost { engine: Arc::new(engine), ..scene.ci_host.clone() }
}

/// A run that was killed: its directory, with a tree.
fn dead_tree(scene: &Memory, domain: &Domain) -> std::path::PathBuf {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let owner = ProcessIdentity::of(child.id().cast_signed(), scene.ci_host.host.boot_id()).unwrap();
    child.wait().unwrap();
    let run = scene.ci_host.runs.runs_dir().join("dead");
    fs::create_dir_all(run.join("tmp")).unwrap();
    let record = serde_json::json!({ "owner": owner, "domains": [domain] });
    fs::write(run.join("run.json"), record.to_string()).unwrap();
    run.join("tmp")
}

#[tokio::test(start_paused = true)]
async fn an_engine_without_lag_costs_neither_time_nor_a_look() {
    let scene = Memory::sound();
    let (ci_host, guard) = (without_lag(&scene), owned(&scene));
    let began = Instant::now();
    for pending in [PendingRequests::Done, PendingRequests::InFlight, PendingRequests::Unknown] {
        let before = scene.engine.looks();
        assert_eq!(reaped(&ci_host, &guard, pending).await, Reaped::default());
        assert_eq!(scene.engine.looks(), before + 1, "{pending:?}, and nothing is there");
        scene.deploy(guard.domain()).await;
        assert_eq!(reaped(&ci_host, &guard, pending).await.removed.len(), 2);
        assert_eq!(scene.engine.looks(), before + 3, "{pending:?}");
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn who_knows_that_all_orders_are_carried_out_looks_once() {
    let scene = Memory::sound();
    let guard = owned(&scene);
    scene.deploy(guard.domain()).await;
    let began = Instant::now();
    assert_eq!(reaped(&scene.ci_host, &guard, PendingRequests::Done).await.removed.len(), 2);
    assert_eq!((began.elapsed(), scene.engine.looks()), (Duration::ZERO, 2));
}

#[tokio::test(start_paused = true)]
async fn what_a_killed_client_had_ordered_is_removed_though_nothing_was_there_yet() {
    let scene = Memory::sound();
    let guard = owned(&scene);
    let late = Resource::new(Kind::Network, "late");
    scene.engine.put_late(guard.domain(), late.clone(), LAG);
    let reaped = reaped(&scene.ci_host, &guard, PendingRequests::InFlight).await;
    assert_eq!((reaped.removed, reaped.left), (vec![late], Vec::new()));
    assert!(!scene.exists(guard.domain()).await);
}

#[tokio::test(start_paused = true)]
async fn what_appears_when_the_limit_is_over_is_told_as_left() {
    let scene = Memory::sound();
    let guard = owned(&scene);
    let late = Resource::new(Kind::Network, "late");
    scene.engine.put_late(guard.domain(), late.clone(), LAG);
    let end = reap(&scene.ci_host, &guard, None, PendingRequests::InFlight, Duration::ZERO).await.unwrap();
    assert_eq!(end.left, [late]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_owner_that_left_nothing_had_concluded_and_one_look_is_enough() {
    let scene = Memory::sound();
    let guard = owned(&scene);
    let began = Instant::now();
    assert_eq!(reaped(&scene.ci_host, &guard, PendingRequests::Unknown).await, Reaped::default());
    drop(guard);
    let report = scene.janitor().pass(&Pass::by_hand(Cancellation::new())).await.unwrap();
    assert_eq!(report.findings[0].decision, Decision::StaleLock);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_dead_runs_tree_alone_tells_that_it_may_have_been_killed_in_flight() {
    for by_a_pass in [true, false] {
        let scene = Memory::sound();
        let guard = owned(&scene);
        let tree = dead_tree(&scene, guard.domain());
        scene.engine.put_late(guard.domain(), Resource::new(Kind::Service, "late"), LAG);
        if by_a_pass {
            drop(guard);
            let report = scene.janitor().pass(&Pass::by_hand(Cancellation::new())).await.unwrap();
            assert_eq!(
                (report.findings[0].decision, report.findings[0].removed.len()),
                (Decision::Reaped, 2)
            );
        } else {
            assert_eq!(reaped(&scene.ci_host, &guard, PendingRequests::Unknown).await.removed.len(), 2);
        }
        assert!(!scene.exists(&scene.run_app(1)).await && !tree.exists());
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_killed_before_its_last_look_leaves_the_tree_that_makes_the_next_one_wait() {
    let scene = Memory::sound();
    let guard = owned(&scene);
    let tree = dead_tree(&scene, guard.domain());
    scene.deploy(guard.domain()).await;
    let killed =
        tokio::time::timeout(LAG / 2, reaped(&scene.ci_host, &guard, PendingRequests::Unknown)).await;
    assert!(killed.is_err() && scene.engine.removals().len() == 1);
    assert!(tree.exists(), "nobody knows any more that something may appear");
    assert_eq!(scene.engine.inventory(None).await.unwrap().domains().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_tree_outlives_a_removal_that_failed_and_makes_the_next_pass_wait() {
    let scene = Memory::sound();
    let guard = owned(&scene);
    let tree = dead_tree(&scene, guard.domain());
    let keeps = CiHost { engine: Arc::new(scene.engine.with_failing_removals()), ..scene.ci_host.clone() };
    let failed = reaped(&keeps, &guard, PendingRequests::Unknown).await;
    assert!(tree.exists(), "nobody knows any more that something may appear");
    assert_eq!((failed.left.len(), failed.failures.len()), (1, 1), "{failed:?}");
    drop(guard);
    scene.engine.put_late(&scene.run_app(1), Resource::new(Kind::Service, "late"), LAG);
    let report = scene.janitor().pass(&Pass::by_hand(Cancellation::new())).await.unwrap();
    assert_eq!((report.findings[0].decision, report.findings[0].removed.len()), (Decision::Reaped, 2));
    assert!(!scene.exists(&scene.run_app(1)).await && !tree.exists());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_concluded_and_kept_its_tree_is_reaped_though_its_process_lives() {
    let scene = Memory::sound();
    let guard = owned(&scene);
    let tree = dead_tree(&scene, guard.domain());
    let record = tree.with_file_name("run.json");
    let mut message: serde_json::Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    let me = ProcessIdentity::current(scene.ci_host.host.boot_id()).unwrap();
    message["owner"] = serde_json::to_value(me).unwrap();
    fs::write(&record, message.to_string()).unwrap();
    assert_eq!(reaped(&scene.ci_host, &guard, PendingRequests::Unknown).await, Reaped::default(), "it lives");
    message["verdict"] = "harness_failed".into();
    fs::write(&record, message.to_string()).unwrap();
    assert_eq!(reaped(&scene.ci_host, &guard, PendingRequests::Unknown).await.removed.len(), 1);
    assert!(!tree.exists());
}

#[tokio::test(start_paused = true)]
async fn a_forged_record_costs_its_own_tree_and_nobodys_app() {
    let scene = Memory::sound();
    let (dead, live, bystander) = (scene.run_app(1), scene.run_app(2), scene.bystander());
    for domain in [&live, &bystander] {
        scene.deploy(domain).await;
    }
    let _held = scene.ci_host.locks.try_acquire(&live).unwrap().unwrap();
    let tree = dead_tree(&scene, &dead);
    let record = tree.with_file_name("run.json");
    let mut forged: serde_json::Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    forged["domains"] = serde_json::json!([bystander, live, dead]);
    // Whoever is dead keeps nobody off.
    forged["owned"] = true.into();
    fs::write(&record, forged.to_string()).unwrap();
    let report = scene.janitor().pass(&Pass::by_hand(Cancellation::new())).await.unwrap();
    let decisions: Vec<_> =
        report.findings.iter().map(|finding| (&finding.domain, finding.decision)).collect();
    assert_eq!(decisions, [(&dead, Decision::Reaped), (&live, Decision::Live)]);
    for domain in [&live, &bystander] {
        assert!(scene.exists(domain).await && scene.removals(domain) == 0, "{domain}");
    }
    assert!(!tree.exists());
}

#[tokio::test(start_paused = true)]
async fn a_pass_whose_time_is_over_looks_no_more() {
    let scene = Memory::sound();
    for number in 0..40 {
        scene.deploy(&scene.run_app(number)).await;
    }
    let pass = Pass { budget: Duration::ZERO, ..Pass::by_hand(Cancellation::new()) };
    let report = scene.janitor().pass(&pass).await.unwrap();
    let unreached = report.findings.iter().filter(|finding| finding.decision == Decision::NotReached);
    assert_eq!((unreached.count(), scene.engine.looks()), (40, 1));
}
