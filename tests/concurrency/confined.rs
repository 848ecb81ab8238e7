//! Whole runs whose recipe's code is confined: what its tests, its install steps and its services see and can't touch.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use cc_ci_tests::{CcCi, Recipe, World, built, confined, skip, unconfined, until};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::paused_runs;

/// A world whose recipes are confined, where this host can do that.
fn world(test: &str) -> Option<World> {
    let world = World::new();
    if !std::process::Command::new("bwrap").arg("--version").output().is_ok_and(|done| done.status.success())
    {
        skip(test, "bwrap (bubblewrap) is not installed");
        return None;
    }
    fs::write(world.config(), confined(&world)).unwrap();
    Some(world)
}

fn call(world: &World, recipe: &Recipe) -> CcCi {
    world.cc_ci(["run", "--format", "json", "--pr", "1", "--run-id", "1"]).arg(recipe.path())
}

#[track_caller]
fn run(world: &World, recipe: &Recipe, code: i32) -> Value {
    let record = call(world, recipe).run().expect(code).json();
    world.assert_empty();
    record
}

/// The kernel keeps the end of a sandbox's first process until somebody takes note of it.
#[test]
fn nothing_is_left_of_a_sandbox_while_its_run_goes_on() {
    let Some(world) = world("nothing_is_left_of_a_sandbox_while_its_run_goes_on") else { return };
    let recipe = world.recipe("plain");
    for number in 0..8 {
        recipe.script(&format!("tests/custom-{number}"), "exit 0");
    }
    recipe.script("tests/custom-fails", "exit 1").commit();
    let mut running = call(&world, &recipe).arg("--keep-on-red").arg("1h").start();
    running.wait_for("red; kept until ");
    let parent = running.pid().to_string();
    let is_dead_child = |stat: &str| {
        let rest = stat.rsplit(") ").next().unwrap_or_default();
        let mut words = rest.split(' ');
        words.next() == Some("Z") && words.next() == Some(parent.as_str())
    };
    let dead = || {
        let stats = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("stat"));
        stats.filter(|stat| fs::read_to_string(stat).is_ok_and(|stat| is_dead_child(&stat))).count()
    };
    until("the last one is gone", || dead() == 0);
    running.signal(Signal::SIGTERM);
    running.wait().expect(1);
    world.assert_empty();
}

fn log(world: &World, name: &str) -> String {
    fs::read_to_string(world.runs().join("1/logs").join(name)).unwrap()
}

#[test]
fn a_run_with_tests_in_every_tier_is_green() {
    let Some(world) = world("a_run_with_tests_in_every_tier_is_green") else { return };
    let recipe = world.recipe("plain");
    recipe.script(
        "tests/install_steps.sh",
        "sed -i 's/^TYPE=test/&\\nGREETING=hello/' \"$CCCI_ENV_FILE\"\necho 'SECRET_MORE_VERSION=v1' >> \"$CCCI_ENV_FILE\"",
    );
    recipe.script("tests/install-keeps", "echo kept > \"$CCCI_STATE_DIR/note\"");
    recipe.script("tests/upgrade-finds", "grep kept \"$CCCI_STATE_DIR/note\"");
    recipe.script(
        "tests/custom-asks",
        "grep -q GREETING=hello \"$CCCI_ENV_FILE\"; test -s \"$CCCI_SECRETS_DIR/more\"; test -f \"$CCCI_RECIPE_DIR/compose.yml\"
        cat \"$(dirname \"$0\")/data/fact\"
        perl -MIO::Socket::INET -e '
            for my $address ($ENV{CCCI_URL} =~ m{//(.*)}, \"$ENV{CCCI_DOMAIN}:80\") {
                my $socket = IO::Socket::INET->new($address) or die \"$address: $@\";
                print $socket \"GET / HTTP/1.0\\r\\n\\r\\n\";
                print grep(/version/, <$socket>), \"\\n\";
            }'",
    );
    recipe.write("tests/data/fact", "a fact\n");
    recipe.release("1.0.0+1");
    recipe.compose("2", "").release("1.1.0+2");
    let record = run(&world, &recipe, 0);
    assert_eq!(record["recipe_code"], "confined");
    let asked = log(&world, "custom-recipe-custom-asks.log");
    assert_eq!(asked.matches("version 2").count(), 2, "by address and by name: {asked}");
    assert!(asked.contains("a fact"), "{asked}");
}

#[test]
fn a_test_sees_neither_the_host_nor_what_started_it() {
    let Some(world) = world("a_test_sees_neither_the_host_nor_what_started_it") else { return };
    let recipe = world.recipe("plain");
    recipe.script(
        "tests/custom-looks",
        "for p in /proc/[0-9]*; do tr '\\0' '\\n' < $p/environ 2>/dev/null; done | grep -a TOKEN && exit 1
        [ -z \"${DOCKER_HOST:-}${ABRA_DIR:-}\" ]
        ls -d /root /home /var/lib /etc/shadow /run/docker.sock \"$CCCI_RECIPE_DIR/../../../run.json\" 2>/dev/null && exit 1
        ls \"$CCCI_RECIPE_DIR\"
        touch \"$CCCI_RECIPE_DIR/new\" 2>/dev/null && exit 1
        env -i setsid -f sleep 700000
        exit 0",
    );
    recipe.commit();
    let end = call(&world, &recipe).env("DRONE_TOKEN", "TOKEN").run();
    assert_eq!(end.code, 0, "{}\n{}", end.stderr, log(&world, "custom-recipe-custom-looks.log"));
    world.assert_empty();
}

/// Asks the test's socket; prints the status and the body.
const ASK: &str = r#"ask() { perl -MIO::Socket::UNIX -e '
    my ($method, $path, $body) = @ARGV; $body //= "";
    my $socket = IO::Socket::UNIX->new(Peer => $ENV{CCCI_API}) or die "no socket: $!";
    print $socket "$method $path HTTP/1.0\r\nContent-Length: ", length $body, "\r\n\r\n$body";
    my ($status, @rest) = <$socket>; $status =~ / (\d+)/; print "$1 ", $rest[-1], "\n";' "$@"; }
"#;

#[test]
fn a_test_runs_commands_and_reads_logs_in_its_app_alone() {
    let Some(world) = world("a_test_runs_commands_and_reads_logs_in_its_app_alone") else { return };
    let recipe = world.recipe("plain");
    let asks = r#"
ask POST /exec/app '["sh", "-c", "echo from the inside"]'
ask POST /exec/app '["sh", "-c", "echo it failed; exit 3"]'
ask POST /exec/app '["cat", "/etc/shadow"]'
ask POST /exec/nobody '["true"]'
ask POST /exec/app 'true'
ask POST /exec/app '[]'
ask POST '/exec/app?app=other' '["true"]'
ask GET /log/app
ask GET /log/nobody
ask GET /exec/app
ask DELETE /
"#;
    recipe.script("tests/custom-asks", &format!("{ASK}{asks}"));
    recipe.commit();
    run(&world, &recipe, 0);
    let asked = log(&world, "custom-recipe-custom-asks.log");
    let statuses: Vec<&str> = asked.lines().filter_map(|line| line.split(' ').next()).collect();
    let statuses: Vec<&str> = statuses.into_iter().filter(|word| word.parse::<u16>().is_ok()).collect();
    assert_eq!(
        statuses,
        ["200", "422", "422", "422", "400", "400", "404", "200", "422", "404", "404"],
        "{asked}"
    );
    for text in ["200 from the inside", "it failed"] {
        assert!(asked.contains(text), "{text}: {asked}");
    }
}

#[test]
fn what_a_recipe_sets_for_its_service_is_nothing_that_makes_the_sandbox_obeys() {
    let Some(world) = world("what_a_recipe_sets_for_its_service_is_nothing_that_makes_the_sandbox_obeys")
    else {
        return;
    };
    let recipe = world.recipe("plain");
    // Each linker that obeys says, in the service's log, that there is no such object: that of the service alone.
    recipe.compose("1", "environment:\n        LD_PRELOAD: /nowhere.so\n");
    recipe.script(
        "tests/custom-reads",
        "perl -MIO::Socket::UNIX -e 'my $s = IO::Socket::UNIX->new(Peer => $ENV{CCCI_API}); print $s \"GET /log/app HTTP/1.0\\r\\n\\r\\n\"; print <$s>'",
    );
    recipe.commit();
    run(&world, &recipe, 0);
    let logged = log(&world, "custom-recipe-custom-reads.log");
    assert_eq!(logged.matches("/nowhere.so").count(), 1, "{logged}");
}

#[test]
fn the_operators_fixtures_reach_a_confined_test_and_no_output() {
    let Some(world) = world("the_operators_fixtures_reach_a_confined_test_and_no_output") else { return };
    let fixtures = world.path().join("fixtures");
    fs::create_dir(&fixtures).unwrap();
    fs::write(fixtures.join("password"), "hunter22\n").unwrap();
    fs::set_permissions(fixtures.join("password"), fs::Permissions::from_mode(0o600)).unwrap();
    let more = format!("[recipes.plain]\nfixtures = \"{}\"\n", fixtures.display());
    fs::write(world.config(), confined(&world) + &more).unwrap();
    let recipe = world.recipe("plain");
    recipe.script("tests/custom-reads", "echo \"it is $(cat \"$CCCI_FIXTURES_DIR/password\")\"").commit();
    run(&world, &recipe, 0);
    assert_eq!(log(&world, "custom-recipe-custom-reads.log"), "it is [secret]\n");
    let kept = fixtures.join("password").metadata().unwrap();
    assert_eq!((kept.uid(), kept.permissions().mode() & 0o777), (nix::unistd::geteuid().as_raw(), 0o600));
}

#[test]
fn who_listens_on_the_host_is_reached_where_the_operator_says_so_and_not_else() {
    let test = "who_listens_on_the_host_is_reached_where_the_operator_says_so_and_not_else";
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for (more, code) in [("", 1), ("[recipes.plain]\nnetwork = \"host\"\n", 0)] {
        let Some(world) = world(test) else { return };
        fs::write(world.config(), confined(&world) + more).unwrap();
        let recipe = world.recipe("plain");
        let connect = "perl -MIO::Socket::INET -e 'exit(!IO::Socket::INET->new(shift))'";
        // Its app it reaches either way.
        recipe.script(
            "tests/custom-asks",
            &format!("{connect} \"${{CCCI_URL#http://}}\"; {connect} {address}"),
        );
        recipe.commit();
        let record = run(&world, &recipe, code);
        assert_eq!(record["recipe_code"], "confined");
    }
}

#[test]
fn what_install_steps_leave_is_read_and_judged_by_cc_ci() {
    for (steps, code, why) in [
        ("echo 'EVIL=1' > \"$CCCI_RECIPE_DIR/added.env\"", 0, ""),
        ("echo '# changed' >> \"$CCCI_RECIPE_DIR/compose.yml\"", 1, "changed files of"),
        ("ln -s /etc/passwd \"$CCCI_RECIPE_DIR/link\"", 1, "neither a file nor a directory"),
        ("ln -sf /etc/passwd \"$CCCI_ENV_FILE\"", 1, "install steps"),
        ("printf '=x=\\n' > \"$CCCI_ENV_FILE\"", 1, "install steps"),
    ] {
        let Some(world) = world("what_install_steps_leave_is_read_and_judged_by_cc_ci") else { return };
        let recipe = world.recipe("plain");
        recipe.script("tests/install_steps.sh", steps);
        recipe.commit();
        let end = call(&world, &recipe).run().expect(code);
        world.assert_empty();
        assert!(code == 0 || end.stderr.contains(why) || end.stdout.contains(why), "{steps}: {}", end.stderr);
    }
}

#[test]
fn a_pull_requests_home_is_not_the_operators() {
    for is_confined in [true, false] {
        let Some(world) = world("a_pull_requests_home_is_not_the_operators") else { return };
        if !is_confined {
            fs::write(world.config(), unconfined("")).unwrap();
        }
        let recipe = world.recipe("plain");
        recipe.script(
            "tests/install_steps.sh",
            "echo poison > \"$HOME/.curlrc\"; echo poison > \"$TMPDIR/poison\"; echo poison > \"$CCCI_STATE_DIR/poison\"",
        );
        recipe.commit();
        let operators = world.recipe_at(&world.path().join("operator/plain"));
        operators.script(
            "install-clean",
            "[ ! -e \"$HOME/.curlrc\" ]; [ ! -e \"$TMPDIR/poison\" ]; [ ! -e \"$CCCI_STATE_DIR/poison\" ]",
        );
        fs::remove_file(operators.path().join("compose.yml")).unwrap();
        let call = call(&world, &recipe).arg("--tests-dir").arg(world.path().join("operator"));
        let record = call.run().expect(0).json();
        assert!(record.to_string().contains("operator/install-clean"), "{record:#}");
        world.assert_empty();
    }
}

#[test]
fn a_service_sees_its_app_and_keeps_its_data_over_an_upgrade_and_a_restore() {
    let test = "a_service_sees_its_app_and_keeps_its_data_over_an_upgrade_and_a_restore";
    let Some(world) = world(test) else { return };
    let recipe = world.recipe("plain");
    let service = built("service-probe");
    let compose = |version: &str| {
        format!(
            r#"version: "3.8"
services:
  app:
    image: test/app:{version}
    volumes: ["data:/data"]
    secrets: [key]
    deploy: {{labels: ["backupbot.backup=true", "coop-cloud.${{STACK_NAME}}.timeout=60"]}}
    x-cc-ci-local:
      command: ["sh", "-ec", 'grep -q . "$$KEY"; echo {version} >> "$$DATA/versions"; ls / /root > "$$DATA/seen" 2>&1 || true; kill -0 {bystander} 2>/dev/null && echo sees >> "$$DATA/versions"; exec "{service}" "$$PORT" "$$(tr "\n" - < "$$DATA/versions")"']
      health: /health
      environment: {{KEY: "${{CCCI_SECRET_KEY:-}}", DATA: "${{CCCI_VOLUME_DATA:-}}", PORT: "${{CCCI_PORT:-}}"}}
volumes: {{data: }}
secrets: {{key: {{external: true, name: "${{STACK_NAME}}_key_${{SECRET_KEY_VERSION}}"}}}}
"#,
            service = service.display(),
            bystander = std::process::id(),
        )
    };
    recipe.write("compose.yml", &compose("1")).release("1.0.0+1");
    recipe.write("compose.yml", &compose("2"));
    let ask = "perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new($ENV{CCCI_URL} =~ m{//(.*)}); print $s \"GET / HTTP/1.0\\r\\n\\r\\n\"; print <$s>'";
    recipe.script("tests/custom-asks", ask);
    recipe.release("1.1.0+2");
    run(&world, &recipe, 0);
    let asked = log(&world, "custom-recipe-custom-asks.log");
    assert!(asked.contains("1-2-") && !asked.contains("sees"), "{asked}");
}

/// Lets the service run these words of a shell before it serves.
fn serve_after(recipe: &Recipe, words: &str) {
    let command = format!(
        "command: [\"sh\", \"-c\", \"{words} exec {} ${{CCCI_PORT:-}} 1\"]",
        built("service-probe").display()
    );
    let path = recipe.path().join("compose.yml");
    let compose = fs::read_to_string(&path).unwrap();
    let line = compose.lines().find(|line| line.contains("command:")).unwrap().trim().to_owned();
    fs::write(&path, compose.replace(&line, &command)).unwrap();
}

/// Makes more files than a sandbox may have.
const FILL: &str = "for (1..101000) { open(my $file, '>', \"$ARGV[0]/many-$_\") or die }\n";

#[test]
fn what_fills_the_disk_is_ended_and_says_so() {
    let Some(world) = world("what_fills_the_disk_is_ended_and_says_so") else { return };
    let recipe = world.recipe("plain");
    recipe.write("fill.pl", FILL);
    recipe.script("tests/custom-fills", "perl \"$CCCI_RECIPE_DIR/fill.pl\" .; exec sleep 1000").commit();
    let record = run(&world, &recipe, 1);
    assert!(record.to_string().contains("100,000 files"), "{record:#}");
    // A service, which nobody waits for but this test: its log says it, and the app is found to be down.
    serve_after(&recipe, "perl fill.pl $$HOME &");
    fs::remove_file(recipe.path().join("tests/custom-fills")).unwrap();
    let asks = "until ask GET /log/app | grep -q 'cc-ci: ended'; do :; done";
    recipe.script("tests/custom-asks", &format!("{ASK}{asks}")).commit();
    world.cc_ci(["run", "--pr", "1", "--run-id", "2"]).arg(recipe.path()).run().expect(1);
    let kept = fs::read_to_string(world.runs().join("2/logs/service-app.log")).unwrap();
    assert!(kept.contains("cc-ci: ended: ") && kept.contains("100,000 files"), "{kept}");
    world.assert_empty();
}

#[test]
fn services_of_a_killed_run_are_reaped_whatever_they_did() {
    let Some(world) = world("services_of_a_killed_run_are_reaped_whatever_they_did") else { return };
    let recipe = world.recipe("plain");
    // No other process sleeps so long.
    let [hidden, waiting] = [8, 9].map(|digit| format!("{digit}{}", std::process::id()));
    // They leave the session, and lose the environment and with it the mark, beside what serves.
    serve_after(&recipe, &format!("env -i setsid -f sleep {hidden}; env -i setsid -f sleep {hidden};"));
    recipe.script("tests/custom-waits", &format!("sleep {waiting}")).commit();
    let running = call(&world, &recipe).start();
    until("the test runs", || (paused_runs::sleeping(&hidden), paused_runs::sleeping(&waiting)) == (2, 1));
    running.signal(Signal::SIGKILL);
    running.wait().expect(137);
    until("the test's sandbox is gone with the run", || paused_runs::sleeping(&waiting) == 0);
    assert_eq!(paused_runs::sleeping(&hidden), 2, "services outlive a run");
    // And what bounded the test outlives whoever would have removed it, where this host has it.
    let has_groups = world.cc_ci(["doctor"]).run().stdout.contains("bounded by a control group");
    assert_eq!(world.cc_ci(["audit"]).run().expect(4).stdout.contains("control group"), has_groups);
    world.cc_ci(["janitor"]).run().expect(0);
    assert_eq!(paused_runs::sleeping(&hidden), 0);
    world.assert_empty();
}

#[test]
fn where_it_cannot_be_had_a_recipes_code_does_not_run_as_root() {
    if !nix::unistd::geteuid().is_root() {
        skip("where_it_cannot_be_had_a_recipes_code_does_not_run_as_root", "needs root");
        return;
    }
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.script("tests/custom-any", "exit 0").commit();
    fs::write(world.config(), "").unwrap();
    // A bwrap that can't do it: as in a container that may not make namespaces.
    let bin = world.programs();
    fs::create_dir_all(&bin).unwrap();
    let broken = bin.join("bwrap");
    fs::write(&broken, "#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2\nexit 1\n")
        .unwrap();
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).unwrap();
    let end = call(&world, &recipe).run().expect(2);
    for text in ["would run unconfined: ", "No permissions", "hint: install bubblewrap", "recipe_scripts"] {
        assert!(end.stderr.contains(text) || end.stdout.contains(text), "{text}: {}", end.stderr);
    }
    assert!(!world.runs().join("1").exists() && !world.local_root().join("apps").exists());
    // None at all: a path with all programs but that one.
    fs::remove_file(&broken).unwrap();
    let path = world.path().join("path");
    fs::create_dir(&path).unwrap();
    for program in
        ["/bin", "/usr/bin"].iter().flat_map(|directory| fs::read_dir(directory).unwrap().flatten())
    {
        if program.file_name() != "bwrap" {
            drop(std::os::unix::fs::symlink(program.path(), path.join(program.file_name())));
        }
    }
    let end = call(&world, &recipe).env("PATH", &path).run().expect(2);
    let message = end.stderr.clone() + &end.stdout;
    assert!(message.contains("as root, not confined: bwrap (bubblewrap) is not installed"), "{message}");
    world.assert_empty();
    // Told, and wanted.
    let record = call(&world, &recipe).arg("--report-only").run().expect(0).json();
    assert!(record["recipe_code"].as_str().unwrap().starts_with("not confined: "), "{record:#}");
    fs::write(world.config(), unconfined("")).unwrap();
    call(&world, &recipe).run().expect(0);
    world.assert_empty();
}

#[test]
fn files_of_a_run_are_nobodys_but_roots_after_it() {
    let Some(world) = world("files_of_a_run_are_nobodys_but_roots_after_it") else { return };
    let recipe = world.recipe("plain");
    recipe.script(
        "tests/custom-writes",
        "echo x > \"$CCCI_STATE_DIR/x\"; echo x > \"$HOME/x\"; chmod 0777 \"$HOME\"",
    );
    recipe.commit();
    run(&world, &recipe, 0);
    let own = world.path().metadata().unwrap().uid();
    for path in world.snapshot_of(&world.runs()).keys() {
        assert_eq!(path.symlink_metadata().unwrap().uid(), own, "{}", path.display());
    }
}
