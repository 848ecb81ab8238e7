//! Every screen and form of JSON, as it is: `src/snapshots/`.
//!
//! What is meant to change is written anew with `INSTA_UPDATE=always cargo test -p cc-ci-cli --bins`, and read
//! in the diff.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use cc_ci_core::Quarantine;
use cc_ci_core::cancellation::Cause;
use cc_ci_core::engine::{Kind, Resource, Unseen};
use cc_ci_core::event::{Event, EventLine, Lagging, Silent};
use cc_ci_core::exit::Exit;
use cc_ci_core::janitor::{Decision, Finding, Report};
use cc_ci_core::lifetime::{Bounds, EmbeddedMode};
use cc_ci_core::lock::{Description, Holder, LockView};
use cc_ci_core::names::Domain;
use cc_ci_core::run::{Outcome, WarmEnd};
use insta::assert_snapshot;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use crate::args;
use crate::commands::status::{Left, Live, Status, Waiting, Warm};
use crate::commands::{audit, doctor, janitor, locks, recipe, schema, status, warm};
use crate::render::{self, Detail};
use crate::shown::Shown;
use crate::terminal::json_text;

pub(crate) const AT: &str = "2026-01-02T03:04:05Z";

pub(crate) fn domain(label: &str) -> Domain {
    format!("{label}.ci.example.org").parse().unwrap()
}

pub(crate) fn at() -> Timestamp {
    AT.parse().unwrap()
}

/// The text and the JSON of one result, below each other.
pub(crate) fn both(text: impl Into<Shown>, document: &impl Serialize) -> String {
    validate(document);
    format!("{}\n{}", text.into().into_text(), json_text(document).unwrap())
}

/// What is written is what its schema says.
pub(crate) fn validate(document: &impl Serialize) {
    let value = serde_json::to_value(document).unwrap();
    let form = value["schema"].as_str().unwrap().strip_prefix("cc-ci.").unwrap().strip_suffix("/v1").unwrap();
    let form = <args::Form as clap::ValueEnum>::from_str(form, false).unwrap();
    let schema = serde_json::to_value(schema::of(form)).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let wrong: Vec<String> =
        validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert_eq!(wrong, [""; 0], "{value:#}");
    let odd = validator.iter_errors(&json!({ "schema": value["schema"] })).count();
    assert!(odd > 0, "the schema of {form:?} asks for nothing");
}

#[cfg(feature = "demo")]
#[test]
fn claims_of_the_demo() {
    use crate::commands::demo::{Claim, document};
    let claim = |claim, holds| Claim {
        claim,
        holds,
        detail: "seen".to_owned(),
        last_lines: Vec::new(),
        seconds: 1.0,
    };
    let claims = [
        claim("a run leaves nothing", true),
        Claim { last_lines: vec!["one".to_owned()], ..claim("and nobody", false) },
    ];
    let lines: String = claims.iter().map(|claim| render::claim(claim, false).into_text()).collect();
    let ends = [&claims[..1], &claims].map(|claims| render::demo_end(claims, Duration::from_secs(3)));
    assert_snapshot!(both(lines + &ends.concat(), &document(&claims)));
}

#[test]
fn configuration_that_holds() {
    use crate::commands::config;
    use crate::config::Row;
    let row = |key: &str, value: Option<&str>, origin: &str| Row {
        key: key.to_owned(),
        value: value.map(str::to_owned),
        origin: origin.to_owned(),
    };
    let rows = [
        row("suffix", Some("ci.example.org"), "CCCI_SUFFIX"),
        row("lock_group", None, "default"),
        row("recipes.my-app.allow", Some("port=2222"), "/etc/cc-ci/config.toml:7"),
    ];
    assert_snapshot!(both(config::text(&rows), &config::document(&rows)));
}

#[test]
fn events() {
    let holder = Some(holder());
    let step = |status: &str, detail| Event::Step {
        tier: "custom".to_owned(),
        name: "recipe/custom-a".to_owned(),
        status: status.to_owned(),
        detail,
        took: Duration::from_millis(1250),
    };
    let lagging =
        vec![Lagging { service: "app".to_owned(), state: "starting (connection refused)".to_owned() }];
    let events = [
        Event::Phase { phase: "install".to_owned(), limit: None },
        Event::LockWaiting { domain: domain("my-a-012345"), limit: None },
        Event::LockHolder { domain: domain("my-a-012345"), holder: holder.clone(), queue: 2 },
        Event::LockHolder { domain: domain("my-a-012345"), holder: None, queue: 0 },
        Event::AdmissionWaiting {
            what: "the one place of this host (limits.runs)".to_owned(),
            holders: holder.into_iter().collect(),
            limit: Duration::from_hours(1),
        },
        Event::Admitted { waited: Duration::from_millis(1250) },
        step("passed", None),
        step("failed", Some("two\nlines".to_owned())),
        Event::StepStarted { tier: "custom".to_owned(), name: "recipe/custom-a".to_owned(), limit: None },
        Event::Converging {
            domain: domain("my-a-012345"),
            limit: Duration::from_mins(5),
            up: 1,
            of: 2,
            lagging,
        },
        Event::Kept {
            run_id: "7".parse().unwrap(),
            domain: domain("my-a-012345"),
            until: at(),
            look: vec!["http://127.0.0.1:4000/".to_owned(), "cc-ci logs 7".to_owned()],
        },
        Event::Sweep { done: 0, of: None },
        Event::Sweep { done: 256, of: Some(300) },
        Event::ChildrenEnded { groups: 1, escaped: 0, left: vec![12], signalled_after: None },
        Event::Cancelled { cause: Cause::Term },
        Event::Note { text: "two\nlines".to_owned() },
        Event::Warning { text: "\u{1b}[2J ::error::".to_owned() },
        Event::Output { of: "custom.sh".to_owned(), text: "one\ntwo\n".to_owned() },
        Event::Output { of: "custom.sh".to_owned(), text: "\n".to_owned() },
    ];
    for event in &events {
        validate(&EventLine::new(at(), event));
    }
    let shown = |detail| {
        let texts = events.iter().filter_map(|event| render::event(event, detail));
        texts.map(|text| Shown::from(text).into_text()).collect::<String>()
    };
    let all =
        [Detail::Little, Detail::Usual, Detail::All].map(|detail| format!("{detail:?}:\n{}", shown(detail)));
    let asked =
        [None, Some("install 3s".to_owned())].map(|line| render::answer(line, &["sh (pid 3)".to_owned()]));
    assert_snapshot!(all.concat() + "Asked:\n" + &asked.concat() + &render::answer(None, &[]));
}

fn holder() -> Holder {
    let description = Description {
        run_id: Some("6".parse().unwrap()),
        recipe: Some("my-app".parse().unwrap()),
        phase: "install".to_owned(),
    };
    Holder { pid: 4711, description: Some(description), since: Some(at()) }
}

#[test]
fn janitor_report() {
    let finding = |label: &str, decision| Finding {
        domain: domain(label),
        decision,
        removed: Vec::new(),
        left: Vec::new(),
        holder: None,
        detail: Vec::new(),
    };
    let removed = vec![Resource::new(Kind::Volume, "data"), Resource::new(Kind::EnvFile, "/a/b.env")];
    let left = vec![Resource::new(Kind::Service, "app")];
    let report = Report {
        findings: vec![
            Finding { removed, ..finding("a-012345", Decision::Reaped) },
            Finding { left, detail: vec!["it hangs".to_owned()], ..finding("b-012345", Decision::Failed) },
            Finding { holder: Some(holder()), ..finding("c-012345", Decision::Live) },
            finding("d-012345", Decision::StaleLock),
            finding("e-012345", Decision::NotReached),
            Finding {
                left: vec![Resource::new(Kind::Volume, "data")],
                detail: vec![quarantine("f-012345").in_words()],
                ..finding("f-012345", Decision::Quarantined)
            },
        ],
        warnings: vec!["one .env file can't be read".to_owned()],
        in_the_way: vec!["/local/ports is no directory of this executor's".to_owned()],
        images: vec!["docker.io/library/nginx:1.27".to_owned(), "ghcr.io/a/b:1".to_owned()],
    };
    let nothing = render::janitor(&Report::default(), Detail::Usual);
    let shown = both(render::janitor(&report, Detail::Usual), &janitor::document(false, &report));
    assert_snapshot!(format!("{nothing}\n{shown}\n-v:\n{}", render::janitor(&report, Detail::All)));
}

#[test]
fn locks_that_are_held_and_free() {
    let held = LockView {
        domain: domain("a-012345"),
        held: true,
        holder: Some(holder()),
        waiting: 1,
        waiters: vec![4712],
        since: Some(at()),
    };
    let unknown = LockView { domain: domain("b-012345"), holder: None, since: None, ..held.clone() };
    let free =
        LockView { domain: domain("c-012345"), held: false, waiting: 0, waiters: vec![], ..unknown.clone() };
    let views = [held, unknown, free];
    let now = std::time::SystemTime::from(at()) + Duration::from_secs(90);
    let nothing = render::locks(&[], now);
    assert_snapshot!(format!("{nothing}\n{}", both(render::locks(&views, now), &locks::document(&views))));
}

#[test]
fn status_of_a_busy_host() {
    let (id, recipe) = (Some("7".parse().unwrap()), Some("my-app".parse().unwrap()));
    let hour = Some(at() - Duration::from_hours(1));
    let live = Live {
        domain: domain("a-012345"),
        run_id: id.clone(),
        recipe: recipe.clone(),
        phase: Some("install".to_owned()),
        holder: Some(4711),
        since: hour,
        warm: false,
        exists: BTreeMap::from([(Kind::Service, 2), (Kind::Volume, 1)]),
        waiting: 1,
    };
    let unknown = Live { run_id: None, phase: None, holder: None, ..empty_live() };
    let warm_app = Live { run_id: id, recipe: recipe.clone(), warm: true, ..empty_live() };
    let waiting = Waiting {
        run_id: "8".parse().unwrap(),
        recipe,
        domain: Some(domain("a-012345")),
        pid: 4712,
        since: hour,
    };
    let fetching =
        Waiting { run_id: "9".parse().unwrap(), recipe: None, domain: None, pid: 4713, since: None };
    let exists = BTreeMap::from([(Kind::Process, 2), (Kind::Secret, 1)]);
    let left = Left { domain: domain("d-012345"), by: vec!["3".parse().unwrap()], exists, quarantine: None };
    let quarantine = Some(quarantine("e-012345"));
    let put_aside =
        Left { domain: domain("e-012345"), by: Vec::new(), exists: left.exists.clone(), quarantine };
    let warm = Warm { domain: domain("my-app"), by: vec!["2".parse().unwrap()] };
    let none = Status {
        engine: "local: processes on this host, below /var/lib/cc-ci-local".to_owned(),
        at: at(),
        live: Vec::new(),
        waiting: Vec::new(),
        left: Vec::new(),
        warm: Vec::new(),
        warnings: Vec::new(),
    };
    let quiet = render::status(&none) + "\n--watch:\n" + &render::watched(&none);
    let busy = Status {
        live: vec![live, unknown, warm_app],
        waiting: vec![waiting, fetching],
        left: vec![left, put_aside],
        warm: vec![warm],
        warnings: vec!["a run.json can't be read".to_owned()],
        ..none
    };
    assert_snapshot!(format!("{quiet}\n{}", both(render::status(&busy), &status::document(&busy))));
}

fn quarantine(label: &str) -> Quarantine {
    serde_json::from_value(json!({
        "schema": "cc-ci.quarantine/v1", "domain": domain(label), "failures": 4, "first": AT, "last": AT, "boot_id": "b007",
        "reasons": ["volume data is used by a foreign container"]
    }))
    .unwrap()
}

fn empty_live() -> Live {
    Live {
        domain: domain("b-012345"),
        run_id: None,
        recipe: None,
        phase: None,
        holder: None,
        since: None,
        warm: false,
        exists: BTreeMap::new(),
        waiting: 0,
    }
}

#[test]
fn warm_apps() {
    let end = |outcome, reasons: &[&str]| WarmEnd {
        recipe: "my-app".parse().unwrap(),
        domain: Some(domain("my-app")),
        run_id: None,
        version: Some("1.0.0+1".to_owned()),
        outcome,
        reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
        removed: Vec::new(),
        errors: Vec::new(),
        hint: None,
        exit: Exit::Green,
    };
    let removed = vec![Resource::new(Kind::Config, "new")];
    let ends = [
        end(Outcome::AtBaseline, &[]),
        WarmEnd {
            removed,
            run_id: Some("w".parse().unwrap()),
            ..end(Outcome::Restored, &["a service is gone"])
        },
        WarmEnd {
            errors: vec!["it does not come up".to_owned()],
            hint: Some("see its log".to_owned()),
            ..end(Outcome::Failed, &["another image"])
        },
    ];
    assert_snapshot!(both(render::warm(&ends, Detail::Usual), &warm::document(true, &ends)));
    assert!(render::warm(&ends, Detail::All).contains("\n    removed config new\n"));
}

#[test]
fn audit_of_all_states() {
    use audit::{App, State};
    let app = |label: &str, state| App {
        domain: domain(label),
        state,
        exists: Vec::new(),
        reason: None,
        quarantine: None,
    };
    let exists = || vec![Resource::new(Kind::Service, "app"), Resource::new(Kind::Volume, "data")];
    let apps = [
        App { exists: exists(), ..app("a-012345", State::Live) },
        App { exists: exists(), ..app("b-012345", State::Left) },
        app("c-012345", State::Empty),
        App {
            reason: Some("it is a symlink".to_owned()),
            exists: exists(),
            ..app("d-012345", State::Refused)
        },
        app("my-app", State::NotARunApp),
        App { exists: exists(), quarantine: Some(quarantine("e-012345")), ..app("e-012345", State::Left) },
        App {
            exists: vec![Resource::new(Kind::UnseenNode, "worker-2")],
            ..app("f-012345", State::NotVerified)
        },
    ];
    let since = "2026-01-02T03:04:05Z".parse().unwrap();
    let why = "no Docker engine answers at tcp://10.0.0.3:2376 (node worker-2)".to_owned();
    let unseen = [("worker-2".to_owned(), Unseen { since, why })].into();
    let nothing = audit::text(&[], &[].into());
    assert_snapshot!(format!(
        "{nothing}\n{}",
        both(audit::text(&apps, &unseen), &audit::document(&apps, &unseen))
    ));
}

#[test]
fn doctor_of_a_sick_host() {
    let checks = [
        doctor::Check::of("executor").fact("local (no abra in PATH)"),
        doctor::Check::of("lock directory")
            .fact("/run/lock")
            .problem("anybody may write there", "chmod +t /run/lock"),
        doctor::Check::of("git").problem("there is no git in PATH", "apt-get install git"),
    ];
    assert_snapshot!(both(doctor::text(&checks), &doctor::document(&checks)));
}

#[test]
fn findings_of_a_recipe_check() {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("my-app");
    std::fs::create_dir(&tree).unwrap();
    std::fs::write(tree.join("compose.yml"), "version: \"3.8\"\nservices:\n  app:\n    image: nginx\n")
        .unwrap();
    std::fs::write(tree.join(".env.sample"), "TYPE=my-app\nDOMAIN=my-app.example.com\n").unwrap();
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=m", "-c", "user.email=m@example.org", "-c", "commit.gpgsign=false"];
        let done = Command::new("git")
            .arg("-C")
            .arg(&tree)
            .args(identity)
            .args(arguments)
            .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_SYSTEM", "/dev/null")])
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-qm", "one"]);
    let lifetime = EmbeddedMode::new(Bounds::default(), Arc::new(Silent)).unwrap();
    let report = recipe::report(&tree, &lifetime).unwrap();
    assert_snapshot!(both(recipe::text(&report, false), &recipe::document(&report)));
    assert_snapshot!("sarif", json_text(&recipe::sarif::log(&report)).unwrap());
}
