//! The secrets of an app, and how they come to say whose they are.
//!
//! Recipes have their secrets made outside of the compose file: nothing but a name says whose one is, and with one more
//! stack that name may say something else. An adopted secret carries the label of its stack like everything else, and
//! goes with its stack: so only those are adopted that a run has made.

use std::collections::{BTreeSet, HashSet};

use bollard::query_parameters::UpdateSecretOptions;
use cc_ci_core::engine::{Failure, Kind};
use cc_ci_core::event::Event;
use cc_ci_core::names::Domain;
use tokio::sync::OnceCell;

use crate::SwarmEngine;
use crate::attribution::Owner;
use crate::client::{ApiError, Client};
use crate::inventory::{attribute, inventory};
use crate::snapshot::{NAMESPACE, Snapshot};

/// Somebody else may change a secret between a look at it and its update.
const ATTEMPTS: usize = 3;

/// The full names of the secrets of `domain`.
pub(crate) async fn secrets(engine: &SwarmEngine, domain: &Domain) -> Result<BTreeSet<String>, Failure> {
    let found = inventory(engine, Some(std::slice::from_ref(domain))).await?.of(domain);
    let secrets = found.into_iter().filter(|resource| resource.kind == Kind::Secret);
    Ok(secrets.map(|secret| secret.name).collect())
}

/// Labels those of `names` that only their names say to be secrets of `domain`. Where not every source of stacks could
/// be asked they may be somebody else's: that is told, and they stay as they are.
pub(crate) async fn adopt(
    engine: &SwarmEngine,
    domain: &Domain,
    names: &BTreeSet<String>,
) -> Result<(), Failure> {
    adopt_named(engine, domain, names)
        .await
        .map_err(|error| error.during(format!("can't label the secrets of {domain}")))
}

async fn adopt_named(
    engine: &SwarmEngine,
    domain: &Domain,
    names: &BTreeSet<String>,
) -> Result<(), ApiError> {
    let (client, stack, sources) = (&engine.client, domain.stack(), OnceCell::new());
    let snapshot = Snapshot::read(engine).await?;
    let stacks = HashSet::from([stack.as_str()]);
    let found = attribute(engine, &snapshot, &stacks, Some(&stacks), &sources).await?;
    let unlabelled: Vec<_> = found
        .iter()
        .filter(|found| found.kind == Kind::Secret && names.contains(&found.name))
        .filter(|found| matches!(found.owner, Owner::Named(owner) if owner == stack.as_str()))
        .collect();
    let failed = sources.get().map(|sources| sources.failed.join("; ")).unwrap_or_default();
    if !failed.is_empty() && !unlabelled.is_empty() {
        let count = unlabelled.len();
        let text =
            format!("{count} secrets of {domain} get no label, since they may be somebody else's: {failed}");
        engine.settings.reporter.report(&Event::Warning { text });
        return Ok(());
    }
    for secret in unlabelled {
        label(client, secret.id, stack.as_str()).await?;
    }
    Ok(())
}

/// Labels one secret, unless it has a label by now. The content of a secret can't be changed by that.
async fn label(client: &Client, id: &str, stack: &str) -> Result<(), ApiError> {
    let mut attempts = ATTEMPTS;
    loop {
        let secret = match client.call(async |docker| docker.inspect_secret(id).await).await {
            Ok(secret) => secret,
            Err(ApiError::Gone { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut spec = secret.spec.ok_or(ApiError::Incomplete("a secret without a spec"))?;
        let labels = spec.labels.get_or_insert_default();
        if labels.contains_key(NAMESPACE) {
            return Ok(());
        }
        labels.insert(NAMESPACE.to_owned(), stack.to_owned());
        let version = secret.version.and_then(|version| version.index);
        let version = version.ok_or(ApiError::Incomplete("a secret without a version"))?;
        let version = i64::try_from(version).map_err(|_| ApiError::Incomplete("a secret of no version"))?;
        let options = UpdateSecretOptions { version };
        attempts -= 1;
        match client.call(async |docker| docker.update_secret(id, spec, options).await).await {
            Ok(()) | Err(ApiError::Gone { .. }) => return Ok(()),
            Err(error) if attempts > 0 && is_late(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether somebody else changed it first: Engine 20.10 calls that its own failure.
fn is_late(error: &ApiError) -> bool {
    match error {
        ApiError::Conflict { .. } => true,
        ApiError::Refused { message, .. } => message.contains("out of sequence"),
        _ => false,
    }
}
