use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use super::super::Catalogue;
use super::super::conformance::CASES;
use super::*;

#[test]
fn the_kernel_backed_workspace_conforms() {
    for case in CASES {
        println!("{}", case.name);
        case.run(&|settings| Arc::new(KernelWorkspace::new(settings).unwrap()));
    }
}

/// How a workspace can be wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    OpenToOthers,
    SharesADirectory,
    HoldsNoLock,
    TakesNobody,
    TakesAnybody,
    InventsRuns,
    RemovesTheCanonical,
    OverlooksTheFileInTheWay,
    LinksTheCatalogue,
    OwnServers,
    PrunesNothing,
    PrunesAll,
}

#[derive(Debug)]
struct Broken(KernelWorkspace, Fault);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {:?}", self.0, self.1)
    }
}

impl Broken {
    fn unlocked(&self, id: &RunId) -> RunDir {
        let runs = self.0.runs().unwrap();
        let dir = runs.sub(id.as_str().as_ref()).unwrap_or_else(|_| runs.clone());
        RunDir::new(id.clone(), &self.0.settings, runs.clone(), dir, File::open("/dev/null").unwrap())
    }
}

impl AbraWorkspace for Broken {
    fn create(&self, wanted: &RunId) -> Result<RunDir, WorkspaceError> {
        let canonical = self.0.settings.canonical.clone().unwrap();
        match self.1 {
            Fault::SharesADirectory => {
                // Else all who ask at once could find none, and get one each.
                static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
                let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
                if self.0.directory(wanted).exists() {
                    Ok(self.unlocked(wanted))
                } else {
                    self.0.create(wanted)
                }
            }
            Fault::HoldsNoLock => {
                let run = self.unlocked(self.0.create(wanted)?.id());
                // What is started beside this test may keep the lock for a moment; not that of a new file.
                let lock = self.0.directory(run.id()).join("run.lock");
                fs::remove_file(&lock).unwrap();
                fs::write(&lock, "").unwrap();
                Ok(run)
            }
            Fault::OverlooksTheFileInTheWay if canonical.join("servers").is_file() => {
                Ok(self.unlocked(wanted))
            }
            Fault::LinksTheCatalogue => {
                let run = self.0.create(wanted)?;
                let catalogue = run.abra_dir().join("catalogue");
                if !catalogue.is_symlink() {
                    fs::remove_dir_all(&catalogue).unwrap();
                    symlink(canonical.join("catalogue"), &catalogue).unwrap();
                }
                Ok(run)
            }
            Fault::OwnServers => {
                let run = self.0.create(wanted)?;
                fs::remove_file(run.abra_dir().join("servers")).unwrap();
                fs::create_dir_all(run.abra_dir().join("servers/default")).unwrap();
                Ok(run)
            }
            Fault::OpenToOthers => {
                let run = self.0.create(wanted)?;
                fs::set_permissions(run.root(), fs::Permissions::from_mode(0o755)).unwrap();
                Ok(run)
            }
            _ => self.0.create(wanted),
        }
    }

    fn run_files(&self) -> Result<Vec<RunFiles>, WorkspaceError> {
        if self.1 == Fault::InventsRuns {
            return Ok(vec![RunFiles::new("8".parse().unwrap(), self.0.runs()?.clone())]);
        }
        self.0.run_files()
    }

    fn quarantine(&self) -> Result<QuarantineDir, WorkspaceError> {
        self.0.quarantine()
    }

    fn check(&self) -> Result<(), WorkspaceError> {
        self.0.check()
    }

    fn prepare(&self) -> Result<(), WorkspaceError> {
        self.0.prepare()
    }

    fn try_lock_dead(&self, run_id: &RunId) -> Result<Option<RunDir>, WorkspaceError> {
        match self.1 {
            Fault::TakesNobody => Ok(None),
            Fault::TakesAnybody => Ok(Some(self.unlocked(run_id))),
            Fault::RemovesTheCanonical => {
                let canonical = self.0.settings.canonical.as_ref().unwrap();
                fs::remove_dir_all(canonical.join("servers/default")).unwrap();
                self.0.try_lock_dead(run_id)
            }
            _ => self.0.try_lock_dead(run_id),
        }
    }

    fn prune(&self, keep: usize, stop: &dyn Fn() -> bool) -> Result<Pruned, WorkspaceError> {
        match self.1 {
            Fault::PrunesNothing => Ok(Pruned::default()),
            Fault::PrunesAll => {
                for id in self.0.run_ids()? {
                    fs::remove_dir_all(self.0.directory(&id)).unwrap();
                }
                Ok(Pruned::default())
            }
            _ => self.0.prune(keep, stop),
        }
    }

    fn runs_dir(&self) -> &Path {
        self.0.runs_dir()
    }
}

#[test]
fn every_case_fails_on_a_workspace_that_breaks_its_promise() {
    let faults = [
        ("a_run_directory_is_private_and_complete", Fault::OpenToOthers),
        ("a_taken_id_gets_the_next_free_suffix", Fault::SharesADirectory),
        ("one_id_asked_for_by_many_at_once_gives_each_its_own_directory", Fault::SharesADirectory),
        ("two_runs_share_no_path_but_servers_and_catalogue", Fault::OwnServers),
        ("two_runs_share_no_path_but_servers_and_catalogue", Fault::SharesADirectory),
        ("each_run_counts_its_own_deploys", Fault::SharesADirectory),
        ("a_live_run_is_never_taken", Fault::HoldsNoLock),
        ("a_dead_run_is_taken_by_one", Fault::TakesNobody),
        ("a_dead_run_is_taken_by_one", Fault::TakesAnybody),
        ("what_has_no_directory_is_no_dead_run", Fault::TakesAnybody),
        ("what_has_no_directory_is_no_dead_run", Fault::InventsRuns),
        ("removal_leaves_the_canonical_tree_and_the_record", Fault::RemovesTheCanonical),
        ("a_plain_file_in_the_way_of_servers_is_an_error", Fault::OverlooksTheFileInTheWay),
        ("a_copied_catalogue_is_the_runs_own", Fault::LinksTheCatalogue),
        ("pruning_keeps_the_newest", Fault::PrunesNothing),
        ("pruning_keeps_the_newest", Fault::PrunesAll),
        ("pruning_spares_the_living_and_the_unclean", Fault::PrunesAll),
        ("pruning_spares_the_living_and_the_unclean", Fault::HoldsNoLock),
    ];
    for case in CASES {
        assert!(faults.iter().any(|(name, _)| *name == case.name), "no fault for {}", case.name);
    }
    for (name, fault) in faults {
        let case = CASES.iter().find(|case| case.name == name).unwrap();
        let run = || case.run(&|settings| Arc::new(Broken(KernelWorkspace::new(settings).unwrap(), fault)));
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err(), "{name} passes with {fault:?}");
    }
}

fn workspace() -> (tempfile::TempDir, KernelWorkspace) {
    let directory = tempfile::tempdir().unwrap();
    let workspace = KernelWorkspace::new(Settings::new(directory.path().join("runs")).unwrap()).unwrap();
    workspace.prepare().unwrap();
    (directory, workspace)
}

#[test]
fn a_directory_whose_maker_died_before_its_lock_is_a_dead_run() {
    let (_directory, workspace) = workspace();
    let id: RunId = "7".parse().unwrap();
    fs::create_dir(workspace.directory(&id)).unwrap();
    let dead = workspace.try_lock_dead(&id).unwrap().unwrap();
    dead.discard(&|| false).unwrap();
    assert!(workspace.run_ids().unwrap().is_empty());
}

#[test]
fn a_lock_that_its_path_no_longer_names_is_not_taken() {
    let (_directory, workspace) = workspace();
    let id: RunId = "7".parse().unwrap();
    let root = workspace.directory(&id);
    let path = root.join("run.lock");
    let opened = || {
        fs::create_dir(&root).unwrap();
        File::options().read(true).write(true).create_new(true).open(&path).unwrap()
    };
    // A janitor came between the opening and the lock, and then perhaps another run.
    let first = opened();
    fs::remove_dir_all(&root).unwrap();
    assert!(workspace.lock(&id, first).unwrap().is_none());
    let second = opened();
    fs::remove_dir_all(&root).unwrap();
    let third = opened();
    assert!(workspace.lock(&id, second).unwrap().is_none());
    assert!(workspace.lock(&id, third).unwrap().is_some());
}

#[test]
fn makers_and_pruners_at_once_never_lose_a_live_directory() {
    let (_directory, workspace) = workspace();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                for id in workspace.run_ids().unwrap() {
                    // A new directory without its lock looks just like a dead run's.
                    if let Ok(Some(dead)) = workspace.try_lock_dead(&id) {
                        dead.discard(&|| false).unwrap();
                    }
                }
            }
        });
        let made = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..50 {
                let run = workspace.create(&"7".parse().unwrap()).unwrap();
                run.deploy_count().increment().unwrap();
                assert_eq!(run.leftover().len(), 3);
            }
        }));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        made.unwrap();
    });
}

#[test]
fn a_lock_that_is_a_symlink_or_a_fifo_is_never_followed() {
    let (directory, workspace) = workspace();
    let id: RunId = "7".parse().unwrap();
    let root = workspace.directory(&id);
    fs::create_dir(&root).unwrap();
    let outside = directory.path().join("outside");
    symlink(&outside, root.join("run.lock")).unwrap();
    assert!(workspace.try_lock_dead(&id).unwrap().is_none());
    assert!(!outside.exists());
    fs::remove_file(root.join("run.lock")).unwrap();
    nix::unistd::mkfifo(&root.join("run.lock"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(workspace.try_lock_dead(&id).unwrap().is_none());
}

#[test]
fn the_environment_of_a_child_is_the_runs_own() {
    let (_directory, workspace) = workspace();
    let run = workspace.create(&RunId::manual(7)).unwrap();
    let environment = run.environment();
    let mut names: Vec<&str> = environment.iter().map(|(name, _)| name.to_str().unwrap()).collect();
    names.sort_unstable();
    let expected = "ABRA_DIR CCCI_DEPLOY_COUNT_FILE CCCI_RUN_ID DOCKER_CONFIG HOME \
                    LANG LC_ALL PATH TERM TMPDIR XDG_CACHE_HOME XDG_CONFIG_HOME XDG_DATA_HOME XDG_RUNTIME_DIR \
                    XDG_STATE_HOME";
    assert_eq!(names.join(" "), expected);
    for (name, value) in &environment {
        let shared = ["LANG", "LC_ALL", "PATH", "TERM", "CCCI_RUN_ID"].contains(&name.to_str().unwrap());
        assert!(
            shared || Path::new(value).starts_with(run.root()),
            "{name:?} leads out of the run: {value:?}"
        );
    }
}

#[test]
fn a_warm_apps_tree_gets_the_catalogue_as_a_runs_own_does_and_is_looked_at_with_it() {
    let canonical = tempfile::tempdir().unwrap();
    for name in ["servers", "catalogue"] {
        fs::create_dir(canonical.path().join(name)).unwrap();
    }
    for catalogue in [Catalogue::Copy, Catalogue::Symlink] {
        let runs = tempfile::tempdir().unwrap();
        let settings = Settings::new(runs.path()).unwrap().canonical(canonical.path()).unwrap();
        let workspace = KernelWorkspace::new(settings.catalogue(catalogue)).unwrap();
        let run = workspace.create(&"1".parse().unwrap()).unwrap();
        let own = run.make_warm_tree("default").unwrap().join("catalogue");
        assert!(own.is_dir());
        assert_eq!(own.is_symlink(), catalogue == Catalogue::Symlink);
        run.check().unwrap();
        if own.is_symlink() {
            fs::remove_file(&own).unwrap();
            fs::write(&own, "").unwrap();
            run.check().unwrap_err();
        }
        let environment = run.warm_environment();
        let home = environment.iter().find(|(name, _)| name == "HOME").unwrap();
        assert!(Path::new(&home.1).starts_with(run.root().join("warm")));
    }
}

#[test]
fn a_link_in_the_place_of_a_run_directory_leads_nobody_out() {
    let (directory, workspace) = workspace();
    let outside = directory.path().join("outside");
    for name in ["home", "tmp"] {
        fs::create_dir_all(outside.join(name)).unwrap();
        fs::write(outside.join(name).join("file"), "theirs").unwrap();
    }
    fs::write(outside.join("run.lock"), "").unwrap();
    let untouched = || {
        assert!(["home/file", "tmp/file"].iter().all(|file| outside.join(file).exists()), "theirs is gone");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 3, "something was made there");
    };
    let run = workspace.create(&"7".parse().unwrap()).unwrap();
    let moved = directory.path().join("moved");
    fs::rename(run.root(), &moved).unwrap();
    symlink(&outside, run.root()).unwrap();
    // Its own tree goes, wherever it is by now.
    run.remove_tree().unwrap();
    run.write("run.json".as_ref(), b"{}").unwrap();
    run.deploy_count().increment().unwrap_err();
    untouched();
    assert!(!moved.join("tmp").exists() && moved.join("run.json").exists());
    run.discard(&|| false).unwrap();
    untouched();
    assert!(workspace.try_lock_dead(&"7".parse().unwrap()).unwrap().is_none());
    assert_eq!(workspace.run_ids().unwrap(), []);
    untouched();
}

#[test]
fn what_no_run_made_is_neither_listed_nor_taken_nor_pruned() {
    let (_directory, workspace) = workspace();
    let id: RunId = "documents".parse().unwrap();
    let theirs = workspace.directory(&id).join("deep");
    fs::create_dir_all(&theirs).unwrap();
    assert_eq!(workspace.run_ids().unwrap(), []);
    assert!(workspace.try_lock_dead(&id).unwrap().is_none());
    let pruned = workspace.prune(0, &|| false).unwrap();
    assert_eq!((pruned.removed.len(), pruned.failed.len()), (0, 0));
    assert!(theirs.exists() && !theirs.with_file_name("run.lock").exists());
}

#[test]
fn whoever_only_looks_makes_nothing_and_a_strangers_directory_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let runs = directory.path().join("runs");
    let workspace = KernelWorkspace::new(Settings::new(&runs).unwrap()).unwrap();
    assert_eq!(workspace.run_ids().unwrap(), []);
    workspace.check().unwrap();
    assert!(!runs.exists());
    fs::create_dir_all(runs.join("documents/deep")).unwrap();
    let error = workspace.create(&"7".parse().unwrap()).map(drop).unwrap_err();
    assert!(
        matches!(&error, WorkspaceError::NotOurs { hint, .. } if hint.contains("CCCI_RUNS_DIR")),
        "{error:?}"
    );
    assert_eq!(fs::read_dir(&runs).unwrap().count(), 1);
}

#[test]
fn the_runs_are_those_of_the_directory_that_is_changed_whatever_its_path_names_since() {
    let world = tempfile::tempdir().unwrap();
    let runs = world.path().join("runs");
    let workspace = KernelWorkspace::new(Settings::new(&runs).unwrap()).unwrap();
    let run = workspace.create(&"7".parse().unwrap()).unwrap();
    fs::rename(&runs, world.path().join("moved")).unwrap();
    fs::create_dir_all(runs.join("8")).unwrap();
    fs::write(runs.join("8/run.lock"), "").unwrap();
    assert_eq!(workspace.run_ids().unwrap(), [run.id().clone()]);
}
