//! What of a warm app an upgrade had added, and its removal.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Failure;
use super::canonical::Before;
use super::drive::Running;
use super::tiers::StepError;
use crate::engine::{Kind, Residue};
use crate::model::error_chain;
use crate::names::Domain;

/// What removing the things that an upgrade had added may take.
pub(super) const REMOVAL_LIMIT: Duration = Duration::from_mins(2);

impl Running<'_> {
    /// Removes what was added since `before`, until a look finds nothing; gives what is gone. Where an order may be
    /// `in_flight`, it may yet appear, and the last look comes so much later.
    pub(super) async fn remove_added(
        &self,
        before: &[Residue],
        in_flight: bool,
    ) -> Result<Vec<Residue>, StepError> {
        let canonical = self.canonical().map_err(StepError::Broken)?;
        let (engine, domain) = (&self.harness.site.engine, &canonical.app.domain);
        let mut removed = BTreeSet::new();
        let mut refused = None;
        loop {
            self.orders_are_done(in_flight).await;
            let added = self.added(before).await?;
            if added.is_empty() {
                return Ok(removed.into_iter().collect());
            }
            // What is still there after it was removed is not removed for ever.
            if added.iter().all(|residue| removed.contains(residue)) {
                let left = Residue::list(&added);
                let why = refused.map(|error| format!(": {}", error_chain(&error))).unwrap_or_default();
                return Err(StepError::Failed(format!(
                    "what was added to {domain} is still there: {left}{why}"
                )));
            }
            refused = engine.remove_only(domain, &added, REMOVAL_LIMIT).await.err();
            removed.extend(added);
        }
    }

    /// What lasts of the app, was not there `before`, and is nothing of the canonical version.
    ///
    /// A record without any service is none of a warm app that was deployed: where the before is not known, nothing
    /// counts as added.
    pub(super) async fn added(&self, before: &[Residue]) -> Result<Vec<Residue>, StepError> {
        if !before.iter().any(|residue| residue.kind == Kind::Service) {
            return Ok(Vec::new());
        }
        let canonical = self.canonical().map_err(StepError::Broken)?;
        let compose = self.said(&canonical.app).await?.compose;
        let stack = &compose.stack;
        let services = compose.services.keys();
        // Engines differ in whether a service's name begins with the stack's.
        let names = services.flat_map(|name| [format!("{stack}_{name}"), name.clone()]);
        let mut kept: BTreeSet<Residue> = names.map(|name| Residue::new(Kind::Service, name)).collect();
        for (kind, objects) in [
            (Kind::Volume, &compose.volumes),
            (Kind::Secret, &compose.secrets),
            (Kind::Config, &compose.configs),
            (Kind::Network, &compose.networks),
        ] {
            kept.extend(objects.values().map(|object| Residue::new(kind, &object.name)));
        }
        let mut added = self.lasting().await?;
        added.retain(|residue| !before.contains(residue) && !kept.contains(residue));
        Ok(added)
    }

    /// What of the app outlives a restart of its services.
    pub(super) async fn lasting(&self) -> Result<Vec<Residue>, StepError> {
        let domain = self.record().domain.clone();
        let inventory = self.harness.site.engine.inventory(Some(std::slice::from_ref(&domain))).await?;
        let mut lasting = inventory.of(&domain);
        lasting.retain(lasts);
        Ok(lasting)
    }

    /// The app as it is now, as the upgrade finds it.
    pub(super) async fn note_before(&self, domain: &Domain) -> Result<&Before, Failure> {
        let failed = |error: StepError| match error {
            StepError::Broken(failure) => failure,
            StepError::Failed(reason) | StepError::Skipped(reason) => Failure::host(reason),
        };
        let lasting = self.lasting().await.map_err(failed)?;
        let services = self.harness.site.engine.services(domain).await?;
        Ok(self.warm.before.get_or_init(|| Before { lasting, services }))
    }
}

/// Whether a thing is the app's own for longer than one start of its services. The rest comes and goes: a volume
/// without a name of its own with its container, a port with its service.
fn lasts(residue: &Residue) -> bool {
    let anonymous = residue.name.len() == 64 && residue.name.bytes().all(|byte| byte.is_ascii_hexdigit());
    match residue.kind {
        Kind::Service | Kind::Secret | Kind::Config => true,
        Kind::Volume => !anonymous,
        Kind::Network => !residue.name.starts_with("port "),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_and_goes_with_a_start_is_never_added() {
        for (kind, name) in [
            (Kind::Task, "t"),
            (Kind::Container, "c"),
            (Kind::Process, "1"),
            (Kind::Volume, &"a".repeat(64)),
            (Kind::Network, "port 20001"),
            (Kind::EnvFile, "/x.env"),
            (Kind::RunTree, "/runs/1"),
        ] {
            assert!(!lasts(&Residue::new(kind, name)), "{kind} {name}");
        }
        for (kind, name) in [(Kind::Volume, "a_data"), (Kind::Network, "a_net"), (Kind::Service, "a_app")] {
            assert!(lasts(&Residue::new(kind, name)), "{kind} {name}");
        }
    }
}
