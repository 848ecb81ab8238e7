use std::error::Error as _;
use std::fs;

use super::*;

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
    assert_eq!(recipe.check(&env, &compose).unwrap(), Findings::default());
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
    let env = recipe.sample().unwrap();
    let compose = recipe.compose(&recipe.vars(&env, &domain()).unwrap()).unwrap();
    let found = recipe.check(&env, &compose).unwrap();
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
            &found.warnings,
            &[
                "service app: publishes the host's port 80",
                "service app: mounts /s.sock of the host",
                "CONF_VERSION is not set",
                "NOT_SET is not set",
            ],
        ),
    ] {
        assert_eq!(lines.len(), expected.len(), "{lines:#?}");
        for (line, start) in lines.iter().zip(expected) {
            assert!(line.starts_with(start), "{line}, not {start}");
        }
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
