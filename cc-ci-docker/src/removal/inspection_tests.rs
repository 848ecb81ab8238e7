//! What a removal sees of its stack, and what it waits for.

use std::collections::HashSet;

use bollard::models::TaskState;
use cc_ci_core::engine::Kind;

use super::inspection::{Inspection, Remembered, Target};
use crate::attribution::{Anonymous, Attribution};
use crate::snapshot::{Container, Object, Service, Snapshot, Task, Uses};
use crate::tasks::is_harmless;

const OURS: &str = "a_ci_org";

fn labelled() -> Uses {
    Uses { label: Some(OURS.to_owned()), ..Uses::default() }
}

fn service(name: &str, label: Option<&str>) -> Service {
    let uses = Uses { label: label.map(str::to_owned), ..Uses::default() };
    Service { id: format!("id-of-{name}"), name: name.to_owned(), label: label.map(str::to_owned), uses }
}

fn object(name: &str, label: Option<&str>) -> Object {
    Object { id: name.to_owned(), name: name.to_owned(), label: label.map(str::to_owned), node: None }
}

fn preparing(id: &str, service: &str, uses: Uses) -> Task {
    Task {
        id: id.to_owned(),
        service: Some(format!("id-of-{service}")),
        uses,
        state: Some(TaskState::PREPARING),
        desired: Some(TaskState::REMOVE),
        ..Task::default()
    }
}

fn look(snapshot: &Snapshot, tasks: &[Task], remembered: &mut Remembered, certain: bool) -> Inspection {
    let attribution = Attribution::new(snapshot, [OURS]);
    let found = attribution.found(&Anonymous::new(&attribution));
    Inspection::new(OURS, snapshot, &found, tasks, remembered, certain)
}

fn names(targets: &[Target]) -> Vec<&str> {
    targets.iter().map(|target| target.name.as_str()).collect()
}

#[test]
fn a_task_is_harmless_when_it_is_over_or_its_one_container_is_gone() {
    let containers = HashSet::from(["there"]);
    let task = |state, desired, container: Option<&str>| Task {
        state: Some(state),
        desired: Some(desired),
        container: container.map(str::to_owned),
        ..Task::default()
    };
    let over = [
        TaskState::COMPLETE,
        TaskState::SHUTDOWN,
        TaskState::FAILED,
        TaskState::REJECTED,
        TaskState::REMOVE,
        TaskState::ORPHANED,
    ];
    let under_way = [
        TaskState::NEW,
        TaskState::PENDING,
        TaskState::ALLOCATED,
        TaskState::ASSIGNED,
        TaskState::ACCEPTED,
        TaskState::PREPARING,
        TaskState::READY,
        TaskState::STARTING,
        TaskState::RUNNING,
    ];
    for state in over {
        assert!(is_harmless(&task(state, TaskState::RUNNING, None), &containers), "{state:?}");
    }
    for state in under_way {
        let is_harmless = |desired, container| is_harmless(&task(state, desired, container), &containers);
        assert!(is_harmless(TaskState::REMOVE, Some("gone")), "{state:?}");
        assert!(!is_harmless(TaskState::REMOVE, Some("there")), "{state:?}");
        // It has yet to make its container.
        assert!(!is_harmless(TaskState::REMOVE, None), "{state:?}");
        // The Swarm may want another one.
        assert!(!is_harmless(TaskState::SHUTDOWN, Some("gone")), "{state:?}");
        assert!(!is_harmless(TaskState::RUNNING, Some("gone")), "{state:?}");
    }
    let unknown = Task { desired: Some(TaskState::REMOVE), ..Task::default() };
    assert!(!is_harmless(&unknown, &containers));
}

#[test]
fn what_only_the_engines_filters_know_of_a_task_is_waited_for() {
    let mut remembered = Remembered::default();
    let snapshot =
        Snapshot { services: vec![service("a_ci_org_uk_x", Some("a_ci_org_uk"))], ..Snapshot::default() };
    let tasks = [
        // Of a service without a label that is gone: only its name told.
        preparing("t1", "gone", Uses::default()),
        preparing("t2", "gone-too", labelled()),
        // Of longer stacks, whose names begin like ours.
        preparing("t3", "a_ci_org_uk_x", Uses::default()),
        preparing("t4", "gone", Uses { label: Some("a_ci_org_uk".to_owned()), ..Uses::default() }),
        Task { state: Some(TaskState::FAILED), ..preparing("t5", "gone", labelled()) },
    ];
    let look = look(&snapshot, &tasks, &mut remembered, true);
    assert_eq!(look.tasks.iter().map(|task| task.id.as_str()).collect::<Vec<_>>(), ["t1", "t2"]);
    assert!(!look.is_empty() && !look.is_drained());
    assert!(look.others.contains("id-of-a_ci_org_uk_x"));
}

#[test]
fn what_a_gone_service_made_is_remembered() {
    let mut remembered = Remembered::default();
    let odd = Service { uses: Uses::default(), ..service("odd", Some(OURS)) };
    let first = Snapshot { services: vec![odd], ..Snapshot::default() };
    assert_eq!(names(&look(&first, &[], &mut remembered, true).services), ["odd"]);

    let made = Container {
        id: "c".to_owned(),
        name: "odd.1.t".to_owned(),
        service: Some("id-of-odd".to_owned()),
        ..Container::default()
    };
    let task = preparing("t", "odd", Uses::default());
    let second = Snapshot { containers: vec![made.clone()], tasks: vec![task], ..Snapshot::default() };
    let seen = look(&second, &[], &mut remembered, true);
    assert_eq!(names(&seen.containers), ["odd.1.t"]);
    assert_eq!(seen.tasks.len(), 1);
    assert!(
        look(&second, &[], &mut Remembered::default(), true).is_empty(),
        "without a memory it is nobody's"
    );
}

#[test]
fn an_anonymous_volume_is_remembered_until_somebody_uses_it() {
    let volume = "0123456789abcdef".repeat(4);
    let container = Container {
        id: "c".to_owned(),
        name: "a_ci_org_x.1.t".to_owned(),
        label: Some(OURS.to_owned()),
        volumes: vec![volume.clone()],
        ..Container::default()
    };
    let mounted = Snapshot {
        containers: vec![container.clone()],
        volumes: vec![object(&volume, None)],
        ..Snapshot::default()
    };
    let left = Snapshot { containers: Vec::new(), ..mounted.clone() };
    let mut remembered = Remembered::default();
    assert!(look(&left, &[], &mut remembered, true).is_empty(), "nothing says whose it is");
    assert_eq!(names(&look(&mounted, &[], &mut remembered, true).kept), [volume.as_str()]);
    assert_eq!(names(&look(&left, &[], &mut remembered, true).kept), [volume.as_str()]);

    let theirs = Container { name: "tool".to_owned(), label: None, ..container };
    let taken = Snapshot { containers: vec![theirs], ..left.clone() };
    assert!(look(&taken, &[], &mut remembered, true).is_empty());
    let named = Uses { volumes: vec![volume.clone()], ..Uses::default() };
    let by_service =
        Snapshot { services: vec![Service { uses: named.clone(), ..service("b", None) }], ..left.clone() };
    assert!(look(&by_service, &[], &mut remembered, true).is_empty());
    let by_task =
        Snapshot { tasks: vec![Task { uses: named, ..preparing("t", "b", Uses::default()) }], ..left };
    assert!(look(&by_task, &[], &mut remembered, true).is_empty());
}

#[test]
fn what_a_name_alone_says_is_held_back_where_that_is_not_enough() {
    let mut unlabelled = preparing("t", "a_ci_org_x", Uses::default());
    unlabelled.state = Some(TaskState::RUNNING);
    let snapshot = Snapshot {
        services: vec![service("a_ci_org_x", None), service("a_ci_org_y", Some(OURS))],
        tasks: vec![unlabelled.clone()],
        secrets: vec![object("a_ci_org_pw", None), object("a_ci_org_key", Some(OURS))],
        ..Snapshot::default()
    };
    let seen = look(&snapshot, &[unlabelled], &mut Remembered::default(), false);
    assert_eq!(names(&seen.services), ["a_ci_org_y"]);
    assert_eq!(names(&seen.kept), ["a_ci_org_key"]);
    assert_eq!(names(&seen.tasks), Vec::<&str>::new(), "its service stays, so it is not waited for");
    let held_back: Vec<Kind> = seen.held_back.iter().map(|target| target.kind).collect();
    assert_eq!(held_back, [Kind::Service, Kind::Task, Kind::Secret]);

    let seen = look(&snapshot, &[], &mut Remembered::default(), true);
    assert_eq!((seen.services.len(), seen.kept.len(), seen.held_back.len()), (2, 2, 0));
}

#[test]
fn the_engine_filters_by_label_only_where_all_that_runs_has_it() {
    let running = |service: Service, container: Container| Snapshot {
        services: vec![service],
        containers: vec![container],
        ..Snapshot::default()
    };
    let is_labelled = |snapshot: Snapshot| look(&snapshot, &[], &mut Remembered::default(), true).labelled;
    let container = |label: Option<&str>| Container {
        id: "c".to_owned(),
        name: "a_ci_org_x.1.t".to_owned(),
        label: label.map(str::to_owned),
        ..Container::default()
    };
    let all = service("a_ci_org_x", Some(OURS));
    assert!(is_labelled(running(all.clone(), container(Some(OURS)))));
    assert!(!is_labelled(running(all.clone(), container(None))));
    let outside_only = Service { uses: Uses::default(), ..all.clone() };
    assert!(!is_labelled(running(outside_only, container(Some(OURS)))));
    let inside_only = Service { label: None, ..all };
    assert!(!is_labelled(running(inside_only, container(Some(OURS)))));
}

#[test]
fn a_foreign_services_container_is_not_ours_because_of_its_images_label() {
    let container = |service: Option<&str>| Container {
        label: Some(OURS.to_owned()),
        service: service.map(|service| format!("id-of-{service}")),
        ..Container::default()
    };
    let remembered =
        Remembered { services: HashSet::from(["id-of-a_ci_org_app".to_owned()]), ..Remembered::default() };
    assert!(remembered.may_own(&container(Some("a_ci_org_app"))));
    assert!(remembered.may_own(&container(None)));
    assert!(!remembered.may_own(&container(Some("debug"))), "made of an image that was committed from ours");
}

#[test]
fn the_engines_filters_are_asked_only_where_a_task_may_be_the_stacks_and_nothing_else_tells() {
    let foreign = Uses { label: Some("b_ci_org".to_owned()), ..Uses::default() };
    let over = Task { state: Some(TaskState::SHUTDOWN), ..preparing("over", "gone", labelled()) };
    let cases = [
        (preparing("a", "gone", labelled()), true),
        (preparing("b", "gone", Uses::default()), true),
        (Task { service: None, ..preparing("c", "gone", Uses::default()) }, true),
        (preparing("d", "gone", foreign), false),
        (preparing("e", "there", Uses::default()), false),
        (preparing("f", "removed", labelled()), false),
        (over, false),
    ];
    let removed = HashSet::from(["id-of-removed".to_owned()]);
    for (task, asked) in cases {
        let id = task.id.clone();
        let snapshot =
            Snapshot { services: vec![service("there", None)], tasks: vec![task], ..Snapshot::default() };
        assert_eq!(snapshot.has_tasks_of_nobody(OURS, &removed), asked, "{id}");
    }
}
