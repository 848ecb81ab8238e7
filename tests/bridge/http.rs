//! A server whose answers go wrong on request.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Method, Response};
use serde_json::Value;

use crate::git;

/// What goes wrong with an answer.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// Nothing.
    None,
    /// What was asked for is not done, and the answer has this status.
    Status(u16),
    /// What was asked for is done, and the connection is closed without an answer.
    LostAnswer,
    /// It is not done, and the connection is closed.
    LostRequest,
    /// It is done, and the answer is no JSON.
    Garbage,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: Method,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub body: Value,
    pub token: String,
}

impl Asked {
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// An answer: its status, 0 for none at all, its body, and how many there are in all where it is a page.
pub struct Answer(pub u16, pub Value, pub Option<usize>);

/// What answers.
pub trait Site: Send + 'static {
    fn answer(&mut self, asked: &Asked) -> Answer;

    /// The repository that it has.
    fn repository(&self) -> Option<&Path> {
        None
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server<S> {
    pub site: Arc<Mutex<S>>,
    pub address: SocketAddr,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Debug, Default)]
struct Faults {
    next: VecDeque<Fault>,
    /// The state of a generator: with one, an answer of 25 or so goes wrong: a decision asks ten times and more.
    seed: Option<u64>,
}

impl Faults {
    fn take(&mut self) -> Fault {
        if let Some(next) = self.next.pop_front() {
            return next;
        }
        let Some(seed) = &mut self.seed else { return Fault::None };
        match random(seed) % 150 {
            0 | 1 => Fault::Status(500),
            2 => Fault::Status(503),
            3 => Fault::LostAnswer,
            4 => Fault::LostRequest,
            5 => Fault::Garbage,
            _ => Fault::None,
        }
    }
}

/// A step of xorshift.
pub fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

struct Shared<S> {
    site: Arc<Mutex<S>>,
    faults: Arc<Mutex<Faults>>,
}

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self { site: self.site.clone(), faults: self.faults.clone() }
    }
}

impl<S: Site> Server<S> {
    /// Starts it. It ends with the test's process.
    pub fn start(site: S) -> Self {
        let site = Arc::new(Mutex::new(site));
        let faults = Arc::new(Mutex::new(Faults::default()));
        let shared = Shared { site: site.clone(), faults: faults.clone() };
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
                sender.send(listener.local_addr().expect("an address")).expect("the test waits");
                let routes = Router::new().fallback(handle::<S>).with_state(shared);
                axum::serve(listener, routes).await.expect("it serves");
            });
        });
        let address = receiver.recv().expect("the server starts");
        Self { site, address, faults }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn lock(&self) -> MutexGuard<'_, S> {
        self.site.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next answers go wrong like that.
    pub fn fails(&self, faults: &[Fault]) {
        self.faults.lock().expect("nobody panicked").next.extend(faults);
    }

    /// Many answers go wrong, or none does.
    pub fn is_flaky(&self, seed: Option<u64>) {
        self.faults.lock().expect("nobody panicked").seed = seed;
    }
}

async fn handle<S: Site>(State(shared): State<Shared<S>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    let repository =
        shared.site.lock().unwrap_or_else(PoisonError::into_inner).repository().map(Path::to_owned);
    if let Some(repository) = repository.filter(|_| git::is_asked(&head)) {
        return git::answer(&repository, &head, &body);
    }
    let query = head.uri.query().unwrap_or_default();
    let asked = Asked {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: form(query),
        body: serde_json::from_slice(&body).unwrap_or_default(),
        token: head
            .headers
            .get("authorization")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned(),
    };
    let fault = shared.faults.lock().expect("nobody panicked").take();
    match fault {
        Fault::Status(status) => return plain(status, "{\"message\":\"it went wrong\"}"),
        Fault::LostRequest => return cut(),
        _ => {}
    }
    let Answer(status, value, total) =
        shared.site.lock().unwrap_or_else(PoisonError::into_inner).answer(&asked);
    match fault {
        Fault::LostAnswer => return cut(),
        _ if status == 0 => return cut(),
        Fault::Garbage => return plain(200, "<html>no JSON"),
        _ => {}
    }
    let mut response = plain(status, &if status == 204 { String::new() } else { value.to_string() });
    if let Some(total) = total {
        response.headers_mut().insert("x-total-count", total.into());
    }
    response
}

fn plain(status: u16, text: &str) -> Response<Body> {
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(Body::from(text.to_owned())).expect("an answer")
}

/// An answer that breaks off.
fn cut() -> Response<Body> {
    let broken = futures_util::stream::iter([Err::<Bytes, _>(std::io::Error::other("cut off"))]);
    Response::builder().status(200).body(Body::from_stream(broken)).expect("an answer")
}

fn form(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let [first, after @ ..] = rest {
            let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
            let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%');
            bytes.push(byte.unwrap_or(*first));
            rest = if byte.is_some() { &after[2..] } else { after };
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key), decode(value))
    };
    query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect()
}

/// Waits until `look` finds something.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = std::time::Instant::now() + cc_ci_tests::EVENT_LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(std::time::Instant::now() < end, "in vain: {what}");
        // What is waited for is another process's doing, which tells nobody.
        std::thread::sleep(Duration::from_millis(20));
    }
}
