//! A removal of some of a stack's things.
//!
//! What runs comes and goes with its service: the tasks and containers of a service that stays are left alone, named or
//! not, but for the containers of tasks that are over, which the Swarm keeps as a history. They hold volumes.

use std::collections::HashSet;

use cc_ci_core::engine::{Kind, Resource};

use crate::attribution::{Found, Owner, is_anonymous_name};
use crate::snapshot::Snapshot;
use crate::tasks::is_over;

/// The things that are named.
#[derive(Debug)]
pub(crate) struct Selective(HashSet<Resource>);

impl Selective {
    pub(crate) fn new(named: &[Resource]) -> Self {
        Self(named.iter().cloned().collect())
    }

    /// Leaves `stack` those of its things in `found` that are to go, with the services `gone` already; everything else
    /// is nobody's for this removal.
    pub(crate) fn narrow(
        &self,
        stack: &str,
        snapshot: &Snapshot,
        found: &mut [Found<'_>],
        gone: &HashSet<String>,
    ) {
        let named = |found: &Found<'_>| self.0.contains(&found.resource());
        let ours = |found: &&Found<'_>| found.owner.stack() == Some(stack);
        let chosen = |kind: Kind| {
            found
                .iter()
                .filter(ours)
                .filter(move |found| found.kind == kind && named(found))
                .map(|found| found.id)
        };
        let mut services: HashSet<&str> = chosen(Kind::Service).collect();
        services.extend(gone.iter().map(String::as_str));
        let volumes: HashSet<&str> = chosen(Kind::Volume).collect();
        let named_containers: HashSet<&str> = chosen(Kind::Container).collect();

        let stay: HashSet<&str> = snapshot.services.iter().map(|service| service.id.as_str()).collect();
        let over: HashSet<&str> =
            snapshot.tasks.iter().filter(|task| is_over(task)).map(|task| task.id.as_str()).collect();
        let going: HashSet<&str> = snapshot
            .containers
            .iter()
            .filter(|container| {
                let named = named_containers.contains(container.id.as_str());
                match container.service.as_deref() {
                    Some(service) if services.contains(service) => true,
                    Some(service) if stay.contains(service) => {
                        let holds = container.volumes.iter().any(|volume| volumes.contains(volume.as_str()));
                        let over = container.task.as_deref().is_some_and(|task| over.contains(task));
                        over && (named || holds)
                    }
                    _ => named,
                }
            })
            .map(|container| container.id.as_str())
            .collect();
        let goes = |found: &Found<'_>| match found.kind {
            Kind::Service => services.contains(found.id),
            Kind::Container => going.contains(found.id),
            Kind::Volume if is_anonymous_name(found.id) => {
                let mut mounting = snapshot
                    .containers
                    .iter()
                    .filter(|container| container.volumes.iter().any(|volume| volume == found.id))
                    .map(|container| going.contains(container.id.as_str()))
                    .peekable();
                // It goes with its container, and not before.
                let with_container = mounting.peek().is_some();
                mounting.all(|goes| goes) && (with_container || named(found))
            }
            _ => named(found),
        };
        let stays: Vec<bool> = found.iter().map(|found| !goes(found)).collect();
        for (found, stays) in found.iter_mut().zip(stays) {
            if stays && found.owner.stack() == Some(stack) {
                found.owner = Owner::Nobody;
            }
        }
    }
}
