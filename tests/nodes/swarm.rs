//! The private Swarm itself: what its nodes are to each other.

use cc_ci_tests::engine::{BUSYBOX, Node, Nodes, until};

/// A stack of one service that runs on each node, and has a volume.
pub const EVERYWHERE: &str = r#"version: "3.8"
services:
  app:
    image: cc-ci-test/busybox:1
    command: ["httpd", "-f", "-p", "80", "-h", "/data"]
    stop_grace_period: 1s
    volumes: ["data:/data"]
    networks: [internal]
    deploy:
      mode: global
      endpoint_mode: dnsrr
volumes:
  data:
networks:
  internal:
"#;

/// The names of the containers of a stack on a node.
pub fn containers(node: &Node, stack: &str) -> Vec<String> {
    named(node, "container", stack)
}

/// The names of the volumes of a stack on a node.
pub fn volumes(node: &Node, stack: &str) -> Vec<String> {
    named(node, "volume", stack)
}

fn named(node: &Node, kind: &str, stack: &str) -> Vec<String> {
    let ours = node.local_objects().into_iter().filter(|found| found.stack.as_deref() == Some(stack));
    ours.filter(|found| found.kind == kind).map(|found| found.name).collect()
}

/// Removes a stack as its owner would, and what that leaves on the nodes.
pub fn remove(nodes: &Nodes, stack: &str) {
    nodes.manager().docker(["stack", "rm", stack]);
    for node in nodes.all() {
        until("its containers are gone", || containers(node, stack).is_empty());
        for volume in volumes(node, stack) {
            node.docker(["volume", "rm", &volume]);
        }
    }
}

#[test]
fn each_node_runs_tasks_and_has_volumes_of_its_own_that_stay() {
    let Some(nodes) = Nodes::shared("each_node_runs_tasks_and_has_volumes_of_its_own_that_stay") else {
        return;
    };
    let manager = nodes.manager();
    assert_eq!(
        manager.docker(["node", "ls", "--format", "{{.Status}} {{.Availability}}"]),
        ["Ready Active"; 3].join("\n")
    );
    manager.deploy("everywhere", EVERYWHERE);
    until("it runs on each", || manager.running("everywhere_app") == 3);
    for node in nodes.all() {
        assert_eq!(containers(node, "everywhere").len(), 1, "{}", node.name());
        assert_eq!(volumes(node, "everywhere"), ["everywhere_data"], "{}", node.name());
        // Of the Swarm, a worker knows nothing.
        assert_eq!(node.try_docker(["service", "ls"]).code == 0, node.name() == "manager");
    }
    manager.docker(["stack", "rm", "everywhere"]);
    for node in nodes.all() {
        until("its container is gone", || containers(node, "everywhere").is_empty());
        assert_eq!(volumes(node, "everywhere"), ["everywhere_data"], "no Swarm removes volumes");
    }
    remove(&nodes, "everywhere");
}

#[test]
fn tasks_reach_each_other_over_the_nodes() {
    let Some(nodes) = Nodes::shared("tasks_reach_each_other_over_the_nodes") else { return };
    let manager = nodes.manager();
    manager.deploy("everywhere", EVERYWHERE);
    until("it runs on each", || manager.running("everywhere_app") == 3);
    for node in nodes.all() {
        let container = &containers(node, "everywhere")[0];
        node.docker(["exec", container, "sh", "-c", "hostname > /data/name"]);
    }
    let container = &containers(manager, "everywhere")[0];
    // Debian's static busybox crashes where wget is given a time.
    let asked = "for address in $(nslookup tasks.app 2>/dev/null | sed -n 's/^Address.*: *\\(10[.0-9]*\\).*/\\1/p'); do \
                 wget -qO- http://$address/name; done | sort -u | wc -l";
    until("each answers", || manager.docker(["exec", container, "sh", "-c", asked]).trim() == "3");
    remove(&nodes, "everywhere");
}

#[test]
fn a_daemon_is_used_over_the_network_by_whoever_shows_a_certificate() {
    let Some(nodes) = Nodes::shared("a_daemon_is_used_over_the_network_by_whoever_shows_a_certificate")
    else {
        return;
    };
    for node in nodes.all() {
        let [ca, certificate, key] = node.certificates().map(|path| path.display().to_string());
        let host = format!("tcp://{}", node.address());
        // The later host counts, for the client.
        let ask = |shown: &[&str]| {
            let verified = ["--host", &host, "--tlsverify", "--tlscacert", &ca];
            let name = ["info", "--format", "{{.Name}}"];
            let mut command = std::process::Command::new("docker");
            command
                .args(verified)
                .args(shown)
                .args(name)
                .env_remove("DOCKER_HOST")
                .output()
                .expect("docker starts")
        };
        let let_in = ask(&["--tlscert", &certificate, "--tlskey", &key]);
        assert_eq!(String::from_utf8_lossy(&let_in.stdout).trim(), node.name());
        assert!(!ask(&[]).status.success(), "{} lets anybody in", node.name());
    }
}

#[test]
fn a_private_swarm_has_images_and_nobody_elses_engine() {
    let Some(nodes) = Nodes::shared("a_private_swarm_has_images_and_nobody_elses_engine") else { return };
    for node in nodes.all() {
        assert!(node.docker(["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]).contains(BUSYBOX));
        assert_eq!(
            node.docker(["info", "--format", "{{.Name}} {{.Swarm.Nodes}}"]).split(' ').next(),
            Some(node.name())
        );
    }
}
