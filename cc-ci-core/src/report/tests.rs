//! What holds of every report, whatever its record says.

use std::collections::BTreeSet;

use base64::Engine as _;
use serde_json::{Value, json};
use sha2::Digest as _;

use super::*;
use crate::sys::text::sanitize;

/// A run in which something of everything happened.
fn record() -> Value {
    let step = |name: &str, status: &str, detail: Value, second: u32, log: Value| {
        json!({ "name": name, "status": status, "detail": detail, "started": format!("2026-01-02T03:05:{second:02}Z"),
                "seconds": 1.5, "log": log })
    };
    let tier = |name: &str, status: &str, from: Value, steps: Value| {
        json!({ "name": name, "status": status, "reason": if status == "passed" { Value::Null } else { json!("for a reason") },
                "from": from, "version": "2.0.0+1", "started": "2026-01-02T03:05:00Z", "seconds": 12.25, "steps": steps })
    };
    let span = |kind: &str, name: &str, began: u32, ended: u32, failed: bool| {
        json!({ "kind": kind, "name": name, "began": format!("2026-01-02T03:05:{began:02}Z"),
                "ended": format!("2026-01-02T03:05:{ended:02}Z"), "failed": failed })
    };
    let things = |name: &str| json!([{ "kind": "volume", "name": name }]);
    let mut record = json!({
        "schema": "cc-ci.run/v1", "run_id": "7", "owner": { "pid": 4711, "start_time": 99, "boot_id": "b007" },
        "lane": "cold", "recipe": "my-app", "subject": { "ref": "main" }, "domain": "my-a-012345.ci.example.org",
        "domains": ["my-a-012345.ci.example.org"], "commit": "0123456789abcdef0123456789abcdef01234567",
        "releases_before": { "newest": "1.0.0+1", "count": 3 },
        "lint": { "errors": 0, "warnings": 1, "findings": ["warning: compose.yml:3: volume-outside: it is elsewhere"] },
        "executor": "abra", "versions": { "cc_ci": "0.1.0", "deployer": "abra 0.10", "engine": "Docker 28" },
        "started": "2026-01-02T03:04:50Z", "finished": "2026-01-02T03:06:20Z", "owned": true, "verdict": "red",
        "exit_code": 1, "cancelled_by": "term", "lock_waited_seconds": 2.5, "deploy_count": 1,
        "tiers": [
            tier("install", "passed", Value::Null, json!([step("deploy", "passed", Value::Null, 1, Value::Null)])),
            tier("upgrade", "failed", json!("1.0.0+1"), json!([
                step("recipe/upgrade-a", "failed", json!("exit status 1"), 20, json!("logs/upgrade-recipe-upgrade-a.log")),
                step("generic/data", "not_run", json!("the engine hangs"), 30, Value::Null),
            ])),
            tier("backup", "skipped", Value::Null, json!([])),
            tier("custom", "not_run", Value::Null, json!([])),
        ],
    });
    let more = json!({
        "level": 3,
        "timeline": [
            span("phase", "lock", 0, 1, false), span("phase", "install", 1, 19, false), span("work", "pull app", 2, 9, false),
            span("task", "app abcdef", 10, 50, true), span("phase", "upgrade", 19, 40, true),
        ],
        "receipt": { "recovered": things("a"), "before": things("b"), "removed": things("c"), "left": things("d"),
                     "verified": [], "failures": ["it hangs"] },
        "granted": ["port=2222"], "recipe_code": "confined", "doing": { "phase": "custom", "step": "x", "since": "2026-01-02T03:04:50Z" },
        "digest": { "what": "upgrade failed", "tier": "upgrade", "step": "recipe/upgrade-a", "service": "app",
                    "cause": ["Traceback", "KeyError"], "blame": "recipe", "evidence": "the release before was up",
                    "log": { "service": "app", "file": "logs/service-app.log", "lines": ["one", "two"] }, "next": ["cc-ci logs 7 app"] },
        "errors": ["an error"], "warnings": ["a warning"]
    });
    record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    record
}

fn logs(text: &str) -> Vec<Log> {
    ["logs/upgrade-recipe-upgrade-a.log", "logs/service-app.log"]
        .map(|file| Log { file: file.to_owned(), text: text.to_owned(), is_cut: true })
        .into()
}

fn parsed(record: Value) -> RunRecord {
    serde_json::from_value(record).unwrap()
}

/// The record with `text` wherever a text may stand: what is parsed refuses it, and stays.
fn saying(text: &str) -> (RunRecord, usize) {
    fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::String(_) => found.push(path.to_owned()),
            Value::Array(all) => {
                all.iter().enumerate().for_each(|(at, one)| leaves(one, &format!("{path}/{at}"), found));
            }
            Value::Object(all) => {
                all.iter().for_each(|(key, one)| leaves(one, &format!("{path}/{key}"), found));
            }
            _ => {}
        }
    }
    let (mut record, mut paths, mut said) = (record(), Vec::new(), 0);
    leaves(&record, "", &mut paths);
    for path in paths {
        let before = std::mem::replace(record.pointer_mut(&path).unwrap(), json!(text));
        if serde_json::from_value::<RunRecord>(record.clone()).is_ok() {
            said += 1;
        } else {
            *record.pointer_mut(&path).unwrap() = before;
        }
    }
    (parsed(record), said)
}

const HOSTILE: &str = "\u{1b}[2J\u{202e}</pre></style><script>alert(1)</script><img src=x onerror='a'>\"><!-- ' ]]> &lt;\n::error::x";

/// The names of all elements of a page or an image.
fn elements(text: &str) -> BTreeSet<&str> {
    let name = |rest: &str| rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
    text.split('<').skip(1).map(|rest| rest.trim_start_matches('/')).map(|rest| &rest[..name(rest)]).collect()
}

#[test]
fn no_text_from_outside_is_more_than_text() {
    let (hostile, said) = saying(HOSTILE);
    assert!(said > 35, "it stands in {said} places");
    let page = html(&hostile, &logs(HOSTILE));
    assert!(page.matches("&#60;script&#62;").count() >= 30, "it is shown, and as text");
    let plain = html(&parsed(record()), &logs("said"));
    assert_eq!(elements(&page), elements(&plain), "no element is of its making");
    let more: Vec<String> = tags(&page).difference(&tags(&plain)).cloned().collect();
    assert_eq!(more, [""; 0], "and no attribute");
    assert!(!page.contains(['\u{1b}', '\u{202e}']) && !page.contains("\n::"));
    assert_eq!(sanitize(&page), page, "a terminal shows what the file has");
    let (suites, of_plain) = (junit(&hostile), junit(&parsed(record())));
    assert_eq!(elements(&suites), elements(&of_plain));
    assert_eq!(sanitize(&suites), suites);
    assert!(suites.contains("&lt;script&gt;") && !suites.contains(['\u{1b}', '\u{202e}']), "{suites}");
    assert_eq!(elements(&badge(&hostile)), elements(&badge(&parsed(record()))));
}

/// All tags of a page with the names of their attributes.
fn tags(page: &str) -> BTreeSet<String> {
    let tags = page.split('<').filter_map(|rest| rest.split_once('>')).map(|(tag, _)| tag);
    tags.map(|tag| tag.split('"').step_by(2).collect::<Vec<_>>().join("\"\"")).collect()
}

#[test]
fn a_page_needs_nothing_beside_it_and_its_policy_allows_nothing_else() {
    let page = html(&parsed(record()), &logs("said"));
    let digest = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(page::STYLE));
    assert_eq!(page::STYLE_HASH, format!("sha256-{digest}"), "the style sheet was changed: so must this be");
    assert!(page.contains(&format!("default-src 'none'; style-src '{}'", page::STYLE_HASH)));
    let outside = ["http://", "https://", "src=", "url(", "@import", "<script", " style=", " on"];
    let found: Vec<&str> = outside.into_iter().filter(|word| elements_text(&page).contains(word)).collect();
    assert_eq!(found, [""; 0]);
}

/// The page's tags and style sheet, without the text between them.
fn elements_text(page: &str) -> String {
    let tags = page.split('<').filter_map(|rest| rest.split_once('>')).map(|(tag, _)| tag);
    tags.collect::<Vec<_>>().join("\n") + page::STYLE
}

#[test]
fn the_same_run_is_the_same_page() {
    let make =
        || (html(&parsed(record()), &logs("said")), junit(&parsed(record())), badge(&parsed(record())));
    assert_eq!(make(), make());
}

#[test]
fn each_log_is_in_one_place_and_its_steps_are_open_where_they_failed() {
    let page = html(&parsed(record()), &logs("what it said"));
    // The service's own, and the test's in its step.
    assert_eq!(page.matches("what it said").count(), 2);
    assert_eq!(page.matches("<details open>").count(), 2, "the tier that failed, and its step");
}

#[test]
fn whatever_times_and_numbers_a_record_has_there_is_a_page() {
    let (first, last) = ("-009999-01-02T01:59:59Z", "9999-12-30T22:00:00.999999999Z");
    for (path, value) in [
        ("/timeline/0/began", json!(first)),
        ("/timeline/0/ended", json!(first)),
        ("/timeline/4/ended", json!(last)),
        ("/tiers/0/steps/0/seconds", json!(1e308)),
        ("/tiers/0/steps/0/seconds", json!(-1.0)),
        ("/tiers/0/steps/0/started", json!(last)),
        ("/tiers/0/seconds", json!(1e308)),
        ("/lock_waited_seconds", json!(1e300)),
        ("/finished", json!(first)),
        ("/started", json!(last)),
    ] {
        let mut odd = record();
        *odd.pointer_mut(path).unwrap() = value;
        let (page, suites) = (html(&parsed(odd.clone()), &[]), junit(&parsed(odd)));
        assert!(page.ends_with("</html>") && suites.contains("</testsuites>"), "{path}");
        assert!(!page.contains("NaN") && !page.contains("inf%"), "{path}");
    }
    let mut many = record();
    many["timeline"] = Value::Array(vec![record()["timeline"][0].clone(); 5000]);
    many["warnings"] = Value::Array(vec![json!("x".repeat(10_000)); 5000]);
    let step = |status: &str| json!({ "name": status, "status": status, "detail": null, "seconds": 1.0 });
    many["tiers"][0]["steps"] = Value::Array([vec![step("passed"); 600], vec![step("failed")]].concat());
    many["digest"]["next"] = Value::Array(vec![json!("next"); 502]);
    let page = html(&parsed(many), &[]);
    assert!(page.len() < 2 << 20, "a page is bounded");
    assert!(
        page.contains(">failed <span") && page.contains(">and 101 more<"),
        "and shows the step that failed"
    );
    assert!(page.contains(">and 2 more<"));
}

#[test]
fn of_what_has_no_end_no_time_is_told() {
    let mut killed = record();
    (killed["finished"], killed["timeline"][4]["ended"]) = (Value::Null, Value::Null);
    let page = html(&parsed(killed), &[]);
    assert!(page.contains(">upgrade ?</text>") && page.contains("<td class=\"number\">?</td>"), "{page}");
    assert!(!page.contains("<dt>Took</dt>"));
}

#[test]
fn what_was_skipped_failed_or_not_run_is_each_its_own_to_a_ci_system() {
    let suites = junit(&parsed(record()));
    let suite = |name: &str| {
        let from = suites.find(&format!("<testsuite name=\"{name}")).unwrap();
        suites[from..].split("</testsuite>").next().unwrap().to_owned()
    };
    assert!(suite("upgrade").contains("<failure message=\"exit status 1\""));
    assert!(suite("upgrade").contains("<error message=\"the engine hangs\" type=\"not_run\""));
    assert!(suite("backup").contains("<skipped message=\"for a reason\""));
    assert!(suite("custom").contains("<error message=\"for a reason\" type=\"not_run\""));
    assert!(suite("run").contains("<failure message=\"upgrade failed\""), "{suites}");
    let ended = RunRecord { verdict: None, tiers: Vec::new(), ..parsed(record()) };
    assert!(junit(&ended).contains("errors=\"1\""), "a run without a verdict is not green");
}

#[test]
fn a_badge_says_the_level_or_how_the_run_ended() {
    let of = |verdict: Value| {
        let mut record = record();
        record["verdict"] = verdict;
        badge(&parsed(record))
    };
    assert!(of(json!("red")).contains("aria-label=\"cc-ci: level 2\""), "{}", of(json!("red")));
    assert!(of(json!("cancelled")).contains("aria-label=\"cc-ci: cancelled\""));
    assert!(of(Value::Null).contains("aria-label=\"cc-ci: unfinished\""));
}
