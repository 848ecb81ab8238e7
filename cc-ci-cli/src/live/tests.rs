use std::io::{BufRead as _, BufReader};

use cc_ci_core::event::Lagging;
use insta::assert_snapshot;

use super::*;

const SLOWEST: Duration = Duration::from_hours(1);

fn domain() -> cc_ci_core::names::Domain {
    "my-a-012345.ci.example.org".parse().unwrap()
}

fn started() -> Event {
    Event::RunStarted {
        run_id: "7".parse().unwrap(),
        recipe: "my-app".parse().unwrap(),
        domain: domain(),
        executor: "local".to_owned(),
        recipe_code: "confined".to_owned(),
    }
}

fn phase(name: &str, limit: Option<u64>) -> Event {
    Event::Phase { phase: name.to_owned(), limit: limit.map(Duration::from_secs) }
}

fn begins(name: &str, limit: Option<u64>) -> Event {
    let limit = limit.map(Duration::from_secs);
    Event::StepStarted { tier: "custom".to_owned(), name: name.to_owned(), limit }
}

fn ends(name: &str, status: &str) -> Event {
    let (tier, name, status) = ("custom".to_owned(), name.to_owned(), status.to_owned());
    Event::Step { tier, name, status, detail: None, took: Duration::from_secs(1) }
}

fn converging(up: usize, of: usize, states: &[(&str, &str)]) -> Event {
    let lagging = states
        .iter()
        .map(|(service, state)| Lagging { service: (*service).to_owned(), state: (*state).to_owned() });
    let (domain, limit) = (domain(), Duration::from_mins(5));
    Event::Converging { domain, limit, up, of, lagging: lagging.collect() }
}

/// What is shown, each second of these after the event before it.
fn screens(events: &[(u64, Event)]) -> String {
    let (mut progress, mut now, mut text) = (Progress::default(), Instant::now(), String::new());
    for (after, event) in events {
        progress.note(event, now);
        now += Duration::from_secs(*after);
        let line = progress.dated_line(now).unwrap_or_default();
        text += &[progress.panel(now).as_str(), "\n| ", line.as_str(), "\n\n"].concat();
    }
    text
}

#[test]
fn what_goes_on_is_shown_with_its_age_and_limit() {
    let lock = Event::LockWaiting { domain: domain(), limit: Some(Duration::from_hours(1)) };
    let acquired = Event::LockAcquired { domain: domain(), waited: Duration::from_secs(90) };
    assert_snapshot!(screens(&[
        (1, started()),
        (2, phase("fetch", None)),
        (0, phase("lock", None)),
        (90, lock),
        (1, acquired),
        (3, phase("install", None)),
        (1, begins("deploy", None)),
        (42, converging(1, 2, &[("app", "starting (connection refused)")])),
        (1, converging(2, 2, &[])),
        (0, ends("deploy", "passed")),
        (0, ends("generic/serving", "failed")),
        (2, phase("custom", None)),
        (20, begins("recipe/custom-a", Some(600))),
        (0, ends("recipe/custom-a", "passed")),
        (5, phase("teardown", Some(600))),
    ]));
}

#[test]
fn a_pass_of_the_janitor_is_shown_while_it_goes_on() {
    let sweep = |done, of| Event::Sweep { done, of };
    let screens = screens(&[(3, sweep(0, None)), (2, sweep(256, Some(300))), (1, sweep(300, Some(300)))]);
    assert_snapshot!(screens, @r"
        looks what is there 3s
    | looks what is there 3s

        256 of 300 domains looked after, 2s
    | 256 of 300 domains looked after, 2s


    | 

    ");
}

#[test]
fn a_wait_for_services_begins_anew_once_all_were_up() {
    let mut progress = Progress::default();
    let (began, minute) = (Instant::now(), Duration::from_mins(1));
    progress.note(&converging(0, 1, &[("app", "starting")]), began);
    progress.note(&converging(0, 1, &[("app", "restarting")]), began + minute);
    assert_eq!(progress.line(began + minute).unwrap(), "0 of 1 services up after 1m of 5m: app: restarting");
    progress.note(&converging(1, 1, &[]), began + minute);
    progress.note(&converging(0, 1, &[("app", "restarting")]), began + minute * 2);
    assert!(progress.line(began + minute * 2).unwrap().contains("after 0s of 5m"));
}

#[test]
fn what_takes_long_is_called_slow_each_time_that_it_took_twice_as_long() {
    let mut progress = Progress::default();
    let began = Instant::now();
    let after = |progress: &mut Progress, seconds| progress.slow(began + Duration::from_secs(seconds));
    progress.note(&phase("custom", None), began);
    progress.note(&begins("recipe/custom-a", Some(600)), began);
    assert_eq!(after(&mut progress, 59), None);
    let slow = "SLOW [> 1m] custom: recipe/custom-a; it is ended after 10m";
    assert_eq!(after(&mut progress, 60).as_deref(), Some(slow));
    assert_eq!(after(&mut progress, 119), None);
    assert!(after(&mut progress, 120).unwrap().starts_with("SLOW [> 2m]"));
    progress.note(&ends("recipe/custom-a", "passed"), began + Duration::from_mins(2));
    assert_eq!(after(&mut progress, 10_000), None, "a phase of many steps is as long as they are many");
    progress.note(&phase("teardown", Some(300)), began);
    let waits = Event::LockWaiting { domain: domain(), limit: None };
    progress.note(&waits, began);
    assert_eq!(after(&mut progress, 100), None, "another one holds the lock");
    progress.note(&Event::LockAcquired { domain: domain(), waited: Duration::ZERO }, began);
    assert_eq!(after(&mut progress, 100).as_deref(), Some("SLOW [> 1m] teardown; it is ended after 5m"));
}

#[test]
fn whatever_is_named_begins_no_line() {
    let evil = "a\n::error::b";
    let mut progress = Progress::default();
    let now = Instant::now();
    for event in [started(), phase("custom", None), begins(evil, None), converging(0, 1, &[(evil, evil)])] {
        progress.note(&event, now);
    }
    let lines = [progress.panel(now), progress.line(now).unwrap()].concat();
    assert!(!lines.lines().any(|line| line.trim_start().starts_with("::")), "{lines}");
    assert!(progress.slow(now + SLOWEST).is_some_and(|slow| !slow.contains('\n')));
}

#[test]
fn a_log_that_was_silent_for_a_while_tells_what_goes_on() {
    let (reader, pipe) = io::pipe().unwrap();
    let mut lines = BufReader::new(reader).lines();
    let live = Live::new(QueuedWriter::new("test", pipe));
    let shows = live.show_at(Manner::Log, Duration::from_millis(1), Duration::from_millis(1));
    for event in [started(), phase("custom", None), begins("a\n::error::b\u{1b}[2J", None)] {
        live.note(&event);
    }
    let is_it = |line: &String| line.contains("a\\n::error::b\\u{1b}[2J ");
    let told = lines.by_ref().map(Result::unwrap).find(is_it).unwrap();
    assert!(told.starts_with("   [0s] custom 0s, a"), "{told}");
    drop(shows);
    live.beside(|| live.err.write("the end\n".to_owned()));
    drop(live);
    assert_eq!(lines.last().unwrap().unwrap(), "the end", "nothing is told any more");
}

#[test]
fn a_silent_manner_shows_nothing_and_still_answers() {
    let (reader, pipe) = io::pipe().unwrap();
    let live = Live::new(QueuedWriter::new("test", pipe));
    let shows = live.show_at(Manner::Silent, Duration::from_millis(1), Duration::ZERO);
    assert!(shows.0.is_none(), "somebody shows it");
    live.note(&phase("install", None));
    assert_eq!(live.line().as_deref(), Some("install 0s"));
    drop((shows, live));
    assert_eq!(io::read_to_string(reader).unwrap(), "");
}
