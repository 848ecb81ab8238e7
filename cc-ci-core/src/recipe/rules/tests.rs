use std::collections::BTreeSet;
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
    image: registry.example.org:5000/web@sha256:0123
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
        judge(&self.recipe(), self.domain(), history).unwrap()
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
fn a_recipe_that_keeps_the_rules_has_no_findings() {
    let tree = Tree::clean();
    let report = tree.report(&tree.released());
    assert_eq!(report.findings, []);
    assert_eq!(report.skipped, [""; 0]);
    assert_eq!(report.compared_with, Some("1.0.0+1.2".parse().unwrap()));
}

#[test]
fn each_fault_is_found_once_and_at_its_line() {
    for (file, from, to, expected) in BROKEN {
        let tree = Tree::clean();
        tree.replace(file, from, to);
        assert_eq!(tree.found(&History::default()), [*expected], "{from} -> {to}");
    }
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
fn an_overlay_that_only_the_sample_names_is_judged_wherever_it_is() {
    let tree = Tree::clean();
    tree.write("db/small.yml", "version: '3.8'\nservices: {db: {image: 'db:1'}}\n");
    tree.write(
        ".env.sample",
        format!("{SAMPLE}# COMPOSE_FILE=\"$COMPOSE_FILE:db/small.yml\" # the small one\n"),
    );
    assert_eq!(tree.found(&History::default()), ["healthcheck-missing db/small.yml:2"]);
    tree.write(
        ".env.sample",
        format!("{SAMPLE}#COMPOSE_FILE=compose.yml:db/gone.yml:../out.yml:/etc/x.yml:.git/x\n"),
    );
    assert_eq!(tree.found(&History::default()), ["compose-invalid db/gone.yml"]);
}

#[test]
fn what_the_sample_takes_into_use_by_itself_can_be_read_together() {
    let tree = Tree::clean();
    tree.write("compose.a.yml", "version: '3.8'\nservices: {app: {environment: [A=1]}}\n");
    for (named, found) in [
        ("compose.yml:compose.a.yml", &[][..]),
        ("compose.yml::compose.a.yml", &["compose-invalid .env.sample"]),
        ("compose.yml,compose.a.yml", &["compose-invalid compose.yml,compose.a.yml"]),
    ] {
        tree.write(".env.sample", format!("{SAMPLE}COMPOSE_FILE={named}\n"));
        assert_eq!(tree.found(&History::default()), found, "{named}");
    }
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

#[test]
fn an_overlay_is_judged_over_the_base_and_told_for_what_it_adds() {
    let tree = Tree::clean();
    let overlay = "version: '3.8'
services:
  app:
    ports: ['25:25']
    environment: ['A=${SAID}', 'B=${UNSAID}']
    secrets: [more]
secrets:
  more: {external: true, name: '${STACK_NAME}_more_${SECRET_MORE_VERSION}'}
";
    tree.write("compose.more.yml", overlay);
    tree.write(".env.sample", format!("{SAMPLE}#COMPOSE_FILE=compose.yml:compose.more.yml\n# SAID=1\n"));
    tree.replace("compose.yml", "pad:1.2", "pad");
    let base = "image-floating compose.yml:4";
    let unsaid = "variable-not-in-sample compose.more.yml:5";
    assert_eq!(tree.found(&History::default()), [base, unsaid, "name-unfinished compose.more.yml:8"]);
    // What is taken into use with the overlay may stand in a comment; what the base needs may not.
    tree.write(".env.sample", format!("{SAMPLE}# SAID=1\n# SECRET_MORE_VERSION=v1\n"));
    assert_eq!(tree.found(&History::default()), [base, unsaid]);
    tree.write(
        ".env.sample",
        SAMPLE.replace("SECRET", "#SECRET") + "#SECRET_MORE_VERSION=v1\n#SAID=\n#UNSAID=\n",
    );
    assert_eq!(tree.found(&History::default()), [base, "name-unfinished compose.yml:35"]);
}

#[test]
fn what_an_operator_takes_into_use_or_names_by_a_variable_is_no_fault_of_an_overlay() {
    let tree = Tree::clean();
    let rule = "traefik.http.routers.${STACK_NAME}-more.rule";
    let overlay = |host: &str, network: &str| {
        format!(
            "version: '3.8'
services: {{app: {{deploy: {{labels: [traefik.enable=true, '{rule}=Host(`{host}`)']}}, networks: [more]}}}}
networks: {{more: {{external: true, name: '{network}'}}}}
volumes: {{data: {{driver_opts: {{type: nfs, o: addr=nas, device: ':/pad'}}}}}}
"
        )
    };
    tree.write(".env.sample", format!("{SAMPLE}#HOST=blog.org\n#NETWORK=monitoring\n"));
    tree.write("compose.more.yml", overlay("$HOST", "$NETWORK"));
    assert_eq!(tree.found(&History::default()), [""; 0]);
    for (host, network) in
        [("bl${NOTHING:-}og.org", "moni${NOTHING}toring"), ("bl${SHORT:-}og.org", "moni${SHORT}toring")]
    {
        tree.write(".env.sample", format!("{SAMPLE}#NOTHING=\n#SHORT=\n"));
        tree.write("compose.more.yml", overlay(host, network));
        let found = tree.found(&History::default());
        assert_eq!(
            found,
            ["foreign-host compose.more.yml:2", "foreign-network compose.more.yml:3"],
            "{host}"
        );
    }
    tree.write("compose.more.yml", overlay("blog.org", "monitoring"));
    let expected = ["foreign-host compose.more.yml:2", "foreign-network compose.more.yml:3"];
    assert_eq!(tree.found(&History::default()), expected);
}

#[test]
fn a_config_of_an_overlay_is_part_of_what_a_recipe_is() {
    let tree = Tree::clean();
    tree.write("more.conf", "x").write("more.env", "A=1");
    tree.write(
        "compose.more.yml",
        "version: '3.8'\nservices: {extra: {env_file: [more.env]}}\nconfigs: {more: {file: './${FILE}.conf'}}\n",
    );
    tree.write(".env.sample", format!("{SAMPLE}#FILE=more\n"));
    let fingerprint = || fingerprint(&tree.recipe(), &tree.domain());
    let released = fingerprint();
    assert_eq!(fingerprint(), released);
    for (file, was) in [("more.conf", "x"), ("more.env", "A=1"), ("pad.conf", "x")] {
        tree.write(file, "changed");
        assert_ne!(fingerprint(), released, "{file}");
        tree.write(file, was);
        assert_eq!(fingerprint(), released, "{file}");
    }
}

#[test]
fn no_number_of_warnings_hides_an_error() {
    let tree = Tree::clean();
    // The router's fault is found after the ports.
    let rule = "traefik.http.routers.${STACK_NAME}.rule=PathPrefix(`/`)";
    let mut text = COMPOSE.replace("traefik.enable=true", rule);
    let ports: Vec<String> = (1..=1100).map(|port| format!("'{port}:80'")).collect();
    text = text.replace("image: pad:1.2", &format!("image: pad:1.2\n    ports: [{}]", ports.join(", ")));
    tree.write("compose.yml", &text);
    let report = tree.report(&History::default());
    assert_eq!((report.count(Severity::Error), report.count(Severity::Warning)), (1, 1000));
    assert_eq!(report.skipped, ["findings beyond 1000 errors and 1000 others"]);
    // Errors have a bound too.
    let volumes: Vec<String> = (0..1100).map(|n| format!("  v{n}:\n    name: victim{n}\n")).collect();
    tree.write("compose.yml", COMPOSE.replace("  data:\n", &format!("  data:\n{}", volumes.concat())));
    let report = tree.report(&History::default());
    assert_eq!(report.count(Severity::Error), 1000);
    assert_eq!(report.skipped.len(), 1);
}

#[test]
fn two_overlays_with_the_same_fault_are_both_told() {
    let tree = Tree::clean();
    for name in ["compose.a.yml", "compose.b.yml"] {
        tree.write(name, "version: '3.8'\nservices: {extra: {image: x:1}}\n");
    }
    let expected = ["healthcheck-missing compose.a.yml:2", "healthcheck-missing compose.b.yml:2"];
    assert_eq!(tree.found(&History::default()), expected);
}

#[test]
fn an_overlay_of_an_overlay_is_no_fault() {
    let tree = Tree::clean();
    tree.write(
        "compose.db.yml",
        "version: '3.8'\nservices: {db: {image: 'db:1', healthcheck: {disable: true}}}\n",
    );
    tree.write("compose.db-small.yml", "version: '3.8'\nservices: {db: {environment: [SMALL=1]}}\n");
    assert_eq!(tree.found(&History::default()), [""; 0]);
    fs::remove_file(tree.0.path().join("compose.db.yml")).unwrap();
    assert_eq!(tree.found(&History::default()), ["compose-invalid compose.db-small.yml:2"]);
}

#[test]
fn what_leads_out_is_huge_or_is_no_text_is_one_finding_each() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret.yml"), "services: {stolen: {image: stolen}}").unwrap();
    let tree = Tree::clean();
    let at = |name: &str| tree.0.path().join(name);
    symlink(outside.path().join("secret.yml"), at("compose.a-out.yml")).unwrap();
    symlink("compose.b-loop.yml", at("compose.b-loop.yml")).unwrap();
    tree.write("compose.c-huge.yml", vec![b'#'; (1 << 20) + 1]);
    tree.write("compose.d-binary.yml", [0xff, 0, 1]);
    nix::unistd::mkfifo(&at("compose.e-pipe.yml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::create_dir(at("compose.f-directory.yml")).unwrap();
    tree.write("compose.g-deep.yml", "[".repeat(50_000));
    tree.write("compose.h-\u{1b}[31m:.yml", "services: {}");
    let report = tree.report(&History::default());
    let files: Vec<&str> = report.findings.iter().map(|finding| &finding.file[8..9]).collect();
    assert_eq!(files, ["a", "b", "c", "d", "e", "f", "g"], "{:#?}", report.findings);
    for finding in &report.findings {
        assert_eq!(finding.rule, "compose-invalid");
        assert!(
            !finding.what.contains("stolen") && !finding.what.contains(char::is_control),
            "{}",
            finding.what
        );
    }
    assert_eq!(report.skipped.len(), 1, "{:?}", report.skipped);
}

#[test]
fn what_a_finding_quotes_is_bounded() {
    let tree = Tree::clean();
    tree.replace("compose.yml", "pad:1.2", &format!("\"\\e[31m{}\"", "x".repeat(5000)));
    let report = tree.report(&History::default());
    let [finding] = &report.findings[..] else { panic!("{:?}", report.findings) };
    assert_eq!(finding.rule, "image-floating");
    assert!(finding.what.len() < 1000, "{}", finding.what.len());
    // It is made harmless where it is shown.
    assert!(finding.what.contains("\u{1b}[31mx"), "{}", finding.what);
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
