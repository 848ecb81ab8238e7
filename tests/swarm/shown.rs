//! A socket between a client and the engine that shows what is asked.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Passes everything on, and keeps the request lines.
#[derive(Debug)]
pub struct Shown {
    socket: PathBuf,
    asked: Arc<Mutex<Vec<u8>>>,
}

impl Shown {
    /// Listens at `socket` and passes on to `engine`.
    pub fn between(engine: &Path, socket: PathBuf) -> Self {
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (engine, bytes) = (engine.to_owned(), asked.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let engine = UnixStream::connect(&engine).unwrap();
                let (from, to) = (client.try_clone().unwrap(), engine.try_clone().unwrap());
                let bytes = bytes.clone();
                std::thread::spawn(move || {
                    pass(from, to, |part| bytes.lock().unwrap().extend_from_slice(part));
                });
                std::thread::spawn(move || pass(engine, client, |_| {}));
            }
        });
        Self { socket, asked }
    }

    /// As `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// The paths that were asked, with their queries, in order of arrival.
    pub fn requests(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        let text = String::from_utf8_lossy(&asked);
        let lines = text.lines().filter_map(|line| line.strip_suffix(" HTTP/1.1"));
        lines.filter_map(|line| Some(line.split_once(' ')?.1.to_owned())).collect()
    }
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
