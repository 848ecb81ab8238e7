//! Clients that are killed in flight, and a janitor that comes at once: what they had ordered may be carried out after
//! a look that reads empty.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use cc_ci_core::names::Domain;
use cc_ci_tests::engine::{Events, TestEngine, until};
use cc_ci_tests::{EVENT_LIMIT, SocketTap, World, pipes};

use crate::support::four_services;

/// The events at which a client is killed: which one of the stack's, of this type.
const MOMENTS: [(&str, usize); 5] =
    [("network", 1), ("config", 1), ("service", 1), ("service", 2), ("service", 3)];
/// How often for each.
const ROUNDS: u64 = 2;

/// Starts to deploy a stack, with the secret that it needs.
fn start_to_deploy(engine: &TestEngine, host: &str, domain: &Domain) -> Child {
    let stack = domain.stack();
    engine.docker_with(["secret", "create", &format!("{stack}_pw_v1"), "-"], "content");
    let mut client = Command::new("docker")
        .args(["stack", "deploy", "--resolve-image=never", "--compose-file=-", stack.as_str()])
        .env("DOCKER_HOST", host)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    client.stdin.take().unwrap().write_all(four_services(stack.as_str()).as_bytes()).unwrap();
    client
}

/// Kills the client, which leaves what a dead run does: a tree. Returns whether it was still at work.
fn kill(mut client: Child, world: &World, domain: &Domain) -> bool {
    let owner = pipes::process(client.id().cast_signed());
    let run = world.runs().join("dead");
    fs::create_dir_all(run.join("tmp")).unwrap();
    let record = serde_json::json!({ "owner": owner, "domains": [domain] });
    fs::write(run.join("run.json"), record.to_string()).unwrap();
    client.kill().unwrap();
    client.wait().unwrap().signal().is_some()
}

#[test]
fn what_a_client_had_ordered_is_gone_whenever_it_was_killed() {
    let name = "what_a_client_had_ordered_is_gone_whenever_it_was_killed";
    if TestEngine::shared(name).is_none() {
        return;
    }
    let in_flight = AtomicUsize::new(0);
    thread::scope(|scope| {
        for (kind, number) in MOMENTS {
            let in_flight = &in_flight;
            scope.spawn(move || {
                // Each with a suffix, janitors and a last look of its own.
                let engine = TestEngine::shared(name).expect("there was one");
                let world = engine.world();
                for round in 0..ROUNDS {
                    let domain = world.domain("flight", round);
                    let stack = domain.stack();
                    let events = Events::follow(&engine, &[&format!("type={kind}"), "event=create"]);
                    let client = start_to_deploy(&engine, &engine.host(), &domain);
                    for _ in 0..number {
                        events.first(kind, |event| stack.prefixes(Events::name(event)));
                    }
                    in_flight.fetch_add(usize::from(kill(client, world, &domain)), Ordering::Relaxed);
                    world.cc_ci(["janitor"]).run().expect(0);
                    assert_nothing_exists(&engine);
                }
            });
        }
    });
    let in_flight = in_flight.into_inner();
    println!("{in_flight} clients were killed in flight");
    assert!(in_flight > 0, "every client was done before it was killed");
}

#[test]
fn an_order_that_is_carried_out_after_an_empty_look_is_found_by_the_second_one() {
    let name = "an_order_that_is_carried_out_after_an_empty_look_is_found_by_the_second_one";
    let Some(engine) = TestEngine::shared(name) else { return };
    let world = engine.world();
    let domain = world.domain("late", 1);
    let held = Held::between(engine.socket(), world.path().join("held.sock"), "/configs/create ");
    let client = start_to_deploy(&engine, &held.host(), &domain);
    held.wait();
    assert!(kill(client, world, &domain), "it was killed before its order was carried out");
    // The network is the last thing that there was: the next look finds nothing, and ends the removal. The one after it
    // is kept until the order was carried out.
    let second_look = |asked: &[String]| {
        let removal = asked.iter().rposition(|path| path.contains("/networks/"));
        removal.is_some_and(|at| asked[at..].iter().filter(|path| path.contains("/configs")).count() > 1)
    };
    let shown = SocketTap::until(engine.socket(), world.path().join("shown.sock"), second_look);
    let mut janitor = world.cc_ci(["janitor"]).env("DOCKER_HOST", shown.host()).start();
    until("the janitor looks again", || shown.keeps() || janitor.has_ended());
    assert!(shown.keeps(), "one look was enough for it");
    assert!(held.let_go().starts_with("HTTP/1.1 201 "), "the order was refused");
    shown.open();
    janitor.wait().expect(0);
    assert_nothing_exists(&engine);
}

/// Asserts that there is nothing but the claim, and tasks that the Swarm has yet to forget.
#[track_caller]
fn assert_nothing_exists(engine: &TestEngine) {
    assert_eq!(engine.world().cc_ci(["audit"]).run().expect(0).stdout, "nothing exists\n");
    engine.world().assert_empty();
    let mut left = engine.left();
    left.retain(|object| object.kind != "task" && !object.name.starts_with("cc-ci-lockspace-"));
    assert_eq!(left, []);
}

/// A socket between a client and the engine that keeps one order until it is let go, whatever became of the client.
struct Held {
    socket: PathBuf,
    arrived: Receiver<()>,
    go: Sender<()>,
    answer: Receiver<String>,
}

impl Held {
    /// Listens at `socket`, passes on to `engine`, and keeps the first request whose first line contains `order`.
    fn between(engine: &Path, socket: PathBuf, order: &'static str) -> Self {
        let listener = UnixListener::bind(&socket).unwrap();
        let engine = engine.to_owned();
        let (comes, arrived) = mpsc::channel();
        let (go, goes) = mpsc::channel();
        let (answers, answer) = mpsc::channel();
        let goes = Arc::new(Mutex::new(goes));
        thread::spawn(move || {
            for mut client in listener.incoming().map_while(Result::ok) {
                let mut engine = UnixStream::connect(&engine).unwrap();
                let is_held = Arc::new(AtomicBool::new(false));
                let (from, to) = (engine.try_clone().unwrap(), client.try_clone().unwrap());
                let (told_apart, answers) = (is_held.clone(), answers.clone());
                thread::spawn(move || answer_to(from, to, &told_apart, &answers));
                let (comes, goes) = (comes.clone(), goes.clone());
                thread::spawn(move || {
                    let mut part = [0; 16 * 1024];
                    while let Ok(mut read @ 1..) = client.read(&mut part) {
                        let head = String::from_utf8_lossy(&part[..read]);
                        if head.lines().next().is_some_and(|line| line.contains(order)) {
                            // All of it: who is killed between its head and its body has ordered nothing.
                            while !is_whole(&part[..read]) {
                                let Ok(more @ 1..) = client.read(&mut part[read..]) else { return };
                                read += more;
                            }
                            comes.send(()).unwrap();
                            goes.lock().unwrap().recv().unwrap();
                            is_held.store(true, Ordering::SeqCst);
                        }
                        engine.write_all(&part[..read]).unwrap();
                    }
                    // The client's end is no news for an engine that has its order already.
                    if !is_held.load(Ordering::SeqCst) {
                        let _ended = engine.shutdown(Shutdown::Write).is_err();
                    }
                });
            }
        });
        Self { socket, arrived, go, answer }
    }

    /// As `DOCKER_HOST`.
    fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Waits for the order.
    #[track_caller]
    fn wait(&self) {
        self.arrived.recv_timeout(EVENT_LIMIT).expect("the order comes");
    }

    /// Lets the order go on to the engine, and gives how its answer begins.
    #[track_caller]
    fn let_go(&self) -> String {
        self.go.send(()).expect("the order is kept");
        self.answer.recv_timeout(EVENT_LIMIT).expect("the engine answers")
    }
}

/// Whether a request has come to its end.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

/// Passes the engine's answers on to the client; that to the kept order is told, for its client may be dead.
fn answer_to(mut engine: UnixStream, mut client: UnixStream, is_held: &AtomicBool, answers: &Sender<String>) {
    let mut part = [0; 16 * 1024];
    while let Ok(read @ 1..) = engine.read(&mut part) {
        if is_held.load(Ordering::SeqCst) {
            let _unheard = answers.send(String::from_utf8_lossy(&part[..read]).into_owned()).is_err();
        } else if client.write_all(&part[..read]).is_err() {
            break;
        }
    }
    let _ended = client.shutdown(Shutdown::Write).is_err();
}
