//! What is deployed, against what was judged: the deployer has the last word on an engine, and is not believed.

use std::collections::{BTreeMap, BTreeSet};

use cc_ci_core::engine::{Drift, Engine as _, Order};
use cc_ci_core::recipe::Compose;
use cc_ci_tests::engine::{BUSYBOX, TestEngine};

use crate::support::{App, block_on};

/// Nothing of it runs.
fn file() -> String {
    format!(
        r#"version: "3.8"
services:
  app:
    image: {BUSYBOX}
    entrypoint: [sleep]
    command: ["1000000"]
    environment: [A=1]
    cap_drop: [NET_RAW]
    networks: {{internal: {{aliases: [web]}}}}
    volumes: ["data:/data"]
    secrets: [one]
    configs: [one]
    ports: ["40080:80"]
    healthcheck: {{test: [CMD, "true"], retries: 2}}
    labels: {{l: "1"}}
    deploy: {{replicas: 0, labels: {{l: "1"}}, resources: {{limits: {{memory: 32M}}}}}}
volumes: {{data: , other: }}
networks: {{internal: , proxy: {{external: true}}}}
secrets: {{one: {{file: /proc/version}}, two: {{file: /proc/version}}}}
configs: {{one: {{file: /proc/version}}, two: {{file: /proc/version}}}}
"#
    )
}

fn order(app: &App<'_>, file: &str) -> Order {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("compose.yml"), file.replace("/proc/version", "here"))
        .expect("a file");
    let vars = BTreeMap::from([("STACK_NAME".to_owned(), app.stack.clone())]);
    let compose = Compose::load(directory.path(), &vars).expect("it is good");
    Order { compose, env: BTreeMap::new(), env_files: BTreeMap::new(), before: BTreeSet::new() }
}

/// What is said of it after `file` was deployed.
#[track_caller]
fn deployed(app: &App<'_>, file: &str, order: &Order) -> Drift {
    app.engine.deploy(&app.stack, file);
    block_on(app.swarm.drift(&app.domain, order)).expect("the engine can be looked at")
}

#[test]
fn what_is_deployed_otherwise_is_named() {
    let Some(engine) = TestEngine::shared("what_is_deployed_otherwise_is_named") else { return };
    let app = App::new(&engine, "0d0001");
    let (file, order) = (file(), order(&app, &file()));
    assert_eq!(deployed(&app, &file, &order), Drift::default());
    for (said, done, field) in [
        ("\"data:/data\"", "\"data:/data:ro\"", "Mounts./data.ReadOnly"),
        ("\"data:/data\"", "\"other:/data\"", "Mounts./data.Source is "),
        ("\"data:/data\"", "\"data:/data\", \"/tmp:/host\"", "Mounts./host was not ordered"),
        ("{internal: {aliases: [web]}}", "{internal: , proxy: }", "Networks.proxy was not ordered"),
        ("[web]", "[web, db]", ".Aliases.db was not ordered"),
        ("secrets: [one]", "secrets: [one, two]", "Secrets./run/secrets/two was not ordered"),
        (
            "secrets: [one]",
            "secrets: [{source: two, target: one}]",
            "Secrets./run/secrets/one.SecretName is ",
        ),
        ("configs: [one]", "configs: [two]", "Configs./two was not ordered"),
        ("40080:80", "40081:80", "Ports.40081:80/tcp@ingress was not ordered"),
        ("cap_drop: [NET_RAW]", "cap_add: [SYS_ADMIN]", "CapabilityAdd was not ordered"),
        ("cap_drop: [NET_RAW]", "sysctls: [net.core.somaxconn=9]", "Sysctls was not ordered"),
        (
            "labels: {l: \"1\"}, res",
            "labels: {l: \"1\", traefik.enable: \"true\"}, res",
            "Labels.traefik.enable was",
        ),
        ("A=1", "A=2", "Env.A is another"),
        ("[sleep]", "[sh, -c]", "Command is another"),
        ("\"1000000\"", "\"7\"", "Args is another"),
        ("32M", "33M", "Resources.Limits.MemoryBytes is 34603008, not 33554432"),
        ("retries: 2", "retries: 4", "Healthcheck.Retries is 4, not 2"),
        (BUSYBOX, "cc-ci-test/busybox:other", "Image is "),
        (
            "volumes: {data",
            "  more: {image: x, deploy: {replicas: 0}}\nvolumes: {data",
            "more: was not ordered",
        ),
    ] {
        let changed = file.replacen(said, done, 1);
        assert_ne!(changed, file, "{said}");
        let drift = deployed(&app, &changed, &order);
        assert!(drift.differences.iter().any(|told| told.contains(field)), "{done}: {drift:#?}");
    }
    app.remove();
}
