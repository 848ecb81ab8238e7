//! Runs of cc-ci with abra, and what must hold after each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use cc_ci_core::names::Domain;
use cc_ci_tests::engine::{BUSYBOX, Bystanders, Engine, Object, TestEngine, until};
use cc_ci_tests::stand_in::Call;
use cc_ci_tests::{CcCi, Ended, Recipe, World};
use serde_json::Value;

use crate::stand_in::make;

/// A call that tests pull request `number` of `recipe`.
pub fn call(world: &World, recipe: &Recipe, number: u64) -> CcCi {
    world.abra();
    let number = number.to_string();
    world.cc_ci(["run", "--format", "json", "--run-id", &number, "--pr", &number]).arg(recipe.path())
}

/// The same, to its end.
pub fn run(world: &World, recipe: &Recipe, number: u64) -> Ended {
    call(world, recipe, number).run()
}

/// A light recipe with a release and a commit after it.
pub fn light(world: &World, name: &str) -> Recipe {
    let recipe = world.light(name);
    recipe.release("1.0.0+1");
    recipe.light_compose("1.1.0+1", "");
    recipe.commit();
    recipe
}

/// The record's tier.
#[track_caller]
pub fn tier<'r>(record: &'r Value, name: &str) -> &'r Value {
    let mut tiers = record["tiers"].as_array().into_iter().flatten();
    tiers.find(|tier| tier["name"] == name).unwrap_or_else(|| panic!("no tier {name}: {record:#}"))
}

/// The status of each tier, in order.
pub fn statuses(record: &Value) -> Vec<&str> {
    record["tiers"].as_array().into_iter().flatten().filter_map(|tier| tier["status"].as_str()).collect()
}

/// What a run warned of, but for one trouble of the engine's own. It makes the mount of a container's secrets read-only
/// after it wrote them, and a process that it starts just then still holds the file: the kernel says EBUSY, the engine
/// takes the update back, and the run orders it once more, as it should.
pub fn warnings(record: &Value) -> Vec<&str> {
    let all = record["warnings"].as_array().unwrap().iter().map(|warning| warning.as_str().unwrap());
    all.filter(|warning| !warning.contains("once more") || !warning.contains("unable to remount dir"))
        .collect()
}

/// Asserts that a run's receipt has nothing left, and its domains verified.
#[track_caller]
pub fn receipt_is_clean(record: &Value) {
    let receipt = &record["receipt"];
    assert_eq!(receipt["left"], serde_json::json!([]), "{record:#}");
    assert_eq!(receipt["verified"], record["domains"], "{record:#}");
}

/// Asserts that nothing of any run is left: no process, object, `.env`, tree, or held lock.
#[track_caller]
pub fn nothing_left(engine: &TestEngine, canonical: Option<&Canonical>) {
    let world = engine.world();
    nothing_left_on(engine, world, || engine.left(), canonical);
}

/// The same on an engine of the test's own.
#[track_caller]
pub fn nothing_left_on(
    engine: &Engine,
    world: &World,
    left: impl Fn() -> Vec<Object>,
    canonical: Option<&Canonical>,
) {
    let others = |object: &Object| {
        let persistent = object.name.starts_with("cc-ci-lockspace-");
        persistent || canonical.is_some_and(|canonical| canonical.owns(object))
    };
    // Swarm forgets tasks that are gone in its own time.
    until("no task of a run is left", || {
        !left().iter().any(|object| object.kind == "task" && !others(object))
    });
    let mut left = left();
    left.retain(|object| !others(object));
    assert_eq!(left, [], "left behind on {}", engine.host());
    world.assert_empty();
    let kept: Vec<String> =
        canonical.map(|canonical| format!("{}.env", canonical.domain)).into_iter().collect();
    assert_eq!(env_files(world), kept, "left behind in abra's servers");
    // Who holds a lock is seen by whoever looks.
    let audit = world.cc_ci(["audit"]).run().expect(0);
    assert_eq!(audit.stdout, "nothing exists\n");
}

/// What is of this world's suffix on an engine.
pub fn left_below(engine: &Engine, world: &World) -> Vec<Object> {
    let mut left = engine.objects();
    left.retain(|object| object.is_below(world.suffix().as_str()));
    left
}

/// Deploys what abra takes for the backup service of a host.
pub fn backup_service(engine: &Engine) {
    engine.deploy(
        "backups",
        &format!(
            "version: '3.8'\nservices: {{app: {{image: '{BUSYBOX}', command: [sleep, '1000000'], \
             deploy: {{endpoint_mode: dnsrr, labels: ['coop-cloud.backupbot.enabled=true']}}}}}}"
        ),
    );
}

/// How many deploys abra has been told to do.
pub fn deploys(world: &World) -> usize {
    world.abra().calls().iter().filter(|call| call.is("app deploy") && is_work(call)).count()
}

/// Whether a call of abra was meant to do something.
pub fn is_work(call: &Call) -> bool {
    !call.args.iter().any(|arg| arg == "--help")
}

fn env_files(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.abra_dir().join("servers/default")).expect("abra's servers");
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// An app that people use, beside the runs of a world: it is of the same suffix, server and recipe.
#[derive(Debug)]
pub struct Canonical {
    domain: Domain,
    before: Bystanders,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Canonical {
    /// Deploys it with abra, as its owner would.
    #[track_caller]
    pub fn deploy(engine: &TestEngine, recipe: &Recipe) -> Self {
        let world = engine.world();
        let abra = world.abra();
        abra.fetch(recipe);
        let domain: Domain = format!("canon.{}", world.suffix()).parse().expect("a domain");
        make(world, recipe.name(), &domain);
        abra.run(&["app", "deploy", "-n", "-C", "-c", domain.as_str()]).expect(0);
        let service = format!("{}_app", domain.stack());
        // Not before it is healthy, and by then the Swarm has written down all that there is to know.
        until("the canonical app runs", || engine.running(&service) == 1);
        let look = Bystanders::look_at(engine, |object| is_of(object, &domain));
        Self { before: look, files: world.snapshot_of(&world.abra_dir()), domain }
    }

    fn owns(&self, object: &Object) -> bool {
        is_of(object, &self.domain)
    }

    /// Asserts that it is as it was, on the engine and in its files.
    #[track_caller]
    pub fn is_untouched(&self, engine: &TestEngine) {
        let now = Bystanders::look_at(engine, |object| self.owns(object));
        // Each probe of its health is written down in its container.
        let changes: Vec<String> = self
            .before
            .changes(&now)
            .into_iter()
            .filter(|change| !change.contains(".State.Health.Log") && !change.contains(".ExecIDs"))
            .collect();
        assert!(changes.is_empty(), "the canonical app was touched: {changes:#?}");
        let world = engine.world();
        let files = world.snapshot_of(&world.abra_dir());
        let names = self.files.keys().chain(files.keys());
        let other: BTreeSet<_> = names.filter(|name| self.files.get(*name) != files.get(*name)).collect();
        assert!(other.is_empty(), "abra's files were touched: {other:#?}");
    }

    /// Takes it away, as its owner would.
    pub fn remove(self, engine: &TestEngine) {
        let abra = engine.world().abra();
        abra.does(&[]);
        abra.run(&["app", "undeploy", "-n", self.domain.as_str()]).expect(0);
        abra.run(&["app", "remove", "-nf", self.domain.as_str()]).expect(0);
    }
}

fn is_of(object: &Object, domain: &Domain) -> bool {
    let stack = domain.stack();
    object.stack.as_deref() == Some(stack.as_str()) || stack.prefixes(&object.name)
}
