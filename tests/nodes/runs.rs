//! A run on a Swarm whose nodes are named: its tasks are where their constraints say.

use cc_ci_core::names::Domain;
use cc_ci_tests::engine::{BUSYBOX, Bystanders, Node, Object, until};
use cc_ci_tests::{CcCi, Recipe};
use serde_json::Value;

use crate::support::OnNodes;

/// A recipe whose app is on the manager, and has a store with volumes on the first worker, and a helper on the second.
pub fn spread(test: &OnNodes) -> Recipe {
    let recipe = test.world.light("spread");
    compose(&recipe, "1.0.0+1");
    recipe.release("1.0.0+1");
    compose(&recipe, "1.1.0+1");
    recipe.commit();
    recipe
}

fn compose(recipe: &Recipe, version: &str) {
    let text = format!(
        r#"version: "3.8"
services:
  app:
    image: {BUSYBOX}
    command: ["sh", "-c", "echo I am here. > /srv/index.html && exec httpd -f -p 8080 -h /srv"]
    environment:
      DOMAIN: ${{DOMAIN}}
    stop_grace_period: 1s
    networks: [proxy, internal]
    volumes: ["srv:/srv"]
    deploy:
      endpoint_mode: dnsrr
      placement: {{constraints: ["node.role == manager"]}}
      labels:
        - "traefik.enable=true"
        - "traefik.docker.network=proxy"
        - "traefik.http.services.${{STACK_NAME}}.loadbalancer.server.port=8080"
        - "coop-cloud.${{STACK_NAME}}.version={version}"
        - "coop-cloud.${{STACK_NAME}}.timeout=120"
  store:
    image: {BUSYBOX}
    command: ["sh", "-c", "echo I am the store; exec sleep 1000000"]
    stop_grace_period: 1s
    networks: [internal]
    volumes: ["data:/data", "/cache"]
    secrets: [key]
    configs: [{{source: page, target: /page}}]
    deploy:
      endpoint_mode: dnsrr
      placement: {{constraints: ["node.hostname == worker-1"]}}
      labels:
        - "backupbot.backup=true"
        - "backupbot.backup.pre-hook=echo {version} > /data/hooked"
  helper:
    image: {BUSYBOX}
    command: ["sleep", "1000000"]
    stop_grace_period: 1s
    networks: [internal]
    volumes: ["/cache"]
    deploy:
      endpoint_mode: dnsrr
      placement: {{constraints: ["node.hostname == worker-2"]}}
volumes: {{srv: , data: }}
secrets:
  key:
    external: true
    name: ${{STACK_NAME}}_key_${{SECRET_KEY_VERSION}}
configs:
  page:
    name: ${{STACK_NAME}}_page_${{PAGE_VERSION}}
    file: page.tmpl
    template_driver: golang
networks:
  proxy: {{external: true}}
  internal:
"#
    );
    recipe.write("compose.yml", &text);
}

/// A call that tests pull request 1 of `recipe`, as the run `id`.
pub fn call(test: &OnNodes, recipe: &Recipe, id: &str) -> CcCi {
    test.world.abra();
    test.world.cc_ci(["run", "--format", "json", "--run-id", id, "--pr", "1"]).arg(recipe.path())
}

/// The statuses of the first tiers, by name.
pub fn status<'r>(record: &'r Value, tier: &str) -> &'r str {
    let mut tiers = record["tiers"].as_array().into_iter().flatten();
    tiers.find(|found| found["name"] == tier).and_then(|found| found["status"].as_str()).unwrap_or_default()
}

/// How many things of a kind are in `list` on `node`.
pub fn count(list: &Value, kind: &str, node: &str) -> usize {
    let is_it = |found: &&Value| found["kind"] == kind && found["node"] == node;
    list.as_array().into_iter().flatten().filter(is_it).count()
}

/// What others than this world have on each node.
pub fn bystanders(test: &OnNodes) -> Vec<Bystanders> {
    let suffix = test.world.suffix().as_str();
    let is_another = |object: &Object| !object.is_below(suffix) && object.kind != "task";
    test.nodes.all().iter().map(|node| Bystanders::look_local(node, is_another)).collect()
}

/// Somebody's container on a worker, with a volume of its name and one of none.
fn bystander(node: &Node, name: &str) {
    let volume = format!("{name}:/data");
    let run = ["run", "--detach", "--name", name, "--volume", &volume, "--volume", "/anonymous"];
    node.docker(run.iter().chain(&[BUSYBOX, "sleep", "1000000"]));
}

fn remove_bystander(node: &Node, name: &str) {
    node.docker(["rm", "--force", "--volumes", name]);
    node.docker(["volume", "rm", name]);
}

/// Asserts that who asks for the run `id` is told this.
#[track_caller]
fn assert_told(test: &OnNodes, id: &str, words: &str) {
    let told = test.world.cc_ci(["report", id]).run();
    assert!(told.stdout.contains(words), "no {words:?} in {}", told.stdout);
}

/// How many debts there are.
fn debts(test: &OnNodes) -> usize {
    std::fs::read_dir(test.world.runs().join(".debts")).map_or(0, Iterator::count)
}

#[test]
fn a_run_works_on_every_node_leaves_nothing_and_touches_nobody() {
    let Some(test) = OnNodes::new("a_run_works_on_every_node_leaves_nothing_and_touches_nobody") else {
        return;
    };
    test.configure();
    let workers = [test.nodes.worker(1), test.nodes.worker(2)];
    for worker in workers {
        bystander(worker, "loose-neighbour");
    }
    let before = bystanders(&test);
    let recipe = spread(&test);
    let record = call(&test, &recipe, "1").run().expect(0).json();
    for tier in ["install", "upgrade", "backup", "restore"] {
        assert_eq!(status(&record, tier), "passed", "{tier}: {record:#}");
    }
    let receipt = &record["receipt"];
    assert_eq!(receipt["left"], serde_json::json!([]), "{record:#}");
    assert_eq!(receipt["verified"], record["domains"], "{record:#}");
    for (kind, node, number) in [
        ("container", "worker-1", 1),
        ("container", "worker-2", 1),
        // One by name, and one without.
        ("volume", "worker-1", 2),
        ("volume", "worker-2", 1),
        ("volume", "manager", 1),
    ] {
        assert!(count(&receipt["removed"], kind, node) >= number, "{kind} on {node}: {receipt:#}");
    }
    // What it logged was read on its node.
    let logs = test.world.snapshot_of(&test.world.runs().join("1"));
    assert!(
        logs.values().any(|content| String::from_utf8_lossy(content).contains("I am the store\n")),
        "{logs:?}"
    );
    for (before, after) in before.iter().zip(bystanders(&test)) {
        assert!(!before.is_empty());
        before.assert_same(&after);
    }
    test.assert_empty();
    let audit = test.world.cc_ci(["audit", "--executor", "abra"]).run().expect(0);
    assert_eq!(audit.stdout, "nothing exists\n");
    for worker in workers {
        remove_bystander(worker, "loose-neighbour");
    }
}

#[test]
fn what_a_worker_that_died_in_a_run_has_is_owed_until_a_janitor_has_seen_it() {
    let test = "what_a_worker_that_died_in_a_run_has_is_owed_until_a_janitor_has_seen_it";
    let Some(test) = OnNodes::new(test) else { return };
    test.configure();
    let worker = test.nodes.worker(1);
    let recipe = spread(&test);
    recipe.script("tests/install-crash", &worker.words("crash")).commit();
    let record = call(&test, &recipe, "1").run().expect(3).json();
    let unseen = serde_json::json!([{"kind": "unseen_node", "name": "worker-1"}]);
    assert_eq!(record["receipt"]["left"], unseen, "{record:#}");
    assert_told(&test, "1", "not verified on worker-1");
    assert_eq!(debts(&test), 1);
    let domain: Domain = record["domain"].as_str().expect("a domain").parse().expect("a domain");
    let audit = test.world.cc_ci(["audit", "--executor", "abra", domain.as_str()]).run().expect(4);
    assert!(audit.stdout.contains("the node worker-1 can't be seen since"), "{}", audit.stdout);

    // Nobody begins anew on it, and nobody forgets a node that may come back.
    let again = call(&test, &recipe, "2").run().expect(3);
    assert!(again.stderr.contains("cc-ci janitor --forget-node worker-1"), "{}", again.stderr);
    let janitor = |more: &[&str]| test.world.cc_ci(["janitor", "--executor", "abra"]).args(more).run();
    assert!(janitor(&["--forget-node", "worker-1"]).expect(2).stderr.contains("is a node of this Swarm"));
    for _ in 0..2 {
        let told = janitor(&[]).expect(3);
        assert!(told.stdout.contains("unseen node worker-1"), "{}", told.stdout);
    }
    assert_eq!(debts(&test), 1);

    worker.start();
    test.nodes.until_state(worker, "ready");
    janitor(&[]).expect(0);
    assert_eq!(debts(&test), 0);
    test.assert_empty();
    let audit = test.world.cc_ci(["audit", "--executor", "abra"]).run().expect(0);
    assert_eq!(audit.stdout, "nothing exists\n");
    test.world.assert_empty();
}

/// Whether the run `id` takes its app down by now.
fn tears_down(test: &OnNodes, id: &str) -> bool {
    let events = std::fs::read_to_string(test.world.runs().join(id).join("events.ndjson"));
    events.is_ok_and(|events| events.contains("\"teardown\""))
}

#[test]
fn a_worker_that_dies_while_a_run_takes_its_app_down_is_owed_a_look() {
    let test = "a_worker_that_dies_while_a_run_takes_its_app_down_is_owed_a_look";
    let Some(test) = OnNodes::new(test) else { return };
    test.configure();
    let worker = test.nodes.worker(2);
    let recipe = spread(&test);
    // The teardown waits for its answers, so it is at work when the worker dies.
    recipe.script("tests/custom-pause", &worker.words("pause")).commit();
    let running = call(&test, &recipe, "1").start();
    until("the run takes its app down", || tears_down(&test, "1"));
    worker.crash();
    let ended = running.wait().expect(3);
    assert_told(&test, "1", "not verified on worker-2");
    let removed = &ended.json()["receipt"]["removed"];
    assert!(count(removed, "volume", "worker-1") >= 2, "what can be seen is gone: {removed:#}");
    assert_eq!(debts(&test), 1);
    worker.start();
    test.nodes.until_state(worker, "ready");
    test.world.cc_ci(["janitor", "--executor", "abra"]).run().expect(0);
    assert_eq!(debts(&test), 0);
    test.assert_empty();
}

#[test]
fn a_worker_that_left_for_good_is_forgotten_by_its_name() {
    let Some(test) = OnNodes::new("a_worker_that_left_for_good_is_forgotten_by_its_name") else { return };
    test.configure();
    let (manager, worker) = (test.nodes.manager(), test.nodes.worker(2));
    let recipe = spread(&test);
    recipe.script("tests/custom-crash", &worker.words("crash")).commit();
    let record = call(&test, &recipe, "1").run().expect(3).json();
    let domain = record["domain"].as_str().expect("a domain");
    manager.docker(["node", "rm", "--force", "worker-2"]);
    let janitor = |more: &[&str]| test.world.cc_ci(["janitor", "--executor", "abra"]).args(more).run();
    // That it is gone proves nothing of its disk.
    assert!(janitor(&[]).expect(3).stdout.contains("unseen node worker-2"));
    let forgotten = janitor(&["--forget-node", "worker-2"]).expect(0);
    let said = format!("{domain}: nobody looks any more for what it had on worker-2");
    assert!(forgotten.stderr.contains(&said), "{}", forgotten.stderr);
    assert_eq!(debts(&test), 0);
    let audit = test.world.cc_ci(["audit", "--executor", "abra"]).run().expect(0);
    assert_eq!(audit.stdout, "nothing exists\n");

    join_anew(&test, worker);
}

/// A node that was removed from the Swarm is there again, its disk cleared as by an operator.
fn join_anew(test: &OnNodes, worker: &Node) {
    worker.start();
    test.nodes.join(worker);
    // Its helper is there until the engine has heard of its end, and had a volume without a name.
    until("no task is left there", || worker.docker(["ps", "--all", "--quiet"]).is_empty());
    let volumes = worker.docker(["volume", "ls", "--quiet"]);
    for volume in volumes.lines() {
        worker.docker(["volume", "rm", volume]);
    }
    test.assert_empty();
}

/// The command line of the docker command on the manager, for a script that has nothing of the environment.
fn manager_does(test: &OnNodes, words: &str) -> String {
    format!("docker --host {} {words}", test.nodes.manager().host())
}

#[test]
fn a_worker_that_leaves_in_a_run_is_owed_a_look_though_the_swarm_knows_it_no_more() {
    let test = "a_worker_that_leaves_in_a_run_is_owed_a_look_though_the_swarm_knows_it_no_more";
    let Some(test) = OnNodes::new(test) else { return };
    test.configure();
    let worker = test.nodes.worker(2);
    let recipe = spread(&test);
    let leave = manager_does(&test, "node rm --force worker-2");
    recipe.script("tests/custom-leave", &format!("{}\n{leave}", worker.words("crash"))).commit();
    let record = call(&test, &recipe, "1").run().expect(3).json();
    let unseen = serde_json::json!([{"kind": "unseen_node", "name": "worker-2"}]);
    assert_eq!(record["receipt"]["left"], unseen, "{record:#}");
    assert_told(&test, "1", "not verified on worker-2");
    assert_eq!(debts(&test), 1);
    test.world.cc_ci(["janitor", "--executor", "abra", "--forget-node", "worker-2"]).run().expect(0);
    assert_eq!(debts(&test), 0);
    join_anew(&test, worker);
}

#[test]
fn what_a_worker_has_that_is_drained_in_a_run_is_removed_there() {
    let Some(test) = OnNodes::new("what_a_worker_has_that_is_drained_in_a_run_is_removed_there") else {
        return;
    };
    test.configure();
    let (manager, worker) = (test.nodes.manager(), test.nodes.worker(1));
    let recipe = spread(&test);
    let drain = manager_does(&test, "node update --availability drain worker-1");
    let on_worker = format!("docker --host {}", worker.host());
    let script = format!(
        "store=$({on_worker} ps --quiet --filter name=_store)\n{drain}\n{on_worker} wait $store || echo it is gone"
    );
    recipe.script("tests/custom-drain", &script).commit();
    let record = call(&test, &recipe, "1").run().expect(1).json();
    assert_eq!(record["receipt"]["left"], serde_json::json!([]), "{record:#}");
    assert!(count(&record["receipt"]["removed"], "volume", "worker-1") >= 2, "{record:#}");
    assert_eq!(debts(&test), 0);
    manager.docker(["node", "update", "--availability", "active", "worker-1"]);
    test.assert_empty();
}
