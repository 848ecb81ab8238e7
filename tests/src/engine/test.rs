//! What one engine test has.

use std::ops::Deref;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::thread;

use super::{Bystanders, ENGINE, Engine, Object, holds, skip_for_want_of_one, until};
use crate::world::World;

/// The engine of the suites, and a world on it whose suffix no other test has.
///
/// Dropping it asserts that nothing of its suffix is left and that the bystanders are as they were. Tasks that the Swarm
/// has yet to forget are waited for. After a failed test it asserts nothing, and removes what the test left.
#[derive(Debug)]
pub struct TestEngine {
    engine: Engine,
    world: World,
    bystanders: Bystanders,
}

impl Deref for TestEngine {
    type Target = Engine;
    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl TestEngine {
    /// The engine that `private-engine run` started; `None` where there is none, which is written as a skip.
    #[track_caller]
    pub fn shared(test: &str) -> Option<Self> {
        let Ok(host) = std::env::var(ENGINE) else {
            skip_for_want_of_one(test);
            return None;
        };
        let socket = host.strip_prefix("unix://").map(PathBuf::from).expect("CCCI_TEST_ENGINE is unix://…");
        let engine = Engine::at(socket);
        let bystanders = Bystanders::look(&engine);
        assert!(!bystanders.is_empty(), "the engine of the suites has bystanders");
        let world = World::on(&engine);
        Some(Self { engine, world, bystanders })
    }

    /// This test's world: [`World::cc_ci`] uses this engine.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The name of a stack of this test's.
    pub fn stack(&self, name: &str) -> String {
        format!("{name}_{}", self.world.suffix().as_str().replace('.', "_"))
    }

    /// Everything on the engine that is of this test's suffix, by name or by label.
    #[track_caller]
    pub fn left(&self) -> Vec<Object> {
        let mut left = self.objects();
        left.retain(|object| object.is_below(self.world.suffix().as_str()));
        left
    }

    /// Removes a stack as its owner would, and waits until it is gone: volumes, secrets and configs that the stack
    /// does not own stay.
    #[track_caller]
    pub fn remove_stack(&self, stack: &str) {
        self.docker(["stack", "rm", stack]);
        let of_stack = |object: &Object| object.stack.as_deref() == Some(stack) && object.kind != "volume";
        until("the stack is gone", || !self.objects().iter().any(of_stack));
    }

    /// Asserts that the bystanders are what they were when the test began.
    #[track_caller]
    pub fn bystanders_unchanged(&self) {
        self.bystanders.assert_unchanged(&self.engine);
    }

    /// Asserts that nothing of this test's suffix is left.
    #[track_caller]
    pub fn assert_empty(&self) {
        let left: Vec<String> = self.left().iter().map(Object::to_string).collect();
        assert!(left.is_empty(), "left behind: {left:#?}");
    }
}

impl Drop for TestEngine {
    fn drop(&mut self) {
        if thread::panicking() {
            let suffix = self.world.suffix().as_str();
            // A second panic would end the other tests' process as well: the engine may be what failed.
            let cleared =
                panic::catch_unwind(AssertUnwindSafe(|| self.engine.clear(|object| object.is_below(suffix))));
            for object in cleared.into_iter().flatten() {
                eprintln!("can't remove what the failed test left: {object}");
            }
            return;
        }
        let claim = format!("cc-ci-lockspace-{}", self.world.suffix());
        // It is meant to stay, and no other test wants it.
        self.try_docker(["config", "rm", &claim]);
        self.bystanders_unchanged();
        let moving = |object: &Object| object.kind == "task" || object.kind == "container";
        holds(|| !self.left().iter().any(moving));
        self.assert_empty();
    }
}
