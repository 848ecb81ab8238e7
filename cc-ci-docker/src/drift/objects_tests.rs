//! What an engine gave for the networks, volumes, secrets and configs of a stack, and each thing of it changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cc_ci_core::engine::{Drift, Kind, Order, Resource};
use cc_ci_core::recipe::Compose;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::form;
use super::objects::{Listed, NUMBERS, compare, first_address};
use crate::snapshot::NAMESPACE;

const FILE: &str = r#"
version: "3.13"
services:
  app: {image: "bb:1", networks: [plain, said, subnets]}
networks:
  plain:
  said:
    attachable: true
    internal: true
    labels: {a: 1.0, b: }
    driver: overlay
    driver_opts: {encrypted: "", com.docker.network.driver.mtu: 1400}
  subnets: {ipam: {driver: default, config: [{subnet: 10.78.0.0/24}, {subnet: "fd00:77::/64"}]}}
  unused: {attachable: true}
  proxy: {external: true}
volumes:
  plain:
  said: {labels: {a: 1.0}, driver: local, driver_opts: {type: tmpfs, device: tmpfs}}
  plugin: {driver: "x/nfs", driver_opts: {share: "h:/s"}}
secrets:
  plain: {file: here}
  said: {file: here, name: a_test_x_said_v1, labels: {a: b}, template_driver: golang}
  given: {external: true, name: a_test_x_given_v1}
configs:
  plain: {file: here}
  said: {file: here, labels: {a: b}, template_driver: golang}
"#;

const STACK: &str = "a_test_x";

/// What Docker 20.10 gave for [`FILE`], as its lists have it.
fn engine() -> Listed {
    let network = |name: &str| {
        json!({
            "Name": format!("{STACK}_{name}"), "Id": "rflj6fgpobnmdyqwm448zd4pp", "Scope": "swarm", "Driver": "overlay",
            "Created": "2026-11-29T07:51:12Z", "EnableIPv6": false,
            "IPAM": {"Driver": "default", "Options": null, "Config": [{"Subnet": "10.0.6.0/24", "Gateway": "10.0.6.1"}]},
            "Internal": false, "Attachable": false, "Ingress": false, "ConfigFrom": {"Network": ""}, "ConfigOnly": false,
            "Containers": null, "Options": {NUMBERS: "4102"}, "Labels": {NAMESPACE: STACK},
        })
    };
    let mut message = network("said");
    message["Internal"] = json!(true);
    message["Attachable"] = json!(true);
    message["Labels"] = json!({"a": "1", "b": "", NAMESPACE: STACK});
    message["Options"] = json!({"com.docker.network.driver.mtu": "1400", NUMBERS: "4104", "encrypted": ""});
    let mut subnets = network("subnets");
    subnets["IPAM"]["Config"] = json!([
        {"Subnet": "10.78.0.0/24", "Gateway": "10.78.0.1"},
        {"Subnet": "fd00:77::/64", "Gateway": "fd00:77::1"},
    ]);
    let volume = |name: &str, driver: &str, options: Value, labels: Value| {
        json!({
            "CreatedAt": "2026-11-29T07:51:13Z", "Driver": driver, "Labels": labels, "Mountpoint": "/v/_data",
            "Name": format!("{STACK}_{name}"), "Options": options, "Scope": "local",
        })
    };
    let file = |name: &str, spec: Value| {
        let mut whole = json!({"Name": format!("{STACK}_{name}"), "Labels": {NAMESPACE: STACK}});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        json!({"ID": "63snwh4jijfp1f4uqves901b2", "Version": {"Index": 76}, "Spec": whole})
    };
    let said_of = json!({"Labels": {"a": "b", NAMESPACE: STACK}, "Templating": {"Name": "golang"}});
    let with_data = |mut spec: Value| {
        spec["Data"] = json!("Y29udGVudAo=");
        spec
    };
    Listed {
        networks: vec![
            network("plain"),
            message,
            subnets,
            json!({"Name": "proxy", "Scope": "swarm", "Driver": "overlay", "Internal": true, "Labels": {"x": "y"}}),
            json!({"Name": "bridge", "Scope": "local", "Driver": "bridge", "Labels": {}}),
        ],
        volumes: vec![(
            None,
            vec![
                volume("plain", "local", Value::Null, json!({NAMESPACE: STACK})),
                volume(
                    "said",
                    "local",
                    json!({"device": "tmpfs", "type": "tmpfs"}),
                    json!({"a": "1", NAMESPACE: STACK}),
                ),
                volume("plugin", "x/nfs:latest", json!({"share": "h:/s"}), json!({NAMESPACE: STACK})),
            ],
        )],
        secrets: vec![file("plain", json!({})), file("said_v1", said_of.clone())],
        configs: vec![file("plain", with_data(json!({}))), file("said", with_data(said_of))],
        late_volumes: BTreeSet::new(),
    }
}

fn order(before: &[(Kind, &str)]) -> Order {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("compose.yml"), FILE).unwrap();
    let vars = BTreeMap::from([("STACK_NAME".to_owned(), STACK.to_owned())]);
    Order {
        compose: Compose::load(directory.path(), &vars).unwrap(),
        vars,
        root: Path::new("/recipes/x").to_owned(),
        env_files: BTreeMap::new(),
        config_files: BTreeMap::from([(PathBuf::from("here"), Sha256::digest("content\n").into())]),
        before: before.iter().map(|(kind, name)| Resource::new(*kind, format!("{STACK}_{name}"))).collect(),
    }
}

fn compared(listed: Listed) -> Drift {
    compared_after(&[], listed)
}

fn compared_after(before: &[(Kind, &str)], listed: Listed) -> Drift {
    let mut drift = Drift::default();
    compare(&order(before), listed, &mut drift);
    drift
}

/// One kind's list.
type OfKind = fn(&mut Listed) -> &mut Vec<Value>;

const KINDS: [(OfKind, usize); 4] = [
    (|listed| &mut listed.networks, 3),
    (|listed| &mut listed.volumes[0].1, 3),
    (|listed| &mut listed.secrets, 2),
    (|listed| &mut listed.configs, 2),
];

/// Whether the value at `path` of the object of that name says nothing of what was ordered.
fn is_free(name: &str, path: &str) -> bool {
    let first = path.split('/').nth(1).unwrap_or_default();
    matches!(first, "Id" | "ID" | "Created" | "CreatedAt" | "Mountpoint" | "Version" | "Containers")
        || path == format!("/Options/{NUMBERS}")
        // The engine's choice, where the files say none.
        || name != "a_test_x_subnets" && path.starts_with("/IPAM/Config/")
        || name == "a_test_x_plugin" && path == "/Scope"
        || name == "a_test_x_subnets" && path == "/EnableIPv6"
}

/// The way to every value of `value`.
fn paths(value: &Value, path: &str, found: &mut Vec<String>) {
    found.push(path.to_owned());
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            paths(value, &format!("{path}/{}", key.replace('~', "~0").replace('/', "~1")), found);
        }),
        Value::Array(list) => {
            list.iter()
                .enumerate()
                .for_each(|(place, value)| paths(value, &format!("{path}/{place}"), found));
        }
        _ => {}
    }
}

#[test]
fn what_was_ordered_is_there() {
    assert_eq!(compared(engine()), Drift::default());
}

/// Has `try_out` do its worst to every value of every object, by the value's path; gives how many there are.
fn for_each_value(mut try_out: impl FnMut(&Value, &str, &dyn Fn(&mut Listed) -> &mut Value)) -> usize {
    let mut tried = 0;
    for (of, count) in KINDS {
        for place in 0..count {
            let object = of(&mut engine())[place].clone();
            let mut all = Vec::new();
            paths(&object, "", &mut all);
            for path in all.iter().filter(|path| !path.is_empty()) {
                try_out(&object, path, &|listed| &mut of(listed)[place]);
                tried += 1;
            }
        }
    }
    tried
}

#[test]
fn each_value_that_is_another_is_found() {
    let tried = for_each_value(|object, path, object_in| {
        let name = object["Name"].as_str().unwrap_or_default();
        let mut listed = engine();
        let value = object_in(&mut listed).pointer_mut(path).unwrap();
        *value = match &*value {
            Value::Bool(is) => Value::Bool(!is),
            Value::String(text) => Value::from(format!("{text}x")),
            Value::Array(list) => {
                json!([list.clone(), vec![json!({"Subnet": "9.0.0.0/24"})]].concat())
            }
            Value::Object(map) => {
                let mut map = map.clone();
                map.insert("Surplus".to_owned(), json!("s"));
                Value::Object(map)
            }
            _ => json!({"Surplus": "s"}),
        };
        let drift = compared(listed);
        assert_eq!(drift.differences.is_empty(), is_free(name, path), "{name} {path}: {drift:?}");
    });
    assert!(tried > 120, "{tried}");
}

#[test]
fn each_value_that_is_not_there_is_found() {
    for_each_value(|object, path, object_in| {
        let name = object["Name"].as_str().unwrap_or_default();
        let mut listed = engine();
        let (parent, key) = path.rsplit_once('/').unwrap();
        let mut removed = match object_in(&mut listed).pointer_mut(parent).unwrap() {
            Value::Object(map) => map.remove(&key.replace("~1", "/")).unwrap(),
            Value::Array(list) => list.remove(key.parse().unwrap()),
            _ => unreachable!("values are in maps and lists"),
        };
        // Where no number is said, there is none to be told.
        form::remove(&mut removed, "", NUMBERS);
        form::prune(&mut removed);
        let says_nothing = removed == Value::Null || removed == false || removed == json!({});
        let is_said = !(says_nothing
            || removed.as_str().is_some_and(|text| text.is_empty() && !path.contains("/Labels/") && !path.contains("/Options/"))
            || is_free(name, path)
            // One of the first address, and the file's only subnet, may be left to the engine.
            || path.ends_with("/Gateway")
            || name != "a_test_x_subnets" && path == "/IPAM/Config"
            || path == "/Scope" && !object["Created"].is_string());
        let drift = compared(listed);
        assert_eq!(!drift.differences.is_empty(), is_said, "{name} {path}: {drift:?}");
    });
}

#[test]
fn one_that_is_missing_or_surplus_is_named() {
    let mut listed = engine();
    listed.networks.remove(0);
    listed.volumes[0].1.remove(0);
    listed.secrets.remove(0);
    listed.configs.remove(0);
    // A volume is made with the first task.
    assert_eq!(
        compared(listed).differences,
        ["network plain: is not there", "secret plain: is not there", "config plain: is not there"]
    );
    let surplus = || {
        let mut listed = engine();
        for (of, _) in KINDS {
            let list = of(&mut listed);
            let mut other = list[0].clone();
            let spec = if other["Spec"].is_object() { &mut other["Spec"] } else { &mut other };
            spec["Name"] = json!("a_test_x_other");
            list.push(other);
        }
        listed
    };
    let named = ["network", "volume", "secret", "config"]
        .map(|kind| format!("{kind} a_test_x_other: was not ordered"));
    assert_eq!(compared(surplus()).differences, named);
    let before = [Kind::Network, Kind::Volume, Kind::Secret, Kind::Config].map(|kind| (kind, "other"));
    assert_eq!(compared_after(&before, surplus()), Drift::default());
    // A volume that the order before was to make appears when it likes; the rest is made at once.
    let late_volumes = BTreeSet::from(["a_test_x_other".to_owned()]);
    assert_eq!(
        compared(Listed { late_volumes, ..surplus() }).differences,
        ["network", "secret", "config"].map(|kind| format!("{kind} a_test_x_other: was not ordered"))
    );
    // What only looks like the stack's may be another's.
    let mut listed = surplus();
    for (of, _) in KINDS {
        let other = of(&mut listed).last_mut().unwrap();
        let spec = if other["Spec"].is_object() { &mut other["Spec"] } else { other };
        spec["Labels"] = json!({NAMESPACE: "a_test_x_other"});
    }
    assert_eq!(compared(listed), Drift::default());
}

#[test]
fn an_external_network_that_is_labelled_as_the_stacks_was_not_ordered() {
    let mut listed = engine();
    listed.networks[3]["Labels"] = json!({NAMESPACE: STACK});
    let mut given = listed.secrets[0].clone();
    given["Spec"]["Name"] = json!("a_test_x_given_v1");
    listed.secrets.push(given);
    assert_eq!(compared(listed).differences, ["network proxy: was not ordered"]);
}

#[test]
fn two_networks_of_one_name_are_a_difference() {
    let mut listed = engine();
    let mut second = listed.networks[0].clone();
    second["Labels"] = json!({});
    listed.networks.push(second);
    assert_eq!(
        compared(listed).differences,
        ["network plain: Labels is not there", "network plain: is there more than once"]
    );
}

#[test]
fn what_docker_finds_and_never_changes_is_a_remark() {
    let mut listed = engine();
    listed.networks[0]["Internal"] = json!(true);
    listed.volumes[0].1[0]["Options"] = json!({"type": "tmpfs", "device": "tmpfs"});
    listed.configs[0]["Spec"]["Data"] = json!("b3RoZXI=");
    let all = [(Kind::Network, "plain"), (Kind::Volume, "plain"), (Kind::Config, "plain")];
    let drift = compared_after(&all, listed);
    // It changes labels of configs, and refuses other data.
    assert_eq!(drift.differences, ["config plain: Data differs"]);
    let kept = "it was there before, and Docker leaves such a one as it is";
    assert_eq!(
        drift.remarks,
        [
            format!("network plain: {kept}: Internal was not ordered"),
            format!("volume plain: {kept}: Options was not ordered"),
        ]
    );
}

#[test]
fn a_plugin_of_another_name_is_a_difference() {
    let mut listed = engine();
    listed.volumes[0].1[2]["Driver"] = json!("y/nfs:latest");
    assert_eq!(compared(listed).differences, ["volume plugin: Driver is y/nfs:latest, not x/nfs"]);
}

#[test]
fn a_volume_is_compared_on_each_node_that_has_one_of_its_name() {
    let (plain, mut other) = (engine().volumes.remove(0).1, engine().volumes.remove(0).1);
    let on = |first: &Vec<Value>, second: &Vec<Value>| Listed {
        volumes: vec![(Some("m".into()), first.clone()), (Some("w".into()), second.clone())],
        ..engine()
    };
    assert_eq!(compared(on(&plain, &plain)), Drift::default());
    other[2]["Driver"] = json!("y/nfs:latest");
    let differs = "volume plugin: Driver is y/nfs:latest, not x/nfs";
    for listed in [on(&plain, &other), on(&other, &plain)] {
        assert_eq!(compared(listed).differences, [differs]);
    }
    // One that was on another node before was not there.
    for (node, is_difference) in [("m", true), ("w", false)] {
        let mut order = order(&[]);
        order.before.insert(Resource::new(Kind::Volume, format!("{STACK}_plugin")).on(node));
        let mut drift = Drift::default();
        compare(&order, on(&plain, &other), &mut drift);
        assert_eq!(drift.differences.len(), usize::from(is_difference), "{node}: {drift:?}");
    }
}

#[test]
fn newer_engines_say_more_of_a_network_and_it_is_no_difference() {
    let mut listed = engine();
    for network in &mut listed.networks {
        network["EnableIPv4"] = json!(true);
        network["Peers"] = json!([{"Name": "x", "IP": "10.0.0.1"}]);
    }
    listed.networks[2]["EnableIPv6"] = json!(true);
    assert_eq!(compared(listed), Drift::default());
    let mut listed = engine();
    listed.networks[0]["EnableIPv6"] = json!(true);
    assert_eq!(compared(listed).differences, ["network plain: EnableIPv6 was not ordered"]);
}

#[test]
fn the_first_address_of_a_subnet_is_the_gateways() {
    for (subnet, first) in [
        ("10.78.0.0/24", Some("10.78.0.1")),
        ("10.78.3.9/16", Some("10.78.0.1")),
        ("0.0.0.0/0", Some("0.0.0.1")),
        ("fd00:77::/64", Some("fd00:77::1")),
        ("255.255.255.255/32", None),
        ("10.0.0.0/33", None),
        ("10.0.0.0", None),
        ("x/8", None),
    ] {
        assert_eq!(first_address(subnet).map(|first| first.to_string()).as_deref(), first, "{subnet}");
    }
}
