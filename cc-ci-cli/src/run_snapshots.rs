//! Runs, as they are shown and written: `src/snapshots/`.

use std::path::Path;
use std::time::Duration;

use cc_ci_core::report::{self, Log};
use cc_ci_core::run::RunRecord;
use insta::assert_snapshot;
use serde_json::json;

use crate::commands::past;
use crate::render;
use crate::snapshots::{AT, at, both, domain};

fn record(changes: &serde_json::Value) -> RunRecord {
    let tier = |name: &str, status: &str, reason: Option<&str>, steps: serde_json::Value| {
        json!({ "name": name, "status": status, "reason": reason, "from": null, "version": "1.1.0+2", "seconds": 1.25,
                "steps": steps })
    };
    let step = json!([{ "name": "generic/serving", "status": "passed", "detail": null, "seconds": 0.5 }]);
    let mut record = json!({
        "schema": "cc-ci.run/v1", "run_id": "7",
        "owner": { "pid": 4711, "start_time": 99, "boot_id": "b007" },
        "lane": "cold", "recipe": "my-app", "subject": { "pull_request": 12 }, "domain": domain("my-a-012345"),
        "domains": [domain("my-a-012345")], "commit": "0123456789abcdef0123456789abcdef01234567", "executor": "abra",
        "started": AT, "finished": AT, "dirty": false, "owned": true, "verdict": "green", "exit_code": 0,
        "cancelled_by": null, "lock_waited_seconds": 2.5, "deploy_count": 1,
        "tiers": [tier("install", "passed", None, step), tier("upgrade", "skipped", Some("there is no release"), json!([]))],
        "receipt": {
            "recovered": [{ "kind": "volume", "name": "my-a-012345_ci_example_org_data" }], "before": [],
            "removed": [{ "kind": "service", "name": "app" }], "left": [],
            "verified": [domain("my-a-012345")], "failures": []
        },
        "granted": ["port=2222"], "recipe_code": "confined", "errors": [], "warnings": []
    });
    for (key, value) in changes.as_object().unwrap() {
        record[key] = value.clone();
    }
    serde_json::from_value(record).unwrap()
}

#[test]
fn a_green_run() {
    let record = record(&json!({}));
    assert_snapshot!(both(render::run(&record, Some(Path::new("/runs/7/report.html")), false), &record));
}

#[test]
fn a_run_as_a_page_a_badge_and_a_junit_file() {
    let red = record(
        &json!({ "verdict": "red", "digest": digest(), "lint": { "errors": 0, "warnings": 0, "findings": [] },
                              "releases_before": { "newest": "1.0.0+1", "count": 1 } }),
    );
    let log = Log { file: "logs/service-app.log".to_owned(), text: "<one>\n".to_owned(), is_cut: false };
    let page = report::html(&red, &[log]);
    // The style sheet is a file of its own.
    let (head, rest) = page.split_once("<style>").unwrap();
    let (_, body) = rest.split_once("</style>").unwrap();
    assert_snapshot!([head, body, &report::badge(&red), &report::junit(&red)].join("\n"));
}

#[test]
fn runs_that_are_not_green() {
    let failed = json!([{ "name": "install", "status": "failed", "reason": "serving: HTTP 502\nfrom the proxy", "from": null,
                          "version": null, "seconds": 0.5, "steps": [] },
                        { "name": "custom", "status": "not_run", "reason": null, "from": null, "version": null,
                          "seconds": 0.0, "steps": [] }]);
    let left = json!({ "recovered": [], "before": [], "removed": [], "verified": [],
                       "left": [{ "kind": "secret", "name": "key" }], "failures": ["the engine hangs"] });
    let never =
        json!({ "recovered": [], "before": [], "removed": [], "left": [], "verified": [], "failures": [] });
    let screens = [
        json!({ "verdict": "red", "tiers": failed,
                "kept": { "since": AT, "until": "2026-01-02T03:34:05Z", "seconds": 90.5, "ended_by": "term" } }),
        json!({ "verdict": "residue", "receipt": left, "errors": ["something is left"] }),
        json!({ "verdict": "lock_timeout", "tiers": [], "receipt": never, "deploy_count": 0, "owned": false }),
        json!({ "verdict": "refused", "tiers": [], "receipt": null, "commit": null }),
        json!({ "verdict": "cancelled", "lane": "quick", "cancelled_by": "term" }),
        json!({ "verdict": null, "doing": { "phase": "custom", "step": "recipe/custom-a", "since": AT } }),
        json!({ "verdict": "killed", "digest": digest() }),
    ];
    let texts = screens.map(|changes| render::run(&record(&changes), None, false).into_text() + "\n");
    assert_snapshot!(texts.concat());
}

fn digest() -> serde_json::Value {
    json!({ "what": "upgrade failed: the service app ended", "tier": "upgrade", "step": "upgrade", "service": "app",
            "cause": ["app: exit status 3"], "blame": "recipe", "evidence": "the release before was up",
            "log": { "service": "app", "file": "logs/service-app.log", "lines": ["one", "two"] },
            "next": ["cc-ci logs 7 app"] })
}

#[test]
fn past_runs() {
    let row = |changes| past::Row::new(record(&changes), true);
    let rows = [
        row(
            json!({ "verdict": null, "finished": null, "doing": { "phase": "fetch", "step": null, "since": AT } }),
        ),
        row(json!({ "verdict": "red", "run_id": "6", "digest": digest() })),
        past::Row::new(record(&json!({ "verdict": null, "finished": null, "run_id": "5" })), false),
    ];
    let (now, id) = (at() + Duration::from_secs(90), "7".parse().unwrap());
    let (names, texts) =
        (["custom-a", "service-app"].map(str::to_owned), ["one\n", "two"].map(str::to_owned));
    let screens = [
        render::past::runs(&[], now),
        both(render::past::runs(&rows, now), &past::document(&rows)),
        render::past::log_names(&id, &[]),
        both(render::past::log_names(&id, &names), &past::logs_document(&id, &names, None)),
        both(render::past::logs(&names, &texts), &past::logs_document(&id, &names, Some(&texts))),
        render::past::ended(&record(&json!({ "verdict": "cancelled", "cancelled_by": "term" }))),
    ];
    assert_snapshot!(screens.join("\n"));
}
