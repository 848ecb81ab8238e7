//! `serve` is killed at any moment, and started again.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::http::{random, until};
use crate::place::{Place, end};

/// How often it is killed; more of it by hand: `CCCI_TEST_KILLS=500`.
fn kills() -> u64 {
    std::env::var("CCCI_TEST_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(25)
}

#[test]
fn each_request_is_run_once_whenever_the_bridge_is_killed() {
    let place = Place::new();
    place.ci.lock().at_once = Some("success");
    let mut seed = std::env::var("CCCI_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(42);
    let mut asked = 0;
    for kill in 0..kills() {
        let serving = place.serve();
        if kill.is_multiple_of(3) && asked < 12 {
            asked += 1;
            let (_, delivery) = place.comment(asked, "maintainer", "!testme");
            // Some are lost, and found by polling.
            if random(&mut seed).is_multiple_of(2) {
                delivery.send(serving.hooks);
            }
        }
        // The moment is what the test varies: nothing is waited for.
        std::thread::sleep(Duration::from_millis(random(&mut seed) % 400));
        serving.process.signal(Signal::SIGKILL);
        serving.process.wait();
        let forge = place.forge.lock();
        let ci = place.ci.lock();
        for pull in 1..=asked {
            let builds = ci.of_pull(pull).len();
            assert!(builds <= 1, "kill {kill}: {builds} builds of {pull}");
            assert!(builds == 1 || forge.states(pull).is_empty(), "kill {kill}: a status without a build");
        }
    }
    let serving = place.serve();
    for pull in 1..=asked {
        place.told(pull, "**Green**");
        until("the last status", || {
            (place.forge.lock().states(pull).last() == Some(&"success")).then_some(())
        });
        assert_eq!(place.ci.lock().of_pull(pull).len(), 1);
        assert_eq!(place.forge.lock().told(pull).len(), 1);
    }
    end(serving.process);
}

#[test]
fn the_end_is_graceful_and_fast() {
    let place = Place::new();
    let serving = place.serve();
    place.ask(&serving, 1, "maintainer", "!testme");
    let _idle = std::net::TcpStream::connect(serving.hooks).expect("a connection");
    let began = Instant::now();
    end(serving.process);
    assert!(began.elapsed() < Duration::from_mins(1), "{:?}", began.elapsed());
    assert!(place.database().exists());
}
