//! No CI: `serve` and `work` with the database between, either of them killed.

use std::fs;

use nix::sys::signal::Signal;

use crate::forge::sha;
use crate::http::until;
use crate::place::{Place, end};

/// A run that notes its arguments, waits until it may end, and is green.
const RUN: &str = r#"#!/bin/sh
here=${0%/*}
[ "$1" = run ] || { echo "$1" >>"$here/asked"; exit 1; }
echo "$@" >>"$here/runs"
until [ -e "$here/may-end" ]; do sleep 0.05; done
echo '{"schema": "cc-ci.run/v1", "verdict": "green", "exit_code": 0, "errors": [], "receipt": {"left": [], "verified": ["notes.test"]},
 "tiers": [{"name": "install", "status": "passed", "reason": null},
           {"name": "upgrade", "status": "skipped", "reason": "no `release` @all"}]}'
"#;

fn runs(place: &Place) -> Vec<String> {
    let text = fs::read_to_string(place.path().join("runs")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_run_outlives_both_and_is_told_by_those_that_come_after() {
    let place = Place::without_ci(RUN);
    let (serving, working) = (place.serve(), place.start(&["work"]));
    place.ask(&serving, 1, "maintainer", "!testme");
    until("the run", || (runs(&place).len() == 1).then_some(()));
    place.told(1, "**Running** since");
    for process in [serving.process, working] {
        process.signal(Signal::SIGKILL);
        process.wait();
    }
    let (serving, working) = (place.serve(), place.start(&["work"]));
    place.ask(&serving, 2, "maintainer", "!testme --quick");
    until("the second run", || (runs(&place).len() == 2).then_some(()));
    fs::write(place.path().join("may-end"), "").expect("it is written");
    for pull in [1, 2] {
        let text = place.told(pull, "**Green**");
        assert!(
            text.contains("Tiers:") && text.contains("- `upgrade`: `skipped`, `no 'release' @all`"),
            "{text}"
        );
    }
    let all = runs(&place);
    assert_eq!(all.len(), 2, "{all:?}");
    let (first, second) = (&all[0], &all[1]);
    assert!(first.contains(&format!("--commit={} --pr=1 --run-id=req-", sha("a1"))), "{first}");
    assert!(!first.contains("--quick") && second.contains("--quick"), "{second}");
    assert!(first.ends_with(&format!(" -- {}/recipes/notes.git", place.forge.url())), "{first}");
    // What is over is not begun again, even where nothing of it is noted any more.
    let key = first.split(' ').find_map(|word| word.strip_prefix("--run-id=")).expect("its key");
    let dir = place.path().join("work").join(key);
    fs::remove_dir_all(&dir).expect("its directory goes");
    fs::create_dir(&dir).expect("a directory");
    assert_eq!(place.run(&["run-job", key]).0, Some(0));
    assert_eq!(runs(&place).len(), 2);
    // Nobody would see what the host shows: there is no dashboard.
    assert!(!place.path().join("asked").exists());
    end(serving.process);
    end(working);
}

#[test]
fn work_that_is_killed_at_any_moment_runs_each_job_once() {
    let place = Place::without_ci(RUN);
    fs::write(place.path().join("may-end"), "").expect("it is written");
    let serving = place.serve();
    let mut seed = 5;
    for pull in 1..=6 {
        place.ask(&serving, pull, "maintainer", "!testme");
        for _ in 0..3 {
            let working = place.start(&["work"]);
            // The moment is what the test varies: nothing is waited for.
            std::thread::sleep(std::time::Duration::from_millis(crate::http::random(&mut seed) % 150));
            working.signal(Signal::SIGKILL);
            working.wait();
        }
    }
    let mut working = place.start(&["work"]);
    for pull in 1..=6 {
        place.told(pull, "**Green**");
    }
    // Those before it may have done all.
    working.wait_for("runs jobs below");
    let mut keys: Vec<_> = runs(&place);
    keys.sort();
    assert_eq!(keys.len(), 6, "{keys:?}");
    keys.dedup();
    assert_eq!(keys.len(), 6);
    end(serving.process);
    end(working);
}

#[test]
fn what_ended_badly_and_what_could_not_begin_is_no_green() {
    for (command, said) in [
        ("#!/bin/sh\nexit 1\n", "**Red**"),
        ("#!/bin/sh\nexit 0\n", "the CI ran nothing"),
        ("#!/bin/sh\nkill -9 $$\n", "the harness, the host or the CI failed"),
        ("#!/no/such/shell\n", "can't start"),
    ] {
        let place = Place::without_ci(command);
        let (serving, working) = (place.serve(), place.start(&["work"]));
        place.ask(&serving, 1, "maintainer", "!testme");
        place.told(1, said);
        until("the last status", || {
            place
                .forge
                .lock()
                .states(1)
                .last()
                .is_some_and(|state| ["failure", "error"].contains(state))
                .then_some(())
        });
        end(serving.process);
        end(working);
    }
}
