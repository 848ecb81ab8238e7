//! Whose an object is (I12).
//!
//! An object belongs to the stack that its label names, whatever it is called. Without a label it belongs to the
//! *longest* known stack that its name begins with: `a_ci_org_uk_db` is no object of `a_ci_org`. Tasks and containers
//! belong to whom their service belongs to. An anonymous volume belongs to the one stack whose containers mount it,
//! unless anybody names it: a recipe could name somebody else's.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cc_ci_core::engine::{Kind, Resource};

use crate::snapshot::{Container, Object, Snapshot, Task};
use crate::tasks::is_harmless;

/// The networks that belong to the engine, or to every app.
const NOBODYS_NETWORKS: [&str; 6] = ["bridge", "docker_gwbridge", "host", "ingress", "none", crate::PROXY];

/// Names of stacks; finds the longest that a name begins with in as many steps as the name has underscores.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownStacks<'a>(HashSet<&'a str>);

/// Whose an object is, and how that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner<'a> {
    /// A label says so: the object's own, or its service's.
    Labelled(&'a str),
    /// Its name alone says so: with one more known stack it may be somebody else's.
    Named(&'a str),
    /// No stack's.
    Nobody,
}

/// One thing that exists, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    pub kind: Kind,
    /// What the engine is asked for it by.
    pub id: &'a str,
    pub name: String,
    pub owner: Owner<'a>,
    /// The node that has it, of a container or a volume where there are several.
    pub node: Option<&'a Arc<str>>,
}

impl Found<'_> {
    /// As everybody else knows it.
    pub(crate) fn resource(&self) -> Resource {
        let resource = Resource::new(self.kind, &self.name);
        match self.node {
            Some(node) => resource.on(&**node),
            None => resource,
        }
    }
}

/// A listing, and who owns what in it.
#[derive(Debug)]
pub(crate) struct Attribution<'a> {
    snapshot: &'a Snapshot,
    known: KnownStacks<'a>,
    services: HashMap<&'a str, (&'a str, Owner<'a>)>,
}

impl<'a> KnownStacks<'a> {
    /// The longest known stack that `name` is, or begins with and an underscore.
    pub(crate) fn owner_of(&self, name: &str) -> Option<&'a str> {
        let mut prefix = name;
        loop {
            if let Some(stack) = self.0.get(prefix) {
                return Some(stack);
            }
            prefix = prefix.rsplit_once('_')?.0;
        }
    }
}

impl<'a> Extend<&'a str> for KnownStacks<'a> {
    fn extend<T: IntoIterator<Item = &'a str>>(&mut self, stacks: T) {
        // The empty name prefixes whatever begins with an underscore.
        self.0.extend(stacks.into_iter().filter(|stack| !stack.is_empty()));
    }
}

impl<'a> Owner<'a> {
    /// The stack that owns it.
    pub(crate) fn stack(self) -> Option<&'a str> {
        match self {
            Self::Labelled(stack) | Self::Named(stack) => Some(stack),
            Self::Nobody => None,
        }
    }
}

impl<'a> Attribution<'a> {
    /// `stacks` are known beside those that the labels of `snapshot` name.
    pub(crate) fn new(snapshot: &'a Snapshot, stacks: impl IntoIterator<Item = &'a str>) -> Self {
        let mut known = KnownStacks::default();
        known.extend(snapshot.labels());
        known.extend(stacks);
        let mut attribution = Self { snapshot, known, services: HashMap::new() };
        attribution.services = snapshot
            .services
            .iter()
            .map(|service| {
                let owner = attribution.of(service.label.as_deref(), &service.name);
                (service.id.as_str(), (service.name.as_str(), owner))
            })
            .collect();
        attribution
    }

    /// Everything of the listing that can be a stack's.
    ///
    /// Tasks whose service is gone and that are harmless are left out: they are history that the Swarm has not
    /// thrown away yet. `anonymous` are the volumes that are nobody's by name.
    pub(crate) fn found(&self, anonymous: &Anonymous<'a>) -> Vec<Found<'a>> {
        let mut found = Vec::new();
        for service in &self.snapshot.services {
            let owner = self.of(service.label.as_deref(), &service.name);
            let (kind, name) = (Kind::Service, service.name.clone());
            found.push(Found { kind, id: &service.id, name, owner, node: None });
        }
        let containers: HashSet<&str> =
            self.snapshot.containers.iter().map(|found| found.id.as_str()).collect();
        for task in &self.snapshot.tasks {
            let service = task.service.as_deref().and_then(|service| self.services.get(service));
            // Of a task that can't be seen, its node stands for all that it may have made.
            if service.is_some() || self.snapshot.sees(task) && !is_harmless(task, &containers) {
                let service = service.map_or_else(|| task.service.as_deref(), |(name, _)| Some(*name));
                let name = format!("{}.{}.{}", service.unwrap_or("task"), task.place, task.id);
                let (kind, owner) = (Kind::Task, self.of_task(task));
                found.push(Found { kind, id: &task.id, name, owner, node: None });
            }
        }
        for container in &self.snapshot.containers {
            let (kind, name) = (Kind::Container, container.name.clone());
            let (owner, node) = (self.of_container(container), container.node.as_ref());
            found.push(Found { kind, id: &container.id, name, owner, node });
        }
        let objects = [
            (Kind::Volume, &self.snapshot.volumes),
            (Kind::Secret, &self.snapshot.secrets),
            (Kind::Config, &self.snapshot.configs),
            (Kind::Network, &self.snapshot.networks),
        ];
        for (kind, objects) in objects {
            for object in objects {
                let owner = match self.of(object.label.as_deref(), &object.name) {
                    _ if kind == Kind::Network && NOBODYS_NETWORKS.contains(&object.name.as_str()) => {
                        Owner::Nobody
                    }
                    Owner::Nobody if kind == Kind::Volume => anonymous.owner_of(&object.name),
                    owner => owner,
                };
                let (name, node) = (object.name.clone(), object.node.as_ref());
                found.push(Found { kind, id: &object.id, name, owner, node });
            }
        }
        found
    }

    /// A label wins over a name.
    pub(crate) fn of(&self, label: Option<&'a str>, name: &str) -> Owner<'a> {
        match label {
            Some("") => Owner::Nobody,
            Some(stack) => Owner::Labelled(stack),
            None => self.known.owner_of(name).map_or(Owner::Nobody, Owner::Named),
        }
    }

    /// A task has no name of its own; what its service is called is not said any more once that is gone.
    pub(crate) fn of_task(&self, task: &'a Task) -> Owner<'a> {
        match task.service.as_deref().and_then(|service| self.services.get(service)) {
            Some((_, owner)) => *owner,
            None => self.of(task.uses.label.as_deref(), ""),
        }
    }

    /// The label of a container may be that of its image: of a service's container, the service decides.
    pub(crate) fn of_container(&self, container: &'a Container) -> Owner<'a> {
        match container.service.as_deref().and_then(|service| self.services.get(service)) {
            Some((_, owner)) => *owner,
            None => self.of(container.label.as_deref(), &container.name),
        }
    }
}

impl Snapshot {
    /// Every stack that a label names.
    fn labels(&self) -> impl Iterator<Item = &str> {
        let objects = [&self.volumes, &self.secrets, &self.configs, &self.networks];
        self.services
            .iter()
            .flat_map(|service| [&service.label, &service.uses.label])
            .chain(self.tasks.iter().map(|task| &task.uses.label))
            .chain(self.containers.iter().map(|container| &container.label))
            .chain(objects.into_iter().flatten().map(|object| &object.label))
            .filter_map(Option::as_deref)
    }
}

impl Snapshot {
    /// The names of what carries no label.
    pub(crate) fn unlabelled(&self) -> impl Iterator<Item = &str> {
        let services = self.services.iter().map(|service| (&service.label, &service.name));
        let containers = self.containers.iter().map(|container| (&container.label, &container.name));
        let objects = [&self.volumes, &self.secrets, &self.configs, &self.networks].into_iter().flatten();
        let objects = objects.map(|object| (&object.label, &object.name));
        services
            .chain(containers)
            .chain(objects)
            .filter(|(label, _)| label.is_none())
            .map(|(_, name)| name.as_str())
    }
}

/// The anonymous volumes, and whose containers mount them.
#[derive(Debug, Default)]
pub(crate) struct Anonymous<'a> {
    owners: HashMap<&'a str, Owner<'a>>,
    /// Containers with such a volume of which no task says what they were told to mount, and whose they are.
    pub unsure: Vec<(&'a Container, Owner<'a>)>,
}

impl<'a> Anonymous<'a> {
    /// Among the owned ones, a volume that a spec names is nobody's. Of a container whose task is in the listing, the
    /// task says what it was told; the others are `unsure`.
    pub(crate) fn new(attribution: &Attribution<'a>) -> Self {
        let snapshot = attribution.snapshot;
        let unlabelled = |volume: &&'a Object| volume.label.is_none() && is_anonymous_name(&volume.name);
        let volumes: HashSet<&str> =
            snapshot.volumes.iter().filter(unlabelled).map(|volume| volume.name.as_str()).collect();
        if volumes.is_empty() {
            return Self::default();
        }
        let specs = snapshot.tasks.iter().map(|task| &task.uses);
        let specs = specs.chain(snapshot.services.iter().map(|service| &service.uses));
        let explicit: HashSet<&str> = specs
            .flat_map(|uses| &uses.volumes)
            .map(String::as_str)
            .filter(|name| volumes.contains(name))
            .collect();
        let tasks: HashSet<&str> = snapshot.tasks.iter().map(|task| task.id.as_str()).collect();
        let mut owners: HashMap<&'a str, Owner<'a>> = HashMap::new();
        let mut unsure = Vec::new();
        for container in &snapshot.containers {
            let owner = attribution.of_container(container);
            let mounted = container.volumes.iter().map(String::as_str).filter(|name| volumes.contains(name));
            for volume in mounted {
                let owner = if explicit.contains(volume) { Owner::Nobody } else { owner };
                let message = container.task.as_deref().is_some_and(|task| tasks.contains(task));
                if !message && owner != Owner::Nobody {
                    unsure.push((container, owner));
                }
                // Who shares it with somebody else does not own it.
                let shared = |known: &mut Owner<'a>| {
                    if known.stack() != owner.stack() {
                        *known = Owner::Nobody;
                    }
                };
                owners.entry(volume).and_modify(shared).or_insert(owner);
            }
        }
        unsure.dedup_by_key(|(container, _)| &container.id);
        Self { owners, unsure }
    }

    /// `volume` was named by somebody, so it is nobody's.
    pub(crate) fn is_named(&mut self, volume: &str) {
        self.owners.remove(volume);
    }

    fn owner_of(&self, volume: &str) -> Owner<'a> {
        self.owners.get(volume).copied().unwrap_or(Owner::Nobody)
    }
}

/// 64 hex digits: what the engine calls a volume that nobody named.
pub(crate) fn is_anonymous_name(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}
