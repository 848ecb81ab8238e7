//! What of an app its backup takes, as the labels say.

use super::probe_files::{Places, ProbeFiles};
use super::recipe::LoadedRecipe;
use crate::engine::{App, Engine, VolumeFile, VolumePath};
use crate::model::failure::Failure;
use crate::recipe::{HookKind, VolumeBackup};

/// What the backup takes, before it is taken.
#[derive(Debug, Default)]
pub(super) struct Covered {
    /// The directories in it, as far as the engine knows.
    pub places: Places,
    /// Whether nothing of the app is in it.
    pub is_empty: bool,
    /// Paths at which nothing is. A hook may yet make something there.
    missing: Places,
    /// Whether a hook may change what is there before it is backed up, or afterwards.
    has_hook: bool,
    /// Whether one may remove what was there, once it is backed up.
    has_post_hook: bool,
}

impl Covered {
    pub async fn look(engine: &dyn Engine, app: &App, loaded: &LoadedRecipe) -> Result<Self, Failure> {
        let rules = &loaded.labels.backup;
        let has_post_hook = rules.hooks(HookKind::BackupPost).next().is_some();
        let has_hook = has_post_hook || rules.hooks(HookKind::BackupPre).next().is_some();
        let mut covered = Self { is_empty: true, has_hook, has_post_hook, ..Self::default() };
        for volume in engine.volumes(&app.domain).await? {
            let paths = match rules.rule(&loaded.compose, &volume) {
                VolumeBackup::Excluded => continue,
                VolumeBackup::Whole => {
                    covered.places.insert((volume.clone(), String::new()));
                    Vec::new()
                }
                VolumeBackup::Paths(paths) => paths,
            };
            covered.is_empty = false;
            for path in paths {
                let looked_at = VolumeFile { domain: &app.domain, volume: &volume, path: &path };
                match engine.volume_path(&looked_at).await? {
                    Some(VolumePath::Directory) => covered.places.insert((volume.clone(), path)),
                    Some(VolumePath::Missing) => covered.missing.insert((volume.clone(), path)),
                    Some(VolumePath::Other) | None => false,
                };
            }
        }
        Ok(covered)
    }

    /// Forgets, after the backup, the files in directories that a hook of it may have made anew or taken away. Where there is no
    /// hook, what is gone is lost.
    pub async fn forget_gone(
        &self,
        probes: &mut ProbeFiles,
        engine: &dyn Engine,
        app: &App,
    ) -> Result<(), Failure> {
        if self.has_hook { probes.forget_gone(engine, app).await } else { Ok(()) }
    }

    /// Looks once more, after the backup, at what was missing. Gives what can't be told of it.
    ///
    /// # Errors
    /// Where a path is still missing and no hook can have removed it.
    pub async fn check(&self, engine: &dyn Engine, app: &App) -> Result<Option<String>, Failure> {
        for (volume, path) in &self.missing {
            let looked_at = VolumeFile { domain: &app.domain, volume, path };
            if engine.volume_path(&looked_at).await? != Some(VolumePath::Missing) {
                continue;
            }
            let what = format!("the backup takes {path} of volume {volume}");
            if self.has_post_hook {
                return Ok(Some(format!("{what}, which is there neither before nor after it")));
            }
            let hint =
                "mend the label backupbot.backup.volumes.<volume>.path: paths are relative to the volume";
            return Err(Failure::recipe(format!("{what}, and nothing is there")).with_hint(hint));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::MemoryEngine;

    fn app() -> App {
        let domain = "demo-pr7.ci.example.org".parse().unwrap();
        App { domain, recipe: "demo".parse().unwrap(), tree: "/none".into(), env_file: "/none".into() }
    }

    #[tokio::test]
    async fn what_is_gone_from_a_directory_is_forgotten_where_a_hook_may_have_done_it_and_nowhere_else() {
        let place = |directory: &str| ("data".to_owned(), directory.to_owned());
        let all = Places::from([place(""), place("dump")]);
        // Nothing is there any more.
        let engine = MemoryEngine::default();
        for (has_hook, kept) in [(false, all.clone()), (true, Places::from([place("")]))] {
            let mut probes = ProbeFiles::of(&all);
            let covered = Covered { has_hook, ..Covered::default() };
            covered.forget_gone(&mut probes, &engine, &app()).await.unwrap();
            assert_eq!(probes.places(), kept, "{has_hook}");
        }
    }

    /// As after a backup service that says nothing of what is not there.
    #[tokio::test]
    async fn a_path_that_the_backup_did_not_find_is_red_unless_a_hook_may_have_removed_it() {
        let app = app();
        let engine = MemoryEngine::default();
        let missing = Places::from([("data".to_owned(), "dump".to_owned())]);
        let mut covered = Covered { missing, ..Covered::default() };
        for (leads_to, has_post_hook, says) in [
            (VolumePath::Missing, false, Err("the backup takes dump of volume data, and nothing is there")),
            (
                VolumePath::Missing,
                true,
                Ok(Some("dump of volume data, which is there neither before nor after")),
            ),
            (VolumePath::Other, false, Ok(None)),
            (VolumePath::Directory, true, Ok(None)),
        ] {
            engine.set_volume_path("dump", leads_to);
            covered.has_post_hook = has_post_hook;
            match (covered.check(&engine, &app).await, says) {
                (Err(failure), Err(says)) => assert_eq!(failure.chain(), says),
                (Ok(Some(told)), Ok(Some(says))) => assert!(told.contains(says), "{told}"),
                (Ok(None), Ok(None)) => {}
                (told, says) => panic!("{told:?}, and not {says:?}"),
            }
        }
    }
}
