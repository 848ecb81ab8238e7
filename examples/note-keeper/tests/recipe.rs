//! The recipe beside this crate, walked through its whole life with what its `compose.yml` says: install, upgrade in
//! place, backup, change, restore, and its own tests in each tier.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use support::{Place, Service, ok};

const DOMAIN: &str = "note-ad3e33.ci.example.org";
const STACK: &str = "note-ad3e33_ci_example_org";

/// Lays a release's tree: 1.1.0 is that of 1.0.0 with its own files on top.
fn lay(release: &str, tree: &Path) {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipe");
    let layers: &[&str] = if release == "1.0.0" { &["1.0.0"] } else { &["1.0.0", "1.1.0"] };
    fs::create_dir_all(tree).unwrap();
    for layer in layers {
        ok(Command::new("cp").arg("-R").arg(recipe.join(layer).join(".")).arg(tree).output().unwrap());
    }
}

/// `NAME=value` lines, without comments.
fn variables(file: &Path) -> BTreeMap<String, String> {
    let content = fs::read_to_string(file).unwrap();
    content
        .lines()
        .map(|line| line.strip_prefix("export ").unwrap_or(line))
        .filter_map(|line| line.split(" #").next().and_then(|line| line.split_once('=')))
        .filter(|(name, _)| !name.starts_with('#'))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Fills in `${NAME}` and `${NAME:-default}`.
fn fill_in(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (inner, after) = after.split_once('}').unwrap();
        let (name, default) =
            inner.split_once(":-").map_or((inner, None), |(name, default)| (name, Some(default)));
        let value = variables.get(name).map(String::as_str).or(default);
        filled += before;
        filled += value.unwrap_or_else(|| panic!("nothing sets {name}"));
        rest = after;
    }
    filled + rest
}

/// One app, as a `local` executor would hold it.
struct App {
    place: Place,
    services: Vec<Service>,
}

impl App {
    fn dir(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn tree(&self) -> PathBuf {
        self.dir("tree")
    }

    /// Deploys the tree, in place if something runs: the new app answers before the old one ends.
    fn deploy(&mut self) {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let mut known = variables(&self.dir("app.env"));
        known.extend(variables(&self.tree().join("abra.sh")));
        known.insert("STACK_NAME".into(), STACK.into());
        known.insert("CCCI_PORT".into(), "0".into());
        for volume in ["data", "stats"] {
            fs::create_dir_all(self.dir(volume)).unwrap();
            known.insert(format!("CCCI_VOLUME_{}", volume.to_uppercase()), text(self.dir(volume)));
        }
        fs::create_dir_all(self.dir("secrets")).unwrap();
        for name in ["write_key", "admin_key"] {
            if known.contains_key(&format!("SECRET_{}_VERSION", name.to_uppercase())) {
                let file = self.dir("secrets").join(name);
                fs::write(&file, format!("key-of-{name}")).unwrap();
                known.insert(format!("CCCI_SECRET_{}", name.to_uppercase()), text(file));
            }
        }
        known.insert("CCCI_CONFIG_NOTICE".into(), text(self.tree().join("notice.txt.tmpl")));

        let compose = fs::read_to_string(self.tree().join("compose.yml")).unwrap();
        let compose: Value = serde_saphyr::from_str(&fill_in(&compose, &known)).unwrap();
        let services = compose["services"].as_object().unwrap();
        let started: Vec<Service> = services.values().map(start).collect();
        for service in std::mem::replace(&mut self.services, started) {
            service.stop();
        }
    }

    /// Runs the tree's executables of one tier; there must be some.
    fn run_tests(&self, tier: &str) {
        let mut tests: Vec<PathBuf> =
            fs::read_dir(self.tree().join("tests")).unwrap().map(|entry| entry.unwrap().path()).collect();
        tests.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with(tier));
        tests.sort();
        assert!(!tests.is_empty());
        for test in tests {
            let output = self.run(tier, &test);
            assert!(output.status.success(), "{}: {output:?}", test.display());
        }
    }

    fn run(&self, tier: &str, executable: &Path) -> Output {
        let scratch = self.dir("scratch");
        fs::create_dir_all(&scratch).unwrap();
        let path = std::env::join_paths(
            [self.dir("bin")]
                .into_iter()
                .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
        )
        .unwrap();
        let mut command = Command::new(executable);
        command
            .current_dir(&scratch)
            .env_clear()
            .env("PATH", path)
            .env("TMPDIR", &scratch)
            .env("CCCI_TIER", tier)
            .env("CCCI_RUN_ID", "17")
            .env("CCCI_DOMAIN", DOMAIN)
            .env("CCCI_ENV_FILE", self.dir("app.env"))
            .env("CCCI_SECRETS_DIR", self.dir("secrets"))
            .env("CCCI_STATE_DIR", self.dir("state"));
        if let Some(app) = self.services.first() {
            command.env("CCCI_URL", &app.url);
        }
        command.output().unwrap()
    }
}

fn start(service: &Value) -> Service {
    let local = &service["x-cc-ci-local"];
    let words: Vec<&str> =
        local["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(words[0], "note-keeper");
    let mut command = support::note_keeper();
    command.args(&words[1..]);
    for environment in [&service["environment"], &local["environment"]] {
        for (name, value) in environment.as_object().into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            command.env(name, value);
        }
    }
    Service::start(command)
}

#[test]
fn the_recipe_holds_what_it_promises_in_every_tier() {
    let mut app = App { place: Place::new(), services: Vec::new() };
    for dir in ["state", "bin"] {
        fs::create_dir(app.dir(dir)).unwrap();
    }
    symlink(env!("CARGO_BIN_EXE_note-keeper"), app.dir("bin/note-keeper")).unwrap();

    lay("1.0.0", &app.tree());
    let sample = fs::read_to_string(app.tree().join(".env.sample")).unwrap();
    fs::write(app.dir("app.env"), sample.replace("note-keeper.example.com", DOMAIN)).unwrap();
    let steps = app.run("install", &app.tree().join("tests/install_steps.sh"));
    assert!(steps.status.success(), "{steps:?}");
    app.deploy();
    app.run_tests("install");

    lay("1.1.0", &app.tree());
    let mut env = fs::read_to_string(app.dir("app.env")).unwrap();
    let known = variables(&app.dir("app.env"));
    for (name, value) in variables(&app.tree().join(".env.sample")) {
        if !known.contains_key(&name) {
            env.extend([&name, "=", &value, "\n"]);
        }
    }
    fs::write(app.dir("app.env"), env).unwrap();
    app.deploy();
    app.run_tests("upgrade");
    // Those of the first tier hold for this release too, as when there is nothing to upgrade from.
    app.run_tests("install");

    app.run_tests("backup");
    let notes = app.dir("data").join("notes.json");
    let backup = fs::read(&notes).unwrap();
    let changed = "{\"version\":1,\"next_id\":1,\"notes\":[]}";
    fs::write(&notes, changed).unwrap();
    let unrestored = app.run("restore", &app.tree().join("tests/restore-brings-the-note-back"));
    assert!(!unrestored.status.success(), "the restore test is green without a restore");
    fs::write(&notes, backup).unwrap();
    app.run_tests("restore");
    app.run_tests("custom");
}

#[test]
fn docker_takes_the_compose_files() {
    let usable = Command::new("docker").args(["stack", "config", "--help"]).output();
    if !usable.is_ok_and(|output| output.status.success()) {
        println!("skipped: there is no docker client that knows `stack config`");
        return;
    }
    for release in ["1.0.0", "1.1.0"] {
        let dir = tempfile::tempdir().unwrap();
        lay(release, dir.path());
        let config = Command::new("docker")
            .args(["stack", "config", "-c", "compose.yml"])
            .current_dir(dir.path())
            .env("STACK_NAME", STACK)
            .envs(variables(&dir.path().join(".env.sample")))
            .envs(variables(&dir.path().join("abra.sh")))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&config.stderr), "", "a variable has no value");
        assert!(ok(config).contains(&format!("{STACK}_write_key_v1")));
    }
}
