//! The whole way with nothing left out: a comment, `serve`, `work`, a real `cc-ci run`, the status and the comment.

use cc_ci_tests::engine::TestEngine;
use cc_ci_tests::{Recipe, World};
use jiff::{SignedDuration, Timestamp};

use crate::http::until;
use crate::pages::{DASHBOARD, ask};
use crate::place::{Place, end};

/// The example app's recipe, where pull request `number` has one commit more than the last release.
fn proposed(world: &World, number: u64) -> (Recipe, String) {
    // Beside abra, which the local executor does not call, the world has the example app's program then.
    world.abra();
    let recipe = world.note_keeper();
    recipe.write("README.md", "Notes, once more.\n");
    let head = recipe.commit();
    recipe.git(["update-ref", &format!("refs/pull/{number}/head"), &head]);
    recipe.git(["reset", "-q", "--hard", "HEAD~1"]);
    (recipe, head)
}

/// As long as it may take until it is known that a run has ended: what is not told is found after half a minute or more.
const AT_ONCE: SignedDuration = SignedDuration::from_secs(10);

/// Has a request run to its end, and asserts that all of it is green, told and gone.
#[track_caller]
fn is_green(world: &World, recipe: &Recipe, head: &str, is_delivered: bool) {
    // That the run has ended is told, and not found by asking after it, nor when a poll writes how far it has read.
    let often = if is_delivered { "poll = \"1h\"\nwatch = \"1h\"\n" } else { "watch = \"1h\"\n" };
    let place = Place::running(world, recipe, &format!("{often}{DASHBOARD}"));
    place.forge.lock().has_pushed(1, head);
    let serving = if is_delivered { place.serve_what_is_delivered() } else { place.serve() };
    let working = place.start(&["work"]);
    let (comment, delivery) = place.comment(1, "maintainer", "!testme");
    if is_delivered {
        assert_eq!(delivery.send(serving.hooks), Some(200));
    }
    let text = place.told(1, "**Green**");
    assert!(text.contains("Tiers, level 4 of 8:") && text.contains(head), "{text}");
    until("the last status", || (place.forge.lock().states(1).last() == Some(&"success")).then_some(()));
    assert_eq!(place.forge.lock().told(1).len(), 1, "it is one comment from first to last");
    let via = if is_delivered { "delivered by the forge" } else { "found by polling" };
    assert!(place.explain(1, comment).contains(via));
    let pages = serving.pages.expect("a dashboard");
    let (status, _, page) = ask(pages, &format!("GET /r/recipes/notes/{comment}"));
    assert_eq!(status, 200, "{page}");
    assert!(page.contains("level 4 of 8") && page.contains(", left nothing") && page.contains(via), "{page}");
    let (status, _, page) = ask(pages, &format!("GET /r/recipes/notes/{comment}/run"));
    assert!(status == 200 && page.contains("recipe/custom-limits-the-length"), "{page}");
    // The run is known by the request's key, and nothing of it is left.
    let runs = world.cc_ci(["runs", "--format", "json"]).run().expect(0).json();
    let runs = runs["runs"].as_array().expect("a list");
    assert_eq!(runs.len(), 1, "{runs:#?}");
    assert!(runs[0]["run_id"].as_str().is_some_and(|id| id.starts_with("req-")), "{runs:#?}");
    assert_eq!((&runs[0]["verdict"], &runs[0]["exit_code"]), (&"green".into(), &0.into()), "{runs:#?}");
    let time = |text: &str| text.parse::<Timestamp>().expect("a time");
    let finished = time(runs[0]["finished"].as_str().expect("when it finished"));
    let history = place.explain(1, comment);
    let over = history.lines().find(|line| line.ends_with("over: started → ended")).expect("its end");
    let took = time(over.split_whitespace().next().expect("when")).duration_since(finished);
    assert!(took < AT_ONCE, "it was known after {took:#}");
    world.assert_empty();
    end(serving.process);
    end(working);
}

#[test]
fn a_comment_becomes_a_real_run_and_its_verdict() {
    let world = World::new();
    let (recipe, head) = proposed(&world, 1);
    is_green(&world, &recipe, &head, true);
}

#[test]
fn polling_alone_does_where_each_hook_is_lost() {
    let world = World::new();
    let (recipe, head) = proposed(&world, 1);
    is_green(&world, &recipe, &head, false);
}

#[test]
fn on_a_swarm_with_abra() {
    let Some(engine) = TestEngine::shared("on_a_swarm_with_abra") else { return };
    let world = engine.world();
    let (recipe, head) = proposed(world, 1);
    is_green(world, &recipe, &head, true);
}
