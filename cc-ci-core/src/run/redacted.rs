//! A record without the run's secrets, whatever field quotes one: a file, a volume or a test may be named like it.

use crate::engine::{Redactor, Resource};
use crate::model::asked::Asked;
use crate::model::digest::{Digest, Doing, LogEnd};
use crate::model::record::{Lint, Receipt, ReleasesBefore, RunRecord, Span, Step, Tier};

/// `record` as it may be seen. Parsed names, times and the command's own words are as they were.
///
/// Each field is named, so that a new one is thought of here before it compiles.
pub(super) fn redacted(record: &RunRecord, redactor: &Redactor) -> RunRecord {
    let mut seen = record.clone();
    let RunRecord {
        schema: _,
        run_id: _,
        owner: _,
        lane: _,
        recipe: _,
        subject: _,
        asked,
        domain: _,
        domains: _,
        commit,
        releases_before,
        lint,
        executor: _,
        versions: _,
        started: _,
        finished: _,
        dirty: _,
        owned: _,
        verdict,
        exit_code: _,
        cancelled_by: _,
        lock_waited_seconds: _,
        kept: _,
        deploy_count: _,
        tiers,
        level: _,
        timeline,
        receipt,
        granted,
        errors,
        recipe_code: _,
        doing,
        digest,
        warnings,
    } = &mut seen;
    *granted = std::mem::take(granted).into_iter().map(|privilege| redactor.redact(&privilege)).collect();
    texts(commit.iter_mut().chain(errors).chain(warnings), redactor);
    if let Some(Asked {
        source,
        revision,
        deadline_seconds: _,
        tests_dir,
        fresh: _,
        upgrade_from,
        skip_fetch: _,
        report_only: _,
        keep_on_red_seconds: _,
    }) = asked
    {
        texts(std::iter::once(source).chain(revision).chain(tests_dir).chain(upgrade_from), redactor);
    }
    if let Some(ReleasesBefore { newest, count: _ }) = releases_before {
        texts(newest.iter_mut(), redactor);
    }
    if let Some(Lint { errors: _, warnings: _, findings }) = lint {
        texts(findings.iter_mut(), redactor);
    }
    let names = timeline.iter_mut().map(|Span { kind: _, name, began: _, ended: _, failed: _ }| name);
    texts(names, redactor);
    if let Some(Doing { phase, step, since: _ }) = doing {
        texts(std::iter::once(phase).chain(step), redactor);
    }
    if let Some(digest) = digest {
        hide_in_digest(digest, redactor);
    }
    for tier in tiers {
        hide_in_tier(tier, redactor);
    }
    if let Some(receipt) = receipt {
        hide_in_receipt(receipt, verdict.is_some(), redactor);
    }
    seen
}

fn hide_in_tier(tier: &mut Tier, redactor: &Redactor) {
    let Tier { name: _, status: _, reason, from, version, seconds: _, steps } = tier;
    texts([reason, from, version].into_iter().flatten(), redactor);
    for step in steps {
        let Step { name, status: _, detail, started: _, seconds: _, log } = step;
        texts(std::iter::once(name).chain(detail).chain(log), redactor);
    }
}

fn hide_in_digest(digest: &mut Digest, redactor: &Redactor) {
    let Digest { what, tier: _, step, service, cause, log, blame: _, evidence, next } = digest;
    texts([what, evidence].into_iter().chain(step).chain(service).chain(cause).chain(next), redactor);
    if let Some(LogEnd { service, file, lines }) = log {
        texts([service, file].into_iter().chain(lines), redactor);
    }
}

fn hide_in_receipt(receipt: &mut Receipt, has_ended: bool, redactor: &Redactor) {
    let Receipt { recovered, before, removed, left, verified: _, failures } = receipt;
    things(recovered.iter_mut().chain(removed).chain(left), redactor);
    // Until a run has ended, what was there before it is compared by name: what a killed run had added is the difference.
    if has_ended {
        things(before.iter_mut(), redactor);
    }
    texts(failures.iter_mut(), redactor);
}

fn things<'a>(things: impl Iterator<Item = &'a mut Resource>, redactor: &Redactor) {
    // Nodes are named by the operator.
    texts(things.map(|Resource { kind: _, name, node: _ }| name), redactor);
}

fn texts<'a>(texts: impl Iterator<Item = &'a mut String>, redactor: &Redactor) {
    for text in texts {
        *text = redactor.redact(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Kind;
    use crate::model::digest::Blame;
    use crate::model::record::{RUN_SCHEMA, SpanKind, Status, TierName, Verdict};

    /// A record that says `secret` wherever it can.
    fn says(secret: &str) -> RunRecord {
        let mut record: RunRecord = serde_json::from_value(serde_json::json!({
            "schema": RUN_SCHEMA,
            "run_id": "20260102t030405-1-abcd",
            "owner": { "pid": 1, "start_time": 2, "boot_id": "3" },
            "recipe": "demo",
            "subject": { "pull_request": 7 },
            "domain": "demo-pr7.ci.example.org",
            "domains": [],
            "executor": "local",
            "started": "2026-01-02T03:04:05Z",
            "lock_waited_seconds": 0.0,
            "deploy_count": 1,
            "tiers": [],
            "errors": [],
            "warnings": [],
        }))
        .unwrap();
        let things = || vec![Resource::new(Kind::Volume, format!("a_{secret}"))];
        let text = || Some(format!("is {secret}"));
        record.commit = text();
        record.asked = Some(Asked {
            source: secret.to_owned(),
            revision: text(),
            deadline_seconds: None,
            tests_dir: text(),
            fresh: false,
            upgrade_from: vec![secret.to_owned()],
            skip_fetch: false,
            report_only: false,
            keep_on_red_seconds: None,
        });
        record.releases_before = Some(ReleasesBefore { newest: text(), count: 1 });
        record.lint = Some(Lint { findings: vec![secret.to_owned()], ..Lint::default() });
        record.timeline.push(Span {
            kind: SpanKind::Task,
            name: secret.to_owned(),
            began: record.started,
            ended: None,
            failed: true,
        });
        record.errors = vec![secret.to_owned()];
        record.warnings = vec![secret.to_owned()];
        let step = Step {
            name: format!("recipe/{secret}"),
            status: Status::Failed,
            detail: text(),
            started: None,
            seconds: 1.0,
            log: text(),
        };
        let tier = Tier { reason: text(), from: text(), version: text(), ..Tier::not_run(TierName::Upgrade) };
        let mut doing = Doing::phase(secret, record.started);
        doing.step = text();
        record.doing = Some(doing);
        let mut digest = Digest::new(secret.to_owned(), Blame::Unknown, secret);
        digest.log = Some(LogEnd::new(secret.to_owned(), secret.to_owned(), vec![secret.to_owned()]));
        (digest.step, digest.service) = (text(), text());
        digest.cause.push(secret.to_owned());
        digest.next.push(secret.to_owned());
        record.digest = Some(digest);
        record.tiers = vec![Tier { steps: vec![step], ..tier }];
        record.receipt = Some(Receipt {
            recovered: things(),
            before: things(),
            removed: things(),
            left: things(),
            verified: Vec::new(),
            failures: vec![secret.to_owned()],
        });
        record
    }

    fn shown(record: &RunRecord, secret: &str) -> String {
        let redactor = Redactor::default();
        redactor.hide(secret);
        serde_json::to_string(&redacted(record, &redactor)).unwrap()
    }

    #[test]
    fn a_record_that_has_ended_shows_no_secret() {
        let record = RunRecord { verdict: Some(Verdict::Red), ..says("hunter22") };
        assert!(serde_json::to_string(&record).unwrap().contains("hunter22"));
        assert!(!shown(&record, "hunter22").contains("hunter22"));
    }

    #[test]
    fn what_was_there_before_keeps_its_name_until_the_end() {
        let json = shown(&says("hunter22"), "hunter22");
        assert_eq!(json.matches("hunter22").count(), 1, "{json}");
    }

    #[test]
    fn a_secret_that_is_one_of_the_commands_own_words_makes_no_record_unreadable() {
        for word in ["failed", "volume", "upgrade", "cc-ci.run/v1"] {
            let record =
                RunRecord { verdict: Some(Verdict::Red), errors: vec![word.to_owned()], ..says(word) };
            let read: RunRecord = serde_json::from_str(&shown(&record, word)).unwrap();
            assert_eq!(read.errors, ["[secret]"], "{word}");
            assert_eq!(read.schema, record.schema);
        }
    }
}
