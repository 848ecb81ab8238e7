//! Proof by content: a file of known content in each declared volume.
//!
//! It goes through the engine and not through the app, so it holds for every recipe: images may have no shell.

use std::collections::{BTreeMap, BTreeSet};

use super::tiers::StepError;
use crate::engine::{App, Engine};

/// The file, at the top of each volume.
const FILE: &str = ".cc-ci-seed";

/// What each volume holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seeds(BTreeMap<String, String>);

impl Seeds {
    /// Writes `text` and the volume's name into every volume of the app.
    pub async fn write(engine: &dyn Engine, app: &App, text: &str) -> Result<Self, StepError> {
        let mut seeds = BTreeMap::new();
        for volume in engine.volumes(&app.domain).await? {
            let content = format!("{text} in {volume}\n");
            engine.write_volume_file(&app.domain, &volume, FILE, content.as_bytes()).await?;
            seeds.insert(volume, content);
        }
        Ok(Self(seeds))
    }

    /// Compares every volume with what was written, but for those that `left_out` names. Where nothing is left to
    /// compare, nothing is proven.
    pub async fn verify(
        &self,
        engine: &dyn Engine,
        app: &App,
        left_out: &BTreeSet<String>,
    ) -> Result<(), StepError> {
        let mut compared = self.0.iter().filter(|(volume, _)| !left_out.contains(volume.as_str())).peekable();
        if self.0.is_empty() {
            return Err(StepError::Skipped("the app declares no volume".to_owned()));
        }
        if compared.peek().is_none() {
            return Err(StepError::Skipped("every volume is left out of the backup".to_owned()));
        }
        for (volume, content) in compared {
            match engine.read_volume_file(&app.domain, volume, FILE).await? {
                Some(found) if found == content.as_bytes() => {}
                Some(_) => {
                    return Err(StepError::Failed(format!("volume {volume} holds other data than before")));
                }
                None => return Err(StepError::Failed(format!("volume {volume} lost its data"))),
            }
        }
        Ok(())
    }
}
