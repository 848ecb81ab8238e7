//! Whether a task is of its service's current specification.
//!
//! Tasks carry no version of it, but a copy of the template that they were made from. Swarm replaces a task whose
//! copy differs from the template, with two exceptions, measured on a real engine: the API names the runtime in a
//! service's template and not in a task's, and a task that already runs where a changed placement would put it is
//! left alone, with the old placement in its copy.
//!
//! # Limitations
//! What [`TaskSpec`] does not hold is not compared, and is in no digest. Published ports are no part of a task's
//! specification at all. For the moment between such a change and Swarm's own update status, see
//! [`UNDECIDED`](super::verdict::UNDECIDED).

use bollard::models::{ServiceSpec, Task, TaskSpec};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Whether Swarm leaves a task made from `copy` alone now that the service says `template`.
pub(super) fn is_current(template: &TaskSpec, copy: &TaskSpec) -> bool {
    // Named one by one, so that a field that the API gains can't be forgotten.
    let TaskSpec {
        plugin_spec,
        container_spec,
        network_attachment_spec,
        resources,
        restart_policy,
        placement: _,
        force_update,
        runtime: _,
        networks,
        log_driver,
    } = template;
    (plugin_spec, container_spec, network_attachment_spec)
        == (&copy.plugin_spec, &copy.container_spec, &copy.network_attachment_spec)
        && (resources, restart_policy, networks) == (&copy.resources, &copy.restart_policy, &copy.networks)
        && (force_update, log_driver) == (&copy.force_update, &copy.log_driver)
}

/// The lists of a service's specification whose order means nothing.
const UNORDERED: [&str; 7] = [
    "/EndpointSpec/Ports",
    "/TaskTemplate/ContainerSpec/Configs",
    "/TaskTemplate/ContainerSpec/Env",
    "/TaskTemplate/ContainerSpec/Mounts",
    "/TaskTemplate/ContainerSpec/Secrets",
    "/TaskTemplate/Networks",
    "/TaskTemplate/Placement/Constraints",
];

/// A digest of a service: its tasks' template, how many there are, how it is reached and updated, its labels. What a tag
/// of an image stood for at the time, how often somebody forced an update, and what abra notes in labels of its own takes
/// no part in it.
pub(super) fn digest(service: &ServiceSpec) -> String {
    // An error is impossible: every key is a string.
    let mut service = serde_json::to_value(service).unwrap_or_default();
    if let Some(Value::Object(template)) = service.pointer_mut("/TaskTemplate") {
        template.remove("ForceUpdate");
    }
    if let Some(Value::Object(labels)) = service.pointer_mut("/Labels") {
        labels.retain(|name, _| !name.starts_with("coop-cloud."));
    }
    if let Some(Value::String(image)) = service.pointer_mut("/TaskTemplate/ContainerSpec/Image")
        && let Some(digest) = image.find("@sha256:").filter(|at| has_tag(&image[..*at]))
    {
        image.truncate(digest);
    }
    // Labels have no order, and neither have these lists: whoever deploys the same again may give them in another one.
    service.sort_all_objects();
    for list in UNORDERED {
        if let Some(Value::Array(elements)) = service.pointer_mut(list) {
            elements.sort_by_cached_key(Value::to_string);
        }
    }
    let digest = Sha256::digest(service.to_string());
    digest.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// Without one, a digest is all that tells two images apart. A colon before the last slash is a port's.
fn has_tag(image: &str) -> bool {
    image.rsplit('/').next().is_some_and(|name| name.contains(':'))
}

/// Whether a task of a job is of the job's current run: a job that is run again may have the same template.
pub(super) fn is_of_iteration(iteration: Option<u64>, task: &Task) -> bool {
    iteration == task.job_iteration.as_ref().and_then(|version| version.index)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// As Engine 20.10 gives them for one service.
    fn template() -> Value {
        json!({
            "ContainerSpec": {
                "Image": "bb:1",
                "Labels": {"com.docker.stack.namespace": "a_test_x"},
                "Args": ["sleep", "5000"],
                "Env": ["A=1"],
                "Privileges": {"CredentialSpec": null, "SELinuxContext": null},
                "Mounts": [{
                    "Type": "volume", "Source": "a_test_x_data", "Target": "/data",
                    "VolumeOptions": {"Labels": {"com.docker.stack.namespace": "a_test_x"}}
                }],
                "HealthCheck": {"Test": ["CMD", "true"], "Interval": 1_000_000_000},
                "Isolation": "default"
            },
            "Resources": {},
            "Placement": {},
            "Networks": [{"Target": "aslpgbxfsrv1m5ito42k0sche", "Aliases": ["app"]}],
            "ForceUpdate": 0,
            "Runtime": "container"
        })
    }

    fn copy() -> Value {
        let mut copy = template();
        copy.as_object_mut().unwrap().remove("Runtime");
        copy
    }

    fn compare(template: Value, copy: Value) -> bool {
        is_current(&serde_json::from_value(template).unwrap(), &serde_json::from_value(copy).unwrap())
    }

    #[test]
    fn what_the_engine_gives_for_one_service_is_the_same() {
        assert!(compare(template(), copy()));
    }

    #[test]
    fn a_task_that_stays_although_the_placement_changed_is_current() {
        let mut changed = template();
        changed["Placement"] = json!({"Constraints": ["node.role == manager"]});
        assert!(compare(changed, copy()));
    }

    #[test]
    fn whatever_else_differs_makes_a_new_task() {
        for (path, value) in [
            ("/ContainerSpec/Image", json!("bb:2")),
            ("/ContainerSpec/Args", json!(["sleep", "5001"])),
            ("/ContainerSpec/Env", json!(["A=2"])),
            ("/ContainerSpec/Labels", json!({})),
            ("/ContainerSpec/HealthCheck/Test", json!(["NONE"])),
            ("/ContainerSpec/Mounts/0/Target", json!("/other")),
            ("/Resources", json!({"Limits": {"NanoCPUs": 1_000_000}})),
            ("/Networks", json!([{"Target": "another", "Aliases": ["app"]}])),
            ("/ForceUpdate", json!(1)),
        ] {
            let mut changed = template();
            *changed.pointer_mut(path).unwrap() = value;
            assert!(!compare(changed, copy()), "{path}");
        }
        for (name, value) in [
            ("RestartPolicy", json!({"Condition": "none", "MaxAttempts": 0})),
            ("LogDriver", json!({"Name": "none"})),
        ] {
            let mut changed = template();
            changed.as_object_mut().unwrap().insert(name.to_owned(), value);
            assert!(!compare(changed, copy()), "{name}");
        }
    }

    #[test]
    fn a_digest_tells_what_a_service_is_made_of_and_nothing_else() {
        let of = |path: &str, value: Value| {
            let mut changed = json!({
                "Name": "a_test_x_app",
                "Labels": {"traefik.enable": "true", "coop-cloud.a_test_x.version": "1.0.0+1"},
                "TaskTemplate": template(),
                "Mode": {"Replicated": {"Replicas": 1}},
                "EndpointSpec": {"Mode": "vip"}
            });
            changed["TaskTemplate"]["ContainerSpec"]["Labels"] =
                (0..20).map(|i| (format!("l{i}"), json!("x"))).collect();
            if !path.is_empty() {
                *changed.pointer_mut(path).unwrap() = value;
            }
            digest(&serde_json::from_value(changed).unwrap())
        };
        let same = of("", json!(null));
        assert_eq!(same.len(), 64);
        for (path, value) in [
            ("", json!(null)),
            ("/TaskTemplate/ForceUpdate", json!(7)),
            ("/TaskTemplate/ContainerSpec/Image", json!("bb:1@sha256:0123")),
            ("/Labels/coop-cloud.a_test_x.version", json!("2.0.0+1")),
        ] {
            assert_eq!(of(path, value), same, "{path}");
        }
        for (path, value) in [
            ("/TaskTemplate/ContainerSpec/Image", json!("bb:2@sha256:0123")),
            ("/TaskTemplate/ContainerSpec/Image", json!("bb@sha256:0123")),
            ("/TaskTemplate/ContainerSpec/Env", json!(["A=2"])),
            ("/TaskTemplate/ContainerSpec/Labels", json!({})),
            ("/TaskTemplate/Networks", json!([{"Target": "another", "Aliases": ["app"]}])),
            ("/Labels/traefik.enable", json!("false")),
            ("/Mode/Replicated/Replicas", json!(2)),
            ("/Mode", json!({"Global": {}})),
            ("/EndpointSpec/Mode", json!("dnsrr")),
        ] {
            assert_ne!(of(path, value), same, "{path}");
        }
        for image in ["bb", "localhost:5000/bb"] {
            let of_digest = |digest: &str| {
                of("/TaskTemplate/ContainerSpec/Image", json!(format!("{image}@sha256:{digest}")))
            };
            assert_ne!(of_digest("0123"), of_digest("4567"));
        }
    }

    #[test]
    fn a_digest_knows_which_lists_have_an_order() {
        let of = |path: &str, list: &[&str]| {
            let elements: Value = match path {
                "/TaskTemplate/Placement/Constraints"
                | "/TaskTemplate/ContainerSpec/Env"
                | "/TaskTemplate/ContainerSpec/Args" => json!(list),
                "/TaskTemplate/ContainerSpec/Mounts" => {
                    list.iter().map(|x| json!({"Source": x, "Target": x})).collect()
                }
                "/EndpointSpec/Ports" => list.iter().map(|x| json!({"PublishedPort": x.len()})).collect(),
                "/TaskTemplate/ContainerSpec/Configs" => {
                    list.iter().map(|x| json!({"ConfigName": x})).collect()
                }
                "/TaskTemplate/ContainerSpec/Secrets" => {
                    list.iter().map(|x| json!({"SecretName": x})).collect()
                }
                _ => list.iter().map(|x| json!({"Target": x})).collect(),
            };
            let mut service = json!({
                "TaskTemplate": {"ContainerSpec": {"Image": "bb:1"}, "Placement": {}}, "EndpointSpec": {}
            });
            let (parent, name) = path.rsplit_once('/').unwrap();
            service.pointer_mut(parent).unwrap()[name] = elements;
            digest(&serde_json::from_value(service).unwrap())
        };
        for path in UNORDERED {
            assert_eq!(of(path, &["a", "bb"]), of(path, &["bb", "a"]), "{path}");
            assert_ne!(of(path, &["a", "bb"]), of(path, &["a", "ccc"]), "{path}");
        }
        let args = "/TaskTemplate/ContainerSpec/Args";
        assert_ne!(of(args, &["a", "bb"]), of(args, &["bb", "a"]));
    }

    #[test]
    fn a_job_that_is_run_again_has_other_tasks() {
        let task = |index| serde_json::from_value::<Task>(json!({"JobIteration": {"Index": index}})).unwrap();
        assert!(is_of_iteration(Some(2), &task(2)));
        assert!(!is_of_iteration(Some(2), &task(1)));
        assert!(!is_of_iteration(Some(2), &Task::default()));
    }
}
