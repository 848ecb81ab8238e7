//! Proof by content: a file of known content in each declared volume.
//!
//! It goes through the engine and not through the app, so it holds for every recipe: images may have no shell.

use std::collections::{BTreeMap, BTreeSet};

use super::step::StepOutcome;
use crate::engine::{App, Engine};
use crate::model::failure::Failure;

/// The file, at the top of each volume.
const FILE: &str = ".cc-ci-probe";

/// What each volume holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ProbeFiles(BTreeMap<String, String>);

impl ProbeFiles {
    /// Writes `text` and the volume's name into every volume of the app.
    pub async fn write(engine: &dyn Engine, app: &App, text: &str) -> Result<Self, Failure> {
        let mut files = BTreeMap::new();
        for volume in engine.volumes(&app.domain).await? {
            let content = format!("{text} in {volume}\n");
            engine.write_volume_file(&app.domain, &volume, FILE, content.as_bytes()).await?;
            files.insert(volume, content);
        }
        Ok(Self(files))
    }

    /// Compares every volume with what was written, but for those that `left_out` names. Where nothing is left to
    /// compare, nothing is proven.
    pub async fn verify(
        &self,
        engine: &dyn Engine,
        app: &App,
        left_out: &BTreeSet<String>,
    ) -> Result<StepOutcome, Failure> {
        let mut compared = self.0.iter().filter(|(volume, _)| !left_out.contains(volume.as_str())).peekable();
        if self.0.is_empty() {
            return Ok(StepOutcome::skipped("the app declares no volume"));
        }
        if compared.peek().is_none() {
            return Ok(StepOutcome::skipped("every volume is left out of the backup"));
        }
        for (volume, content) in compared {
            match engine.read_volume_file(&app.domain, volume, FILE).await? {
                Some(found) if found == content.as_bytes() => {}
                Some(_) => {
                    return Err(Failure::recipe(format!("volume {volume} holds other data than before")));
                }
                None => return Err(Failure::recipe(format!("volume {volume} lost its data"))),
            }
        }
        Ok(StepOutcome::Passed)
    }
}
