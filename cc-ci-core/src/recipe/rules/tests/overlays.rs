//! Overlays, judged over the files that they are laid over.

use super::*;

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
