//! What is refused, and how it is told.

use std::os::unix::fs::symlink;

use super::*;

fn refused(text: &str) -> String {
    match compose(text) {
        Ok(compose) => panic!("accepted: {text}\n{compose:?}"),
        Err(error) => full(&error),
    }
}

#[test]
fn a_wrong_value_is_refused_at_its_place() {
    for (service, says) in [
        ("image: [x]", "compose.yml: services.app.image: expected a text, found a list"),
        ("image: ''", "services.app: a service has an image"),
        ("build: .", "services.app: a service has an image"),
        ("environment: 3", "services.app.environment: expected a list or a map, found a number"),
        ("environment: {A: true}", "services.app.environment.A: expected a text, a number or nothing"),
        ("environment: [A, {B: 1}]", "services.app.environment.1: expected a text, found a map"),
        ("environment: [=x]", "environment.0: a variable has a name"),
        ("environment: {A: \"\\0\"}", "environment.A: a variable has a name"),
        ("volumes: data", "volumes: expected a list, found a text"),
        ("volumes: [nope:/x]", "services.app.volumes: \"nope\" is not declared under volumes"),
        ("volumes: [{type: npipe, target: /x}]", "volumes.0: a mount's type"),
        ("volumes: [{type: volume, target: x}]", "volumes.0: a mount has an absolute target"),
        ("secrets: [s]", "\"s\" is not declared under secrets"),
        ("configs: [{target: x}]", "configs.0: a source is needed"),
        ("networks: [n]", "\"n\" is not declared under networks"),
        ("ports: [99999]", "ports.0: a port is"),
        ("ports: ['1-5000']", "ports.0: a service publishes at most"),
        ("ports: [{target: -1}]", "ports.0.target: a whole number"),
        ("stop_grace_period: 10", "stop_grace_period: expected a text, found a number"),
        ("stop_grace_period: soon", "stop_grace_period: a duration is"),
        ("healthcheck: {retries: x}", "healthcheck.retries: expected a number, found a text"),
        ("helthcheck: {test: x}", "services.app.helthcheck: Docker knows no such key; is it healthcheck?"),
        ("deploy: {x-a: 1}", "deploy.x-a: Docker knows no such key"),
        ("depends_on: {db: {condition: service_healthy}}", "depends_on: expected a list, found a map"),
        ("deploy: {replicas: '1'}", "deploy.replicas: expected a whole number, found a text"),
        ("deploy: {resources: {limits: {cpus: 0.5}}}", "limits.cpus: expected a text, found a number"),
        ("user: 1000", "user: expected a text, found a number"),
        ("init: yes", "init: expected true or false, found a text"),
        ("volumes: ", "volumes: expected a list, found nothing"),
        ("profiles: [a]", "profiles: Docker knows no such key"),
        ("healthcheck: {test: x, disable: true}", "healthcheck.test: Docker takes no test together"),
        ("command: \"'x\"", "command: a command's quotes"),
        ("deploy: []", "deploy: expected a map, found a list"),
        ("deploy: {mode: both}", "deploy.mode: a mode is"),
        ("deploy: {replicas: -1}", "deploy.replicas: a whole number"),
        ("deploy: {labels: [[]]}", "deploy.labels.0: expected a text, found a list"),
        ("cap_add: [A, A]", "cap_add.1: Docker takes nothing twice"),
        (
            "ports: [{target: 80, mode: host}, {mode: host, target: 80}]",
            "ports.1: Docker takes nothing twice",
        ),
        ("secrets: [{source: s, mode: '0400'}]", "secrets.0.mode: expected a number, found a text"),
        ("volumes: [{type: volume, target: /x, x: 1}]", "volumes.0.x: Docker knows no such key"),
        ("networks: {default: {priority: 5}}", "networks.default.priority: Docker knows no such key"),
        ("logging: {options: }", "logging.options: expected a map, found nothing"),
        ("ulimits: {nofile: {soft: 1}}", "ulimits.nofile: Docker wants a soft and a hard limit"),
        ("deploy: {resources: {limits: {memory: 5x}}}", "limits.memory: a size is a number and a unit"),
        ("deploy: {resources: {limits: {pids: '${TAG}'}}}", "pids: expected a whole number, found a text"),
        ("deploy: {update_config: {order: first}}", "order: Docker takes start-first or stop-first"),
        ("deploy: {update_config: {delay: 5}}", "delay: expected a text, found a number"),
        (
            "volumes: [{type: tmpfs, source: x, target: /x}]",
            "volumes.0: memory that is mounted has no source",
        ),
        ("volumes: [~/x:/x]", "volumes.0: Docker takes ~ for the home"),
        ("volumes: [{type: bind, source: ~/x, target: /x}]", "volumes.0: Docker takes ~ for the home"),
        ("extra_hosts: {a: 1}", "extra_hosts.a: Docker makes no address of a number"),
        ("hostname: ^a$", "compose.yml: services.app.hostname: invalid interpolation at byte 3"),
        ("deploy: {labels: [a, 'b=${X:?needed}']}", "services.app.deploy.labels.1: required variable X"),
        ("x-cc-ci-local: {}", "services.app.x-cc-ci-local: a command is needed"),
        ("x-cc-ci-local: {command: pad}", "x-cc-ci-local.command: expected a list"),
        ("x-cc-ci-local: {command: []}", "command: a command begins"),
        ("x-cc-ci-local: {command: [a], helth: /}", "x-cc-ci-local.helth: unknown key; did you mean health?"),
        (
            "x-cc-ci-local: {command: [a], zzzzzz: /}",
            "x-cc-ci-local.zzzzzz: unknown key; known are command, environment, health",
        ),
        ("x-cc-ci-local: {command: [a], env: {}}", "did you mean environment?"),
        ("x-cc-ci-local: {command: [a], health: x}", "health: a health path begins with /"),
        ("x-cc-ci-local: {command: [a], health: '/ x'}", "health: a health path begins with /"),
        ("x-cc-ci-local: {command: [a], environment: [A=1]}", "environment: expected a map"),
    ] {
        let image =
            if service.starts_with("image") || service.starts_with("build") { "" } else { "image: x, " };
        let error = refused(&format!("services: {{app: {{{image}{service}}}}}"));
        assert!(error.contains(says), "{service}: {error}");
    }
}

#[test]
fn what_a_files_services_are_together_is_bounded_and_labels_are_ascii() {
    let services = |count: usize, more: &str| {
        let services: Vec<String> =
            (0..count).map(|number| format!("s{number}: {{image: a{more}}}")).collect();
        format!("services: {{{}}}", services.join(", "))
    };
    assert!(compose(&services(MAX_SERVICES, "")).is_ok());
    assert!(refused(&services(MAX_SERVICES + 1, "")).contains("at most 256 services"));
    assert!(compose(&services(4, ", ports: ['1-1024']")).is_ok());
    assert!(refused(&services(5, ", ports: ['1-1024']")).contains("at most 4096 ports"));
    let label = ", deploy: {labels: ['traefik.http.router\u{17f}.x.rule=x']}";
    assert!(refused(&services(1, label)).contains("ASCII"));
}

#[test]
fn a_wrong_file_is_refused() {
    for (text, says) in [
        ("", "services: a recipe has at least one service"),
        ("[]", "compose.yml: the whole file: expected a map, found a list"),
        ("services: []", "compose.yml: services: expected a map"),
        ("services: {app: 1}", "services.app: expected a map, found a number"),
        ("services: {app: }", "services.app: expected a map, found nothing"),
        ("name: x\nservices: {app: {image: x}}", "name: Docker knows no such section"),
        ("version: 3.8\nservices: {app: {image: x}}", "version: the version is a text"),
        ("version: '2'\nservices: {app: {image: x}}", "version: Docker takes the versions"),
        ("version: '3.08'\nservices: {app: {image: x}}", "version: Docker takes the versions"),
        (
            "version: '3.8'\nservices: {app: {image: x, cgroupns_mode: host}}",
            "cgroupns_mode: Docker knows the key since version \"3.13\"",
        ),
        ("volumes: {a: {external: {name: b}, name: c}}", "volumes.a.external: Docker wants one name"),
        ("secrets: {a: }", "secrets.a: expected a map, found nothing"),
        ("services: {../x: {image: y}}", "services.../x: a key is"),
        ("volumes: {'': }", "a key is"),
        ("volumes: {.: }", "a key is"),
        ("volumes: {a/b: }", "a key is"),
        ("services: {a: {image: b}}\nvolumes: {a: {name: ../x}}", "volumes.a.name: a name is 1 to 200"),
        ("services: {a: {image: b}}\nvolumes: {a: {name: x/../y}}", "volumes.a.name: a name is 1 to 200"),
        ("services: {a: {image: b}}\nsecrets: {a: {name: $NONE}}", "secrets.a.name: a name is 1 to 200"),
        ("configs: {a: {file: ../x}}", "configs.a.file: a file is a relative path"),
        ("configs: {a: {file: /etc/passwd}}", "configs.a.file: a file is a relative path"),
        ("volumes: {a: {external: maybe}}", "volumes.a.external: expected true or false, found a text"),
        (
            "services:\n  a:\n    image: b\n  a:\n    image: c",
            "compose.yml, line 4: duplicate mapping key: a",
        ),
        ("services:\n\ta: b", "compose.yml, line 2: tab"),
        ("services: {a: *nobody}", "compose.yml, line 1: "),
    ] {
        let error = refused(text);
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[test]
fn two_objects_of_one_name_are_refused_where_docker_makes_them() {
    for section in ["volumes", "secrets", "configs", "networks"] {
        let text = format!(
            "services: {{app: {{image: x}}}}\n{section}: {{aa: {{name: n}}, bb: {{name: n, labels: [a]}}}}"
        );
        let error = refused(&text);
        assert!(
            error.starts_with(&format!("compose.yml: {section}.bb.name: aa has the same name")),
            "{error}"
        );
        let external = text
            .replace("{name: n}", "{name: n, external: true}")
            .replace("n, labels: [a]", "n, external: true");
        assert!(compose(&external).is_ok(), "{section}");
    }
}

#[test]
fn an_error_names_the_file_among_several() {
    let over = "services: {app: {image: 1}}";
    let error = load(&[("compose.yml", BASE), ("compose.b.yml", over)], &[]).unwrap_err();
    assert_eq!(error.to_string(), "compose.b.yml: services.app.image: expected a text, found a number");
    let error =
        load(&[("a.yml", "services: {x: {image: y}}"), ("b.yml", "services: {z: {}}")], &[]).unwrap_err();
    assert_eq!(error.to_string(), "a.yml:b.yml: services.z: a service has an image");
}

#[test]
fn values_that_may_be_secret_stay_out_of_errors() {
    for service in [
        "environment: ['${PASS}']",
        "deploy: {labels: ['${PASS}'], mode: '${PASS}'}",
        "image: x, ports: ['${PASS}']",
    ] {
        let text = format!("services: {{app: {{{service}, environment: [['${{PASS}}']]}}}}");
        let error = load(&[("compose.yml", &text)], &[("PASS", "hunter2")]).unwrap_err();
        assert!(!full(&error).contains("hunter2"), "{}", full(&error));
    }
}

#[test]
fn files_come_from_inside_the_recipe_only() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("recipe");
    fs::create_dir(&root).unwrap();
    fs::write(home.path().join("secret.yml"), "services: {app: {image: x}}").unwrap();
    symlink("../secret.yml", root.join("compose.yml")).unwrap();
    let load = |files: &str| {
        let vars = [("STACK_NAME", "s"), ("COMPOSE_FILE", files)].map(|(k, v)| (k.into(), v.into()));
        full(&Compose::load(&root, &vars.into()).unwrap_err())
    };
    assert_eq!(load(""), "reading compose.yml: it leads out of the recipe");
    assert_eq!(load("../secret.yml"), "reading ../secret.yml: it leads out of the recipe");
    assert_eq!(load("missing.yml"), "reading missing.yml: it does not exist");
    assert!(load(&"compose.yml:x".repeat(MAX_FILES + 1)).contains("more than"));
    for named in [":compose.yml", "compose.yml:", "a.yml::b.yml", ":"] {
        assert!(load(named).contains("without a name"), "{named}");
    }
}

#[test]
fn a_stack_name_is_needed() {
    let error = Compose::load(Path::new("/"), &BTreeMap::new()).unwrap_err();
    assert!(full(&error).starts_with("reading STACK_NAME: invalid stack \"\""), "{}", full(&error));
}
