//! Every screen, help text and form of JSON, as it is: `src/snapshots/`.
//!
//! What is meant to change is written anew with `INSTA_UPDATE=always cargo test -p cc-ci-cli --bins`, and read
//! in the diff.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use cc_ci_core::Failure;
use cc_ci_core::cancellation::Cause;
use cc_ci_core::engine::{Kind, Resource, Unseen};
use cc_ci_core::event::{Event, EventLine, Lagging, Silent};
use cc_ci_core::exit::Exit;
use cc_ci_core::janitor::{Decision, Finding, Report};
use cc_ci_core::lifetime::{Bounds, EmbeddedMode};
use cc_ci_core::lock::{Description, Holder, LockView};
use cc_ci_core::names::Domain;
use cc_ci_core::report::{self, Log};
use cc_ci_core::run::{Outcome, RunRecord, WarmEnd};
use clap::CommandFactory as _;
use insta::assert_snapshot;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use crate::args::{self, Cli, Invocation};
use crate::commands::status::{Left, Live, Status, Waiting, Warm};
use crate::commands::{audit, doctor, janitor, locks, past, recipe, schema, status, warm};
use crate::render::{self, Detail};
use crate::shown::Shown;
use crate::terminal::{error_document, error_text, json_text};

const AT: &str = "2026-01-02T03:04:05Z";

fn domain(label: &str) -> Domain {
    format!("{label}.ci.example.org").parse().unwrap()
}

fn at() -> Timestamp {
    AT.parse().unwrap()
}

/// The text and the JSON of one result, below each other.
fn both(text: impl Into<Shown>, document: &impl Serialize) -> String {
    validate(document);
    format!("{}\n{}", text.into().into_text(), json_text(document).unwrap())
}

/// What is written is what its schema says.
fn validate(document: &impl Serialize) {
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

/// The help of a command, without what the environment of the test says.
fn help(words: &[&str]) -> String {
    let line = ["cc-ci"].into_iter().chain(words.iter().copied()).chain(["--help"]).map(Into::into);
    let Ok(Invocation::Help(text)) = args::parse(line) else { panic!("{words:?} has no help") };
    let plain = |line: &str| match line.split_once("[env: ") {
        Some((before, variable)) => {
            let (name, _) = variable.split_once('=').unwrap();
            let after = variable.rsplit_once(']').map_or("", |(_, after)| after);
            format!("{before}[env: {name}=]{after}")
        }
        None => line.to_owned(),
    };
    text.lines().map(|line| plain(line) + "\n").collect()
}

/// What a command takes beside what all commands take.
fn own_help(words: &[&str]) -> String {
    let common = help(&[]);
    let is_heading = |line: &str| ["Output:", "Engine:", "Places:", "Limits:", "Process:"].contains(&line);
    let is_common = |line: &&str| {
        (line.trim_start().starts_with('-') || is_heading(line)) && common.lines().any(|known| known == *line)
    };
    let mut own = String::new();
    let mut skips = false;
    for line in help(words).lines() {
        // An option's text is indented further, and goes with it.
        skips = is_common(&line) || skips && (line.is_empty() || line.starts_with("          "));
        if !skips {
            own.push_str(line);
            own.push('\n');
        }
    }
    own
}

#[cfg(feature = "demo")]
#[test]
fn help_of_all() {
    assert_snapshot!(help(&[]));
}

#[cfg(feature = "demo")]
#[test]
fn help_of_each_command() {
    fn each(command: &clap::Command, path: &mut Vec<String>, all: &mut String) {
        for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
            path.push(command.get_name().to_owned());
            let words: Vec<&str> = path.iter().map(String::as_str).collect();
            all.push_str(
                &["==== cc-ci ", words.join(" ").as_str(), " --help\n", &own_help(&words), "\n"].concat(),
            );
            each(command, path, all);
            path.pop();
        }
    }
    let mut all = String::new();
    each(&Cli::command(), &mut Vec::new(), &mut all);
    assert_snapshot!(all);
}

#[test]
fn help_on_topics() {
    let topic = |word| {
        let Ok(Invocation::Help(text)) = args::parse(["cc-ci", "help", word].map(Into::into)) else {
            panic!("{word} is no topic")
        };
        format!("==== cc-ci help {word}\n{text}\n")
    };
    assert_snapshot!(["environment", "exit-codes", "config"].map(topic).concat());
}

#[test]
fn the_version_names_the_commit() {
    let Ok(Invocation::Help(text)) = args::parse(["cc-ci", "--version"].map(Into::into)) else { panic!() };
    let version = text.trim().strip_prefix("cc-ci ").unwrap();
    let git = |words: &[&str]| {
        let mut git = Command::new("git");
        let output = git.current_dir(env!("CARGO_MANIFEST_DIR")).args(words).output().ok()?;
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    };
    // A source without a repository has none.
    let is_ours = git(&["ls-files", "build.rs"]).is_some_and(|listed| !listed.is_empty());
    let commit = is_ours.then(|| git(&["rev-parse", "--short=12", "HEAD"]).unwrap());
    let named = |commit: String| format!(" ({}", commit.trim());
    let begin = [env!("CARGO_PKG_VERSION"), &commit.map(named).unwrap_or_default()].concat();
    assert!(["", ")", "-dirty)"].contains(&version.strip_prefix(&begin).unwrap_or("not it")), "{text}");
}

#[test]
fn usage_errors() {
    let refused = |words: &[&str]| match args::parse(["cc-ci"].iter().chain(words).map(Into::into)) {
        // The line on usage names what the environment gives.
        Err(text) => {
            let lines = text.lines().filter(|line| !line.starts_with("Usage: "));
            lines.fold(format!("$ cc-ci {}\n", words.join(" ")), |shown, line| shown + line + "\n")
        }
        Ok(_) => panic!("{words:?} is accepted"),
    };
    let texts = [
        &["jantor"][..],
        &["report"],
        &["help", "jantor"],
        &["run", "x", "--deadline", "soon"],
        &["audit", "a_b"],
    ]
    .map(refused);
    assert_snapshot!(texts.concat());
}

#[test]
fn errors() {
    let beneath = std::io::Error::other("no such\nfile");
    let failure = Failure::host("can't read the configuration")
        .with_source(beneath)
        .with_hint("name another: --config");
    let document = error_document(&failure, Exit::Harness);
    validate(&document);
    let document = json_text(&document).unwrap();
    assert_snapshot!(error_text(&failure) + &error_text(&Failure::configuration("no suffix")) + &document);
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
        json!({ "verdict": "red", "tiers": failed }),
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
        Event::LockHolder { domain: domain("my-a-012345"), holder, queue: 2 },
        Event::LockHolder { domain: domain("my-a-012345"), holder: None, queue: 0 },
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
        ],
        warnings: vec!["one .env file can't be read".to_owned()],
        in_the_way: vec!["/local/ports is no directory of this executor's".to_owned()],
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
    let left = Left { domain: domain("d-012345"), by: vec!["3".parse().unwrap()], exists };
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
        left: vec![left],
        warm: vec![warm],
        warnings: vec!["a run.json can't be read".to_owned()],
        ..none
    };
    assert_snapshot!(format!("{quiet}\n{}", both(render::status(&busy), &status::document(&busy))));
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
    let app = |label: &str, state| App { domain: domain(label), state, exists: Vec::new(), reason: None };
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
        App {
            exists: vec![Resource::new(Kind::UnseenNode, "worker-2")],
            ..app("e-012345", State::NotVerified)
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
