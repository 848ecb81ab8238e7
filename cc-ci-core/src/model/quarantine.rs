//! A run app that passes of the janitor could not reap, one after the other: it is put aside, with pauses that grow.
//!
//! A pause decides when it is tried again, never whose it is: a run of the domain recovers it at any time, and until it is gone
//! every pass says that something is left. What does not say when it was last tried is tried.

use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::record::clock_stamp;
use crate::names::Domain;
use crate::sys::system_info::BootId;

/// The schema of [`Quarantine`].
const SCHEMA: &str = "cc-ci.quarantine/v1";

/// So many passes fail before there is a pause.
const TRIES: u32 = 3;
/// The first pause; each is twice as long as the one before.
const FIRST: Duration = Duration::from_mins(15);
/// And none is longer.
const LONGEST: Duration = Duration::from_hours(24);

/// So many reasons are kept, of so many characters.
const REASONS: usize = 4;
const REASON: usize = 400;

/// How often a run app could not be reaped, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Quarantine {
    schema: String,
    /// Which.
    pub domain: Domain,
    /// How many passes failed, one after the other.
    pub failures: u32,
    /// When the first of them did.
    pub first: Timestamp,
    /// When the last one did.
    pub last: Timestamp,
    /// In which boot of the host: another one may have ended what was in the way.
    boot_id: BootId,
    /// What went wrong in the last one.
    pub reasons: Vec<String>,
}

impl Quarantine {
    /// The record after one more pass has failed at `now`, in `boot`, for these `reasons`.
    pub(crate) fn after(
        before: Option<Self>,
        domain: &Domain,
        reasons: &[String],
        now: Timestamp,
        boot: &BootId,
    ) -> Self {
        let before = before.filter(|before| before.boot_id == *boot && before.last <= now);
        let failures = before.as_ref().map_or(0, |before| before.failures).saturating_add(1);
        let reasons = reasons.iter().take(REASONS).map(|reason| reason.chars().take(REASON).collect());
        Self {
            schema: SCHEMA.to_owned(),
            domain: domain.clone(),
            failures,
            first: before.map_or(now, |before| before.first),
            last: now,
            boot_id: boot.clone(),
            reasons: reasons.collect(),
        }
    }

    /// What `text` says of `domain`; `None` where it is no such record.
    pub(crate) fn parse(text: &[u8], domain: &Domain) -> Option<Self> {
        let record: Self = serde_json::from_slice(text).ok()?;
        (record.schema == SCHEMA && record.domain == *domain).then_some(record)
    }

    /// When it is tried again; `None` where the next pass does.
    pub fn next(&self) -> Option<Timestamp> {
        let doubled = self.failures.checked_sub(TRIES)?;
        let pause = 2_u32.checked_pow(doubled).and_then(|times| FIRST.checked_mul(times));
        self.last.checked_add(pause.map_or(LONGEST, |pause| pause.min(LONGEST))).ok()
    }

    /// Whether it is left alone at `now`, in `boot`: not where the clock or the boot is another.
    pub fn is_paused(&self, now: Timestamp, boot: &BootId) -> bool {
        self.boot_id == *boot && self.last <= now && self.next().is_some_and(|next| now < next)
    }

    /// As people read it, with what tries it at once.
    pub fn in_words(&self) -> String {
        let reasons =
            if self.reasons.is_empty() { "no reason is known".to_owned() } else { self.reasons.join("; ") };
        let next = self
            .next()
            .map_or_else(|| "by the next pass".to_owned(), |next| format!("at {}", clock_stamp(next)));
        let (first, domain) = (clock_stamp(self.first), &self.domain);
        let passes =
            if self.failures == 1 { "1 pass".to_owned() } else { format!("{} passes", self.failures) };
        format!(
            "{passes} could not reap it since {first}: {reasons}; tried again {next}, or now: cc-ci janitor --retry {domain}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> Domain {
        "a-000001.ci.test".parse().unwrap()
    }

    /// After so many passes that failed, an hour apart.
    fn failed(times: i64) -> Quarantine {
        let mut record = None;
        for time in 0..times {
            let now = Timestamp::from_second(time * 3600).unwrap();
            record =
                Some(Quarantine::after(record, &domain(), &["it hangs".to_owned()], now, &BootId::new("b")));
        }
        record.unwrap()
    }

    #[test]
    fn pauses_begin_after_some_failures_grow_and_have_a_limit() {
        let minutes = |times| {
            let record = failed(times);
            record.next().map(|next| next.duration_since(record.last).as_mins())
        };
        assert_eq!([1, 2, 3, 4, 5].map(minutes), [None, None, Some(15), Some(30), Some(60)]);
        assert_eq!([10, 40, 100].map(minutes), [Some(24 * 60); 3]);
        assert_eq!((failed(40).first, failed(40).failures), (Timestamp::UNIX_EPOCH, 40));
    }

    #[test]
    fn it_is_left_alone_for_its_pause_in_its_boot_by_a_clock_that_goes_on() {
        let (record, boot) = (failed(3), BootId::new("b"));
        let at = |minutes: i64| record.last + jiff::SignedDuration::from_mins(minutes);
        assert!(record.is_paused(at(0), &boot) && record.is_paused(at(14), &boot));
        assert!(!record.is_paused(at(15), &boot) && !record.is_paused(at(-1), &boot));
        assert!(!record.is_paused(at(1), &BootId::new("another")));
        // Another boot begins anew, and so does a clock that was put back.
        let again = |now, boot| Quarantine::after(Some(record.clone()), &domain(), &[], now, boot).failures;
        assert_eq!((again(at(20), &boot), again(at(-1), &boot), again(at(20), &BootId::new("x"))), (4, 1, 1));
    }

    #[test]
    fn what_is_no_record_of_the_domain_is_none() {
        let text = serde_json::to_string(&failed(3)).unwrap();
        assert_eq!(Quarantine::parse(text.as_bytes(), &domain()), Some(failed(3)));
        assert_eq!(Quarantine::parse(text.as_bytes(), &"b-000001.ci.test".parse().unwrap()), None);
        for bad in ["", "{}", "[", &text.replace("/v1", "/v2"), &text.replace("failures", "x")] {
            assert_eq!(Quarantine::parse(bad.as_bytes(), &domain()), None, "{bad}");
        }
    }
}
