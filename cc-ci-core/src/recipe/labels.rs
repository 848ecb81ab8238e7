//! What a recipe says in its services' labels: its version, how long it may take, and how it is backed up.
//!
//! Old recipes label each service (`coop-cloud.<stack>.<service>.version`), newer ones the whole stack
//! (`coop-cloud.<stack>.version`), on `app` or on any other service. Backups are turned on once for the stack; hooks
//! belong to the service that has them, and a volume is left out by a label on any service.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::compose::Compose;
use super::issue::Issue;
use super::rules::{Rule, table};

/// So many paths of a volume are more than any recipe backs up.
const MAX_PATHS: usize = 64;

/// The labels that cc-ci understands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Labels {
    /// The version that the recipe says it is; not always a release's name.
    pub version: Option<String>,
    /// The service whose label says so.
    pub version_on: Option<String>,
    /// How long a deploy may take.
    pub timeout: Option<Duration>,
    /// How the stack is backed up.
    pub backup: Backup,
    /// What looks wrong.
    pub warnings: Vec<LabelWarning>,
}

/// A label that looks wrong; it prints as a line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LabelWarning {
    rule: &'static Rule,
    service: String,
    label: String,
    what: String,
}

impl fmt::Display for LabelWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl LabelWarning {
    pub(super) fn issue(&self) -> Issue {
        let path = ["services", &self.service, "deploy", "labels"];
        Issue::at(self.rule, &path, self.what.clone()).marked(&self.label)
    }
}

/// How a stack is backed up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// Whether it is backed up at all.
    pub declared: bool,
    /// What a backup takes of a volume, by its key, where a label says so. Other volumes are taken whole.
    pub volumes: BTreeMap<String, VolumeBackup>,
    hooks: BTreeMap<(HookKind, String), String>,
}

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HookKind {
    /// Before a backup.
    BackupPre,
    /// After a backup.
    BackupPost,
    /// Before a restore.
    RestorePre,
    /// After a restore.
    RestorePost,
}

impl HookKind {
    fn of_label(key: &str) -> Option<Self> {
        [Self::BackupPre, Self::BackupPost, Self::RestorePre, Self::RestorePost]
            .into_iter()
            .find(|kind| kind.to_string() == key)
    }
}

impl fmt::Display for HookKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BackupPre => "backup.pre-hook",
            Self::BackupPost => "backup.post-hook",
            Self::RestorePre => "restore.pre-hook",
            Self::RestorePost => "restore.post-hook",
        })
    }
}

/// What a backup takes of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum VolumeBackup {
    /// Nothing.
    Excluded,
    /// All of it.
    Whole,
    /// These paths, relative to the volume.
    Paths(Vec<String>),
}

impl Backup {
    /// The hooks of one kind: shell lines to run inside a service, by the service's key.
    pub fn hooks(&self, kind: HookKind) -> impl Iterator<Item = (&str, &str)> {
        let hooks = self.hooks.iter().filter(move |((of, _), _)| *of == kind);
        hooks.map(|((_, service), line)| (service.as_str(), line.as_str()))
    }

    /// What a backup takes of the volume with this full name.
    pub fn rule(&self, compose: &Compose, volume: &str) -> VolumeBackup {
        let key = compose.volumes.iter().find(|(_, object)| object.name == volume).map(|(key, _)| key);
        key.and_then(|key| self.volumes.get(key)).cloned().unwrap_or(VolumeBackup::Whole)
    }
}

impl Compose {
    /// What its services' labels say.
    pub fn labels(&self) -> Labels {
        Labels::read(self)
    }

    /// How its labels say that it is backed up.
    pub fn backup(&self) -> Backup {
        self.labels().backup
    }
}

impl Labels {
    /// Reads the labels of every service.
    fn read(compose: &Compose) -> Self {
        let mut labels = Self::default();
        let mut backed_up = Vec::new();
        // `app` speaks for the recipe where services disagree.
        let mut services: Vec<_> = compose.services.iter().collect();
        services.sort_by_key(|(key, _)| *key != "app");
        let prefix = format!("coop-cloud.{}.", compose.stack);
        for (service, spec) in services {
            for (label, value) in &spec.labels {
                if let Some(key) = label.strip_prefix(&prefix) {
                    labels.coop_cloud(service, key, value);
                } else if let Some(key) = label.strip_prefix("backupbot.") {
                    if key == "backup" {
                        match boolean(value) {
                            Some(true) => backed_up.push(service.as_str()),
                            Some(false) => {}
                            None => labels.warn(service, label, "is true or false"),
                        }
                    } else {
                        labels.backupbot(compose, service, key, value);
                    }
                }
            }
        }
        labels.backup.declared = !backed_up.is_empty();
        if let [_, second, ..] = backed_up[..] {
            labels.warnings.push(LabelWarning {
                rule: &table::BACKUP_TWICE,
                service: second.to_owned(),
                label: "backupbot.backup".to_owned(),
                what: format!("backupbot.backup belongs on one service, but is on {}", backed_up.join(", ")),
            });
        }
        labels
    }

    fn coop_cloud(&mut self, service: &str, key: &str, value: &str) {
        if key == "version" || (key.strip_suffix(".version") == Some(service) && service == "app") {
            match &self.version {
                Some(known) if known != value => {
                    self.warn(service, key, "differs from an earlier version label");
                }
                Some(_) => {}
                None => {
                    self.version = Some(value.to_owned());
                    self.version_on = Some(service.to_owned());
                }
            }
        } else if key == "timeout" {
            match value.parse::<u32>() {
                Ok(seconds) => self.timeout = Some(Duration::from_secs(seconds.into())),
                Err(_) => self.warn(service, key, "is a number of seconds"),
            }
        }
    }

    fn backupbot(&mut self, compose: &Compose, service: &str, key: &str, value: &str) {
        if let Some(volume) = key.strip_prefix("backup.volumes.") {
            let (volume, rule) = match volume.strip_suffix(".path") {
                Some(volume) => {
                    let paths = value.split(',').map(str::trim).filter(|path| !path.is_empty());
                    let Some(paths) = paths.map(beneath).collect::<Option<BTreeSet<_>>>() else {
                        return self.warnings.push(LabelWarning {
                            rule: &table::FOREIGN_NAME,
                            service: service.to_owned(),
                            label: format!("backupbot.{key}"),
                            what: format!("service {service}: label backupbot.{key} leads out of the volume"),
                        });
                    };
                    if paths.is_empty() || paths.len() > MAX_PATHS {
                        let what = format!("names 1 to {MAX_PATHS} paths of the volume");
                        return self.warn(service, &format!("backupbot.{key}"), &what);
                    }
                    let whole = paths.contains("");
                    let paths = VolumeBackup::Paths(paths.into_iter().collect());
                    (volume, if whole { VolumeBackup::Whole } else { paths })
                }
                None => match boolean(value) {
                    Some(true) => (volume, VolumeBackup::Whole),
                    Some(false) => (volume, VolumeBackup::Excluded),
                    None => return self.warn(service, &format!("backupbot.{key}"), "is true or false"),
                },
            };
            if !compose.volumes.contains_key(volume) {
                self.warn(service, &format!("backupbot.{key}"), "names no volume of the recipe");
            }
            // An exclusion wins over paths, whatever their order.
            let known = self.backup.volumes.entry(volume.to_owned()).or_insert_with(|| rule.clone());
            if *known != VolumeBackup::Excluded && rule != VolumeBackup::Whole {
                *known = rule;
            }
            return;
        }
        match HookKind::of_label(key) {
            Some(kind) => drop(self.backup.hooks.insert((kind, service.to_owned()), value.to_owned())),
            None => self.warn(service, &format!("backupbot.{key}"), "is not understood"),
        }
    }

    fn warn(&mut self, service: &str, label: &str, what: &str) {
        let label: String = label.chars().take(120).collect();
        self.warnings.push(LabelWarning {
            rule: &table::LABEL_NOT_UNDERSTOOD,
            service: service.to_owned(),
            what: format!("service {service}: label {label} {what}"),
            label,
        });
    }
}

/// A path of a volume without what says nothing: `./a//b/` is `a/b`, and `.` is empty. `None` for one that no file beneath the
/// volume can have.
fn beneath(path: &str) -> Option<String> {
    let parts = || path.split('/').filter(|part| !matches!(*part, "" | "."));
    let is_plain = |part: &str| part != ".." && part.len() <= 255 && !part.contains('\0');
    (!path.starts_with('/') && parts().all(is_plain)).then(|| parts().collect::<Vec<_>>().join("/"))
}

fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::recipe::compose::tests::compose;

    fn read(services: &[(&str, &[&str])]) -> Labels {
        let mut text = String::from("volumes: {data: , cache: , logs: }\nservices:\n");
        for (service, labels) in services {
            let labels: Vec<String> = labels.iter().map(|label| format!("'{label}'")).collect();
            writeln!(text, "  {service}: {{image: x, deploy: {{labels: [{}]}}}}", labels.join(", ")).unwrap();
        }
        compose(&text).unwrap().labels()
    }

    #[test]
    fn the_version_is_read_in_its_new_and_old_form() {
        let new = read(&[
            ("app", &["coop-cloud.${STACK_NAME}.timeout=${TIMEOUT:-300}"]),
            ("web", &["coop-cloud.${STACK_NAME}.version=1.2.0+1.27.0"]),
        ]);
        assert_eq!(new.version.as_deref(), Some("1.2.0+1.27.0"));
        assert_eq!(new.timeout, Some(Duration::from_mins(5)));
        assert_eq!(new.warnings, []);
        let old = read(&[
            ("app", &["coop-cloud.${STACK_NAME}.app.version=v2-d7"]),
            ("db", &["coop-cloud.${STACK_NAME}.db.version=10-71"]),
        ]);
        assert_eq!(old.version.as_deref(), Some("v2-d7"));
        assert_eq!(old.warnings, []);
        let other = read(&[("app", &["coop-cloud.other_stack.version=1.0.0+1", "coop-cloud.version=1"])]);
        assert_eq!(other, Labels::default());
    }

    #[test]
    fn services_that_disagree_are_warned_about_and_app_wins() {
        let labels = read(&[
            ("aaa", &["coop-cloud.${STACK_NAME}.version=1.0.0+1", "coop-cloud.${STACK_NAME}.timeout=soon"]),
            ("app", &["coop-cloud.${STACK_NAME}.version=2.0.0+1"]),
        ]);
        assert_eq!(labels.version.as_deref(), Some("2.0.0+1"));
        assert_eq!(labels.warnings.len(), 2, "{:?}", labels.warnings);
    }

    #[test]
    fn backups_are_on_for_the_stack_and_hooks_belong_to_services() {
        let labels = read(&[
            (
                "app",
                &[
                    "backupbot.backup=True",
                    "backupbot.backup.volumes.cache=false",
                    "backupbot.backup.volumes.cache.path=a",
                ],
            ),
            (
                "db",
                &[
                    "backupbot.backup.pre-hook=dump > /x",
                    "backupbot.backup.post-hook=rm /x",
                    "backupbot.restore.pre-hook=one",
                    "backupbot.restore.post-hook=two",
                    "backupbot.backup.volumes.data.path=./a//c/, b,b/",
                    "backupbot.backup.volumes.data=true",
                    "backupbot.backup.volumes.logs=true",
                ],
            ),
        ]);
        assert!(labels.backup.declared);
        for (kind, line) in [
            (HookKind::BackupPre, "dump > /x"),
            (HookKind::BackupPost, "rm /x"),
            (HookKind::RestorePre, "one"),
            (HookKind::RestorePost, "two"),
        ] {
            assert_eq!(labels.backup.hooks(kind).collect::<Vec<_>>(), [("db", line)], "{kind}");
        }
        let volumes = [
            ("cache".to_owned(), VolumeBackup::Excluded),
            ("data".to_owned(), VolumeBackup::Paths(vec!["a/c".into(), "b".into()])),
            ("logs".to_owned(), VolumeBackup::Whole),
        ];
        assert_eq!(labels.backup.volumes, volumes.into());
        assert_eq!(labels.warnings, []);
    }

    #[test]
    fn what_is_odd_about_backups_is_warned_about() {
        let labels = read(&[
            ("app", &["backupbot.backup=true", "backupbot.backup.volumes.nope=false"]),
            (
                "db",
                &[
                    "backupbot.backup=true",
                    "backupbot.backup.command=dump",
                    "backupbot.backup.volumes.data=no",
                    "backupbot.backup.volumes.logs.path= ,",
                ],
            ),
            ("web", &["backupbot.backup=yes"]),
        ]);
        assert!(labels.backup.declared);
        for says in [
            "on app, db",
            "nope names no volume",
            "command is not understood",
            "data is true or false",
            "logs.path names 1 to 64 paths",
            "service web",
        ] {
            assert!(
                labels.warnings.iter().any(|warning| warning.to_string().contains(says)),
                "{says}: {:?}",
                labels.warnings
            );
        }
        assert_eq!(labels.warnings.len(), 6);
        assert_eq!(labels.backup.volumes.len(), 1);
        assert!(!read(&[("app", &["backupbot.backup=false"])]).backup.declared);
    }

    #[test]
    fn a_path_of_a_backup_leads_down_or_is_none() {
        for (path, expected) in
            [("a", Some("a")), ("./a//b/", Some("a/b")), (".", Some("")), ("a..", Some("a..")), ("/a", None)]
        {
            assert_eq!(beneath(path).as_deref(), expected, "{path}");
        }
        for path in ["..", "a/../b", "a\0", &"x".repeat(256)] {
            assert_eq!(beneath(path), None, "{path:?}");
        }
    }
}
