use serde_json::json;

use super::{KEYS, KNOWN, asked};
use crate::recipe::compose::schema;
use crate::recipe::compose::tests::compose;

fn asked_of(text: &str) -> Vec<String> {
    let text = text.replace("SERVICE", "image: a");
    let compose = compose(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let privileges = compose.privileges;
    assert!(
        privileges.iter().all(|privilege| KEYS.contains(&privilege.key)),
        "{privileges:?} can't be granted"
    );
    privileges.iter().map(ToString::to_string).collect()
}

#[test]
fn what_reaches_beyond_the_app_is_asked_for() {
    for (service, expected) in [
        ("cap_add: [ALL, cap_net_admin]", &["cap_add=ALL", "cap_add=NET_ADMIN"][..]),
        ("privileged: true", &["privileged=true"]),
        ("devices: ['/dev/sda:/dev/sda']", &["devices=/dev/sda:/dev/sda"]),
        ("network_mode: host", &["network_mode=host"]),
        ("pid: host, ipc: host", &["pid=host", "ipc=host"]),
        ("security_opt: ['apparmor:unconfined']", &["security_opt=apparmor:unconfined"]),
        ("sysctls: {net.ipv4.ip_forward: 1}", &["sysctls=net.ipv4.ip_forward=1"]),
        ("sysctls: [net.ipv4.ip_forward=1]", &["sysctls=net.ipv4.ip_forward=1"]),
        ("ulimits: {nofile: 1048577, nproc: 10}", &["ulimit=nofile", "ulimit=nproc"]),
        ("ulimits: {nofile: {soft: 1, hard: 2000000}}", &["ulimit=nofile"]),
        ("logging: {driver: syslog, options: {a: b}}", &["logging=syslog"]),
        ("credential_spec: {file: x}", &["credential_spec=file=x"]),
        (
            "volumes: [{type: bind, source: /, target: /h, bind: {propagation: rshared}}]",
            &["propagation=rshared"],
        ),
        ("volumes: [{type: tmpfs, target: /t, tmpfs: {size: 999999999999}}]", &["tmpfs=999999999999"]),
        ("tmpfs: ['/t:size=2g']", &["tmpfs=/t:size=2g"]),
        ("tmpfs: /t:size=x", &["tmpfs=/t:size=x"]),
        ("volumes: [{type: tmpfs, target: /t}]", &["tmpfs=without a size"]),
        ("volumes: [{type: tmpfs, target: /t, tmpfs: {size: 1000}}]", &[]),
        ("logging: {driver: local, options: {max-size: 10g}}", &["log=max-size:10g"]),
        ("logging: {options: {max-size: '-1'}}", &["log=max-size:-1"]),
        ("oom_score_adj: -1000", &["oom_score_adj=-1000"]),
        (
            "deploy: {resources: {reservations: {cpus: '1.5', memory: 2G}}}",
            &["reservations=cpus:1.5", "reservations=memory:2G"],
        ),
        ("deploy: {resources: {reservations: {cpus: '1', memory: 512M}}}", &[]),
        ("deploy: {replicas: 17}", &["replicas=17"]),
        ("stop_grace_period: 1000h", &["stop_grace_period=1000h"]),
        ("volumes: ['/srv:/srv:ro,rshared']", &["propagation=rshared"]),
        ("tmpfs: ['/t:size=0', '/u:nr_blocks=1']", &["tmpfs=/t:size=0", "tmpfs=/u:nr_blocks=1"]),
        (
            "labels: [com.centurylinklabs.watchtower.enable=true]",
            &["label=com.centurylinklabs.watchtower.enable"],
        ),
        ("privileged: '${NO:-off}'", &[]),
        ("networks: {default: {driver_opts: {a: b}}}", &["network.driver_opts=default:a"]),
        ("deploy: {rollback_config: {monitor: 1000h}}", &["update=monitor:1000h"]),
        (
            "deploy: {resources: {reservations: {generic_resources: [{discrete_resource_spec: {kind: gpu, value: 1}}]}}}",
            &["generic_resources=any"],
        ),
        (
            "deploy: {update_config: {delay: 1000h, monitor: 11m}}",
            &["update=delay:1000h", "update=monitor:11m"],
        ),
        ("deploy: {labels: [swarm.cronjob.enable=true]}", &["label=swarm.cronjob.enable"]),
        ("deploy: {labels: {shepherd.enable: 'true'}}", &["label=shepherd.enable"]),
        ("deploy: {labels: [coop-cloud.backupbot.enabled=true]}", &["label=coop-cloud.backupbot.enabled"]),
    ] {
        let text = format!("{{version: '3.13', services: {{app: {{SERVICE, {service}}}}}}}");
        assert_eq!(asked_of(&text), expected, "{service}");
    }
    for (top, expected) in [
        (
            "networks: {n: {driver: macvlan, driver_opts: {parent: eth0}}}",
            &["network.driver=macvlan", "network.driver_opts=parent"][..],
        ),
        (
            "networks: {n: {ipam: {driver: x, config: [{subnet: 10.0.0.0/8}]}}}",
            &["network.ipam=x", "network.subnet=10.0.0.0/8"],
        ),
        ("volumes: {v: {driver_opts: {type: tmpfs, device: tmpfs, o: 'size=900g'}}}", &["tmpfs=size=900g"]),
        ("secrets: {s: {driver: vault}}", &["secret.driver=vault"]),
        ("volumes: {v: {driver_opts: {type: tmpfs, device: tmpfs}}}", &["tmpfs=without a size"]),
        ("volumes: {v: {driver_opts: {type: tmpfs, device: tmpfs, o: 'size=64m'}}}", &[]),
    ] {
        let text = format!("{{version: '3.13', services: {{app: {{SERVICE}}}}, {top}}}");
        assert_eq!(asked_of(&text), expected, "{top}");
    }
}

#[test]
fn what_is_the_apps_own_affair_is_not() {
    let text = "{version: '3.8', x-a: {cap_add: [ALL]}, services: {app: {SERVICE, cap_drop: [ALL], init: true, \
                privileged: false, extra_hosts: ['a:1.2.3.4'], ulimits: {nofile: {soft: 65536, hard: 65536}}, \
                logging: {driver: json-file, options: {max-size: 10m}}, tmpfs: ['/t', '/u:size=64m'], \
                stop_grace_period: 2m, dns: 1.1.1.1, hostname: a, user: '1', x-b: {pid: host}, \
                deploy: {replicas: 3, labels: [traefik.enable=true, coop-cloud.st_ack.version=1, backupbot.backup=true], \
                update_config: {delay: 10s}, resources: {limits: {memory: 1G}}}}}, \
                networks: {n: {driver: overlay, attachable: true, internal: true, driver_opts: {encrypted: ''}}}, \
                volumes: {v: {driver: local}}}";
    assert_eq!(asked_of(text), [""; 0]);
}

#[test]
fn a_long_value_is_told_by_its_digest_and_not_by_its_start() {
    let profile = |end: &str| {
        asked_of(&format!(
            "{{version: '3.8', services: {{app: {{SERVICE, security_opt: ['{}{end}']}}}}}}",
            "x".repeat(300)
        ))
    };
    let (one, other) = (profile("a"), profile("b"));
    assert_ne!(one, other);
    assert!(one[0].len() < 200 && one[0].contains("... sha256:"), "{one:?}");
    assert_eq!(asked_of("{version: '3.8', services: {app: {SERVICE, pid: \"a\\nb\"}}}"), ["pid=a\\nb"]);
}

#[test]
fn every_key_is_one_that_can_be_granted() {
    assert!(KEYS.is_sorted());
    assert!(KNOWN.iter().all(|key| KEYS.contains(key)));
}

#[test]
fn every_key_that_docker_takes_is_judged_by_name() {
    for (key, _) in schema::SERVICE {
        let asked = asked(&json!({"services": {"app": {*key: "1s"}}}), "st_ack");
        assert!(asked.iter().all(|privilege| privilege.key != "key"), "{key} is in no table");
    }
    // One that comes with another version of Docker's asks for itself.
    let asked = asked(&json!({"services": {"app": {"gpus": "all"}}}), "st_ack");
    assert_eq!(asked.iter().map(ToString::to_string).collect::<Vec<_>>(), ["key=gpus"]);
}

#[test]
fn only_a_boolean_says_no() {
    for (service, expected) in [
        ("privileged: false", &[][..]),
        ("pid: 'off'", &["pid=off"]),
        ("network_mode: 'no'", &["network_mode=no"]),
    ] {
        assert_eq!(
            asked_of(&format!("{{version: '3.8', services: {{app: {{SERVICE, {service}}}}}}}")),
            expected
        );
    }
}
