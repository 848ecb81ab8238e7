//! What abra is called with, and what becomes of it.

use std::collections::BTreeSet;
use std::fs;

use cc_ci_core::engine::{Backup, Deployer as _, Fault};

use super::world::World;
use crate::Backups;

const DOMAIN: &str = "test-abc123.ci.example.org";
const STACK: &str = "test-abc123_ci_example_org";

/// Makes both services.
const DEPLOYS: &str = "echo $$ >services/app; echo $$ >services/db";

/// Makes the secret that it is asked for, and keeps the value as it came.
const INSERTS: &str =
    "shift 7; cat \"$4\" >\"secrets/test-abc123_ci_example_org_$2_$3\"; stat -c %a \"$4\" >>modes";

#[tokio::test]
async fn a_new_app_has_its_own_domain_and_asks_for_no_certificate() {
    let world = World::new();
    let sample = "TYPE=test:1.0.0+1\\nDOMAIN=test.example.com # yours\\nLETS_ENCRYPT_ENV=production\\n";
    world.does("new", &format!("printf '{sample}' >servers/{DOMAIN}.env"));
    world.deployer().await.create(&world.context, &world.app).await.unwrap();
    let expected = format!("app new --no-input --offline --chaos --server=default --domain={DOMAIN} test");
    assert_eq!(world.calls(), [expected]);
    let env = world.app.env().unwrap();
    assert_eq!((env.get("DOMAIN"), env.get("LETS_ENCRYPT_ENV")), (Some(DOMAIN), Some("")));
    assert!(env.to_string().contains("# yours") && env.get("TYPE") == Some("test:1.0.0+1"), "{env}");
}

#[tokio::test]
async fn an_env_that_is_right_is_left_as_abra_wrote_it() {
    let world = World::new();
    let text = format!("DOMAIN={DOMAIN}\n");
    world.does("new", &format!("echo DOMAIN={DOMAIN} >servers/{DOMAIN}.env; chmod 640 servers/*"));
    world.deployer().await.create(&world.context, &world.app).await.unwrap();
    assert_eq!(fs::read_to_string(&world.app.env_file).unwrap(), text);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&world.app.env_file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o640, "it was written anew");
}

#[tokio::test]
async fn a_call_has_the_runs_environment_its_mark_and_no_input() {
    let world = World::new();
    world
        .env("DOMAIN=x\n")
        .does("deploy", &format!("{DEPLOYS}; env >environment; readlink /proc/$$/fd/0 >stdin"));
    let deployer = world.deployer().await;
    deployer.deploy(&world.context, &world.app).await.unwrap();
    let environment = world.read("environment");
    assert!(environment.contains(&format!("ABRA_DIR={}", world.path("abra").display())), "{environment}");
    assert!(environment.contains(DOMAIN), "no mark: {environment}");
    assert!(!environment.contains("CARGO"), "{environment}");
    assert_eq!(world.read("stdin"), "/dev/null\n");
    assert_eq!(deployer.environment(), [("DOCKER_HOST".into(), "unix:///x.sock".into())]);
    assert_eq!(deployer.to_string(), "abra");
}

#[tokio::test]
async fn an_app_is_deployed_as_its_tree_is_and_upgraded_with_force() {
    let world = World::new();
    world.env("DOMAIN=x\n").does("deploy", DEPLOYS);
    let deployer = world.deployer().await;
    let error = deployer.upgrade(&world.context, &world.app).await.unwrap_err();
    assert!(error.to_string().contains("is not deployed") && world.calls().is_empty(), "{error}");
    deployer.deploy(&world.context, &world.app).await.unwrap();
    deployer.upgrade(&world.context, &world.app).await.unwrap();
    let flags = "--no-input --offline --chaos --no-converge-checks --no-domain-checks";
    let expected = [format!("app deploy {flags} {DOMAIN}"), format!("app deploy {flags} --force {DOMAIN}")];
    assert_eq!(world.calls(), expected);
}

#[tokio::test]
async fn an_abra_with_letters_only_is_called_with_letters() {
    let world = World::new();
    let short = "  -C   chaos\n  -c   no wait\n  -f   force or file\n  -n   no\n  -o   offline\n      --server string\n      --domain string\n";
    fs::write(world.path("flags"), short).unwrap();
    fs::write(world.path("global"), "").unwrap();
    world.env("DOMAIN=x\n").does("deploy", DEPLOYS);
    world.deployer().await.deploy(&world.context, &world.app).await.unwrap();
    assert_eq!(world.calls(), [format!("app deploy -n -o -C -c {DOMAIN}")]);
}

#[tokio::test]
async fn secrets_are_made_here_and_stand_in_no_command_line() {
    let world = World::new();
    world.does("secret", INSERTS).env(
        "SECRET_KEY_VERSION=v2 # length=20 charset=hex\nSECRET_OLD_VERSION=v1\nSECRET_SMTP_VERSION=v1 # generate=false\n",
    );
    fs::write(world.path(&format!("secrets/{STACK}_old_v1")), "before").unwrap();
    let deployer = world.deployer().await;
    let made = deployer.generate_secrets(&world.context, &world.app).await.unwrap();
    assert_eq!(made.keys().collect::<Vec<_>>(), ["key"]);
    let value = made["key"].expose();
    assert!(value.len() == 20 && value.bytes().all(|b| b.is_ascii_hexdigit()));
    assert_eq!(world.read(&format!("secrets/{STACK}_key_v2")), value);
    assert_eq!(world.read("modes"), "600\n");
    let file = world.path("tmp/abra-secret-key");
    let expected =
        format!("app secret insert --no-input --offline --chaos --file {DOMAIN} key v2 {}", file.display());
    assert_eq!(world.calls(), [expected]);
    assert_eq!(fs::read_dir(world.path("tmp")).unwrap().count(), 0, "the value's file stays");
    assert_eq!(world.context.redactor.redact(value), "[secret]");
    // What was there before stays as it is.
    let adopted = || world.engine.adopted.lock().unwrap().clone();
    let made = [BTreeSet::from([format!("{STACK}_key_v2")])];
    assert_eq!(adopted(), made);
    // Nothing is made twice.
    assert!(deployer.generate_secrets(&world.context, &world.app).await.unwrap().is_empty());
    assert!(world.calls().is_empty());
    assert_eq!(adopted(), made);
}

#[tokio::test]
async fn a_secret_that_no_service_gets_is_not_made() {
    let world = World::new();
    // One that no compose file has, and one that no service gets.
    let odd = "SECRET_OTHER_VERSION=v1\nSECRET_IDLE_VERSION=v1\n";
    world.does("secret", INSERTS).env(&format!("{odd}SECRET_KEY_VERSION=v1\n"));
    let made = world.deployer().await.generate_secrets(&world.context, &world.app).await.unwrap();
    assert_eq!(made.keys().collect::<Vec<_>>(), ["key"]);
    assert_eq!(world.calls().len(), 1);
}

#[tokio::test]
async fn a_sample_that_leads_out_of_the_tree_reaches_no_abra() {
    let world = World::new();
    let sample = world.path("recipe/.env.sample");
    fs::remove_file(&sample).unwrap();
    fs::write(world.path("precious"), "PASSWORD=x\n").unwrap();
    std::os::unix::fs::symlink(world.path("precious"), &sample).unwrap();
    let error = world.deployer().await.create(&world.context, &world.app).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Recipe, "{error}");
    assert!(world.calls().is_empty() && !world.app.env_file.exists());
}

#[tokio::test]
async fn abra_can_say_a_secret_in_no_error() {
    let world = World::new();
    world
        .env("SECRET_KEY_VERSION=v1\n")
        .does("secret", "shift 7; echo \"FATA bad value $(cat $4)\" >&2; exit 1");
    let error = world.deployer().await.generate_secrets(&world.context, &world.app).await.unwrap_err();
    assert!(error.to_string().ends_with("FATA bad value [secret]"), "{error}");
    assert_eq!(fs::read_dir(world.path("tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_secrets_version_is_never_taken_for_a_flag() {
    let world = World::new();
    world.env("SECRET_KEY_VERSION=-rf\n");
    let error = world.deployer().await.generate_secrets(&world.context, &world.app).await.unwrap_err();
    assert_eq!(error.fault(), cc_ci_core::engine::Fault::Recipe);
    assert!(world.calls().is_empty());
}

#[tokio::test]
async fn the_backup_service_is_asked_and_what_it_keeps_is_said_once() {
    let mut world = World::new();
    world.engine.has_backup_service = true;
    let deployer = world.deployer().await;
    let backup = deployer.backup(&world.context, &world.app).await.unwrap();
    deployer.backup(&world.context, &world.app).await.unwrap();
    deployer.restore(&world.context, &world.app, &backup).await.unwrap();
    let create = format!("app backup create --no-input --offline --chaos {DOMAIN}");
    let expected = [create.clone(), create, format!("app restore --no-input --offline --chaos {DOMAIN}")];
    assert_eq!(world.calls(), expected);
    let warnings = world.events.0.lock().unwrap().clone();
    assert!(warnings.len() == 1 && warnings[0].contains("keeps its snapshot"), "{warnings:?}");
}

#[tokio::test]
async fn without_a_service_the_labels_say_what_a_backup_is_and_it_goes_back_the_same_way() {
    for (has_service, backups) in [(false, Backups::Auto), (true, Backups::Labels)] {
        let mut world = World::new();
        world.engine.has_backup_service = has_service;
        world.env("DOMAIN=x\n");
        let deployer = world.deployer_with(backups).await;
        let backup = deployer.backup(&world.context, &world.app).await.unwrap();
        assert!(backup.id.starts_with("labels:"), "{}", backup.id);
        deployer.restore(&world.context, &world.app, &backup).await.unwrap();
        assert!(world.calls().is_empty() && world.events.0.lock().unwrap().is_empty());
        let other = Backup { id: "x".to_owned() };
        assert!(deployer.restore(&world.context, &world.app, &other).await.is_err());
    }
    // Who asked for the service is not given something else.
    let world = World::new();
    let error = world.try_deployer(Backups::Service).await.unwrap_err();
    assert!(error.fault() == Fault::Configuration && error.hint().unwrap().contains("labels"), "{error}");
}

#[tokio::test]
async fn apps_are_listed_without_their_status_where_that_fails() {
    let world = World::new();
    let json = r#"{"default":{"apps":[{"domain":"a.example.org"},{"domain":"no domain"}]}}"#;
    world.does(
        "ls",
        &format!("case \"$*\" in *--status*) echo \"FATA unable to resolve 'x'\" >&2; exit 1;; esac; echo WARN; echo '{json}'"),
    );
    assert_eq!(world.listed().await.unwrap(), ["a.example.org", "no domain"]);
    let flags = "app ls --no-input --offline --machine";
    assert_eq!(world.calls(), [format!("{flags} --status"), flags.to_owned()]);
    // As long a line as many apps make.
    let app = "{\"domain\":\"a.example.org\"},";
    world.does(
        "ls",
        &format!("printf '{{\"default\":{{\"apps\":['; for i in $(seq 2000); do printf '{app}'; done; echo '{{}}]}}}}'"),
    );
    assert_eq!(world.listed().await.unwrap().len(), 2001);
}
