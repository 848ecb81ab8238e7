//! Proof by content: files of known content in an app's volumes.
//!
//! It goes through the engine and not through the app, so it holds for every recipe: images may have no shell.

use std::collections::{BTreeMap, BTreeSet};

use super::step::StepOutcome;
use crate::engine::{App, Engine, VolumeFile};
use crate::model::failure::Failure;

/// The file, in each directory that is to be proved.
const FILE: &str = ".cc-ci-probe";

/// Directories, by their volume's full name and their path in it; the empty one is the volume's top.
pub(super) type Places = BTreeSet<(String, String)>;

/// What each file holds, by its volume and its path there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ProbeFiles(BTreeMap<(String, String), String>);

/// The top of every volume of the app.
pub(super) async fn tops(engine: &dyn Engine, app: &App) -> Result<Places, Failure> {
    let volumes = engine.volumes(&app.domain).await?.into_iter();
    Ok(volumes.map(|volume| (volume, String::new())).collect())
}

fn file_in(directory: &str) -> String {
    if directory.is_empty() { FILE.to_owned() } else { format!("{directory}/{FILE}") }
}

impl ProbeFiles {
    /// Writes `text` and the place into a file in each of `places`.
    pub async fn write(engine: &dyn Engine, app: &App, text: &str, places: &Places) -> Result<Self, Failure> {
        let mut files = BTreeMap::new();
        for (volume, directory) in places {
            let path = file_in(directory);
            let content = format!("{text} in {volume} {directory}\n");
            let file = VolumeFile { domain: &app.domain, volume, path: &path };
            engine.write_volume_file(&file, content.as_bytes()).await?;
            files.insert((volume.clone(), path), content);
        }
        Ok(Self(files))
    }

    /// Files in `places` that nobody has written.
    #[cfg(test)]
    pub fn of(places: &Places) -> Self {
        let file =
            |(volume, directory): &(String, String)| ((volume.clone(), file_in(directory)), String::new());
        Self(places.iter().map(file).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where they are.
    pub fn places(&self) -> Places {
        let place = |(volume, file): &(String, String)| {
            let directory = file.strip_suffix(FILE).unwrap_or_default();
            (volume.clone(), directory.strip_suffix('/').unwrap_or(directory).to_owned())
        };
        self.0.keys().map(place).collect()
    }

    /// Forgets those in directories of a volume that are gone. What is at the top of a volume stays.
    pub async fn forget_gone(&mut self, engine: &dyn Engine, app: &App) -> Result<(), Failure> {
        for (place, content) in std::mem::take(&mut self.0) {
            let (volume, path) = &place;
            let file = VolumeFile { domain: &app.domain, volume, path };
            if path == FILE || engine.read_volume_file(&file).await?.is_some() {
                self.0.insert(place, content);
            }
        }
        Ok(())
    }

    /// Forgets those in volumes other than `mounted`, and returns these volumes.
    pub fn forget_unmounted(&mut self, mounted: &BTreeSet<&str>) -> BTreeSet<String> {
        let unmounted: BTreeSet<String> = self
            .0
            .keys()
            .map(|(volume, _)| volume.clone())
            .filter(|volume| !mounted.contains(volume.as_str()))
            .collect();
        self.0.retain(|(volume, _), _| !unmounted.contains(volume));
        unmounted
    }

    /// Compares every file with what was written. Where there is none, nothing is proven, for the reason `nothing`.
    pub async fn verify(
        &self,
        engine: &dyn Engine,
        app: &App,
        nothing: &str,
    ) -> Result<StepOutcome, Failure> {
        if self.is_empty() {
            return Ok(StepOutcome::skipped(nothing));
        }
        for ((volume, path), content) in &self.0 {
            let place = match path.strip_suffix(FILE).unwrap_or_default() {
                "" => format!("volume {volume}"),
                directory => format!("{directory} of volume {volume}"),
            };
            let file = VolumeFile { domain: &app.domain, volume, path };
            match engine.read_volume_file(&file).await? {
                Some(found) if found == content.as_bytes() => {}
                Some(_) => return Err(Failure::recipe(format!("{place} holds other data than before"))),
                None => return Err(Failure::recipe(format!("{place} lost its data"))),
            }
        }
        Ok(StepOutcome::Passed)
    }
}
