//! A storm of kills over nodes, runs and janitors.

use std::thread;

use cc_ci_tests::engine::Node;
use cc_ci_tests::{Chance, StartedCommand};
use nix::sys::signal::Signal;

use crate::spread::{debts, spread, told_call};
use crate::support::OnNodes;

/// So many things are killed; `CCCI_STORM_KILLS` says another number.
const KILLS: u64 = 20;

/// Runs at once, each of a pull request of its own.
const RUNS: u64 = 2;

const PULL_REQUESTS: u64 = 3;

/// More than a run prints: some are left to end by themselves.
const LINES: u64 = 45;

/// What becomes of a node, and the way back.
const TROUBLES: [(&str, &str); 4] =
    [(CRASH, "start"), (CRASH, "start"), ("cut", "heal"), ("pause", "resume")];

const CRASH: &str = "crash";

/// What becomes of a node.
type Trouble<'n> = (&'n Node, (&'static str, &'static str));

/// Kills it at its `line`th line, unless it ends before; whether it was killed. What becomes of a node becomes of it
/// halfway there; one that crashed stays away, as whoever waits for another one would wait for long.
fn strike(mut command: StartedCommand, line: u64, trouble: Option<Trouble>) -> bool {
    let half = line / 2;
    let half_there = command.says_lines(half);
    if let Some((node, (word, _))) = trouble {
        node.tell(word);
    }
    if half_there && command.says_lines(line - half) {
        command.signal(Signal::SIGKILL);
    }
    if let Some((node, (word, back))) = trouble
        && word != CRASH
    {
        node.tell(back);
    }
    let end = command.wait();
    assert!(!end.stderr.contains("panicked"), "{}", end.stderr);
    end.code == 137
}

#[test]
fn whatever_is_killed_whenever_nothing_is_left_once_the_nodes_are_back_and_one_pass_is_over() {
    let test = "whatever_is_killed_whenever_nothing_is_left_once_the_nodes_are_back_and_one_pass_is_over";
    let Some(test) = OnNodes::new(test) else { return };
    let due = std::env::var("CCCI_STORM_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    test.configure();
    let recipe = spread(&test);
    let before = test.bystanders();
    let mut chance = Chance::of_a_storm();
    let (mut kills, mut round, mut way_back) = (0, 0, None);
    while kills < due {
        if let Some((worker, word)) = way_back.take_if(|_| chance.below(2) == 0) {
            println!("round {round}: worker-{worker}: {word}");
            test.nodes.worker(worker).tell(word);
        }
        let mut commands = Vec::new();
        let first = chance.below(PULL_REQUESTS);
        for number in 0..RUNS {
            let (id, number) = (format!("{round}-{number}"), 1 + (first + number) % PULL_REQUESTS);
            commands.push((told_call(&test, &recipe, &id, number).start(), chance.below(LINES)));
        }
        if chance.below(2) == 0 {
            let janitor = test.world.cc_ci(["janitor", "--executor", "abra"]).start();
            commands.push((janitor, 1 + chance.below(4)));
        }
        let trouble = (way_back.is_none() && chance.below(2) == 0)
            .then(|| (usize::from(chance.below(2) == 0) + 1, *chance.of(&TROUBLES)));
        let mut told = trouble.map(|(worker, (word, back))| {
            println!("round {round}: worker-{worker}: {word}");
            if word == CRASH {
                way_back = Some((worker, back));
            }
            (test.nodes.worker(worker), (word, back))
        });
        let killed = thread::scope(|scope| {
            let strikes: Vec<_> = commands
                .into_iter()
                .map(|(command, line)| {
                    let trouble = told.take();
                    scope.spawn(move || strike(command, line, trouble))
                })
                .collect();
            let ends = strikes.into_iter().map(|strike| strike.join().expect("nothing panicked"));
            ends.filter(|killed| *killed).count()
        });
        kills += u64::try_from(killed).expect("a few");
        kills += u64::from(trouble.is_some_and(|(_, (word, _))| word == CRASH));
        round += 1;
        println!("round {round}: {kills} of {due} are killed");
    }
    test.nodes.restore();
    test.world.children_are_gone();
    test.janitor().expect(0);
    assert_eq!(debts(&test), 0);
    test.assert_empty();
    test.world.assert_empty();
    for (before, after) in before.iter().zip(test.bystanders()) {
        before.assert_same(&after);
    }
    let audit = test.world.cc_ci(["audit", "--executor", "abra"]).run().expect(0);
    assert_eq!(audit.stdout, "nothing exists\n");
}
