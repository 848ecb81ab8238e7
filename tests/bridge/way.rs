//! The whole way, as it should go.

use std::time::Instant;

use jiff::SignedDuration;

use crate::forge::{Status, sha};
use crate::http::{Fault, until};
use crate::place::{Place, end};

#[test]
fn a_comment_becomes_one_job_a_status_and_one_comment() {
    // A poll in time would be faster than the forge's delivery now and then.
    let place = Place::with("poll = \"1h\"\n");
    let serving = place.serve_what_is_delivered();
    let asked = Instant::now();
    let comment = place.ask(&serving, 1, "maintainer", " !testme\r\n");
    let build = place.build(1);
    place.told(1, "**Waits in the CI**");
    assert!(place.forge.lock().reactions.contains(&comment));
    assert!(asked.elapsed().as_secs() < 60, "{:?}", asked.elapsed());
    {
        let ci = place.ci.lock();
        let params = &ci.builds[0].params;
        assert_eq!(params["COMMIT"], sha("a1"));
        assert_eq!(params["RECIPE"], format!("{}/recipes/notes.git", place.forge.url()));
        assert_eq!(params.keys().collect::<Vec<_>>(), ["RECIPE", "COMMIT", "PR", "CCCI_REQUEST"]);
    }
    until("a pending status", || (place.forge.lock().states(1) == ["pending"]).then_some(()));
    place.ci.lock().end(build, "running", 0);
    place.told(1, "**Running** since");
    place.ci.lock().end(build, "success", 0);
    let text = place.told(1, "**Green**");
    assert!(text.contains(&sha("a1")) && text.contains("Asked for by `maintainer`"), "{text}");
    until("the last status", || (place.forge.lock().states(1).last() == Some(&"success")).then_some(()));
    let told = place.forge.lock().told(1).len();
    assert_eq!(told, 1, "it is one comment from first to last");
    end(serving.process);
    let text = place.explain(1, comment);
    assert!(text.contains("delivered by the forge") && text.contains("ended of job 1: green"), "{text}");
}

#[test]
fn what_was_not_delivered_is_found_by_polling_and_what_was_is_not_run_again() {
    let place = Place::new();
    place.ci.lock().at_once = Some("failure");
    let serving = place.serve();
    let (comment, delivery) = place.comment(1, "maintainer", "!testme --quick");
    place.told(1, "No verdict");
    assert_eq!(place.ci.lock().builds[0].params["QUICK"], "1");
    // It comes late, and twice.
    for _ in 0..2 {
        assert_eq!(delivery.send(serving.hooks), Some(200));
    }
    place.ask(&serving, 2, "maintainer", "!testme");
    place.told(2, "No verdict");
    assert_eq!(place.ci.lock().builds.len(), 2);
    assert!(place.explain(1, comment).contains("found by polling"));
    end(serving.process);
}

#[test]
fn who_may_not_ask_gets_silence_and_the_operator_is_told_why() {
    let place = Place::with("bots = [\"robot\"]");
    place.forge.lock().permissions.insert("robot".to_owned(), "admin".to_owned());
    let serving = place.serve();
    let cases = [
        ("stranger", "!testme", "may not write to the repository"),
        ("robot", "!testme", "a bot wrote it"),
        ("maintainer", "!testme foo", "only looks like a request"),
    ];
    for (pull, (author, body, why)) in (1..).zip(cases) {
        let comment = place.ask(&serving, pull, author, body);
        until(why, || place.explain(pull, comment).contains(why).then_some(()));
    }
    // What comes later is done: so nothing comes of those before.
    place.ask(&serving, 9, "maintainer", "!testme");
    place.build(9);
    place.told(9, "**");
    let forge = place.forge.lock();
    assert!((1..=3).all(|pull| forge.told(pull).is_empty() && forge.states(pull).is_empty()));
    assert_eq!((place.ci.lock().builds.len(), forge.reactions.len()), (1, 1));
    drop(forge);
    end(serving.process);
}

#[test]
fn a_branch_that_was_pushed_to_since_is_not_tested_and_that_is_said() {
    let place = Place::new();
    {
        let mut forge = place.forge.lock();
        forge.comment(1, "maintainer", "!testme");
        // In the same second or later.
        forge.push(1, "b1");
    }
    let serving = place.serve();
    let text = place.told(1, "**Not started**");
    assert!(text.contains(&sha("b1")) && text.contains("comment `!testme` again"), "{text}");
    assert!(place.ci.lock().builds.is_empty());
    end(serving.process);
}

#[test]
fn a_push_right_after_the_comment_is_seen_though_the_forge_lists_it_later() {
    let place = Place::new();
    place.forge.lock().lists_after = SignedDuration::from_secs(2);
    place.forge.lock().pulls.get_mut(&1).unwrap().pushes.clear();
    let serving = place.serve();
    let (_, delivery) = place.comment(1, "maintainer", "!testme");
    place.forge.lock().push(1, "b1");
    assert_eq!(delivery.send(serving.hooks), Some(200));
    let text = place.told(1, "**Not started**");
    assert!(text.contains(&sha("b1")), "{text}");
    assert!(place.ci.lock().builds.is_empty());
    end(serving.process);
}

#[test]
fn a_newer_request_takes_the_place_of_one_that_waits() {
    let place = Place::new();
    let serving = place.serve();
    place.ask(&serving, 1, "maintainer", "!testme");
    let build = place.build(1);
    let waits = place.ask(&serving, 1, "maintainer", "!testme");
    place.told(1, "**Queued**");
    let newest = place.ask(&serving, 1, "maintainer", "!testme --quick");
    place.told(1, &format!("the newer request {newest} takes its place"));
    assert!(place.explain(1, waits).contains("superseded by comment"));
    assert_eq!(place.ci.lock().builds.len(), 1, "the one that runs goes on, and the newest waits for it");
    place.ci.lock().end(build, "failure", 1);
    place.told(1, "**Red**");
    until("the newest's build", || (place.ci.lock().builds.len() == 2).then_some(()));
    end(serving.process);
}

#[test]
fn with_the_policy_cancel_a_newer_request_ends_the_job() {
    let place = Place::with("policy = \"cancel\"");
    let serving = place.serve();
    place.ask(&serving, 1, "maintainer", "!testme");
    place.build(1);
    place.told(1, "**Waits in the CI**");
    place.ask(&serving, 1, "maintainer", "!testme");
    let text = place.told(1, "**Cancelled**");
    assert!(text.contains("Whether its app is gone by now is not known here"), "{text}");
    until("the newer one's build", || (place.ci.lock().builds.len() == 2).then_some(()));
    end(serving.process);
}

#[test]
fn a_ci_that_makes_no_job_is_asked_a_few_times_and_no_status_is_posted() {
    let place = Place::new();
    place.ci.lock().takes_none = true;
    let serving = place.serve();
    place.ask(&serving, 1, "maintainer", "!testme");
    let text = place.told(1, "the CI did not start it");
    assert!(text.contains("Drone answered null"), "{text}");
    assert!(place.forge.lock().states(1).is_empty());
    end(serving.process);
}

#[test]
fn a_status_that_somebody_else_posts_in_our_name_is_noticed() {
    let place = Place::new();
    let serving = place.serve();
    place.ask(&serving, 1, "maintainer", "!testme");
    let build = place.build(1);
    until("a pending status", || (place.forge.lock().states(1) == ["pending"]).then_some(()));
    let forged = Status {
        sha: sha("a1"),
        state: "success".to_owned(),
        context: "cc-ci".to_owned(),
        creator: "maintainer".to_owned(),
    };
    place.forge.lock().statuses.push(forged);
    let text = place.told(1, "**Beware**: `maintainer` posted a status in the name of this CI");
    assert!(text.contains("Waits in the CI"), "{text}");
    until("ours once more", || (place.forge.lock().states(1).last() == Some(&"pending")).then_some(()));
    place.ci.lock().end(build, "failure", 1);
    place.told(1, "**Red**");
    end(serving.process);
}

#[test]
fn doctor_says_what_the_token_lacks() {
    let place = Place::new();
    let (code, text) = place.run(&["doctor"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("the token is ccbot's") && text.contains("with a secret"), "{text}");
    assert!(text.contains("jobs are looked up") && text.contains("clock and this host's agree"), "{text}");
    assert!(text.contains("statuses and comments are written in recipes/notes"), "{text}");
    assert!(place.forge.lock().statuses.is_empty(), "it changes nothing");
    place.forge.lock().writes = false;
    let (code, text) = place.run(&["doctor"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("1. can't write statuses and comments in recipes/notes")
            && text.contains("required scope"),
        "{text}"
    );
    place.forge.lock().writes = true;
    place.forge.lock().tells = false;
    let (code, text) = place.run(&["doctor"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("1. the forge does not tell ccbot who may write to recipes/notes"), "{text}");
    place.ci.fails(&[Fault::Status(401)]);
    let (code, text) = place.run(&["doctor"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("1. can't look up jobs in the CI"), "{text}");
}

#[test]
fn the_bridge_is_found_by_the_name_of_the_run_too() {
    let said = |program: &str, args: &[&str]| {
        let output = std::process::Command::new(cc_ci_tests::built(program)).args(args).output();
        String::from_utf8_lossy(&output.expect("it starts").stdout).into_owned()
    };
    let version = said("cc-ci-bridge", &["--version"]);
    assert!(version.starts_with("cc-ci-bridge "), "{version}");
    assert_eq!(said("cc-ci", &["bridge", "--version"]), version);
}
