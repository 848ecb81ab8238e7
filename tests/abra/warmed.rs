//! A warm app on a Swarm, deployed with abra as its owner would, and what a run must leave of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;

use cc_ci_core::names::Domain;
use cc_ci_tests::engine::{BUSYBOX, Object, TestEngine, http_get, until};
use cc_ci_tests::stand_in::{Call, Wrong};
use cc_ci_tests::{CcCi, Recipe, unconfined};
use serde_json::Value;

use crate::stand_in::make;
use crate::support::is_work;

/// What one look at the app tells: each object's id, and of a service when it was made, and its whole spec.
type Look = BTreeMap<String, Value>;

/// A warm app of version `1.0.0+1`, with data in its volume; the recipe goes on from there.
#[derive(Debug)]
pub struct Warmed {
    engine: TestEngine,
    pub recipe: Recipe,
    pub domain: Domain,
    look: Look,
    /// The canonical tree.
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// How often abra was called before cc-ci did.
    calls: usize,
}

impl Deref for Warmed {
    type Target = TestEngine;
    fn deref(&self) -> &TestEngine {
        &self.engine
    }
}

impl Warmed {
    #[track_caller]
    pub fn new(test: &str) -> Option<Self> {
        let engine = TestEngine::shared(test)?;
        let world = engine.world();
        let recipe = world.light("blog");
        write(&recipe, "1.0.0+1", |compose| compose);
        recipe.release("1.0.0+1");
        let domain: Domain = format!("blog.{}", world.suffix()).parse().expect("a domain");
        let config = format!("[recipes.blog]\nwarm = \"{domain}\"\n");
        fs::write(world.path().join("config.toml"), unconfined(config)).expect("a configuration");
        let abra = world.abra();
        // No source is configured: the baseline is that of the canonical tree.
        abra.fetch(&recipe);
        make(world, "blog", &domain);
        abra.run(&["app", "deploy", "-n", "-C", "-c", domain.as_str()]).expect(0);
        let calls = abra.calls().len();
        let mut warmed = Self { engine, recipe, domain, look: Look::new(), files: BTreeMap::new(), calls };
        warmed.is_up();
        warmed.exec("echo precious > /data/file");
        warmed.look = warmed.look();
        warmed.files = warmed.world().snapshot_of(&warmed.world().abra_dir());
        Some(warmed)
    }

    /// Waits until the app is up, as Swarm sees it.
    #[track_caller]
    fn is_up(&self) {
        until("the warm app is healthy and updated", || {
            let updated = self.update_state().is_none_or(|state| state == "completed");
            updated && self.running(&self.service()) == 1
        });
    }

    pub fn service(&self) -> String {
        format!("{}_app", self.domain.stack())
    }

    /// How Swarm says that the last update of the app's service stands.
    pub fn update_state(&self) -> Option<String> {
        let service = self.get(&format!("/services/{}", self.service()))?;
        service["UpdateStatus"]["State"].as_str().map(str::to_owned)
    }

    /// The count of the service's changes.
    pub fn version_index(&self) -> Value {
        self.get(&format!("/services/{}", self.service())).expect("a service")["Version"]["Index"].clone()
    }

    #[track_caller]
    fn exec(&self, script: &str) -> String {
        let filter = format!("label=com.docker.swarm.service.name={}", self.service());
        let container = self.docker(["ps", "--quiet", "--filter", &filter, "--filter", "health=healthy"]);
        self.docker(["exec", container.trim(), "sh", "-c", script])
    }

    /// Whether an object is the app's.
    pub fn owns(&self, object: &Object) -> bool {
        let stack = self.domain.stack();
        object.stack.as_deref() == Some(stack.as_str()) || stack.prefixes(&object.name)
    }

    /// What lasts of the app, as it is now.
    pub fn look(&self) -> Look {
        let lasts = |object: &Object| !matches!(object.kind, "task" | "container");
        let objects = self.objects().into_iter().filter(|object| self.owns(object) && lasts(object));
        objects
            .map(|object| {
                let mut message = Value::from(object.id.clone());
                if object.kind == "service" {
                    let mut service = self.get(&object.path()).expect("a service");
                    message = Value::from(vec![message, service["CreatedAt"].take(), service["Spec"].take()]);
                }
                (object.to_string(), message)
            })
            .collect()
    }

    /// Asserts that the app is what it was before any run: its objects, the specs of its services, its data, its page,
    /// its `.env` and its recipe's checkout, byte for byte; and that cc-ci never called abra in the canonical tree.
    #[track_caller]
    pub fn is_as_before(&self) {
        assert_eq!(self.look(), self.look);
        self.serves("1.0.0+1");
        assert_eq!(self.exec("cat /data/file"), "precious");
        self.files_are_as_before();
    }

    #[track_caller]
    pub fn files_are_as_before(&self) {
        let world = self.world();
        assert_eq!(world.snapshot_of(&world.abra_dir()), self.files);
        let calls = self.calls();
        assert!(!calls.is_empty(), "abra was called");
        for call in calls {
            let tree = call.abra_dir.as_ref().expect("a tree");
            assert!(tree.starts_with(world.runs()), "{call:?}");
        }
    }

    /// What abra was asked to do since the app was made.
    pub fn calls(&self) -> Vec<Call> {
        let asks = |call: &Call| call.args.iter().any(|arg| arg == "--version");
        self.world()
            .abra()
            .calls()
            .into_iter()
            .skip(self.calls)
            .filter(|call| is_work(call) && !asks(call))
            .collect()
    }

    /// Asserts that the app's own page says this version.
    #[track_caller]
    pub fn serves(&self, version: &str) {
        let address = self.address(&self.service()).expect("a task that runs");
        let (status, body) =
            http_get(SocketAddr::new(address, 8080), self.domain.as_str(), "/").expect("it answers");
        assert_eq!(status, 200);
        assert!(body.contains(&format!("I am {}.", self.domain)), "{body}");
        assert!(body.contains(&format!("This is {version}.")), "{body}");
    }

    /// What a pull request adds: a service, a volume, a secret, a config and a network, and version `1.1.0+1`.
    pub fn adds(&self) -> &Recipe {
        self.change(added)
    }

    /// The next version, with its compose file changed further.
    pub fn change(&self, change: impl FnOnce(String) -> String) -> &Recipe {
        let sample = "TYPE=blog\nDOMAIN=blog.example.com\nLETS_ENCRYPT_ENV=\nSECRET_KEY_VERSION=v1 # length=24\n\
                      SECRET_EXTRA_VERSION=v1 # length=24\nNEW=value\n";
        self.recipe.write(".env.sample", sample).write("motd.txt", "hello\n");
        write(&self.recipe, "1.1.0+1", change);
        &self.recipe
    }

    /// A call with the configuration.
    pub fn call<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> CcCi {
        self.world().cc_ci(args).env("CCCI_CONFIG", self.world().path().join("config.toml"))
    }

    /// A quick run of what the recipe is now.
    pub fn quick(&self, id: &str) -> CcCi {
        self.call(["run", "--quick", "--format", "json", "--run-id", id]).arg(self.recipe.path())
    }

    /// What `warm reconcile` says of the app.
    #[track_caller]
    pub fn reconciled(&self) -> Value {
        self.call(["warm", "reconcile", "--format", "json"]).run().expect(0).json()["apps"][0].clone()
    }

    /// Asserts that a reconcile finds all as it should be, and changes nothing.
    #[track_caller]
    pub fn is_canonical(&self) {
        let (index, tasks) = (self.version_index(), self.task_ids());
        assert_eq!(self.reconciled()["outcome"], "at_baseline");
        assert_eq!((self.version_index(), self.task_ids()), (index, tasks), "nothing was touched");
    }

    pub fn task_ids(&self) -> BTreeSet<String> {
        let tasks = self.tasks(&self.service());
        tasks.iter().map(|task| task["ID"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Whether something of a run's tree is left.
    pub fn has_tree(&self, run: &str) -> bool {
        let directory = self.world().runs().join(run);
        ["abra", "warm", "home", "tmp"].iter().any(|part| directory.join(part).exists())
    }

    /// The nth deploy that cc-ci orders from now on, counted from 1, hangs.
    pub fn hangs_at(&self, nth: usize) {
        let deploys = |call: &&Call| call.is("app deploy") && is_work(call);
        let before = self.world().abra().calls().iter().filter(deploys).count();
        self.world().abra().does_at(&[(Wrong::Hangs, Some(before + nth))]);
    }

    /// Takes the app away, as its owner would, after a last look at it.
    #[track_caller]
    pub fn end(self) {
        self.is_as_before();
        self.world().assert_empty();
        self.bystanders_unchanged();
        let abra = self.world().abra();
        abra.does(&[]);
        abra.run(&["app", "undeploy", "-n", self.domain.as_str()]).expect(0);
        abra.run(&["app", "remove", "-nf", self.domain.as_str()]).expect(0);
    }
}

/// Writes the light compose file of a version, changed. Swarm watches its rollbacks for a second too, not for five.
fn write(recipe: &Recipe, version: &str, change: impl FnOnce(String) -> String) {
    recipe.light_compose(version, "");
    let compose = fs::read_to_string(recipe.path().join("compose.yml")).expect("a file of ours");
    let quick = "{failure_action: rollback, monitor: 1s}\n      rollback_config: {monitor: 1s}";
    recipe
        .write("compose.yml", &change(replaced(&compose, "{failure_action: rollback, monitor: 1s}", quick)));
}

/// One of each kind more.
fn added(compose: String) -> String {
    let service = format!(
        "services:\n  extra:\n    image: {BUSYBOX}\n    command: [sleep, '1000000']\n    stop_grace_period: 1s\n    \
         networks: [extra]\n    volumes: ['extra:/extra']\n    secrets: [extra]\n    \
         configs: [{{source: motd, target: /motd}}]\n"
    );
    let secret =
        "\nsecrets:\n  extra:\n    external: true\n    name: ${STACK_NAME}_extra_${SECRET_EXTRA_VERSION}\n";
    [
        ("services:\n", service.as_str()),
        ("volumes: {data: , srv: }", "volumes: {data: , srv: , extra: }"),
        ("\nsecrets:\n", secret),
        ("\nconfigs:\n", "\nconfigs:\n  motd:\n    name: ${STACK_NAME}_motd_v1\n    file: motd.txt\n"),
        ("\n  internal:\n", "\n  internal:\n  extra:\n"),
    ]
    .iter()
    .fold(compose, |compose, (from, to)| replaced(&compose, from, to))
}

/// The same, where the added service never becomes healthy.
pub fn added_and_sick(compose: String) -> String {
    let sick = "    healthcheck: {test: [CMD, 'false'], interval: 1s, retries: 100}\n    networks: [extra]\n";
    replaced(&added(compose), "    networks: [extra]\n", sick)
}

/// An app that is unhealthy after two seconds, with which Swarm does this.
pub fn unhealthy(compose: &str, action: &str) -> String {
    let compose = replaced(compose, "\"wget\", \"-q\"", "\"false\", \"-q\"");
    let compose = replaced(&compose, "retries: 10", "retries: 2");
    replaced(&compose, "failure_action: rollback", &format!("failure_action: {action}"))
}

#[track_caller]
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in {text}");
    text.replacen(from, to, 1)
}
