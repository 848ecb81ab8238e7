//! Stacks of services made for one test, and waiting for them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use cc_ci_core::engine::{Engine as _, Failure, ServiceState};
use cc_ci_core::error_chain;
use cc_ci_core::event::Silent;
use cc_ci_tests::engine::BUSYBOX;

use crate::support::{App, block_on};

/// What a stack that comes up may take here, however busy the machine is.
pub const PATIENT: Duration = Duration::from_mins(4);

impl App<'_> {
    /// Deploys services, each by its name and the rest of its flow mapping. They have the busybox image and the network of
    /// the engine's host (one of the stack's own costs more than all the rest), and end when they are told to; `networks`,
    /// `volumes` and more at the top level are in `rest`.
    #[track_caller]
    pub fn deploy(&self, services: &[(&str, &str)], rest: &str) {
        let mut compose = format!(
            "version: '3.8'\nx-service: &service\n  image: {BUSYBOX}\n  command: [sleep, '1000000']\n  \
             stop_signal: SIGKILL\n  networks: [host]\n  deploy: {{endpoint_mode: dnsrr}}\nservices:\n"
        );
        for (name, service) in services {
            writeln!(compose, "  {name}: {{<<: *service, {service}}}").expect("memory");
        }
        writeln!(
            compose,
            "networks: {{internal: , hidden: {{internal: true}}, proxy: {{external: true}}, \
             host: {{external: true, name: host}}}}\n{rest}"
        )
        .expect("memory");
        self.engine.deploy(&self.stack, &compose);
    }

    /// Waits as a run does.
    pub fn wait(&self, limit: Duration) -> Result<(), Failure> {
        block_on(self.swarm.wait_converged(&self.domain, limit, &Silent))
    }

    /// Asserts that it comes up.
    #[track_caller]
    pub fn comes_up(&self) {
        if let Err(error) = self.wait(PATIENT) {
            panic!("{}", error_chain(&error));
        }
    }

    /// Its services, by name.
    #[track_caller]
    pub fn services(&self) -> BTreeMap<String, ServiceState> {
        let services = block_on(self.swarm.services(&self.domain)).expect("the engine can be looked at");
        services.into_iter().map(|service| (service.name.clone(), service)).collect()
    }

    /// How many containers of a service really run: the engine lists one as running for a while after its end.
    #[track_caller]
    pub fn alive(&self, service: &str) -> usize {
        let name = format!("name={}_{service}.", self.stack);
        let listed = self.engine.docker(["ps", "--quiet", "--filter", &name]);
        let runs = |id: &&str| {
            let message = self.engine.get(&format!("/containers/{id}/json"));
            message.is_some_and(|message| message["State"]["Running"] == true)
        };
        listed.lines().filter(runs).count()
    }

    /// The newest running container of a service.
    #[track_caller]
    pub fn container(&self, service: &str) -> String {
        let name = format!("name={}_{service}.", self.stack);
        let listed = self.engine.docker(["ps", "--quiet", "--no-trunc", "--filter", &name]);
        listed.lines().next().expect("a running container").to_owned()
    }

    /// Runs a line of script in a service's container.
    #[track_caller]
    pub fn run_in(&self, service: &str, script: &str) {
        self.engine.docker(["exec", &self.container(service), "sh", "-c", script]);
    }
}
