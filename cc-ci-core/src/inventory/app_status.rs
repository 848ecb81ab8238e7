//! What exists of run apps and who owns it, without taking a lock.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::engine::{Inventory, Resource, Unseen};
use crate::inventory::ci_host::CiHost;
use crate::inventory::run_store::RunSummary;
use crate::lock::{LockError, LockView};
use crate::model::event::Event;
use crate::model::failure::Failure;
use crate::model::quarantine::Quarantine;
use crate::names::Domain;
use crate::sys::blocking;
use crate::workspace::QuarantineDir;

/// What a look at the host showed.
#[derive(Debug)]
pub struct AppStatuses {
    /// The apps that were asked for, or every run app that exists or has an owner.
    pub apps: Vec<AppStatus>,
    /// The engine's nodes that can't be seen: whatever is there is not among the apps.
    pub unseen: BTreeMap<String, Unseen>,
}

/// One app, as a look at the host showed it.
#[derive(Debug)]
#[non_exhaustive]
pub struct AppStatus {
    /// Its domain.
    pub domain: Domain,
    /// What it is.
    pub ownership: Ownership,
    /// What exists of it. A dead run's tree is among it, a live one's is not.
    pub exists: Vec<Resource>,
    /// Its lock, where somebody held it.
    pub lock: Option<LockView>,
    /// The live run that owns it, where its lock is not held: somebody has removed the lock file.
    pub owner: Option<RunSummary>,
    /// How often it could not be reaped, of one that is left.
    pub quarantine: Option<Quarantine>,
}

/// What an app is to those who look.
#[derive(Debug)]
pub enum Ownership {
    /// Somebody owns it.
    Live,
    /// It exists, and nobody owns it.
    Left,
    /// Nothing exists, and nobody owns it.
    Empty,
    /// It exists, and what is at its lock path can't be trusted, so nobody can own it.
    Refused(LockError),
    /// No run app: never reaped, and its lock is not looked at (I5).
    NotARunApp,
}

impl CiHost {
    /// Looks at `domains`, or at every run app that exists or has an owner: one inventory of the engine between two looks
    /// at the locks. Whoever held a lock before *or* after it owned the app: a run that took its app down meanwhile,
    /// and one that only then began to deploy.
    ///
    /// What happens while the inventory is made can still mislead: the app of an owner that came *and* went meanwhile
    /// may be shown as left, though it is gone by then, and that of one that was killed meanwhile as live. Nothing is
    /// removed for a status's word, and the next one tells.
    pub async fn app_status(&self, domains: Option<&[Domain]>) -> Result<AppStatuses, Failure> {
        let (ci_host, asked) = (self.clone(), domains.map(<[Domain]>::to_vec));
        let before = blocking::run(move || ci_host.held_locks(asked)).await?;
        // Nobody knows what somebody who is asked for had on a node that can't be seen.
        let inventory = self.inventory_after_work(domains, None).await?;
        let unseen = inventory.unseen().map(|(node, unseen)| (node.to_owned(), unseen.clone())).collect();
        for what in inventory.in_the_way() {
            self.reporter.report(&Event::Warning { text: what.to_owned() });
        }
        let domains = domains.map_or_else(
            || {
                let found = inventory.domains().chain(before.keys());
                let run_apps: BTreeSet<&Domain> =
                    found.filter(|domain| self.pattern.is_run_app(domain)).collect();
                run_apps.into_iter().cloned().collect()
            },
            <[Domain]>::to_vec,
        );
        let ci_host = self.clone();
        let apps = blocking::run(move || ci_host.statuses(domains, &inventory, before)).await;
        Ok(AppStatuses { apps, unseen })
    }

    /// The locks of run apps that somebody holds: of `domains`, or of all. What can't be looked at now is told after the
    /// inventory, where anything exists. Blocks.
    fn held_locks(&self, domains: Option<Vec<Domain>>) -> Result<BTreeMap<Domain, LockView>, Failure> {
        let candidates = domains.map_or_else(|| self.locks.domains(), Ok)?;
        let held = |domain: &Domain| self.locks.inspect(domain).ok().flatten().filter(|view| view.held);
        let run_apps = candidates.into_iter().filter(|domain| self.pattern.is_run_app(domain));
        Ok(run_apps.filter_map(|domain| held(&domain).map(|view| (domain, view))).collect())
    }

    /// What the domains are, by what exists of them, and by who held their locks before. Blocks.
    fn statuses(
        &self,
        domains: Vec<Domain>,
        inventory: &Inventory,
        mut before: BTreeMap<Domain, LockView>,
    ) -> Vec<AppStatus> {
        // One that can't be read explains nothing, and is told.
        let quarantine = self.runs.quarantine().ok();
        if let Some(Err(error)) = quarantine.as_ref().map(QuarantineDir::domains) {
            let text = format!("which apps are in quarantine can't be read: {error}");
            self.reporter.report(&Event::Warning { text });
        }
        let (all, live) = (domains.clone(), OnceCell::new());
        let statuses = domains.into_iter().map(|domain| {
            let exists = inventory.of(&domain);
            if !self.pattern.is_run_app(&domain) {
                let ownership = Ownership::NotARunApp;
                return AppStatus { domain, ownership, exists, lock: None, owner: None, quarantine: None };
            }
            let (mut lock, mut owner) = (before.remove(&domain), None);
            let ownership = match self.locks.inspect(&domain) {
                Ok(Some(view)) if view.held => {
                    lock = Some(view);
                    Ownership::Live
                }
                Ok(_) if lock.is_some() => Ownership::Live,
                Ok(_) | Err(_) if exists.is_empty() => Ownership::Empty,
                Ok(_) => {
                    let mut live =
                        live.get_or_init(|| self.live_owners_now(&all, None).unwrap_or_default()).iter();
                    owner = live.find(|(_, run)| run.domains.contains(&domain)).map(|(_, run)| run.clone());
                    if owner.is_some() { Ownership::Live } else { Ownership::Left }
                }
                Err(error) => Ownership::Refused(error),
            };
            let quarantine =
                matches!(ownership, Ownership::Left).then(|| quarantine.as_ref()?.of(&domain)).flatten();
            AppStatus { domain, ownership, exists, lock, owner, quarantine }
        });
        statuses.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::sync::{Arc, Mutex};

    use async_trait::async_trait;

    use super::*;
    use crate::engine::{Kind, MemoryEngine};
    use crate::inventory::env_files::EnvFiles;
    use crate::lock::{AcquireError, AppGuard, AppLock, MemoryLocks, Wait};
    use crate::model::cancellation::Cancellation;
    use crate::model::event::{Reporter, Silent};
    use crate::names::RunAppPattern;
    use crate::sys::system_info::KernelSystemInfo;
    use crate::workspace::{KernelWorkspace, Settings};

    type Then = Box<dyn FnOnce() + Send>;

    /// Locks where something happens right after the first look.
    struct Eventful(MemoryLocks, Mutex<Option<Then>>);

    impl fmt::Debug for Eventful {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{self}")
        }
    }

    impl fmt::Display for Eventful {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("eventful locks")
        }
    }

    #[async_trait]
    impl AppLock for Eventful {
        fn try_acquire(&self, domain: &Domain) -> Result<Option<AppGuard>, LockError> {
            panic!("a look took the lock of {domain}");
        }
        async fn acquire(
            &self,
            domain: &Domain,
            _: Wait,
            _: &Cancellation,
            _: &dyn Reporter,
        ) -> Result<AppGuard, AcquireError> {
            panic!("a look took the lock of {domain}");
        }
        fn inspect(&self, domain: &Domain) -> Result<Option<LockView>, LockError> {
            if domain.as_str().contains("refused") {
                let reason = "it is a FIFO".to_owned();
                return Err(LockError::Refused { path: "/x".into(), reason });
            }
            let view = self.0.inspect(domain);
            if let Some(then) = self.1.lock().unwrap().take() {
                then();
            }
            view
        }
        fn domains(&self) -> Result<Vec<Domain>, LockError> {
            self.0.domains()
        }
        fn space(&self) -> Result<String, LockError> {
            self.0.space()
        }
    }

    struct Scene {
        ci_host: CiHost,
        engine: Arc<MemoryEngine>,
        locks: MemoryLocks,
        _runs: tempfile::TempDir,
    }

    /// After the first look at a lock, `then` happens.
    fn scene(then: impl FnOnce(&MemoryLocks, &MemoryEngine) + Send + 'static) -> Scene {
        let directory = tempfile::tempdir().unwrap();
        let (engine, locks) = (Arc::new(MemoryEngine::default()), MemoryLocks::default());
        let (theirs, ours) = (locks.clone(), engine.clone());
        let then: Then = Box::new(move || then(&theirs, &ours));
        let runs = KernelWorkspace::new(Settings::new(directory.path()).unwrap()).unwrap();
        let ci_host = CiHost {
            host: Arc::new(KernelSystemInfo::new().unwrap()),
            pattern: RunAppPattern::new("status.test".parse().unwrap(), []),
            locks: Arc::new(Eventful(locks.clone(), Mutex::new(Some(then)))),
            engine: engine.clone(),
            env_files: EnvFiles::new(std::path::Path::new("/nonexistent"), "memory"),
            runs: Arc::new(runs),
            reporter: Arc::new(Silent),
        };
        Scene { ci_host, engine, locks, _runs: directory }
    }

    fn app(number: u32) -> Domain {
        format!("a-{number:06x}.status.test").parse().unwrap()
    }

    fn hold(locks: &MemoryLocks, domain: &Domain) -> AppGuard {
        locks.try_acquire(domain).unwrap().unwrap()
    }

    #[tokio::test]
    async fn many_apps_take_one_inventory() {
        let scene = scene(|_, _| ());
        for number in 0..200 {
            scene.engine.put(&app(number), Resource::new(Kind::Service, "app"));
        }
        scene.engine.put(&"blog.status.test".parse().unwrap(), Resource::new(Kind::Service, "app"));
        let held = [hold(&scene.locks, &app(7)), hold(&scene.locks, &app(1000))];
        drop(hold(&scene.locks, &app(1001)));
        let statuses = scene.ci_host.app_status(None).await.unwrap().apps;
        assert_eq!(scene.engine.looks(), 1);
        // The bystander is none of ours, and a free lock of nothing is no news.
        assert_eq!(statuses.len(), 201);
        let live: Vec<&Domain> = statuses
            .iter()
            .filter(|app| matches!(app.ownership, Ownership::Live) && app.lock.is_some())
            .map(|app| &app.domain)
            .collect();
        assert_eq!(live, [&app(7), &app(1000)]);
        assert_eq!(statuses.iter().filter(|app| matches!(app.ownership, Ownership::Left)).count(), 199);
        drop(held);
    }

    #[tokio::test]
    async fn who_gave_its_lock_up_during_the_inventory_was_live() {
        let (hand, guard) = std::sync::mpsc::channel::<AppGuard>();
        let scene = scene(move |_, _| drop(guard.recv()));
        scene.engine.put(&app(1), Resource::new(Kind::Service, "app"));
        hand.send(hold(&scene.locks, &app(1))).unwrap();
        let statuses = scene.ci_host.app_status(Some(&[app(1)])).await.unwrap().apps;
        assert!(matches!(statuses[0].ownership, Ownership::Live), "{statuses:?}");
        assert!(!scene.locks.inspect(&app(1)).unwrap().unwrap().held);
    }

    #[tokio::test]
    async fn who_took_its_lock_during_the_inventory_is_live() {
        let (hand, kept) = std::sync::mpsc::channel();
        let scene = scene(move |locks, engine| {
            hand.send(hold(locks, &app(1))).unwrap();
            engine.put(&app(1), Resource::new(Kind::Service, "app"));
        });
        // A dead run's, that the other one recovers.
        drop(hold(&scene.locks, &app(1)));
        let statuses = scene.ci_host.app_status(None).await.unwrap().apps;
        assert!(matches!(statuses[0].ownership, Ownership::Live), "{statuses:?}");
        drop(kept.recv().unwrap());
    }

    #[tokio::test]
    async fn a_lock_that_cannot_be_trusted_is_told_where_something_exists() {
        let scene = scene(|_, _| ());
        let pattern = RunAppPattern::new("refused.test".parse().unwrap(), []);
        let ci_host = CiHost { pattern, ..scene.ci_host.clone() };
        let [there, empty]: [Domain; 2] =
            ["a-000001.refused.test", "a-000002.refused.test"].map(|name| name.parse().unwrap());
        scene.engine.put(&there, Resource::new(Kind::Service, "app"));
        let statuses = ci_host.app_status(Some(&[there, empty])).await.unwrap().apps;
        assert!(matches!(statuses[0].ownership, Ownership::Refused(_)), "{statuses:?}");
        assert!(matches!(statuses[1].ownership, Ownership::Empty), "{statuses:?}");
    }
}
