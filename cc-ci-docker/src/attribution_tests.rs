//! Whose an object is: every rule of I12, each with its exception.

use std::collections::BTreeSet;

use bollard::models::TaskState;
use cc_ci_core::engine::Kind;
use cc_ci_core::names::Stack;
use proptest::prelude::*;

use crate::attribution::{Anonymous, Attribution, KnownStacks, Owner};
use crate::snapshot::{Container, Object, Service, Snapshot, Task, Uses};

const OURS: &str = "a_ci_org";
const LONGER: &str = "a_ci_org_uk";

fn object(name: &str, label: Option<&str>) -> Object {
    Object { id: format!("id-of-{name}"), name: name.to_owned(), label: label.map(str::to_owned), node: None }
}

fn service(name: &str, label: Option<&str>) -> Service {
    let label = label.map(str::to_owned);
    Service { id: format!("id-of-{name}"), name: name.to_owned(), label, uses: Uses::default() }
}

fn container(name: &str, label: Option<&str>) -> Container {
    let label = label.map(str::to_owned);
    Container { id: format!("id-of-{name}"), name: name.to_owned(), label, ..Container::default() }
}

fn task(id: &str, service: &str) -> Task {
    Task {
        id: id.to_owned(),
        service: Some(format!("id-of-{service}")),
        state: Some(TaskState::RUNNING),
        ..Task::default()
    }
}

/// The names of what `stack` owns, where `known` is known beside the labels.
fn owned(snapshot: &Snapshot, known: &[&str], stack: &str) -> BTreeSet<String> {
    let attribution = Attribution::new(snapshot, known.iter().copied());
    let found = attribution.found(&Anonymous::new(&attribution));
    let ours = found.into_iter().filter(|found| found.owner.stack() == Some(stack));
    ours.map(|found| format!("{} {}", found.kind, found.name)).collect()
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

#[test]
fn every_kind_belongs_by_label_and_by_name() {
    let mut snapshot = Snapshot::default();
    for (name, label) in [("a_ci_org_x", None), ("elsewhere", Some(OURS)), ("b_ci_org_x", None)] {
        snapshot.services.push(service(name, label));
        snapshot.containers.push(container(name, label));
        for objects in
            [&mut snapshot.volumes, &mut snapshot.secrets, &mut snapshot.configs, &mut snapshot.networks]
        {
            objects.push(object(name, label));
        }
    }
    let expected: BTreeSet<String> =
        [Kind::Service, Kind::Container, Kind::Volume, Kind::Secret, Kind::Config, Kind::Network]
            .iter()
            .flat_map(|kind| [format!("{kind} a_ci_org_x"), format!("{kind} elsewhere")])
            .collect();
    assert_eq!(owned(&snapshot, &[OURS], OURS), expected);
}

#[test]
fn a_name_belongs_to_the_longest_stack_that_anybody_knows() {
    let secret = |name: &str| object(name, None);
    let snapshot = Snapshot {
        secrets: vec![secret("a_ci_org_uk_db"), secret("a_ci_org_db"), secret("a_ci_orgdb"), secret(OURS)],
        ..Snapshot::default()
    };
    let all = set(["secret a_ci_org", "secret a_ci_org_db", "secret a_ci_org_uk_db"]);
    assert_eq!(owned(&snapshot, &[OURS], OURS), all);
    let without = set(["secret a_ci_org", "secret a_ci_org_db"]);
    assert_eq!(owned(&snapshot, &[OURS, LONGER], OURS), without, "a source knows the longer stack");
    let labelled = [
        Snapshot { services: vec![service("x", Some(LONGER))], ..snapshot.clone() },
        Snapshot { containers: vec![container("x", Some(LONGER))], ..snapshot.clone() },
        Snapshot { volumes: vec![object("x", Some(LONGER))], ..snapshot.clone() },
        Snapshot { networks: vec![object("x", Some(LONGER))], ..snapshot.clone() },
        Snapshot { configs: vec![object("x", Some(LONGER))], ..snapshot.clone() },
        Snapshot {
            tasks: vec![Task {
                uses: Uses { label: Some(LONGER.to_owned()), ..Uses::default() },
                ..task("t", "gone")
            }],
            ..snapshot.clone()
        },
    ];
    for labelled in labelled {
        assert_eq!(owned(&labelled, &[OURS], OURS), without, "a label names the longer stack: {labelled:?}");
    }
}

#[test]
fn a_label_of_somebody_else_wins_over_a_name_that_is_ours() {
    let snapshot = Snapshot {
        secrets: vec![object("a_ci_org_pw", Some("b_ci_org")), object("a_ci_org_key", Some(""))],
        configs: vec![object("_any", None)],
        volumes: vec![object("b_ci_org_data", Some(OURS))],
        ..Snapshot::default()
    };
    assert_eq!(owned(&snapshot, &[OURS], OURS), set(["volume b_ci_org_data"]));
    assert_eq!(owned(&snapshot, &[OURS], ""), set([]), "an empty label is no stack");
}

#[test]
fn tasks_and_containers_belong_to_whom_their_service_belongs_to() {
    let of_service = |name: &str, label: Option<&str>, service: &str| Container {
        service: Some(format!("id-of-{service}")),
        ..container(name, label)
    };
    let snapshot = Snapshot {
        services: vec![service("x", Some(OURS)), service("y", None)],
        tasks: vec![task("t1", "x"), task("t2", "y"), task("t3", "gone")],
        containers: vec![
            of_service("x.1.t1", None, "x"),
            // Its image carries a label.
            of_service("y.1.t2", Some(OURS), "y"),
            of_service("a_ci_org_z.1.t3", None, "gone"),
            of_service("z.1.t4", Some(OURS), "gone"),
        ],
        ..Snapshot::default()
    };
    let expected =
        set(["service x", "task x..t1", "container x.1.t1", "container a_ci_org_z.1.t3", "container z.1.t4"]);
    assert_eq!(owned(&snapshot, &[OURS], OURS), expected);
}

#[test]
fn a_task_whose_service_is_gone_counts_until_it_is_harmless() {
    let ours = |task: Task| Task {
        uses: Uses { label: Some(OURS.to_owned()), ..Uses::default() },
        desired: Some(TaskState::REMOVE),
        ..task
    };
    let snapshot = Snapshot {
        tasks: vec![
            ours(Task { state: Some(TaskState::PREPARING), ..task("t1", "gone") }),
            ours(Task { container: Some("c-gone".to_owned()), ..task("t2", "gone") }),
            ours(Task { container: Some("id-of-c".to_owned()), ..task("t3", "gone") }),
            ours(Task { state: Some(TaskState::FAILED), ..task("t4", "gone") }),
        ],
        containers: vec![container("c", None)],
        ..Snapshot::default()
    };
    assert_eq!(owned(&snapshot, &[], OURS), set(["task id-of-gone..t1", "task id-of-gone..t3"]));
}

#[test]
fn the_engines_own_networks_are_nobodys() {
    let names = ["bridge", "docker_gwbridge", "host", "ingress", "none", "proxy"];
    let snapshot =
        Snapshot { networks: names.map(|name| object(name, Some(OURS))).to_vec(), ..Snapshot::default() };
    assert_eq!(owned(&snapshot, &[OURS, "proxy", "none"], OURS), set([]));
}

/// One unlabelled volume without a name, and our container that mounts it.
fn with_anonymous_volume() -> (Snapshot, String) {
    let volume = "0123456789abcdef".repeat(4);
    let snapshot = Snapshot {
        services: vec![service("a_ci_org_x", Some(OURS)), service("b", Some("b_ci_org"))],
        tasks: vec![task("t", "a_ci_org_x")],
        containers: vec![Container {
            task: Some("t".to_owned()),
            service: Some("id-of-a_ci_org_x".to_owned()),
            volumes: vec![volume.clone()],
            ..container("a_ci_org_x.1.t", Some(OURS))
        }],
        volumes: vec![object(&volume, None)],
        ..Snapshot::default()
    };
    (snapshot, volume)
}

fn owns_volume(snapshot: &Snapshot) -> bool {
    owned(snapshot, &[OURS], OURS).iter().any(|name| name.starts_with("volume "))
}

#[test]
fn an_anonymous_volume_belongs_to_the_one_stack_that_mounts_it() {
    let (snapshot, volume) = with_anonymous_volume();
    assert!(owns_volume(&snapshot));

    let mut shared = snapshot.clone();
    shared.containers.push(Container { volumes: vec![volume.clone()], ..container("tool", None) });
    assert!(!owns_volume(&shared), "somebody else mounts it too");

    for label in ["b_ci_org", ""] {
        let mut labelled = snapshot.clone();
        labelled.volumes = vec![object(&volume, Some(label))];
        assert!(!owns_volume(&labelled), "it has a label of somebody else");
    }

    let mut named = snapshot.clone();
    named.containers[0].volumes = vec!["data".to_owned()];
    named.volumes = vec![object("data", None)];
    assert!(!owns_volume(&named), "somebody gave it a name");

    let upper = volume.to_uppercase();
    let mut upper_case = snapshot;
    upper_case.containers[0].volumes = vec![upper.clone()];
    upper_case.volumes = vec![object(&upper, None)];
    assert!(!owns_volume(&upper_case), "the engine writes lower case");
}

#[test]
fn an_anonymous_volume_that_anybody_names_is_nobodys() {
    let (snapshot, volume) = with_anonymous_volume();
    let names = Uses { volumes: vec![volume.clone()], ..Uses::default() };

    let mut own_task = snapshot.clone();
    own_task.tasks[0].uses = names.clone();
    assert!(!owns_volume(&own_task), "our own task was told to mount it: it may be anybody's");

    let mut service = snapshot.clone();
    service.services[1].uses = names;
    assert!(!owns_volume(&service), "a service of somebody else will mount it");

    let attribution = Attribution::new(&snapshot, [OURS]);
    let mut anonymous = Anonymous::new(&attribution);
    anonymous.is_named(&volume);
    let found = attribution.found(&anonymous);
    assert!(found.iter().all(|found| found.kind != Kind::Volume || found.owner == Owner::Nobody));
}

#[test]
fn what_a_container_was_told_to_mount_is_asked_where_no_task_says_it() {
    let (snapshot, _) = with_anonymous_volume();
    let unsure = |snapshot: &Snapshot| {
        let attribution = Attribution::new(snapshot, [OURS]);
        let unsure = Anonymous::new(&attribution).unsure;
        unsure
            .into_iter()
            .map(|(container, owner)| (container.id.clone(), owner.stack().map(str::to_owned)))
            .collect::<Vec<_>>()
    };
    assert_eq!(unsure(&snapshot), []);
    let ours = [("id-of-a_ci_org_x.1.t".to_owned(), Some(OURS.to_owned()))];
    let mut forgotten = snapshot.clone();
    forgotten.tasks.clear();
    assert_eq!(unsure(&forgotten), ours, "the Swarm has forgotten the task");
    let mut plain = snapshot;
    plain.containers[0].task = None;
    assert_eq!(unsure(&plain), ours, "no service made it");
}

proptest! {
    /// The lookup by prefixes finds what looking at every stack finds.
    #[test]
    fn the_longest_known_stack_is_found(
        name in "[ab_]{1,9}",
        known in prop::collection::vec("[ab][ab_]{0,6}", 0..12),
    ) {
        let stacks: Vec<Stack> = known.iter().map(|stack| stack.parse().unwrap()).collect();
        let mut fast = KnownStacks::default();
        fast.extend(known.iter().map(String::as_str));
        let expected = Stack::owner_of(&name, &stacks).map(Stack::as_str);
        prop_assert_eq!(fast.owner_of(&name), expected);
    }
}
