//! The engine through the library, and objects of every kind on it.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use cc_ci_core::engine::{Engine as _, Failure, Inventory, Kind, StackSource};
use cc_ci_core::error_chain;
use cc_ci_core::event::Silent;
use cc_ci_core::names::{Domain, Suffix};
use cc_ci_docker::{Settings, SwarmEngine};
use cc_ci_tests::engine::{BUSYBOX, Engine, TestEngine, until};

/// What a removal may take, where it is not to be cut short.
pub const LIMIT: Duration = Duration::from_mins(2);

const NAMESPACE: &str = "com.docker.stack.namespace";

/// What only lies there: it can be made without anything else.
pub const KEPT: [Kind; 4] = [Kind::Volume, Kind::Secret, Kind::Config, Kind::Network];

/// How an object says whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// By a label; its name says nothing.
    Label,
    /// By its name alone.
    Name,
}

/// Waits for a future, as a command does.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

/// The library's view of an engine.
pub fn swarm(engine: &Engine, suffix: &Suffix) -> SwarmEngine {
    swarm_with(engine, suffix, Vec::new())
}

/// The same, with others that know of stacks.
pub fn swarm_with(engine: &Engine, suffix: &Suffix, sources: Vec<Arc<dyn StackSource>>) -> SwarmEngine {
    let socket = engine.socket().to_owned();
    SwarmEngine::new(Settings { socket, suffix: suffix.clone(), sources, reporter: Arc::new(Silent) })
}

/// A test's app: nothing of it is there yet.
#[derive(Debug)]
pub struct App<'a> {
    pub engine: &'a Engine,
    pub swarm: SwarmEngine,
    pub domain: Domain,
    pub stack: String,
}

impl<'a> App<'a> {
    /// A run app of this test's suffix; `hex` is what tells it from others.
    pub fn new(test: &'a TestEngine, hex: &str) -> Self {
        Self::below(test, test.world().suffix(), hex)
    }

    /// The same, on an engine of the test's own.
    pub fn below(engine: &'a Engine, suffix: &Suffix, hex: &str) -> Self {
        let domain: Domain = format!("test-{hex}.{suffix}").parse().expect("a domain");
        let stack = domain.stack().to_string();
        Self { engine, swarm: swarm(engine, suffix), domain, stack }
    }

    /// What the inventory says of it, and that it says the same of it among all.
    #[track_caller]
    pub fn resources(&self) -> BTreeSet<String> {
        block_on(async {
            let asked = self.swarm.inventory(Some(std::slice::from_ref(&self.domain))).await;
            lines(&asked.expect("the engine can be looked at"), &self.domain)
        })
    }

    /// The same, of a look at all domains.
    #[track_caller]
    pub fn resources_among_all(&self) -> BTreeSet<String> {
        let all = block_on(self.swarm.inventory(None));
        lines(&all.expect("the engine can be looked at"), &self.domain)
    }

    /// Removes it, and asserts that it is gone for the inventory and for the engine.
    #[track_caller]
    pub fn remove(&self) {
        if let Err(error) = self.try_remove(LIMIT) {
            panic!("{}", error_chain(&error));
        }
        assert_eq!(self.resources(), BTreeSet::new());
    }

    pub fn try_remove(&self, limit: Duration) -> Result<(), Failure> {
        block_on(self.swarm.remove(&self.domain, limit))
    }

    /// Makes one object of `kind` and gives its line in an inventory. A service has no tasks.
    #[track_caller]
    pub fn make(&self, kind: Kind, by: By) -> String {
        let stack = &self.stack;
        let label = format!("{NAMESPACE}={stack}");
        let (name, label) = match by {
            By::Label => (format!("odd-{kind}-{stack}"), Some(format!("--label={label}"))),
            By::Name => (format!("{stack}_{kind}"), None),
        };
        let label = label.as_deref();
        let words = |words: &[&str]| -> Vec<String> {
            words.iter().copied().chain(label).map(str::to_owned).collect()
        };
        match kind {
            Kind::Service => {
                let mut words =
                    words(&["service", "create", "--detach", "--no-resolve-image", "--name", &name]);
                words.extend(["--replicas=0", BUSYBOX, "sleep", "1000000"].map(str::to_owned));
                self.engine.docker(words);
            }
            Kind::Container => {
                let mut words = words(&["run", "--detach", "--name", &name]);
                words.extend([BUSYBOX, "sleep", "1000000"].map(str::to_owned));
                self.engine.docker(words);
            }
            Kind::Volume => {
                let mut words = words(&["volume", "create"]);
                words.push(name.clone());
                self.engine.docker(words);
            }
            Kind::Secret | Kind::Config => {
                let kind = kind.to_string();
                let mut words = words(&[&kind, "create"]);
                words.extend([name.clone(), "-".to_owned()]);
                self.engine.docker_with(words, "content");
            }
            Kind::Network => {
                let mut words = words(&["network", "create", "--driver=overlay", "--attachable"]);
                words.push(name.clone());
                self.engine.docker(words);
            }
            _ => panic!("a {kind} is not made alone"),
        }
        format!("{kind} {name}")
    }

    /// Deploys four services with volumes, anonymous ones too, a secret without a label, a config and a network.
    #[track_caller]
    pub fn deploy_four(&self) {
        let stack = &self.stack;
        self.engine.docker_with(["secret", "create", &format!("{stack}_pw_v1"), "-"], "content");
        self.engine.deploy(stack, &four_services(stack));
    }

    /// What went wrong with its tasks so far, in the engine's words.
    pub fn failures(&self) -> Vec<String> {
        let tasks =
            ["app", "cache", "db", "worker"].map(|name| self.engine.tasks(&format!("{}_{name}", self.stack)));
        let failures = tasks.iter().flatten().filter_map(|task| task["Status"]["Err"].as_str());
        failures.map(str::to_owned).collect()
    }

    /// Waits until all of its four services run.
    #[track_caller]
    pub fn four_run(&self) {
        for service in ["app", "cache", "db", "worker"] {
            let service = format!("{}_{service}", self.stack);
            until(&format!("{service} runs"), || self.engine.running(&service) == 1);
        }
    }
}

/// A domain's residue, one line a thing.
pub fn lines(inventory: &Inventory, domain: &Domain) -> BTreeSet<String> {
    inventory.of(domain).iter().map(ToString::to_string).collect()
}

/// How often each kind is in such lines.
pub fn count(lines: &BTreeSet<String>, kind: Kind) -> usize {
    lines.iter().filter(|line| line.starts_with(&format!("{kind} "))).count()
}

/// The compose file of four services.
pub fn four_services(stack: &str) -> String {
    format!(
        r#"version: "3.8"
x-service: &service
  image: {BUSYBOX}
  command: ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done"]
  healthcheck: {{test: ["CMD", "true"], interval: 2s}}
  networks: [internal]
  deploy: {{endpoint_mode: dnsrr}}
services:
  app:
    <<: *service
    networks: [internal, proxy]
    volumes: ["data:/data", "/anonymous"]
    secrets: [pw]
    configs: [conf]
  db: {{<<: *service, volumes: ["dbdata:/db"]}}
  cache: {{<<: *service, volumes: ["/cache"]}}
  worker: {{<<: *service, volumes: ["files:/files"]}}
volumes: {{data: , dbdata: , files: }}
secrets: {{pw: {{external: true, name: {stack}_pw_v1}}}}
configs: {{conf: {{name: {stack}_conf_v1, file: /proc/version}}}}
networks: {{internal: , proxy: {{external: true}}}}
"#
    )
}
