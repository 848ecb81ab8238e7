//! Janitors over a Swarm full of orphans: two at once, one that is killed, and how little a look asks. That nothing
//! is left, and the bystanders are as they were, the fixture asserts at the end of each test.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};

use cc_ci_core::names::Domain;
use cc_ci_tests::engine::TestEngine;
use cc_ci_tests::{CcCi, PATIENCE};
use nix::sys::signal::Signal;

use crate::orphans::orphan;
use crate::shown::Shown;

fn orphans(engine: &TestEngine, count: u64) -> Vec<Domain> {
    (0..count).map(|number| orphan(engine, &engine.world().domain("orphan", number))).collect()
}

fn cc_ci(engine: &TestEngine, command: &str) -> CcCi {
    engine.world().cc_ci([command, "--executor", "abra"])
}

#[test]
fn fifty_orphaned_stacks_are_reaped_by_two_janitors_at_once() {
    let Some(engine) = TestEngine::shared("fifty_orphaned_stacks_are_reaped_by_two_janitors_at_once") else {
        return;
    };
    let domains = orphans(&engine, 50);
    let started =
        [cc_ci(&engine, "janitor"), cc_ci(&engine, "janitor")].map(|call| call.arg("--format=json").start());
    let mut reaped = Vec::new();
    for janitor in started {
        let ended = janitor.wait().expect(0);
        for finding in ended.json()["findings"].as_array().unwrap() {
            match finding["decision"].as_str().unwrap() {
                "reaped" => reaped.push(finding["domain"].as_str().unwrap().to_owned()),
                // The other one has it, or has just finished it.
                "live" | "stale_lock" => {}
                other => panic!("{other}: {finding}"),
            }
        }
    }
    reaped.sort();
    let mut wanted: Vec<String> = domains.iter().map(ToString::to_string).collect();
    wanted.sort();
    assert_eq!(reaped, wanted, "each is reaped once");
    assert_eq!(cc_ci(&engine, "audit").run().expect(0).stdout, "nothing exists\n");
}

#[test]
fn what_a_killed_janitor_began_another_one_finishes() {
    let Some(engine) = TestEngine::shared("what_a_killed_janitor_began_another_one_finishes") else { return };
    let domains = orphans(&engine, 6);
    let removed = Removals::follow(&engine);
    let janitor = cc_ci(&engine, "janitor").start();
    removed.first_of(&domains);
    janitor.signal(Signal::SIGKILL);
    assert_eq!(janitor.wait().code, 137, "it was killed in the middle of its work");
    assert!(
        engine.left().iter().any(|object| object.kind == "service"),
        "something is left for the next one"
    );
    cc_ci(&engine, "janitor").run().expect(0);
    assert_eq!(cc_ci(&engine, "audit").run().expect(0).stdout, "nothing exists\n");
}

#[test]
fn an_audit_lists_each_kind_once_however_many_stacks_there_are() {
    let Some(engine) = TestEngine::shared("an_audit_lists_each_kind_once_however_many_stacks_there_are")
    else {
        return;
    };
    let domains = orphans(&engine, 8);
    let shown = Shown::between(engine.socket(), engine.world().path().join("shown.sock"));
    let ended = cc_ci(&engine, "audit").env("DOCKER_HOST", shown.host()).run().expect(4);
    for domain in &domains {
        assert!(ended.stdout.contains(&format!("{domain}: left behind")), "{}", ended.stdout);
    }
    let lists = shown.requests();
    let kinds = ["services", "tasks", "containers/json", "volumes", "secrets", "configs", "networks"];
    for kind in kinds {
        let of_kind =
            lists.iter().filter(|path| path.split('?').next().unwrap().ends_with(&format!("/{kind}")));
        assert_eq!(of_kind.count(), 1, "{kind}: {lists:#?}");
    }
    // The version is asked once a connection is made; nothing is asked of single objects.
    let others: Vec<_> = lists.iter().filter(|path| !path.ends_with("/version")).collect();
    assert_eq!(others.len(), kinds.len(), "{lists:#?}");
    cc_ci(&engine, "janitor").run().expect(0);
}

/// The engine's events of services that go.
struct Removals {
    child: Child,
    names: Receiver<String>,
}

impl Removals {
    fn follow(engine: &TestEngine) -> Self {
        let mut child = Command::new("docker")
            .args(["events", "--filter", "type=service", "--filter", "event=remove"])
            .args(["--format", "{{.Actor.Attributes.name}}"])
            .env("DOCKER_HOST", engine.host())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, names) = mpsc::channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, names }
    }

    /// Returns at the first removal of a service of one of `domains`.
    fn first_of(&self, domains: &[Domain]) {
        while let Ok(name) = self.names.recv_timeout(PATIENCE) {
            if domains.iter().any(|domain| domain.stack().prefixes(&name)) {
                return;
            }
        }
        panic!("no service was removed in time");
    }
}

impl Drop for Removals {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
