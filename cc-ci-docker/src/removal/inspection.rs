//! What one stack still has, as its removal sees it.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use cc_ci_core::engine::{Kind, Resource};

use crate::attribution::{Found, Owner};
use crate::snapshot::{Container, Snapshot, Task};
use crate::tasks::is_harmless;

/// Something to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub kind: Kind,
    pub id: String,
    pub name: String,
    /// The node that has it, of a container or a volume where there are several.
    pub node: Option<Arc<str>>,
}

/// What must be remembered from one look to the next: once it is gone, nothing else says whose the rest is.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    /// The stack's services: what they made may carry no other trace of it.
    pub services: HashSet<String>,
    /// The anonymous volumes of its containers.
    pub anonymous: BTreeSet<String>,
}

impl Target {
    pub(crate) fn container(container: &Container) -> Self {
        let (id, name, node) = (container.id.clone(), container.name.clone(), container.node.clone());
        Self { kind: Kind::Container, id, name, node }
    }

    /// As everybody else knows it.
    pub(crate) fn resource(&self) -> Resource {
        let resource = Resource::new(self.kind, &self.name);
        match &self.node {
            Some(node) => resource.on(&**node),
            None => resource,
        }
    }
}

impl Remembered {
    /// Whether a container that carries the label of the stack may be the stack's. The label may be that of its image:
    /// of a service's container, the service decides, and one that is not known to be the stack's is left alone.
    pub(crate) fn may_own(&self, container: &Container) -> bool {
        container.service.as_ref().is_none_or(|service| self.services.contains(service))
    }
}

/// What a look found of a stack.
#[derive(Debug, Default)]
pub(crate) struct Inspection {
    pub services: Vec<Target>,
    pub containers: Vec<Target>,
    /// Tasks that may still do something.
    pub tasks: Vec<Target>,
    /// What only lies there: volumes, secrets, configs, networks.
    pub kept: Vec<Target>,
    /// What a name alone says to be the stack's, where that is not enough.
    pub held_back: Vec<Target>,
    /// Services whose names may begin like the stack's, and that are not to be touched.
    pub others: HashSet<String>,
    /// Whether all that runs, or will, carries the label of the stack: then the engine can filter by it.
    pub labelled: bool,
}

impl Inspection {
    /// `found` is everything in `snapshot`; `tasks`, listed before it, are what the engine's own filters say to be the
    /// stack's. Where `certain` is false, there may be stacks that nobody named.
    pub(crate) fn new(
        stack: &str,
        snapshot: &Snapshot,
        found: &[Found<'_>],
        tasks: &[Task],
        remembered: &mut Remembered,
        certain: bool,
    ) -> Self {
        let mut look = Self::default();
        for found in found {
            let target = || Target {
                kind: found.kind,
                id: found.id.to_owned(),
                name: found.name.clone(),
                node: found.node.cloned(),
            };
            let is_service = found.kind == Kind::Service;
            match found.owner {
                Owner::Named(owner) if owner == stack && !certain => {
                    if is_service {
                        look.others.insert(found.id.to_owned());
                    }
                    look.held_back.push(target());
                }
                owner if owner.stack() == Some(stack) => match found.kind {
                    Kind::Service => look.services.push(target()),
                    Kind::Container => look.containers.push(target()),
                    // Judged below, with those that only the engine's filters know.
                    Kind::Task => {}
                    _ => look.kept.push(target()),
                },
                _ if is_service => {
                    look.others.insert(found.id.to_owned());
                }
                _ => {}
            }
        }
        remembered.services.extend(look.services.iter().map(|service| service.id.clone()));
        look.add_orphans(snapshot, remembered);
        look.add_tasks(stack, snapshot, tasks, remembered);
        look.labelled = look.is_labelled(stack, snapshot);
        look
    }

    /// Whether nothing is left to remove or to wait for.
    pub(crate) fn is_empty(&self) -> bool {
        self.services.is_empty() && self.is_drained() && self.kept.is_empty()
    }

    /// Whether nothing of the stack runs, or ever will.
    pub(crate) fn is_drained(&self) -> bool {
        self.containers.is_empty() && self.tasks.is_empty()
    }

    /// Everything that is to be removed.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &Target> {
        self.services.iter().chain(&self.containers).chain(&self.tasks).chain(&self.kept)
    }

    /// What is known to be the stack's only from earlier looks.
    fn add_orphans(&mut self, snapshot: &Snapshot, remembered: &mut Remembered) {
        let known: HashSet<String> = self.containers.iter().map(|target| target.id.clone()).collect();
        for container in &snapshot.containers {
            let ours =
                container.service.as_ref().is_some_and(|service| remembered.services.contains(service));
            if ours && !known.contains(&container.id) {
                self.containers.push(Target::container(container));
            }
        }
        let kept: HashSet<&str> = self.kept.iter().map(|target| target.name.as_str()).collect();
        let mut orphans = Vec::new();
        for volume in &snapshot.volumes {
            let name = volume.name.as_str();
            if remembered.anonymous.contains(name) && !kept.contains(name) && !snapshot.uses_volume(name) {
                let (id, name, node) = (volume.id.clone(), name.to_owned(), volume.node.clone());
                orphans.push(Target { kind: Kind::Volume, id, name, node });
            }
        }
        self.kept.extend(orphans);
        let volumes = self.kept.iter().filter(|target| target.kind == Kind::Volume);
        let anonymous = volumes.filter(|target| crate::attribution::is_anonymous_name(&target.name));
        remembered.anonymous.extend(anonymous.map(|target| target.name.clone()));
    }

    fn add_tasks(&mut self, stack: &str, snapshot: &Snapshot, tasks: &[Task], remembered: &Remembered) {
        let containers: HashSet<&str> = snapshot.containers.iter().map(|found| found.id.as_str()).collect();
        let mut seen = HashSet::new();
        let filtered = tasks.iter().filter(|task| is_ours(task, stack, &self.others));
        let of_services = snapshot
            .tasks
            .iter()
            .filter(|task| task.service.as_ref().is_some_and(|id| remembered.services.contains(id)));
        for task in filtered.chain(of_services) {
            // What a task makes where nobody sees it is not waited for.
            let waits = snapshot.sees(task) && !is_harmless(task, &containers);
            if waits && seen.insert(task.id.as_str()) {
                let name = format!("{}.{}", task.place, task.id);
                self.tasks.push(Target { kind: Kind::Task, id: task.id.clone(), name, node: None });
            }
        }
    }

    fn is_labelled(&self, stack: &str, snapshot: &Snapshot) -> bool {
        let ids: HashSet<&str> = self.targets().map(|target| target.id.as_str()).collect();
        let ours = |label: &Option<String>| label.as_deref() == Some(stack);
        let services = snapshot.services.iter().filter(|service| ids.contains(service.id.as_str()));
        let containers = snapshot.containers.iter().filter(|found| ids.contains(found.id.as_str()));
        services.into_iter().all(|service| ours(&service.label) && ours(&service.uses.label))
            && containers.into_iter().all(|container| ours(&container.label))
    }
}

/// Of the tasks that the engine's filters gave, those that are no longer stack's.
pub(crate) fn is_ours(task: &Task, stack: &str, others: &HashSet<String>) -> bool {
    task.uses.label.as_deref().is_none_or(|label| label == stack)
        && task.service.as_ref().is_none_or(|service| !others.contains(service))
}

impl Snapshot {
    /// Whether a task may still do something that is the stack's for all that can be seen, though its service is gone and is
    /// none of `remembered`: whose it was, only the engine's filters know.
    pub(super) fn has_tasks_of_nobody(&self, stack: &str, remembered: &HashSet<String>) -> bool {
        let containers: HashSet<&str> = self.containers.iter().map(|found| found.id.as_str()).collect();
        let services: HashSet<&str> = self.services.iter().map(|found| found.id.as_str()).collect();
        self.tasks.iter().any(|task| {
            let known = |id: &String| services.contains(id.as_str()) || remembered.contains(id);
            task.uses.label.as_deref().is_none_or(|label| label == stack)
                && !task.service.as_ref().is_some_and(known)
                && self.sees(task)
                && !is_harmless(task, &containers)
        })
    }

    /// Whether a container has the volume, or a service or a task names it.
    fn uses_volume(&self, name: &str) -> bool {
        let has = |volumes: &Vec<String>| volumes.iter().any(|volume| volume == name);
        self.containers.iter().any(|container| has(&container.volumes))
            || self.services.iter().any(|service| has(&service.uses.volumes))
            || self.tasks.iter().any(|task| has(&task.uses.volumes))
    }

    /// Who uses something, but for `removed`: in words, for people.
    pub(crate) fn users(&self, target: &Target, removed: &HashSet<&str>) -> Vec<String> {
        let has = |list: &Vec<String>| list.iter().any(|used| *used == target.id || *used == target.name);
        let containers = self.containers.iter().filter(|container| match target.kind {
            Kind::Volume => has(&container.volumes),
            Kind::Network => has(&container.networks),
            _ => false,
        });
        let services = self.services.iter().filter(|service| match target.kind {
            Kind::Network => has(&service.uses.networks),
            Kind::Secret => has(&service.uses.secrets),
            Kind::Config => has(&service.uses.configs),
            _ => false,
        });
        let containers = containers.map(|found| (&found.id, format!("the container {}", found.name)));
        let services = services.map(|found| (&found.id, format!("the service {}", found.name)));
        let others = containers.chain(services).filter(|(id, _)| !removed.contains(id.as_str()));
        others.map(|(_, user)| user).collect()
    }
}
