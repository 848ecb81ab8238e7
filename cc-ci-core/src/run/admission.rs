//! Admission: a run begins its lane once the host has a place, room on disk and memory for it.
//!
//! Whoever waits for a place has all its apps' locks already, and whoever has one waits for no lock any more: so no two runs
//! wait for each other.
//!
//! # Limitations
//! Room on disk and memory are what the kernel says at that moment, looked at again every few seconds: what runs that were
//! admitted before will still need, nobody knows.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, sleep};

use super::limits::{ADMISSION, Limits, Places};
use super::state::Run;
use crate::lock::{AppGuard, Description};
use crate::model::event::Event;
use crate::model::failure::{Failure, Fault};
use crate::model::holder::Holder;
use crate::sys::system_info::{available_memory, free_space};
use crate::sys::text::gibibytes;

/// How often disk and memory are looked at again: nobody tells when they change.
const LOOK: Duration = Duration::from_secs(5);
/// How often it is told again what is awaited.
const TELL: Duration = Duration::from_mins(1);

/// What is awaited, for people: the last word names the knob.
enum Awaited<'w> {
    Place(u8),
    /// As it was when it was looked at last.
    Room(&'w Mutex<String>),
}

impl fmt::Display for Awaited<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(1) => f.write_str("the one place of this host (limits.runs)"),
            Self::Place(count) => write!(f, "one of the {count} places of this host (limits.runs)"),
            Self::Room(what) => f.write_str(&what.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

/// Waits until the host has a place for the run, and room; the place is kept in `held`, for as long as the run lasts.
pub(super) async fn admit(
    run: &Run<'_>,
    guards: &[AppGuard],
    held: &mut Option<AppGuard>,
) -> Result<(), Failure> {
    let Limits { places, free_disk, free_memory } = &run.harness.settings.limits;
    if places.is_none() && (*free_disk, *free_memory) == (0, 0) {
        return Ok(());
    }
    run.enter(ADMISSION, guards);
    run.keep_record(0).await;
    let _clock_stands_still = run.harness.lifetime.hold_deadline();
    let began = Instant::now();
    // One bound for all that a run waits for before it begins.
    let waited = Duration::try_from_secs_f64(run.record().lock_waited_seconds).unwrap_or_default();
    let limit = run.harness.settings.lock_timeout.saturating_sub(waited);
    let admitted = async {
        if let Some(places) = places {
            let taken = place(run, places, limit).await?;
            taken.describe(&description(run));
            *held = Some(taken);
        }
        room(run, *free_disk, *free_memory, limit.saturating_sub(began.elapsed())).await
    };
    let admitted = admitted.await;
    run.record().lock_waited_seconds += began.elapsed().as_secs_f64();
    admitted
}

fn description(run: &Run<'_>) -> Description {
    let record = run.record();
    Description {
        run_id: Some(record.run_id.clone()),
        recipe: Some(record.recipe.clone()),
        phase: "admitted".to_owned(),
    }
}

async fn place(run: &Run<'_>, places: &Places, limit: Duration) -> Result<AppGuard, Failure> {
    let awaited = Awaited::Place(places.count);
    let waits = tokio::sync::Notify::new();
    let taken = places.take(run.harness.lifetime.cancellation(), || waits.notify_one());
    let holders = || async {
        let places = places.clone();
        // It reads /proc.
        run.context.lifetime.blocking_tasks().run(move || places.holders()).await
    };
    visibly(run, &awaited, limit, &waits, holders, taken).await
}

/// Waits until there is room.
async fn room(run: &Run<'_>, free_disk: u64, free_memory: u64, limit: Duration) -> Result<(), Failure> {
    let mut directories = vec![run.harness.ci_host.runs.runs_dir().to_owned()];
    if free_disk > 0 {
        directories.extend(run.harness.ci_host.engine.storage().await);
    }
    let lacking = || {
        let directories = directories.clone();
        run.context.lifetime.blocking_tasks().run(move || lacking(&directories, free_disk, free_memory))
    };
    let Some(what) = lacking().await else { return Ok(()) };
    let what = Mutex::new(what);
    let waits = tokio::sync::Notify::new();
    waits.notify_one();
    let there = async {
        while let Some(now) = lacking().await {
            *what.lock().unwrap_or_else(PoisonError::into_inner) = now;
            sleep(LOOK).await;
        }
        Ok(())
    };
    visibly(run, &Awaited::Room(&what), limit, &waits, || async { Vec::new() }, there).await
}

/// What of disk and memory is not there, in words. What can't be looked at is not waited for. Blocks.
fn lacking(directories: &[PathBuf], free_disk: u64, free_memory: u64) -> Option<String> {
    let disk = directories.iter().find_map(|directory| {
        let free = free_space(directory).ok().filter(|free| *free < free_disk)?;
        let (wanted, free) = (gibibytes(free_disk), gibibytes(free));
        Some(format!("{wanted} free in {}, where {free} are (limits.free_disk)", directory.display()))
    });
    disk.or_else(|| {
        let free = available_memory().ok().filter(|free| *free < free_memory)?;
        let (wanted, free) = (gibibytes(free_memory), gibibytes(free));
        Some(format!("{wanted} of memory, of which {free} are available (limits.free_memory)"))
    })
}

/// Awaits `work` for `limit` at the most; once it `waits`, that is told, with the holders, and again and again.
async fn visibly<T, H: Future<Output = Vec<Holder>>>(
    run: &Run<'_>,
    awaited: &Awaited<'_>,
    limit: Duration,
    waits: &tokio::sync::Notify,
    holders: impl Fn() -> H,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let began = Instant::now();
    let (mut work, mut timeout) = (pin!(work), pin!(sleep(limit)));
    tokio::select! {
        biased;
        done = &mut work => return done,
        () = waits.notified() => {}
    }
    let mut ticks = interval(TELL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            done = &mut work => {
                if done.is_ok() {
                    run.context.reporter.report(&Event::Admitted { waited: began.elapsed() });
                }
                return done;
            }
            () = &mut timeout => {
                let text = format!("the host had no room for the run in {limit:.0?}: it waited for {awaited}");
                let hint = "see what goes on: cc-ci status; or wait longer: --lock-timeout";
                return Err(Failure::new(Fault::LockTimeout, text).with_hint(hint));
            }
            _ = ticks.tick() => {
                let event =
                    Event::AdmissionWaiting { what: awaited.to_string(), holders: holders().await, limit };
                run.context.reporter.report(&event);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_named_with_its_knob_and_what_cannot_be_seen_is_not_waited_for() {
        let here = [PathBuf::from("/"), PathBuf::from("/nonexistent")];
        assert_eq!(lacking(&here, 1, 1), None);
        let disk = lacking(&here, u64::MAX, 0).unwrap();
        assert!(disk.contains(" free in /, where ") && disk.ends_with("(limits.free_disk)"), "{disk}");
        let memory = lacking(&here, 0, u64::MAX).unwrap();
        assert!(memory.ends_with(" are available (limits.free_memory)"), "{memory}");
        assert_eq!(lacking(&here[1..], u64::MAX, 0), None);
    }
}
