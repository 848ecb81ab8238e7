use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Loads the files given as (name, text), in this order, as an app of the stack `st_ack`.
fn load(files: &[(&str, &str)], more: &[(&str, &str)]) -> Result<Compose, ComposeError> {
    let tree = tempfile::tempdir().unwrap();
    for (file, text) in files {
        fs::write(tree.path().join(file), text).unwrap();
    }
    let names: Vec<&str> = files.iter().map(|(file, _)| *file).collect();
    let names = names.join(":");
    let vars = [("STACK_NAME", "st_ack"), ("COMPOSE_FILE", &names), ("TAG", "1.2")];
    Compose::load(tree.path(), &vars.iter().chain(more).map(|(k, v)| ((*k).into(), (*v).into())).collect())
}

pub(in crate::recipe) fn compose(text: &str) -> Result<Compose, ComposeError> {
    load(&[("compose.yml", text)], &[])
}

/// A file as it is where nothing else is said.
fn file(source: &str, target: &str) -> FileReference {
    let (source, target) = (source.to_owned(), target.to_owned());
    FileReference { source, target, owner: ("0".to_owned(), "0".to_owned()), mode: 0o444 }
}

/// An error with its sources, as a user sees it.
fn full(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {}", full(source)))
}

fn refused(text: &str) -> String {
    match compose(text) {
        Ok(compose) => panic!("accepted: {text}\n{compose:?}"),
        Err(error) => full(&error),
    }
}

const BASE: &str = r#"---
version: "3.8"
x-common: &common
  stop_grace_period: 1m30s
services:
  app:
    <<: *common
    image: "pad:${TAG:-latest}"
    command: pad --listen ':80'
    environment:
      - A=1
      - EMPTY=
      - TAG
      - NOT_SET
      - URL=http://${STACK_NAME}_db/?a=b
    volumes: [data:/data, "/etc/localtime:/etc/localtime:ro"]
    secrets: [password]
    configs: [{source: conf, target: /etc/pad.conf, mode: 0444}]
    networks: [proxy, internal]
    ports: ["8080:80"]
    healthcheck:
      test: curl -f http://localhost
      start_period: 1m
    deploy:
      replicas: ${REPLICAS:-2}
      labels:
        - "traefik.enable=true"
        - "rule=Host(`${DOMAIN}`)"
        - bare
    x-cc-ci-local:
      command: [pad, --port, $CCCI_PORT, "${CCCI_VOLUME_DATA}"]
      environment: {PORT: $CCCI_PORT, N: 1}
      health: /health
  db:
    image: db:1
    deploy: {mode: global, labels: {a: 1, b: , c: x}}
    environment: {A: 1, B: 1.5, C: , D: x}
volumes: {data: , plain: {name: other}, there: {external: true}, old: {external: {name: older}}}
secrets: {password: {external: true, name: "${STACK_NAME}_password_v1"}}
configs: {conf: {name: "${STACK_NAME}_conf_v1", file: ./pad.conf.tmpl, template_driver: golang}}
networks: {proxy: {external: true}, internal: }
"#;

#[test]
fn a_service_is_read_with_all_that_it_says() {
    let compose = compose(BASE).unwrap();
    let app = &compose.services["app"];
    assert_eq!(app.image, "pad:1.2");
    assert_eq!(app.command.as_deref().unwrap(), ["pad", "--listen", ":80"]);
    let environment: Vec<_> = app.environment.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
    let expected = [
        ("A", Some("1")),
        ("EMPTY", Some("")),
        ("NOT_SET", None),
        ("TAG", Some("1.2")),
        ("URL", Some("http://st_ack_db/?a=b")),
    ];
    assert_eq!(environment, expected);
    assert_eq!(app.volumes[0].source.as_deref(), Some("data"));
    assert_eq!((app.volumes[1].kind, app.volumes[1].read_only), (MountKind::Bind, true));
    assert_eq!(app.secrets, [file("password", "/run/secrets/password")]);
    assert_eq!(app.configs, [file("conf", "/etc/pad.conf")]);
    assert_eq!(app.ports[0].published, Some(8080));
    let health = app.healthcheck.as_ref().unwrap();
    assert_eq!(health.test, ["CMD-SHELL", "curl -f http://localhost"]);
    assert_eq!((health.start_period, health.retries), (Duration::from_mins(1), 3));
    assert_eq!(app.mode, Mode::Replicated(2));
    assert_eq!(app.stop_grace_period, Duration::from_secs(90));
    let labels: Vec<_> = app.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(labels, [("bare", ""), ("rule", "Host(``)"), ("traefik.enable", "true")]);
    let db = &compose.services["db"];
    assert_eq!(db.mode, Mode::Global);
    assert_eq!(db.environment["B"].as_deref(), Some("1.5"));
    assert_eq!((db.environment["C"].as_ref(), db.labels["b"].as_str()), (None, ""));
    assert_eq!((db.stop_grace_period, &db.local), (Duration::from_secs(10), &None));
    assert_eq!(compose.unset.iter().collect::<Vec<_>>(), ["DOMAIN"]);
}

#[test]
fn objects_have_full_names_and_services_without_networks_get_the_default() {
    let compose = compose(BASE).unwrap();
    let name = |object: &Object| (object.name.clone(), object.external);
    assert_eq!(name(&compose.volumes["data"]), ("st_ack_data".into(), false));
    assert_eq!(name(&compose.volumes["plain"]), ("other".into(), false));
    assert_eq!(name(&compose.volumes["there"]), ("there".into(), true));
    assert_eq!(name(&compose.volumes["old"]), ("older".into(), true));
    assert_eq!(name(&compose.secrets["password"]), ("st_ack_password_v1".into(), true));
    assert_eq!(name(&compose.networks["default"]), ("st_ack_default".into(), false));
    assert_eq!(name(&compose.networks["proxy"]), ("proxy".into(), true));
    let conf = &compose.configs["conf"];
    assert_eq!(conf.file.as_deref(), Some(Path::new("./pad.conf.tmpl")));
    assert_eq!(conf.template_driver.as_deref(), Some("golang"));
}

#[test]
fn what_the_local_executor_runs_stays_raw() {
    let compose = compose(BASE).unwrap();
    let local = compose.services["app"].local.as_ref().unwrap();
    assert_eq!(local.command, ["pad", "--port", "$CCCI_PORT", "${CCCI_VOLUME_DATA}"]);
    assert_eq!(local.environment["PORT"], "$CCCI_PORT");
    assert_eq!(local.environment["N"], "1");
    assert_eq!(local.health.as_deref(), Some("/health"));
}

#[test]
fn later_files_are_laid_over_earlier_ones() {
    let over = r#"version: "3.8"
services:
  app:
    image: pad:next
    command: [other]
    environment: {A: 2, NEW: x}
    volumes: ["cache:/data", "more:/more"]
    secrets: [{source: password, target: pw}, second]
    networks: {third: }
    ports: [{target: 81, published: 8080, mode: host}, 90]
    healthcheck: {interval: 5s}
    deploy: {labels: {traefik.enable: "false"}}
    x-cc-ci-local: {environment: {PORT: "1"}}
  extra: {image: e}
volumes: {cache: , more: , plain: {external: true}}
secrets: {second: {file: s}}
networks: {third: }
"#;
    let compose = load(&[("compose.yml", BASE), ("compose.over.yml", over)], &[]).unwrap();
    let app = &compose.services["app"];
    assert_eq!((app.image.as_str(), app.command.as_deref()), ("pad:next", Some(&["other".to_owned()][..])));
    assert_eq!(app.environment["A"].as_deref(), Some("2"));
    assert_eq!((app.environment.len(), app.labels["traefik.enable"].as_str()), (6, "false"));
    let mounts: Vec<_> =
        app.volumes.iter().map(|m| (m.source.as_deref().unwrap(), m.target.as_str())).collect();
    assert_eq!(mounts, [("cache", "/data"), ("/etc/localtime", "/etc/localtime"), ("more", "/more")]);
    let secrets: Vec<_> = app.secrets.iter().map(|reference| reference.target.as_str()).collect();
    assert_eq!(secrets, ["/run/secrets/pw", "/run/secrets/second"]);
    assert_eq!(app.networks.iter().collect::<Vec<_>>(), ["internal", "proxy", "third"]);
    let ports: Vec<_> = app.ports.iter().map(|p| (p.target, p.published, p.host_mode)).collect();
    assert_eq!(ports, [(81, Some(8080), true), (90, None, false)]);
    let health = app.healthcheck.as_ref().unwrap();
    assert_eq!(health.test, ["CMD-SHELL", "curl -f http://localhost"]);
    assert_eq!((health.interval.as_secs(), health.start_period.as_secs()), (5, 60));
    assert_eq!(app.mode, Mode::Replicated(2));
    let local = app.local.as_ref().unwrap();
    assert_eq!((local.command.len(), local.environment["PORT"].as_str()), (4, "1"));
    assert_eq!((compose.volumes["plain"].name.as_str(), compose.volumes["plain"].external), ("plain", true));
    assert!(compose.services.contains_key("extra"));
}

#[test]
fn what_docker_lays_over_each_other_in_its_own_way_is_read_so_or_refused() {
    let base = "version: '3.8'\nservices:\n  app:\n    image: x\n    command: a b\n    stop_grace_period: 1m\n    \
                environment: [A=1, B=2]\n    ports: ['100', '101']\n    healthcheck: {test: a}\n    deploy: {labels: [l=1]}\n\
                volumes: {v: {name: n, driver: d}}\n";
    let over = |service: &str, more: &str| {
        let over = format!("version: '3.8'\nservices: {{app: {{{service}}}}}\n{more}");
        load(&[("compose.yml", base), ("compose.o.yml", &over)], &[]).map_err(|error| full(&error))
    };
    let empty = "command: [], stop_grace_period: 0s, environment: {A: , B: ''}, deploy: {labels: {l: }}";
    let app = over(empty, "").unwrap().services["app"].clone();
    assert_eq!(app.command.unwrap(), ["a", "b"]);
    assert_eq!(app.stop_grace_period, Duration::from_mins(1));
    assert_eq!((app.environment["A"].as_deref(), app.environment["B"].as_deref()), (Some("1"), Some("2")));
    assert_eq!(app.labels["l"], "");
    // Of those that Swarm gives a port to, the last counts.
    let ports = over("ports: ['102']", "").unwrap().services["app"].ports.clone();
    assert_eq!(ports.iter().map(|port| port.target).collect::<Vec<_>>(), [102]);
    for (entry, name, outside) in
        [("", "st_ack_v", false), ("{name: m}", "m", false), ("{external: true}", "v", false)]
    {
        let volume = over("", &format!("volumes: {{v: {entry}}}")).unwrap().volumes["v"].clone();
        assert_eq!((volume.name.as_str(), volume.outside.is_some()), (name, outside), "{entry}");
    }
    let logging = |first: &str, over: &str| {
        let file = |logging: &str| format!("services: {{app: {{image: x, logging: {logging}}}}}");
        let (first, over) = (file(first), file(over));
        let compose = load(&[("compose.yml", &first), ("compose.o.yml", &over)], &[]).unwrap();
        compose.services["app"].passed_on["logging"].clone()
    };
    for (first, over, expected) in [
        (
            "{driver: local, options: {a: 1}}",
            "{options: {b: 2.50}}",
            json!({"driver": "local", "options": {"a": "1", "b": "2.5"}}),
        ),
        (
            "{driver: local, options: {a: 1}}",
            "{driver: json-file, options: {b: 2}}",
            json!({"driver": "json-file", "options": {"b": "2"}}),
        ),
        ("{driver: local}", "{options: {b: 2}}", json!({"driver": "local"})),
    ] {
        assert_eq!(logging(first, over), expected, "{first} {over}");
    }
    for (service, says) in [
        ("healthcheck: {test: b}", "services.app.healthcheck.test: Docker joins the tests"),
        ("healthcheck: {disable: true}", "services.app.healthcheck.test: Docker takes no test together"),
    ] {
        let error = over(service, "").unwrap_err();
        assert!(error.contains(says), "{service}: {error}");
    }
    let jobs = over("deploy: {mode: replicated-job, replicas: 2}", "").unwrap();
    assert_eq!(jobs.services["app"].mode, Mode::ReplicatedJob(2));
    let files = [("compose.yml", base), ("compose.o.yml", "services: {}")];
    let error = full(&load(&files, &[]).unwrap_err());
    assert!(
        error.starts_with("compose.o.yml: version: Docker wants the same version in all files"),
        "{error}"
    );
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

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(services: |app: |\\{|\\}|image: x|, |\\[|\\]|volumes: |ports: |environment: |a:/b|\\$A|1|~|\\n| ){0,30}|\\PC{0,80}") {
        drop(compose(&text));
    }
}
