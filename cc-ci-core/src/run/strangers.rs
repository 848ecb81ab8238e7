//! What the operator's tests made on the engine, and left there: it is of no app, so nobody removes it, and nobody else would say so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::scripts::{Layer, Script};
use crate::engine::{Engine, Resource};
use crate::sys::text::first_few;

/// So many are named.
const NAMED: usize = 20;

/// What appeared on the engine while a test ran, by the test: it may be another's doing, who is at work there as well.
#[derive(Debug, Default)]
pub(super) struct Strangers(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    appeared: BTreeMap<Resource, String>,
    /// The test that runs, or was broken off, and what was there before it.
    running: Option<(String, BTreeSet<Resource>)>,
}

impl Strangers {
    /// Looks before `script` runs, where it may talk to the engine.
    pub async fn begin(&self, engine: &dyn Engine, script: &Script) {
        if script.layer == Layer::Operator {
            // Where nothing can be told, nothing is said.
            let before = engine.unowned().await.ok();
            self.seen().running = before.map(|before| (script.name(), before));
        }
    }

    /// Looks once it has ended.
    pub async fn end(&self, engine: &dyn Engine) {
        if self.seen().running.is_none() {
            return;
        }
        let Ok(now) = engine.unowned().await else { return };
        let mut seen = self.seen();
        let Some((script, before)) = seen.running.take() else { return };
        for made in now.difference(&before) {
            seen.appeared.entry(made.clone()).or_insert_with(|| script.clone());
        }
    }

    /// A line about what of it is still there, where something is.
    pub async fn left(&self, engine: &dyn Engine) -> Option<String> {
        self.end(engine).await;
        if self.seen().appeared.is_empty() {
            return None;
        }
        let now = engine.unowned().await.ok()?;
        let seen = self.seen();
        let left: Vec<_> = seen.appeared.iter().filter(|(made, _)| now.contains(made)).collect();
        let named = first_few(left.iter().map(|(made, script)| format!("{made} ({script})")), NAMED);
        (!left.is_empty())
            .then(|| format!("appeared while a test of the operator's ran, is of no app, and stays: {named}"))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Kind, MemoryEngine};
    use crate::model::record::TierName;

    fn script(layer: Layer) -> Script {
        Script {
            layer,
            tier: TierName::Custom,
            file_name: "custom-any".into(),
            path: "/x".into(),
            unfit: None,
        }
    }

    #[tokio::test]
    async fn what_an_operators_test_leaves_is_named_and_what_was_there_or_went_is_not() {
        let (engine, strangers) = (MemoryEngine::default(), Strangers::default());
        let thing = |name: &str| Resource::new(Kind::Container, name);
        engine.set_unowned([thing("before")]);
        strangers.begin(&engine, &script(Layer::Recipe)).await;
        engine.set_unowned([thing("before"), thing("beside")]);
        strangers.end(&engine).await;
        assert_eq!(strangers.left(&engine).await, None, "a recipe's test can't have made it");
        strangers.begin(&engine, &script(Layer::Operator)).await;
        engine.set_unowned([thing("before"), thing("beside"), thing("left"), thing("removed")]);
        strangers.end(&engine).await;
        strangers.begin(&engine, &script(Layer::Operator)).await;
        engine.set_unowned([thing("before"), thing("beside"), thing("left"), thing("of a broken-off test")]);
        let message = strangers.left(&engine).await.unwrap();
        assert!(
            message.ends_with("stays: container left (operator/custom-any), container of a broken-off test (operator/custom-any)"),
            "{message}"
        );
        engine.set_unowned([]);
        assert_eq!(strangers.left(&engine).await, None, "it is gone by now");
    }
}
