//! One owner a domain (I1), through the built command: waits that are seen, bounded and in order.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use cc_ci_core::lock::{AppLock as _, FlockLocks};
use cc_ci_tests::{Gate, World, until};

#[test]
fn a_second_run_of_one_pull_request_waits_visibly_and_then_deploys_once_itself() {
    let world = World::new();
    let recipe = world.recipe("twice");
    let gate = world.gate("custom");
    let counts = world.path().join("counts");
    recipe
        .script(
            "tests/custom",
            &format!(
                "echo \"$CCCI_RUN_ID $(cat \"$CCCI_DEPLOY_COUNT_FILE\")\" >> '{}'\n{}",
                counts.display(),
                gate.script()
            ),
        )
        .commit();
    let run = |id: &str| world.cc_ci(["run", "--pr", "1", "--run-id", id]).arg(recipe.path()).start();
    let first = run("one");
    gate.wait();
    let mut second = run("two");
    let domain = world.domain("twice", 1);
    assert_eq!(
        second.wait_for("in flight"),
        format!("== app lock: {domain} in flight — waiting =="),
        "at once, before anything is known of the holder"
    );
    let holder = second.wait_for("held by");
    let expected = format!("pid {}, run one of twice, custom, since", first.pid());
    assert!(holder.contains(&expected), "{holder}");
    assert!(holder.contains("at least 1 waiting"), "{holder}");
    gate.open();
    first.wait().expect(0);
    second.wait_for("== app lock: acquired ==");
    gate.wait();
    assert!(world.runs().join("one/run.json").exists(), "the second run keeps the first one's record");
    gate.open();
    second.wait().expect(0);
    for id in ["one", "two"] {
        assert_eq!(world.record(id)["deploy_count"], 1, "{id}");
        assert_eq!(world.record(id)["domain"], domain.as_str(), "{id}");
    }
    assert_eq!(fs::read_to_string(counts).unwrap(), "one 1\ntwo 1\n", "each sees its own count");
    world.assert_empty();
}

#[test]
fn runs_of_different_domains_never_wait_for_each_other() {
    let world = World::new();
    let recipe = world.recipe("apart");
    let gates = [world.gate("custom-1"), world.gate("custom-2")];
    let script: Vec<String> = gates
        .iter()
        .zip(1..)
        .map(|(gate, n)| format!("[ $CCCI_RUN_ID != {n} ] || {{ {}; }}", gate.script()))
        .collect();
    recipe.script("tests/custom", &script.join("\n")).commit();
    let runs = ["1", "2"].map(|n| world.cc_ci(["run", "--pr", n, "--run-id", n]).arg(recipe.path()).start());
    // Both are in the middle of a test at one time.
    Gate::meet(&gates);
    for run in runs {
        let end = run.wait().expect(0);
        assert!(!end.stderr.contains("app lock"), "{}", end.stderr);
    }
    world.assert_empty();
}

#[test]
fn a_wait_that_times_out_ends_with_75_and_has_deployed_nothing() {
    let world = World::new();
    let recipe = world.recipe("late");
    recipe.commit();
    let gate = world.gate("holder");
    let domain = world.domain("late", 1);
    let holder = world.cc_ci(["with-lock", domain.as_str(), "--", "sh", "-c", &gate.script()]).start();
    gate.wait();
    let end = world
        .cc_ci(["run", "--pr", "1", "--run-id", "1", "--format", "json", "--lock-timeout", "100ms"])
        .arg(recipe.path())
        .run()
        .expect(75);
    assert_eq!(end.json()["verdict"], "lock_timeout");
    assert_eq!(end.json()["deploy_count"], 0);
    assert!(end.stderr.contains(&format!("cc-ci locks {domain}")), "the hint helps: {}", end.stderr);
    gate.open();
    holder.wait().expect(0);
    world.assert_empty();
}

#[test]
fn waiting_commands_get_the_lock_in_the_order_in_which_they_came() {
    let world = World::new();
    let domain = world.domain("queue", 1);
    let gate = world.gate("holder");
    let holder = world.cc_ci(["with-lock", domain.as_str(), "--", "sh", "-c", &gate.script()]).start();
    gate.wait();
    let locks = FlockLocks::new(world.locks(), world.host());
    let order = world.path().join("order");
    let waiters: Vec<_> = (1..=8)
        .map(|n| {
            let script = format!("echo {n} >> '{}'", order.display());
            let waiter = world.cc_ci(["with-lock", domain.as_str(), "--", "sh", "-c", &script]).start();
            until("the kernel shows the waiter", || {
                locks.inspect(&domain).unwrap().is_some_and(|view| view.waiting == n)
            });
            waiter
        })
        .collect();
    gate.open();
    holder.wait().expect(0);
    for waiter in waiters {
        waiter.wait().expect(0);
    }
    assert_eq!(fs::read_to_string(order).unwrap(), "1\n2\n3\n4\n5\n6\n7\n8\n");
}

/// A reason to refuse, and how to make what is refused.
type Make<'m> = (&'m str, &'m dyn Fn(&std::path::Path));

#[test]
fn what_is_no_lock_file_is_refused_by_name() {
    let world = World::new();
    let recipe = world.recipe("odd");
    recipe.commit();
    let secret = world.path().join("somebody's");
    fs::write(&secret, "their own").unwrap();
    let make: [Make<'_>; 4] = [
        ("symbolic link", &|path| symlink(&secret, path).unwrap()),
        ("FIFO", &|path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap()),
        ("directory", &|path| fs::create_dir(path).unwrap()),
        ("2 links", &|path| fs::hard_link(&secret, path).unwrap()),
    ];
    for ((reason, make), number) in make.into_iter().zip(1..) {
        let domain = world.domain("odd", number);
        let path = world.lock_file(&domain);
        make(&path);
        let pr = number.to_string();
        let end = world.cc_ci(["run", "--format", "json", "--pr", &pr]).arg(recipe.path()).run().expect(3);
        let errors = end.json()["errors"].to_string();
        assert!(errors.contains(path.to_str().unwrap()) && errors.contains(reason), "{reason}: {errors}");
        let end = world.cc_ci(["with-lock", domain.as_str(), "--", "true"]).run().expect(125);
        assert!(end.stderr.contains(path.to_str().unwrap()) && end.stderr.contains(reason), "{}", end.stderr);
        let end = world.cc_ci(["locks", domain.as_str()]).run().expect(0);
        assert!(end.stderr.contains(reason), "a look warns and goes on: {}", end.stderr);
    }
    assert_eq!(fs::read_to_string(&secret).unwrap(), "their own");
    world.assert_empty();
}

#[test]
fn a_hostile_record_is_never_believed() {
    let world = World::new();
    let gate = world.gate("other");
    let [other, held] = [1, 2].map(|number| world.domain("hostile", number));
    // Somebody else's true record, of a living process, with a valid checksum.
    let stranger = world.cc_ci(["with-lock", other.as_str(), "--", "sh", "-c", &gate.script()]).start();
    gate.wait();
    let true_record = fs::read(world.lock_file(&other)).unwrap();
    let mut torn = true_record.clone();
    torn[256..].fill(b'x');
    let path = world.lock_file(&held);
    let file = File::create_new(&path).unwrap();
    file.lock().unwrap();
    let me = std::process::id();
    let records = [vec![b'x'; 10 << 20], vec![0; 512], true_record, torn, b"pid 1\n".to_vec(), Vec::new()];
    for record in records {
        fs::write(&path, &record).unwrap();
        let end = world.cc_ci(["locks", "--format", "json", held.as_str()]).run().expect(0);
        let lock = &end.json()["locks"][0];
        assert_eq!(lock["held"], true);
        // Unknown, or who the kernel says it is; nothing of what the record claims.
        let holder = &lock["holder"];
        assert!(holder.is_null() || holder["pid"] == me, "{holder}");
        assert!(holder["description"].is_null() && holder["since"].is_null(), "{holder}");
    }
    gate.open();
    stranger.wait().expect(0);
}

#[test]
fn whoever_only_looks_never_keeps_anybody_from_the_lock() {
    let world = World::new();
    let domain = world.domain("look", 1);
    let path = world.lock_file(&domain);
    let file = File::create_new(&path).unwrap();
    let locks = FlockLocks::new(world.locks(), world.host());
    std::thread::scope(|scope| {
        let looker = scope.spawn(|| {
            for _ in 0..500 {
                locks.inspect(&domain).unwrap();
            }
            for args in [&["locks"][..], &["audit"], &["janitor", "--dry-run"]] {
                world.cc_ci(args).run().expect(0);
            }
        });
        // One descriptor for all tries: one that is closed may live on in a scan of /proc.
        while !looker.is_finished() {
            file.try_lock().expect("nobody else ever has it");
            file.unlock().unwrap();
        }
    });
}

#[test]
fn a_second_lock_directory_on_one_local_root_is_refused_and_changes_nothing() {
    let world = World::new();
    let recipe = world.recipe("space");
    let domain = world.killed_run(&recipe, 1);
    let elsewhere = world.path().join("other-locks");
    fs::create_dir(&elsewhere).unwrap();
    world.children_are_gone();
    let before = (world.snapshot(), world.resources());
    let calls = [
        world.cc_ci(["run", "--pr", "1", "--run-id", "2"]).arg(recipe.path()),
        world.cc_ci(["run", "--pr", "2", "--run-id", "3"]).arg(recipe.path()),
        world.cc_ci(["janitor"]),
    ];
    for call in calls {
        let end = call.env("CCCI_APP_LOCK_DIR", &elsewhere).run().expect(2);
        assert!(end.stderr.contains("hint: "), "{}", end.stderr);
        assert!(
            end.stderr.contains(&format!("CCCI_APP_LOCK_DIR={}", world.locks().display())),
            "{}",
            end.stderr
        );
        assert_eq!((world.snapshot(), world.resources()), before);
    }
    let end = world.cc_ci(["janitor"]).run().expect(0);
    assert!(end.stdout.contains(&format!("{domain}: orphan, reaped")), "{}", end.stdout);
    world.assert_empty();
}
