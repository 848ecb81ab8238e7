//! The configuration file, and the layers: defaults, one file, the environment, flags.
//!
//! clap reads the environment and the flags; what they leave open is the file's, then the default's.

mod directories;
mod keys;
mod nodes;
mod recipes;
mod show;
mod socket;
mod source;
mod tables;
mod values;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cc_ci_abra::Backups;
use cc_ci_core::local::LocalExecutor;
use cc_ci_core::names::{Domain, RecipeName, Suffix};
use cc_ci_core::run::{self, Limits, RecipeScripts};
use cc_ci_core::workspace::{Catalogue, GitCredentials, RegistryCredentials};
use cc_ci_docker::NodeAddress;
use serde::Deserialize;
use serde::de::IgnoredAny;

use directories::{absolute, named_tree, state};
use nodes::Node;
use recipes::{OfRecipes, Recipe};

pub use keys::{KEYS, files};
pub use show::{Row, rows};
pub use socket::Socket;
use source::Source;
use tables::{
    Abra, BackupsMode, CatalogueMode, Git, LimitsTable, Local, ProxyTable, Registry, SandboxTable, Scripts,
    Workspace,
};
use values::{GroupId, KeepRuns, Limit, Time, UserId};

use crate::args::{Executor, ProxyAddress, ServerName, Settings};
use cc_ci_core::{Failure, spelling};

/// Where the file is, unless somebody says otherwise.
const DEFAULT_FILE: &str = "/etc/cc-ci/config.toml";

/// Where the apps' lock files are, unless somebody says otherwise.
const DEFAULT_LOCK_DIR: &str = "/run/lock";

/// The suffix that only the local executor may fall back to.
const LOCAL_SUFFIX: &str = "cc-ci.localhost";

/// The file, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    executor: Option<Executor>,
    server: Option<ServerName>,
    suffix: Option<Suffix>,
    protect: Vec<Domain>,
    lock_dir: Option<PathBuf>,
    lock_group: Option<GroupId>,
    trusted_lock_owners: Vec<UserId>,
    runs_dir: Option<PathBuf>,
    keep_runs: Option<KeepRuns>,
    keep_images: Option<Time>,
    abra_dir: Option<PathBuf>,
    tests_dir: Option<PathBuf>,
    shared_networks: Option<Vec<String>>,
    deadline: Option<Limit>,
    lock_timeout: Option<Time>,
    claim_timeout: Option<Time>,
    janitor_deadline: Option<Limit>,
    teardown_budget: Option<Limit>,
    fetch_timeout: Option<Limit>,
    converge_timeout: Option<Limit>,
    converge_max: Option<Limit>,
    report_only: Option<bool>,
    keep_on_red: Option<Time>,
    recipe_scripts: Option<Scripts>,
    sandbox: SandboxTable,
    test_timeout: Option<Limit>,
    janitor_budget: Option<Time>,
    local: Local,
    abra: Abra,
    workspace: Workspace,
    proxy: ProxyTable,
    git: Git,
    registry: Registry,
    limits: LimitsTable,
    nodes: BTreeMap<String, Node>,
    recipes: BTreeMap<RecipeName, Recipe>,
    /// The table of `cc-ci-bridge`, which reads it itself.
    #[serde(rename = "bridge")]
    _bridge: Option<IgnoredAny>,
}

/// What holds for one command, all layers together.
#[derive(Debug, Clone)]
pub struct Config {
    pub executor: Executor,
    /// Which of abra's servers the engine of the executor abra is.
    pub server: ServerName,
    /// Whether somebody said so.
    pub names_a_server: bool,
    suffix: Option<Suffix>,
    pub protect: Vec<Domain>,
    pub lock_dir: PathBuf,
    pub lock_group: Option<u32>,
    pub trusted_lock_owners: Vec<u32>,
    pub runs_dir: PathBuf,
    pub local_root: PathBuf,
    /// The canonical abra tree, where somebody named one.
    pub abra_dir: Option<PathBuf>,
    /// Who takes backups with the executor abra.
    pub backups: Backups,
    pub catalogue: Catalogue,
    pub deadline: Duration,
    pub teardown_budget: Duration,
    /// What a pass of `cc-ci janitor` may take in all.
    pub janitor_deadline: Duration,
    /// How long an image that a run pulled is kept after the last run that used it.
    pub keep_images: Duration,
    /// What the wait for another one's claim of the local root may take.
    pub claim_timeout: Duration,
    /// Where the reverse proxy is, and whose certificates it may show beside those of the system's roots.
    proxy: Option<(SocketAddr, Option<PathBuf>)>,
    /// The file of what git signs in with.
    git_credentials_file: Option<PathBuf>,
    /// The file of what images are pulled with.
    registry_credentials_file: Option<PathBuf>,
    /// With what images are pulled, by commands that do; read by [`registry_credentials`](Self::registry_credentials).
    pub pulls_with: RegistryCredentials,
    /// So many runs may go on at once; any number where it is 0.
    pub limit_runs: u8,
    /// The other nodes of the Swarm.
    nodes: BTreeMap<String, Node>,
    /// The file.
    source: Source,
    /// How runs go about it, but for what is in files of its own: [`proxy`](Self::proxy) and
    /// [`git_credentials`](Self::git_credentials).
    pub run: run::Settings,
}

impl Config {
    /// Reads the file and lays the environment and the flags over it.
    pub fn load(settings: &Settings) -> Result<Self, Failure> {
        let (file, source) = File::read(settings.config.as_deref())?;
        let defaults = run::Settings::default();
        let time = |value: Option<Time>, default: Duration| value.map_or(default, |time| time.0);
        let limit = |value: Option<Limit>, default: Duration| value.map_or(default, |limit| limit.0);
        let local_root =
            settings.local_root.clone().or(file.local.root).map_or_else(|| state("cc-ci-local"), Ok)?;
        // Services work elsewhere than where their world is named, and so do runs and tests. A lock directory is
        // remembered by its path.
        let local_root = absolute("the local root", local_root)?;
        let lock_dir = settings.lock_dir.clone().or(file.lock_dir).unwrap_or_else(|| DEFAULT_LOCK_DIR.into());
        let lock_dir = absolute("the lock directory", lock_dir)?;
        let runs_dir = settings.runs_dir.clone().or(file.runs_dir).map_or_else(|| state("cc-ci-runs"), Ok)?;
        let runs_dir = absolute("the runs directory", runs_dir)?;
        nodes::check(&file.nodes, &source)?;
        let of_recipes = OfRecipes::new(file.recipes, &source)?;
        let server = settings.server.clone().or(file.server);
        Ok(Self {
            executor: settings.executor.or(file.executor).unwrap_or_default(),
            names_a_server: server.is_some(),
            server: server.unwrap_or_default(),
            suffix: settings.suffix.clone().or(file.suffix),
            protect: file.protect,
            lock_dir,
            lock_group: file.lock_group.map(|group| group.0),
            trusted_lock_owners: file.trusted_lock_owners.iter().map(|user| user.0).collect(),
            runs_dir,
            abra_dir: named_tree().or(file.abra_dir).map(|dir| absolute("abra's tree", dir)).transpose()?,
            local_root,
            backups: match file.abra.backups {
                Some(BackupsMode::Service) => Backups::Service,
                Some(BackupsMode::Labels) => Backups::Labels,
                Some(BackupsMode::Auto) | None => Backups::Auto,
            },
            catalogue: match file.workspace.catalogue {
                Some(CatalogueMode::Copy) => Catalogue::Copy,
                Some(CatalogueMode::Symlink) | None => Catalogue::Symlink,
            },
            deadline: limit(file.deadline, Duration::from_hours(1)),
            keep_images: time(file.keep_images, Duration::from_hours(7 * 24)),
            janitor_deadline: limit(file.janitor_deadline, Duration::from_mins(30)),
            claim_timeout: settings
                .claim_timeout
                .unwrap_or_else(|| time(file.claim_timeout, LocalExecutor::CLAIM_LIMIT)),
            teardown_budget: settings
                .teardown_budget
                .unwrap_or_else(|| limit(file.teardown_budget, Duration::from_mins(10))),
            proxy: which_proxy(settings.proxy, file.proxy, &source)?,
            git_credentials_file: file.git.credentials_file,
            registry_credentials_file: file.registry.credentials_file,
            pulls_with: RegistryCredentials::default(),
            limit_runs: file.limits.runs.map_or(0, |count| count.0),
            nodes: file.nodes,
            run: run::Settings {
                lock_timeout: settings
                    .lock_timeout
                    .unwrap_or_else(|| time(file.lock_timeout, defaults.lock_timeout)),
                fetch_limit: limit(file.fetch_timeout, defaults.fetch_limit),
                converge_limit: limit(file.converge_timeout, defaults.converge_limit),
                converge_max: limit(file.converge_max, defaults.converge_max),
                script_limit: limit(file.test_timeout, defaults.script_limit),
                janitor_budget: time(file.janitor_budget, defaults.janitor_budget),
                operator_tests: file.tests_dir,
                proxy: None,
                shared_networks: file.shared_networks.unwrap_or(defaults.shared_networks),
                granted: of_recipes.granted,
                sources: of_recipes.sources,
                limits: Limits {
                    places: None,
                    free_disk: file.limits.free_disk.map_or(0, |size| size.0),
                    free_memory: file.limits.free_memory.map_or(0, |size| size.0),
                },
                keep_on_red: time(file.keep_on_red, defaults.keep_on_red),
                report_only: file.report_only.unwrap_or(false),
                recipe_scripts: file.recipe_scripts.map_or_else(RecipeScripts::default, Into::into),
                sandbox_paths: sandbox_paths(file.sandbox.paths, &source)?,
                fixtures: of_recipes.fixtures,
                host_network: of_recipes.host_network,
                warm_api: of_recipes.warm_api,
                dependencies: of_recipes.dependencies,
                warm: of_recipes.warm,
                git_credentials: defaults.git_credentials,
                keep_runs: file.keep_runs.map_or(defaults.keep_runs, |keep| keep.0),
                why_executor: None,
            },
            source,
        })
    }

    /// The suffix of apps that the local executor runs.
    pub fn local_suffix(&self) -> Result<Suffix, Failure> {
        self.suffix.clone().map_or_else(
            || LOCAL_SUFFIX.parse().map_err(|error| Failure::host("the default suffix").with_source(error)),
            Ok,
        )
    }

    /// The suffix of apps on a Swarm: nothing that is shared has a default.
    pub fn swarm_suffix(&self) -> Result<Suffix, Failure> {
        self.suffix.clone().ok_or_else(|| {
            Failure::configuration("the executor abra needs a suffix: it tells run apps from all others on the Swarm")
                .with_hint("choose one that no other app ends with: --suffix ci.example.org, CCCI_SUFFIX, or `suffix` in the configuration")
        })
    }

    /// The proxy that is to be asked whether an app serves. Reads whose certificates it may show.
    pub fn proxy(&self) -> Result<Option<run::Proxy>, Failure> {
        let proxy =
            self.proxy.as_ref().map(|(address, ca_file)| run::Proxy::new(*address, ca_file.as_deref()));
        proxy.transpose().map_err(|error| {
            Failure::configuration("can't check the proxy's certificates").with_source(error).with_hint(
                "mend `ca_file` in the configuration's [proxy], or check straight from the app's task: --proxy none",
            )
        })
    }

    /// With what git signs in where it fetches. Reads the file.
    pub fn git_credentials(&self) -> Result<GitCredentials, Failure> {
        let file = self.git_credentials_file.as_deref();
        file.map_or_else(|| Ok(GitCredentials::default()), GitCredentials::read)
    }

    /// With what images are pulled. Reads the file.
    pub fn registry_credentials(&self) -> Result<RegistryCredentials, Failure> {
        let file = self.registry_credentials_file.as_deref();
        file.map_or_else(|| Ok(RegistryCredentials::default()), RegistryCredentials::read)
    }

    /// Where the engines of the Swarm's other nodes listen. Reads what is shown to them.
    pub fn nodes(&self) -> Result<Vec<NodeAddress>, Failure> {
        nodes::addresses(&self.nodes)
    }

    /// The canonical abra tree of the executor abra.
    pub fn abra_tree(&self) -> Result<PathBuf, Failure> {
        let home = || env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        self.abra_dir.clone().or_else(|| home().map(|home| home.join(".abra"))).ok_or_else(|| {
            Failure::configuration("neither ABRA_DIR nor HOME says where abra's tree is")
                .with_hint("name it: ABRA_DIR=/root/.abra")
        })
    }
}

/// What the recipes' code may read of the host. Each is shown as what it is: a link's end may be elsewhere in a sandbox.
fn sandbox_paths(paths: Vec<PathBuf>, source: &Source) -> Result<Vec<PathBuf>, Failure> {
    let real = |path: PathBuf| {
        if !path.is_absolute() {
            return Err(source.relative("sandbox.paths", &path));
        }
        path.canonicalize().map_err(|error| source.wrong("sandbox.paths", path.display()).with_source(error))
    };
    paths.into_iter().map(real).collect()
}

impl File {
    /// The file that is named, or the default one where there is one.
    fn read(named: Option<&Path>) -> Result<(Self, Source), Failure> {
        let path = named.unwrap_or_else(|| Path::new(DEFAULT_FILE));
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {
                return Ok((Self::default(), Source::default()));
            }
            Err(error) => {
                return Err(Failure::configuration(format!(
                    "can't read the configuration {}",
                    path.display()
                ))
                .with_source(error));
            }
        };
        let source = Source::new(path, text);
        let file = Self::parse(source.text()).map_err(|(error, hint)| {
            let place = source.line_at(error.span().map_or(0, |span| span.start));
            Failure::configuration(format!("{place}: {}", error.message())).with_any_hint(hint)
        })?;
        match file.relative() {
            None => Ok((file, source)),
            Some((key, relative)) => Err(source.relative(key, relative)),
        }
    }

    /// A path that is not the same wherever the command is called.
    fn relative(&self) -> Option<(&'static str, &Path)> {
        let paths = [
            ("lock_dir", &self.lock_dir),
            ("runs_dir", &self.runs_dir),
            ("abra_dir", &self.abra_dir),
            ("tests_dir", &self.tests_dir),
            ("local.root", &self.local.root),
            ("proxy.ca_file", &self.proxy.ca_file),
            ("git.credentials_file", &self.git.credentials_file),
            ("registry.credentials_file", &self.registry.credentials_file),
        ];
        let paths = paths.into_iter().filter_map(|(key, path)| Some((key, path.as_deref()?)));
        paths.into_iter().find(|(_, path)| !path.is_absolute())
    }

    fn parse(text: &str) -> Result<Self, (toml::de::Error, Option<String>)> {
        toml::from_str(text).map_err(|error| {
            let hint = nearest(error.message());
            (error, hint)
        })
    }
}

/// The proxy that is to be asked. Roots without a proxy would check nothing, and whoever names them expects a check.
fn which_proxy(
    asked: Option<ProxyAddress>,
    file: ProxyTable,
    source: &Source,
) -> Result<Option<(SocketAddr, Option<PathBuf>)>, Failure> {
    match asked.or(file.address) {
        Some(ProxyAddress::At(address)) => Ok(Some((address, file.ca_file))),
        None if file.ca_file.is_some() => Err(source
            .wrong("proxy.ca_file", "there is no proxy.address")
            .with_hint("say where the proxy is, e.g. `address = \"127.0.0.1:443\"` in [proxy], or `none`")),
        Some(ProxyAddress::None) | None => Ok(None),
    }
}

/// Of serde's `unknown field …, expected one of …`: the known one that was meant.
fn nearest(message: &str) -> Option<String> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = message.starts_with("unknown ").then(|| quoted.next())??;
    let known = spelling::nearest(unknown, quoted)?;
    Some(format!("did you mean {known}?"))
}

#[cfg(test)]
mod tests;
