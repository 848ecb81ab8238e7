mod refused;

use std::error::Error;
use std::fs;
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

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(services: |app: |\\{|\\}|image: x|, |\\[|\\]|volumes: |ports: |environment: |a:/b|\\$A|1|~|\\n| ){0,30}|\\PC{0,80}") {
        drop(compose(&text));
    }
}
