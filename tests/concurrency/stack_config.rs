//! What cc-ci reads of compose files is what Docker reads: `docker stack config` is asked, which needs no engine.
//!
//! What Docker refuses is refused. What both take is read alike. What cc-ci alone refuses is one of the forms that other
//! readers read otherwise, and its message says so.

mod compared;
mod corpus;
mod generated;
mod images;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use cc_ci_core::error_chain;
use cc_ci_core::recipe::Compose;

const VARIABLES: [(&str, &str); 4] = [("A", "1"), ("EMPTY", ""), ("B_2", "b-2"), ("STACK_NAME", "stack")];

/// So many texts are generated.
const GENERATED: usize = 300;

/// What a refusal of cc-ci's own says.
const OWN: [&str; 32] = [
    "Docker reads an operator here",
    "Docker takes another operator",
    "Docker takes a default as it stands",
    "Docker joins the tests of several files",
    // yaml.v2 and yaml.v3 take the one or the other.
    "stands above a merge key that brings",
    "has the same name, and Docker makes",
    "Docker takes a letter before the colon for a drive",
    "Docker takes no test together with `disable:`",
    "Docker takes ~ for the home of whoever deploys",
    "Docker takes a time before its beginning",
    "Docker takes \u{17f} and \u{212a} for s and k",
    "Docker makes no address of a number",
    "a ${ is followed by a name",
    "a date without quotes",
    "a number with _ in it",
    "a key that is no text",
    "a tag (!)",
    "a ? within brackets",
    // What a deploy refuses, or what no engine can do.
    "a mode is replicated",
    "a protocol is tcp, udp or sctp",
    "a port is [[address:]published:]target",
    "a target is needed",
    "a mount has an absolute target",
    "a mount is [volume or path:]/path",
    "a mount's type is volume, bind or tmpfs",
    "memory that is mounted has no source",
    "expected a whole number, found a number",
    "a service has an image",
    "a whole number that is neither negative nor too big",
    "a name is 1 to 200 of",
    "is not declared under",
    // What is judged more strictly.
    "a file is a relative path inside the recipe",
];

/// What texts are generated of.
const TOKENS: [&str; 18] = [
    "$", "{", "}", "A", "NO", "EMPTY", ":-", "-", ":?", "?", "x", "$$", "${A}", "${NO:-", "${B_2-", "$A",
    "a", "/",
];

/// Keys of a service, and what stands there.
const SERVICES: &[&str] = &[
    "volumes: ['v:/data']",
    "volumes: ['/data']",
    "environment: ",
    "volumes: ",
    "command: ",
    "deploy: ",
    "healthcheck: ",
    "networks: ",
    "labels: ",
    "depends_on: ",
    "x-foo: 1",
    "deploy: {x-a: 1}",
    "healthcheck: {x-a: 1}",
    "hostname: 5",
    "user: 1000",
    "user: '1000'",
    "stop_grace_period: 10",
    "command: 5",
    "shm_size: 5",
    "shm_size: 5m",
    "deploy: {resources: {limits: {cpus: 0.5}}}",
    "deploy: {resources: {limits: {cpus: '0.5', memory: 50M}}}",
    "deploy: {resources: {limits: {pids: 5}}}",
    "deploy: {update_config: {parallelism: '1'}}",
    "deploy: {update_config: {max_failure_ratio: 0.5}}",
    "healthcheck: {retries: 2}",
    "healthcheck: {interval: 5}",
    "init: yes",
    "init: true",
    "init: 'true'",
    "tty: '${NO:-true}'",
    "ports: '80:80'",
    "ports: [80]",
    "deploy: {replicas: '${NO:-2}'}",
    "deploy: {replicas: '2'}",
    "deploy: {replicas: 1.5}",
    "logging: {driver: x, options: {a: 1}}",
    "ulimits: {nofile: 5}",
    "profiles: [a]",
    "platform: linux/amd64",
    "pull_policy: always",
    "scale: 2",
    "dns: ",
    "dns: 1.1.1.1",
    "env_file: {path: x}",
    "env_file: [{path: x}]",
    "healthcheck: {start_interval: 5s}",
    "extra_hosts: {a: 1}",
    "sysctls: {a: 1}",
    "deploy: {labels: {a: 1}}",
    "deploy: {labels: {a: true}}",
    "environment: {A: true}",
    "environment: {A: 1.5, B: }",
    "environment: [1]",
    "cgroupns_mode: host",
    "deploy: {mode: replicated-job}",
    "deploy: {mode: global-job}",
    "mem_limit: 5m",
    "extends: {service: a}",
    "deploy: {update_config: }",
    "logging: ",
    "configs: ",
    "depends_on: {a: {condition: x}}",
    "restart: always",
    "cap_add: [A]",
    "tmpfs: /a",
    "privileged: true",
    "read_only: '${NO}'",
    "read_only: '${NO:-yes}'",
    "read_only: '${NO:-1}'",
    "tty: '${NO:-t}'",
    "tty: '${NO:-TRUE}'",
    "tty: '${NO:-off}'",
    "deploy: {replicas: '${NO:-x}'}",
    "deploy: {replicas: '${NO}'}",
    "deploy: {update_config: {max_failure_ratio: '${NO:-0.5}'}}",
    "healthcheck: {retries: '${NO:-2.5}'}",
];

/// Sections of a file.
const SECTIONS: &[&str] = &[
    "name: x",
    "include: []",
    "x-a: 1",
    "foo: 1",
    "volumes: ",
    "volumes: {a: {x-b: 1}}",
    "volumes: {a: {foo: 1}}",
    "volumes: {a: }",
    "volumes: []",
    "volumes: {a: {external: 'true'}}",
    "volumes: {a: {external: {name: b}, name: c}}",
    "networks: {a: {x-b: 1}}",
    "networks: {a: {enable_ipv6: true}}",
    "networks: {a: {internal: 'true'}}",
    "secrets: {a: {external: true, x-b: 1}}",
    "secrets: {a: {environment: X}}",
    "secrets: {a: }",
    "configs: {a: {content: X}}",
];

/// Versions of one.
const VERSIONS: &[&str] = &[
    "version: '3'",
    "version: 3",
    "version: 3.8",
    "version: '3.13'",
    "version: '3.14'",
    "version: '2.4'",
    "version: ''",
    "",
];

/// Whether the docker command here has it; a skip is written where not.
fn is_there(test: &str) -> bool {
    let asked = Command::new("docker").args(["stack", "config", "--help"]).output();
    if asked.is_ok_and(|asked| asked.status.success()) {
        return true;
    }
    cc_ci_tests::skip(test, "the docker command has no `stack config` (23 and later have it)");
    false
}

/// Docker's reading of the files `a.yml`, `b.yml`, … in `directory`.
fn docker(directory: &Path, files: usize) -> Result<String, String> {
    let mut command = Command::new("docker");
    command.args(["stack", "config"]).current_dir(directory).env_clear().env("HOME", directory);
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).envs(VARIABLES);
    for file in names(files) {
        command.args(["-c", file]);
    }
    let ended = command.output().unwrap();
    let [out, error] = [ended.stdout, ended.stderr].map(|text| String::from_utf8(text).unwrap());
    if ended.status.success() { Ok(out) } else { Err(error) }
}

fn variables() -> BTreeMap<String, String> {
    VARIABLES.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn ours(directory: &Path, files: usize) -> Result<Compose, String> {
    let names: Vec<&str> = names(files).collect();
    let mut variables = variables();
    variables.insert("COMPOSE_FILE".to_owned(), names.join(":"));
    Compose::load(directory, &variables).map_err(|error| error_chain(&error))
}

/// Which refusal of cc-ci's own this is, if it is one.
fn own(refusal: &str) -> Option<&'static str> {
    OWN.into_iter().find(|own| refusal.contains(own))
}

fn names(files: usize) -> impl Iterator<Item = &'static str> {
    ["a.yml", "b.yml", "c.yml"].into_iter().take(files)
}

/// Both readings of `files`, where both take them.
fn compared(files: &[String]) -> Option<(Compose, String)> {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in names(files.len()).zip(files) {
        fs::write(directory.path().join(name), text).unwrap();
    }
    match (ours(directory.path(), files.len()), docker(directory.path(), files.len())) {
        (Ok(ours), Ok(docker)) => Some((ours, docker)),
        (Err(_), Err(_)) => None,
        (Err(refusal), Ok(docker)) => {
            // Docker loses the error of a broken substitution when a good one follows.
            let is_lost = refusal.contains("invalid interpolation") && files[0].matches('$').count() > 1;
            let is_own = is_lost || own(&refusal).is_some();
            assert!(is_own, "only cc-ci refuses {files:#?}: {refusal}\nDocker reads: {docker}");
            None
        }
        (Ok(_), Err(refusal)) => panic!("only Docker refuses {files:#?}: {refusal}"),
    }
}

/// The scalar behind the first `key: ` of Docker's output.
fn scalar(output: &str, key: &str) -> String {
    let line =
        output.lines().find_map(|line| line.trim_start().strip_prefix(key)?.strip_prefix(": ")).unwrap();
    match line.strip_prefix('\'').and_then(|line| line.strip_suffix('\'')) {
        Some(quoted) => quoted.replace("''", "'"),
        None => line.trim_matches('"').to_owned(),
    }
}

#[test]
fn texts_are_interpolated_as_docker_does() {
    if !is_there("texts_are_interpolated_as_docker_does") {
        return;
    }
    // The same texts in each run: what is found must be found again.
    let mut state = 20_261_128_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let mut both = 0;
    for _ in 0..GENERATED {
        let length = 1 + next(8);
        let text: String = (0..length).map(|_| TOKENS[next(TOKENS.len())]).collect();
        let file = format!("version: '3.8'\nservices: {{app: {{image: 'x{text}'}}}}\n");
        if let Some((ours, docker)) = compared(&[file]) {
            assert_eq!(ours.services["app"].image, scalar(&docker, "image"), "{text}");
            both += 1;
        }
    }
    assert!(both > GENERATED / 10, "both take only {both} of {GENERATED}");
}

#[test]
fn keys_and_types_are_those_that_docker_takes() {
    if !is_there("keys_and_types_are_those_that_docker_takes") {
        return;
    }
    for service in SERVICES {
        compared(&[format!("version: '3.8'\nservices:\n  app:\n    image: x\n    {service}\n")]);
    }
    for more in SECTIONS {
        compared(&[format!("version: '3.8'\nservices: {{app: {{image: x}}}}\n{more}\n")]);
    }
    for version in VERSIONS {
        compared(&[format!("{version}\nservices: {{app: {{image: x}}}}\n")]);
        compared(&[
            "services: {app: {image: x}}\n".to_owned(),
            format!("{version}\nservices: {{app: {{image: x}}}}\n"),
        ]);
    }
}

#[test]
fn files_are_laid_over_each_other_as_docker_does() {
    if !is_there("files_are_laid_over_each_other_as_docker_does") {
        return;
    }
    let base = "version: '3.8'\nservices:\n  app:\n    image: x\n    command: a b\n    stop_grace_period: 1m\n    environment: \
                [A=1, B=2]\n    ports: ['80:80', '100', '101']\n    healthcheck: {test: a}\n    deploy: {replicas: 3}\n\
                volumes: {first: {name: vol-n, driver: local}, second: {external: true}}\n";
    for (service, more) in [
        ("command: c", ""),
        ("command: []", ""),
        ("environment: {A: , B: '', C: 3}", ""),
        ("deploy: {replicas: 0}", ""),
        ("deploy: {mode: global}", ""),
        ("ports: ['80:81', '102']", ""),
        ("healthcheck: {interval: 2s}", ""),
        ("healthcheck: {test: b}", ""),
        ("", "volumes: {first: }"),
        ("", "volumes: {first: {external: true}, second: {driver: local}}"),
        ("", "volumes: {first: {name: vol-m}}"),
    ] {
        let over = format!("version: '3.8'\nservices: {{app: {{{service}}}}}\n{more}\n");
        let Some((ours, docker)) = compared(&[base.to_owned(), over]) else { continue };
        let app = &ours.services["app"];
        let of_docker: Vec<&str> = docker.lines().map(str::trim).collect();
        let has =
            |line: &str| assert!(of_docker.contains(&line), "{service} {more}: no {line:?} in\n{docker}");
        for word in app.command.iter().flatten() {
            has(&format!("- {word}"));
        }
        for (name, value) in &app.environment {
            has(&format!("{name}: {:?}", value.as_deref().unwrap_or_default()));
        }
        assert_eq!(
            of_docker.iter().filter(|line| line.contains("target: ")).count(),
            app.ports.len(),
            "{docker}"
        );
        for port in &app.ports {
            has(&format!("target: {}", port.target));
        }
        for (key, volume) in &ours.volumes {
            if volume.name != format!("stack_{key}") {
                has(&format!("name: {}", volume.name));
            }
        }
        let external = of_docker.iter().filter(|line| **line == "external: true").count();
        assert_eq!(ours.volumes.values().filter(|volume| volume.external).count(), external, "{docker}");
    }
}
