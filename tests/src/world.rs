//! A world of its own for each test: lock directory, runs, local root. Nothing outside of it is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cc_ci_core::names::{Domain, RecipeName, Subject, Suffix};
use cc_ci_core::process::{self, Marked, MarkerOwner};
use cc_ci_core::system_info::BootId;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::EVENT_LIMIT;
use crate::command::CcCi;
use crate::engine::Engine;
use crate::gate::Gate;
use crate::recipe::Recipe;

/// One test's world. When it is dropped, what a failed test left running in it is ended.
#[derive(Debug)]
pub struct World {
    directory: TempDir,
    suffix: Suffix,
    engine: Option<String>,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// A fresh world, with a suffix that no other test has.
    pub fn new() -> Self {
        let directory =
            tempfile::Builder::new().prefix("cc-ci-test-").tempdir().expect("a temporary directory");
        for name in ["locks", "recipes"] {
            fs::create_dir(directory.path().join(name)).expect("a directory of the world");
        }
        let name = directory.path().file_name().expect("a temporary directory has a name").to_string_lossy();
        // Names of temporary directories differ in case too, a domain's labels don't.
        let unique = name.bytes().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        let unique = &unique[unique.len() - 12..];
        let suffix = format!("t{unique}.test").parse().expect("hex digits make a suffix");
        let world = Self { directory, suffix, engine: None };
        fs::write(world.config(), unconfined("")).expect("a configuration");
        world
    }

    /// The configuration of its calls, where a test says nothing else.
    pub fn config(&self) -> PathBuf {
        self.path().join("config.toml")
    }

    /// The same, where the command uses this engine.
    pub fn on(engine: &Engine) -> Self {
        let mut world = Self::new();
        world.engine = Some(engine.host());
        fs::create_dir_all(world.abra_dir().join("servers/default")).expect("abra's tree");
        world
    }

    /// The canonical abra tree, where there is an engine.
    pub fn abra_dir(&self) -> PathBuf {
        self.path().join("abra")
    }

    /// The directory that everything is in.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The lock directory.
    pub fn locks(&self) -> PathBuf {
        self.path().join("locks")
    }

    /// Where runs keep their directories.
    pub fn runs(&self) -> PathBuf {
        self.path().join("runs")
    }

    /// The local executor's world.
    pub fn local_root(&self) -> PathBuf {
        self.path().join("local")
    }

    /// What `DOCKER_HOST` is in it.
    pub(crate) fn engine(&self) -> Option<&str> {
        self.engine.as_deref()
    }

    /// The suffix of its run apps.
    pub fn suffix(&self) -> &Suffix {
        &self.suffix
    }

    /// The domain of `recipe`'s pull request `number`.
    pub fn domain(&self, recipe: &str, number: u64) -> Domain {
        let recipe: RecipeName = recipe.parse().expect("a recipe's name");
        Domain::of_run(&recipe, &Subject::PullRequest(number), &self.suffix)
    }

    /// The lock file of a domain.
    pub fn lock_file(&self, domain: &Domain) -> PathBuf {
        self.locks().join(format!("cc-ci-app-{domain}.lock"))
    }

    /// A recipe with one service that serves, in a repository of its own.
    pub fn recipe(&self, name: &str) -> Recipe {
        Recipe::new(&self.path().join("recipes").join(name))
    }

    /// The same, at a place of its own.
    pub fn recipe_at(&self, path: &Path) -> Recipe {
        Recipe::new(path)
    }

    /// The built command, in this world.
    pub fn cc_ci<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(&self, args: I) -> CcCi {
        CcCi::new(self, args)
    }

    /// A pipe with a name, for recipes' scripts to say where they are: a writer waits for the reader.
    pub fn fifo(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a named pipe");
        path
    }

    /// A place where a script stops until the test lets it go on.
    pub fn gate(&self, name: &str) -> Gate {
        Gate::new(self, name)
    }

    /// Leaves a whole app behind: a run of pull request `number` of `recipe` is killed in the middle of a test.
    /// Its id is `dead-<number>`.
    pub fn killed_run(&self, recipe: &Recipe, number: u64) -> Domain {
        self.killed_run_with(recipe, number, "")
    }

    /// The same, where the test did `more` before.
    pub fn killed_run_with(&self, recipe: &Recipe, number: u64, more: &str) -> Domain {
        let (id, gate) = (format!("dead-{number}"), self.gate(&format!("dead-{}", new_name())));
        let script = format!("[ \"$CCCI_RUN_ID\" != {id} ] || {{ {more}\n{}; }}", gate.script());
        recipe.script("tests/custom-gate", &script).commit();
        // It leaves to others what others left.
        let config = self.path().join("no-janitor.toml");
        fs::write(&config, unconfined("janitor_budget = \"0s\"\n")).expect("a configuration");
        let number_text = number.to_string();
        let run = self.cc_ci(["run", "--pr", &number_text, "--run-id", &id]).env("CCCI_CONFIG", config);
        let run = run.arg(recipe.path()).start();
        gate.wait();
        run.signal(Signal::SIGKILL);
        run.wait().expect(137);
        self.domain(recipe.name(), number)
    }

    /// Every file of the world with its content, but for what is told apart by the test itself: pipes and sockets
    /// by name only.
    pub fn snapshot(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.snapshot_of(self.path())
    }

    /// The same, of one of its directories.
    pub fn snapshot_of(&self, directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        fn walk(directory: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let path = entry.path();
                let kind = entry.file_type().expect("an entry has a kind");
                if kind.is_dir() {
                    found.insert(path.clone(), Vec::new());
                    walk(&path, found);
                } else if kind.is_file() {
                    found.insert(path.clone(), fs::read(&path).unwrap_or_default());
                } else {
                    let target = fs::read_link(&path).unwrap_or_default();
                    found.insert(path, target.into_os_string().into_encoded_bytes());
                }
            }
        }
        let mut found = BTreeMap::new();
        walk(directory, &mut found);
        found
    }

    /// The marked processes of this world's domains.
    pub fn processes(&self) -> Vec<Marked> {
        let boot = BootId::current().expect("a boot id");
        let mut found = process::marked(&boot).expect("/proc can be read");
        found.retain(|found| found.marker.domain.as_str().ends_with(self.suffix.as_str()));
        found
    }

    /// Waits until no child of a killed run is on its way out any more.
    pub fn children_are_gone(&self) {
        until("the children of killed runs are gone", || {
            self.processes().iter().all(|found| !matches!(found.marker.owner, MarkerOwner::Run { .. }))
        });
    }

    /// Kills every process of this world's apps and runs, as a reboot does.
    pub fn kill_everything(&self) {
        let boot = BootId::current().expect("a boot id");
        until("every process of the world is gone", || {
            let processes = self.processes();
            for found in &processes {
                drop(process::kill_process(&found.process, &boot, process::Signal::Kill));
            }
            processes.is_empty()
        });
    }

    /// Whatever of run apps exists in this world, in words; live lock holders too.
    pub fn resources(&self) -> BTreeSet<String> {
        let mut found: BTreeSet<String> = self
            .processes()
            .iter()
            .map(|found| format!("process {} {}", found.process.pid, found.marker))
            .collect();
        for place in ["local/apps", "local/trash", "local/ports", "local/servers/local"] {
            found.extend(names(&self.path().join(place)).iter().map(|name| format!("{place}/{name}")));
        }
        for run in names(&self.runs()) {
            for part in ["abra", "warm", "home", "tmp"] {
                if self.runs().join(&run).join(part).symlink_metadata().is_ok() {
                    found.insert(format!("runs/{run}/{part}"));
                }
            }
        }
        found
    }

    /// Asserts that nothing is left.
    #[track_caller]
    pub fn assert_empty(&self) {
        let found = self.resources();
        assert!(found.is_empty(), "left behind: {found:#?}");
    }

    /// What a run told, in order.
    pub fn events(&self, run_id: &str) -> Vec<serde_json::Value> {
        let path = self.runs().join(run_id).join("events.ndjson");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.lines().map(|line| serde_json::from_str(line).expect("an event is JSON")).collect()
    }

    /// The record of a run.
    pub fn record(&self, run_id: &str) -> serde_json::Value {
        let path = self.runs().join(run_id).join("run.json");
        let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_slice(&text).expect("run.json is JSON")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let Ok(boot) = BootId::current() else { return };
        for found in self.processes() {
            // A failed test's own leftovers; a passed one has none.
            drop(process::kill_process(&found.process, &boot, process::Signal::Kill));
        }
    }
}

/// A configuration that confines recipes' scripts, and shows them the programs of the world and of the workspace.
pub fn confined(world: &World) -> String {
    let paths = [world.programs(), crate::command::built("cc-ci").with_file_name("")];
    let there = paths.iter().filter(|path| path.is_dir()).map(|path| format!("\"{}\"", path.display()));
    format!("[sandbox]\npaths = [{}]\n", there.collect::<Vec<_>>().join(", "))
}

/// `text`, as a configuration that confines no recipe's scripts: here they reach what a test has for them beside their app.
pub fn unconfined(text: impl AsRef<str>) -> String {
    format!("recipe_scripts = \"unconfined\"\n{}", text.as_ref())
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A name that nothing else in this process has.
fn new_name() -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed).to_string()
}

/// Looks until `holds`: for what the kernel shows and tells nobody.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + EVENT_LIMIT;
    while !holds() {
        assert!(Instant::now() < until, "in vain: {what}");
        // Without a pause it would take the processor from what it waits for.
        std::thread::sleep(Duration::from_millis(2));
    }
}
