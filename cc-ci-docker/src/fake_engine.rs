//! An engine that answers what a test says: for what a real one can't be made to do.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use cc_ci_core::engine::StackSource;
use cc_ci_core::event::Silent;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use crate::{Settings, SwarmEngine};

/// How a call is answered.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// A status and a body.
    Json(u16, String),
    /// Half of a body, and the end of the connection.
    Truncated(String),
    /// Half of a body, and no end.
    Stalled(String),
    /// Nothing, and no end.
    Never,
    /// The end of the connection.
    Close,
}

/// A socket, and what was asked through it: method, path and query, without the API's version.
#[derive(Debug)]
pub(crate) struct FakeEngine {
    directory: TempDir,
    calls: Arc<Mutex<Vec<String>>>,
    listener: JoinHandle<()>,
}

impl FakeEngine {
    /// `reply` answers everything but `/version`, which is that of Docker 20.10.
    pub(crate) fn start(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let version = r#"{"ApiVersion":"1.41","Version":"20.10.24"}"#;
        Self::with_version(reply, Reply::Json(200, version.to_owned()))
    }

    pub(crate) fn with_version(
        reply: impl Fn(&str) -> Reply + Send + Sync + 'static,
        version: Reply,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let listener = UnixListener::bind(directory.path().join("docker.sock")).unwrap();
        let (message, reply) = (calls.clone(), Arc::new(reply));
        let listener = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (message, reply, version) = (message.clone(), reply.clone(), version.clone());
                tokio::spawn(async move {
                    serve(stream, |call| {
                        if call.ends_with("/version") {
                            return version.clone();
                        }
                        message.lock().unwrap().push(call.to_owned());
                        reply(call)
                    })
                    .await;
                });
            }
        });
        Self { directory, calls, listener }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }

    /// What was asked so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    pub(crate) fn engine(&self) -> SwarmEngine {
        engine(self.socket(), Vec::new())
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

pub(crate) fn engine(socket: PathBuf, sources: Vec<Arc<dyn StackSource>>) -> SwarmEngine {
    let suffix = "ci.example.org".parse().unwrap();
    SwarmEngine::new(Settings { socket, suffix, sources, reporter: Arc::new(Silent) })
}

/// What an engine says on which nothing is but its one node.
pub(crate) fn nothing(call: &str) -> Reply {
    let body = match call {
        _ if call.contains("/volumes") => r#"{"Volumes":[],"Warnings":null}"#,
        _ if call.contains("/info") => r#"{"Swarm":{"NodeID":"here","Nodes":1}}"#,
        _ => "[]",
    };
    Reply::Json(200, body.to_owned())
}

async fn serve(mut stream: UnixStream, answer: impl Fn(&str) -> Reply) {
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8(buffer.drain(..end + 4).collect()).unwrap();
                break head;
            }
            match stream.read_buf(&mut buffer).await {
                Ok(read) if read > 0 => {}
                _ => return,
            }
        };
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok())
            .unwrap_or(0_usize);
        while buffer.len() < length {
            if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        }
        buffer.drain(..length);
        let mut words = head.split_whitespace();
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let path =
            path.strip_prefix("/v1.").and_then(|path| path.find('/').map(|at| &path[at..])).unwrap_or(path);
        let answer = answer(&format!("{method} {path}"));
        let (status, whole) = match &answer {
            Reply::Json(status, body) => (*status, body),
            Reply::Truncated(body) | Reply::Stalled(body) => (200, body),
            Reply::Never => return std::future::pending().await,
            Reply::Close => return,
        };
        let is_whole = matches!(answer, Reply::Json(..));
        let (length, body) = (whole.len(), if is_whole { whole } else { &whole[..whole.len() / 2] });
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        if stream.write_all(format!("{head}{body}").as_bytes()).await.is_err() {
            return;
        }
        match answer {
            Reply::Truncated(_) => return,
            Reply::Stalled(_) => return std::future::pending().await,
            _ => {}
        }
    }
}
