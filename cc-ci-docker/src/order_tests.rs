//! What is asked of an engine, and in which order: what a real one does too fast to be seen.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cc_ci_core::engine::{Engine as _, Failure, Fault, Kind, LockSpace, Resource, StackSource};
use cc_ci_core::error_chain;
use cc_ci_core::event::{Event, Reporter};
use cc_ci_core::names::{Domain, Stack};
use cc_ci_core::system_info::BootId;

use crate::fake_engine::{FakeEngine, Reply, engine, nothing};
use crate::{Settings, SwarmEngine};

const STACK: &str = "immi-012345_ci_example_org";

/// What a removal may take that is not to end well.
const CUT_SHORT: Duration = Duration::from_millis(400);

fn domain() -> Domain {
    "immi-012345.ci.example.org".parse().unwrap()
}

fn json(body: impl Into<String>) -> Reply {
    Reply::Json(200, body.into())
}

fn refused(call: &str) -> Reply {
    Reply::Json(500, format!(r#"{{"message":"no {call}"}}"#))
}

/// The answer to a list call of one of everything, all of it labelled; of what `gone` says, there is nothing.
fn one_of_each(call: &str, gone: impl Fn(&str) -> bool) -> Reply {
    let labels = format!(r#""Labels":{{"com.docker.stack.namespace":"{STACK}"}}"#);
    let spec = format!(r#""Spec":{{"Name":"{STACK}_x",{labels}}}"#);
    let container_spec = format!(r#""TaskTemplate":{{"ContainerSpec":{{{labels}}}}}"#);
    let kind = call.trim_start_matches("GET /").split(['/', '?']).next().unwrap_or_default();
    if kind == "info" || gone(kind) {
        return nothing(call);
    }
    json(match kind {
        "services" => {
            format!(r#"[{{"ID":"s1","Spec":{{"Name":"{STACK}_x",{labels},{container_spec}}}}}]"#)
        }
        "tasks" => format!(
            r#"[{{"ID":"t1","ServiceID":"s1","Slot":1,"Spec":{{"ContainerSpec":{{{labels}}}}},"DesiredState":"remove",
            "Status":{{"State":"running","ContainerStatus":{{"ContainerID":"c1"}}}}}}]"#
        ),
        "containers" => format!(r#"[{{"Id":"c1","Names":["/{STACK}_x.1.t1"],{labels}}}]"#),
        "volumes" => format!(
            r#"{{"Volumes":[{{"Name":"{STACK}_data","Driver":"local","Mountpoint":"/","Scope":"local","Options":null,{labels}}}]}}"#
        ),
        "secrets" => format!(r#"[{{"ID":"e1",{spec}}}]"#),
        "configs" => format!(r#"[{{"ID":"g1",{spec}}}]"#),
        _ => format!(r#"[{{"Id":"n1","Name":"{STACK}_net",{labels}}}]"#),
    })
}

/// The removals that were asked for.
fn deletions(fake: &FakeEngine) -> Vec<String> {
    let path =
        |call: String| call.strip_prefix("DELETE /").map(|path| path.split('?').next().unwrap().to_owned());
    fake.calls().into_iter().filter_map(path).collect()
}

#[tokio::test]
async fn while_a_service_is_there_nothing_else_is_removed() {
    let fake = FakeEngine::start(|call| {
        if call.starts_with("DELETE") { refused(call) } else { one_of_each(call, |_| false) }
    });
    let error = fake.engine().remove(&domain(), CUT_SHORT).await.unwrap_err();
    let message = error_chain(&error);
    assert!(message.contains(&format!("service {STACK}_x: the Docker engine answered 500")), "{message}");
    let deleted = deletions(&fake);
    assert!(deleted.len() > 1 && deleted.iter().all(|path| path == "services/s1"), "{deleted:?}");
}

#[tokio::test]
async fn what_is_named_goes_in_the_same_order_and_nothing_else_does() {
    let named = [
        Resource::new(Kind::Volume, format!("{STACK}_data")),
        Resource::new(Kind::Service, format!("{STACK}_x")),
        Resource::new(Kind::Network, "another_net"),
    ];
    let removed = Arc::new(Mutex::new(Vec::new()));
    let gone = removed.clone();
    let fake = FakeEngine::start(move |call| {
        let mut gone = gone.lock().unwrap();
        if let Some(path) = call.strip_prefix("DELETE /") {
            gone.push(path.split('/').next().unwrap().to_owned());
            return Reply::Json(204, String::new());
        }
        let of_services = |kind: &str| kind == "containers" || kind == "tasks";
        one_of_each(call, |kind| {
            gone.iter().any(|gone| gone == kind || (gone == "services" && of_services(kind)))
        })
    });
    fake.engine().remove_selected(&domain(), &named, Duration::from_mins(1)).await.unwrap();
    assert_eq!(*removed.lock().unwrap(), ["services", "volumes"]);

    // While the service is there, nothing that it may use goes.
    let fake = FakeEngine::start(|call| {
        if call.starts_with("DELETE") { refused(call) } else { one_of_each(call, |_| false) }
    });
    fake.engine().remove_selected(&domain(), &named, CUT_SHORT).await.unwrap_err();
    let deleted = deletions(&fake);
    assert!(!deleted.is_empty() && deleted.iter().all(|path| path == "services/s1"), "{deleted:?}");
}

#[tokio::test]
async fn while_a_container_is_there_or_a_task_may_make_one_nothing_that_they_use_is_removed() {
    for stays in ["containers", "tasks"] {
        let fake = FakeEngine::start(move |call| {
            if call.starts_with("DELETE") {
                return Reply::Json(204, String::new());
            }
            let gone = |kind: &str| kind == "services" || (kind == "containers" && stays == "tasks");
            if call.contains("/tasks") && stays == "tasks" {
                // It has made none yet.
                let label =
                    format!(r#"{{"ContainerSpec":{{"Labels":{{"com.docker.stack.namespace":"{STACK}"}}}}}}"#);
                return json(format!(
                    r#"[{{"ID":"t1","ServiceID":"s1","Slot":1,"Spec":{label},"DesiredState":"remove","Status":{{"State":"preparing"}}}}]"#
                ));
            }
            one_of_each(call, gone)
        });
        fake.engine().remove(&domain(), CUT_SHORT).await.unwrap_err();
        let deleted = deletions(&fake);
        assert!(deleted.iter().all(|path| path == "containers/c1"), "{stays}: {deleted:?}");
    }
}

#[tokio::test]
async fn a_foreign_service_of_our_image_keeps_its_container() {
    // What was committed from a container of ours carries its labels, the stack's among them.
    let fake = FakeEngine::start(|call| {
        if call.starts_with("DELETE") {
            return Reply::Json(204, String::new());
        }
        let kept = |kind: &str| ["services", "containers", "tasks", "volumes"].contains(&kind);
        let Reply::Json(status, body) = one_of_each(call, |kind| !kept(kind)) else { unreachable!() };
        let more = if call.contains("/services") {
            r#"[{"ID":"s2","Spec":{"Name":"debug","TaskTemplate":{}}},"#.to_owned()
        } else if call.contains("/containers") {
            let labels =
                format!(r#""com.docker.stack.namespace":"{STACK}","com.docker.swarm.service.id":"s2""#);
            format!(r#"[{{"Id":"c2","Names":["/debug.1.t2"],"Labels":{{{labels}}}}},"#)
        } else {
            return Reply::Json(status, body);
        };
        Reply::Json(status, body.replacen('[', &more, 1))
    });
    fake.engine().remove(&domain(), CUT_SHORT).await.unwrap_err();
    let deleted = deletions(&fake);
    assert!(deleted.contains(&"services/s1".to_owned()), "{deleted:?}");
    assert!(!deleted.iter().any(|path| path.ends_with("/s2") || path.ends_with("/c2")), "{deleted:?}");
}

#[tokio::test]
async fn what_the_engine_says_to_have_removed_is_looked_for() {
    let fake = FakeEngine::start(|call| {
        if call.starts_with("DELETE") {
            return Reply::Json(204, String::new());
        }
        one_of_each(call, |kind| !["volumes", "secrets", "configs"].contains(&kind))
    });
    let error = fake.engine().remove(&domain(), CUT_SHORT).await.unwrap_err();
    let message = error_chain(&error);
    for left in ["volume", "secret", "config"] {
        assert!(message.contains(&format!("{left} {STACK}")), "{left} is not in {message}");
    }
}

#[tokio::test]
async fn what_somebody_else_has_removed_is_removed() {
    let removed = Arc::new(AtomicBool::new(false));
    let they = removed.clone();
    let fake = FakeEngine::start(move |call| {
        if call.starts_with("DELETE") {
            they.store(true, Ordering::SeqCst);
            return Reply::Json(404, r#"{"message":"no such thing"}"#.to_owned());
        }
        one_of_each(call, |_| they.load(Ordering::SeqCst))
    });
    fake.engine().remove(&domain(), Duration::from_mins(1)).await.unwrap();
    assert!(removed.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_failure_that_passes_is_outlasted_and_one_that_does_not_ends_a_removal() {
    let failures = Arc::new(AtomicUsize::new(12));
    let left = failures.clone();
    let fake = FakeEngine::start(move |call| {
        let fails =
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        if fails { refused(call) } else { nothing(call) }
    });
    fake.engine().remove(&domain(), Duration::from_mins(1)).await.unwrap();
    assert_eq!(failures.load(Ordering::Relaxed), 0);

    let fake = FakeEngine::start(|_| Reply::Json(400, r#"{"message":"no such filter"}"#.to_owned()));
    let error = fake.engine().remove(&domain(), Duration::from_mins(5)).await.unwrap_err();
    assert!(error_chain(&error).contains("no such filter"), "{}", error_chain(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_listed_when_tasks_have_been() {
    // Whatever is not asked for before the tasks are known comes after them.
    let early = Arc::new(AtomicBool::new(false));
    let (seen, answered) = (early.clone(), AtomicBool::new(false));
    let fake = FakeEngine::start(move |call| {
        if call.contains("/tasks") {
            // The others have so long to come first.
            std::thread::sleep(Duration::from_millis(300));
            answered.store(true, Ordering::SeqCst);
        } else if call.contains("/containers") && !answered.load(Ordering::SeqCst) {
            seen.store(true, Ordering::SeqCst);
        }
        nothing(call)
    });
    fake.engine().inventory(None).await.unwrap();
    assert!(!early.load(Ordering::SeqCst));
}

/// Fails, and counts how often it is asked.
#[derive(Debug, Default)]
struct Broken(AtomicUsize);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a broken source")
    }
}

#[async_trait]
impl StackSource for Broken {
    async fn stacks(&self) -> Result<Vec<Stack>, Failure> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Err(Failure::host("it is broken"))
    }
}

/// Keeps what is told.
#[derive(Debug, Default)]
struct Heard(Mutex<Vec<String>>);

impl Reporter for Heard {
    fn report(&self, event: &Event) {
        self.0.lock().unwrap().push(format!("{event:?}"));
    }
}

#[tokio::test]
async fn sources_are_asked_where_a_name_alone_decides_and_their_failure_is_told() {
    let source = Arc::new(Broken::default());
    let labelled = FakeEngine::start(|call| one_of_each(call, |kind| kind == "services"));
    let look = engine(labelled.socket(), vec![source.clone()]).inventory(Some(&[domain()])).await.unwrap();
    assert!(!look.of(&domain()).is_empty());
    assert_eq!(source.0.load(Ordering::Relaxed), 0, "labels say it all");

    let named = FakeEngine::start(|call| {
        let secret = format!(r#"[{{"ID":"e1","Spec":{{"Name":"{STACK}_pw"}}}}]"#);
        if call.contains("/secrets") { json(secret) } else { nothing(call) }
    });
    let heard = Arc::new(Heard::default());
    let settings = Settings {
        socket: named.socket(),
        suffix: "ci.example.org".parse().unwrap(),
        sources: vec![source.clone()],
        reporter: heard.clone(),
    };
    let swarm = SwarmEngine::new(settings);
    assert_eq!(swarm.inventory(Some(&[domain()])).await.unwrap().of(&domain()).len(), 1);
    assert_eq!(source.0.load(Ordering::Relaxed), 1);
    let shown = heard.0.lock().unwrap().join("\n");
    assert!(shown.contains("Warning") && shown.contains("it is broken"), "{shown}");
    let all = swarm.inventory(None).await.unwrap();
    assert_eq!(all.of(&domain()).len(), 1, "its name is a run app's");

    let error = swarm.remove(&domain(), Duration::from_mins(5)).await.unwrap_err();
    assert!(
        error_chain(&error).contains(&format!("secret {STACK}_pw: it is broken")),
        "{}",
        error_chain(&error)
    );
    assert_eq!(deletions(&named), Vec::<String>::new());
}

#[tokio::test]
async fn a_swarm_that_runs_tasks_elsewhere_is_refused() {
    let node = |id: &str, availability: &str| {
        format!(
            r#"{{"ID":"{id}","Spec":{{"Availability":"{availability}"}},"Description":{{"Hostname":"host-{id}"}}}}"#
        )
    };
    let claim = LockSpace {
        machine_id: "m1".to_owned(),
        hostname: "host".to_owned(),
        boot_id: BootId::new("b1"),
        directory: "8:7".to_owned(),
        path: "/run/lock".into(),
    };
    let swarm = |nodes: Vec<String>| {
        FakeEngine::start(move |call| {
            if call.contains("/info") {
                json(r#"{"Swarm":{"NodeID":"here"}}"#)
            } else if call.contains("/nodes") {
                json(format!("[{}]", nodes.join(",")))
            } else if call.starts_with("POST") {
                Reply::Json(201, r#"{"ID":"new"}"#.to_owned())
            } else {
                nothing(call)
            }
        })
    };
    let here = node("here", "active");
    for fine in [vec![here.clone()], vec![here.clone(), node("b", "drain")]] {
        let fake = swarm(fine);
        fake.engine().claim(&claim).await.unwrap();
        assert_eq!(fake.calls().iter().filter(|call| call.starts_with("POST /configs/create")).count(), 1);
    }
    // A paused node keeps the tasks that it has.
    let elsewhere = [
        vec![here.clone(), node("b", "active")],
        vec![here, node("b", "pause")],
        vec![node("here", "drain"), node("b", "active")],
    ];
    for refused in elsewhere {
        let fake = swarm(refused);
        let error = fake.engine().claim(&claim).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Configuration);
        // Who only looks would say that nothing is there.
        let error_of_look = fake.engine().inventory(None).await.unwrap_err();
        assert_eq!(error_of_look.fault(), Fault::Configuration);
        let hint = error.hint().unwrap();
        assert!(hint.contains("[nodes.\"host-b\"]"), "{hint}");
        assert!(hint.ends_with(": docker node update --availability drain b"), "{hint}");
        assert!(fake.calls().iter().all(|call| call.starts_with("GET")), "nothing was changed");
    }
}
