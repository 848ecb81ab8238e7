//! The stand-in, called by hand: it is abra as far as the contract goes.

use std::fs;

use cc_ci_core::names::Domain;
use cc_ci_tests::World;
use cc_ci_tests::engine::{PrivateEngine, TestEngine, until};

use crate::support::{backup_service, left_below};

/// Makes the app `domain` of a recipe that is fetched, with its secrets.
pub fn make(world: &World, recipe: &str, domain: &Domain) {
    let abra = world.abra();
    let domain_flag = format!("--domain={domain}");
    abra.run(&["app", "new", "-n", "-C", "--server=default", &domain_flag, recipe]).expect(0);
    abra.run(&["app", "secret", "generate", "-nC", "-a", domain.as_str()]).expect(0);
}

#[test]
fn an_app_comes_is_backed_up_and_goes() {
    // Runs beside it would take their backups with its backup service.
    let Some(engine) = PrivateEngine::start("an_app_comes_is_backed_up_and_goes") else { return };
    let world = World::on(&engine);
    let (abra, recipe) = (world.abra(), world.light("light"));
    recipe.commit();
    abra.fetch(&recipe);
    let domain: Domain = format!("light.{}", world.suffix()).parse().unwrap();
    let name = domain.as_str();
    make(&world, "light", &domain);
    abra.run(&["app", "deploy", "-n", "-C", "-c", name]).expect(0);
    let service = format!("{}_app", domain.stack());
    until("the app runs", || engine.running(&service) == 1);

    let list = abra.run(&["app", "ls", "-n", "-m", "-S"]).expect(0).json();
    let app = &list["default"]["apps"][0];
    assert_eq!((&app["domain"], &app["status"]), (&name.into(), &"deployed".into()), "{list:#}");
    // A config is what the template says of this app.
    let page = abra.run(&["app", "run", "-n", "-t", name, "app", "--", "cat", "/page"]).expect(0);
    assert_eq!(page.stdout.trim(), format!("I am {domain}."));

    let refused = abra.run(&["app", "backup", "create", "-nC", name]).expect(1);
    assert!(refused.stderr.contains("FATA no backupbot discovered"), "{}", refused.stderr);
    backup_service(&engine);
    let write = |text: &str| {
        let line = format!("echo {text} > /data/file");
        abra.run(&["app", "run", "-n", name, "app", "--", "sh", "-c", &line]).expect(0);
    };
    write("saved");
    abra.run(&["app", "backup", "create", "-nC", name]).expect(0);
    write("changed");
    abra.run(&["app", "restore", "-nC", name]).expect(0);
    let file = abra.run(&["app", "run", "-n", name, "app", "--", "cat", "/data/file"]).expect(0);
    assert_eq!(file.stdout.trim(), "saved");

    let still = abra.run(&["app", "remove", "-n", "-f", name]).expect(1);
    assert!(still.stderr.contains("is still deployed"), "{}", still.stderr);
    abra.run(&["app", "undeploy", "-n", name]).expect(0);
    let left = || left_below(&engine, &world).into_iter().filter(|left| left.kind != "task");
    let kinds: Vec<_> = left().map(|left| left.kind).collect();
    assert_eq!(kinds, ["secret", "volume", "volume"], "data and secrets survive");
    abra.run(&["app", "remove", "-n", "-f", name]).expect(0);
    assert!(!world.abra_dir().join(format!("servers/default/{domain}.env")).exists());
    assert_eq!(left().count(), 0);
    assert!(abra.calls().iter().all(|call| call.ended.is_some()), "each call is journaled with its end");
    engine.end().expect("nothing is left of it");
}

#[test]
fn without_chaos_it_moves_the_tree_and_writes_the_version_down() {
    let world = World::new();
    let (abra, recipe) = (world.abra(), world.light("light"));
    recipe.release("1.0.0+1");
    let release = recipe.git(["rev-parse", "HEAD"]);
    recipe.write("later", "not released").commit();
    let tree = abra.fetch(&recipe);
    let new = |domain: &str| abra.run(&["app", "new", "-n", "light", "--server=default", "--domain", domain]);
    new("one.example.org").expect(0);
    let env = |domain: &str| {
        fs::read_to_string(world.abra_dir().join(format!("servers/default/{domain}.env"))).unwrap()
    };
    assert!(env("one.example.org").contains("TYPE=light:1.0.0+1\n"), "{}", env("one.example.org"));
    assert!(env("one.example.org").contains("DOMAIN=one.example.org\n"));
    let head = std::process::Command::new("git").arg("-C").arg(&tree).args(["rev-parse", "HEAD"]).output();
    assert_eq!(String::from_utf8(head.unwrap().stdout).unwrap(), release);

    fs::write(tree.join("untracked"), "").unwrap();
    let refused = new("two.example.org").expect(1);
    assert!(refused.stderr.contains("has locally unstaged changes"), "{}", refused.stderr);
    abra.run(&["app", "new", "-nC", "light", "--server=default", "--domain=two.example.org"]).expect(0);
    assert!(env("two.example.org").contains("TYPE=light\n"), "{}", env("two.example.org"));
    fs::remove_file(tree.join("untracked")).unwrap();

    std::process::Command::new("git").arg("-C").arg(&tree).args(["tag", "1.1.0+1"]).status().unwrap();
    let refused = new("three.example.org").expect(1);
    assert!(refused.stderr.contains("FATA critical lint error: R014"), "{}", refused.stderr);
}

#[test]
fn a_deploy_wants_its_secrets_and_is_watched_unless_told_otherwise() {
    let Some(engine) = TestEngine::shared("a_deploy_wants_its_secrets_and_is_watched_unless_told_otherwise")
    else {
        return;
    };
    let world = engine.world();
    let (abra, recipe) = (world.abra(), world.light("light"));
    // It answers only after a while.
    let compose = fs::read_to_string(recipe.path().join("compose.yml")).unwrap();
    recipe.write("compose.yml", &compose.replace("exec httpd", "sleep 20 && exec httpd")).commit();
    abra.fetch(&recipe);
    let domain: Domain = format!("light.{}", world.suffix()).parse().unwrap();
    let name = domain.as_str();
    let domain_flag = format!("--domain={domain}");
    abra.run(&["app", "new", "-n", "-C", "--server=default", &domain_flag, "light"]).expect(0);
    let refused = abra.run(&["app", "deploy", "-n", "-C", "-c", name]).expect(1);
    assert!(refused.stderr.contains("FATA secret not generated: key"), "{}", refused.stderr);
    assert_eq!(engine.left(), [], "nothing was deployed");

    let file = world.path().join("value");
    fs::write(&file, "a value of some length").unwrap();
    let file = file.to_str().unwrap();
    abra.run(&["app", "secret", "insert", "-nC", name, "key", "v1", file, "-f"]).expect(0);
    let given_up = abra.run(&["app", "deploy", "-n", "-C", name]).expect(1);
    assert!(given_up.stderr.contains("FATA deploy failed"), "{}", given_up.stderr);
    abra.run(&["app", "undeploy", "-n", name]).expect(0);
    abra.run(&["app", "remove", "-nf", name]).expect(0);
}
