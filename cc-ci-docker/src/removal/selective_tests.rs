//! What of a stack goes when only some of it is named.

use std::collections::HashSet;

use bollard::models::TaskState;
use cc_ci_core::engine::{Kind, Resource};

use super::selective::Selective;
use crate::attribution::{Anonymous, Attribution, Owner};
use crate::snapshot::{Container, Object, Service, Snapshot, Task};

const OURS: &str = "a_ci_org";

/// A stack of a service that stays, with the containers of an ended and of a running task, and a service `extra`.
fn snapshot() -> Snapshot {
    let label = Some(OURS.to_owned());
    let service = |name: &str| Service {
        id: name.to_owned(),
        name: format!("{OURS}_{name}"),
        label: label.clone(),
        ..Service::default()
    };
    let task = |id: &str, service: &str, state| Task {
        id: id.to_owned(),
        service: Some(service.to_owned()),
        state: Some(state),
        ..Task::default()
    };
    let container = |task: &str, service: Option<&str>, volumes: &[&str]| Container {
        id: format!("of-{task}"),
        name: format!("of-{task}"),
        label: label.clone(),
        service: service.map(str::to_owned),
        task: service.is_some().then(|| task.to_owned()),
        volumes: volumes.iter().map(|&name| name.to_owned()).collect(),
        ..Container::default()
    };
    let object = |name: &str, label: Option<&str>| Object {
        id: name.to_owned(),
        name: name.to_owned(),
        label: label.map(str::to_owned),
        node: None,
    };
    Snapshot {
        services: vec![service("app"), service("extra")],
        tasks: vec![
            task("ended", "app", TaskState::SHUTDOWN),
            task("runs", "app", TaskState::RUNNING),
            task("more", "extra", TaskState::RUNNING),
        ],
        containers: vec![
            container("ended", Some("app"), &["data", "new"]),
            container("runs", Some("app"), &["data", &anonymous('a')]),
            container("more", Some("extra"), &["new", &anonymous('b')]),
            container("alone", None, &["new"]),
        ],
        volumes: vec![
            object("data", Some(OURS)),
            object("new", Some(OURS)),
            object("theirs", Some("b_ci_org")),
            object(&anonymous('a'), None),
            object(&anonymous('b'), None),
        ],
        ..Snapshot::default()
    }
}

fn anonymous(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// What goes when these are named.
fn going(named: &[(Kind, &str)]) -> HashSet<String> {
    let snapshot = snapshot();
    let attribution = Attribution::new(&snapshot, [OURS]);
    let mut found = attribution.found(&Anonymous::new(&attribution));
    let before: Vec<_> = found.iter().map(|found| found.owner).collect();
    let named: Vec<Resource> = named.iter().map(|(kind, name)| Resource::new(*kind, *name)).collect();
    Selective::new(&named).narrow(OURS, &snapshot, &mut found, &HashSet::new());
    for (found, before) in found.iter().zip(before) {
        // Never is anything *made* the stack's.
        assert!(found.owner == before || found.owner == Owner::Nobody, "{}", found.name);
    }
    let ours = found.iter().filter(|found| found.owner.stack() == Some(OURS) && found.kind != Kind::Task);
    ours.map(|found| found.name.clone()).collect()
}

fn set(names: &[&str]) -> HashSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn a_service_goes_with_what_it_runs_and_no_other_one_does() {
    let goes = going(&[(Kind::Service, "a_ci_org_extra")]);
    assert_eq!(goes, set(&["a_ci_org_extra", "of-more", &anonymous('b')]));
}

#[test]
fn what_a_service_that_stays_runs_is_left_to_it() {
    let named = [
        (Kind::Container, "of-runs"),
        (Kind::Container, "of-more"),
        (Kind::Volume, &anonymous('a')),
        (Kind::Volume, &anonymous('b')),
    ];
    assert_eq!(going(&named), set(&[]));
    assert_eq!(going(&[(Kind::Container, "of-ended")]), set(&["of-ended"]));
    assert_eq!(going(&[(Kind::Container, "of-alone")]), set(&["of-alone"]));
}

#[test]
fn a_volume_goes_with_the_history_that_holds_it_and_with_nothing_that_lives() {
    assert_eq!(going(&[(Kind::Volume, "new")]), set(&["new", "of-ended"]));
}

#[test]
fn what_is_another_stacks_or_of_another_kind_is_not_named() {
    assert_eq!(going(&[(Kind::Volume, "theirs"), (Kind::Secret, "data"), (Kind::Volume, "none")]), set(&[]));
}
