//! A warm app on the local executor, and what a run must leave of it.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Deref;
use std::path::PathBuf;

use cc_ci_core::names::Domain;
use cc_ci_tests::{CcCi, Recipe, World, unconfined};
use serde_json::Value;

/// The compose file of what is tested: it adds a service, a volume, a secret and a config to the canonical one.
const ADDED: [(&str, &str); 3] = [
    (
        "services:\n",
        "services:\n  extra:\n    image: test/extra:1\n    volumes:\n      - extra:/extra\n    secrets:\n      - extra\n    \
         configs:\n      - motd\n    x-cc-ci-local:\n      command: [\"PROBE\", \"${CCCI_PORT}\", \"extra\"]\n      health: /\n",
    ),
    (
        "\nvolumes:\n",
        "\nconfigs:\n  motd:\n    name: ${STACK_NAME}_motd_v1\n    file: motd.txt\nvolumes:\n  extra:\n",
    ),
    (
        "\nsecrets:\n",
        "\nsecrets:\n  extra:\n    external: true\n    name: ${STACK_NAME}_extra_${SECRET_EXTRA_VERSION}\n",
    ),
];

/// A world with a warm app that is deployed, of version `1.0.0+1`, and data in its volume.
pub struct Warmed {
    world: World,
    /// Where the baseline comes from.
    pub canonical: Recipe,
    /// The recipe under test: a fork.
    pub fork: Recipe,
    pub domain: Domain,
}

impl Deref for Warmed {
    type Target = World;
    fn deref(&self) -> &World {
        &self.world
    }
}

impl Warmed {
    pub fn new() -> Self {
        Self::with("")
    }

    /// The same, with `more` in the baseline's service.
    pub fn with(more: &str) -> Self {
        let warmed = Self::undeployed(more);
        warmed.reconcile().run().expect(0);
        fs::write(warmed.app("volumes").join(format!("{}_data/precious", warmed.stack())), "data").unwrap();
        warmed
    }

    /// The same, where the app has its `.env` only.
    pub fn undeployed(more: &str) -> Self {
        let world = World::new();
        let canonical = world.recipe("blog");
        let fork = world.recipe_at(&world.path().join("fork/blog"));
        let domain: Domain = format!("blog.{}", world.suffix()).parse().unwrap();
        let warmed = Self { world, canonical, fork, domain };
        warmed.release("1", "1.0.0+1", more);
        warmed.rebase();
        warmed.configure("");
        let env = warmed.env_file();
        fs::create_dir_all(env.parent().unwrap()).unwrap();
        fs::write(env, format!("TYPE=blog\nDOMAIN={}\nSECRET_KEY_VERSION=v1 # length=24\n", warmed.domain))
            .unwrap();
        warmed
    }

    /// Makes a release of the canonical recipe whose service says its version.
    pub fn release(&self, image: &str, version: &str, more: &str) {
        self.draft(image, version, more).release(version);
    }

    /// Puts the fork on top of the canonical recipe, without its tags.
    pub fn rebase(&self) {
        self.fork.git(["fetch", "--quiet", "--no-tags", self.canonical.path().to_str().unwrap(), "main"]);
        self.fork.git(["reset", "--quiet", "--hard", "FETCH_HEAD"]);
    }

    /// Writes the files of such a release.
    pub fn draft(&self, image: &str, version: &str, more: &str) -> &Recipe {
        self.canonical.compose(image, more);
        let path = self.canonical.path().join("compose.yml");
        let label = format!("labels:\n        - \"coop-cloud.${{STACK_NAME}}.version={version}\"");
        let compose = fs::read_to_string(&path).unwrap().replacen("labels:", &label, 1);
        self.canonical.write("compose.yml", &compose)
    }

    /// Writes the configuration: the warm app and `more` of its recipe.
    pub fn configure(&self, more: &str) {
        let (domain, source) = (&self.domain, self.canonical.path().display());
        let text =
            format!("keep_runs = 1\n[recipes.blog]\nwarm = \"{domain}\"\nsource = \"{source}\"\n{more}\n");
        fs::write(self.path().join("config.toml"), unconfined(text)).unwrap();
    }

    /// Makes the fork's next commit: another image and variable, and something of each kind more.
    pub fn change(&self) -> &Recipe {
        self.fork.compose("2", "");
        let path = self.fork.path().join("compose.yml");
        let compose = fs::read_to_string(&path).unwrap();
        let probe = compose.split('"').find(|word| word.ends_with("service-probe")).unwrap().to_owned();
        let changed = ADDED.iter().fold(compose, |text, (at, with)| text.replacen(at, with, 1));
        self.fork.write("compose.yml", &changed.replace("PROBE", &probe)).write("motd.txt", "hello");
        let sample = "TYPE=blog\nDOMAIN=x\nSECRET_KEY_VERSION=v1\nSECRET_EXTRA_VERSION=v1\nNEW=value\n";
        self.fork.write(".env.sample", sample)
    }

    /// A call with the configuration.
    pub fn call<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> CcCi {
        self.cc_ci(args).env("CCCI_CONFIG", self.path().join("config.toml"))
    }

    /// A quick run of the fork.
    pub fn quick(&self, id: &str) -> CcCi {
        self.call(["run", "--quick", "--format", "json", "--run-id", id]).arg(self.fork.path())
    }

    pub fn reconcile(&self) -> CcCi {
        self.call(["warm", "reconcile", "--format", "json"])
    }

    /// What `warm reconcile` says of the app.
    #[track_caller]
    pub fn reconciled(&self) -> Value {
        let message = self.reconcile().run().expect(0).json();
        assert_eq!(message["schema"], "cc-ci.warm/v1");
        message["apps"][0].clone()
    }

    /// A quick run that is killed in the middle of a test, after the upgrade. Its id is `dead`.
    pub fn killed(&self) {
        let gate = self.gate("dead");
        self.change().script("tests/custom-gate", &gate.script()).commit();
        let run = self.quick("dead").start();
        gate.wait();
        run.signal(nix::sys::signal::Signal::SIGKILL);
        run.wait().expect(137);
        self.children_are_gone();
        fs::remove_file(self.fork.path().join("tests/custom-gate")).unwrap();
        self.fork.commit();
    }

    pub fn env_file(&self) -> PathBuf {
        self.local_root().join(format!("servers/local/{}.env", self.domain))
    }

    pub fn stack(&self) -> String {
        self.domain.stack().to_string()
    }

    /// A directory of the app in the local executor's world.
    pub fn app(&self, kind: &str) -> PathBuf {
        self.local_root().join("apps").join(self.domain.as_str()).join(kind)
    }

    /// What must be the same after a run: every byte but those of tasks, logs and copies of recipes.
    pub fn persistent(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut persistent = BTreeMap::new();
        for kind in ["services", "volumes", "secrets", "configs", "networks"] {
            persistent.extend(self.snapshot_of(&self.app(kind)));
        }
        for place in ["servers", "ports"] {
            persistent.extend(self.snapshot_of(&self.local_root().join(place)));
        }
        // An empty directory of a kind is no thing of the app.
        persistent.retain(|path, content| {
            !content.is_empty() || path.parent().is_some_and(|up| up != self.app(""))
        });
        persistent
    }

    /// What the app answers.
    pub fn answer(&self) -> String {
        use std::io::{Read as _, Write as _};
        let port = fs::read_to_string(self.app("services").join("app.json")).unwrap();
        let port: Value = serde_json::from_str(&port).unwrap();
        let port = u16::try_from(port["port"].as_u64().unwrap()).unwrap();
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.rsplit("\r\n\r\n").next().unwrap().trim().to_owned()
    }

    /// Whether something of a run's tree is left.
    pub fn has_tree(&self, run: &str) -> bool {
        ["abra", "warm", "home", "tmp"].iter().any(|part| self.runs().join(run).join(part).exists())
    }
}
