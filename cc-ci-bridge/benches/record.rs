//! What recording a request costs beside a bare commit of `SQLite` on the same disk.
//!
//! `cargo bench -p cc-ci-bridge --bench record`, with `TMPDIR` on the disk in question. The two are done by turns, so that a busy
//! host slows both down; medians are compared. It ends with 1 when the bound does not hold.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints, and may panic")]
#![expect(clippy::disallowed_methods, reason = "and it makes what it works on")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use cc_ci_bridge::request::{Asked, Via};
use cc_ci_bridge::store::Store;
use cc_ci_bridge::trigger::Trigger;
use jiff::Timestamp;
use rusqlite::{Connection, TransactionBehavior, params};

const PAIRS: usize = 500;
const BOUND: f64 = 2.0;

fn main() -> ExitCode {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(&place.path().join("bridge.sqlite"), "https://git.example.org").unwrap();
    let mut bare = Connection::open(place.path().join("bare.sqlite")).unwrap();
    bare.pragma_update(None, "journal_mode", "WAL").unwrap();
    bare.pragma_update(None, "synchronous", "FULL").unwrap();
    bare.execute_batch("CREATE TABLE request (id INTEGER PRIMARY KEY, asked TEXT NOT NULL) STRICT").unwrap();
    let mut times = [Vec::new(), Vec::new()];
    for pair in 0..PAIRS {
        for turn in 0..2 {
            let which = (pair + turn) % 2;
            let asked = asked(pair);
            let text = serde_json::to_string(&asked).unwrap();
            let began = Instant::now();
            if which == 0 {
                let transaction = bare.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
                transaction.execute("INSERT INTO request (asked) VALUES (?1)", params![text]).unwrap();
                transaction.commit().unwrap();
            } else {
                store.record(&asked).unwrap();
            }
            times[which].push(began.elapsed());
        }
    }
    let [bare, recorded] = times.map(|mut times| {
        times.sort();
        times
    });
    let at = |times: &[Duration], percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1e6;
    for (what, times) in [("bare commit", &bare), ("recording", &recorded)] {
        println!("{what:<12} p50 {:8.0} µs  p99 {:8.0} µs", at(times, 50), at(times, 99));
    }
    let ratio = at(&recorded, 50) / at(&bare, 50);
    println!("recording is {ratio:.2} x a bare commit, of {PAIRS} pairs; the bound is {BOUND}");
    if ratio <= BOUND { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn asked(comment: usize) -> Asked {
    Asked {
        repo: "recipes/notes".parse().unwrap(),
        pull: 1,
        comment: comment as u64,
        author: "maintainer".to_owned(),
        trigger: Some(Trigger::Cold),
        created: Timestamp::UNIX_EPOCH,
        via: Via::Hook,
        received: Timestamp::UNIX_EPOCH,
    }
}
