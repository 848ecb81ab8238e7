//! What every [`Deployer`] with its [`Engine`] promises, as tests that any pair can run.
//!
//! A case gets a [`Scene`]: the pair, and what a service of a recipe needs so that it comes up there. It writes recipes of
//! its own, and panics with what it saw when a promise is broken. It needs a tokio runtime with I/O and time. Nothing
//! of it is left on the engine when it ends well.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

use super::{
    App, Deployer, Engine, Failure, Fault, Kind, LockSpace, RecipeCode, Redactor, Resource, RunContext,
    ServiceCommand, VolumeFile, VolumePath,
};
use crate::lifetime::{Bounds, EmbeddedMode};
use crate::model::event::Silent;
use crate::names::Domain;
use crate::sys::system_info::BootId;

/// What no call of a case takes.
const FAR: Duration = Duration::from_mins(1);

/// A pair, on an engine that nobody else uses meanwhile.
#[derive(Debug, Clone)]
pub struct Scene {
    /// Makes apps come and go.
    pub deployer: Arc<dyn Deployer>,
    /// Sees and removes them.
    pub engine: Arc<dyn Engine>,
    /// The fields of a service that comes up and stays, with `sh` in it: YAML, as between the braces of a mapping, e.g.
    /// `image: "busybox:1.36.1", command: [sleep, "1000"]`.
    pub service: String,
}

type CaseRun = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One promise.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// The promise, as a sentence with underscores.
    pub name: &'static str,
    body: fn(World) -> CaseRun,
}

impl Case {
    /// Runs it.
    ///
    /// # Panics
    /// When the promise is broken, or when it takes longer than ten minutes.
    pub async fn run(&self, scene: Scene) {
        let ended = timeout(Duration::from_mins(10), (self.body)(World::new(scene))).await;
        assert!(ended.is_ok(), "{}: nothing moves any more", self.name);
    }
}

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        /// Every case.
        pub const CASES: &[Case] =
            &[$(Case { name: stringify!($name), body: |world| Box::pin(async move { $name(&world).await }) }),*];
    };
}

cases![
    an_executor_is_called_by_one_word,
    an_engine_is_claimed_by_one_lock_space,
    an_env_is_the_sample_with_the_domain,
    secrets_are_generated_once,
    what_never_was_is_empty_and_removed_without_complaint,
    an_app_comes_up_and_is_removed_whole,
    a_removal_takes_nothing_of_another_app,
    a_deploy_that_was_given_up_is_removed_whole,
    an_upgrade_keeps_services_and_volumes,
    a_volume_file_is_read_as_it_was_written,
    a_backup_brings_back_what_it_took,
    a_command_runs_in_its_service_and_its_failure_is_the_recipes,
    a_selected_removal_takes_what_is_named_and_nothing_else,
];

/// A scene with a run on it, and a place for its files.
struct World {
    scene: Scene,
    context: RunContext,
    directory: tempfile::TempDir,
}

fn done<T, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error:?}"),
    }
}

fn lifetime() -> Arc<EmbeddedMode> {
    Arc::new(done(EmbeddedMode::new(Bounds::default(), Arc::new(Silent))))
}

impl World {
    fn new(scene: Scene) -> Self {
        let directory = done(tempfile::tempdir());
        let tmp = directory.path().join("tmp");
        done(fs::create_dir(&tmp));
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
        let environment =
            [(OsString::from("PATH"), path)].into_iter().chain(scene.deployer.environment()).collect();
        let context = RunContext {
            run_id: done("conformance".parse()),
            lifetime: lifetime(),
            reporter: Arc::new(Silent),
            environment,
            tmp,
            redactor: Redactor::default(),
            recipe_code: RecipeCode::Unconfined("the suite's own".to_owned()),
        };
        Self { scene, context, directory }
    }

    fn engine(&self) -> &dyn Engine {
        self.scene.engine.as_ref()
    }

    fn deployer(&self) -> &dyn Deployer {
        self.scene.deployer.as_ref()
    }

    /// An app that exists nowhere yet, with a recipe of its own; another one for each name.
    fn app(&self, name: &str) -> App {
        let tree = self.directory.path().join(name);
        done(fs::create_dir(&tree));
        let compose = format!(
            r#"services:
  app:
    {{ {},
      volumes: ["data:/data"], secrets: [key], environment: {{ REVISION: "${{REVISION}}" }},
      deploy: {{ labels: ["backupbot.backup=true", "coop-cloud.${{STACK_NAME}}.version=1.0.0+1"] }} }}
volumes: {{ data: {{}} }}
secrets: {{ key: {{ external: true, name: "${{STACK_NAME}}_key_${{SECRET_KEY_VERSION}}" }} }}
"#,
            self.scene.service
        );
        done(fs::write(tree.join("compose.yml"), compose));
        done(fs::write(
            tree.join(".env.sample"),
            "TYPE=conformance\nDOMAIN=conformance.example.com\nREVISION=1\nSECRET_KEY_VERSION=v1\nSECRET_SPARE_VERSION=v1\n",
        ));
        let domain: Domain = done(format!("{name}-c0f0a1.conformance.example").parse());
        let env_file = self.directory.path().join(format!("{domain}.env"));
        App { domain, recipe: done("conformance".parse()), tree, env_file }
    }

    /// An app with what is made before its deploy.
    async fn prepared(&self, name: &str) -> App {
        let app = self.app(name);
        done(self.deployer().create(&self.context, &app).await);
        done(self.deployer().generate_secrets(&self.context, &app).await);
        done(self.engine().pre_pull(&app).await);
        app
    }

    async fn up(&self, name: &str) -> App {
        let app = self.prepared(name).await;
        done(self.deployer().deploy(&self.context, &app).await);
        done(self.engine().wait_converged(&app.domain, FAR, &Silent).await);
        app
    }

    async fn exists(&self, app: &App) -> Vec<Resource> {
        done(self.engine().inventory(Some(std::slice::from_ref(&app.domain))).await).of(&app.domain)
    }

    /// Removes the app, once more after what was ordered had the time to appear, and asserts that nothing is left.
    async fn remove(&self, app: &App) {
        done(self.engine().remove(&app.domain, FAR).await);
        let lag = self.engine().request_lag();
        if !lag.is_zero() {
            tokio::time::sleep(lag).await;
            done(self.engine().remove(&app.domain, FAR).await);
        }
        assert_eq!(self.exists(app).await, [], "something of {} is left", app.domain);
    }

    async fn volume(&self, app: &App) -> String {
        let mut volumes = done(self.engine().volumes(&app.domain).await);
        assert_eq!(volumes.len(), 1, "the app has one volume, not {volumes:?}");
        volumes.remove(0)
    }

    async fn write(&self, app: &App, content: &str) {
        let volume = self.volume(app).await;
        let file = VolumeFile { domain: &app.domain, volume: &volume, path: "file" };
        done(self.engine().write_volume_file(&file, content.as_bytes()).await);
    }

    async fn read(&self, app: &App, file: &str) -> Option<String> {
        let volume = self.volume(app).await;
        let file = VolumeFile { domain: &app.domain, volume: &volume, path: file };
        let read = done(self.engine().read_volume_file(&file).await);
        read.map(|content| String::from_utf8_lossy(&content).into_owned())
    }

    async fn execute(&self, app: &App, script: &str) -> Result<String, Failure> {
        let words = ["sh", "-c", script].map(str::to_owned);
        let command = ServiceCommand { app, service: "app", words: &words, limit: FAR };
        self.engine().execute(&self.context, &command).await
    }
}

async fn an_executor_is_called_by_one_word(world: &World) {
    let (name, again) = (world.deployer().to_string(), world.deployer().to_string());
    assert_eq!(name, again, "a later command knows it by its name");
    assert!((1..=64).contains(&name.len()), "{name:?} is not kept in a record");
    assert!(name.chars().all(|c| c.is_ascii_graphic()), "{name:?} is no word");
}

async fn an_engine_is_claimed_by_one_lock_space(world: &World) {
    let space = |directory: &str| LockSpace {
        machine_id: "conformance".to_owned(),
        hostname: "conformance".to_owned(),
        boot_id: BootId::new("conformance"),
        directory: directory.to_owned(),
        path: "/conformance".into(),
    };
    done(world.engine().claim(&space("1:1")).await);
    done(world.engine().claim(&space("1:1")).await);
    assert!(world.engine().claim(&space("1:2")).await.is_err(), "two lock directories have one engine");
    done(world.engine().claim(&space("1:1")).await);
}

async fn an_env_is_the_sample_with_the_domain(world: &World) {
    let app = world.app("env");
    done(world.deployer().create(&world.context, &app).await);
    let env = done(app.env());
    assert_eq!((env.get("DOMAIN"), env.get("REVISION")), (Some(app.domain.as_str()), Some("1")));
}

async fn secrets_are_generated_once(world: &World) {
    let app = world.app("secrets");
    done(world.deployer().create(&world.context, &app).await);
    let new = done(world.deployer().generate_secrets(&world.context, &app).await);
    let names: Vec<&str> = new.keys().map(String::as_str).collect();
    assert_eq!(names, ["key", "spare"]);
    assert!(new.values().all(|value| !value.expose().is_empty()), "the secret is empty");
    let listed = |secrets: BTreeSet<String>| secrets.into_iter().collect::<Vec<_>>();
    let full = ["key", "spare"].map(|name| format!("{}_{name}_v1", app.domain.stack()));
    assert_eq!(listed(done(world.engine().secrets(&app.domain).await)), full);
    let again = done(world.deployer().generate_secrets(&world.context, &app).await);
    assert!(again.is_empty(), "it was made again: {:?}", again.keys());
    world.remove(&app).await;
    assert_eq!(listed(done(world.engine().secrets(&app.domain).await)), [""; 0]);
}

async fn what_never_was_is_empty_and_removed_without_complaint(world: &World) {
    let app = world.app("never");
    assert_eq!(world.exists(&app).await, []);
    assert_eq!(done(world.engine().services(&app.domain).await), []);
    done(world.engine().remove(&app.domain, FAR).await);
    done(world.engine().remove_selected(&app.domain, &[Resource::new(Kind::Secret, "none")], FAR).await);
}

async fn an_app_comes_up_and_is_removed_whole(world: &World) {
    let app = world.up("comes").await;
    let services = done(world.engine().services(&app.domain).await);
    let [service] = &services[..] else { panic!("the app has one service, not {services:?}") };
    assert_eq!(
        (service.name.as_str(), service.healthy, service.tasks.len()),
        ("app", true, 1),
        "{service:?}"
    );
    assert_eq!(service.version.as_deref(), Some("1.0.0+1"));
    done(world.engine().log(&app.domain, "app").await);
    let logs = done(world.engine().logs(&app.domain, FAR).await);
    assert!(logs.iter().all(|task| task.service == "app" && !task.failed), "{logs:?}");
    let exists = world.exists(&app).await;
    for kind in [Kind::Volume, Kind::Secret] {
        assert!(exists.iter().any(|found| found.kind == kind), "no {kind} among: {exists:?}");
    }
    let all = done(world.engine().inventory(None).await).of(&app.domain);
    assert_eq!(all, exists, "an inventory of all says something else");
    world.remove(&app).await;
    assert_eq!(done(world.engine().services(&app.domain).await), []);
    done(world.engine().remove(&app.domain, FAR).await);
}

async fn a_removal_takes_nothing_of_another_app(world: &World) {
    let (one, other) = (world.up("one").await, world.up("one-more").await);
    let before = (world.exists(&other).await, done(world.engine().services(&other.domain).await));
    world.remove(&one).await;
    let after = (world.exists(&other).await, done(world.engine().services(&other.domain).await));
    assert_eq!(after, before);
    world.remove(&other).await;
}

async fn a_deploy_that_was_given_up_is_removed_whole(world: &World) {
    // Where it first waits, and where it does next: there something may have been started.
    for waits in 1..=2 {
        let app = world.prepared(&format!("dropped{waits}")).await;
        let context = RunContext { lifetime: lifetime(), ..world.context.clone() };
        let mut waited = 0;
        let mut deploy = world.deployer().deploy(&context, &app);
        let deployed = poll_fn(|task| {
            let polled = deploy.as_mut().poll(task).map(Some);
            waited += 1;
            if polled.is_pending() && waited == waits { Poll::Ready(None) } else { polled }
        })
        .await;
        drop(deploy);
        deployed.map(done);
        // As whoever tears down does: it waits for what works, or is being started, in the run's name.
        assert_eq!(context.lifetime.end_children().await.left, [0; 0]);
        world.remove(&app).await;
    }
}

async fn an_upgrade_keeps_services_and_volumes(world: &World) {
    let app = world.up("upgraded").await;
    world.write(&app, "kept").await;
    let before = done(world.engine().services(&app.domain).await);
    let mut env = done(app.env());
    done(env.set("REVISION", "2"));
    done(app.set_env(&env));
    done(world.deployer().upgrade(&world.context, &app).await);
    done(world.engine().wait_converged(&app.domain, FAR, &Silent).await);
    let after = done(world.engine().services(&app.domain).await);
    let identity = |services: &[super::ServiceState]| {
        services.iter().map(|service| (service.id.clone(), service.created.clone())).collect::<Vec<_>>()
    };
    assert_eq!(identity(&after), identity(&before), "a service was made anew");
    assert_ne!(after[0].spec, before[0].spec, "the service runs what it ran");
    assert_ne!(after[0].tasks, before[0].tasks, "the service was not restarted");
    assert_eq!(world.read(&app, "file").await.as_deref(), Some("kept"));
    world.remove(&app).await;
}

async fn a_volume_file_is_read_as_it_was_written(world: &World) {
    let app = world.up("volume").await;
    assert_eq!(world.read(&app, "file").await, None);
    world.write(&app, "one\n").await;
    world.write(&app, "two\0\n").await;
    assert_eq!(world.read(&app, "file").await.as_deref(), Some("two\0\n"));
    let volume = world.volume(&app).await;
    // One that can't tell says nothing.
    let at = VolumeFile { domain: &app.domain, volume: &volume, path: "" };
    let look = async |path: &str| done(world.engine().volume_path(&VolumeFile { path, ..at }).await);
    assert!(matches!(look("file").await, None | Some(VolumePath::Other)), "a file is none");
    assert!(matches!(look("none").await, None | Some(VolumePath::Missing)), "nothing is something");
    for name in ["..", "../file", "/etc/hostname", ""] {
        let file = VolumeFile { path: name, ..at };
        let read = world.engine().read_volume_file(&file).await;
        assert!(!matches!(read, Ok(Some(_))), "{name:?} was read");
        let write = world.engine().write_volume_file(&file, b"x").await;
        assert!(write.is_err(), "{name:?} was written");
    }
    world.remove(&app).await;
}

async fn a_backup_brings_back_what_it_took(world: &World) {
    let app = world.up("backup").await;
    world.write(&app, "before").await;
    let backup = done(world.deployer().backup(&world.context, &app).await);
    world.write(&app, "after").await;
    done(world.deployer().restore(&world.context, &app, &backup).await);
    assert_eq!(world.read(&app, "file").await.as_deref(), Some("before"));
    world.remove(&app).await;
}

async fn a_command_runs_in_its_service_and_its_failure_is_the_recipes(world: &World) {
    let app = world.up("command").await;
    assert_eq!(done(world.execute(&app, "echo \"revision $REVISION\"").await).trim(), "revision 1");
    let failed = world.execute(&app, "echo no; exit 3").await;
    assert!(matches!(&failed, Err(failure) if failure.fault() == Fault::Recipe), "{failed:?}");
    world.remove(&app).await;
}

async fn a_selected_removal_takes_what_is_named_and_nothing_else(world: &World) {
    let (app, other) = (world.prepared("selected").await, world.prepared("selected-not").await);
    let exists = world.exists(&app).await;
    let spare = Resource::new(Kind::Secret, format!("{}_spare_v1", app.domain.stack()));
    assert!(exists.contains(&spare), "{exists:?}");
    let others = world.exists(&other).await;
    let named: Vec<Resource> = others.iter().cloned().chain([spare.clone()]).collect();
    done(world.engine().remove_selected(&app.domain, &named, FAR).await);
    let left = world.exists(&app).await;
    let expected: Vec<Resource> = exists.into_iter().filter(|found| *found != spare).collect();
    assert_eq!(left, expected);
    assert_eq!(world.exists(&other).await, others, "another app's was taken");
    for app in [app, other] {
        world.remove(&app).await;
    }
}
