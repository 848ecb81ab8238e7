//! A directory with everything that abra works on, an engine that reads it, and a run.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cc_ci_core::engine::{
    App, EngineLayer, Failure, MemoryEngine, RecipeCode, Redactor, RunContext, ServiceState,
};
use cc_ci_core::event::{Event, Reporter};
use cc_ci_core::lifetime::{Bounds, Command, EmbeddedMode, RunLifetime as _};
use cc_ci_core::names::Domain;
use cc_ci_core::workspace::Catalogue;
use tempfile::TempDir;

use crate::deployer::{AbraDeployer, Settings};
use crate::{Abra, Backups, Probe};

/// The flags that the abra of the tests shows for every subcommand.
const FLAGS: &str = "  -C, --chaos                ignore changes\n  -c, --no-converge-checks   do not wait\n  -D, \
                     --no-domain-checks     no DNS\n  -f, --force                again\n      --file                 \
                     read it\n      --server string        where\n      --domain string        what\n  -m, \
                     --machine              JSON\n  -S, --status               with status\n  -h, --help\n";

const COMPOSE: &str = "version: \"3.8\"\nservices:\n  app:\n    image: x:1\n    secrets: [key, old, \
                       smtp]\n  db:\n    image: y:1\nsecrets:\n  key: {external: true, name: \"${STACK_NAME}_key_${SECRET_KEY_VERSION}\"}\n  \
                       old: {external: true, name: \"${STACK_NAME}_old_${SECRET_OLD_VERSION}\"}\n  smtp: {external: true, name: \
                       \"${STACK_NAME}_smtp_${SECRET_SMTP_VERSION}\"}\n  idle: {external: true, name: \"${STACK_NAME}_idle_v1\"}\n";

/// A test's world.
pub struct World {
    directory: TempDir,
    pub context: RunContext,
    pub lifetime: Arc<EmbeddedMode>,
    pub events: Arc<Events>,
    pub engine: FileEngine,
    pub app: App,
    pub catalogue: Catalogue,
}

impl World {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["does", "servers", "services", "secrets", "tmp", "recipe"] {
            fs::create_dir(path(name)).unwrap();
        }
        fs::write(path("flags"), FLAGS).unwrap();
        fs::write(path("global"), "  -n, --no-input   no questions\n  -o, --offline    no network\n")
            .unwrap();
        fs::write(path("recipe/compose.yml"), COMPOSE).unwrap();
        fs::write(path("recipe/.env.sample"), "TYPE=test\n").unwrap();
        let domain: Domain = "test-abc123.ci.example.org".parse().unwrap();
        let app = App {
            env_file: path(&format!("servers/{domain}.env")),
            domain,
            recipe: "test".parse().unwrap(),
            tree: path("recipe"),
        };
        let events = Arc::new(Events::default());
        let lifetime = Arc::new(EmbeddedMode::new(Bounds::default(), events.clone()).unwrap());
        let context = RunContext {
            run_id: "1".parse().unwrap(),
            lifetime: lifetime.clone(),
            reporter: events.clone(),
            environment: environment(directory.path()),
            tmp: path("tmp"),
            redactor: Redactor::default(),
            recipe_code: RecipeCode::Unconfined("nothing of a recipe runs here".into()),
        };
        let engine = FileEngine { root: directory.path().to_owned(), ..FileEngine::default() };
        let catalogue = Catalogue::default();
        Self { directory, context, lifetime, events, engine, app, catalogue }
    }

    /// Ends what a test has left running, which would write on while its directory goes.
    pub async fn ended(&self) {
        self.lifetime.begin_teardown();
        assert_eq!(self.lifetime.end_children().await.left, [0; 0]);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What abra does when it is called with this second word.
    pub fn does(&self, word: &str, script: &str) -> &Self {
        fs::write(self.path("does").join(word), script).unwrap();
        self
    }

    /// Its `.env`.
    pub fn env(&self, text: &str) -> &Self {
        fs::write(&self.app.env_file, text).unwrap();
        self
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Takes a flag's line out of every help.
    pub fn lacks(&self, flag: &str) -> &Self {
        for name in ["flags", "global"] {
            let text = self.read(name);
            let kept: Vec<&str> = text.lines().filter(|line| !line.contains(flag)).collect();
            fs::write(self.path(name), kept.join("\n")).unwrap();
        }
        self
    }

    /// The calls since the last look, without their first questions.
    pub fn calls(&self) -> Vec<String> {
        let journal = self.read("journal");
        fs::write(self.path("journal"), "").unwrap();
        journal
            .lines()
            .filter(|line| !line.ends_with("--help") && *line != "--version")
            .map(Into::into)
            .collect()
    }

    pub fn probe_of(&self, program: &Path) -> Probe {
        Probe {
            program: program.to_owned(),
            environment: environment(self.directory.path()),
            cache: Some(self.path(".abra.json")),
            catalogue: self.catalogue,
        }
    }

    pub async fn abra(&self) -> Abra {
        Abra::probe(self.lifetime.as_ref(), self.probe_of(&program())).await.unwrap()
    }

    /// The domains that `app ls` tells of.
    pub async fn listed(&self) -> Result<Vec<String>, Failure> {
        let abra = self.abra().await;
        let environment = self.context.environment.iter().map(|(name, value)| (name, value));
        let command = Command::new(abra.program(), &self.context.tmp).envs(environment);
        let (lifetime, redactor) = (self.lifetime.as_ref(), &self.context.redactor);
        let apps = abra.apps(lifetime, command, redactor, Duration::from_mins(1)).await?;
        Ok(apps.into_iter().map(|app| app.domain).collect())
    }

    pub async fn deployer(&self) -> AbraDeployer {
        self.deployer_with(Backups::Auto).await
    }

    pub async fn deployer_with(&self, backups: Backups) -> AbraDeployer {
        self.try_deployer(backups).await.unwrap()
    }

    pub async fn try_deployer(&self, backups: Backups) -> Result<AbraDeployer, Failure> {
        let settings = Settings {
            abra: self.abra().await,
            server: "default".to_owned(),
            docker_host: "unix:///x.sock".into(),
            engine: Arc::new(self.engine.clone()),
            backups,
        };
        AbraDeployer::new(settings).await
    }
}

/// A file of the repository: one that a test wrote could be busy while another test starts a process.
pub fn program() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/abra.sh")
}

fn environment(root: &Path) -> Vec<(OsString, OsString)> {
    vec![
        ("PATH".into(), "/usr/bin:/bin".into()),
        ("FAKE_ABRA".into(), root.into()),
        ("ABRA_DIR".into(), root.join("abra").into()),
    ]
}

/// A reporter that keeps the warnings.
#[derive(Debug, Default)]
pub struct Events(pub Mutex<Vec<String>>);

impl Reporter for Events {
    fn report(&self, event: &Event) {
        if let Event::Warning { text } = event {
            self.0.lock().unwrap().push(text.clone());
        }
    }
}

/// An engine whose services and secrets are files.
#[derive(Debug, Clone, Default)]
pub struct FileEngine {
    root: PathBuf,
    pub has_backup_service: bool,
    /// What was adopted by each call.
    pub adopted: Arc<Mutex<Vec<BTreeSet<String>>>>,
    rest: MemoryEngine,
}

impl FileEngine {
    fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(directory)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl fmt::Display for FileEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("files")
    }
}

#[async_trait]
impl EngineLayer for FileEngine {
    type Inner = MemoryEngine;

    fn inner(&self) -> &MemoryEngine {
        &self.rest
    }

    async fn services(&self, _: &Domain) -> Result<Vec<ServiceState>, Failure> {
        let state = |name: String| ServiceState {
            id: name.clone(),
            order: fs::read_to_string(self.root.join("services").join(&name)).unwrap(),
            name,
            created: String::new(),
            tasks: Vec::new(),
            healthy: true,
            spec: String::new(),
            version: None,
        };
        Ok(self.names("services").into_iter().map(state).collect())
    }

    async fn secrets(&self, _: &Domain) -> Result<BTreeSet<String>, Failure> {
        Ok(self.names("secrets").into_iter().collect())
    }

    async fn adopt_secrets(&self, _: &Domain, names: &BTreeSet<String>) -> Result<(), Failure> {
        self.adopted.lock().unwrap().push(names.clone());
        Ok(())
    }

    async fn has_backup_service(&self) -> Result<bool, Failure> {
        Ok(self.has_backup_service)
    }
}
