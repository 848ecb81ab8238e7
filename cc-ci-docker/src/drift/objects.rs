//! The networks, volumes, secrets and configs themselves, against what docker/cli makes of the judged files.
//!
//! What is asked for is all that is labelled as the stack's, networks by name too, and volumes by the stack's name: a volume
//! that somebody made beforehand is used as it is. A volume that is not there yet is no difference: Swarm makes it with its
//! first task, of the service's mount, which is compared; the deployer has returned, so whatever it made itself is there. For the
//! same reason, one that the order before this one asked for may appear only now.
//!
//! Docker changes neither a network nor a volume that it finds. One that was there before the order and is not as it says
//! is a remark: an earlier order, which was judged as well, has made it.
//!
//! # Limitations
//! The data of a secret can't be read. A subnet that the files leave to the engine, and the numbers of an overlay, are
//! anybody's choice. Objects that are external are not looked at, but for whether a network is labelled as the stack's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use cc_ci_core::engine::{Drift, Kind, Order, Resource};
use cc_ci_core::recipe::Object;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::form::{self, change, remove, texts};
use super::ordered::{self, of_stack};
use crate::sanitize;
use crate::snapshot::NAMESPACE;

/// Where Swarm notes which numbers it gave an overlay.
pub(super) const NUMBERS: &str = "com.docker.network.driver.overlay.vxlanid_list";

/// What the engine lists, by kind.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub networks: Vec<Value>,
    /// By the node that has them, where there are several.
    pub volumes: Vec<(Option<Arc<str>>, Vec<Value>)>,
    pub secrets: Vec<Value>,
    pub configs: Vec<Value>,
    /// The names of volumes that may be the order's before this one, and appear when they like.
    pub late_volumes: BTreeSet<String>,
}

/// An object as it was ordered.
struct Wanted<'a> {
    key: &'a str,
    spec: Value,
    /// Whether it is there once the order is done.
    is_made: bool,
}

pub(super) fn compare(order: &Order, listed: Listed, drift: &mut Drift) {
    let compose = &order.compose;
    let used: BTreeSet<&String> = compose.services.values().flat_map(|service| &service.networks).collect();
    let specs = |objects: Vec<Value>| objects.into_iter().map(|mut object| object["Spec"].take()).collect();
    // Docker makes those networks alone that a service is in.
    let mut before = order.before.clone();
    before.extend(listed.late_volumes.into_iter().map(|name| Resource::new(Kind::Volume, name)));
    let before = &before;
    kind(order, before, Kind::Network, &compose.networks, listed.networks, drift, |key, object| {
        (network(order, object), used.contains(key))
    });
    for (node, volumes) in listed.volumes {
        // What was on this node, or nobody said where.
        let here =
            before.iter().filter(|thing| thing.node.is_none() || thing.node.as_deref() == node.as_deref());
        let here = here.map(|thing| Resource::new(thing.kind, &thing.name)).collect();
        kind(order, &here, Kind::Volume, &compose.volumes, volumes, drift, |_, object| {
            (volume(order, object), false)
        });
    }
    kind(order, before, Kind::Secret, &compose.secrets, specs(listed.secrets), drift, |_, object| {
        (file(order, object), true)
    });
    kind(order, before, Kind::Config, &compose.configs, specs(listed.configs), drift, |_, object| {
        let mut config = file(order, object);
        let digest = object.file.as_ref().and_then(|file| order.config_files.get(file));
        config["Data"] = digest.map(|digest| hexadecimal(digest)).into();
        (config, true)
    });
}

/// Compares what is there of one kind.
fn kind<'a>(
    order: &Order,
    before: &BTreeSet<Resource>,
    kind: Kind,
    declared: &'a BTreeMap<String, Object>,
    there: Vec<Value>,
    drift: &mut Drift,
    spec: impl Fn(&String, &Object) -> (Value, bool),
) {
    let mut wanted: BTreeMap<&str, Wanted<'a>> = BTreeMap::new();
    for (key, object) in declared.iter().filter(|(_, object)| !object.external) {
        let (spec, is_made) = spec(key, object);
        wanted.insert(&object.name, Wanted { key, spec, is_made });
    }
    let mut found = BTreeSet::new();
    for mut object in there {
        let name = object["Name"].as_str().unwrap_or_default().to_owned();
        let was_there = before.contains(&Resource::new(kind, &name));
        let Some(Wanted { key, spec, .. }) = wanted.get(name.as_str()) else {
            let is_labelled = object["Labels"][NAMESPACE].as_str() == Some(order.compose.stack.as_str());
            // A deployer may label what it made before, as secrets. A network of the operator's is not the stack's.
            let is_given = kind != Kind::Network && declared.values().any(|object| object.name == name);
            if is_labelled && !was_there && !is_given {
                drift.differences.push(format!("{kind} {}: was not ordered", sanitize::written(&name)));
            }
            continue;
        };
        let mut spec = spec.clone();
        match kind {
            Kind::Network => normalise_network(&mut spec, &mut object),
            Kind::Volume => normalise_volume(&spec, &mut object),
            Kind::Config => {
                // One without data has none in the answer.
                let data = STANDARD.decode(object["Data"].as_str().unwrap_or_default());
                object["Data"] =
                    data.map(|data| hexadecimal(&Sha256::digest(data))).unwrap_or_default().into();
            }
            _ => {}
        }
        for of in ["/Labels", "/Options", "/Driver/Options", "/Templating/Options"] {
            change(&mut object, of, texts);
        }
        form::prune(&mut spec);
        form::prune(&mut object);
        let mut differences = Vec::new();
        super::differ(&mut Vec::new(), &spec, &object, &mut differences);
        if !found.insert(name) {
            differences.push("is there more than once".to_owned());
        }
        let is_kept = was_there && matches!(kind, Kind::Network | Kind::Volume);
        for what in differences {
            if is_kept {
                drift.remarks.push(format!(
                    "{kind} {key}: it was there before, and Docker leaves such a one as it is: {what}"
                ));
            } else {
                drift.differences.push(format!("{kind} {key}: {what}"));
            }
        }
    }
    let missing = wanted.into_iter().filter(|(name, wanted)| wanted.is_made && !found.contains(*name));
    drift.differences.extend(missing.map(|(_, wanted)| format!("{kind} {}: is not there", wanted.key)));
}

fn network(order: &Order, object: &Object) -> Value {
    let message = |key: &str| object.network.get(key).cloned().unwrap_or_default();
    let ipam = message("ipam");
    let subnets = ipam["config"].as_array().into_iter().flatten();
    let subnets = subnets.filter_map(|config| config["subnet"].as_str());
    let subnets: Map<String, Value> =
        subnets.map(|subnet| (subnet.to_owned(), json!({"Subnet": subnet}))).collect();
    json!({
        "Name": object.name,
        "Scope": "swarm",
        "Driver": or(object.driver.as_deref(), "overlay"),
        "Attachable": message("attachable"),
        "Internal": message("internal"),
        "Labels": of_stack(&order.compose.stack, object),
        "Options": ordered::texts(&object.driver_opts),
        "IPAM": {"Driver": or(ipam["driver"].as_str(), "default"), "Config": subnets},
    })
}

fn volume(order: &Order, object: &Object) -> Value {
    json!({
        "Name": object.name,
        "Driver": or(object.driver.as_deref(), "local"),
        "Labels": of_stack(&order.compose.stack, object),
        "Options": ordered::texts(&object.driver_opts),
    })
}

/// A secret or a config.
fn file(order: &Order, object: &Object) -> Value {
    json!({
        "Name": object.name,
        "Labels": of_stack(&order.compose.stack, object),
        "Driver": {"Name": object.driver, "Options": ordered::texts(&object.driver_opts)},
        "Templating": {"Name": object.template_driver},
    })
}

/// What is said, unless that is nothing.
fn or<'a>(message: Option<&'a str>, default: &'a str) -> &'a str {
    message.filter(|message| !message.is_empty()).unwrap_or(default)
}

fn normalise_network(wanted: &mut Value, there: &mut Value) {
    for made in ["Id", "Created", "Containers", "Peers", "Services", "Status"] {
        remove(there, "", made);
    }
    // What newer engines say of each.
    if there["EnableIPv4"] == true {
        remove(there, "", "EnableIPv4");
    }
    let ordered = wanted["IPAM"]["Config"].as_object().cloned().unwrap_or_default();
    if there["EnableIPv6"] == true && ordered.keys().any(|subnet| subnet.contains(':')) {
        remove(there, "", "EnableIPv6");
    }
    if wanted["Options"].get(NUMBERS).is_none() {
        remove(there, "/Options", NUMBERS);
    }
    let configs = there["IPAM"]["Config"].as_array().cloned().unwrap_or_default();
    if ordered.is_empty() && configs.len() <= 1 {
        remove(there, "/IPAM", "Config");
        return;
    }
    change(there, "/IPAM/Config", |configs| {
        form::keyed(configs, |mut config| {
            let subnet = config["Subnet"].as_str().unwrap_or_default().to_owned();
            // It takes the first address itself.
            if first_address(&subnet).is_some_and(|first| config["Gateway"] == first.to_string()) {
                remove(&mut config, "", "Gateway");
            }
            (subnet, config)
        })
    });
}

/// The first address of a subnet that hosts may have.
pub(super) fn first_address(subnet: &str) -> Option<IpAddr> {
    let (address, length) = subnet.split_once('/')?;
    let length: u32 = length.parse().ok()?;
    Some(match address.parse().ok()? {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.checked_sub(length)?).unwrap_or(0);
            IpAddr::V4(((u32::from(address) & mask).checked_add(1)?).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.checked_sub(length)?).unwrap_or(0);
            IpAddr::V6(((u128::from(address) & mask).checked_add(1)?).into())
        }
    })
}

fn normalise_volume(wanted: &Value, there: &mut Value) {
    for made in ["CreatedAt", "Mountpoint", "Status", "UsageData"] {
        remove(there, "", made);
    }
    // It says where the driver keeps volumes.
    if there["Scope"] == "local" || there["Driver"] != "local" {
        remove(there, "", "Scope");
    }
    // A plugin has a tag, said or not.
    let driver = there["Driver"].as_str().and_then(|driver| driver.strip_suffix(":latest"));
    if driver.is_some_and(|driver| wanted["Driver"] == driver) {
        there["Driver"] = wanted["Driver"].clone();
    }
}

fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
