//! The fixture itself: what every engine test relies on.

use cc_ci_tests::engine::{BUSYBOX, TestEngine, until};

#[test]
fn a_stack_comes_and_goes() {
    let Some(engine) = TestEngine::shared("a_stack_comes_and_goes") else { return };
    let stack = engine.stack("plain");
    engine.deploy(
        &stack,
        &format!(
            "version: '3.8'\nservices:\n  app:\n    image: {BUSYBOX}\n    command: [sleep, '1000']\n    \
             stop_grace_period: 1s\n    deploy:\n      endpoint_mode: dnsrr\n"
        ),
    );
    let service = format!("{stack}_app");
    until("the service runs", || engine.running(&service) == 1);
    let kinds: Vec<_> = engine.left().iter().map(|object| object.kind).collect();
    assert_eq!(kinds, ["container", "network", "service", "task"]);
    engine.remove_stack(&stack);
    engine.assert_empty();
}
