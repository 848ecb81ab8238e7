//! When a crash loop is one.
//!
//! A recipe's app may well exit until its database is up, and Swarm starts it again: that must not be red. So ends
//! of tasks are counted since the set of services that are up last grew, and given up on is only when *every* service
//! that is not up has had [`ENDS`] of them, none of its tasks runs, none is being updated by Swarm, and a third of the
//! whole time has passed without any service coming up: a database without a healthcheck counts as up long before it
//! answers. An update in flight ends by Swarm's own failure action (pause, roll back, continue), which says more than
//! the loop does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::verdict::{ConvergenceVerdict, Lag};

/// So many ends in a row are no accident.
pub(super) const ENDS: usize = 3;

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct CrashLoopDetector {
    up: Option<BTreeSet<String>>,
    /// When the set of those that are up last grew.
    since: Duration,
    /// The tasks that had ended before.
    before: BTreeSet<String>,
    /// The tasks that ended since, by service. Swarm forgets all but the last few.
    ended: BTreeMap<String, BTreeSet<String>>,
}

impl CrashLoopDetector {
    /// Whether it makes no sense to wait any longer, `waited` after the beginning of a wait of `limit`.
    pub(super) fn ends(
        &mut self,
        verdicts: &[(&str, &ConvergenceVerdict)],
        waited: Duration,
        limit: Duration,
    ) -> bool {
        let up: BTreeSet<String> = verdicts
            .iter()
            .filter(|(_, verdict)| matches!(verdict, ConvergenceVerdict::Up))
            .map(|(id, _)| (*id).to_owned())
            .collect();
        let lagging: Vec<(&str, &Lag)> = verdicts
            .iter()
            .filter_map(|(id, verdict)| match verdict {
                ConvergenceVerdict::Lags(lag) => Some((*id, lag)),
                ConvergenceVerdict::Up | ConvergenceVerdict::Over(_) => None,
            })
            .collect();
        let grew = self.up.as_ref().is_none_or(|known| !up.is_subset(known));
        self.up = Some(up);
        if grew {
            self.since = waited;
            self.ended.clear();
            self.before = lagging.iter().flat_map(|(_, lag)| lag.failed.iter().cloned()).collect();
            return false;
        }
        for (id, lag) in &lagging {
            let ended = self.ended.entry((*id).to_owned()).or_default();
            ended.extend(lag.failed.iter().filter(|task| !self.before.contains(*task)).cloned());
        }
        let hopeless = |(id, lag): &(&str, &Lag)| {
            !lag.may_recover && self.ended.get(*id).is_some_and(|ended| ended.len() >= ENDS)
        };
        !lagging.is_empty() && lagging.iter().all(hopeless) && waited.saturating_sub(self.since) >= limit / 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    fn lags(failed: &[&str], may_recover: bool) -> ConvergenceVerdict {
        let failed = failed.iter().map(|&task| task.to_owned()).collect();
        ConvergenceVerdict::Lags(Lag { reason: String::new(), failed, may_recover, again: None })
    }

    /// Looks, one second apart; the first that was the last straw.
    fn gives_up(looks: &[&[(&str, ConvergenceVerdict)]]) -> Option<usize> {
        let mut detector = CrashLoopDetector::default();
        looks.iter().position(|look| {
            let at = looks.iter().position(|other| std::ptr::eq(*other, *look)).unwrap();
            let verdicts: Vec<(&str, &ConvergenceVerdict)> =
                look.iter().map(|(id, verdict)| (*id, verdict)).collect();
            detector.ends(&verdicts, Duration::from_secs(10 * at as u64), LIMIT)
        })
    }

    #[test]
    fn a_third_end_is_the_last() {
        let looks: [&[(&str, ConvergenceVerdict)]; 4] = [
            &[("app", lags(&[], true)), ("db", ConvergenceVerdict::Up)],
            &[("app", lags(&["1"], false)), ("db", ConvergenceVerdict::Up)],
            &[("app", lags(&["1", "2"], false)), ("db", ConvergenceVerdict::Up)],
            // Swarm has forgotten the first one.
            &[("app", lags(&["2", "3"], false)), ("db", ConvergenceVerdict::Up)],
        ];
        assert_eq!(gives_up(&looks), Some(3));
    }

    #[test]
    fn what_runs_right_now_may_come_up() {
        let looks: [&[(&str, ConvergenceVerdict)]; 3] = [
            &[("app", lags(&[], true))],
            &[("app", lags(&["1", "2", "3"], true))],
            &[("app", lags(&["1", "2", "3", "4"], false))],
        ];
        assert_eq!(gives_up(&looks), Some(2));
    }

    #[test]
    fn an_app_may_exit_until_its_database_is_up() {
        let looks: [&[(&str, ConvergenceVerdict)]; 5] = [
            &[("app", lags(&[], true)), ("db", lags(&[], true))],
            &[("app", lags(&["1", "2", "3", "4"], false)), ("db", lags(&[], true))],
            // From here on it has its three attempts, and its time.
            &[("app", lags(&["1", "2", "3", "4"], false)), ("db", ConvergenceVerdict::Up)],
            &[("app", lags(&["3", "4", "5", "6"], false)), ("db", ConvergenceVerdict::Up)],
            &[("app", lags(&["4", "5", "6", "7"], false)), ("db", ConvergenceVerdict::Up)],
        ];
        assert_eq!(gives_up(&looks), Some(4));
    }

    #[test]
    fn what_ended_before_the_wait_does_not_count() {
        let looks: [&[(&str, ConvergenceVerdict)]; 3] = [
            &[("app", lags(&["1", "2", "3"], false))],
            &[("app", lags(&["1", "2", "3", "4"], false))],
            &[("app", lags(&["1", "2", "3", "4", "5"], false))],
        ];
        assert_eq!(gives_up(&looks), None);
    }

    #[test]
    fn a_fast_loop_has_a_third_of_the_time() {
        let mut detector = CrashLoopDetector::default();
        let (none, loops) = (lags(&[], true), lags(&["1", "2", "3"], false));
        assert!(!detector.ends(&[("app", &none)], Duration::ZERO, LIMIT));
        assert!(!detector.ends(&[("app", &loops)], Duration::from_millis(9_999), LIMIT));
        assert!(detector.ends(&[("app", &loops)], Duration::from_secs(10), LIMIT));
    }

    #[test]
    fn the_time_counts_from_the_last_that_came_up() {
        let mut detector = CrashLoopDetector::default();
        let (none, loops) = (lags(&[], true), lags(&["1", "2", "3"], false));
        assert!(!detector.ends(&[("app", &none), ("db", &none)], Duration::ZERO, LIMIT));
        assert!(!detector.ends(
            &[("app", &none), ("db", &ConvergenceVerdict::Up)],
            Duration::from_secs(8),
            LIMIT
        ));
        let verdicts = [("app", &loops), ("db", &ConvergenceVerdict::Up)];
        assert!(!detector.ends(&verdicts, Duration::from_secs(17), LIMIT));
        assert!(detector.ends(&verdicts, Duration::from_secs(18), LIMIT));
    }

    #[test]
    fn nothing_that_lags_is_nothing_to_give_up_on() {
        let mut detector = CrashLoopDetector::default();
        for waited in [0, 100] {
            assert!(!detector.ends(&[("app", &ConvergenceVerdict::Up)], Duration::from_secs(waited), LIMIT));
        }
    }
}
