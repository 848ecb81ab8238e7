//! One fault of each rule.

use std::collections::BTreeSet;

use super::*;

/// The part of a file that is replaced, and the one thing that is found for it.
const BROKEN: &[(&str, &str, &str, &str)] = &[
    ("compose.yml", "image: pad:1.2", "image: [1]", "compose-invalid compose.yml:4"),
    ("compose.yml", "  data:\n", "  data: &a [*a]\n", "compose-invalid compose.yml:31"),
    ("compose.yml", "      - key\n", "      - other\n", "compose-invalid compose.yml:7"),
    (".env.sample", "TYPE=pad", "what is this", "sample-invalid .env.sample:1"),
    (".env.sample", "length=32", "length=x", "sample-invalid .env.sample:3"),
    ("compose.yml", "file: pad.conf", "file: gone.conf", "file-unreadable compose.yml:39"),
    ("compose.yml", "  data:\n", "  data:\n    name: victim\n", "foreign-name compose.yml:32"),
    (
        "compose.yml",
        "  proxy:\n    external: true\n",
        "  proxy:\n    external: true\n    name: blog_example_org_internal\n",
        "foreign-network compose.yml:43",
    ),
    (
        "compose.yml",
        "traefik.docker.network=proxy",
        "traefik.http.routers.${STACK_NAME}.rule=Host(`blog.example.org`)",
        "foreign-host compose.yml:29",
    ),
    (
        "compose.yml",
        "traefik.docker.network=proxy",
        "traefik.http.routers.${STACK_NAME}.rule=PathPrefix(`/`)",
        "foreign-host compose.yml:29",
    ),
    (
        "compose.yml",
        "traefik.docker.network=proxy",
        "traefik.http.routers.pad.rule=Host(`${DOMAIN}`)",
        "proxy-name compose.yml:29",
    ),
    (
        "compose.yml",
        "  data:\n",
        "  data:\n    driver_opts:\n      o: bind\n      device: /srv/x\n",
        "volume-outside compose.yml:32",
    ),
    (
        "compose.yml",
        "    image: pad:1.2\n",
        "    image: pad:1.2\n    env_file: gone.env\n",
        "file-unreadable compose.yml:5",
    ),
    (
        "compose.yml",
        "    image: pad:1.2\n",
        // Its line is no `NAME=value`.
        "    image: pad:1.2\n    env_file: pad.conf\n",
        "file-unreadable compose.yml:5",
    ),
    (
        "compose.yml",
        "    image: pad:1.2\n",
        "    image: pad:1.2\n    env_file: /etc/passwd\n",
        "compose-invalid compose.yml:5",
    ),
    (
        "compose.yml",
        "_conf_${",
        "_a_name_that_swarm_takes_for_no_app_at_all_${",
        "name-too-long compose.yml:38",
    ),
    ("abra.sh", "CONF_VERSION", "OTHER_VERSION", "name-unfinished compose.yml:38"),
    (
        "abra.sh",
        "CONF_VERSION=v1\n",
        "CONF_VERSION=v1\nexport EXTRA=blog.example.org\n",
        "export-doubtful abra.sh:2",
    ),
    ("compose.yml", "${SECRET_KEY_VERSION}", "v2", "secret-not-in-sample compose.yml:35"),
    (
        "compose.yml",
        "        - \"coop-cloud.${STACK_NAME}.version=1.0.0+1.2\"\n",
        "",
        "version-label-missing compose.yml:3",
    ),
    ("compose.yml", "1.0.0+1.2", "1.0", "version-label-no-release compose.yml:15"),
    ("compose.yml", "=${EXTRA}", "=${NOBODYS}", "variable-not-in-sample compose.yml:6"),
    ("compose.yml", "pad:1.2", "Pad:1.2", "image-invalid compose.yml:4"),
    ("compose.yml", "pad:1.2", "pad:${NOBODYS:-}", "image-invalid compose.yml:4"),
    ("compose.yml", "pad:1.2", "https://example.org/pad:1.2", "image-invalid compose.yml:4"),
    ("compose.yml", "pad:1.2", "pad", "image-floating compose.yml:4"),
    ("compose.yml", "pad:1.2", "pad:latest", "image-floating compose.yml:4"),
    ("compose.yml", "pad:1.2", "localhost:5000/pad", "image-floating compose.yml:4"),
    ("compose.yml", "    healthcheck:\n      disable: true\n", "", "healthcheck-missing compose.yml:17"),
    (
        "compose.yml",
        "\"traefik.docker.network=proxy\"",
        "\"backupbot.backup=true\"",
        "backup-twice compose.yml:29",
    ),
    (
        "compose.yml",
        "\"traefik.docker.network=proxy\"",
        "\"backupbot.backup.path=/x\"",
        "label-not-understood compose.yml:29",
    ),
    (
        "compose.yml",
        "  data:\n",
        "  data:\n    external: true\n    name: ${STACK_NAME}_data\n",
        "external-volume compose.yml:31",
    ),
    ("compose.yml", "- data:/data", "- /srv/data:/data", "host-mount compose.yml:10"),
    (
        "compose.yml",
        "    image: pad:1.2\n",
        "    image: pad:1.2\n    ports: ['8080:80']\n",
        "published-port compose.yml:5",
    ),
    ("compose.yml", "_conf_${", "_rather_long_but_ok_${", "name-leaves-little-room compose.yml:38"),
    ("compose.yml", "\"3.8\"", "\"3.7\"", "compose-version compose.yml:1"),
    (".env.sample", "TYPE=pad", "TYPE=pad\nSTACK_NAME=blog_org", "foreign-name compose.yml"),
    (
        "compose.yml",
        "    image: pad:1.2\n",
        "    image: pad:1.2\n    cap_add: [SYS_ADMIN]\n",
        "privilege compose.yml:5",
    ),
    (
        "compose.yml",
        "        - \"traefik.enable=true\"\n        - \"traefik.docker.network=proxy\"\n",
        "        - \"traefik.http.routers.${STACK_NAME}-b.priority=1\"\n        \
         - \"traefik.http.routers.${STACK_NAME}.rule=Host(`${DOMAIN}`)\"\n",
        "proxy-not-enabled compose.yml:28",
    ),
    ("compose.yml", "_conf_${CONF_VERSION}", "_conf_v1", "config-version-missing compose.yml:38"),
    ("compose.yml", "pad:1.2", "pad:bookworm-slim", "image-floating compose.yml:4"),
];

#[test]
fn each_fault_is_found_once_and_at_its_line() {
    for (file, from, to, expected) in BROKEN {
        let tree = Tree::clean();
        tree.replace(file, from, to);
        assert_eq!(tree.found(&History::default()), [*expected], "{from} -> {to}");
    }
}

#[test]
fn every_rule_is_broken_by_a_test_and_says_what_helps() {
    let mut broken: BTreeSet<&str> =
        BROKEN.iter().filter_map(|(.., expected)| expected.split(' ').next()).collect();
    broken.extend(["version-label-misplaced", "version-label-not-the-tag", "release-tag-lightweight"]);
    broken.extend(["config-not-bumped", "new-variable-unannounced", "secret-name-long"]);
    broken.extend(["release-tag-no-commit", "release-tag-misnamed", "test-unfit", "service-app-missing"]);
    let ids: BTreeSet<&str> = RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(broken, ids);
    assert_eq!(ids.len(), RULES.len());
    for rule in RULES {
        assert!(rule.id.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", rule.id);
        assert!([rule.summary, rule.why, rule.mend].iter().all(|text| text.len() > 10), "{}", rule.id);
    }
}
