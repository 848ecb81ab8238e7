//! Secrets: values of our own making, handed to abra in files.
//!
//! `abra app secret generate` would print them. So they are made here, known to the run's [`Redactor`] before abra ever
//! sees them, and stand on no command line and in no environment.
//!
//! [`Redactor`]: cc_ci_core::engine::Redactor

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cc_ci_core::blocking;
use cc_ci_core::engine::{App, Engine, Failure, RunContext, Secret};
use cc_ci_core::files::{remove_file, write_whole};
use cc_ci_core::recipe::SecretSpec;

use crate::app_files::compose;
use crate::call::Call;
use crate::capabilities::{Flag, Subcommand};
use crate::installed::Abra;

/// One object of the engine is made.
const INSERT_LIMIT: Duration = Duration::from_mins(1);

/// Makes and inserts what the `.env` names and the engine does not have yet; gives the new values by name.
pub(crate) async fn generate(
    abra: &Abra,
    engine: &dyn Engine,
    context: &RunContext,
    app: &App,
) -> Result<BTreeMap<String, Secret>, Failure> {
    let owned = app.clone();
    let specs = context.lifetime.blocking_tasks().run(move || wanted(&owned)).await?;
    if specs.is_empty() {
        return Ok(BTreeMap::new());
    }
    let before = engine.secrets(&app.domain).await?;
    let (mut generated, mut inserted) = (BTreeMap::new(), BTreeSet::new());
    for spec in missing(&specs, app, &before) {
        let value = insert(abra, context, app, spec).await?;
        generated.insert(spec.name.clone(), value);
        inserted.insert(full_name(app, spec));
    }
    if inserted.is_empty() {
        return Ok(generated);
    }
    let after = engine.secrets(&app.domain).await?;
    let lost: Vec<&str> = missing(&specs, app, &after).map(|spec| spec.name.as_str()).collect();
    if !lost.is_empty() {
        return Err(Failure::host(format!(
            "abra says that it inserted the secrets {} of {}, and they are not there",
            lost.join(", "),
            app.domain
        )));
    }
    // No other: what was there before may be meant to outlive the app's stack.
    engine.adopt_secrets(&app.domain, &inserted).await?;
    Ok(generated)
}

/// The secrets that we make: those of the `.env` that a service gets by the compose files which it chooses. abra
/// refuses any other. What a recipe says nobody can make is its owner's. Blocks.
fn wanted(app: &App) -> Result<Vec<SecretSpec>, Failure> {
    let mut specs = app
        .env()?
        .secrets()
        .map_err(|error| Failure::recipe("can't read the secrets of the .env file").with_source(error))?;
    specs.retain(|spec| spec.generate);
    if specs.is_empty() {
        return Ok(specs);
    }
    let compose = compose(app)?;
    let granted: BTreeSet<&str> = compose
        .services
        .values()
        .flat_map(|service| &service.secrets)
        .filter_map(|reference| compose.secrets.get(&reference.source))
        .filter(|secret| secret.external)
        .map(|secret| secret.name.as_str())
        .collect();
    specs.retain(|spec| granted.contains(full_name(app, spec).as_str()));
    Ok(specs)
}

fn full_name(app: &App, spec: &SecretSpec) -> String {
    format!("{}_{}_{}", app.domain.stack(), spec.name, spec.version)
}

/// Those that are not there.
fn missing<'s>(
    specs: &'s [SecretSpec],
    app: &'s App,
    there: &'s BTreeSet<String>,
) -> impl Iterator<Item = &'s SecretSpec> {
    specs.iter().filter(|spec| !there.contains(&full_name(app, spec)))
}

/// Makes one, and has abra insert it from a file that goes at once.
async fn insert(abra: &Abra, context: &RunContext, app: &App, spec: &SecretSpec) -> Result<Secret, Failure> {
    if spec.version.starts_with('-') {
        let (name, version) = (&spec.name, &spec.version);
        return Err(Failure::recipe(format!(
            "the version {version:?} of the secret {name} begins with a dash"
        ))
        .with_hint("name it as others do: v1"));
    }
    let (owned, directory) = (spec.clone(), context.tmp.clone());
    let (value, file) = context
        .lifetime
        .blocking_tasks()
        .run(move || -> io::Result<_> {
            let value = owned.random_value()?;
            let file = ValueFile::write(&directory, &owned.name, value.expose())?;
            Ok((value, file))
        })
        .await
        .map_err(|error| Failure::host("can't write a secret for abra").with_source(error))?;
    context.redactor.hide(value.expose());
    Call::new(abra, Subcommand::SecretInsert, INSERT_LIMIT)
        // Without it, some versions check a release out for this too, or refuse an untracked file.
        .flag(Flag::Chaos)
        .flag(Flag::File)
        .arg(app.domain.as_str())
        .arg(&spec.name)
        .arg(&spec.version)
        .arg(&file.0)
        .run(context, &app.domain)
        .await?;
    Ok(value)
}

/// A value in a file of its own, which goes when this is dropped. What a killed run leaves goes with its tree.
struct ValueFile(PathBuf);

impl ValueFile {
    fn write(directory: &Path, name: &str, value: &str) -> io::Result<Self> {
        let path = directory.join(format!("abra-secret-{name}"));
        write_whole(&path, value.as_bytes(), 0o600)?;
        Ok(Self(path))
    }
}

impl Drop for ValueFile {
    fn drop(&mut self) {
        // At once: the caller may have been cancelled, and nobody waits for another thread then.
        if let Err(error) = blocking::briefly(|| remove_file(&self.0)) {
            tracing::debug!(%error, "a secret's file stays until the run's tree goes");
        }
    }
}
