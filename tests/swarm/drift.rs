//! What is deployed, against what was judged: the deployer has the last word on an engine, and is not believed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cc_ci_core::engine::{Drift, Engine as _, Order};
use cc_ci_core::recipe::Compose;
use cc_ci_tests::engine::{BUSYBOX, TestEngine};
use sha2::{Digest as _, Sha256};

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
    ordered(compose, vars, directory.path(), &std::fs::read("/proc/version").expect("a file"))
}

/// The order of these files, with one that is called `here`; nothing is there before.
fn ordered(compose: Compose, vars: BTreeMap<String, String>, root: &Path, here: &[u8]) -> Order {
    Order {
        compose,
        vars,
        root: root.to_owned(),
        env_files: BTreeMap::new(),
        config_files: BTreeMap::from([("here".into(), Sha256::digest(here).into())]),
        before: BTreeSet::new(),
    }
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
    for (message, done, field) in [
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
        ("A=1", "A=2", "Env.A differs"),
        ("[sleep]", "[sh, -c]", "Command differs"),
        ("\"1000000\"", "\"7\"", "Args differs"),
        ("32M", "33M", "Resources.Limits.MemoryBytes is 34603008, not 33554432"),
        ("retries: 2", "retries: 4", "Healthcheck.Retries is 4, not 2"),
        (BUSYBOX, "cc-ci-test/busybox:other", "Image is "),
        (
            "volumes: {data",
            "  more: {image: x, deploy: {replicas: 0}}\nvolumes: {data",
            "more: was not ordered",
        ),
    ] {
        let changed = file.replacen(message, done, 1);
        assert_ne!(changed, file, "{message}");
        let drift = deployed(&app, &changed, &order);
        assert!(drift.differences.iter().any(|shown| shown.contains(field)), "{done}: {drift:#?}");
    }
    app.remove();
}

/// Forms of a service, each in one file or two, with what Docker is known to make of them otherwise than one would think.
const FORMS: &[(&str, &str)] = &[
    ("environment: {A: 1.0, B: 1.10, C: 1e6, D: 12345678.9, E: 0644, F: 0x1f, K: -1, M: 1e-7}", ""),
    ("environment: {A: base}", "environment: {A: '', B: }"),
    ("environment: {A: ''}", "environment: {A: }"),
    ("labels: {a: 1.0, b: 5, c: , d: 1e3}", "labels: {b: '', e: f}"),
    ("deploy: {replicas: 0, labels: {a: b}}", "deploy: {labels: {a: ''}}"),
    (
        "logging: {driver: json-file, options: {max-size: 1m}}",
        "logging: {options: {max-size: '', max-file: 3.0}}",
    ),
    ("logging: {driver: json-file, options: {max-size: 1m}}", "logging: {driver: local}"),
    ("extra_hosts: {a: 1.2.3.4, b: '::1'}", "extra_hosts: ['c:[::2]']"),
    ("healthcheck: {test: 'true', interval: 0s, timeout: 0s, retries: 0}", ""),
    (
        "healthcheck: {test: 'true', interval: 5s, retries: 5}",
        "healthcheck: {interval: 0s, retries: 0, timeout: 2s}",
    ),
    ("healthcheck: {interval: 5s}", "healthcheck: {disable: true}"),
    ("command: 'echo a # b'", ""),
    ("command: \"sh -c \\\"printf 'a\\\\nb'\\\" \\\"c\\\\nd\\\" e\\\\ f\"", ""),
    ("command: [a]\n    entrypoint: [b]", "command: []\n    entrypoint: c d"),
    (
        "deploy: {replicas: 0, resources: {limits: {cpus: 1/2, memory: 1.5g}, reservations: {memory: 10mb}}}",
        "",
    ),
    ("deploy: {replicas: 0, restart_policy: {condition: ''}}", ""),
    ("restart: on-failure:3", ""),
    (
        "deploy: {replicas: 0, update_config: {parallelism: 0, max_failure_ratio: 0.123456789, failure_action: ''}}",
        "",
    ),
    ("deploy: {replicas: 0, update_config: {parallelism: 3}}", "deploy: {update_config: {parallelism: 0}}"),
    ("deploy: {replicas: 0, endpoint_mode: VIP}", ""),
    (
        "deploy: {replicas: 0, placement: {constraints: [node.role==manager]}}",
        "deploy: {placement: {constraints: [node.id!=x]}}",
    ),
    ("ports: ['41000-41002:80']", ""),
    ("ports: [{target: 80, published: 41003, mode: HOST}]", ""),
    ("ports: ['41004:53/TCP', '41004:53/udp']", ""),
    ("", "ports: ['41005:53/tcp', '41005:53/udp', '80', '81']"),
    ("ports: ['80', '81']", "hostname: x"),
    (
        "volumes: ['data:/a:nocopy', '/b', {type: tmpfs, target: /c, tmpfs: {size: 0}}]",
        "volumes: ['other:/a:ro']",
    ),
    ("volumes: [{type: volume, source: data, target: /a, consistency: cached}]", ""),
    ("volumes: ['/tmp:/a:ro,rshared']", "volumes: ['data:/a/']"),
    ("secrets: [{source: one, target: ''}]", "secrets: [{source: one, target: t}]"),
    ("", "secrets: [one, {source: one, target: t, mode: 0400, uid: '7'}]"),
    ("configs: [one]", "configs: [{source: two, target: /t}]"),
    ("networks: {internal: {aliases: [a, b]}}", "networks: {internal: {aliases: [c]}}"),
    ("networks: {internal: {aliases: [a, b]}}", "networks: {internal: {}}"),
    ("networks: {internal: {aliases: [a, b]}}", "networks: {internal: }"),
    ("cap_add: [ALL]\n    cap_drop: [net_raw]", "cap_add: [SYS_TIME]"),
    ("cap_add: [SYS_TIME]\n    cap_drop: [CAP_SYS_TIME, NET_RAW]", ""),
    ("volumes: ['.:/a', './x/../y/:/b', './:/c:cached']", ""),
    (
        "deploy: {replicas: 0, placement: {max_replicas_per_node: 5}}",
        "deploy: {placement: {max_replicas_per_node: '${ZERO:-0}'}}",
    ),
    ("image: 'x:2'", "image: ''"),
    ("ulimits: {nofile: {soft: 10, hard: 20}, nproc: 5}", "ulimits: {nofile: 7}"),
    ("sysctls: {net.core.somaxconn: 5}", "sysctls: [net.core.somaxconn=6]"),
    ("dns: 1.1.1.1\n    dns_search: [a, b]", "dns: [2.2.2.2]"),
    (
        "user: 'a'\n    init: true\n    tty: true\n    read_only: true",
        "user: ''\n    init: false\n    tty: false",
    ),
    ("stop_grace_period: 1m30s\n    stop_signal: SIGINT", "stop_grace_period: 0s"),
    ("image: nginx", ""),
    ("image: docker.io/library/nginx:1", ""),
    ("image: localhost:5000/x/y", ""),
    ("image: 'nginx:1@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'", ""),
    ("deploy: {mode: replicated-job, replicas: 0}", ""),
];

/// The services of one of the two files.
fn services(of: impl Fn(&(&str, &str)) -> String) -> String {
    let service = |(number, form): (usize, &(&str, &str))| {
        let message = of(form);
        let message = if message.is_empty() { "x-nothing: here".to_owned() } else { message };
        format!("  s{number}:\n    {message}\n")
    };
    FORMS.iter().enumerate().map(service).collect()
}

#[test]
fn what_docker_makes_of_the_files_is_what_was_expected_of_it() {
    let Some(engine) = TestEngine::shared("what_docker_makes_of_the_files_is_what_was_expected_of_it") else {
        return;
    };
    let app = App::new(&engine, "0d0002");
    let base = services(|(base, _)| {
        let more = [("image: ", "image: 'x:1'"), ("deploy: ", "deploy: {replicas: 0}")];
        let missing = more.iter().filter(|(key, _)| !base.contains(key)).map(|(_, message)| *message);
        let message: Vec<&str> = [*base].into_iter().filter(|base| !base.is_empty()).chain(missing).collect();
        message.join("\n    ")
    });
    let over = services(|(_, over)| (*over).to_owned());
    let rest = "volumes: {data: {labels: {a: 1.0}, driver: local, driver_opts: {type: tmpfs, device: tmpfs}}, other: }\n\
                networks: {internal: }\nsecrets: {one: {file: here}}\nconfigs: {one: {file: here}, two: {file: here}}\n";
    let directory = tempfile::tempdir().expect("a directory");
    for (name, text) in [
        ("compose.yml", format!("version: '3.8'\nservices:\n{base}{rest}")),
        ("compose.over.yml", format!("version: '3.8'\nservices:\n{over}")),
        ("here", "content".to_owned()),
    ] {
        std::fs::write(directory.path().join(name), text).expect("a file");
    }
    let vars = BTreeMap::from([
        ("STACK_NAME".to_owned(), app.stack.clone()),
        ("COMPOSE_FILE".to_owned(), "compose.yml:compose.over.yml".to_owned()),
        ("ZERO".to_owned(), "0".to_owned()),
    ]);
    let compose = Compose::load(directory.path(), &vars).expect("it is good");
    let order = ordered(compose, vars, directory.path(), b"content");
    let files =
        ["compose.yml", "compose.over.yml"].map(|name| directory.path().join(name).display().to_string());
    let words = ["stack", "deploy", "--resolve-image", "never", "-c", &files[0], "-c", &files[1], &app.stack];
    app.engine.docker(words);
    let drift = block_on(app.swarm.drift(&app.domain, &order)).expect("the engine can be looked at");
    assert_eq!(drift, Drift::default());
    app.remove();
}

/// One service, which is in all networks and has all else, and a network that nobody is in.
fn with_objects() -> String {
    format!(
        r#"version: "3.13"
services:
  app:
    image: {BUSYBOX}
    networks: [plain, open, inner, noted, driven, subnets, renamed, proxy]
    volumes: ["data:/data", "memory:/memory"]
    deploy: {{replicas: 0}}
networks:
  plain: {{ipam: {{}}}}
  open: {{attachable: true, labels: {{a: 1.0, b: , c: ""}}}}
  inner: {{internal: true, driver: ""}}
  noted: {{labels: ["x=y"]}}
  driven: {{driver: overlay, driver_opts: {{encrypted: "", com.docker.network.driver.mtu: 1400}}}}
  subnets: {{ipam: {{driver: default, config: [{{subnet: 10.79.0.0/24}}, {{subnet: "fd00:79::/64"}}]}}}}
  renamed: {{name: "${{STACK_NAME}}_x"}}
  unused: {{attachable: true}}
  proxy: {{external: true}}
volumes:
  data:
  memory: {{labels: {{a: 1.0}}, driver: local, driver_opts: {{type: tmpfs, device: tmpfs}}}}
secrets:
  s1: {{file: /proc/version}}
  s2: {{file: /proc/version, labels: {{a: b}}}}
  s3: {{file: /proc/version, name: "${{STACK_NAME}}_s3_v1"}}
configs:
  c1: {{file: /proc/version}}
  c2: {{file: /proc/version, labels: [a=b]}}
  c3: {{file: /proc/version, template_driver: golang}}
"#
    )
}

#[test]
fn what_a_stack_is_made_of_is_as_it_was_ordered_and_each_change_is_named() {
    let name = "what_a_stack_is_made_of_is_as_it_was_ordered_and_each_change_is_named";
    let Some(engine) = TestEngine::shared(name) else { return };
    let app = App::new(&engine, "0d0003");
    let file = with_objects();
    let order = order(&app, &file);
    let deployed = |file: &str| deployed(&app, &file.replace("${STACK_NAME}", &app.stack), &order);
    assert_eq!(deployed(&file), Drift::default());
    app.remove();

    let mut changed = file.clone();
    for (message, done) in [
        ("plain: {ipam: {}}", "plain: {ipam: {config: [{subnet: 10.79.1.0/24}, {subnet: 10.79.2.0/24}]}}"),
        ("open: {attachable: true, ", "open: {"),
        ("inner: {internal: true, ", "inner: {"),
        ("[\"x=y\"]", "[\"x=z\"]"),
        ("mtu: 1400", "mtu: 1300"),
        ("10.79.0.0", "10.79.3.0"),
        ("renamed: {name: \"${STACK_NAME}_x\"}", "renamed: "),
        ("s1: {file: /proc/version}", "s1: {file: /proc/version, labels: {a: b}}"),
        ("labels: {a: b}}\n  s3", "template_driver: golang}\n  s3"),
        ("_s3_v1", "_s3_v2"),
        ("c1: {file: /proc/version}", "c1: {file: /proc/sys/kernel/ostype}"),
        ("labels: [a=b]", "labels: [a=c]"),
        (", template_driver: golang}\n", "}\n  c4: {file: /proc/version}\n"),
    ] {
        let before = changed.clone();
        // The last place: the template of a secret is put before that of a config.
        let place = changed.rfind(message).expect(message);
        changed.replace_range(place..place + message.len(), done);
        assert_ne!(changed, before, "{message}");
    }
    // A volume that is there is used as it is.
    let volume = format!("{}_data", app.stack);
    app.engine.docker(["volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", &volume]);
    let drift = deployed(&changed);
    let stack = &app.stack;
    let mut differences = drift.differences;
    differences.retain(|difference| !difference.starts_with("service "));
    differences.sort();
    let mut expected = [
        "network plain: IPAM.Config was not ordered".to_owned(),
        "network open: Attachable is not there".to_owned(),
        "network inner: Internal is not there".to_owned(),
        "network noted: Labels.x differs".to_owned(),
        "network driven: Options.com.docker.network.driver.mtu differs".to_owned(),
        "network subnets: IPAM.Config.10.79.0.0/24 is not there".to_owned(),
        "network subnets: IPAM.Config.10.79.3.0/24 was not ordered".to_owned(),
        "network renamed: is not there".to_owned(),
        format!("network {stack}_renamed: was not ordered"),
        "volume data: Labels is not there".to_owned(),
        "volume data: Options was not ordered".to_owned(),
        "secret s1: Labels.a was not ordered".to_owned(),
        "secret s2: Labels.a is not there".to_owned(),
        "secret s2: Templating was not ordered".to_owned(),
        "secret s3: is not there".to_owned(),
        format!("secret {stack}_s3_v2: was not ordered"),
        "config c1: Data differs".to_owned(),
        "config c2: Labels.a differs".to_owned(),
        "config c3: Templating is not there".to_owned(),
        format!("config {stack}_c4: was not ordered"),
    ];
    expected.sort();
    assert_eq!(differences, expected);
    assert_eq!(drift.remarks, [""; 0]);
    app.remove();
}
