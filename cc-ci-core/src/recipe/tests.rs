use std::error::Error as _;
use std::fs;

use super::*;

mod shared_networks;

struct Tree(tempfile::TempDir);

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for (file, text) in files {
            fs::write(tree.0.path().join(file), text).unwrap();
        }
        tree
    }

    fn recipe(&self) -> Recipe {
        Recipe::open("pad".parse().unwrap(), self.0.path()).unwrap()
    }
}

fn domain() -> Domain {
    "pad-123456.ci.example.org".parse().unwrap()
}

/// What is asked for and not granted, in words.
fn ungranted(findings: &Findings) -> Vec<String> {
    let key = |privilege: &str| privilege.split('=').next().unwrap_or_default().to_owned();
    let line = |(what, privilege): &(String, String)| {
        assert!(PRIVILEGE_KEYS.contains(&key(privilege).as_str()), "{privilege} can't be granted");
        format!("{what} [{privilege}]")
    };
    findings.ungranted.iter().map(line).collect()
}

/// What a run finds, where the operator shares `networks`, and wrote the `.env` themselves or not.
fn found(recipe: &Recipe, networks: &[&str], operators: Option<&EnvFile>) -> Findings {
    let env = recipe.sample().unwrap();
    let compose = recipe.compose(&recipe.vars(&env, &domain()).unwrap()).unwrap();
    let networks: Vec<String> = networks.iter().map(|name| (*name).to_owned()).collect();
    recipe
        .check(&env, &compose, &Policy { domain: &domain(), networks: &networks, granted: &[], operators })
        .unwrap()
}

#[track_caller]
fn assert_starts(lines: &[String], expected: &[&str]) {
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, start) in lines.iter().zip(expected) {
        assert!(line.starts_with(start), "{line}, not {start}");
    }
}

const COMPOSE: &str = "
services:
  app:
    image: pad:1
    secrets: [key]
    configs: [{source: conf, target: /etc/pad}]
    networks: [proxy]
    deploy: {labels: ['coop-cloud.${STACK_NAME}.version=1.0.0+1']}
secrets: {key: {external: true, name: '${STACK_NAME}_key_${SECRET_KEY_VERSION}'}}
configs: {conf: {name: '${STACK_NAME}_conf_${CONF_VERSION}', file: pad.conf}}
networks: {proxy: {external: true}}
";

#[test]
fn a_recipe_is_read_as_a_whole() {
    let tree = Tree::new(&[
        (
            ".env.sample",
            "TYPE=pad\nDOMAIN=pad.example.org\nSECRET_KEY_VERSION=v1 # length=32\nCONF_VERSION=v0\n",
        ),
        ("abra.sh", "export CONF_VERSION=v3\n"),
        ("compose.yml", COMPOSE),
        ("pad.conf", "x"),
    ]);
    let recipe = tree.recipe();
    let env = recipe.sample().unwrap();
    let compose = recipe.compose(&recipe.vars(&env, &domain()).unwrap()).unwrap();
    assert_eq!(compose.configs["conf"].name, "pad-123456_ci_example_org_conf_v3");
    assert_eq!(compose.secrets["key"].name, "pad-123456_ci_example_org_key_v1");
    assert_eq!(recipe.read(compose.configs["conf"].file.as_deref().unwrap()).unwrap(), b"x");
    assert_eq!(found(&recipe, &SHARED_NETWORKS, None), Findings::default());
}

#[test]
fn a_recipe_cannot_take_another_apps_name() {
    let tree = Tree::new(&[
        (".env.sample", "STACK_NAME=victim\nDOMAIN=victim.org\nSECRET_KEY_VERSION=v1\n"),
        ("abra.sh", "export STACK_NAME=victim\nexport CONF_VERSION=v3\n"),
        ("compose.yml", COMPOSE),
    ]);
    let recipe = tree.recipe();
    let vars = recipe.vars(&recipe.sample().unwrap(), &domain()).unwrap();
    assert_eq!(recipe.compose(&vars).unwrap().stack, domain().stack());
    assert_eq!(vars["DOMAIN"], domain().as_str());
}

#[test]
fn what_would_fail_or_touch_another_app_is_found_before_a_deploy() {
    let tree = Tree::new(&[
        (".env.sample", "SECRET_KEY_VERSION=v1\nCOMPOSE_FILE=compose.yml:compose.more.yml\n"),
        ("compose.yml", COMPOSE),
        (
            "compose.more.yml",
            "services: {app: {ports: ['80:80'], volumes: ['data:/d', '/s.sock:/s', 'mine:/m'], environment: ['A=$NOT_SET']}}
volumes: {data: {name: victim_data}, mine: , theirs: {external: true, name: pad-123456_ci_example_org_uk_db}}
secrets: {other: {external: true, name: '${STACK_NAME}_other_v1'}}
configs: {long: {name: '${STACK_NAME}_a_name_that_is_longer_than_swarm_allows_v1', file: ./pad.conf}}
networks: {own: {name: elsewhere}}",
        ),
    ]);
    let recipe = tree.recipe();
    let found = found(&recipe, &SHARED_NETWORKS, None);
    for (lines, expected) in [
        (
            &found.problems,
            &[
                "volume data: its name victim_data is not",
                "secret other: no SECRET_<NAME>_VERSION",
                "config conf: its name pad-123456_ci_example_org_conf_ does not end",
                "config conf: reading its file pad.conf",
                "config long: its name pad-123456_ci_example_org_a_name_that_is_longer_than_swarm_allows_v1 has more",
                "config long: reading its file",
                "network own: its name elsewhere is not",
            ][..],
        ),
        (
            &ungranted(&found),
            &[
                "service app: publishes the host's port 80 [port=80]",
                "service app: mounts /s.sock of the host [bind=/s.sock]",
            ],
        ),
        (&found.warnings, &["CONF_VERSION is not set", "NOT_SET is not set"]),
    ] {
        assert_starts(lines, expected);
    }
    let granted = ["port=80".to_owned(), "bind=/srv".to_owned()];
    let env = recipe.sample().unwrap();
    let compose = recipe.compose(&recipe.vars(&env, &domain()).unwrap()).unwrap();
    let policy = Policy { domain: &domain(), networks: &[], granted: &granted, operators: None };
    let found = recipe.check(&env, &compose, &policy).unwrap();
    assert_starts(&ungranted(&found), &["service app: mounts /s.sock of the host [bind=/s.sock]"]);
    assert_eq!(found.granted, ["port=80".to_owned()].into());
}

#[test]
fn what_time_it_is_on_the_host_an_app_may_read() {
    let mounts = "['/etc/localtime:/etc/localtime:ro', '/etc/timezone:/etc/timezone']";
    let text = format!("services: {{app: {{image: 'a:1', volumes: {mounts}}}}}");
    let tree = Tree::new(&[(".env.sample", ""), ("compose.yml", &text)]);
    let expected = ["service app: mounts /etc/timezone of the host [bind=/etc/timezone]"];
    assert_starts(&ungranted(&found(&tree.recipe(), &[], None)), &expected);
}

#[test]
fn an_app_joins_no_network_but_its_own_and_those_that_are_shared() {
    let tree = Tree::new(&[
        (".env.sample", "NETWORK=monitoring\n"),
        (
            "compose.yml",
            "services: {app: {image: a:1, networks: [proxy, inside, chosen, own]}}
networks:
  proxy: {external: true}
  inside: {external: true, name: blog_example_org_internal}
  chosen: {external: {name: '${NETWORK}'}}
  own: {external: true, name: '${STACK_NAME}_own'}",
        ),
    ]);
    let found =
        |networks: &[&str], operators: Option<&EnvFile>| found(&tree.recipe(), networks, operators).problems;
    let (inside, chosen) = ("network inside: blog_example_org_internal", "network chosen: monitoring");
    assert_starts(&found(&["proxy"], None), &[chosen, inside]);
    assert_starts(&found(&["proxy", "monitoring"], None), &[inside]);
    assert_starts(&found(&[], None), &[chosen, inside, "network proxy: proxy"]);
    // What an operator has written into the .env of an app that people use is no doing of the recipe's.
    assert_starts(&found(&["proxy"], Some(&tree.recipe().sample().unwrap())), &[inside]);
}

#[test]
fn a_volume_is_kept_by_the_engine_or_in_memory() {
    let tree = Tree::new(&[
        (".env.sample", ""),
        (
            "compose.yml",
            "services: {app: {image: a:1}}
volumes:
  bound: {driver: local, driver_opts: {type: none, o: 'bind, rw', device: /srv/blog}}
  disk: {driver_opts: {type: ext4, device: /dev/sda1}}
  masked: {driver_opts: {type: tmpfs, device: tmpfs, o: 'size=1,rbind'}}
  memory: {driver: local, driver_opts: {type: tmpfs, device: tmpfs, o: size=1m}}
  plain: {driver: local, driver_opts: {o: uid=1}}
  share: {driver: some/plugin}
networks: {default: {driver_opts: {device: /x, o: bind}}}",
        ),
    ]);
    let expected = [
        "volume bound: it is kept at /srv/blog, with the options sha256:",
        "volume disk: it is kept at /dev/sda1",
        "volume masked: it is kept at tmpfs",
        "volume share: it is kept by the driver some/plugin",
        "networks.default.driver_opts: network.driver_opts=device",
        "networks.default.driver_opts: network.driver_opts=o",
    ];
    assert_starts(&ungranted(&found(&tree.recipe(), &[], None)), &expected);
}

#[test]
fn a_services_environment_comes_from_files_of_the_recipe() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "A=1").unwrap();
    let tree = Tree::new(&[
        (".env.sample", ""),
        ("one.env", "A=1"),
        (
            "compose.yml",
            "services:
  app: {image: a:1, env_file: one.env}
  list: {image: a:1, env_file: [./one.env, out.env, gone.env]}",
        ),
    ]);
    std::os::unix::fs::symlink(outside.path().join("secret"), tree.0.path().join("out.env")).unwrap();
    let expected = [
        "service list: reading its env_file out.env: it leads out",
        "service list: reading its env_file gone.env: it does not exist",
    ];
    assert_starts(&found(&tree.recipe(), &[], None).problems, &expected);
}

#[test]
fn the_proxy_is_told_of_the_apps_own_hosts_only() {
    let tree = Tree::new(&[
        (".env.sample", "MORE=', `more.org`'\nPLACE=www.example.com\nDOMAIN=pad.example.com\n"),
        (
            "compose.yml",
            "services:
  app:
    image: a:1
    deploy:
      labels:
        - 'traefik.http.routers.${STACK_NAME}.rule=Host(`${DOMAIN}`${NOTHING:-}) && PathPrefix(`/`)'
        - 'traefik.http.routers.${STACK_NAME}-x.rule=Host(`x.${DOMAIN}`, `$PLACE`)'
        - 'traefik.http.middlewares.${STACK_NAME}-redirect.redirectscheme.scheme=https'
        - 'traefik.tcp.routers.${STACK_NAME}-ssh.rule=HostSNI(`*`)'
        - 'traefik.HTTP.routers.blog.rule=Host(`other.example.org`)'
        - 'traefik.http.routers.blog.service=api@internal'
  web:
    image: a:1
    deploy:
      labels:
        traefik.http.routers.pad-123456_ci_example_org-more.rule: Host(`$DOMAIN`$MORE)
        traefik.http.routers.pad-123456_ci_example_org-all.rule: PathPrefix(`/.well-known/caldav`)
        traefik.http.routers.pad-123456_ci_example_org-what.rule: Host(`$DOMAIN`",
        ),
    ]);
    let findings = found(&tree.recipe(), &[], None);
    let router = "service web: router pad-123456_ci_example_org";
    let (all, more) =
        (format!("{router}-all: takes requests to any"), format!("{router}-more: takes more.org"));
    let what = format!("{router}-what: its rule can't be read");
    let blog = "service app: router blog: takes other.example.org, which";
    assert_starts(&findings.problems, &[blog, &all, &more, &what]);
    let connections = "service app: router pad-123456_ci_example_org-ssh: takes every connection";
    let name = "service app: the proxy's http router blog is not named after";
    let service = "service app: routers blog: service is api@internal";
    assert_starts(&ungranted(&findings), &[service, connections, name]);
    assert!(ungranted(&findings)[1].ends_with("[entrypoint=tcp *]"));
    assert!(ungranted(&findings)[2].ends_with("[proxy=http.routers.blog]"));
    // An operator chose the host, not the recipe.
    let operators = Some(&"MORE=', `more.org`'".parse().unwrap());
    assert_starts(&found(&tree.recipe(), &[], operators).problems, &[blog, &all, &what]);
}

#[test]
fn what_the_proxy_does_for_every_app_is_no_recipes_to_choose() {
    let labels = |labels: &str| {
        let text = format!("services: {{app: {{image: 'a:1', deploy: {{labels: {{{labels}}}}}}}}}");
        let tree = Tree::new(&[(".env.sample", ""), ("compose.yml", &text)]);
        let found = found(&tree.recipe(), &[], None);
        (found.problems.clone(), ungranted(&found))
    };
    let (problems, _) = labels("traefik.TLS.stores.default.defaultgeneratedcert.resolver: le");
    assert_starts(
        &problems,
        &["service app: traefik.tls.stores.default.defaultgeneratedcert.resolver changes"],
    );
    let (problems, asked) = labels("traefik.udp.routers.pad-123456_ci_example_org.entrypoints: dns");
    assert_starts(&problems, &[]);
    assert_eq!(asked.len(), 1);
    assert!(asked[0].ends_with("[entrypoint=udp dns]"), "{asked:?}");
    let udp = "traefik.udp.routers.pad-123456_ci_example_org";
    let (_, asked) = labels(&format!("{udp}.service: x, {udp}.EntryPoints: a, {udp}.entrypoints: b"));
    let says = |asked: &[String]| {
        asked.iter().map(|line| line[line.find('[').unwrap()..].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(says(&asked), ["[proxy=service x]", "[entrypoint=udp a]", "[entrypoint=udp b]"]);
    let (_, asked) =
        labels(&format!("{udp}.service: pad-123456_ci_example_org, '{udp}.entrypoints[0]': dns"));
    assert_eq!(says(&asked), ["[entrypoint=udp dns]"]);
    let (_, asked) = labels(&format!("{udp}.service: pad-123456_ci_example_org"));
    assert_eq!(says(&asked), ["[entrypoint=udp *]"]);
    let http = "traefik.http.routers.pad-123456_ci_example_org";
    let service = "traefik.http.services.pad-123456_ci_example_org";
    for (label, asks) in [
        (format!("{http}.service: noop@internal"), None),
        (format!("{http}.middlewares: 'a@file, pad-123456_ci_example_org-b'"), None),
        (format!("{http}.middlewares: 'b@swarm'"), Some("proxy=middlewares b@swarm]")),
        (format!("'{http}.middlewares[0]': b@swarm"), Some("proxy=middlewares b@swarm]")),
        (format!("{http}.service: 'blog_org'"), Some("proxy=service blog_org]")),
        (format!("{http}.service: default"), Some("proxy=service default]")),
        (format!("{http}.tls.options: default"), None),
        (format!("{http}.tls.options: 'blog@swarm'"), Some("proxy=tls.options blog@swarm]")),
        (format!("{service}.loadBalancer.serversTransport: strict@file"), None),
        (
            format!("{service}.loadBalancer.serversTransport: blog"),
            Some("proxy=loadbalancer.serverstransport blog]"),
        ),
        (
            format!("'{service}.weighted.services[0].name': blog_org"),
            Some("proxy=weighted.services[0].name blog_org]"),
        ),
        (format!("{service}.mirroring.service: blog_org"), Some("proxy=mirroring.service blog_org]")),
        (format!("{service}.failover.fallback: blog_org"), Some("proxy=failover.fallback blog_org]")),
        (format!("{service}.weighted.sticky.cookie.name: blog"), None),
        (
            format!("'{service}.loadbalancer.servers[0].url': 'http://x'"),
            Some("proxy=loadbalancer.servers[0].url http://x]"),
        ),
        (format!("'{http}.tls.domains[0].main': blog.org"), Some("proxy=tls.domains[0].main blog.org]")),
        (
            "traefik.http.services.pad-123456_ci_example_org.loadbalancer.server.url: 'http://x'".to_owned(),
            Some("proxy=loadbalancer.server.url http://x]"),
        ),
        (
            "traefik.http.middlewares.pad-123456_ci_example_org.forwardauth.address: 'http://x'".to_owned(),
            Some("proxy=forwardauth.address http://x]"),
        ),
    ] {
        let (problems, asked) = labels(&label);
        assert_starts(&problems, &[]);
        let asked = asked.first().map(|line| line.rsplit(" [").next().unwrap().to_owned());
        assert_eq!(asked.as_deref(), asks, "{label}");
    }
    for bad in ["traefik.x]", "traefik.http.routers.a].priority", "traefik.a[]", "traefik.a[0", "traefik.[0]"]
    {
        assert!(labels(&format!("'{bad}': '1'")).0[0].contains("brackets"), "{bad}");
    }
    let (problems, _) = labels(&format!("{http}.rule: 'HostRegexp(`{{|.|.pad-123456.ci.example.org`)'"));
    assert_starts(&problems, &["service app: router"]);
    let tcp = "traefik.tcp.routers.pad-123456_ci_example_org";
    let (_, asked) = labels(&format!("{tcp}.rule: 'HostSNI(`*`)', {tcp}.entrypoints: web-secure"));
    assert!(asked[0].ends_with("[entrypoint=tcp web-secure]"), "{asked:?}");
}

#[test]
fn what_would_lead_abra_or_a_backup_elsewhere_is_no_recipes_to_say() {
    let labels = "backupbot.backup.volumes.data.path: '../../blog_org_db/_data,/etc'";
    let text = format!(
        "services: {{app: {{image: 'a:1', volumes: ['/srv:/a:ro,rw', '/srv:/b:rw,ro'], deploy: {{labels: {{{labels}}}}}}}}}
volumes: {{data: }}"
    );
    let tree = Tree::new(&[(".env.sample", "STACK_NAME=blog_org\n"), ("compose.yml", &text)]);
    let found = found(&tree.recipe(), &[], None);
    let path = "service app: label backupbot.backup.volumes.data.path leads out";
    assert_starts(&found.problems, &[path, "the .env sets STACK_NAME to blog_org"]);
    let asked: Vec<&str> = found.ungranted.iter().map(|(_, privilege)| privilege.as_str()).collect();
    assert_eq!(asked, ["bind=/srv", "bind=/srv:ro"]);
}

#[test]
fn the_env_names_one_recipe() {
    for (env, says) in [
        ("TYPE=pad:1.0.0+1\nRECIPE=pad\n", None),
        ("TYPE=\n", None),
        ("TYPE=../pad\n", Some("the .env sets TYPE to ../pad, which is no recipe's name")),
        ("RECIPE=/etc\n", Some("the .env sets RECIPE to /etc, which is no recipe's name")),
        ("TYPE=pad\nRECIPE=blog\n", Some("the .env names two recipes: pad by TYPE, and blog by RECIPE")),
    ] {
        let tree = Tree::new(&[(".env.sample", env), ("compose.yml", "services: {app: {image: 'a:1'}}")]);
        assert_eq!(found(&tree.recipe(), &[], None).problems, Vec::from_iter(says), "{env}");
    }
}

#[test]
fn errors_name_the_file() {
    let tree = Tree::new(&[]);
    let missing = tree.0.path().join("missing");
    let error = Recipe::open("pad".parse().unwrap(), &missing).unwrap_err();
    assert!(error.to_string().starts_with("opening the tree at /") && error.source().is_some());

    let error = tree.recipe().sample().unwrap_err();
    assert_eq!(error.to_string(), "reading .env.sample");
    assert!(error.source().is_some());

    fs::create_dir(tree.0.path().join("abra.sh")).unwrap();
    let error = tree.recipe().vars(&"".parse().unwrap(), &domain()).unwrap_err();
    assert_eq!(error.to_string(), "reading abra.sh");
}
