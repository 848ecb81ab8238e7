//! The janitor removes what dead runs left, and nothing else (I4, I5): every row of its table.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use cc_ci_core::names::Domain;
use cc_ci_core::process::{Marker, MarkerOwner};
use cc_ci_tests::{Ended, World, unconfined};
use serde_json::Value;

/// What a pass decided on `domain`; null when it was no candidate.
pub fn decision(report: &Value, domain: &Domain) -> Value {
    let findings = report["findings"].as_array().unwrap();
    let of = findings.iter().find(|finding| finding["domain"] == domain.as_str());
    of.map_or(Value::Null, |finding| finding["decision"].clone())
}

pub fn pass(world: &World, code: i32) -> Ended {
    world.cc_ci(["janitor", "--format", "json"]).run().expect(code)
}

#[test]
fn what_a_killed_run_left_is_reaped_once_and_its_lock_file_goes() {
    let world = World::new();
    let domain = world.killed_run(&world.recipe("dead"), 1);
    assert!(world.lock_file(&domain).exists());
    world.cc_ci(["audit"]).run().expect(4);
    let report = pass(&world, 0).json();
    assert_eq!(decision(&report, &domain), "reaped", "{report}");
    world.assert_empty();
    assert!(!world.lock_file(&domain).exists());
    assert_eq!(pass(&world, 0).json()["findings"], Value::Array(Vec::new()));
    world.cc_ci(["audit"]).run().expect(0);
}

#[test]
fn an_env_file_that_a_killed_run_did_not_finish_is_found_and_removed_and_a_bystanders_is_not() {
    let world = World::new();
    let (domain, servers) = (world.domain("dead", 1), world.path().join("local/servers/local"));
    fs::create_dir_all(&servers).unwrap();
    let left = servers.join(format!("{domain}.env.new"));
    let theirs = servers.join(format!("blog.{}.env.new", world.suffix()));
    for file in [&left, &theirs] {
        fs::write(file, "TYPE=x\n").unwrap();
    }
    world.cc_ci(["audit"]).run().expect(4);
    assert_eq!(decision(&pass(&world, 0).json(), &domain), "reaped");
    assert!(!left.exists() && theirs.exists());
    world.cc_ci(["audit"]).run().expect(0);
}

#[test]
fn a_live_run_is_left_alone_before_its_deploy_and_after() {
    let world = World::new();
    let recipe = world.recipe("live");
    let (before, after) = (world.gate("steps"), world.gate("custom"));
    recipe.script("tests/install_steps.sh", &before.script());
    recipe.script("tests/custom", &after.script()).commit();
    let run = world.cc_ci(["run", "--pr", "1", "--run-id", "1"]).arg(recipe.path()).start();
    let domain = world.domain("live", 1);
    for gate in [before, after] {
        gate.wait();
        let left = world.resources();
        let report = pass(&world, 0).json();
        assert_eq!(decision(&report, &domain), "live");
        let holder = &report["findings"][0]["holder"];
        assert_eq!((&holder["pid"], &holder["description"]["run_id"]), (&run.pid().into(), &"1".into()));
        assert_eq!(world.resources(), left);
        world.cc_ci(["audit"]).run().expect(0);
        gate.open();
    }
    run.wait().expect(0);
    world.assert_empty();
}

#[test]
fn a_run_that_still_waits_for_its_domain_keeps_its_directory() {
    let world = World::new();
    let recipe = world.recipe("wait");
    recipe.commit();
    let domain = world.domain("wait", 1);
    let gate = world.gate("holder");
    let holder = world.cc_ci(["with-lock", domain.as_str(), "--", "sh", "-c", &gate.script()]).start();
    gate.wait();
    let mut run = world.cc_ci(["run", "--pr", "1", "--run-id", "1"]).arg(recipe.path()).start();
    run.wait_for("in flight");
    // Free in the middle, too: the run has a tree, and nobody owns the domain yet.
    pass(&world, 0);
    assert!(world.runs().join("1/abra/recipes/wait/compose.yml").exists());
    gate.open();
    holder.wait().expect(0);
    run.wait().expect(0);
    world.assert_empty();
}

#[test]
fn a_run_starts_undisturbed_while_janitors_pass() {
    let world = World::new();
    let recipe = world.recipe("start");
    recipe.release("1.0.0+1");
    recipe.compose("2", "").commit();
    let run = world.cc_ci(["run", "--pr", "1", "--run-id", "1", "--format", "json"]).arg(recipe.path());
    let end = std::thread::scope(|scope| {
        let run = scope.spawn(|| run.run());
        while !run.is_finished() {
            pass(&world, 0);
        }
        run.join().unwrap().expect(0)
    });
    assert_eq!(end.json()["verdict"], "green");
    assert_eq!(end.json()["receipt"]["recovered"], Value::Array(Vec::new()));
    world.assert_empty();
}

#[test]
fn a_stale_lock_file_is_swept() {
    let world = World::new();
    let domain = world.domain("stale", 1);
    fs::write(world.lock_file(&domain), "").unwrap();
    assert_eq!(decision(&pass(&world, 0).json(), &domain), "stale_lock");
    assert!(!world.lock_file(&domain).exists());
}

#[test]
fn eight_janitors_at_once_reap_once() {
    let world = World::new();
    let domain = world.killed_run(&world.recipe("eight"), 1);
    let janitors: Vec<_> = (0..8).map(|_| world.cc_ci(["janitor", "--format", "json"]).start()).collect();
    let reports: Vec<Value> = janitors.into_iter().map(|janitor| janitor.wait().expect(0).json()).collect();
    let reaped = reports.iter().filter(|report| decision(report, &domain) == "reaped").count();
    assert_eq!(reaped, 1, "{reports:#?}");
    pass(&world, 0);
    world.assert_empty();
    assert!(!world.lock_file(&domain).exists());
}

#[test]
fn what_a_reboot_leaves_is_reaped_though_no_lock_file_is_there() {
    let world = World::new();
    let domain = world.killed_run(&world.recipe("boot"), 1);
    world.kill_everything();
    fs::remove_file(world.lock_file(&domain)).unwrap();
    assert_eq!(decision(&pass(&world, 0).json(), &domain), "reaped");
    world.assert_empty();
    assert!(!world.lock_file(&domain).exists());
}

#[test]
fn a_run_reaps_for_others_before_it_deploys_and_within_its_budget() {
    let world = World::new();
    let domain = world.killed_run(&world.recipe("gone"), 1);
    let recipe = world.recipe("next");
    recipe.commit();
    let config = world.path().join("no-janitor.toml");
    fs::write(&config, unconfined("janitor_budget = \"0s\"\n")).unwrap();
    let run = |id: &str| world.cc_ci(["run", "--run-id", id]).arg(recipe.path());
    let end = run("1").env("CCCI_CONFIG", &config).run().expect(0);
    assert!(end.stderr.contains(&format!("janitor: {domain}: not reached")), "{}", end.stderr);
    assert!(!world.resources().is_empty());
    let end = run("2").run().expect(0);
    let (reap, deploy) =
        (end.stderr.find(&format!("janitor: {domain}: orphan, reaped")), end.stderr.find("-- install"));
    assert!(reap.is_some() && reap < deploy, "{}", end.stderr);
    world.assert_empty();
}

#[test]
fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    let world = World::new();
    let recipe = world.recipe("dry");
    let domain = world.killed_run(&recipe, 1);
    let stale = world.domain("dry", 2);
    fs::write(world.lock_file(&stale), "").unwrap();
    // Of this one no lock file is left, and none is made.
    fs::remove_file(world.lock_file(&domain)).unwrap();
    world.children_are_gone();
    let before = (world.snapshot(), world.resources());
    let end = world.cc_ci(["janitor", "--dry-run", "--format", "json"]).run().expect(4);
    assert_eq!(decision(&end.json(), &domain), "would_reap");
    assert_eq!(decision(&end.json(), &stale), "would_remove_lock");
    assert_eq!((world.snapshot(), world.resources()), before);
    pass(&world, 0);
}

#[test]
fn a_domain_whose_lock_file_is_refused_keeps_its_residue_and_holds_nobody_up() {
    let world = World::new();
    let recipe = world.recipe("refu");
    let refused = world.killed_run(&recipe, 1);
    let other = world.killed_run(&recipe, 2);
    let path = world.lock_file(&refused);
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/nonexistent", &path).unwrap();
    let state = |end: &Ended, domain: &Domain| {
        let apps = end.json()["apps"].as_array().unwrap().clone();
        let of = |app: &&Value| app["domain"] == domain.as_str();
        apps.iter().find(of).map(|app| (app["state"].clone(), app["reason"].to_string()))
    };
    let audit = world.cc_ci(["audit", "--format", "json"]).run().expect(4);
    assert_eq!(state(&audit, &other).unwrap(), ("left".into(), "null".to_owned()));
    let (refusal, reason) = state(&audit, &refused).unwrap();
    assert!(refusal == "refused" && reason.contains("symbolic link"), "{}", audit.stdout);
    let end = pass(&world, 4);
    assert_eq!(decision(&end.json(), &refused), "failed");
    assert!(end.stdout.contains("symbolic link"), "{}", end.stdout);
    assert_eq!(decision(&end.json(), &other), "reaped");
    let residue = world.resources();
    assert!(residue.iter().any(|left| left.contains(refused.as_str())), "{residue:?}");
    assert!(!residue.iter().any(|left| left.contains(other.as_str())), "{residue:?}");
    assert!(path.symlink_metadata().is_ok());
    let audit = world.cc_ci(["audit"]).run().expect(3);
    assert!(audit.stdout.starts_with(&format!("{refused}: its lock is refused (")), "{}", audit.stdout);
    fs::remove_file(&path).unwrap();
    assert_eq!(decision(&pass(&world, 0).json(), &refused), "reaped");
    world.assert_empty();
}

/// An app that is none of cc-ci's business: a volume, a secret, a port, a `.env`, a process, and a lock file that
/// tells when somebody opens it.
struct Bystander {
    domain: Domain,
    process: std::process::Child,
    lock: fs::File,
}

impl Bystander {
    fn new(world: &World, domain: &str, owner: MarkerOwner) -> Self {
        let domain: Domain = domain.parse().unwrap();
        let app = world.local_root().join("apps").join(domain.as_str());
        for (directory, file) in [("volumes/data", "precious"), ("secrets", "key"), ("services", "app.json")]
        {
            fs::create_dir_all(app.join(directory)).unwrap();
            fs::write(app.join(directory).join(file), format!("{domain}'s own")).unwrap();
        }
        let servers = world.local_root().join("servers/local");
        fs::create_dir_all(&servers).unwrap();
        fs::write(servers.join(format!("{domain}.env")), "TYPE=blog\n").unwrap();
        let marker = Marker { domain: domain.clone(), owner };
        let process = Command::new("sleep")
            .arg("1000")
            .env(Marker::VARIABLE, marker.to_string())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        // A pipe whose reader sees that a writer was there, even when it is gone again.
        let path = world.lock_file(&domain);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        Self { domain, process, lock: reader(&path) }
    }

    /// Whether anybody opened the lock path as whoever takes the lock does.
    fn was_opened(&self) -> bool {
        use std::os::fd::AsFd as _;
        let mut fds = [nix::poll::PollFd::new(self.lock.as_fd(), nix::poll::PollFlags::POLLIN)];
        nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO).unwrap() > 0
    }
}

fn reader(path: &Path) -> fs::File {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    fs::OpenOptions::new().read(true).custom_flags(flags).open(path).unwrap()
}

impl Drop for Bystander {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[test]
fn bystanders_protected_apps_and_longer_names_are_not_even_looked_at() {
    let world = World::new();
    let suffix = world.suffix().clone();
    let recipe = world.recipe("near");
    let dead_owner = {
        let mut child = Command::new("true").spawn().unwrap();
        let owner = cc_ci_core::process::ProcessIdentity::of(
            child.id().cast_signed(),
            cc_ci_core::system_info::BootId::current().unwrap(),
        )
        .unwrap();
        child.wait().unwrap();
        MarkerOwner::Run { run_id: "99".parse().unwrap(), owner }
    };
    let service = world.executor(world.host()).marker(&world.domain("near", 1), "app").owner;
    let near = world.domain("near", 1);
    let protected = format!("blog-facade.{suffix}");
    let mut bystanders: Vec<Bystander> = [
        // By its name it could be a run's.
        (protected.clone(), service.clone()),
        (format!("warm-abcdef.{suffix}"), dead_owner.clone()),
        // Whoever lives under the same suffix, or one that it is the beginning of (I12).
        (format!("immich.{suffix}"), service.clone()),
        (format!("db.{near}"), service.clone()),
        (format!("{near}.uk"), dead_owner),
        ("www.example.org".to_owned(), service),
    ]
    .into_iter()
    .map(|(domain, owner)| Bystander::new(&world, &domain, owner))
    .collect();
    let config = world.path().join("config.toml");
    fs::write(&config, unconfined(format!("protect = [\"{protected}\", \"warm-abcdef.{suffix}\"]\n")))
        .unwrap();
    let theirs = |world: &World| {
        let names: Vec<&str> = bystanders.iter().map(|bystander| bystander.domain.as_str()).collect();
        let mut files = world.snapshot();
        files.retain(|path, _| {
            path.iter().any(|part| names.iter().any(|name| part.to_string_lossy().contains(name)))
        });
        files
    };
    let before = theirs(&world);
    let dead = world.killed_run(&recipe, 1);
    assert_eq!(dead, near);
    for args in [&["janitor"][..], &["janitor", "--dry-run"], &["audit"], &["audit", "--all"]] {
        let end = world.cc_ci(args).env("CCCI_CONFIG", &config).run();
        // What a look opened would have been refused, and told.
        assert!(!end.stderr.contains("FIFO") && !end.stdout.contains("FIFO"), "{args:?}: {end:?}");
        end.expect(0);
    }
    world.killed_run(&recipe, 2);
    recipe.script("tests/custom-gate", "exit 0").commit();
    let end =
        world.cc_ci(["run", "--pr", "1"]).arg(recipe.path()).env("CCCI_CONFIG", &config).run().expect(0);
    assert!(end.stderr.contains("orphan, reaped"), "{}", end.stderr);
    assert_eq!(theirs(&world), before);
    for bystander in &mut bystanders {
        assert!(!bystander.was_opened(), "the lock path of {}", bystander.domain);
        assert!(bystander.process.try_wait().unwrap().is_none(), "{}", bystander.domain);
    }
    // The test can fail: one who takes such a lock is seen.
    let first = bystanders[0].domain.as_str();
    world.cc_ci(["with-lock", first, "--", "true"]).env("CCCI_CONFIG", &config).run().expect(125);
    assert!(bystanders[0].was_opened());
}

#[test]
fn an_app_that_broke_its_own_directory_is_reaped_and_keeps_nobody_from_the_others() {
    let world = World::new();
    let recipe = world.recipe("broken");
    let [file, link, whole] = [1, 2, 3].map(|number| world.killed_run(&recipe, number));
    let of = |domain: &Domain, kind| world.local_root().join("apps").join(domain.as_str()).join(kind);
    for kind in ["services", "containers"] {
        for domain in [&file, &link] {
            fs::remove_dir_all(of(domain, kind)).unwrap();
        }
        fs::write(of(&file, kind), "").unwrap();
        symlink(kind, of(&link, kind)).unwrap();
    }
    world.cc_ci(["audit"]).run().expect(4);
    let report = pass(&world, 0).json();
    for domain in [file, link, whole] {
        assert_eq!(decision(&report, &domain), "reaped", "{report}");
    }
    world.assert_empty();
}

#[test]
fn nobody_waits_for_a_pipe_in_the_place_of_a_record_or_a_claim() {
    let world = World::new();
    let domain = world.killed_run(&world.recipe("dead"), 1);
    fs::create_dir_all(world.runs().join("9/tmp")).unwrap();
    world.fifo("runs/9/run.json");
    assert_eq!(decision(&pass(&world, 0).json(), &domain), "reaped");
    fs::remove_file(world.local_root().join("lock-space.json")).unwrap();
    world.fifo("local/lock-space.json");
    pass(&world, 2);
}

#[test]
fn a_run_that_still_fetches_keeps_its_directory_and_its_children() {
    let world = World::new();
    let recipe = world.recipe("fetch");
    recipe.commit();
    // A git that stops, once: the run has a tree and marked children by now, and no lock yet.
    let gate = world.gate("git");
    let bin = world.path().join("bin");
    let path = std::env::var("PATH").unwrap();
    let text = format!(
        "[ ! -e '{once}' ] || {{ rm '{once}'; {}; }}\nPATH='{path}' exec git \"$@\"",
        gate.script(),
        once = bin.join("once").display()
    );
    world.recipe_at(&bin).script("git", &text).write("once", "");
    let domain = world.domain("fetch", 1);
    let first = world.cc_ci(["run", "--pr", "1", "--run-id", "1"]).arg(recipe.path());
    let first = first.env("PATH", format!("{}:{path}", bin.display())).start();
    gate.wait();
    fs::write(world.lock_file(&domain), "").unwrap();
    assert_eq!(decision(&pass(&world, 0).json(), &domain), "stale_lock");
    // Nor does the next owner of the domain end them, or remove the tree.
    let end = world.cc_ci(["run", "--pr", "1", "--format", "json"]).arg(recipe.path()).run().expect(0);
    assert_eq!(end.json()["receipt"]["recovered"], Value::Array(Vec::new()));
    gate.open();
    first.wait().expect(0);
    world.assert_empty();
}

#[test]
fn a_janitor_of_another_world_leaves_the_apps_of_this_one() {
    let world = World::new();
    let domain = world.killed_run(&world.recipe("theirs"), 1);
    let services = || {
        let found = world.processes().into_iter().filter(|found| found.marker.domain == domain);
        found
            .filter(|found| matches!(found.marker.owner, MarkerOwner::Service { .. }))
            .map(|found| found.process)
            .collect::<Vec<_>>()
    };
    let before = services();
    assert!(!before.is_empty());
    // The same suffix, and nothing else in common.
    let other = world.path().join("other");
    let places = [("CCCI_APP_LOCK_DIR", "locks"), ("CCCI_RUNS_DIR", "runs"), ("CCCI_LOCAL_ROOT", "local")];
    fs::create_dir_all(other.join("locks")).unwrap();
    let call = |args: [&str; 1]| {
        places.iter().fold(world.cc_ci(args), |call, (place, name)| call.env(place, other.join(name)))
    };
    call(["audit"]).run().expect(0);
    call(["janitor"]).run().expect(0);
    assert_eq!(services(), before);
    world.cc_ci(["janitor"]).run().expect(0);
    world.assert_empty();
}
