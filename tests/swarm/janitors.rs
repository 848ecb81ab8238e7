//! Janitors over a Swarm full of orphans: two at once, one that is killed, and how little a look asks. That nothing
//! is left, and the bystanders are as they were, the fixture asserts at the end of each test.

use cc_ci_core::names::Domain;
use cc_ci_tests::engine::{BUSYBOX, Events, TestEngine};
use cc_ci_tests::{CcCi, SocketTap};
use nix::sys::signal::Signal;

use crate::orphans::orphan;

fn orphans(engine: &TestEngine, count: u64) -> Vec<Domain> {
    (0..count).map(|number| orphan(engine, &engine.world().domain("orphan", number))).collect()
}

fn cc_ci(engine: &TestEngine, command: &str) -> CcCi {
    engine.world().cc_ci([command])
}

#[test]
fn fifty_orphaned_stacks_are_reaped_by_two_janitors_at_once() {
    let Some(engine) = TestEngine::shared("fifty_orphaned_stacks_are_reaped_by_two_janitors_at_once") else {
        return;
    };
    // Most of them are idle: it is their number that counts here.
    let mut domains = orphans(&engine, 10);
    domains.extend((10..50).map(|number| idle_orphan(&engine, &engine.world().domain("orphan", number))));
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

/// So many are looked at and removed together.
const BATCH: usize = 128;

/// Nothing runs of it, so there can be many.
fn idle_orphan(engine: &TestEngine, domain: &Domain) -> Domain {
    let stack = domain.stack();
    let label = format!("--label=com.docker.stack.namespace={stack}");
    let name = format!("--name={stack}_app");
    let words = ["service", "create", "--detach", "--no-resolve-image", "--replicas=0", &label, &name];
    engine.docker(words.iter().chain(&[BUSYBOX, "true"]));
    domain.clone()
}

#[test]
fn what_a_killed_janitor_began_another_one_finishes() {
    let Some(engine) = TestEngine::shared("what_a_killed_janitor_began_another_one_finishes") else { return };
    let world = engine.world();
    let mut domains = orphans(&engine, 4);
    let count = u64::try_from(BATCH).unwrap() + 4;
    domains.extend((4..count).map(|number| idle_orphan(&engine, &world.domain("orphan", number))));
    // As they are gone through.
    domains.sort();
    let removed = Events::follow(&engine, &["type=service", "event=remove"]);
    let janitor = cc_ci(&engine, "janitor").start();
    removed.first("a service's removal", |event| {
        domains.iter().any(|domain| domain.stack().prefixes(Events::name(event)))
    });
    janitor.signal(Signal::SIGKILL);
    assert_eq!(janitor.wait().code, 137, "it was killed in the middle of its work");
    for next in &domains[BATCH..] {
        assert!(engine.get(&format!("/services/{}_app", next.stack())).is_some(), "{next} was begun too");
        assert!(!world.lock_file(next).exists(), "{next} was begun too");
    }
    let report = cc_ci(&engine, "janitor").arg("--format=json").run().expect(0).json();
    let reaped = report["findings"].as_array().unwrap().iter().filter(|found| found["decision"] == "reaped");
    assert!(reaped.count() >= domains.len() - BATCH, "{report:#}");
    assert_eq!(cc_ci(&engine, "audit").run().expect(0).stdout, "nothing exists\n");
}

#[test]
fn an_audit_lists_each_kind_once_however_many_stacks_there_are() {
    let Some(engine) = TestEngine::shared("an_audit_lists_each_kind_once_however_many_stacks_there_are")
    else {
        return;
    };
    let domains = orphans(&engine, 8);
    let shown = SocketTap::between(engine.socket(), engine.world().path().join("shown.sock"));
    let ended = cc_ci(&engine, "audit").env("DOCKER_HOST", shown.host()).run().expect(4);
    for domain in &domains {
        assert!(ended.stdout.contains(&format!("{domain}: left behind")), "{}", ended.stdout);
    }
    let lists = shown.requests();
    let own = domains.iter().map(|domain| {
        let filter = format!("label=com.docker.stack.namespace={}", domain.stack());
        engine.docker(["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter])
    });
    let own: Vec<String> = own.collect();
    let kinds = ["services", "tasks", "containers/json", "volumes", "secrets", "configs", "networks"];
    for kind in kinds {
        let of_kind =
            lists.iter().filter(|path| path.split('?').next().unwrap().ends_with(&format!("/{kind}")));
        assert_eq!(of_kind.count(), 1, "{kind}: {lists:#?}");
    }
    // Who it is and whether it is the only node is asked once; nothing is asked of single objects, but of containers of
    // the tests beside this one whose anonymous volumes no task tells of any more.
    let stranger = |path: &str| {
        let id = path.strip_prefix("/containers/").and_then(|rest| rest.strip_suffix("/json"));
        id.is_some_and(|id| id.len() == 64 && !own.iter().any(|ids| ids.contains(id)))
    };
    let others: Vec<_> = lists
        .iter()
        .filter(|path| !path.ends_with("/version") && !path.ends_with("/info") && !stranger(path))
        .collect();
    assert_eq!(others.len(), kinds.len(), "{lists:#?}");
    cc_ci(&engine, "janitor").run().expect(0);
}
