//! What strangers send, and a forge and a CI that are not well.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::delivery::{Delivery, send_raw};
use crate::http::{Fault, until};
use crate::place::{Place, end};

#[test]
fn what_the_forge_did_not_sign_is_refused_and_what_it_did_is_read_once() {
    let place = Place::with("allow = []");
    let serving = place.serve();
    let (_, good) = place.comment(1, "maintainer", "never mind");
    // What was never said is only in the deliveries.
    let good = Delivery::signed(good.body.replace("never mind", "!testme"));
    let signature =
        good.headers.iter().find(|(name, _)| name == "X-Gitea-Signature").map(|(_, value)| value.clone());
    let signature = signature.expect("a signature");
    let none = good.clone().with("X-Forgejo-Signature", &[]).with("X-Gitea-Signature", &[]);
    let cases = [
        ("no signature", none.clone(), 401),
        (
            "an empty one",
            good.clone().with("X-Forgejo-Signature", &[""]).with("X-Gitea-Signature", &[""]),
            401,
        ),
        ("another body", Delivery { body: format!("{} ", good.body), ..good.clone() }, 401),
        ("two of them", good.clone().with("X-Forgejo-Signature", &[&signature, &signature]), 401),
        ("sha1", none.with("X-Hub-Signature", &[&format!("sha1={signature}")]), 401),
        ("a form", good.clone().with("Content-Type", &["application/x-www-form-urlencoded"]), 415),
        ("no JSON", Delivery::signed("{".to_owned()), 422),
        ("something else in JSON", Delivery::signed("[]".to_owned()), 422),
        ("too large", Delivery::signed(" ".repeat((1 << 20) + 1)), 413),
    ];
    for (name, delivery, status) in cases {
        assert_eq!(delivery.send(serving.hooks), Some(status), "{name}");
    }
    let other_event = good.clone().with("X-Gitea-Event", &["pull_request_comment"]);
    for ignored in [
        other_event,
        Delivery::signed(good.body.replace("\"created\"", "\"edited\"")),
        Delivery::signed(good.body.replace("recipes/notes", "recipes/others")),
        Delivery::signed(good.body.replace("\"is_pull\":true", "\"is_pull\":false")),
    ] {
        assert_eq!(ignored.send(serving.hooks), Some(200));
    }
    for raw in [
        "GET /hook HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /hook HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    ] {
        let status = send_raw(serving.hooks, raw.replace("Host", "Connection: close\r\nHost").as_bytes());
        assert!(status.is_none_or(|status| (400..500).contains(&status)), "{status:?}");
    }
    // A hint of a request that nobody made, signed: it is found out.
    let comment = 101;
    assert_eq!(good.send(serving.hooks), Some(200));
    until("that it is refused", || {
        place.explain(1, comment).contains("refused: it was changed").then_some(())
    });
    assert!(place.ci.lock().builds.is_empty());
    end(serving.process);
}

#[test]
fn a_delivery_that_comes_slowly_ends_and_keeps_nobody_from_being_heard() {
    let place = Place::new();
    let serving = place.serve();
    let slow: Vec<_> = (0..80)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(serving.hooks).expect("a connection");
            let head = "POST /hook HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Gitea-Event: issue_comment\r\n";
            let head = format!("{head}X-Gitea-Signature: {}\r\nContent-Length: 1000\r\n\r\n{{", "ab".repeat(32));
            std::io::Write::write_all(&mut stream, head.as_bytes()).expect("it is sent");
            stream
        })
        .collect();
    let began = Instant::now();
    place.ask(&serving, 1, "maintainer", "!testme");
    assert!(began.elapsed() < Duration::from_mins(1), "{:?}", began.elapsed());
    place.build(1);
    drop(slow);
    end(serving.process);
}

#[test]
fn a_forge_and_a_ci_that_fail_now_and_then_get_each_request_run_once() {
    let place = Place::new();
    place.ci.lock().at_once = Some("success");
    place.forge.is_flaky(Some(7));
    place.ci.is_flaky(Some(11));
    let serving = place.serve();
    for pull in 1..=4 {
        let (_, delivery) = place.comment(pull, "maintainer", "!testme");
        if pull.is_multiple_of(2) {
            delivery.send(serving.hooks);
        }
    }
    for pull in 1..=4 {
        place.told(pull, "**Green**");
        until("the last status", || {
            (place.forge.lock().states(pull).last() == Some(&"success")).then_some(())
        });
    }
    let ci = place.ci.lock();
    assert!((1..=4).all(|pull| ci.of_pull(pull).len() == 1), "{:?}", ci.builds);
    let forge = place.forge.lock();
    assert!((1..=4).all(|pull| forge.told(pull).len() == 1), "{:?}", forge.comments);
    drop((ci, forge));
    end(serving.process);
}

#[test]
fn an_answer_that_is_lost_is_no_reason_to_ask_the_ci_again() {
    let place = Place::new();
    let serving = place.serve();
    // The first question is the search, the second one is for the job: it is made, and nobody hears of it.
    place.ci.fails(&[Fault::None, Fault::LostAnswer]);
    place.ask(&serving, 1, "maintainer", "!testme");
    place.told(1, "**Waits in the CI**");
    assert_eq!(place.ci.lock().builds.len(), 1);
    serving.process.signal(Signal::SIGKILL);
    let serving = place.serve();
    let build = place.build(1);
    place.ci.lock().end(build, "success", 0);
    place.told(1, "**Green**");
    assert_eq!(place.ci.lock().builds.len(), 1);
    end(serving.process);
}

#[test]
fn a_comment_of_ours_whose_answer_is_lost_is_found_again() {
    let place = Place::new();
    place.ci.lock().at_once = Some("success");
    place.forge.lock().loses_answer = true;
    let serving = place.serve();
    place.ask(&serving, 1, "maintainer", "!testme");
    place.told(1, "**Green**");
    let told = place.forge.lock().told(1).len();
    assert_eq!((told, place.forge.lock().loses_answer), (1, false));
    end(serving.process);
}

#[test]
fn a_forge_that_is_not_there_delays_and_loses_nothing() {
    let place = Place::new();
    place.forge.fails(&[Fault::Status(502), Fault::Status(429), Fault::Garbage]);
    let serving = place.serve();
    // It is written down before anybody answered who the bridge is.
    place.ask(&serving, 1, "maintainer", "!testme");
    place.build(1);
    end(serving.process);
}
