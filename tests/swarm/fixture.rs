//! The fixture itself: what every engine test relies on.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cc_ci_tests::engine::{BUSYBOX, Engine, NOTE_KEEPER, Object, TestEngine, http_get, until};

/// The compose file of one service that only waits.
fn plain() -> String {
    format!(
        "version: '3.8'
services:
  app:
    image: {BUSYBOX}
    command: [sleep, '1000']
    stop_grace_period: 1s
    deploy:
      endpoint_mode: dnsrr
"
    )
}

fn below(engine: &Engine, suffix: &str) -> Vec<&'static str> {
    let objects = engine.objects();
    objects.iter().filter(|object| object.is_below(suffix)).map(|object| object.kind).collect()
}

#[test]
fn a_stack_comes_and_goes() {
    let Some(engine) = TestEngine::shared("a_stack_comes_and_goes") else { return };
    let stack = engine.stack("plain");
    engine.deploy(&stack, &plain());
    let service = format!("{stack}_app");
    until("the service runs", || engine.running(&service) == 1);
    let kinds: Vec<_> = engine.left().iter().map(|object| object.kind).collect();
    assert_eq!(kinds, ["container", "network", "service", "task"]);
    engine.remove_stack(&stack);
    engine.assert_empty();
}

#[test]
fn the_example_app_answers_its_host() {
    let Some(engine) = TestEngine::shared("the_example_app_answers_its_host") else { return };
    let stack = engine.stack("note");
    let service = format!("{stack}_app");
    for image in NOTE_KEEPER {
        engine.deploy(
            &stack,
            &format!(
                "version: '3.8'
services:
  app:
    image: {image}
    command: [note-keeper, serve, --data-format, lines]
    environment: [NOTES_WRITE_KEY_FILE=/etc/hostname]
    volumes: ['data:/data']
    deploy:
      endpoint_mode: dnsrr
volumes:
  data:
"
            ),
        );
        let mut answer = None;
        until("it serves", || {
            let address = engine.address(&service).map(|address| SocketAddr::new(address, 8080));
            answer = address.and_then(|address| http_get(address, "note.example.org", "/health").ok());
            answer.is_some()
        });
        assert_eq!(answer.expect("it serves").0, 200);
        engine.remove_stack(&stack);
        engine.docker(["volume", "rm", &format!("{stack}_data")]);
    }
}

#[test]
fn a_test_that_leaves_something_fails() {
    let Some(engine) = TestEngine::shared("a_test_that_leaves_something_fails") else { return };
    let (handle, suffix) = (Engine::clone(&engine), engine.world().suffix().to_string());
    engine.docker(["volume", "create", &engine.stack("left")]);
    let ended = catch_unwind(AssertUnwindSafe(|| drop(engine)));
    let message = ended.expect_err("it left a volume").downcast::<String>().expect("a message");
    assert!(message.contains(&format!("volume left_{}", suffix.replace('.', "_"))), "{message}");
    let left =
        handle.objects().into_iter().find(|object: &Object| object.is_below(&suffix)).expect("a volume");
    handle.docker(["volume", "rm", &left.name]);
}

#[test]
fn a_failed_test_is_cleaned_up_after() {
    let Some(engine) = TestEngine::shared("a_failed_test_is_cleaned_up_after") else { return };
    let (handle, suffix) = (Engine::clone(&engine), engine.world().suffix().to_string());
    let failed = catch_unwind(AssertUnwindSafe(move || {
        let stack = engine.stack("failed");
        engine.deploy(&stack, &plain());
        engine.docker(["volume", "create", &format!("{stack}_data")]);
        engine.docker_with(["secret", "create", &format!("{stack}_key"), "-"], "key");
        engine.docker_with(["config", "create", &format!("{stack}_notice"), "-"], "notice");
        until("the service runs", || engine.running(&format!("{stack}_app")) == 1);
        panic!("on purpose");
    }));
    assert!(failed.is_err());
    assert_eq!(below(&handle, &suffix), Vec::<&str>::new());
}

#[test]
fn the_command_is_pointed_at_the_engine() {
    let Some(engine) = TestEngine::shared("the_command_is_pointed_at_the_engine") else { return };
    let mut command = engine.world().cc_ci(["audit"]);
    let host =
        command.command().get_envs().find(|(name, _)| *name == "DOCKER_HOST").and_then(|(_, host)| host);
    assert_eq!(host, Some(engine.host().as_ref()));
}
