//! The keys of the configuration file, for people.

use super::{DEFAULT_FILE, DEFAULT_LOCK_DIR};

/// Each key, and what it says. A test holds them against what the file may have.
pub const KEYS: &[(&str, &str)] = &[
    ("executor", "which engine commands work on: auto, local, abra [auto]"),
    ("server", "which of abra's servers the engine is [default]"),
    ("suffix", "what follows the first label of every run app's domain"),
    ("protect", "domains that are no run apps, though they look like some"),
    ("lock_dir", "where the apps' lock files are [/run/lock]"),
    ("lock_group", "the group that shares the lock files, by name or number"),
    ("trusted_lock_owners", "users whose lock files are taken beside one's own and root's, by number"),
    ("runs_dir", "where runs keep their directories"),
    ("keep_runs", "how many of them are kept, 1 or more [50]"),
    ("keep_images", "how long an image that a run pulled is kept after its last use [7days]"),
    ("abra_dir", "the canonical abra tree [~/.abra]"),
    ("tests_dir", "the operator's own tests, in DIR/RECIPE/"),
    ("shared_networks", "networks that apps may share [proxy]"),
    ("deadline", "how long a run may take, without the wait for its lock [1h]"),
    ("lock_timeout", "the longest wait for an app's lock, and of a run to be admitted [1h]"),
    ("claim_timeout", "the longest wait for another command's claim of the local root [30s]"),
    ("janitor_deadline", "how long `cc-ci janitor` may take [30m]"),
    ("teardown_budget", "what teardown may take [10m]"),
    ("fetch_timeout", "what one fetch may take"),
    ("converge_timeout", "how long services may take to come up, where the recipe does not say"),
    ("converge_max", "how long they may take whatever the recipe says"),
    ("report_only", "only warn of privileges that are not granted"),
    ("keep_on_red", "how long a red app is kept up for a person to look, within the deadline [0s]"),
    ("recipe_scripts", "whether what a recipe brings is run in sandboxes: confined, unconfined"),
    ("test_timeout", "what one test may take"),
    ("janitor_budget", "what a run spends on what dead runs left"),
    ("local.root", "the world of the local executor"),
    ("abra.backups", "who takes backups: auto, service, labels [auto]"),
    ("workspace.catalogue", "how a run gets abra's catalogue: symlink, copy [symlink]"),
    ("proxy.address", "the reverse proxy through which apps must serve: ADDRESS:PORT, none [none]"),
    ("proxy.ca_file", "whose certificates it may show beside those of the system's roots"),
    ("git.credentials_file", "a file of what git signs in with: https://user:password@host a line"),
    (
        "registry.credentials_file",
        "a file of what images are pulled with: https://user:password@registry a line",
    ),
    ("limits.runs", "how many runs may go on at once on this host; more wait; 0: any number [0]"),
    ("limits.free_disk", "a run waits for so much room on disk, e.g. 10 GiB [0]"),
    ("limits.free_memory", "a run waits for so much available memory, e.g. 2 GiB [0]"),
    ("sandbox.paths", "what recipes' code may read of the host"),
    (
        "nodes.X.engine",
        "where the engine of the Swarm's node X listens: unix:///PATH, tcp://HOST:PORT, ssh://USER@HOST",
    ),
    ("nodes.X.ca_file", "whose certificate that engine must show, over tcp"),
    ("nodes.X.cert_file", "the certificate that it is shown"),
    ("nodes.X.key_file", "its private key"),
    ("recipes.X.depends", "recipes that X needs beside it"),
    ("recipes.X.warm", "the domain of its warm app"),
    ("recipes.X.warm_version", "the release that is its baseline [the newest]"),
    ("recipes.X.source", "where its releases come from"),
    ("recipes.X.allow", "privileges that are granted: key=value"),
    ("recipes.X.network", "what its tests reach: app, host [app]"),
    ("recipes.X.warm_api", "whether its own tests may run commands in the warm app"),
    ("recipes.X.fixtures", "a directory of files for its tests"),
];

/// Where cc-ci keeps what, unless somebody says otherwise.
pub fn files() -> Vec<(String, String)> {
    let state = |name| super::state(name).map_or_else(|_| name.to_owned(), |path| path.display().to_string());
    let runs = state("cc-ci-runs");
    let run = |file: &str| format!("{runs}/RUN/{file}");
    [
        (DEFAULT_FILE.to_owned(), "the configuration: --config, CCCI_CONFIG"),
        (DEFAULT_LOCK_DIR.to_owned(), "lock files of apps: --lock-dir, CCCI_APP_LOCK_DIR, lock_dir"),
        (runs.clone(), "a directory each run: --runs-dir, CCCI_RUNS_DIR, runs_dir"),
        (run("run.json"), "what the run came to: cc-ci report RUN --format json"),
        (run("report.html"), "the same as a page: cc-ci report RUN --html"),
        (run("junit.xml"), "the same for CI systems that show tests: cc-ci report RUN --junit"),
        (run("events.ndjson"), "what it told while it went on, a line each"),
        (run("logs/"), "what its services and tests logged: cc-ci logs RUN"),
        (state("cc-ci-local"), "apps of the local executor: --local-root, CCCI_LOCAL_ROOT, local.root"),
        ("~/.abra".to_owned(), "the canonical abra tree: ABRA_DIR, abra_dir"),
    ]
    .map(|(path, what)| (path, what.to_owned()))
    .into()
}
