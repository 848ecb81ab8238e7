//! What an engine tells while it waits for services to come up.

use std::time::{Duration, Instant};

use crate::model::event::{Event, Lagging, Reporter};
use crate::names::Domain;

/// Not more often: what services wait for may change at each look.
const PAUSE: Duration = Duration::from_secs(1);

/// So many services are named, and so many characters of what each waits for are told: an app may have any number.
const NAMED: usize = 8;
const STATE: usize = 200;

/// Tells of changes alone.
#[derive(Debug)]
pub struct ConvergenceReport<'r> {
    reporter: &'r dyn Reporter,
    domain: &'r Domain,
    limit: Duration,
    last: Option<(Instant, usize, Vec<Lagging>)>,
}

impl<'r> ConvergenceReport<'r> {
    /// Begins with a wait for the services of `domain`, of `limit` at the most.
    pub fn new(reporter: &'r dyn Reporter, domain: &'r Domain, limit: Duration) -> Self {
        Self { reporter, domain, limit, last: None }
    }

    /// Of so many services all are up but those which lag, and what each of these waits for.
    pub fn tell<'s>(&mut self, of: usize, lagging: impl IntoIterator<Item = (&'s str, &'s str)>) {
        let mut lagging = lagging.into_iter();
        let mut named: Vec<Lagging> = Vec::new();
        for (service, state) in lagging.by_ref().take(NAMED) {
            let line = state.lines().next().unwrap_or_default();
            named.push(Lagging { service: service.to_owned(), state: line.chars().take(STATE).collect() });
        }
        let up = of.saturating_sub(named.len() + lagging.count());
        let is_told = self.last.as_ref().is_some_and(|(at, last_up, last)| {
            (*last_up, last) == (up, &named) || up < of && at.elapsed() < PAUSE
        });
        if is_told {
            return;
        }
        let (domain, limit) = (self.domain.clone(), self.limit);
        self.reporter.report(&Event::Converging { domain, limit, up, of, lagging: named.clone() });
        self.last = Some((Instant::now(), up, named));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct Told(Mutex<Vec<(usize, usize, Vec<Lagging>)>>);

    impl Reporter for Told {
        fn report(&self, event: &Event) {
            let Event::Converging { up, of, lagging, .. } = event else { return };
            self.0.lock().unwrap().push((*up, *of, lagging.clone()));
        }
    }

    #[test]
    fn what_changes_within_a_second_is_told_once_and_that_all_are_up_at_once() {
        let (told, domain) = (Told::default(), "a.test".parse().unwrap());
        let mut report = ConvergenceReport::new(&told, &domain, Duration::from_secs(9));
        let lags = |state: &str| vec![Lagging { service: "app".into(), state: state.into() }];
        report.tell(2, [("app", "starting\nand more")]);
        for state in ["starting", "restarting"] {
            report.tell(2, [("app", state)]);
        }
        report.tell(2, []);
        report.tell(2, []);
        assert_eq!(*told.0.lock().unwrap(), [(1, 2, lags("starting")), (2, 2, Vec::new())]);
    }

    #[test]
    fn an_app_of_many_services_is_told_in_few_words() {
        let (told, domain) = (Told::default(), "a.test".parse().unwrap());
        let long = "x".repeat(STATE + 1);
        let services = (0..100).map(|_| ("app", long.as_str()));
        ConvergenceReport::new(&told, &domain, Duration::ZERO).tell(101, services);
        let told = told.0.lock().unwrap();
        let (up, of, lagging) = &told[0];
        assert_eq!((*up, *of, lagging.len(), lagging[0].state.len()), (1, 101, NAMED, STATE));
    }
}
