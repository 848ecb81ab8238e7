//! Backups: abra leaves them to a backup service on the engine, and so does the stand-in, whose service does nothing
//! but to be there. The copies are kept in the world, one directory a snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use cc_ci_core::recipe::{Compose, HookKind, VolumeBackup};
use serde_json::Value;

use super::apps::{App, container_of};
use super::command_line::Call;
use super::docker::{self, docker};
use super::{Abra, Fatal, print};

/// What the label of a backup service is.
const LABEL: &str = "label=coop-cloud.backupbot.enabled=true";

/// Where a container has a volume.
struct Mounted {
    container: String,
    directory: String,
    volume: String,
}

/// The app, what its recipe says, and where its snapshots are; refused where nobody takes backups.
fn begin(abra: &Abra, call: &Call) -> Result<(App, Compose, PathBuf), Fatal> {
    let app = App::of(abra, call)?;
    let tree = app.ensured(abra, call)?;
    if docker::lines(&["service", "ls", "--quiet", "--filter", LABEL])?.is_empty() {
        return Err(Fatal::new("no backupbot discovered, is it deployed?"));
    }
    let compose = app.compose(&tree)?;
    let snapshots = abra.world.join("snapshots").join(app.domain.as_str());
    Ok((app, compose, snapshots))
}

pub(super) fn create(abra: &Abra, call: &Call) -> Result<(), Fatal> {
    let (app, compose, snapshots) = begin(abra, call)?;
    let to = snapshots.join(format!("{:04}", names(&snapshots).len() + 1));
    fs::create_dir_all(&to)?;
    let backup = compose.backup();
    hooks(&app, &compose, HookKind::BackupPre)?;
    let mut taken = BTreeSet::new();
    for Mounted { container, directory, volume } in mounted(&app)? {
        if backup.rule(&compose, &volume) != VolumeBackup::Excluded && taken.insert(volume.clone()) {
            let from = format!("{container}:{directory}/.");
            fs::write(to.join(volume), docker::bytes(&["cp", &from, "-"], None, &BTreeMap::new(), None)?)?;
        }
    }
    hooks(&app, &compose, HookKind::BackupPost)?;
    print(&format!("snapshot {} saved\n", to.file_name().unwrap_or_default().display()))
}

pub(super) fn restore(abra: &Abra, call: &Call) -> Result<(), Fatal> {
    let (app, compose, snapshots) = begin(abra, call)?;
    let wanted = call.value("snapshot").map(str::to_owned).filter(|wanted| wanted != "latest");
    let snapshot = wanted.or_else(|| names(&snapshots).pop());
    let from = snapshots.join(snapshot.ok_or_else(|| Fatal::new("no snapshots found"))?);
    hooks(&app, &compose, HookKind::RestorePre)?;
    for Mounted { container, directory, volume } in mounted(&app)? {
        if let Ok(content) = fs::read(from.join(volume)) {
            let to = format!("{container}:{directory}");
            docker::docker_with(&["cp", "-", &to], Some(&content), &BTreeMap::new(), None)?;
        }
    }
    hooks(&app, &compose, HookKind::RestorePost)
}

pub(super) fn snapshots(abra: &Abra, call: &Call) -> Result<(), Fatal> {
    let (_, _, snapshots) = begin(abra, call)?;
    let names = names(&snapshots);
    if call.has("machine") {
        return print(&format!("{}\n", Value::from(names)));
    }
    names.iter().try_for_each(|name| print(&format!("{name}\n")))
}

fn names(directory: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn hooks(app: &App, compose: &Compose, kind: HookKind) -> Result<(), Fatal> {
    for (service, line) in compose.backup().hooks(kind) {
        let container = container_of(app, service)?;
        docker(&["exec", &container, "sh", "-c", line])?;
    }
    Ok(())
}

/// The volumes that the app's containers can write.
fn mounted(app: &App) -> Result<Vec<Mounted>, Fatal> {
    let label = format!("label=com.docker.stack.namespace={}", app.stack());
    let mut found = Vec::new();
    for container in docker::lines(&["ps", "--quiet", "--filter", &label])? {
        let message = docker(&["inspect", "--format", "{{json .Mounts}}", &container])?;
        let mounts: Value = serde_json::from_str(&message).map_err(|error| Fatal(error.to_string()))?;
        for mount in mounts.as_array().into_iter().flatten() {
            if mount["Type"] == "volume" && mount["RW"] == true {
                let text = |key: &str| mount[key].as_str().unwrap_or_default().to_owned();
                let (directory, volume) = (text("Destination"), text("Name"));
                found.push(Mounted { container: container.clone(), directory, volume });
            }
        }
    }
    Ok(found)
}
