mod faults;
mod hostile;
mod overlays;

use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::names::{TagFault, UnfitTag};
use crate::recipe::Recipe;

const SAMPLE: &str = "TYPE=pad
DOMAIN=pad.example.org
SECRET_KEY_VERSION=v1 # length=32
#EXTRA=x
";

const COMPOSE: &str = r#"version: "3.8"
services:
  app:
    image: pad:1.2
    environment:
      - EXTRA=${EXTRA}
    secrets:
      - key
    volumes:
      - data:/data
    healthcheck:
      test: ["CMD", "true"]
    deploy:
      labels:
        - "coop-cloud.${STACK_NAME}.version=1.0.0+1.2"
        - "backupbot.backup=true"
  web:
    image: registry.example.org:5000/web@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
    configs:
      - source: conf
        target: /etc/pad
    networks:
      - proxy
    healthcheck:
      disable: true
    deploy:
      labels:
        - "traefik.enable=true"
        - "traefik.docker.network=proxy"
volumes:
  data:
secrets:
  key:
    external: true
    name: ${STACK_NAME}_key_${SECRET_KEY_VERSION}
configs:
  conf:
    name: ${STACK_NAME}_conf_${CONF_VERSION}
    file: pad.conf
networks:
  proxy:
    external: true
"#;

/// A recipe that keeps every rule.
struct Tree(tempfile::TempDir);

impl Tree {
    fn clean() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        tree.write(".env.sample", SAMPLE).write("compose.yml", COMPOSE);
        tree.write("abra.sh", "export CONF_VERSION=v1\n").write("pad.conf", "x");
        tree
    }

    fn write(&self, file: &str, text: impl AsRef<[u8]>) -> &Self {
        fs::create_dir_all(self.0.path().join(file).parent().unwrap()).unwrap();
        fs::write(self.0.path().join(file), text).unwrap();
        self
    }

    /// Replaces a part of a file that is there once.
    #[track_caller]
    fn replace(&self, file: &str, from: &str, to: &str) -> &Self {
        let text = fs::read_to_string(self.0.path().join(file)).unwrap();
        assert_eq!(text.matches(from).count(), 1, "{from}");
        self.write(file, text.replace(from, to))
    }

    fn recipe(&self) -> Recipe {
        Recipe::open("pad".parse().unwrap(), self.0.path()).unwrap()
    }

    fn domain(&self) -> Domain {
        domain_of(self.recipe().name()).unwrap()
    }

    fn report(&self, history: &History) -> Report {
        check(&self.recipe(), self.domain(), history).unwrap()
    }

    /// What it looks like when it is released, for later.
    fn released(&self) -> History {
        let previous = PreviousRelease::read(&self.recipe(), "1.0.0+1.2".parse().unwrap(), &self.domain());
        History { previous: Some(previous), ..History::default() }
    }

    fn found(&self, history: &History) -> Vec<String> {
        let place = |finding: &Finding| {
            let line = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
            format!("{} {}{line}", finding.rule, finding.file)
        };
        self.report(history).findings.iter().map(place).collect()
    }
}

#[test]
fn a_recipe_that_keeps_the_rules_has_no_findings() {
    let tree = Tree::clean();
    let report = tree.report(&tree.released());
    assert_eq!(report.findings, []);
    assert_eq!(report.skipped, [""; 0]);
    assert_eq!(report.compared_with, Some("1.0.0+1.2".parse().unwrap()));
}

#[test]
fn a_version_label_belongs_on_app() {
    let tree = Tree::clean();
    let label = "        - \"coop-cloud.${STACK_NAME}.version=1.0.0+1.2\"\n";
    tree.replace("compose.yml", label, "").replace(
        "compose.yml",
        "        - \"traefik.enable=true\"\n",
        label,
    );
    assert_eq!(tree.found(&History::default()), ["version-label-misplaced compose.yml:27"]);
}

#[test]
fn a_recipe_has_a_service_named_app() {
    let tree = Tree::clean();
    tree.replace("compose.yml", "  app:\n", "  pad:\n");
    let expected = ["service-app-missing compose.yml:2", "version-label-misplaced compose.yml:15"];
    assert_eq!(tree.found(&History::default()), expected);
}

#[test]
fn at_a_release_the_label_is_the_tags_name() {
    let tree = Tree::clean();
    let at = |version: &str| History { is_release: Some(version.parse().unwrap()), ..History::default() };
    assert_eq!(tree.found(&at("1.0.0+1.2")), [""; 0]);
    assert_eq!(tree.found(&at("1.0.1+1.2")), ["version-label-not-the-tag compose.yml:15"]);
}

#[test]
fn lightweight_tags_are_told_together() {
    let tree = Tree::clean();
    let unfit =
        (0..7).map(|n| UnfitTag { name: format!("1.{n}.0+1"), fault: TagFault::Lightweight }).collect();
    let report = tree.report(&History { unfit, ..History::default() });
    let [finding] = &report.findings[..] else { panic!("{:?}", report.findings) };
    assert_eq!(finding.rule, "release-tag-lightweight");
    assert!(
        finding.what.ends_with("1.0.0+1, 1.1.0+1, 1.2.0+1, 1.3.0+1, 1.4.0+1, and 2 more"),
        "{}",
        finding.what
    );
}

#[test]
fn each_kind_of_tag_that_is_no_release_is_told_by_its_rule() {
    let tree = Tree::clean();
    let tag = |name: &str, fault| UnfitTag { name: name.to_owned(), fault };
    let unfit = vec![tag("v1.0.3", TagFault::Misnamed), tag("1.0.0+1", TagFault::NoCommit)];
    let report = tree.report(&History { unfit, ..History::default() });
    let message: Vec<_> =
        report.findings.iter().map(|finding| (finding.rule, finding.what.as_str())).collect();
    let expected = [
        ("release-tag-no-commit", "tags of another tag, or of no commit are no releases: 1.0.0+1"),
        (
            "release-tag-misnamed",
            "tags that are not named <recipe semver>+<upstream> are no releases: v1.0.3",
        ),
    ];
    assert_eq!(message, expected);
}

#[test]
fn a_test_that_would_not_run_is_told_by_its_name() {
    let tree = Tree::clean();
    tree.write("tests/custom-lost", "#!/bin/sh\n")
        .write("tests/data.txt", "x")
        .write("tests/sub/custom", "#!/bin/sh\n");
    symlink("custom-lost", tree.0.path().join("tests/link")).unwrap();
    assert_eq!(
        tree.found(&History::default()),
        ["test-unfit tests/custom-lost:1", "test-unfit tests/link:1"]
    );
    let tree = Tree::clean();
    symlink("release", tree.0.path().join("tests")).unwrap();
    assert_eq!(tree.found(&History::default()), ["test-unfit tests:1"]);
    let tree = Tree::clean();
    assert_eq!(tree.write("tests", "#!/bin/sh\n").found(&History::default()), ["test-unfit tests:1"]);
}

#[test]
fn a_secret_with_a_long_key_is_told_once() {
    let tree = Tree::clean();
    tree.replace("compose.yml", "      - key\n", "      - key\n      - thirteen_char\n");
    let long = "  thirteen_char:\n    external: true\n    name: ${STACK_NAME}_thirteen_char_v1\nconfigs:\n";
    tree.replace("compose.yml", "configs:\n  conf", &format!("{long}  conf"));
    tree.write(".env.sample", format!("{SAMPLE}SECRET_THIRTEEN_CHAR_VERSION=v1\n"));
    assert_eq!(tree.found(&History::default()), ["secret-name-long compose.yml:38"]);
}

#[test]
fn a_fault_of_the_second_router_is_told_at_its_own_line() {
    let tree = Tree::clean();
    let router = |name: &str, rule: &str| format!("traefik.http.routers.${{STACK_NAME}}{name}.rule={rule}");
    let (one, other) = (router("", "Host(`${DOMAIN}`)"), router("-api", "PathPrefix(`/`)"));
    tree.replace("compose.yml", "traefik.docker.network=proxy\"", &format!("{one}\"\n        - \"{other}\""));
    assert_eq!(tree.found(&History::default()), ["foreign-host compose.yml:30"]);
}

#[test]
fn a_config_whose_file_changed_needs_a_new_name() {
    let tree = Tree::clean();
    let history = tree.released();
    tree.write("pad.conf", "y");
    assert_eq!(tree.found(&history), ["config-not-bumped compose.yml:38"]);
    tree.replace("abra.sh", "v1", "v2");
    assert_eq!(tree.found(&history), [""; 0]);
}

#[test]
fn a_new_variable_without_a_default_is_in_a_new_release_note() {
    let tree = Tree::clean();
    tree.write("release/1.0.0+1.2", "NEW_ONE was thought of\n");
    let history = tree.released();
    tree.replace("compose.yml", "=${EXTRA}", "=${EXTRA}${NEW_ONE}");
    tree.write(".env.sample", format!("{SAMPLE}NEW_ONE=1\n"));
    assert_eq!(tree.found(&history), ["new-variable-unannounced compose.yml:6"]);
    tree.write("release/1.1.0+1.2", "Set NEW_ONE_THING first.\n");
    assert_eq!(tree.found(&history), ["new-variable-unannounced compose.yml:6"]);
    tree.write("release/1.1.0+1.2", "Set `NEW_ONE` first.\n");
    assert_eq!(tree.found(&history), [""; 0]);
    fs::remove_file(tree.0.path().join("release/1.1.0+1.2")).unwrap();
    tree.replace("compose.yml", "${NEW_ONE}", "${NEW_ONE:-1}");
    assert_eq!(tree.found(&history), [""; 0]);
}
