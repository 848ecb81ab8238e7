//! A small registry, as the engine's own network sees it: HTTP on a loopback address, one image of one layer.
//!
//! What it answers is in the repository's name: `good/…` has the tag `1`, others fail each in its own way.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::StreamExt as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A registry that serves until it is dropped.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    logins: Arc<Mutex<Vec<String>>>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What is served.
#[derive(Debug, Clone)]
struct Image {
    config: Bytes,
    layer: Bytes,
    asked: Arc<Mutex<Vec<String>>>,
    /// Who signed in.
    logins: Arc<Mutex<Vec<String>>>,
    /// Who has to, as HTTP has it: `Basic …`.
    wanted: Option<String>,
}

impl Registry {
    /// Starts it; its image has a file `unique`, so that no other test's is the same.
    pub fn start(unique: &str) -> Self {
        Self::serve(unique, None)
    }

    /// The same, for whoever signs in so: `Basic …`.
    pub fn private(unique: &str, login: &str) -> Self {
        Self::serve(unique, Some(login.to_owned()))
    }

    fn serve(unique: &str, wanted: Option<String>) -> Self {
        let (asked, logins) = (Arc::default(), Arc::default());
        let image = Image { wanted, ..Image::new(unique, Arc::clone(&asked), Arc::clone(&logins)) };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        listener.set_nonblocking(true).expect("a socket can be told so");
        let (end, ended) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                let router = Router::new()
                    .route("/v2/", get(|| async { "{}" }))
                    .route("/v2/{*path}", get(answer))
                    .layer(from_fn_with_state(image.clone(), sign_in))
                    .with_state(image);
                // Requests that hang are cut off with it.
                tokio::select! {
                    served = axum::serve(listener, router) => served.expect("it serves"),
                    _ = ended => {}
                }
            });
            runtime.shutdown_background();
        });
        Self { address, asked, logins, end: Some(end), thread: Some(thread) }
    }

    /// The name of an image of it.
    pub fn image(&self, repository: &str, tag: &str) -> String {
        format!("{}/{repository}:{tag}", self.address)
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who signed in, of each request that did.
    pub fn logins(&self) -> Vec<String> {
        self.logins.lock().expect("nobody panicked").clone()
    }

    /// The paths that it was asked for.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panicked").clone()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.end.take());
        // What it panicked with is in the test's output already.
        let _panicked = self.thread.take().is_some_and(|thread| thread.join().is_err());
    }
}

impl Image {
    fn new(unique: &str, asked: Arc<Mutex<Vec<String>>>, logins: Arc<Mutex<Vec<String>>>) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o644);
        let mut layer = tar::Builder::new(Vec::new());
        layer.append_data(&mut header, unique, std::io::empty()).expect("memory");
        let layer: Bytes = layer.into_inner().expect("memory").into();
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": {"Cmd": ["/bin/none"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}
        });
        Self { config: config.to_string().into(), layer, asked, logins, wanted: None }
    }

    fn manifest(&self) -> String {
        let blob = |kind: &str, content: &Bytes| json!({"mediaType": kind, "size": content.len(), "digest": digest(content)});
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": blob("application/vnd.docker.container.image.v1+json", &self.config),
            "layers": [blob("application/vnd.docker.image.rootfs.diff.tar.gzip", &self.layer)]
        })
        .to_string()
    }

    /// The blob of that digest.
    fn blob(&self, wanted: &str) -> Option<Bytes> {
        [&self.config, &self.layer].into_iter().find(|content| digest(content) == wanted).cloned()
    }
}

/// Notes who signs in, and lets nobody else in where somebody has to.
async fn sign_in(State(image): State<Image>, request: Request, next: Next) -> Response {
    let login = request.headers().get(header::AUTHORIZATION).and_then(|login| login.to_str().ok());
    let is_known = image.wanted.as_deref().is_none_or(|wanted| login == Some(wanted));
    image.logins.lock().expect("nobody panicked").extend(login.map(str::to_owned));
    if is_known {
        return next.run(request).await;
    }
    let error = json!({"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]});
    let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"test\"")];
    (StatusCode::UNAUTHORIZED, challenge, error.to_string()).into_response()
}

async fn answer(State(image): State<Image>, Path(path): Path<String>) -> Response {
    image.asked.lock().expect("nobody panicked").push(path.clone());
    let refused = |status: StatusCode, code: &str| {
        let error = json!({"errors": [{"code": code, "message": "no"}]});
        (status, [(header::CONTENT_TYPE, "application/json")], error.to_string()).into_response()
    };
    let repository = path.split('/').next().unwrap_or_default();
    match repository {
        "denied" => return refused(StatusCode::FORBIDDEN, "DENIED"),
        "busy" => return refused(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS"),
        "broken" => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        "hanging" => std::future::pending().await,
        _ => {}
    }
    if path.ends_with("/manifests/1") || path.contains("/manifests/sha256:") {
        let kind = "application/vnd.docker.distribution.manifest.v2+json";
        return ([(header::CONTENT_TYPE, kind)], image.manifest()).into_response();
    }
    match path.rsplit_once("/blobs/").and_then(|(_, wanted)| image.blob(wanted)) {
        // It sends the first half of a layer, and then no more.
        Some(content) if repository == "stuck" && content == image.layer => {
            let half = content.slice(..content.len() / 2);
            let first = futures_util::stream::once(async { Ok::<_, std::io::Error>(half) });
            let body = Body::from_stream(first.chain(futures_util::stream::pending()));
            ([(header::CONTENT_LENGTH, content.len().to_string())], body).into_response()
        }
        Some(content) => content.into_response(),
        None => refused(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
    }
}

fn digest(content: &[u8]) -> String {
    let hex = Sha256::digest(content).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    format!("sha256:{hex}")
}

/// A registry that nobody serves.
pub fn nobody() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("it is bound")
}

/// How long a registry may send nothing, in these tests.
pub const SILENCE: Duration = Duration::from_secs(2);
