//! Whose names an app may have in networks that it shares with others.

use super::*;

#[test]
fn an_alias_in_a_shared_network_is_the_stacks_own() {
    let tree = Tree::new(&[
        (".env.sample", ""),
        (
            "compose.yml",
            "services:
  app:
    image: a:1
    networks:
      proxy: {aliases: [socket-proxy, '${STACK_NAME}_web']}
      own: {aliases: [db]}
networks: {proxy: {external: true}, own: }",
        ),
    ]);
    let found = found(&tree.recipe(), &SHARED_NETWORKS, None);
    assert_starts(&found.problems, &["service app: its alias socket-proxy in the network proxy"]);
    assert_starts(&found.warnings, &[]);
}

#[test]
fn a_service_in_a_shared_network_is_no_host_and_no_other_stacks_service() {
    let tree = Tree::new(&[
        (".env.sample", ""),
        (
            "compose.yml",
            "services:
  app: {image: 'a:1', networks: [proxy, own]}
  celery_worker: {image: 'a:1', networks: [proxy]}
  sso.example.net: {image: 'a:1', networks: [proxy]}
  sso_example_net_app: {image: 'a:1', networks: [own, proxy]}
  Example_ORG_app: {image: 'a:1', networks: [proxy]}
  sso_example_net_php8.1: {image: 'a:1', networks: [proxy]}
  host.: {image: 'a:1', networks: [proxy]}
  sso.example.net.: {image: 'a:1', networks: [proxy]}
  celery_beat_worker: {image: 'a:1', networks: [proxy]}
  shop_COOP_app: {image: 'a:1', networks: [proxy]}
  blog_de_app: {image: 'a:1', networks: [proxy]}
  blog_de: {image: 'a:1', networks: [proxy]}
  celery_beat_example_org: {image: 'a:1', networks: [own]}
  php8.1: {image: 'a:1', networks: [proxy]}
  worker_1_2_3: {image: 'a:1', networks: [proxy]}
  a__example_org_app: {image: 'a:1', networks: [proxy]}
  db.example.net: {image: 'a:1', networks: [own]}
networks: {proxy: {external: true}, own: }",
        ),
    ]);
    let found = found(&tree.recipe(), &SHARED_NETWORKS, None);
    assert_starts(
        &found.problems,
        &[
            "service Example_ORG_app: its key is its name in the network proxy",
            "service blog_de_app: its key is its name in the network proxy",
            "service shop_COOP_app: its key is its name in the network proxy",
            "service sso.example.net: its key is its name in the network proxy",
            "service sso.example.net.: its key is its name in the network proxy",
            "service sso_example_net_app: its key is its name in the network proxy",
            "service sso_example_net_php8.1: its key is its name in the network proxy",
        ],
    );
}

#[test]
fn a_hostname_in_a_shared_network_is_the_apps_own() {
    let found_of = |hostname: &str, network: &str| {
        let text = format!(
            "services: {{app: {{image: 'a:1', hostname: '{hostname}', networks: [own, {network}]}}}}
networks: {{proxy: {{external: true}}, own: , other: }}"
        );
        let tree = Tree::new(&[(".env.sample", ""), ("compose.yml", &text)]);
        found(&tree.recipe(), &SHARED_NETWORKS, None).problems
    };
    for theirs in [
        "sso.example.net",
        "sso_example_net_app",
        "{{index .Service.Labels \"a\"}}",
        "{{.Node.Hostname}}.sso.example.net",
    ] {
        assert_starts(
            &found_of(theirs, "proxy"),
            &[&format!("service app: its hostname {theirs} is its name in the network proxy")],
        );
        assert_starts(&found_of(theirs, "other"), &[]);
    }
    for own in [
        "mail",
        "${DOMAIN}",
        "mail.${DOMAIN}",
        "${STACK_NAME}_mail",
        "{{.Node.Hostname}}",
        "n{{ .Task.Slot }}",
    ] {
        assert_starts(&found_of(own, "proxy"), &[]);
    }
}

#[test]
fn beside_an_app_of_a_short_domain_others_have_one_too() {
    let domain: Domain = "pad-123456.test".parse().unwrap();
    let compose = "services: {tiny-654321_test_app: {image: 'a:1', networks: [proxy]}}\nnetworks: {proxy: {external: true}}";
    let tree = Tree::new(&[(".env.sample", ""), ("compose.yml", compose)]);
    let recipe = tree.recipe();
    let env = recipe.sample().unwrap();
    let compose = recipe.compose(&recipe.vars(&env, &domain).unwrap()).unwrap();
    let networks = SHARED_NETWORKS.map(str::to_owned);
    let policy = Policy { domain: &domain, networks: &networks, granted: &[], operators: None };
    let found = recipe.check(&env, &compose, &policy).unwrap();
    assert_starts(
        &found.problems,
        &["service tiny-654321_test_app: its key is its name in the network proxy"],
    );
}
