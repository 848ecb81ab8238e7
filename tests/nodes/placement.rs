//! Which nodes a service may run on, by its constraints: what a real Swarm does with them is what is foreseen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use cc_ci_core::engine::{App, Engine as _};
use cc_ci_core::event::Event;
use cc_ci_core::names::Domain;
use cc_ci_tests::OnEvent;
use cc_ci_tests::engine::{Nodes, until};
use tempfile::TempDir;

use crate::support::{OnNodes, block_on};

/// An image that nobody has, and no registry: whoever is to run it tries, and fails at once.
fn image(name: &str) -> String {
    format!("127.0.0.1:1/{name}:1")
}

/// What a recipe may say of a place.
fn constraints(nodes: &Nodes) -> Vec<String> {
    let id = nodes.manager().docker(["node", "inspect", "--format", "{{.ID}}", "worker-1"]);
    let id = id.trim();
    let address = nodes.worker(1).address().ip();
    let mut all: Vec<String> = [
        "node.role == manager",
        "node.role==worker",
        "  NODE.ROLE  !=  Manager ",
        "node.role == nothing",
        "node.hostname == worker-1",
        "Node.HostName == WORKER-1",
        "node.hostname != worker-1",
        "node.hostname == worker-*",
        "node.hostname == worker",
        "node.labels.zone == eu",
        "node.labels.zone == EU",
        "node.labels.zone != eu",
        "node.labels.ZONE == eu",
        "Node.Labels.zone == eu",
        "node.labels.empty != x",
        "node.labels.absent != x",
        "node.labels.absent == x",
        "node.labels.org.example.zone == a b",
        "node.labels. == x",
        "node.labels. != x",
        "node.labels == x",
        "engine.labels.absent != x",
        "engine.labels.absent == x",
        "node.platform.os == Linux",
        "node.platform.os != linux",
        "node.platform.arch == x86_64",
        "node.platform.arch == amd64",
        "node.platform.arch != amd64",
        "node.ip == 198.18.0.0/24",
        "node.ip != 198.18.0.0/24",
        "node.ip == 198.18.0.3/31",
        "node.ip == 198.18.0.2/33",
        "node.ip != 198.18.0.2/33",
        "node.ip == 0.0.0.0/0",
        "node.ip == ::/0",
        "node.ip != ::/0",
        "node.ip != nonsense",
        "node.ip == 198.18.0",
        "node.nonsense != x",
        "nonsense != x",
        "node.role != worker != manager",
        // These no Swarm takes.
        "node.role",
        "node.role = manager",
        "node.role !== manager",
        "node.role == manager == worker",
        "node.role != x == manager",
        "node.role ==",
        "== manager",
        "node.labels.zone == eu,us",
        "node.labels.stra\u{df}e != x",
    ]
    .map(str::to_owned)
    .into();
    all.push(format!("node.id == {id}"));
    all.push(format!("node.id != {}", id.to_uppercase()));
    all.push(format!("node.ip == {address}"));
    all.push(format!("node.ip != {address}"));
    all
}

/// The nodes that a real Swarm gives tasks to, by the number of the constraint; none of one that it refuses.
fn given(nodes: &Nodes, constraints: &[String]) -> BTreeMap<usize, BTreeSet<String>> {
    let manager = nodes.manager();
    let create = |name: &str, constraint: &[&str]| {
        let image = image(name);
        let service = ["service", "create", "--detach", "--no-resolve-image", "--restart-condition", "none"];
        let global = ["--mode", "global", "--name", name];
        manager.try_docker(service.iter().chain(&global).chain(constraint).chain(&[image.as_str()])).code == 0
    };
    let taken = constraints
        .iter()
        .enumerate()
        .filter(|(number, constraint)| create(&format!("placed-{number}"), &["--constraint", constraint]));
    let taken: Vec<usize> = taken.map(|(number, _)| number).collect();
    // Those of earlier ones are there by then.
    assert!(create("placed-last", &[]));
    let places = |name: &str| -> BTreeSet<String> {
        let told = manager.docker(["service", "ps", "--format", "{{.Node}}", name]);
        told.lines().map(|line| line.trim().to_owned()).filter(|node| !node.is_empty()).collect()
    };
    until("each node has a task of the last one", || places("placed-last").len() == nodes.all().len());
    let given = taken.iter().map(|number| (*number, places(&format!("placed-{number}")))).collect();
    let mut names: Vec<String> = taken.iter().map(|number| format!("placed-{number}")).collect();
    names.push("placed-last".to_owned());
    manager.docker(["service", "rm"].into_iter().chain(names.iter().map(String::as_str)));
    given
}

/// The nodes on which the images of services with these constraints are pulled, by the number of the constraint.
fn foreseen(test: &OnNodes, constraints: &[String]) -> BTreeMap<usize, BTreeSet<String>> {
    let tree = TempDir::with_prefix("cc-ci-recipe-").expect("a temporary directory");
    let service = |(number, constraint): (usize, &String)| {
        let deploy = serde_json::json!({"placement": {"constraints": [constraint]}});
        (format!("s{number}"), serde_json::json!({"image": image(&format!("s{number}")), "deploy": deploy}))
    };
    let services: serde_json::Map<_, _> = constraints.iter().enumerate().map(service).collect();
    let file = |name: &str, text: &str| {
        let path = tree.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    };
    // What is JSON is YAML.
    file("compose.yml", &serde_json::json!({"version": "3.8", "services": services}).to_string());
    let domain: Domain = format!("test-0d0001.{}", test.world.suffix()).parse().expect("a domain");
    let app = App {
        domain,
        recipe: "some-recipe".parse().expect("a recipe's name"),
        tree: tree.path().to_owned(),
        env_file: file("app.env", "COMPOSE_FILE=compose.yml\n"),
    };
    let notes = Arc::<Mutex<Vec<String>>>::default();
    let reporter = {
        let notes = notes.clone();
        OnEvent(move |event: &Event| {
            if let Event::Note { text } = event {
                notes.lock().expect("nobody panicked").push(text.clone());
            }
        })
    };
    let swarm = test.swarm_that_tells(Arc::new(reporter));
    block_on(swarm.pre_pull(&app)).expect_err("nobody has these images");
    let mut foreseen: BTreeMap<usize, BTreeSet<String>> =
        (0..constraints.len()).map(|number| (number, BTreeSet::new())).collect();
    for note in notes.lock().expect("nobody panicked").iter() {
        let Some((_, pulls)) = note.split_once(" images on ") else { panic!("{note}") };
        let (node, images) = pulls.split_once(": ").expect("NODE: IMAGES");
        for name in images.split(", ") {
            let number =
                name.trim_start_matches("127.0.0.1:1/s").trim_end_matches(":1").parse().expect("a number");
            foreseen.entry(number).or_default().insert(node.to_owned());
        }
    }
    foreseen
}

#[test]
fn images_are_pulled_where_a_real_swarm_places_tasks() {
    let Some(test) = OnNodes::new("images_are_pulled_where_a_real_swarm_places_tasks") else { return };
    let labels = |node: &str, labels: &[&str]| {
        let update = ["node", "update"].into_iter().chain(labels.iter().copied()).chain([node]);
        test.nodes.manager().docker(update);
    };
    labels("worker-1", &["--label-add", "zone=Eu", "--label-add", "empty="]);
    labels("worker-2", &["--label-add", "zone=us", "--label-add", "org.example.zone=a b"]);
    let constraints = constraints(&test.nodes);
    let (given, foreseen) = (given(&test.nodes, &constraints), foreseen(&test, &constraints));
    labels("worker-1", &["--label-rm", "zone", "--label-rm", "empty"]);
    labels("worker-2", &["--label-rm", "zone", "--label-rm", "org.example.zone"]);
    assert!(given.len() >= 40, "few of {} are taken: {given:?}", constraints.len());
    assert!(given.len() < constraints.len(), "none is refused");
    let differ: Vec<_> = given
        .iter()
        .filter(|(number, nodes)| foreseen[number] != **nodes)
        .map(|(number, nodes)| (&constraints[*number], nodes, &foreseen[number]))
        .collect();
    assert!(differ.is_empty(), "constraint, Swarm, foreseen: {differ:#?}");
    test.assert_empty();
}
