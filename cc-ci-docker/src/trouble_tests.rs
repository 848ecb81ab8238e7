//! Engines in trouble: a clear error with a hint and within a bound, or work that goes on; never "nothing is there".

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cc_ci_core::engine::{Engine as _, Failure, Fault};
use cc_ci_core::error_chain;
use cc_ci_core::names::Domain;
use futures_util::future::join_all;

use crate::SwarmEngine;
use crate::fake_engine::{FakeEngine, Reply, engine, nothing};

/// So long may a bounded failure take here, however busy the machine is.
const LIMIT: Duration = Duration::from_mins(1);

/// One call's limit where an engine hangs.
const SHORT: Duration = Duration::from_millis(200);

fn domain() -> Domain {
    "immi-012345.ci.example.org".parse().unwrap()
}

/// The error of a look at `engine`, for all domains and for one.
async fn look_fails(engine: &SwarmEngine) -> Failure {
    let began = Instant::now();
    engine.inventory(Some(&[domain()])).await.expect_err("nothing can be known");
    let error = engine.inventory(None).await.expect_err("nothing can be known");
    assert!(began.elapsed() < LIMIT, "it took {:?}", began.elapsed());
    assert_eq!(error.fault(), Fault::Host);
    error
}

#[track_caller]
fn assert_says(error: &Failure, text: &str, hint: &str) {
    let chain = error_chain(error);
    assert!(chain.contains(text), "{chain}");
    assert!(error.hint().unwrap_or_default().contains(hint), "{:?}", error.hint());
}

#[tokio::test]
async fn a_missing_socket_and_one_that_nobody_listens_on_are_said() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("none.sock");
    let error = look_fails(&engine(missing.clone(), Vec::new())).await;
    assert_says(
        &error,
        &format!("no Docker engine answers at {}", missing.display()),
        "systemctl start docker",
    );
    let deserted = directory.path().join("deserted.sock");
    drop(std::os::unix::net::UnixListener::bind(&deserted).unwrap());
    let error = look_fails(&engine(deserted, Vec::new())).await;
    assert_says(&error, "no Docker engine answers at", "DOCKER_HOST=unix://");
}

/// Runs `test` as a user who is not root, if this one is.
fn unprivileged(test: impl AsyncFnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // Of this thread only; with it go the capabilities to pass by permissions.
            nix::unistd::setfsuid(65534.into());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(test());
        });
        thread.join().unwrap();
    });
}

fn forbid(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_socket_that_this_user_may_not_use_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for (path, mode) in [(socket.as_path(), 0o000), (directory.path(), 0o600)] {
        forbid(directory.path(), 0o755);
        forbid(path, mode);
        let socket: PathBuf = socket.clone();
        unprivileged(async move || {
            let error = look_fails(&engine(socket.clone(), Vec::new())).await;
            assert_says(&error, &format!("{} may not be used", socket.display()), "run as root");
        });
    }
    forbid(directory.path(), 0o700);
}

#[tokio::test]
async fn an_engine_that_is_too_old_is_said() {
    for (version, found) in [("1.38", "API 1.38"), ("1.40", "API 1.40")] {
        let version = Reply::Json(200, format!(r#"{{"ApiVersion":"{version}","Version":"19.03"}}"#));
        let fake = FakeEngine::with_version(nothing, version);
        let error = look_fails(&fake.engine()).await;
        assert_says(&error, found, "Docker Engine 20.10 or later");
        assert_eq!(fake.calls(), Vec::<String>::new(), "nothing else is asked");
    }
}

#[tokio::test]
async fn an_engine_that_never_answers_is_given_up_within_the_calls_limit() {
    let kinds = ["/services", "/tasks", "/containers", "/volumes", "/secrets", "/configs", "/networks"];
    // Not at all, or not to the end.
    for reply in [Reply::Never, Reply::Stalled("[          ]".to_owned())] {
        let fake = FakeEngine::with_version(nothing, reply.clone());
        let error = look_fails(&fake.engine().with_call_limit(SHORT)).await;
        assert_says(&error, "did not answer within 200ms", "journalctl -u docker");
        for kind in kinds {
            let answer = reply.clone();
            let fake = FakeEngine::start(
                move |call| if call.contains(kind) { answer.clone() } else { nothing(call) },
            );
            let error = look_fails(&fake.engine().with_call_limit(SHORT)).await;
            assert_says(&error, "did not answer within 200ms", "journalctl -u docker");
        }
    }
}

#[tokio::test]
async fn a_removal_from_an_engine_that_hangs_ends_with_its_limit() {
    let fake = FakeEngine::start(|_| Reply::Never);
    for call_limit in [SHORT, Duration::from_mins(5)] {
        let began = Instant::now();
        let removed = fake.engine().with_call_limit(call_limit).remove(&domain(), SHORT * 3).await;
        let error = removed.expect_err("nothing is known to be removed");
        assert!(began.elapsed() < LIMIT, "it took {:?}", began.elapsed());
        assert_says(&error, "can't remove all of immi-012345.ci.example.org within 600ms", "");
    }
}

#[tokio::test]
async fn an_engine_that_manages_no_swarm_is_said() {
    let messages = [
        (
            r#"This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again."#,
            "docker swarm init",
        ),
        (
            r#"Swarm is encrypted and needs to be unlocked before it can be used. Please use \"docker swarm unlock\" to unlock it."#,
            "docker swarm unlock",
        ),
        (
            "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state.",
            "docker info",
        ),
    ];
    for (message, hint) in messages {
        let fake = FakeEngine::start(move |call| {
            let swarm =
                ["/services", "/tasks", "/secrets", "/configs"].iter().any(|kind| call.contains(kind));
            let refused = || Reply::Json(503, format!(r#"{{"message":"{message}"}}"#));
            if swarm { refused() } else { nothing(call) }
        });
        let error = look_fails(&fake.engine()).await;
        assert_says(&error, "is no Swarm manager", hint);
    }
}

#[tokio::test]
async fn a_truncated_or_garbled_answer_is_never_an_empty_one() {
    let kinds = ["/services", "/tasks", "/containers", "/volumes", "/secrets", "/configs", "/networks"];
    // The last has no name, no id, or neither.
    let bad = [
        Reply::Truncated("[                                                       ]".to_owned()),
        Reply::Close,
        Reply::Json(200, "<html>".to_owned()),
        Reply::Json(200, String::new()),
        Reply::Json(500, "{}".to_owned()),
        Reply::Json(200, r#"[{"Spec":{}}]"#.to_owned()),
        Reply::Json(200, r#"[{"Volumes":[{}]}]"#.to_owned()),
    ];
    for kind in kinds {
        for reply in &bad {
            let answer = reply.clone();
            let fake = FakeEngine::start(
                move |call| if call.contains(kind) { answer.clone() } else { nothing(call) },
            );
            let look = fake.engine().with_call_limit(SHORT).inventory(None).await;
            assert!(look.is_err(), "{kind}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn a_look_takes_one_list_call_a_kind_however_many_domains() {
    let domains: Vec<Domain> =
        (0..200).map(|number| format!("immi-{number:06}.ci.example.org").parse().unwrap()).collect();
    for asked in [None, Some(domains.as_slice())] {
        let fake = FakeEngine::start(nothing);
        let look = fake.engine().inventory(asked).await.unwrap();
        assert_eq!(look.domains().count(), 0);
        let mut calls: Vec<String> =
            fake.calls().iter().map(|call| call.split('?').next().unwrap().to_owned()).collect();
        calls.sort();
        let expected =
            ["configs", "containers/json", "info", "networks", "secrets", "services", "tasks", "volumes"];
        assert_eq!(calls, expected.map(|kind| format!("GET /{kind}")));
    }
}

#[tokio::test]
async fn removals_at_once_share_a_look_that_began_after_each_asked() {
    const LONG: Duration = Duration::from_mins(1);
    let fake = FakeEngine::start(nothing);
    let engine = fake.engine();
    let domains: Vec<Domain> =
        (0..20).map(|number| format!("immi-{number:06}.ci.example.org").parse().unwrap()).collect();
    let lists = || fake.calls().iter().filter(|call| call.starts_with("GET /services")).count();
    for removed in join_all(domains.iter().map(|domain| engine.remove(domain, LONG))).await {
        removed.unwrap();
    }
    // The first one's look had begun when the others asked.
    assert_eq!(lists(), 2);
    // What was seen before is never shown again.
    engine.remove(&domains[0], LONG).await.unwrap();
    engine.remove(&domains[1], LONG).await.unwrap();
    assert_eq!(lists(), 4);
    assert_eq!(fake.calls().len(), 4 * 8, "nothing is asked of each stack: {:?}", fake.calls());
}

#[tokio::test]
async fn an_engine_that_restarts_is_waited_for() {
    // A manager that has just been started answers, and manages nothing yet.
    let no_leader = || Reply::Json(503, r#"{"message":"The swarm does not have a leader."}"#.to_owned());
    let broken = Arc::new(AtomicUsize::new(0));
    let countdown = broken.clone();
    let fake = FakeEngine::start(move |call| {
        let left = countdown.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        match left {
            Ok(1..8) => no_leader(),
            Ok(_) => Reply::Close,
            Err(_) => nothing(call),
        }
    });
    let engine = fake.engine();
    engine.inventory(None).await.unwrap();
    broken.store(16, Ordering::Relaxed);
    let look = engine.inventory(None).await.unwrap();
    assert_eq!(look.domains().count(), 0);
    assert_eq!(broken.load(Ordering::Relaxed), 0);
    // One that never showed anything is no engine that restarts.
    broken.store(1_000, Ordering::Relaxed);
    fake.engine().inventory(None).await.unwrap_err();
}

/// An engine with a volume of the stack that a container of nobody's has mounted.
fn volume_in_use() -> FakeEngine {
    FakeEngine::start(|call| {
        let body = match call {
            _ if call.starts_with("DELETE") => {
                return Reply::Json(409, r#"{"message":"volume is in use"}"#.to_owned());
            }
            _ if call.contains("/volumes") => {
                r#"{"Volumes":[{"Name":"immi-012345_ci_example_org_data","Driver":"local","Mountpoint":"","Options":null,"Scope":"local",
                "Labels":{"com.docker.stack.namespace":"immi-012345_ci_example_org"}}]}"#
            }
            _ if call.contains("/containers/json") => {
                r#"[{"Id":"c1","Names":["/of-a-test"],"Labels":{},"Mounts":[{"Type":"volume","Name":"immi-012345_ci_example_org_data"}]}]"#
            }
            _ => return nothing(call),
        };
        Reply::Json(200, body.to_owned())
    })
}

#[tokio::test]
async fn what_others_use_is_not_waited_for_until_the_limit_and_they_are_named() {
    let began = Instant::now();
    let error = volume_in_use().engine().remove(&domain(), LIMIT).await.unwrap_err();
    assert!(began.elapsed() < LIMIT / 2, "it took {:?}", began.elapsed());
    assert_says(&error, "while others use it, still there: volume immi-012345_ci_example_org_data", "");
    assert_says(&error, "used by the container of-a-test", "");
}

#[tokio::test]
async fn what_is_of_no_stack_is_listed_apart() {
    let fake = FakeEngine::start(|call| {
        let body = match call {
            _ if call.contains("/containers/json") => {
                r#"[{"Id":"c1","Names":["/of-a-test"],"Labels":{}},
                {"Id":"c2","Names":["/of-a-service"],"Labels":{"com.docker.swarm.service.id":"s1","com.docker.swarm.task.id":"t1"}},
                {"Id":"c3","Names":["/of-a-stack"],"Labels":{"com.docker.stack.namespace":"blog"}}]"#
            }
            _ if call.contains("/secrets") => {
                r#"[{"ID":"1","Spec":{"Name":"immi-012345_ci_example_org_pw"}},{"ID":"2","Spec":{"Name":"pw"}}]"#
            }
            _ => return nothing(call),
        };
        Reply::Json(200, body.to_owned())
    });
    let unowned: Vec<String> =
        fake.engine().unowned().await.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(unowned, ["container of-a-test", "secret pw"]);
}
