//! The generic checks: what every app must hold, whatever it is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::tiers::StepError;
use crate::executor::{App, Engine, ServiceState};
use crate::http;

/// The checks that an operator may replace.
pub(super) const ALL: [&str; 5] = ["serving", "healthy", "no-restart", "in-place", "data"];

/// How long an app that has converged may take to serve: not every recipe has a healthcheck.
const SERVING_LIMIT: Duration = Duration::from_mins(1);

/// The app answers at its domain, with something that is not an error.
pub(super) async fn serving(engine: &dyn Engine, app: &App) -> Result<(), StepError> {
    let endpoint = engine.endpoint(&app.domain).await?;
    let until = Instant::now() + SERVING_LIMIT;
    let mut pause = Duration::from_millis(25);
    loop {
        let seen = match http::get(endpoint.address, endpoint.host.as_str(), "/", Duration::from_secs(10))
            .await
        {
            // An app that asks who is there serves.
            Ok(response) if response.status < 400 || matches!(response.status, 401 | 403) => return Ok(()),
            Ok(response) => format!("HTTP status {}: {}", response.status, first_line(&response.body)),
            Err(error) => crate::error_chain(&error),
        };
        if Instant::now() >= until {
            return Err(StepError::Failed(format!("GET / as {} for {SERVING_LIMIT:?}: {seen}", app.domain)));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// Every service runs what it is meant to run, healthy.
pub(super) fn healthy(services: &[ServiceState]) -> Result<(), StepError> {
    let sick: Vec<&str> =
        services.iter().filter(|service| !service.healthy).map(|service| service.name.as_str()).collect();
    if services.is_empty() {
        return Err(StepError::Failed("the app has no services".to_owned()));
    }
    if sick.is_empty() { Ok(()) } else { Err(StepError::Failed(format!("not healthy: {}", sick.join(", ")))) }
}

/// No service has other tasks than right after it was deployed or upgraded.
pub(super) fn no_restart(before: &[ServiceState], now: &[ServiceState]) -> Result<(), StepError> {
    let tasks = |services: &[ServiceState]| {
        services
            .iter()
            .map(|service| {
                let mut tasks = service.tasks.clone();
                tasks.sort();
                (service.name.clone(), tasks)
            })
            .collect::<BTreeMap<_, _>>()
    };
    let (before, now) = (tasks(before), tasks(now));
    let restarted: Vec<&String> =
        before.iter().filter(|(name, tasks)| now.get(*name) != Some(*tasks)).map(|(name, _)| name).collect();
    if restarted.is_empty() {
        Ok(())
    } else {
        Err(StepError::Failed(format!("restarted since it was deployed: {restarted:?}")))
    }
}

/// Every service of the first deploy that is still there is the very same one: the run deployed once (I10).
pub(super) fn in_place(first: &[ServiceState], now: &[ServiceState]) -> Result<(), StepError> {
    let made_anew: Vec<&str> = now
        .iter()
        .filter(|service| {
            first.iter().any(|old| {
                old.name == service.name && (&old.id, &old.created) != (&service.id, &service.created)
            })
        })
        .map(|service| service.name.as_str())
        .collect();
    if now.is_empty() && !first.is_empty() {
        return Err(StepError::Failed("every service of the first deploy is gone".to_owned()));
    }
    if made_anew.is_empty() {
        Ok(())
    } else {
        Err(StepError::Failed(format!("made anew instead of upgraded in place: {}", made_anew.join(", "))))
    }
}

fn first_line(body: &str) -> String {
    body.lines().next().unwrap_or_default().chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, id: &str, task: &str) -> ServiceState {
        ServiceState {
            name: name.into(),
            id: id.into(),
            created: "1".into(),
            tasks: vec![task.into()],
            healthy: true,
            spec: String::new(),
            version: None,
        }
    }

    #[test]
    fn a_second_deploy_is_not_an_upgrade() {
        let first = [service("app", "a", "1"), service("db", "b", "1")];
        assert!(in_place(&first, &[service("app", "a", "2"), service("db", "b", "1")]).is_ok());
        assert!(in_place(&first, &[service("app", "a", "2"), service("cache", "c", "1")]).is_ok());
        assert!(in_place(&first, &[service("app", "z", "2"), service("db", "b", "1")]).is_err());
        assert!(in_place(&first, &[]).is_err());
    }

    #[test]
    fn another_task_is_a_restart() {
        let first = [service("app", "a", "1")];
        assert!(no_restart(&first, &first).is_ok());
        assert!(no_restart(&first, &[service("app", "a", "2")]).is_err());
        assert!(no_restart(&first, &[]).is_err());
    }

    #[test]
    fn one_sick_service_is_named() {
        let sick = ServiceState { healthy: false, ..service("db", "b", "1") };
        let StepError::Failed(message) = healthy(&[service("app", "a", "1"), sick]).unwrap_err() else {
            panic!("a check fails as a check")
        };
        assert_eq!(message, "not healthy: db");
        assert!(healthy(&[]).is_err());
    }
}
