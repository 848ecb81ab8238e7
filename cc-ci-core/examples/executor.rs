//! An executor of one's own: it keeps apps in memory, and runs nothing but commands. It keeps the contract of
//! `engine::conformance`: `cargo run -p cc-ci-core --features conformance --example executor`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, fs, io};

use async_trait::async_trait;
use cc_ci_core::engine::conformance::{CASES, Scene};
use cc_ci_core::engine::{
    App, Backup, Deployer, Endpoint, Engine, Failure, Inventory, Kind, LockSpace, Resource, RunContext,
    Secret, ServiceCommand, ServiceState, VolumeCopy, VolumeFile, restore_by_labels, take_by_labels,
};
use cc_ci_core::event::Reporter;
use cc_ci_core::files::write_whole;
use cc_ci_core::lifetime::{Line, RunLifetimeExt as _};
use cc_ci_core::names::Domain;
use cc_ci_core::recipe::{Recipe, VolumeBackup};

type Outcome<T = ()> = Result<T, Failure>;

/// What is in an object: a volume has files, a service what it runs and its version, a secret nothing.
type Content = BTreeMap<String, Vec<u8>>;

#[derive(Debug, Default)]
struct InMemory {
    claim: Mutex<Option<LockSpace>>,
    apps: Mutex<BTreeMap<Domain, BTreeMap<Resource, Content>>>,
}

impl fmt::Display for InMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory")
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::host("can't keep an app in memory").with_source(error)
}

impl InMemory {
    /// Works on an app's objects.
    fn with<T>(&self, domain: &Domain, work: impl FnOnce(&mut BTreeMap<Resource, Content>) -> T) -> T {
        work(self.apps.lock().unwrap_or_else(PoisonError::into_inner).entry(domain.clone()).or_default())
    }

    /// The app's objects of a kind, by name.
    fn of(&self, domain: &Domain, kind: Kind) -> BTreeMap<String, Content> {
        let of_kind = |(object, content): (&Resource, &Content)| {
            (object.kind == kind).then(|| (object.name.clone(), content.clone()))
        };
        self.with(domain, |objects| objects.iter().filter_map(of_kind).collect())
    }
}

#[async_trait]
impl Deployer for InMemory {
    async fn create(&self, _: &RunContext, app: &App) -> Outcome {
        let tree = Recipe::open(app.recipe.clone(), &app.tree).map_err(failed)?;
        let mut env = tree.sample().map_err(failed)?;
        env.set("DOMAIN", app.domain.as_str()).map_err(failed)?;
        app.set_env(&env)
    }
    async fn generate_secrets(&self, _: &RunContext, app: &App) -> Outcome<BTreeMap<String, Secret>> {
        let mut new = BTreeMap::new();
        for spec in app.env()?.secrets().map_err(failed)? {
            let name = format!("{}_{}_{}", app.domain.stack(), spec.name, spec.version);
            let secret = Resource::new(Kind::Secret, name);
            if self.with(&app.domain, |objects| objects.insert(secret, Content::new())).is_none() {
                new.insert(spec.name.clone(), spec.random_value().map_err(failed)?);
            }
        }
        Ok(new)
    }
    async fn deploy(&self, _: &RunContext, app: &App) -> Outcome {
        let tree = Recipe::open(app.recipe.clone(), &app.tree).map_err(failed)?;
        let vars = tree.vars(&app.env()?, &app.domain).map_err(failed)?;
        let compose = tree.compose(&vars).map_err(failed)?;
        self.with(&app.domain, |objects| {
            for volume in compose.volumes.keys() {
                let name = format!("{}_{volume}", app.domain.stack());
                objects.entry(Resource::new(Kind::Volume, name)).or_default();
            }
            for (name, service) in &compose.services {
                let runs = format!("{service:?} with {vars:?}").into_bytes();
                let version = compose.labels().version.unwrap_or_default().into_bytes();
                let content = Content::from([("runs".to_owned(), runs), ("version".to_owned(), version)]);
                objects.insert(Resource::new(Kind::Service, name), content);
            }
        });
        Ok(())
    }
    async fn backup(&self, context: &RunContext, app: &App) -> Outcome<Backup> {
        take_by_labels(self, context, app).await
    }
    async fn restore(&self, context: &RunContext, app: &App, backup: &Backup) -> Outcome {
        restore_by_labels(self, context, app, backup).await
    }
}

#[async_trait]
impl Engine for InMemory {
    async fn claim(&self, space: &LockSpace) -> Outcome {
        let mut claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = claim.get_or_insert_with(|| space.clone()).is_same(space);
        if ours { Ok(()) } else { Err(Failure::configuration("another lock directory has these apps")) }
    }
    async fn inventory(&self, domains: Option<&[Domain]>) -> Outcome<Inventory> {
        let mut found = Inventory::default();
        for (domain, objects) in self.apps.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if domains.is_none_or(|domains| domains.contains(domain)) {
                for object in objects.keys() {
                    found.add(domain, object.clone());
                }
            }
        }
        Ok(found)
    }
    async fn wait_converged(&self, _: &Domain, _: Duration, _: &dyn Reporter) -> Outcome {
        Ok(())
    }
    async fn services(&self, domain: &Domain) -> Outcome<Vec<ServiceState>> {
        let state = |(name, content): (String, Content)| {
            let text = |key: &str| String::from_utf8_lossy(&content[key]).into_owned();
            let (spec, version) = (text("runs"), Some(text("version")));
            let (id, created, order) = (format!("{domain}/{name}"), "once".to_owned(), spec.clone());
            ServiceState { name, id, created, order, tasks: vec![spec.clone()], healthy: true, spec, version }
        };
        Ok(self.of(domain, Kind::Service).into_iter().map(state).collect())
    }
    async fn remove(&self, domain: &Domain, _: Duration) -> Outcome {
        self.with(domain, BTreeMap::clear);
        Ok(())
    }
    async fn remove_selected(&self, domain: &Domain, named: &[Resource], _: Duration) -> Outcome {
        self.with(domain, |objects| objects.retain(|object, _| !named.contains(object)));
        Ok(())
    }
    async fn endpoint(&self, _: &Domain) -> Outcome<Endpoint> {
        Err(Failure::recipe("what is kept in memory serves nothing"))
    }
    async fn volumes(&self, domain: &Domain) -> Outcome<Vec<String>> {
        Ok(self.of(domain, Kind::Volume).into_keys().collect())
    }
    async fn write_volume_file(&self, file: &VolumeFile<'_>, text: &[u8]) -> Outcome {
        if Path::new(file.path).file_name().is_none_or(|name| name != file.path) {
            return Err(Failure::host("that is no file of a volume"));
        }
        let volume = Resource::new(Kind::Volume, file.volume);
        self.with(file.domain, |objects| {
            objects.entry(volume).or_default().insert(file.path.to_owned(), text.to_vec())
        });
        Ok(())
    }
    async fn read_volume_file(&self, file: &VolumeFile<'_>) -> Outcome<Option<Vec<u8>>> {
        let volumes = self.of(file.domain, Kind::Volume);
        Ok(volumes.get(file.volume).and_then(|files| files.get(file.path)).cloned())
    }
    async fn execute(&self, on: &RunContext, command: &ServiceCommand<'_>) -> Outcome<String> {
        let ServiceCommand { app, words, limit, .. } = *command;
        let (program, args) = words.split_first().ok_or_else(|| Failure::recipe("there is no command"))?;
        let command = on.command(&app.domain, program, &app.tree).args(args).envs(app.env()?.vars());
        let mut output = String::new();
        let ended = on.lifetime.run(command, limit, &mut |line: &Line| output.push_str(&line.text)).await;
        let ended = ended.map_err(failed)?;
        if ended.success() { Ok(output) } else { Err(Failure::recipe(format!("it ended with {ended}"))) }
    }
    async fn log(&self, _: &Domain, _: &str) -> Outcome<String> {
        Ok(String::new())
    }
    async fn save_volume(&self, _: &RunContext, copy: &VolumeCopy<'_>, _: &VolumeBackup) -> Outcome {
        let files = self.of(&copy.app.domain, Kind::Volume).remove(copy.volume).unwrap_or_default();
        write_whole(copy.directory, &serde_json::to_vec(&files).map_err(failed)?, 0o600).map_err(failed)
    }
    async fn load_volume(&self, _: &RunContext, copy: &VolumeCopy<'_>) -> Outcome {
        let files = serde_json::from_slice(&fs::read(copy.directory).map_err(failed)?).map_err(failed)?;
        let volume = Resource::new(Kind::Volume, copy.volume);
        self.with(&copy.app.domain, |objects| objects.insert(volume, files));
        Ok(())
    }
    async fn secrets(&self, domain: &Domain) -> Outcome<BTreeSet<String>> {
        Ok(self.of(domain, Kind::Secret).into_keys().collect())
    }
}

fn main() -> io::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    for case in CASES {
        let pair = Arc::new(InMemory::default());
        let service = "image: \"nothing:1\"".to_owned();
        runtime.block_on(case.run(Scene { deployer: pair.clone(), engine: pair, service }));
    }
    Ok(())
}

#[test]
fn it_keeps_the_contract() -> io::Result<()> {
    main()
}
