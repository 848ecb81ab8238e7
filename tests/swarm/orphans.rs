//! Stacks that nobody owns any more.

use cc_ci_core::names::Domain;
use cc_ci_tests::engine::Engine;

/// What a dead run leaves of `domain`: a service that runs, its volume, secret, config and network.
pub fn orphan(engine: &Engine, domain: &Domain) -> Domain {
    let stack = domain.stack();
    let secret = format!("{stack}_key_v1");
    engine.docker_with(["secret", "create", &secret, "-"], "secret");
    engine.docker_with(["config", "create", &format!("{stack}_notice_v1"), "-"], "notice");
    let compose = format!(
        "version: '3.8'\n\
         services:\n  app:\n    image: cc-ci-test/busybox:1\n    command: [sleep, '86400']\n    init: true\n    \
         networks: [internal]\n    volumes: ['data:/data']\n    secrets: [key]\n    \
         deploy: {{ endpoint_mode: dnsrr }}\n\
         volumes: {{ data: {{}} }}\nnetworks: {{ internal: {{}} }}\n\
         secrets: {{ key: {{ external: true, name: {secret} }} }}\n"
    );
    engine.deploy(stack.as_str(), &compose);
    domain.clone()
}
