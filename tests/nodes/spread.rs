//! A recipe whose tasks are on three nodes by their constraints, and runs of it.

use cc_ci_tests::engine::BUSYBOX;
use cc_ci_tests::{CcCi, Recipe};
use serde_json::Value;

use crate::support::OnNodes;

/// A recipe whose app is on the manager, and has a store with volumes on the first worker, and a helper on the second.
pub fn spread(test: &OnNodes) -> Recipe {
    edited(test, |_, text| text)
}

/// The same, where `edit` makes of each version's compose file what it is to be.
pub fn edited(test: &OnNodes, edit: impl Fn(&str, String) -> String) -> Recipe {
    let recipe = test.world.light("spread");
    let write = |version: &str| recipe.write("compose.yml", &edit(version, compose(version)));
    write("1.0.0+1");
    recipe.release("1.0.0+1");
    write("1.1.0+1");
    recipe.commit();
    recipe
}

/// The same, whose store is not up in `version`: it waits for a file that nobody writes.
pub fn waiting(test: &OnNodes, version: &str) -> Recipe {
    let health = "    healthcheck: {test: [CMD, test, -e, /cache/go], interval: 1s, retries: 1000}\n";
    let store = "  store:\n";
    edited(test, |this, compose| {
        assert!(compose.contains(store));
        let soon = compose.replace("timeout=120", "timeout=45");
        if this == version { soon.replace(store, &format!("{store}{health}")) } else { soon }
    })
}

fn compose(version: &str) -> String {
    format!(
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
    )
}

/// A call that tests pull request 1 of `recipe`, as the run `id`.
pub fn call(test: &OnNodes, recipe: &Recipe, id: &str) -> CcCi {
    test.world.abra();
    test.world.cc_ci(["run", "--format", "json", "--run-id", id, "--pr", "1"]).arg(recipe.path())
}

/// The same of any pull request, which says now and then what it does.
pub fn told_call(test: &OnNodes, recipe: &Recipe, id: &str, number: u64) -> CcCi {
    test.world.abra();
    test.world.cc_ci(["run", "--run-id", id, "--pr", &number.to_string()]).arg(recipe.path())
}

/// Asserts that a run of it, `"1"`, is green in each tier, leaves nothing on any node and touches nobody there; gives its record.
#[track_caller]
pub fn is_green_and_leaves_nothing(test: &OnNodes, recipe: &Recipe) -> Value {
    let before = test.bystanders();
    let record = call(test, recipe, "1").run().expect(0).json();
    for tier in ["install", "upgrade", "backup", "restore"] {
        assert_eq!(status(&record, tier), "passed", "{tier}: {record:#}");
    }
    assert_eq!(record["receipt"]["left"], serde_json::json!([]), "{record:#}");
    assert!(count(&record["receipt"]["removed"], "volume", "worker-1") >= 2, "{record:#}");
    assert_eq!(debts(test), 0);
    for (before, after) in before.iter().zip(test.bystanders()) {
        before.assert_same(&after);
    }
    test.assert_empty();
    record
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

/// Asserts that who asks for the run `id` is told this.
#[track_caller]
pub fn assert_told(test: &OnNodes, id: &str, words: &str) {
    let told = test.world.cc_ci(["report", id]).run();
    assert!(told.stdout.contains(words), "no {words:?} in {}", told.stdout);
}

/// How many debts there are.
pub fn debts(test: &OnNodes) -> usize {
    std::fs::read_dir(test.world.runs().join(".debts")).map_or(0, Iterator::count)
}

/// Whether the run `id` takes its app down by now.
pub fn tears_down(test: &OnNodes, id: &str) -> bool {
    let events = std::fs::read_to_string(test.world.runs().join(id).join("events.ndjson"));
    events.is_ok_and(|events| events.contains("\"teardown\""))
}

/// The command line of the docker command on the manager, for a script that has nothing of the environment.
pub fn manager_does(test: &OnNodes, words: &str) -> String {
    format!("docker --host {} {words}", test.nodes.manager().host())
}
