//! A socket between a client and the engine that shows what is asked.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Passes everything on, and keeps the request lines.
#[derive(Debug)]
pub struct SocketTap {
    socket: PathBuf,
    asked: Arc<Mutex<Vec<u8>>>,
    gate: Arc<Gate>,
}

/// Keeps what is asked from a certain request on, until it is opened.
#[derive(Debug, Default)]
struct Gate {
    closed: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn set(&self, closed: bool) {
        *locked(&self.closed) = closed;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let closed = locked(&self.closed);
        drop(self.changed.wait_while(closed, |closed| *closed));
    }
}

impl SocketTap {
    /// Listens at `socket` and passes on to `engine`.
    pub fn between(engine: &Path, socket: PathBuf) -> Self {
        Self::start(engine, socket, Duration::ZERO, |_| false)
    }

    /// The same for an engine that is far away: whatever it is told comes there after `latency` only.
    pub fn to_afar(engine: &Path, socket: PathBuf, latency: Duration) -> Self {
        Self::start(engine, socket, latency, |_| false)
    }

    /// As [`Self::between`]; the first request at which `stop` says so of all paths so far, and what comes after it, is kept until
    /// [`Self::open`].
    pub fn until(
        engine: &Path,
        socket: PathBuf,
        stop: impl Fn(&[String]) -> bool + Clone + Send + 'static,
    ) -> Self {
        Self::start(engine, socket, Duration::ZERO, stop)
    }

    fn start(
        engine: &Path,
        socket: PathBuf,
        latency: Duration,
        stop: impl Fn(&[String]) -> bool + Clone + Send + 'static,
    ) -> Self {
        let listener = UnixListener::bind(&socket).expect("a socket");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let gate = Arc::new(Gate::default());
        let (engine, bytes, shut) = (engine.to_owned(), asked.clone(), gate.clone());
        let once = Arc::new(Mutex::new(false));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let engine = UnixStream::connect(&engine).expect("the engine is there");
                let (from, to) = (again(&client), again(&engine));
                let (bytes, shut, stop, once) = (bytes.clone(), shut.clone(), stop.clone(), once.clone());
                std::thread::spawn(move || {
                    pass(from, to, |part| {
                        let mut bytes = locked(&bytes);
                        bytes.extend_from_slice(part);
                        let mut stopped = locked(&once);
                        if !*stopped && stop(&paths(&bytes)) {
                            *stopped = true;
                            shut.set(true);
                        }
                        drop((bytes, stopped));
                        shut.pass();
                        std::thread::sleep(latency);
                    });
                });
                std::thread::spawn(move || pass(engine, client, |_| {}));
            }
        });
        Self { socket, asked, gate }
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// As `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// The paths that were asked, with their queries, in order of arrival.
    pub fn requests(&self) -> Vec<String> {
        paths(&locked(&self.asked))
    }

    /// Whether something is kept.
    pub fn keeps(&self) -> bool {
        *locked(&self.gate.closed)
    }

    /// Lets everything through from now on.
    pub fn open(&self) {
        self.gate.set(false);
    }
}

/// A poisoned one is as good: it only grows.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn again(stream: &UnixStream) -> UnixStream {
    stream.try_clone().expect("a descriptor")
}

fn paths(asked: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(asked);
    let lines = text.lines().filter_map(|line| line.strip_suffix(" HTTP/1.1"));
    lines.filter_map(|line| Some(line.split_once(' ')?.1.to_owned())).collect()
}

/// Copies until either side ends, and then ends the other.
fn pass(mut from: UnixStream, mut to: UnixStream, mut seen: impl FnMut(&[u8])) {
    let mut part = [0; 8 * 1024];
    while let Ok(read @ 1..) = from.read(&mut part) {
        seen(&part[..read]);
        if to.write_all(&part[..read]).is_err() {
            break;
        }
    }
    let _ended = to.shutdown(Shutdown::Write).is_err();
}
