//! What other nodes are asked, and how often.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cc_ci_core::engine::{App, Engine as _, Failure, Fault, Kind, Resource};
use cc_ci_core::event::{Event, Reporter};
use cc_ci_core::names::Domain;

use crate::SwarmEngine;
use crate::address::Address;
use crate::fake_engine::{FakeEngine, Reply, nothing};
use crate::nodes::NodeAddress;

/// What a removal may take: it has nothing to do.
const LONG: Duration = Duration::from_mins(1);

fn domain() -> Domain {
    "immi-012345.ci.example.org".parse().unwrap()
}

/// A manager of three nodes, of which `drained` ones are given no tasks.
fn manager(drained: &'static [&'static str]) -> FakeEngine {
    FakeEngine::start(move |call| {
        let node = |id: &str| {
            let availability = if drained.contains(&id) { "drain" } else { "active" };
            let status = if id == "m" { r#","ManagerStatus":{"Leader":true}"# } else { "" };
            format!(
                r#"{{"ID":"{id}","Spec":{{"Availability":"{availability}"}},"Description":{{"Hostname":"host-{id}"}}{status}}}"#
            )
        };
        let body = match call {
            _ if call.contains("/info") => r#"{"Swarm":{"NodeID":"m","Nodes":3}}"#.to_owned(),
            _ if call.contains("/nodes") => format!("[{},{},{}]", node("m"), node("a"), node("b")),
            _ if call.starts_with("GET /images/") => r#"{"Id":"sha256:0a"}"#.to_owned(),
            _ => return nothing(call),
        };
        Reply::Json(200, body)
    })
}

/// The engine of the node `id`, on which there is a volume until somebody removes it.
fn node(id: &'static str) -> FakeEngine {
    let removed = AtomicBool::new(false);
    FakeEngine::start(move |call| {
        let body = match call {
            _ if call.starts_with("DELETE /volumes") => {
                removed.store(true, Ordering::Relaxed);
                return Reply::Json(204, String::new());
            }
            _ if removed.load(Ordering::Relaxed) => return nothing(call),
            _ if call.contains("/info") => format!(r#"{{"Swarm":{{"NodeID":"{id}"}}}}"#),
            _ if call.contains("/volumes") => {
                r#"{"Volumes":[{"Name":"immi-012345_ci_example_org_data","Driver":"local","Mountpoint":"","Options":null,"Scope":"local",
                "Labels":{"com.docker.stack.namespace":"immi-012345_ci_example_org"}}]}"#
                    .to_owned()
            }
            _ => return nothing(call),
        };
        Reply::Json(200, body)
    })
}

fn named(manager: &FakeEngine, nodes: &[(&str, &FakeEngine)]) -> SwarmEngine {
    let address = |(name, fake): &(&str, &FakeEngine)| NodeAddress {
        name: (*name).to_owned(),
        address: Address::Unix(fake.socket()),
    };
    manager.engine().with_nodes(nodes.iter().map(address).collect())
}

/// What was asked, without its filters.
fn asked(fake: &FakeEngine) -> Vec<String> {
    let mut calls: Vec<String> =
        fake.calls().iter().map(|call| call.split('?').next().unwrap().to_owned()).collect();
    calls.sort();
    calls
}

#[tokio::test]
async fn a_look_takes_one_list_call_a_kind_and_node_however_many_domains() {
    let (manager, a, b) = (manager(&[]), node("a"), node("b"));
    let engine = named(&manager, &[("host-a", &a), ("b", &b)]);
    let domains: Vec<Domain> =
        (0..200).map(|number| format!("immi-{number:06}.ci.example.org").parse().unwrap()).collect();
    let found = engine.inventory(Some(&domains)).await.unwrap();
    assert_eq!(found.seen().iter().collect::<Vec<_>>(), ["host-a", "host-b", "host-m"]);
    assert_eq!(asked(&manager).len(), 9, "eight for one node, and which others there are");
    for fake in [&a, &b] {
        // Once, it shows that it is that node.
        let expected = ["GET /containers/json", "GET /info", "GET /networks", "GET /volumes"];
        assert_eq!(asked(fake), expected);
    }
    engine.inventory(None).await.unwrap();
    assert_eq!((asked(&manager).len(), asked(&a).len(), asked(&b).len()), (18, 7, 7));
}

#[tokio::test]
async fn a_volume_of_one_name_on_two_nodes_is_two_things() {
    let (manager, a, b) = (manager(&[]), node("a"), node("b"));
    let engine = named(&manager, &[("host-a", &a), ("host-b", &b)]);
    let volume = |node: &str| Resource::new(Kind::Volume, "immi-012345_ci_example_org_data").on(node);
    let found = engine.inventory(Some(&[domain()])).await.unwrap();
    assert_eq!(found.of(&domain()), [volume("host-a"), volume("host-b")]);
    // Each is removed where it is.
    engine.remove(&domain(), LONG).await.unwrap();
    for fake in [&a, &b] {
        let delete = "DELETE /volumes/immi-012345_ci_example_org_data";
        assert!(asked(fake).iter().any(|call| call == delete), "{:?}", asked(fake));
    }
    assert!(asked(&manager).iter().all(|call| call.starts_with("GET")), "{:?}", asked(&manager));
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_unseen_and_not_asked_again_at_once() {
    let (manager, a) = (manager(&["b"]), FakeEngine::start(|_| Reply::Never));
    let engine = named(&manager, &[("host-a", &a)]).with_call_limit(Duration::from_millis(200));
    let first = engine.inventory(Some(&[domain()])).await.unwrap();
    let (name, unseen) = first.unseen().next().unwrap();
    assert_eq!((name, first.seen().len()), ("host-a", 1));
    assert!(unseen.why.contains("of the node host-a did not answer within 200ms"), "{}", unseen.why);
    assert_eq!(first.of(&domain()), [Resource::new(Kind::UnseenNode, "host-a")]);
    let calls = a.calls().len();
    let error = engine.remove(&domain(), LONG).await.unwrap_err();
    assert!(error.to_string().contains("is not verified to be gone from host-a"), "{error}");
    assert_eq!(a.calls().len(), calls);
}

/// Its agent goes on without anybody who tells it to end anything: what is there goes, and that is no proof.
#[tokio::test]
async fn a_node_that_the_swarm_has_lost_is_unseen_though_its_engine_answers() {
    let manager = FakeEngine::start(|call| {
        let body = match call {
            _ if call.contains("/info") => r#"{"Swarm":{"NodeID":"m","Nodes":2}}"#,
            _ if call.contains("/nodes") => {
                r#"[{"ID":"m","Status":{"State":"ready"}},
                {"ID":"a","Description":{"Hostname":"host-a"},"Status":{"State":"down"}}]"#
            }
            _ => return nothing(call),
        };
        Reply::Json(200, body.to_owned())
    });
    let a = node("a");
    let engine = named(&manager, &[("host-a", &a)]);
    let found = engine.inventory(Some(&[domain()])).await.unwrap();
    assert_eq!(
        found.of(&domain()).len(),
        2,
        "its volume, and that there may be more: {:?}",
        found.of(&domain())
    );
    let error = engine.remove(&domain(), LONG).await.unwrap_err();
    let said = error.to_string();
    assert!(said.contains("not verified to be gone from host-a (the Swarm hears nothing of it)"), "{said}");
    let delete = "DELETE /volumes/immi-012345_ci_example_org_data";
    assert!(asked(&a).iter().any(|call| call == delete), "{:?}", asked(&a));
    let left = engine.inventory(Some(&[domain()])).await.unwrap();
    assert_eq!(left.of(&domain()), [Resource::new(Kind::UnseenNode, "host-a")]);
    let since = |found: &cc_ci_core::engine::Inventory| found.unseen().next().unwrap().1.since;
    assert_eq!(since(&left), since(&found), "it is one time");
}

/// One that left in between is not forgotten of an app that was deployed while it was there: its disk may have what that had.
#[tokio::test]
async fn a_node_that_leaves_while_an_app_is_deployed_is_unseen_of_that_app() {
    let tree = tempfile::tempdir().unwrap();
    for leaves_others in [false, true] {
        let left = Arc::new(AtomicBool::new(false));
        let says = left.clone();
        let manager = FakeEngine::start(move |call| {
            let node = |id: &&str| format!(r#"{{"ID":"{id}","Description":{{"Hostname":"host-{id}"}}}}"#);
            let mut nodes = if leaves_others { vec!["m", "a", "b"] } else { vec!["m", "a"] };
            nodes.retain(|node| *node != "a" || !says.load(Ordering::Relaxed));
            let body = match call {
                _ if call.contains("/info") => {
                    format!(r#"{{"Swarm":{{"NodeID":"m","Nodes":{}}}}}"#, nodes.len())
                }
                _ if call.contains("/nodes") => {
                    format!("[{}]", nodes.iter().map(node).collect::<Vec<_>>().join(","))
                }
                _ if call.starts_with("GET /images/") => r#"{"Id":"sha256:0a"}"#.to_owned(),
                _ => return nothing(call),
            };
            Reply::Json(200, body)
        });
        let (a, b) = (without_images("a"), without_images("b"));
        let engine = named(&manager, &[("a", &a), ("host-b", &b)]);
        let other: Domain = "immi-999999.ci.example.org".parse().unwrap();
        let both = [domain(), other.clone()];
        assert_eq!(engine.inventory(Some(&both)).await.unwrap().unseen().count(), 0);
        for domain in &both {
            engine.pre_pull(&app(domain, tree.path(), "services: {app: {image: 'x/y:1'}}\n")).await.unwrap();
        }
        engine.remove(&other, LONG).await.unwrap();
        left.store(true, Ordering::Relaxed);
        let found = engine.inventory(Some(&both)).await.unwrap();
        let (name, unseen) = found.unseen().next().unwrap();
        assert_eq!((name, unseen.why.as_str()), ("host-a", "it is no node of this Swarm any more"));
        assert_eq!(found.of(&domain()), [Resource::new(Kind::UnseenNode, "host-a")]);
        assert_eq!(found.of(&other), []);
        let calls = a.calls().len();
        let error = engine.remove(&domain(), LONG).await.unwrap_err();
        assert!(error.to_string().contains("is not verified to be gone from host-a"), "{error}");
        assert_eq!(a.calls().len(), calls, "it is asked nothing");
        // Whoever asks for others has nothing to do with it.
        assert_eq!(engine.inventory(Some(std::slice::from_ref(&other))).await.unwrap().unseen().count(), 0);
        engine.remove(&other, LONG).await.unwrap();
    }
}

/// A name that another machine has taken over does not make the engine behind the address that one's.
#[tokio::test]
async fn a_node_that_another_machine_replaces_is_not_that_of_the_engine_that_was_named() {
    let replaced = Arc::new(AtomicBool::new(false));
    let says = replaced.clone();
    let manager = FakeEngine::start(move |call| {
        let id = if says.load(Ordering::Relaxed) { "b" } else { "a" };
        let body = match call {
            _ if call.contains("/info") => r#"{"Swarm":{"NodeID":"m","Nodes":2}}"#.to_owned(),
            _ if call.contains("/nodes") => format!(
                r#"[{{"ID":"m","Description":{{"Hostname":"host-m"}}}},{{"ID":"{id}","Description":{{"Hostname":"worker"}}}}]"#
            ),
            _ => return nothing(call),
        };
        Reply::Json(200, body)
    });
    let a = node("a");
    let engine = named(&manager, &[("worker", &a)]);
    assert_eq!(engine.inventory(None).await.unwrap().unseen().count(), 0);
    replaced.store(true, Ordering::Relaxed);
    let found = engine.inventory(None).await.unwrap();
    let (name, unseen) = found.unseen().next().unwrap();
    assert_eq!(name, "worker");
    assert!(unseen.why.contains("is not that of the node b, but of a"), "{}", unseen.why);
}

#[tokio::test]
async fn a_node_without_an_engine_is_refused_unless_it_is_drained() {
    let (all, one) = (manager(&[]), manager(&["b"]));
    let a = node("a");
    for refused in [named(&all, &[]), named(&all, &[("a", &a)])] {
        let error = refused.inventory(None).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Configuration);
        assert!(error.hint().unwrap().ends_with("--availability drain b"), "{:?}", error.hint());
    }
    named(&one, &[("a", &a)]).inventory(None).await.unwrap();
}

#[tokio::test]
async fn an_engine_of_another_machine_shows_nothing_of_the_node() {
    let (manager, b) = (manager(&["b"]), node("b"));
    let found = named(&manager, &[("host-a", &b)]).inventory(Some(&[domain()])).await.unwrap();
    let (name, unseen) = found.unseen().next().unwrap();
    assert_eq!(name, "host-a");
    assert!(unseen.why.contains("is not that of the node a, but of b"), "{}", unseen.why);
    assert_eq!(asked(&b), ["GET /info"], "it is asked nothing else");
}

/// An engine of the node `id` that has no image until it has pulled one.
fn without_images(id: &'static str) -> FakeEngine {
    let pulled = AtomicBool::new(false);
    FakeEngine::start(move |call| match call {
        _ if call.starts_with("POST /images/create") => {
            pulled.store(true, Ordering::Relaxed);
            Reply::Json(200, "{}".to_owned())
        }
        _ if call.starts_with("GET /images/") && !pulled.load(Ordering::Relaxed) => {
            Reply::Json(404, r#"{"message":"No such image"}"#.to_owned())
        }
        _ if call.starts_with("GET /images/") => Reply::Json(200, r#"{"Id":"sha256:0a"}"#.to_owned()),
        _ if call.contains("/info") => Reply::Json(200, format!(r#"{{"Swarm":{{"NodeID":"{id}"}}}}"#)),
        _ => nothing(call),
    })
}

/// An app of one compose file, in `tree`.
fn app(domain: &Domain, tree: &Path, compose: &str) -> App {
    let file = |name: &str, text: &str| {
        let path = tree.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    file("compose.yml", compose);
    App {
        domain: domain.clone(),
        recipe: "some-recipe".parse().unwrap(),
        tree: tree.to_owned(),
        env_file: file("app.env", "COMPOSE_FILE=compose.yml\n"),
    }
}

/// The warnings that were heard.
#[derive(Debug, Default)]
struct Warnings(Mutex<Vec<String>>);

impl Reporter for Warnings {
    fn report(&self, event: &Event) {
        if let Event::Warning { text } = event {
            self.0.lock().unwrap().push(text.clone());
        }
    }
}

/// What the warnings are when `compose` is pulled with these nodes, or why it can't be.
async fn pull(
    manager: &FakeEngine,
    nodes: &[(&str, &FakeEngine)],
    compose: &str,
) -> Result<Vec<String>, Failure> {
    let tree = tempfile::tempdir().unwrap();
    let app = app(&domain(), tree.path(), compose);
    let warnings = Arc::new(Warnings::default());
    let mut engine = named(manager, nodes);
    engine.settings.reporter = warnings.clone();
    engine.pre_pull(&app).await?;
    Ok(warnings.0.lock().unwrap().clone())
}

/// What was pulled, in the words of the API.
fn pulls(fake: &FakeEngine) -> Vec<String> {
    let mut pulls: Vec<String> =
        fake.calls().into_iter().filter(|call| call.starts_with("POST /images/create")).collect();
    pulls.sort();
    pulls
}

/// An engine of the node `id` for which no registry has an image.
fn of_another_kind(id: &'static str) -> FakeEngine {
    FakeEngine::start(move |call| match call {
        _ if call.starts_with("POST /images/create") => {
            let text = "no matching manifest for linux/arm64/v8 in the manifest list entries";
            Reply::Json(404, format!(r#"{{"message":"{text}"}}"#))
        }
        _ if call.starts_with("GET /images/") => {
            Reply::Json(404, r#"{"message":"No such image"}"#.to_owned())
        }
        _ if call.contains("/info") => Reply::Json(200, format!(r#"{{"Swarm":{{"NodeID":"{id}"}}}}"#)),
        _ => nothing(call),
    })
}

#[tokio::test]
async fn an_image_is_pulled_where_its_service_may_run() {
    let (manager, a, b) = (manager(&[]), without_images("a"), without_images("b"));
    let compose = "services:\n  \
         one: {image: 'x/one:1', deploy: {placement: {constraints: [node.hostname == host-a]}}}\n  \
         none: {image: 'x/none:1', deploy: {placement: {constraints: [node.role == nothing]}}}\n  \
         other: {image: 'x/other:1', deploy: {placement: {constraints: [node.hostname != host-a]}}}\n";
    assert_eq!(pull(&manager, &[("a", &a), ("b", &b)], compose).await.unwrap(), [""; 0]);
    let pulled =
        |name: &str| vec![format!("POST /images/create?fromImage=docker.io%2Fx%2F{name}&tag=1&platform=")];
    assert_eq!(pulls(&a), pulled("one"));
    assert_eq!(pulls(&b), pulled("other"));
}

#[tokio::test]
async fn what_is_for_other_machines_is_an_error_where_no_node_can_have_it() {
    let services = "services:\n  any: {image: 'x/any:1'}\n";
    let (manager, a, b) = (manager(&[]), without_images("a"), of_another_kind("b"));
    let nodes = [("a", &a), ("b", &b)];
    let told = pull(&manager, &nodes, services).await.unwrap();
    let [told] = &told[..] else { panic!("{told:?}") };
    assert!(
        told.starts_with("no task of it can run on host-b: docker.io has x/any with the tag 1, but not"),
        "{told}"
    );
    let placed =
        "services:\n  placed: {image: 'x/any:1', deploy: {placement: {constraints: [node.id == b]}}}\n";
    let error = pull(&manager, &nodes, placed).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Recipe);
    assert!(error.to_string().starts_with("1 of 1 images can't be pulled on host-b: "), "{error}");
}

#[tokio::test]
async fn images_are_pulled_on_each_node_and_a_volume_that_may_be_on_any_is_told() {
    let (manager, a) = (manager(&["b"]), without_images("a"));
    let compose = "services:\n  app: {image: 'x/y:1', volumes: ['data:/data', '/anonymous']}\n  \
         placed: {image: 'x/y:1', volumes: ['data:/data'], deploy: {placement: {constraints: [node.role == worker]}}}\n  \
         each: {image: 'x/y:1', volumes: ['data:/data'], deploy: {mode: global}}\nvolumes: {data: }\n";
    let told = pull(&manager, &[("a", &a)], compose).await.unwrap();
    assert_eq!((pulls(&manager).len(), pulls(&a).len()), (0, 1));
    let [told] = &told[..] else { panic!("{told:?}") };
    let expected =
        "the volume data is made anew wherever a task of app is started, which may be any of 2 nodes: ";
    assert!(told.starts_with(expected), "{told}");
}

#[tokio::test]
async fn a_manager_that_is_given_no_tasks_needs_no_images() {
    let (manager, a, b) = (manager(&["m"]), without_images("a"), without_images("b"));
    let compose = "services:\n  app: {image: 'x/y:1', volumes: ['data:/data']}\nvolumes: {data: }\n";
    let told = pull(&manager, &[("a", &a), ("b", &b)], compose).await.unwrap();
    assert!(told[0].contains("which may be any of 2 nodes"), "{told:?}");
    assert!(!asked(&manager).iter().any(|call| call.starts_with("GET /images")), "{:?}", asked(&manager));
}
