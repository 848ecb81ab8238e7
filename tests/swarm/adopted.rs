//! Secrets, and whose they are.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use cc_ci_core::engine::{Engine as _, Failure, StackSource};
use cc_ci_core::names::Stack;
use cc_ci_tests::engine::TestEngine;

use crate::support::{App, block_on, swarm_with};

/// Knows these stacks, or says that it can't tell.
#[derive(Debug)]
struct Knows(Option<Vec<Stack>>);

impl fmt::Display for Knows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a test's source")
    }
}

#[async_trait]
impl StackSource for Knows {
    async fn stacks(&self) -> Result<Vec<Stack>, Failure> {
        self.0.clone().ok_or_else(|| Failure::host("it can't tell"))
    }
}

#[test]
fn secrets_that_were_made_and_only_names_tell_of_are_labelled_where_that_is_certain() {
    let name = "secrets_that_were_made_and_only_names_tell_of_are_labelled_where_that_is_certain";
    let Some(engine) = TestEngine::shared(name) else { return };
    let app = App::new(&engine, "0e2001");
    let stack = &app.stack;
    let make = |name: &str, more: &[&str]| {
        let words = ["secret", "create"].iter().chain(more).copied().chain([name, "-"]);
        engine.docker_with(words, "content");
        name.to_owned()
    };
    let own = make(&format!("{stack}_pw_v1"), &["--label=mine=yes"]);
    // Made by somebody before the run.
    let kept = make(&format!("{stack}_kept_v1"), &[]);
    let labelled = make(&format!("odd-{stack}"), &[&format!("--label=com.docker.stack.namespace={stack}")]);
    // The stack that is longer by `uk` is known to a source only.
    let longer = make(&format!("{stack}_uk_pw_v1"), &[]);
    let theirs = make(&format!("{stack}_theirs_v1"), &["--label=com.docker.stack.namespace=elsewhere"]);
    let labels = |name: &str| engine.docker(["secret", "inspect", "--format={{json .Spec.Labels}}", name]);
    let all = [&own, &kept, &labelled, &longer, &theirs];
    let before = all.map(|name| labels(name));
    let of_run = [&own, &labelled, &longer, &theirs].map(String::clone).into();

    let unsure = swarm_with(&engine, engine.world().suffix(), vec![Arc::new(Knows(None))]);
    block_on(unsure.adopt_secrets(&app.domain, &of_run)).expect("it is told, and nothing is done");
    assert_eq!(all.map(|name| labels(name)), before);

    let uk = format!("{stack}_uk").parse().expect("a stack");
    let knows = swarm_with(&engine, engine.world().suffix(), vec![Arc::new(Knows(Some(vec![uk])))]);
    let expected = BTreeSet::from([&own, &kept, &labelled].map(String::clone));
    assert_eq!(block_on(knows.secrets(&app.domain)).expect("it can be asked"), expected);
    block_on(knows.adopt_secrets(&app.domain, &of_run)).expect("it is certain");
    let now = labels(&own);
    assert!(
        now.contains(&format!("\"com.docker.stack.namespace\":\"{stack}\""))
            && now.contains("\"mine\":\"yes\""),
        "{now}"
    );
    let now = all.map(|name| labels(name));
    assert_eq!(now[1..], before[1..], "only what was made, and is its own, is labelled");
    // Now it goes without anybody's word on names.
    block_on(unsure.adopt_secrets(&app.domain, &of_run)).expect("there is nothing to do");
    engine.docker(["secret", "rm", &longer, &theirs]);
    app.remove();
}
