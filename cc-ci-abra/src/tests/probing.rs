//! What is found out about an abra, and how often it is asked.

use std::fs;
use std::path::Path;
use std::process::Command;

use cc_ci_core::engine::Fault;
use cc_ci_core::workspace::Catalogue;

use super::world::{World, program};
use crate::{Abra, Flag, Subcommand};

/// How often it was run since the last look.
fn runs(world: &World) -> usize {
    let count = world.read("journal").lines().count();
    fs::write(world.path("journal"), "").unwrap();
    count
}

/// One for the version, one for what holds for all, one for each subcommand.
const QUESTIONS: usize = 2 + Subcommand::ALL.len();

/// Copied by another process: what this one has open for writing can't be executed.
fn copy(world: &World, line: &str) -> std::path::PathBuf {
    let to = world.path("abra");
    let script = "cp -p \"$1\" \"$2.new\" && echo \"$3\" >>\"$2.new\" && mv \"$2.new\" \"$2\"";
    let status =
        Command::new("sh").args(["-c", script, "sh"]).args([&program(), &to]).arg(line).status().unwrap();
    assert!(status.success());
    to
}

#[tokio::test]
async fn the_same_program_is_asked_once_and_another_one_anew() {
    let world = World::new();
    let program = copy(&world, "# one");
    let probe = async || Abra::probe(world.lifetime.as_ref(), world.probe_of(&program)).await.unwrap();
    let first = probe().await;
    assert_eq!((first.version(), runs(&world)), ("abra version 1.2.3", QUESTIONS));
    let again = probe().await;
    // Only for its version.
    assert_eq!((again.capabilities(), runs(&world)), (first.capabilities(), 1));
    copy(&world, "# other");
    probe().await;
    assert_eq!(runs(&world), QUESTIONS);
    // Behind a wrapper, another program may be called by the same file.
    fs::write(world.path("version"), "abra version 1.2.4\n").unwrap();
    assert_eq!((probe().await.version(), runs(&world)), ("abra version 1.2.4", QUESTIONS));
    // The same size, at another time.
    let touched = Command::new("touch").args(["-d", "2001-01-01"]).arg(&program).status().unwrap();
    assert!(touched.success());
    probe().await;
    assert_eq!(runs(&world), QUESTIONS);
}

#[tokio::test]
async fn a_broken_or_foreign_cache_is_written_anew() {
    let world = World::new();
    let cache = world.path(".abra.json");
    world.abra().await;
    let good = fs::read_to_string(&cache).unwrap();
    assert_eq!(runs(&world), QUESTIONS);
    let broken = [
        String::new(),
        "garbage".to_owned(),
        good[..good.len() / 2].to_owned(),
        good.replace("cc-ci.abra/v2", "cc-ci.abra/v1"),
        good.replace("app deploy", "app-deploy"),
        format!("{good}{}", " ".repeat(2 << 20)),
    ];
    for text in broken {
        fs::write(&cache, text).unwrap();
        world.abra().await.require().unwrap();
        assert_eq!(runs(&world), QUESTIONS);
        assert_eq!(fs::read_to_string(&cache).unwrap(), good);
    }
    // What would be waited for, or leads elsewhere.
    fs::remove_file(&cache).unwrap();
    std::os::unix::fs::symlink(world.path("elsewhere"), &cache).unwrap();
    world.abra().await;
    assert!(!world.path("elsewhere").exists() && cache.symlink_metadata().unwrap().is_file());
    // And a cache that can't be kept costs nothing but time.
    fs::remove_file(&cache).unwrap();
    fs::create_dir(&cache).unwrap();
    world.abra().await.require().unwrap();
}

#[tokio::test]
async fn what_is_needed_and_lacking_is_told_whole_before_anything_is_done() {
    let world = World::new();
    world.lacks("--chaos").lacks("--no-domain-checks").lacks("--no-input");
    let error = world.abra().await.require().unwrap_err();
    let message = error.to_string();
    assert_eq!(error.fault(), Fault::Configuration);
    for part in
        ["abra version 1.2.3", "--chaos/-C of abra app new", "--chaos/-C of abra app deploy", "--no-input/-n"]
    {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(!message.contains("--no-domain-checks") && error.hint().unwrap().contains("doctor"), "{message}");
    assert!(world.calls().is_empty());
}

#[tokio::test]
async fn an_abra_that_may_write_the_shared_catalogue_is_refused_unless_each_run_has_its_own() {
    let mut world = World::new();
    world.lacks("--offline");
    let abra = world.abra().await;
    let error = abra.require().unwrap_err();
    assert_eq!(error.fault(), Fault::Configuration);
    let message = error.to_string();
    assert!(message.contains("--offline/-o of abra app new") && !message.contains("restore"), "{message}");
    assert!(error.hint().unwrap().contains("catalogue = \"copy\""));
    assert!(!abra.can(Subcommand::BackupCreate), "it would write the catalogue");
    world.catalogue = Catalogue::Copy;
    let abra = world.abra().await;
    abra.require().unwrap();
    assert!(abra.can(Subcommand::BackupCreate));
}

#[tokio::test]
async fn a_letter_is_no_flag_where_it_is_anothers() {
    let world = World::new();
    // Here `-f` forces, and nothing reads a file.
    world.lacks("--file");
    let message = world.abra().await.require().unwrap_err().to_string();
    assert!(message.ends_with("needs: --file/-f of abra app secret insert"), "{message}");
}

#[tokio::test]
async fn a_subcommand_that_is_not_there_is_found_behind_the_help_of_another() {
    let world = World::new();
    fs::write(world.path("lacks-command"), "app secret insert").unwrap();
    let abra = world.abra().await;
    let message = abra.require().unwrap_err().to_string();
    assert!(message.ends_with("needs: abra app secret insert"), "{message}");
    assert!(!abra.can(Subcommand::SecretInsert) && abra.can(Subcommand::Deploy));
    // What a run can do without is no error.
    let world = World::new();
    fs::write(world.path("lacks-command"), "app backup create").unwrap();
    world.lacks("--machine").lacks("--no-domain-checks");
    let abra = world.abra().await;
    abra.require().unwrap();
    assert!(!abra.can(Subcommand::BackupCreate) && !abra.can(Subcommand::List));
    let found = abra.capabilities();
    let of = |flag| {
        found.iter().find(|one| one.subcommand == Subcommand::Deploy && one.flag == Some(flag)).unwrap()
    };
    assert_eq!((of(Flag::NoDomainChecks).found, of(Flag::Chaos).found), (None, Some("--chaos")));
}

#[tokio::test]
async fn an_abra_that_is_missing_broken_or_hangs_is_the_hosts_trouble_and_is_not_remembered() {
    let world = World::new();
    let of = async |program: &Path| {
        let error = Abra::probe(world.lifetime.as_ref(), world.probe_of(program)).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Host);
        assert!(!world.path(".abra.json").exists());
        error
    };
    let missing = of(Path::new("/nonexistent/abra")).await;
    assert!(missing.hint().unwrap().contains("install"), "{missing}");
    assert!(of(Path::new("/bin/false")).await.to_string().contains("exit status 1"));
    fs::write(world.path("hanging"), "").unwrap();
    tokio::time::pause();
    let hanging = of(&program()).await;
    assert!(hanging.to_string().contains("did not end within 10 s"), "{hanging}");
}
