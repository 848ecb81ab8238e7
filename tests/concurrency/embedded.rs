//! Runs inside somebody else's process: nothing is left, and nothing of the host's is touched.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use cc_ci_core::event::{Event, Silent};
use cc_ci_core::exit::Exit;
use cc_ci_core::lifetime::{Bounds, EmbeddedMode};
use cc_ci_core::names::{RunId, Subject};
use cc_ci_core::run::{Deployed, Harness, Request, Verdict};
use cc_ci_core::workspace::RecipeSource;
use cc_ci_tests::{OnEvent, World, built};
use tokio::sync::{Barrier, Notify};

fn lifetime() -> Arc<EmbeddedMode> {
    Arc::new(EmbeddedMode::new(Bounds::default(), Arc::new(Silent)).unwrap())
}

fn harness(world: &World) -> Harness {
    world.harness(lifetime())
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn get(app: &Deployed) -> String {
    let mut stream = TcpStream::connect(app.address).unwrap();
    // In one piece: the service answers what it has read.
    let request = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", app.domain);
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn the_whole_cold_lane_is_green() {
    let world = World::new();
    let recipe = world.recipe("cold");
    recipe.release("1.0.0+1");
    recipe.compose("2", "").commit();
    let end = block_on(harness(&world).run_cold(&world.request(recipe.path(), 1, "1")));
    assert_eq!((end.exit, end.record.verdict), (Exit::Green, Some(Verdict::Green)), "{:#?}", end.record);
    assert_eq!(end.record.deploy_count, 1);
    world.assert_empty();
}

#[test]
fn a_harness_of_one_directory_serves_a_fixture() {
    let world = World::new();
    let recipe = world.recipe("fixture");
    recipe.commit();
    let root = world.path().join("fixtures");
    let mut harness = Harness::local(&root, "fixture.localhost".parse().unwrap()).unwrap();
    // Where services are confined, they see the host's programs, and what the fixture shows them.
    harness.settings.sandbox_paths.push(built("cc-ci").with_file_name(""));
    let subject = Subject::reference("a test");
    let request =
        Request::new(RecipeSource::Path(recipe.path().to_owned()), subject, RunId::manual(1)).unwrap();
    let end = block_on(harness.with_app(&request, async |app: &Deployed| get(app)));
    assert_eq!(end.exit, Exit::Green, "{:#?}", end.record);
    assert!(end.value.unwrap().contains("version 1"));
    // It was the one run's: another one begins nothing.
    let again = block_on(harness.with_app(&request, async |_: &Deployed| panic!("nothing is deployed")));
    assert_eq!(again.exit, Exit::Usage, "{:#?}", again.record);
    assert!(again.record.errors[0].contains("has ended with its run"), "{:?}", again.record.errors);
    assert_eq!(again.hint.as_deref(), Some("make a lifetime for each run"));
    assert_eq!(fs::read_dir(root.join("runs")).unwrap().count(), 2, "the run, and the directory's mark");
}

#[test]
fn two_apps_are_up_at_once_in_one_process() {
    let world = World::new();
    let recipe = world.recipe("pair");
    recipe.commit();
    let both_up = Barrier::new(2);
    let run = async |number: u64| {
        let body = async |app: &Deployed| {
            both_up.wait().await;
            assert_eq!(app.domain, world.domain("pair", number));
            assert_eq!(app.secrets["key"].expose().len(), 24);
            get(app)
        };
        let request = world.request(recipe.path(), number, &number.to_string());
        let end = harness(&world).with_app(&request, body).await;
        assert_eq!(end.exit, Exit::Green, "{:#?}", end.record);
        assert!(end.value.unwrap().contains("version 1"));
    };
    block_on(async { tokio::join!(run(1), run(2)) });
    world.assert_empty();
}

#[test]
fn two_runs_of_one_pull_request_in_one_process_take_turns() {
    let world = World::new();
    let recipe = world.recipe("turn");
    recipe.commit();
    let (up, waits) = (Notify::new(), Arc::new(Notify::new()));
    let order = Mutex::new(Vec::new());
    let first = async {
        let body = async |app: &Deployed| {
            up.notify_one();
            waits.notified().await;
            // The other one, of this very process, neither got the lock nor reaped the app.
            assert!(get(app).contains("version 1"));
            order.lock().unwrap().push("first ends");
        };
        let request = world.request(recipe.path(), 1, "first");
        harness(&world).with_app(&request, body).await
    };
    let second = async {
        up.notified().await;
        let mut second = harness(&world);
        let message = Arc::clone(&waits);
        second.ci_host.reporter = Arc::new(OnEvent(move |event: &Event| {
            if matches!(event, Event::LockWaiting { .. }) {
                message.notify_one();
            }
        }));
        let body = async |_: &Deployed| order.lock().unwrap().push("second is up");
        second.with_app(&world.request(recipe.path(), 1, "second"), body).await
    };
    let (first, second) = block_on(async { tokio::join!(first, second) });
    for end in [first, second] {
        assert_eq!((end.exit, end.record.deploy_count), (Exit::Green, 1), "{:#?}", end.record);
    }
    assert_eq!(*order.lock().unwrap(), ["first ends", "second is up"]);
    world.assert_empty();
}

#[test]
fn a_failing_body_leaves_nothing_and_gets_its_error_back() {
    let world = World::new();
    let recipe = world.recipe("fail");
    recipe.commit();
    let request = world.request(recipe.path(), 1, "1");
    let body = async |_: &Deployed| Err::<(), _>("what the test found");
    let end = block_on(harness(&world).with_app(&request, body));
    assert_eq!(end.value, Some(Err("what the test found")));
    world.assert_empty();
}

#[test]
fn a_panicking_body_leaves_nothing_and_its_panic_is_passed_on() {
    let world = World::new();
    let recipe = world.recipe("panic");
    recipe.commit();
    let request = world.request(recipe.path(), 1, "1");
    let harness = harness(&world);
    let up = Mutex::new(0);
    let panic = catch_unwind(AssertUnwindSafe(|| {
        block_on(harness.with_app(&request, async |app: &Deployed| {
            *up.lock().unwrap() = get(app).len();
            std::panic::panic_any("a test's own words")
        }))
    }));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"a test's own words"));
    assert!(*up.lock().unwrap() > 0, "it was up");
    world.assert_empty();
    let record = world.record("1");
    assert_eq!((&record["verdict"], &record["exit_code"]), (&"harness_failed".into(), &3.into()));
}

#[test]
fn the_embedder_cancels_and_everything_is_taken_down() {
    let world = World::new();
    let recipe = world.recipe("stop");
    recipe.commit();
    let lifetime = lifetime();
    let harness = world.harness(lifetime.clone());
    let request = world.request(recipe.path(), 1, "1");
    let body = async |_: &Deployed| {
        lifetime.cancel();
        std::future::pending::<()>().await;
    };
    let end = block_on(harness.with_app(&request, body));
    assert_eq!((end.exit.code(), end.value), (143, None));
    assert_eq!(end.record.verdict, Some(Verdict::Cancelled));
    world.assert_empty();
}

/// A child of the host program; it ends with the test.
struct Own(Child);

impl Drop for Own {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn the_hosts_own_children_are_neither_ended_nor_waited_for() {
    let world = World::new();
    let recipe = world.recipe("host");
    let gate = world.gate("custom");
    recipe.script("tests/custom", &gate.script()).commit();
    let mut lives = Own(Command::new("sleep").arg("1000").spawn().unwrap());
    let mut ends = Own(Command::new("sh").args(["-c", &format!("{}; exit 7", gate.hold())]).spawn().unwrap());
    let lifetime = lifetime();
    let harness = world.harness(lifetime.clone());
    let request = world.request(recipe.path(), 1, "1");
    // In the middle of a test: one of ours ends by itself, and the run is given up.
    let end = std::thread::scope(|scope| {
        scope.spawn(|| {
            gate.wait();
            // Whichever of the two readers it is, it ends; the other one is ended, or goes on.
            lifetime.cancel();
        });
        block_on(harness.run_cold(&request))
    });
    assert_eq!(end.exit.code(), 143);
    world.assert_empty();
    assert!(lives.0.try_wait().unwrap().is_none(), "it lives");
    gate.open();
    assert_eq!(ends.0.wait().unwrap().code(), Some(7), "its status is the host's to read");
}
