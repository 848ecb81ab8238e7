//! Tests that are executables: the operator's, and the recipe's own.
//!
//! The contract (docs/writing-recipe-tests.md): any executable whose name begins with its tier; 0 passed, 77
//! skipped, anything else failed. The operator may replace a generic check with `<tier>.<check>`; a recipe only
//! adds, so that a pull request can't turn a check off.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::model::record::TierName;
use crate::recipe::{INSTALL_STEPS, TestFile};

/// What the names of tests begin with that change the app between backup and restore.
const CHANGE: &str = "change";

/// The generic checks: those that an operator may replace.
pub(super) const CHECKS: [&str; 6] =
    ["serving", "healthy", "no-restart", "in-place", "data", "fresh-install"];

/// Whose test it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    /// The operator's: trusted.
    Operator,
    /// The recipe's, from the commit under test: not trusted.
    Recipe,
}

/// One executable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Script {
    pub layer: Layer,
    pub tier: TierName,
    pub file_name: String,
    pub path: PathBuf,
    /// Why it can't be run.
    pub unfit: Option<&'static str>,
}

impl Layer {
    /// Its name, also of the directory in which it has all that is its own.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Recipe => "recipe",
        }
    }
}

impl Script {
    /// Its name in the report.
    pub fn name(&self) -> String {
        format!("{}/{}", self.layer.as_str(), self.file_name)
    }

    /// Whether it prepares a deploy, and tests nothing.
    pub fn is_install_step(&self) -> bool {
        self.file_name == INSTALL_STEPS
    }

    /// Whether it changes what the backup tier wrote, for the restore to bring back.
    fn changes(&self) -> bool {
        self.file_name.starts_with(CHANGE)
    }

    /// Whether it is run in the place of a generic check.
    fn stands_in(&self) -> bool {
        self.replaces().is_some_and(|check| CHECKS.contains(&check))
    }

    /// The check that it names to replace.
    fn replaces(&self) -> Option<&str> {
        (self.layer == Layer::Operator)
            .then(|| self.file_name.strip_prefix(self.tier.as_str())?.strip_prefix('.'))?
    }
}

/// All tests of a run, in order of their layer and name.
#[derive(Debug, Clone, Default)]
pub(super) struct Scripts {
    scripts: Vec<Script>,
    /// The install steps of both layers, the operator's first.
    pub install_steps: Vec<Script>,
}

impl Scripts {
    /// What the directories hold; one that is not there holds nothing.
    pub fn find(operator: Option<&Path>, recipe: Option<&Path>) -> io::Result<Self> {
        let mut found = Self::default();
        for (layer, directory) in [(Layer::Operator, operator), (Layer::Recipe, recipe)] {
            let Some(directory) = directory else { continue };
            let mut entries = match fs::read_dir(directory) {
                Ok(entries) => entries.collect::<Result<Vec<_>, _>>()?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                // A pipe would keep whoever opens it.
                let metadata = fs::metadata(entry.path())?;
                if !metadata.is_file() {
                    continue;
                }
                let what = match File::open(entry.path()) {
                    Ok(file) => TestFile::of(&entry.file_name(), &file)?,
                    // A program may be for running alone.
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                        let runs = metadata.permissions().mode() & 0o111 != 0;
                        if runs { TestFile::Runs } else { TestFile::Data }
                    }
                    Err(error) => return Err(error),
                };
                let unfit = match what {
                    TestFile::Data => continue,
                    TestFile::Runs => None,
                    TestFile::Unfit(why) => Some(why),
                };
                let file_name = entry.file_name().to_string_lossy().into_owned();
                let script =
                    Script { layer, tier: tier_of(&file_name), file_name, path: entry.path(), unfit };
                if script.file_name == INSTALL_STEPS {
                    found.install_steps.push(Script { tier: TierName::Install, ..script });
                } else {
                    found.scripts.push(script);
                }
            }
        }
        Ok(found)
    }

    /// The tests of a tier that stand for themselves.
    pub fn of(&self, tier: TierName) -> impl Iterator<Item = &Script> {
        let meant = move |script: &&Script| script.tier == tier && !script.stands_in() && !script.changes();
        self.scripts.iter().filter(meant)
    }

    /// The tests that run between backup and restore.
    pub fn changes(&self) -> impl Iterator<Item = &Script> {
        self.scripts.iter().filter(|script| script.changes())
    }

    /// How many the recipe has.
    pub fn of_recipe(&self) -> usize {
        let scripts = self.scripts.iter().chain(&self.install_steps);
        scripts.filter(|script| script.layer == Layer::Recipe).count()
    }

    /// The operator's first test that can't be run, and why.
    pub fn unfit_of_operator(&self) -> Option<(&Script, &'static str)> {
        let scripts = self.scripts.iter().chain(&self.install_steps);
        scripts
            .filter(|script| script.layer == Layer::Operator)
            .find_map(|script| Some((script, script.unfit?)))
    }

    /// The operator's replacement of a generic check.
    pub fn replacement(&self, tier: TierName, check: &str) -> Option<&Script> {
        let replaces = |script: &&Script| script.tier == tier && script.replaces() == Some(check);
        // One that can't be run takes nothing's place.
        self.scripts.iter().filter(|script| script.unfit.is_none()).find(replaces)
    }
}

fn tier_of(file_name: &str) -> TierName {
    if file_name.starts_with(CHANGE) {
        return TierName::Restore;
    }
    TierName::ALL.into_iter().find(|tier| file_name.starts_with(tier.as_str())).unwrap_or(TierName::Custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executable(path: &Path) {
        fs::write(path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn the_operator_replaces_a_check_and_a_recipe_only_adds() {
        let (operator, recipe) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in
            ["install.serving", "install.login", "upgrade.fresh-install", "zz-anything", "install_steps.sh"]
        {
            executable(&operator.path().join(name));
        }
        for name in ["install.serving", "upgrade-data", "install_steps.sh"] {
            executable(&recipe.path().join(name));
        }
        fs::write(recipe.path().join("custom-notes.txt"), "no executable").unwrap();
        fs::write(recipe.path().join("custom-lost"), "#!/bin/sh\n").unwrap();
        for name in ["change-note", "restore-note"] {
            executable(&recipe.path().join(name));
        }
        let scripts = Scripts::find(Some(operator.path()), Some(recipe.path())).unwrap();
        let names = |tier| scripts.of(tier).map(Script::name).collect::<Vec<_>>();
        assert_eq!(names(TierName::Install), ["operator/install.login", "recipe/install.serving"]);
        assert_eq!(names(TierName::Upgrade), ["recipe/upgrade-data"]);
        assert_eq!(names(TierName::Custom), ["operator/zz-anything", "recipe/custom-lost"]);
        assert_eq!(names(TierName::Restore), ["recipe/restore-note"]);
        assert_eq!(scripts.changes().map(Script::name).collect::<Vec<_>>(), ["recipe/change-note"]);
        let unfit = scripts.of(TierName::Custom).filter(|script| script.unfit.is_some());
        assert_eq!(unfit.map(Script::name).collect::<Vec<_>>(), ["recipe/custom-lost"]);
        assert!(scripts.unfit_of_operator().is_none());
        let replacement = scripts.replacement(TierName::Install, "serving").unwrap();
        assert_eq!(replacement.layer, Layer::Operator);
        assert!(scripts.replacement(TierName::Upgrade, "serving").is_none());
        assert!(scripts.replacement(TierName::Upgrade, "fresh-install").is_some());
        assert_eq!(scripts.install_steps.len(), 2);
        fs::write(operator.path().join("custom-lost"), "#!/bin/sh\n").unwrap();
        let scripts = Scripts::find(Some(operator.path()), None).unwrap();
        assert_eq!(scripts.unfit_of_operator().unwrap().0.name(), "operator/custom-lost");
        fs::set_permissions(operator.path().join("install.serving"), fs::Permissions::from_mode(0o644))
            .unwrap();
        let scripts = Scripts::find(Some(operator.path()), None).unwrap();
        assert!(scripts.replacement(TierName::Install, "serving").is_none());
    }

    #[test]
    fn a_directory_that_is_not_there_holds_no_test() {
        let nowhere = Path::new("/nonexistent/cc-ci");
        assert_eq!(Scripts::find(Some(nowhere), None).unwrap().of(TierName::Custom).count(), 0);
    }
}
