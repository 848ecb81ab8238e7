//! What abra does wrong, and what is said of it.

use std::time::Duration;

use cc_ci_core::engine::{Deployer as _, Failure, Fault};
use cc_ci_core::process::{ProcessIdentity, wait_gone};
use cc_ci_core::system_info::BootId;

use super::world::World;

#[track_caller]
fn host(end: Result<(), Failure>, part: &str) {
    let error = end.unwrap_err();
    assert!(error.fault() == Fault::Host && error.to_string().contains(part), "{error}");
}

#[tokio::test]
async fn success_with_nothing_done_is_never_believed() {
    let world = World::new();
    let deployer = world.deployer().await;
    host(deployer.create(&world.context, &world.app).await, "there is no");
    world.env("SECRET_KEY_VERSION=v1\n");
    let end = deployer.generate_secrets(&world.context, &world.app).await.map(drop);
    host(end, "inserted the secrets key");
    assert!(world.engine.adopted.lock().unwrap().is_empty());
    host(deployer.deploy(&world.context, &world.app).await, "nothing of it is deployed");
    world.does("deploy", "touch services/app");
    host(deployer.deploy(&world.context, &world.app).await, "these services are not there: db");
    world.does("deploy", "touch services/app services/db");
    deployer.deploy(&world.context, &world.app).await.unwrap();
    host(deployer.upgrade(&world.context, &world.app).await, "got no order for these services: app, db");
    world.does("deploy", "echo again >services/db");
    host(deployer.upgrade(&world.context, &world.app).await, "got no order for these services: app");
}

#[tokio::test]
async fn a_failure_stays_one_though_everything_is_there() {
    let world = World::new();
    world.env("DOMAIN=x\n").does("deploy", "touch services/app services/db; echo starting >&2; exit 3");
    let error = world.deployer().await.deploy(&world.context, &world.app).await.unwrap_err();
    let message = error.to_string();
    assert!(
        message.starts_with("`abra app deploy --no-input ") && message.ends_with("exit status 3: starting"),
        "{message}"
    );
}

#[tokio::test]
async fn whose_fault_it_is_is_told_by_abras_own_words() {
    let world = World::new();
    let deployer = world.deployer().await;
    for (script, fault) in [
        ("echo 'FATA secret not generated: key' >&2; exit 1", Fault::Recipe),
        ("echo 'FATA R014: only annotated tags used for recipe version'; exit 1", Fault::Recipe),
        ("echo 'FATA test has locally unstaged changes' >&2; exit 1", Fault::Host),
        ("echo 'FATA what is this' >&2; exit 1", Fault::Host),
        // Whatever it said before.
        ("echo 'FATA secret not generated: key' >&2; kill -9 $$", Fault::Host),
    ] {
        world.does("deploy", script);
        let error = deployer.deploy(&world.context, &world.app).await.unwrap_err();
        assert!(error.fault() == fault && error.to_string().contains("FATA"), "{script}: {error}");
    }
}

#[tokio::test]
async fn an_abra_that_hangs_is_ended_with_its_group_and_has_its_last_words() {
    let world = World::new();
    let script = "trap '' TERM; echo 'WARN waiting' >&2; sleep 1000 & echo $! >pid.new; mv pid.new pid; wait; wait; wait";
    world.does("deploy", script);
    let deployer = world.deployer().await;
    let call = deployer.deploy(&world.context, &world.app);
    tokio::pin!(call);
    while !world.path("pid").exists() {
        assert!(futures_util::poll!(call.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    let boot = BootId::current().unwrap();
    let sleep = ProcessIdentity::of(world.read("pid").trim().parse().unwrap(), boot.clone()).unwrap();
    // From here on every wait is over at once: that of the call, and that for its end.
    tokio::time::pause();
    let error = call.await.unwrap_err();
    tokio::time::resume();
    let message = error.to_string();
    assert_eq!(error.fault(), Fault::Host);
    assert!(message.contains("did not end within 300 s") && message.ends_with("WARN waiting"), "{message}");
    // In the runtime's time, which has jumped.
    let far = tokio::time::Instant::now().into_std() + Duration::from_mins(1);
    assert!(wait_gone(&sleep, &boot, far).await.unwrap(), "a child of abra's is alive");
}

#[tokio::test]
async fn a_cancelled_run_waits_for_no_abra() {
    let world = World::new();
    world.does("ls", "touch up; sleep 1000; :");
    let call = world.listed();
    tokio::pin!(call);
    while !world.path("up").exists() {
        assert!(futures_util::poll!(call.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    world.lifetime.cancel();
    let error = call.await.unwrap_err();
    assert_eq!(error.fault(), Fault::Host);
    // And no second one is started.
    assert_eq!(world.calls().len(), 1);
    world.ended().await;
}

#[tokio::test]
async fn output_without_end_is_no_errors_length() {
    let world = World::new();
    world.does("deploy", "head -c 3000000 /dev/zero | tr '\\0' x >&2; yes | head -n 20000; exit 1");
    let error = world.deployer().await.deploy(&world.context, &world.app).await.unwrap_err();
    assert!(error.to_string().len() < 2000, "{}", error.to_string().len());
}
