//! What every [`AbraWorkspace`] promises, as tests that any implementation can run.
//!
//! A case gets a way to make workspaces, and makes its own runs directory and canonical tree. It panics with
//! what it saw when the promise is broken. An implementation of its own kind wraps a
//! [`KernelWorkspace`](super::KernelWorkspace), which makes the [`RunDir`]s.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{AbraWorkspace, Catalogue, RunDir, Settings, WorkspaceError};
use crate::names::RunId;

/// Makes a workspace with these settings.
pub type Make<'a> = &'a dyn Fn(Settings) -> Arc<dyn AbraWorkspace>;

/// One promise.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// The promise, as a sentence with underscores.
    pub name: &'static str,
    body: fn(&World),
}

impl Case {
    /// Runs it. It blocks.
    ///
    /// # Panics
    /// When the promise is broken.
    pub fn run(&self, make: Make<'_>) {
        (self.body)(&World::new(make));
    }
}

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        /// Every case.
        pub const CASES: &[Case] = &[$(Case { name: stringify!($name), body: $name }),*];
    };
}

cases![
    a_run_directory_is_private_and_complete,
    a_taken_id_gets_the_next_free_suffix,
    one_id_asked_for_by_many_at_once_gives_each_its_own_directory,
    two_runs_share_no_path_but_servers_and_catalogue,
    each_run_counts_its_own_deploys,
    a_live_run_is_never_taken,
    a_dead_run_is_taken_by_one,
    what_has_no_directory_is_no_dead_run,
    removal_leaves_the_canonical_tree_and_the_record,
    a_plain_file_in_the_way_of_servers_is_an_error,
    a_copied_catalogue_is_the_runs_own,
    pruning_keeps_the_newest,
    pruning_spares_the_living_and_the_unclean,
];

/// A runs directory beside a canonical tree.
struct World {
    directory: tempfile::TempDir,
    workspace: Arc<dyn AbraWorkspace>,
    copying: Arc<dyn AbraWorkspace>,
}

impl World {
    fn new(make: Make<'_>) -> Self {
        let directory = done(tempfile::tempdir());
        let canonical = directory.path().join("canonical");
        for name in ["servers/default", "catalogue/inner", "recipes"] {
            done(fs::create_dir_all(canonical.join(name)));
        }
        done(fs::write(canonical.join("servers/default/other.env"), "theirs"));
        done(fs::write(canonical.join("catalogue/recipes.json"), "[]"));
        done(std::os::unix::fs::symlink("recipes.json", canonical.join("catalogue/link")));
        let settings = done(Settings::new(directory.path().join("runs")));
        let settings = done(settings.canonical(&canonical));
        let copying = make(settings.clone().catalogue(Catalogue::Copy));
        Self { workspace: make(settings), copying, directory }
    }

    fn canonical(&self, name: &str) -> PathBuf {
        self.directory.path().join("canonical").join(name)
    }

    fn create(&self, id: &str) -> RunDir {
        done(self.workspace.create(&run_id(id)))
    }

    fn dead(&self, id: &str) -> Option<RunDir> {
        done(self.workspace.try_lock_dead(&run_id(id)))
    }
}

fn done<T, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error:?}"),
    }
}

fn run_id(text: &str) -> RunId {
    done(text.parse())
}

fn names(ids: &[RunId]) -> Vec<&str> {
    ids.iter().map(RunId::as_str).collect()
}

fn is_there(path: impl AsRef<Path>) -> bool {
    path.as_ref().symlink_metadata().is_ok()
}

fn a_run_directory_is_private_and_complete(world: &World) {
    let run = world.create("7");
    assert_eq!(run.root(), world.workspace.runs_dir().join("7"));
    let mode = done(run.root().metadata()).permissions().mode() & 0o777;
    assert_eq!(mode, 0o700, "others can look into a run: {mode:o}");
    for name in ["servers", "catalogue"] {
        let target = done(fs::read_link(run.abra_dir().join(name)));
        assert_eq!(target, world.canonical(name), "{name} is not the canonical one");
    }
    assert_eq!(done(fs::read_dir(run.recipes())).count(), 0, "recipes/ is not fresh");
    for path in [run.home(), run.tmp(), run.logs()] {
        assert!(path.is_dir() && path.starts_with(run.root()), "{}", path.display());
    }
    let path = run.deploy_count().path();
    assert!(path.starts_with(run.root()), "the deploy count is outside of the run: {}", path.display());
    done(run.check());
}

fn a_taken_id_gets_the_next_free_suffix(world: &World) {
    let runs = [world.create("7"), world.create("7"), world.create("7")];
    let ids: Vec<&str> = runs.iter().map(|run| run.id().as_str()).collect();
    assert_eq!(ids, ["7", "7.2", "7.3"]);
    drop(runs);
    // A dead run's directory is its record: its id stays taken.
    assert_eq!(world.create("7").id().as_str(), "7.4");
}

fn one_id_asked_for_by_many_at_once_gives_each_its_own_directory(world: &World) {
    let runs: Vec<RunDir> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| world.create("7"))).collect();
        threads.into_iter().map(|thread| done(thread.join().map_err(|_| "a thread panicked"))).collect()
    });
    let roots: BTreeSet<&Path> = runs.iter().map(RunDir::root).collect();
    assert_eq!(roots.len(), 8, "two runs have one directory");
    assert_eq!(done(world.workspace.run_ids()).len(), 8);
}

fn two_runs_share_no_path_but_servers_and_catalogue(world: &World) {
    let (one, other) = (world.create("7"), world.create("7"));
    let runs = [(&one, "one"), (&other, "other")];
    let places = |run: &RunDir| [run.recipes(), run.home(), run.tmp(), run.logs()];
    for (run, word) in runs {
        for place in places(run) {
            done(fs::write(place.join("mine"), word));
        }
    }
    for (run, word) in runs {
        for place in places(run) {
            let read = done(fs::read_to_string(place.join("mine")));
            assert_eq!(read, word, "another run wrote to {}", place.display());
        }
    }
    done(fs::write(one.abra_dir().join("servers/default/mine.env"), "x"));
    assert!(is_there(world.canonical("servers/default/mine.env")), "servers/ is not the canonical one");
}

fn each_run_counts_its_own_deploys(world: &World) {
    let (one, other) = (world.create("7"), world.create("7"));
    for _ in 0..2 {
        done(one.deploy_count().increment());
    }
    done(other.deploy_count().increment());
    assert_eq!((done(one.deploy_count().get()), done(other.deploy_count().get())), (2, 1));
    done(one.remove_tree());
    drop(one);
    assert_eq!(done(other.deploy_count().get()), 1, "one run removed the other's state");
}

fn a_live_run_is_never_taken(world: &World) {
    let run = world.create("7");
    assert!(world.dead("7").is_none(), "a live run was taken for dead");
    done(run.remove_tree());
    assert!(world.dead("7").is_none(), "a live run was taken for dead after it cleaned up");
}

fn a_dead_run_is_taken_by_one(world: &World) {
    drop(world.create("7"));
    let Some(taken) = world.dead("7") else { panic!("a dead run was taken for a live one") };
    assert_eq!(taken.id().as_str(), "7");
    assert_eq!(taken.leftover().len(), 3, "{:?}", taken.leftover());
    assert!(world.dead("7").is_none(), "two janitors hold one run");
}

fn what_has_no_directory_is_no_dead_run(world: &World) {
    assert!(world.dead("7").is_none());
    done(world.workspace.prepare());
    done(fs::write(world.workspace.runs_dir().join("8"), "a file"));
    assert!(world.dead("8").is_none());
    for records in [".debts", ".images", ".quarantine"] {
        done(fs::create_dir(world.workspace.runs_dir().join(records)));
    }
    assert!(done(world.workspace.run_ids()).is_empty(), "something else is listed as a run");
}

fn removal_leaves_the_canonical_tree_and_the_record(world: &World) {
    let run = world.create("7");
    done(run.deploy_count().increment());
    done(fs::write(run.logs().join("log"), "said"));
    drop(run);
    let Some(dead) = world.dead("7") else { panic!("a dead run was taken for a live one") };
    for _ in 0..2 {
        done(dead.remove_tree());
        assert!(dead.leftover().is_empty(), "left: {:?}", dead.leftover());
    }
    for name in ["servers/default/other.env", "catalogue/recipes.json"] {
        assert!(is_there(world.canonical(name)), "the canonical {name} is gone");
    }
    assert_eq!(done(dead.deploy_count().get()), 1);
    assert!(is_there(dead.logs().join("log")));
}

fn a_plain_file_in_the_way_of_servers_is_an_error(world: &World) {
    let in_the_way = |result: Result<(), WorkspaceError>| {
        let Err(error) = result else { panic!("a plain file was taken for servers/") };
        assert!(matches!(error, WorkspaceError::InTheWay { .. }), "{error:?}");
        assert!(error.to_string().contains("servers"), "{error}");
    };
    let run = world.create("7");
    let servers = run.abra_dir().join("servers");
    for make in [|path: &Path| fs::write(path, "x"), |path: &Path| fs::create_dir(path)] {
        done(fs::remove_file(&servers));
        done(make(&servers));
        in_the_way(run.check());
        if servers.is_dir() {
            break;
        }
    }
    done(fs::remove_dir_all(world.canonical("servers")));
    done(fs::write(world.canonical("servers"), "x"));
    in_the_way(world.workspace.create(&run_id("8")).map(drop));
    assert!(!is_there(world.workspace.runs_dir().join("8")), "a half-made run stays");
}

fn a_copied_catalogue_is_the_runs_own(world: &World) {
    let run = done(world.copying.create(&run_id("7")));
    let catalogue = run.abra_dir().join("catalogue");
    done(fs::write(catalogue.join("recipes.json"), "mine"));
    assert_eq!(done(fs::read_to_string(world.canonical("catalogue/recipes.json"))), "[]");
    assert_eq!(done(fs::read_link(catalogue.join("link"))), Path::new("recipes.json"));
    assert!(catalogue.join("inner").is_dir());
}

fn pruning_keeps_the_newest(world: &World) {
    for id in ["1", "2", "3"] {
        let run = world.create(id);
        done(run.remove_tree());
        // Which is older is told by the files' times, and these may be made within one tick.
        let age = std::time::Duration::from_secs(1000 * done(id.parse::<u64>()));
        let lock = done(fs::File::options().write(true).open(run.root().join("run.lock")));
        done(lock.set_modified(std::time::SystemTime::UNIX_EPOCH + age));
    }
    let stopped = done(world.workspace.prune(2, &|| true));
    assert_eq!((names(&stopped.removed), stopped.failed.len()), (vec![], 0));
    let pruned = done(world.workspace.prune(2, &|| false));
    assert_eq!(names(&pruned.removed), ["1"]);
    assert_eq!(names(&done(world.workspace.run_ids())), ["2", "3"]);
    assert!(!is_there(world.workspace.runs_dir().join("1")));
}

fn pruning_spares_the_living_and_the_unclean(world: &World) {
    let live = world.create("live");
    done(live.remove_tree());
    drop(world.create("unclean"));
    let clean = world.create("clean");
    done(clean.remove_tree());
    drop(clean);
    let pruned = done(world.workspace.prune(0, &|| false));
    assert_eq!((names(&pruned.removed), names(&pruned.with_residue)), (vec!["clean"], vec!["unclean"]));
    assert_eq!(names(&done(world.workspace.run_ids())), ["live", "unclean"]);
}
