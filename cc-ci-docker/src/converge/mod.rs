//! Whether every service runs what it is meant to run.
//!
//! [`wait`] looks, judges, and looks again when the engine says that something happened; a clock that slows down
//! while nothing happens looks as well, since tasks have no events. An engine that can't be asked just now is asked
//! again: one that restarts only delays a wait.

mod crash_loop;
mod current;
pub(crate) mod explain;
pub(crate) mod observe;
mod verdict;

use std::time::Duration;

use cc_ci_core::engine::{ConvergenceReport, Failure, ServiceState};
use cc_ci_core::event::Reporter;
use cc_ci_core::names::Domain;
use tokio::time::Instant;

use crate::SwarmEngine;
use crate::client::{ApiError, Client};
use crate::events::Events;
use crash_loop::CrashLoopDetector;
use observe::FutureStamps;
use verdict::{ConvergenceVerdict, Lag, Service};

/// The pause before the next look where nothing is heard; doubled each time. A container's end is told some 100 ms
/// before the engine's list knows of it.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);

/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Longer waits than this are waits for ever.
const FAR: Duration = Duration::from_hours(24 * 366 * 30);

/// Waits until every service of `domain` is up; fails when one came to another end, when it makes no sense to wait any
/// longer, and when `limit` is over. Where nothing is heard, it looks again after `shortest`, and then less and less often.
/// Dropping it leaves nothing running.
pub(crate) async fn wait(
    engine: &SwarmEngine,
    domain: &Domain,
    limit: Duration,
    shortest: Duration,
    reporter: &dyn Reporter,
) -> Result<(), Failure> {
    let (client, stack) = (&engine.client, domain.stack());
    let began = Instant::now();
    let until = began.checked_add(limit).unwrap_or(began + FAR);
    let mut report = ConvergenceReport::new(reporter, domain, limit);
    let mut events = Events::of(client, &stack);
    let mut detector = CrashLoopDetector::default();
    let mut node = None;
    let mut future = FutureStamps::default();
    let longest = LONGEST_PAUSE.max(shortest);
    let mut pause = shortest;
    let mut last = None;
    loop {
        let look = async {
            let node = match &node {
                Some(node) => node,
                None => node.insert(observe::node(client).await?),
            };
            observe::services_of(client, &stack, node, Some(&mut future)).await
        };
        let looked = tokio::time::timeout_at(until, events.during(look)).await;
        let Ok((seen, heard)) = looked else { break };
        let mut again = pause;
        match seen {
            Ok(services) if services.is_empty() => {
                return Err(Failure::host(format!("nothing of {domain} is deployed: it has no service")));
            }
            Ok(mut services) => {
                for service in &mut services {
                    service.mark_exited(events.dead());
                }
                let verdicts: Vec<ConvergenceVerdict> = services.iter().map(Service::verdict).collect();
                let lagging = services.iter().zip(&verdicts);
                let lagging = lagging.filter_map(|(service, verdict)| match verdict {
                    ConvergenceVerdict::Up => None,
                    ConvergenceVerdict::Lags(Lag { reason, .. }) | ConvergenceVerdict::Over(reason) => {
                        Some((service.name.as_str(), reason.as_str()))
                    }
                });
                report.tell(services.len(), lagging);
                if verdicts.iter().all(|verdict| *verdict == ConvergenceVerdict::Up) {
                    return Ok(());
                }
                let named: Vec<_> =
                    services.iter().map(|service| service.id.as_str()).zip(&verdicts).collect();
                let over = verdicts.iter().any(|verdict| matches!(verdict, ConvergenceVerdict::Over(_)));
                let hopeless = detector.ends(&named, began.elapsed(), limit);
                again = verdicts.iter().filter_map(ConvergenceVerdict::again).fold(again, Duration::min);
                if over || hopeless {
                    let how = if over { "did not come up" } else { "ends again and again" };
                    return Err(
                        explain::error(engine, &format!("{domain} {how}"), &services, &verdicts).await
                    );
                }
                last = Some(Ok((services, verdicts)));
            }
            Err(error) if error.is_passing() => last = Some(Err(error)),
            Err(error) => return Err(error.during(format!("can't tell whether {domain} is up"))),
        }
        if heard {
            pause = shortest;
            continue;
        }
        let next = (Instant::now() + again).min(until);
        if tokio::time::timeout_at(next, events.heard()).await.is_ok() {
            pause = shortest;
        } else if next >= until {
            break;
        } else {
            pause = (pause * 2).min(longest);
        }
    }
    Err(match last {
        Some(Ok((services, verdicts))) => {
            explain::error(engine, &format!("{domain} is not up after {limit:?}"), &services, &verdicts).await
        }
        Some(Err(error)) => error.during(format!("can't tell whether {domain} is up after {limit:?}")),
        None => ApiError::Hangs { limit, node: None }
            .during(format!("can't tell whether {domain} is up after {limit:?}")),
    })
}

/// The services as they are now.
pub(crate) async fn services(client: &Client, domain: &Domain) -> Result<Vec<ServiceState>, Failure> {
    let seen = async {
        let node = observe::node(client).await?;
        let mut seen = observe::services_of(client, &domain.stack(), &node, None).await?;
        // Whoever asks right after a wait must not see what has just ended.
        observe::confirm(client, &mut seen).await?;
        Ok(seen)
    };
    let seen = seen
        .await
        .map_err(|error: ApiError| error.during(format!("can't look at the services of {domain}")))?;
    Ok(seen
        .into_iter()
        .map(|service| ServiceState {
            tasks: service.watched_tasks(),
            healthy: service.verdict() == ConvergenceVerdict::Up,
            name: service.name,
            id: service.id,
            created: service.created,
            order: service.order,
            spec: service.spec,
            version: service.version,
        })
        .collect())
}
