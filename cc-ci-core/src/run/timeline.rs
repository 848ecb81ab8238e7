//! What a run did when: `timeline` of its record, for whoever asks where the time went.

use jiff::Timestamp;

use super::state::Run;
use crate::model::failure::Failure;
use crate::model::record::{Span, SpanKind};

impl Run<'_> {
    /// The next phase begins: the one before it is over, and so is what it waited for, which was not to be had.
    pub fn begin_phase(&self, phase: &str, at: Timestamp) {
        let mut record = self.record();
        end_open(&mut record.timeline, at);
        push(&mut record.timeline, SpanKind::Phase, phase, at);
    }

    /// The phase that goes on came to a bad end.
    pub fn fail_phase(&self) {
        let mut record = self.record();
        let is_open = |span: &&mut Span| span.kind == SpanKind::Phase && span.ended.is_none();
        // One for which there was no room is not there.
        if let Some(phase) = record.timeline.iter_mut().rfind(is_open) {
            phase.failed = true;
        }
    }

    /// Does `work`, and notes how long that took.
    pub fn timed<T>(
        &self,
        name: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> impl Future<Output = Result<T, Failure>> {
        // Boxed: a deploy is large, and who waits for it would be larger.
        let work = Box::pin(work);
        async move {
            let place = push(&mut self.record().timeline, SpanKind::Work, name, self.now());
            let done = work.await;
            let (ended, mut record) = (self.now(), self.record());
            if let Some(span) = place.and_then(|place| record.timeline.get_mut(place)) {
                (span.ended, span.failed) = (Some(ended), done.is_err());
            }
            done
        }
    }

    /// The run is over; what is known of its tasks is added.
    pub fn end_timeline(&self, at: Timestamp) {
        let tasks = self.evidence.lives();
        let mut record = self.record();
        end_open(&mut record.timeline, at);
        let room = Span::MOST.saturating_sub(record.timeline.len());
        record.timeline.extend(tasks.into_iter().take(room));
        record.timeline.sort_by_key(|span| span.began);
    }

    fn now(&self) -> Timestamp {
        self.harness.ci_host.host.now()
    }
}

fn end_open(timeline: &mut [Span], at: Timestamp) {
    for span in timeline.iter_mut().filter(|span| span.ended.is_none()) {
        span.ended = Some(at);
        span.failed |= span.kind == SpanKind::Work;
    }
}

fn push(timeline: &mut Vec<Span>, kind: SpanKind, name: &str, began: Timestamp) -> Option<usize> {
    if timeline.len() >= Span::MOST {
        return None;
    }
    timeline.push(Span { kind, name: name.to_owned(), began, ended: None, failed: false });
    Some(timeline.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_phase_waited_for_in_vain_ends_with_it_and_not_well() {
        let (mut timeline, at) = (Vec::new(), |second| Timestamp::from_second(second).unwrap());
        push(&mut timeline, SpanKind::Phase, "install", at(1));
        push(&mut timeline, SpanKind::Work, "pull app", at(2));
        end_open(&mut timeline, at(3));
        let ends: Vec<_> = timeline.iter().map(|span| (span.ended, span.failed)).collect();
        assert_eq!(ends, [(Some(at(3)), false), (Some(at(3)), true)]);
    }

    #[test]
    fn a_run_of_many_phases_keeps_the_first_of_them() {
        let mut timeline = Vec::new();
        for _ in 0..Span::MOST + 5 {
            push(&mut timeline, SpanKind::Phase, "upgrade", Timestamp::UNIX_EPOCH);
        }
        assert_eq!(timeline.len(), Span::MOST);
    }
}
