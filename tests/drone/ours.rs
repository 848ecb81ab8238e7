//! The pipeline of cc-ci itself.

use std::fs;

use cc_ci_tests::ci::{Cancel, Runner, Shell, System};
use cc_ci_tests::{World, executable};

/// It, where the tests are this script.
fn pipeline(world: &World, shell: Shell, body: &str) -> Runner {
    let runner = Runner::new(world, System::Drone, shell, ".drone.yml");
    let tests = runner.workspace().join(".ci/run");
    fs::create_dir_all(tests.parent().expect("a directory")).expect("a workspace");
    executable(&tests, &format!("#!/bin/sh\n{body}\n"));
    runner
}

#[test]
fn its_status_is_that_of_the_tests() {
    for shell in Shell::ALL {
        for code in [0, 1, 2, 7] {
            let world = World::new();
            pipeline(&world, shell, &format!("exit {code}")).start("test").wait().expect(code);
        }
    }
}

#[test]
fn a_cancel_ends_the_tests() {
    for shell in Shell::ALL {
        let world = World::new();
        let gate = world.gate("gate");
        let step = pipeline(&world, shell, &gate.script()).start("test");
        gate.wait();
        step.cancel(Cancel::Shell);
    }
}
