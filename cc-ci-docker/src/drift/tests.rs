//! The engine's own answer for a stack that says everything, and each thing of it changed.

use std::path::Path;

use cc_ci_core::recipe::Compose;
use serde_json::{Value, json};

use super::*;

/// What Docker 28.2 gave for [`FILE`].
const ENGINE: &str = include_str!("engine.json");

const FILE: &str = r#"
version: "3.13"
services:
  app:
    image: bb:1
    hostname: h1
    user: "1000:1000"
    working_dir: /w
    entrypoint: ["/bin/x", "y"]
    command: a b
    stop_signal: SIGINT
    init: true
    tty: true
    stdin_open: true
    read_only: true
    stop_grace_period: 1m
    cap_add: [NET_ADMIN, SYS_TIME]
    cap_drop: [ALL]
    sysctls: {net.core.somaxconn: 1024}
    ulimits: {nofile: {soft: 10, hard: 20}, nproc: 5}
    extra_hosts: ["foo:1.2.3.4"]
    dns: [1.1.1.1]
    dns_search: x.y
    environment: {A: b, C: , D: ""}
    labels: {l: v}
    logging: {driver: json-file, options: {max-size: "1m"}}
    tmpfs: [/t1]
    volumes:
      - data:/data
      - /etc/localtime:/etc/localtime:ro
      - /anon
      - type: tmpfs
        target: /t2
        tmpfs: {size: 1000000}
    secrets: [s1, {source: s1, target: /abs/s, mode: 0400, uid: "5"}]
    configs: [{source: c1, target: /c1}]
    networks:
      default:
        aliases: [al]
      proxy:
    ports: ["8080:80", "53:53/udp"]
    healthcheck: {test: "true", interval: 3s, start_interval: 1s}
    deploy:
      labels: {dl: dv}
      endpoint_mode: vip
      placement: {constraints: ["node.role == manager"], preferences: [{spread: node.labels.x}], max_replicas_per_node: 3}
      resources: {limits: {cpus: "0.5", memory: 50M, pids: 10}, reservations: {cpus: "0.1", memory: 10M}}
      restart_policy: {condition: on-failure, delay: 1s, max_attempts: 3, window: 5s}
      update_config: {failure_action: rollback, order: start-first, monitor: 3s, delay: 1s}
      rollback_config: {order: start-first}
  b:
    image: bb:2
volumes: {data: }
networks: {proxy: {external: true}}
secrets: {s1: {file: secret.txt}}
configs: {c1: {file: conf.txt}}
"#;

/// What may be anything: what the engine or the deployer's registry look-up makes of an order.
const FREE: [&str; 3] = ["ForceUpdate", "SecretID", "ConfigID"];

fn stack() -> Stack {
    "a_test_x".parse().unwrap()
}

fn order_of(file: &str, before: &[&str]) -> Order {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("compose.yml"), file).unwrap();
    let vars = BTreeMap::from([("STACK_NAME".to_owned(), "a_test_x".to_owned())]);
    Order {
        compose: Compose::load(directory.path(), &vars).unwrap(),
        vars: BTreeMap::from([("TYPE".to_owned(), "x".to_owned())]),
        root: Path::new("/recipes/x").to_owned(),
        env_files: BTreeMap::from([(Path::new("more.env").to_owned(), "# no\n\n  M=1\nA=z\nN\n".to_owned())]),
        config_files: BTreeMap::new(),
        before: before.iter().map(|name| Resource::new(Kind::Service, format!("a_test_x_{name}"))).collect(),
    }
}

fn networks() -> BTreeMap<String, String> {
    let names = [("jz2p54cebb688lkgpt0bj7p0w", "proxy"), ("vcux9un6oc715cvcs085h21y7", "a_test_x_default")];
    names.into_iter().map(|(id, name)| (id.to_owned(), name.to_owned())).collect()
}

fn engine() -> Vec<Value> {
    serde_json::from_str(ENGINE).unwrap()
}

fn compared(file: &str, services: Vec<Value>) -> Drift {
    compare(&stack(), &order_of(file, &[]), services, &networks())
}

/// The way to every value of `value`, and that value.
fn values(value: &Value, path: &str, found: &mut Vec<String>) {
    found.push(path.to_owned());
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                values(value, &format!("{path}/{}", key.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(list) => {
            for (place, value) in list.iter().enumerate() {
                values(value, &format!("{path}/{place}"), found);
            }
        }
        _ => {}
    }
}

fn is_free(path: &str) -> bool {
    FREE.iter().any(|free| path.split('/').any(|key| key == *free))
}

#[test]
fn what_was_ordered_is_deployed() {
    assert_eq!(compared(FILE, engine()), Drift::default());
}

#[test]
fn each_value_that_is_another_is_found() {
    let mut paths = Vec::new();
    values(&engine()[0]["Spec"], "/Spec", &mut paths);
    let mut tried = 0;
    for path in paths {
        let mut services = engine();
        let value = services[0].pointer_mut(&path).unwrap();
        *value = match &*value {
            Value::Bool(is) => Value::Bool(!is),
            Value::Number(number) => Value::from(number.as_i64().unwrap_or(0) + 1),
            Value::String(text) => Value::from(format!("{text}x")),
            Value::Array(list) => Value::from([list.clone(), vec![json!("surplus")]].concat()),
            Value::Object(map) => {
                let mut map = map.clone();
                map.insert("Surplus".to_owned(), json!("s"));
                Value::Object(map)
            }
            // Objects that nobody orders.
            Value::Null => json!({"Surplus": "s"}),
        };
        let drift = compared(FILE, services);
        // A surplus variable may be of whoever deploys, and is a remark; the second has no value in the files.
        let is_surplus = path.ends_with("/Env") || path.ends_with("/Env/1");
        let found = if is_surplus { &drift.remarks } else { &drift.differences };
        assert_eq!(found.is_empty(), is_free(&path), "{path}: {drift:?}");
        tried += 1;
    }
    assert!(tried > 150, "{tried}");
}

#[test]
fn each_value_that_is_not_there_is_found() {
    // What the engine says where nothing is said.
    let default = [
        // The variable that has no value.
        "/Spec/TaskTemplate/ContainerSpec/Env/1",
        "/Spec/TaskTemplate/Runtime",
        "/Spec/TaskTemplate/ContainerSpec/Isolation",
        "/Spec/RollbackConfig/Parallelism",
        "/Spec/RollbackConfig/FailureAction",
        "/Spec/RollbackConfig/Monitor",
        "/Spec/UpdateConfig/Parallelism",
        "/Spec/EndpointSpec/Mode",
        "/Spec/Mode",
    ];
    let mut paths = Vec::new();
    values(&engine()[0]["Spec"], "/Spec", &mut paths);
    for path in paths {
        let mut services = engine();
        let (parent, key) = path.rsplit_once('/').unwrap();
        let key = key.replace("~1", "/");
        let removed = match services[0].pointer_mut(parent).unwrap() {
            Value::Object(map) => map.remove(&key).unwrap(),
            Value::Array(list) => list.remove(key.parse().unwrap()),
            _ => unreachable!("values are in maps and lists"),
        };
        let mut nothing = removed.clone();
        form::prune(&mut nothing);
        let says_nothing = matches!(nothing, Value::Null | Value::Bool(false))
            || nothing == json!({})
            || nothing == json!([])
            || nothing == json!(0);
        // An engine that says less in what one mount or port is said by says it by the default.
        let is_protocol = path.ends_with("Protocol") && removed == "tcp" || path.ends_with("PublishMode");
        let expected = !(says_nothing || is_free(&path) || is_protocol || default.contains(&path.as_str()));
        let drift = compared(FILE, services);
        assert_eq!(!drift.differences.is_empty(), expected, "{path}: {drift:?}");
    }
}

#[test]
fn fields_that_nobody_knows_are_found() {
    for path in ["/Spec", "/Spec/TaskTemplate", "/Spec/TaskTemplate/ContainerSpec", "/Spec/EndpointSpec"] {
        let mut services = engine();
        services[1].pointer_mut(path).unwrap()["NewInTheApi"] = json!({"Deep": [1]});
        let drift = compared(FILE, services);
        assert_eq!(drift.differences.len(), 1, "{path}: {drift:?}");
        assert!(drift.differences[0].contains("NewInTheApi"), "{drift:?}");
    }
}

#[test]
fn differences_name_the_field_and_no_secret() {
    let mut services = engine();
    let container = &mut services[0]["Spec"]["TaskTemplate"]["ContainerSpec"];
    container["Env"][0] = json!("A=hunter2");
    container["Args"][1] = json!("hunter2");
    container["User"] = json!("root\u{1b}[2J");
    container["Mounts"][0]["Source"] = json!("other_app_data");
    services[0]["Spec"]["TaskTemplate"]["Networks"][0]["Target"] = json!("unknown");
    let differences = compared(FILE, services).differences;
    assert_eq!(
        differences,
        [
            "service app: Args differs",
            "service app: Env.A differs",
            "service app: Mounts./data.Source is other_app_data, not a_test_x_data",
            "service app: User is root\\u{1b}[2J, not 1000:1000",
            "service app: Networks.proxy is not there",
            "service app: Networks.unknown was not ordered",
        ]
    );
}

#[test]
fn what_a_deployer_adds_of_its_own_is_no_difference() {
    let mut services = engine();
    for (label, value) in [("recipe", "x"), ("chaos", "true"), ("chaos-version", "abc"), ("version", "1")] {
        services[0]["Spec"]["Labels"][format!("coop-cloud.a_test_x.{label}")] = json!(value);
    }
    let env = services[0].pointer_mut("/Spec/TaskTemplate/ContainerSpec/Env").unwrap();
    env.as_array_mut().unwrap().push(json!("TYPE=x"));
    assert_eq!(compared(FILE, services.clone()), Drift::default());

    services[0]["Spec"]["Labels"]["coop-cloud.a_test_x.new"] = json!("1");
    services[0]["Spec"]["Labels"]["coop-cloud.a_test_xy.recipe"] = json!("1");
    for service in &mut services {
        let container = service.pointer_mut("/Spec/TaskTemplate/ContainerSpec").unwrap();
        let mut env = container["Env"].as_array().cloned().unwrap_or_default();
        env.push(json!("OTHER=1"));
        container["Env"] = Value::Array(env);
    }
    let drift = compared(FILE, services);
    assert_eq!(drift.differences, ["service app: Labels.coop-cloud.a_test_xy.recipe was not ordered"]);
    assert_eq!(
        drift.remarks,
        [
            "service app: has a label that its files do not say: coop-cloud.a_test_x.new",
            "service app: has a variable that its files do not say: OTHER",
            "service b: has a variable that its files do not say: OTHER",
        ]
    );
}

#[test]
fn services_are_those_that_were_ordered_or_there_before() {
    let mut services = engine();
    services[1]["Spec"]["Name"] = json!("a_test_x_c");
    let message = |before: &[&str]| {
        compare(&stack(), &order_of(FILE, before), services.clone(), &networks()).differences
    };
    assert_eq!(message(&[]), ["service b: is not there", "service c: was not ordered"]);
    assert_eq!(message(&["c"]), ["service b: is not there"]);
}

#[test]
fn what_the_order_before_was_to_mount_may_come_late() {
    let mut services = engine();
    let late = |services: &[Value]| late_volumes(&stack(), &order_of(FILE, &[]), services);
    assert_eq!(late(&services), BTreeSet::new(), "what is ordered is compared");
    let data = BTreeSet::from(["a_test_x_data".to_owned()]);
    services[0]["PreviousSpec"] = services[0]["Spec"].clone();
    assert_eq!(late(&services), data);
    // Of one that is not of this order, and goes.
    services[0]["PreviousSpec"] = Value::Null;
    services[0]["Spec"]["Name"] = json!("a_test_x_c");
    assert_eq!(late(&services), data);
}

#[test]
fn a_service_that_is_rolled_back_is_left_to_the_wait() {
    let mut services = engine();
    services[0]["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"] = json!("bb:0");
    services[0]["UpdateStatus"] = json!({"State": "rollback_started"});
    assert_eq!(compared(FILE, services.clone()), Drift::default());
    services[0]["UpdateStatus"] = json!({"State": "updating"});
    assert_eq!(compared(FILE, services).differences, ["service app: Image is bb:0, not bb:1"]);
}

#[test]
fn images_are_compared_by_tag_and_by_digest_without_one() {
    let image = |file: &str, there: &str| {
        let mut services = engine();
        services[1]["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"] = json!(there);
        services[1]["Spec"]["Labels"]["com.docker.stack.image"] = json!(file);
        compared(&FILE.replace("bb:2", file), services).differences.is_empty()
    };
    assert!(image("bb:2", "bb:2@sha256:abc"));
    assert!(!image("host:5000/bb:2@sha256:abc", "host:5000/bb:2@sha256:def"));
    assert!(image("host:5000/bb:2@sha256:abc", "host:5000/bb:2@sha256:abc"));
    for familiar in ["docker.io/library/bb:2", "index.docker.io/bb:2", "library/bb:2"] {
        assert!(image(familiar, "bb:2@sha256:abc"), "{familiar}");
    }
    assert!(image("bb", "bb:latest"));
    assert!(image("docker.io/foo/bb", "foo/bb:latest"));
    assert!(!image("other.io/foo/bb", "foo/bb:latest"));
    assert!(image("host:5000/bb@sha256:abc", "host:5000/bb@sha256:abc"));
    assert!(!image("host:5000/bb@sha256:abc", "host:5000/bb@sha256:def"));
    assert!(!image("bb:2", "bb:3@sha256:abc"));
}

#[test]
fn variables_of_files_are_ordered_too() {
    let file = "services: {app: {image: 'bb:1', env_file: more.env, environment: [A=b]}}";
    let spec = |env: Value| {
        let labels = json!({"com.docker.stack.namespace": "a_test_x"});
        json!({"Spec": {
            "Name": "a_test_x_app",
            "Labels": {"com.docker.stack.namespace": "a_test_x", "com.docker.stack.image": "bb:1"},
            "TaskTemplate": {
                "ContainerSpec": {"Image": "bb:1", "Labels": labels, "Env": env},
                "Networks": [{"Target": "vcux9un6oc715cvcs085h21y7", "Aliases": ["app"]}],
            },
        }})
    };
    assert_eq!(compared(file, vec![spec(json!(["A=b", "M=1"]))]), Drift::default());
    assert_eq!(compared(file, vec![spec(json!(["A=b", "M=2"]))]).differences, ["service app: Env.M differs"]);
    assert_eq!(compared(file, vec![spec(json!(["A=b"]))]).differences, ["service app: Env.M is not there"]);
}

#[test]
fn a_score_that_docker_does_not_pass_on_is_no_difference_and_another_one_is() {
    let file =
        FILE.replace("image: bb:2", "{image: bb:2, oom_score_adj: 5}").replace("  b:\n    {", "  b: {");
    let message = |score: Option<i64>| {
        let mut services = engine();
        if let Some(score) = score {
            services[1]["Spec"]["TaskTemplate"]["ContainerSpec"]["OomScoreAdj"] = json!(score);
        }
        compared(&file, services).differences
    };
    assert!(message(None).is_empty() && message(Some(5)).is_empty());
    assert_eq!(message(Some(6)), ["service b: OomScoreAdj is 6, not 5"]);
}
