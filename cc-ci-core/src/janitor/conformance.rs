//! What every [`Janitor`] promises, as tests that any implementation can run.
//!
//! A [`Scene`] is a host with nothing on it, the janitor under test, and a way to leave things behind. A case panics
//! with what it saw when the promise is broken.

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;

use super::{Decision, Janitor, Pass, Report};
use crate::lock::{AppGuard, AppLock};
use crate::model::cancellation::{Cancellation, Cause};
use crate::names::Domain;

/// A host of its own for one case.
#[async_trait]
pub trait Scene: Send + Sync {
    /// The janitor under test. Every call gives another one of the same host.
    fn janitor(&self) -> Arc<dyn Janitor>;
    /// The host's locks.
    fn locks(&self) -> Arc<dyn AppLock>;
    /// A domain of a run app; another one for each number.
    fn run_app(&self, number: u32) -> Domain;
    /// A domain that looks like nobody's run app.
    fn bystander(&self) -> Domain;
    /// Makes an app of `domain`, as a run would have that is dead now or holds its lock.
    async fn deploy(&self, domain: &Domain);
    /// The same, by a run that was killed in the middle of it: something that it had ordered is not there yet, and
    /// appears when the engine's request lag is nearly over. Only where the engine has one.
    async fn deploy_late(&self, domain: &Domain) {
        self.deploy(domain).await;
    }
    /// Waits until all that was ordered is there.
    async fn appeared(&self) {}
    /// Whether anything of the app exists.
    async fn exists(&self, domain: &Domain) -> bool;
    /// How often something of the app was removed.
    fn removals(&self, domain: &Domain) -> usize;
}

type CaseRun = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One promise.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// The promise, as a sentence with underscores.
    pub name: &'static str,
    body: fn(Arc<dyn Scene>) -> CaseRun,
}

impl Case {
    /// Runs it on a fresh scene.
    ///
    /// # Panics
    /// When the promise is broken.
    pub async fn run(&self, scene: Arc<dyn Scene>) {
        (self.body)(scene).await;
    }
}

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        /// Every case.
        pub const CASES: &[Case] =
            &[$(Case { name: stringify!($name), body: |scene| Box::pin(async move { $name(scene.as_ref()).await }) }),*];
    };
}

cases![
    an_orphan_is_reaped_and_its_lock_file_removed,
    an_orphan_without_a_lock_file_is_reaped,
    what_a_killed_run_had_ordered_is_reaped_though_it_appears_late,
    a_free_lock_without_an_app_is_removed,
    a_held_app_is_left,
    a_held_lock_without_an_app_is_left,
    ones_own_app_is_left,
    what_is_no_run_app_is_left,
    a_dry_run_changes_nothing_and_says_what_it_would_do,
    many_janitors_reap_once,
    a_cancelled_pass_begins_nothing,
    a_pass_without_budget_begins_nothing_and_says_so,
];

/// Leaves a free lock behind, as a dead holder does.
fn free_lock(scene: &dyn Scene, domain: &Domain) {
    drop(hold(scene, domain));
}

fn hold(scene: &dyn Scene, domain: &Domain) -> AppGuard {
    let taken = scene.locks().try_acquire(domain);
    match taken {
        Ok(Some(guard)) => guard,
        other => panic!("the lock of {domain} is free on a fresh scene, but: {other:?}"),
    }
}

fn has_lock_file(scene: &dyn Scene, domain: &Domain) -> bool {
    scene.locks().domains().is_ok_and(|domains| domains.contains(domain))
}

async fn pass(scene: &dyn Scene, change: impl FnOnce(&mut Pass)) -> Report {
    let mut pass = Pass::by_hand(Cancellation::new());
    change(&mut pass);
    match scene.janitor().pass(&pass).await {
        Ok(report) => report,
        Err(error) => panic!("the pass failed: {}", crate::model::error_chain(&error)),
    }
}

fn decision(report: &Report, domain: &Domain) -> Option<Decision> {
    report.findings.iter().find(|finding| finding.domain == *domain).map(|finding| finding.decision)
}

async fn an_orphan_is_reaped_and_its_lock_file_removed(scene: &dyn Scene) {
    let domain = scene.run_app(1);
    scene.deploy(&domain).await;
    free_lock(scene, &domain);
    let report = pass(scene, |_| ()).await;
    assert_eq!(decision(&report, &domain), Some(Decision::Reaped));
    assert!(!report.leaves_residue());
    assert!(!scene.exists(&domain).await, "the app is still there");
    assert!(!has_lock_file(scene, &domain), "the lock file is still there");
}

async fn an_orphan_without_a_lock_file_is_reaped(scene: &dyn Scene) {
    let domain = scene.run_app(1);
    scene.deploy(&domain).await;
    let report = pass(scene, |_| ()).await;
    assert_eq!(decision(&report, &domain), Some(Decision::Reaped));
    assert!(!scene.exists(&domain).await, "the app is still there");
    assert!(!has_lock_file(scene, &domain), "a lock file was left");
}

async fn what_a_killed_run_had_ordered_is_reaped_though_it_appears_late(scene: &dyn Scene) {
    let domain = scene.run_app(1);
    scene.deploy_late(&domain).await;
    free_lock(scene, &domain);
    let report = pass(scene, |_| ()).await;
    assert_eq!(decision(&report, &domain), Some(Decision::Reaped));
    scene.appeared().await;
    assert!(!scene.exists(&domain).await, "an app was called empty before all of it was there");
}

async fn a_free_lock_without_an_app_is_removed(scene: &dyn Scene) {
    let domain = scene.run_app(1);
    free_lock(scene, &domain);
    let report = pass(scene, |_| ()).await;
    assert_eq!(decision(&report, &domain), Some(Decision::StaleLock));
    assert!(!has_lock_file(scene, &domain), "the lock file is still there");
}

async fn a_held_app_is_left(scene: &dyn Scene) {
    let domain = scene.run_app(1);
    let guard = hold(scene, &domain);
    scene.deploy(&domain).await;
    let report = pass(scene, |_| ()).await;
    assert_eq!(decision(&report, &domain), Some(Decision::Live));
    assert!(!report.leaves_residue(), "what a live run has is no residue");
    assert!(scene.exists(&domain).await, "a live run's app was removed");
    drop(guard);
}

async fn a_held_lock_without_an_app_is_left(scene: &dyn Scene) {
    let domain = scene.run_app(1);
    let guard = hold(scene, &domain);
    let report = pass(scene, |_| ()).await;
    assert_eq!(decision(&report, &domain), Some(Decision::Live));
    assert!(has_lock_file(scene, &domain), "a run that has not deployed yet lost its lock file");
    drop(guard);
}

async fn ones_own_app_is_left(scene: &dyn Scene) {
    let domain = scene.run_app(1);
    scene.deploy(&domain).await;
    free_lock(scene, &domain);
    let report = pass(scene, |pass| pass.own.push(domain.clone())).await;
    assert_eq!(decision(&report, &domain), Some(Decision::Own));
    assert!(scene.exists(&domain).await, "the caller's own app was removed");
}

async fn what_is_no_run_app_is_left(scene: &dyn Scene) {
    let (orphan, bystander) = (scene.run_app(1), scene.bystander());
    scene.deploy(&orphan).await;
    scene.deploy(&bystander).await;
    free_lock(scene, &bystander);
    let report = pass(scene, |_| ()).await;
    assert_eq!(decision(&report, &bystander), None, "it is no candidate");
    assert!(scene.exists(&bystander).await, "a bystander's app was removed");
    assert!(has_lock_file(scene, &bystander), "a bystander's lock file was removed");
    assert!(!scene.exists(&orphan).await);
}

async fn a_dry_run_changes_nothing_and_says_what_it_would_do(scene: &dyn Scene) {
    let (orphan, stale) = (scene.run_app(1), scene.run_app(2));
    scene.deploy(&orphan).await;
    free_lock(scene, &stale);
    let report = pass(scene, |pass| pass.dry_run = true).await;
    assert_eq!(decision(&report, &orphan), Some(Decision::WouldReap));
    assert_eq!(decision(&report, &stale), Some(Decision::WouldRemoveLock));
    assert!(scene.exists(&orphan).await, "a dry run removed an app");
    assert!(has_lock_file(scene, &stale), "a dry run removed a lock file");
    assert!(!has_lock_file(scene, &orphan), "a dry run took a lock");
}

async fn many_janitors_reap_once(scene: &dyn Scene) {
    let domain = scene.run_app(1);
    scene.deploy(&domain).await;
    free_lock(scene, &domain);
    let reports = join_all((0..8).map(|_| pass(scene, |_| ()))).await;
    let reaped = reports.iter().filter(|report| decision(report, &domain) == Some(Decision::Reaped));
    assert_eq!(reaped.count(), 1, "more than one says that it reaped");
    assert_eq!(scene.removals(&domain), 1, "it was removed more than once");
    assert!(!scene.exists(&domain).await);
}

async fn a_cancelled_pass_begins_nothing(scene: &dyn Scene) {
    let domain = scene.run_app(1);
    scene.deploy(&domain).await;
    let report = pass(scene, |pass| assert!(pass.cancellation.cancel(Cause::Term))).await;
    assert_eq!(decision(&report, &domain), Some(Decision::NotReached));
    assert!(scene.exists(&domain).await, "a cancelled pass removed an app");
}

async fn a_pass_without_budget_begins_nothing_and_says_so(scene: &dyn Scene) {
    let domain = scene.run_app(1);
    scene.deploy(&domain).await;
    let report = pass(scene, |pass| pass.budget = std::time::Duration::ZERO).await;
    assert_eq!(decision(&report, &domain), Some(Decision::NotReached));
    assert!(report.leaves_residue(), "what was not reached is left");
    assert!(scene.exists(&domain).await);
}
