//! Deployers that fail a quick run in ways that a real one seldom does.

use std::fmt;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cc_ci_core::engine::{
    App, Deployer as _, DeployerLayer, Engine as _, Failure, Fault, Kind, Resource, RunContext,
};
use cc_ci_core::event::Silent;
use cc_ci_core::exit::Exit;
use cc_ci_core::lifetime::{Bounds, EmbeddedMode, RunLifetime};
use cc_ci_core::local::LocalExecutor;
use cc_ci_core::run::{RunEnd, Status, TierName, WarmApp};
use cc_ci_core::workspace::RecipeSource;

use crate::warmed::Warmed;

/// What goes wrong in an upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Odd {
    /// It panics, of what is tested.
    Panics,
    /// It moves the checkout of the baseline to this commit.
    Moves(String),
    /// It makes the services anew, of what is tested.
    MakesAnew,
    /// It fails before it orders anything, once, of the baseline.
    FallsOver,
    /// The engine fails it by chance, of what is tested: once, or always.
    FailsByChance { always: bool },
    /// It leaves something else than an `.env`, of the baseline.
    Rewrites,
}

#[derive(Debug)]
struct Oddly(Odd, Arc<LocalExecutor>, AtomicBool);

impl fmt::Display for Oddly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A run's record says which executor they are of.
        self.1.fmt(f)
    }
}

#[async_trait]
impl DeployerLayer for Oddly {
    type Inner = LocalExecutor;

    fn inner(&self) -> &LocalExecutor {
        &self.1
    }
    async fn create(&self, _: &RunContext, app: &App) -> Result<(), Failure> {
        panic!("a quick run made the app {}", app.domain)
    }
    async fn upgrade(&self, context: &RunContext, app: &App) -> Result<(), Failure> {
        let of_canonical = app.tree.components().any(|part| part.as_os_str() == "warm");
        match &self.0 {
            Odd::Panics if !of_canonical => panic!("in the middle of the upgrade"),
            Odd::FallsOver if of_canonical && !self.2.swap(true, Ordering::Relaxed) => {
                Err(Failure::host("fell over"))
            }
            Odd::FailsByChance { always }
                if !of_canonical && (!self.2.swap(true, Ordering::Relaxed) || *always) =>
            {
                Err(Failure::new(Fault::Transient, "rolled back by chance"))
            }
            Odd::Rewrites if of_canonical => {
                self.1.upgrade(context, app).await?;
                fs::write(&app.env_file, "=what=\n").unwrap();
                Ok(())
            }
            Odd::MakesAnew if !of_canonical => {
                // Its port goes with it: else the new service would be reached by another one.
                let all = self.1.inventory(Some(std::slice::from_ref(&app.domain))).await?.of(&app.domain);
                let is_of_service = |thing: &Resource| {
                    thing.kind == Kind::Service
                        || thing.kind == Kind::Network && thing.name.starts_with("port ")
                };
                let services: Vec<Resource> = all.into_iter().filter(is_of_service).collect();
                self.1.remove_selected(&app.domain, &services, Duration::from_secs(10)).await?;
                self.1.deploy(context, app).await
            }
            Odd::Moves(commit) if of_canonical => {
                self.1.upgrade(context, app).await?;
                fs::write(app.tree.join(".git/HEAD"), format!("{commit}\n")).unwrap();
                Ok(())
            }
            _ => self.1.upgrade(context, app).await,
        }
    }
}

/// A quick run of the fork, deployed oddly.
fn run(warmed: &Warmed, odd: Odd) -> RunEnd<()> {
    let lifetime: Arc<dyn RunLifetime> =
        Arc::new(EmbeddedMode::new(Bounds::default(), Arc::new(Silent)).unwrap());
    let mut harness = warmed.harness(lifetime);
    harness.deployer = Arc::new(Oddly(odd, warmed.executor(warmed.host()), AtomicBool::default()));
    let source = Some(RecipeSource::Path(warmed.canonical.path().to_owned()));
    let app = WarmApp { domain: warmed.domain.clone(), version: None, source };
    harness.settings.warm.insert("blog".parse().unwrap(), app);
    let request = warmed.request(warmed.fork.path(), 1, "odd");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(harness.run_quick(&request))
}

fn rollback(end: &RunEnd<()>) -> Status {
    end.record.tiers.iter().find(|tier| tier.name == TierName::Rollback).unwrap().status
}

#[test]
fn a_panic_is_rolled_back() {
    let warmed = Warmed::new();
    let before = warmed.persistent();
    warmed.change().commit();
    let end = run(&warmed, Odd::Panics);
    assert_eq!((end.exit, rollback(&end)), (Exit::Harness, Status::Passed), "{:#?}", end.record);
    assert!(end.record.errors[0].contains("in the middle of the upgrade"));
    assert_eq!(warmed.persistent(), before);
    assert!(!warmed.has_tree("odd"));
}

#[test]
fn a_canonical_checkout_that_is_moved_is_no_rollback() {
    let warmed = Warmed::new();
    warmed.change().commit();
    let other = warmed.canonical.commit();
    let end = run(&warmed, Odd::Moves(other.clone()));
    assert_eq!((end.exit, rollback(&end)), (Exit::Residue, Status::Failed), "{:#?}", end.record);
    let reason = end.record.tiers.last().unwrap().reason.clone().unwrap();
    assert!(
        reason.contains(&format!("the checkout of the baseline shows {other} after the deploy")),
        "{reason}"
    );
    assert_eq!(warmed.reconciled()["outcome"], "restored");
    assert!(!warmed.has_tree("odd"));
}

#[test]
fn services_that_an_upgrade_makes_anew_are_red() {
    let warmed = Warmed::new();
    warmed.change().commit();
    let end = run(&warmed, Odd::MakesAnew);
    assert_eq!((end.exit, rollback(&end)), (Exit::Red, Status::Passed), "{:#?}", end.record);
    let upgrade = end.record.tiers.iter().find(|tier| tier.name == TierName::Upgrade).unwrap();
    assert_eq!(
        upgrade.reason.as_deref(),
        Some("generic/in-place failed: made anew instead of upgraded in place: app")
    );
}

#[test]
fn a_deployer_that_falls_over_in_the_rollback_is_asked_once_more() {
    let warmed = Warmed::new();
    let before = warmed.persistent();
    warmed.change().commit();
    let end = run(&warmed, Odd::FallsOver);
    assert_eq!((end.exit, rollback(&end)), (Exit::Green, Status::Passed), "{:#?}", end.record);
    assert!(end.record.warnings[0].contains("once more: fell over"), "{:?}", end.record.warnings);
    assert_eq!(warmed.persistent(), before);
}

#[test]
fn an_env_that_the_rollback_rewrote_says_nothing_of_the_app() {
    let warmed = Warmed::new();
    let before = warmed.persistent();
    warmed.change().commit();
    let end = run(&warmed, Odd::Rewrites);
    assert_eq!((end.exit, rollback(&end)), (Exit::Green, Status::Passed), "{:#?}", end.record);
    assert_eq!(warmed.persistent(), before);
}

#[test]
fn an_upgrade_that_the_engine_failed_by_chance_is_ordered_once_more_and_is_never_red() {
    for (always, exit) in [(false, Exit::Green), (true, Exit::Harness)] {
        let warmed = Warmed::new();
        warmed.change().commit();
        let end = run(&warmed, Odd::FailsByChance { always });
        assert_eq!((end.exit, rollback(&end)), (exit, Status::Passed), "{:#?}", end.record);
        assert_eq!(end.record.warnings, ["the upgrade is ordered once more: rolled back by chance"]);
    }
}
