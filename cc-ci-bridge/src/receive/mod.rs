//! The webhook: what the forge delivers is checked, written down, and then answered.
//!
//! A delivery is only a hint that there is a comment: what is decided on is what the forge's API says of it. So a captured
//! delivery that comes again is the comment that is known already.

mod limit;
mod payload;
mod signature;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use cc_ci_core::Secret;
use http_body_util::{BodyExt as _, Limited};
use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore};

use crate::names::Repo;
use crate::server::Peer;
use crate::store::{Recorded, Store};
use limit::Failures;
use payload::Hook;

/// As much as a delivery may have. A real one has about 20 KB and the comment.
const BODY_LIMIT: usize = 1 << 20;

/// As long as a delivery may take to come. The forge itself gives up after 5 s.
const BODY_TIME: Duration = Duration::from_secs(5);

/// What is larger waits for a place, so that what strangers send costs no more memory than there is: the forge's own
/// deliveries are smaller, and who sends slowly keeps none of them from being heard.
const LARGE: usize = 64 << 10;

/// So many large deliveries are read at once.
const LARGE_AT_ONCE: usize = 64;

/// Takes deliveries.
#[derive(Debug)]
pub struct Receiver {
    store: Arc<Store>,
    secret: Secret,
    repos: Vec<Repo>,
    wake: Arc<Notify>,
    failures: Failures,
    large: Semaphore,
}

impl Receiver {
    /// Returns a receiver of what the forge signs with `secret`, of these repositories. What is recorded wakes `wake`.
    pub fn new(store: Arc<Store>, secret: Secret, repos: Vec<Repo>, wake: Arc<Notify>) -> Self {
        let large = Semaphore::new(LARGE_AT_ONCE);
        Self { store, secret, repos, wake, failures: Failures::default(), large }
    }

    /// Returns its routes: `POST /hook`.
    pub fn routes(self) -> Router {
        Router::new().route("/hook", post(hook)).with_state(Arc::new(self))
    }

    async fn take(&self, peer: IpAddr, headers: &HeaderMap, body: Body) -> Result<&'static str, StatusCode> {
        if !self.failures.may_try(peer, Instant::now()) {
            return Err(StatusCode::TOO_MANY_REQUESTS);
        }
        let failed = |status| {
            self.failures.failed(peer, Instant::now());
            status
        };
        // What can be told without its body is told without its body.
        let claimed = signature::claimed(headers).ok_or_else(|| failed(StatusCode::UNAUTHORIZED))?;
        let event = one(headers, "x-gitea-event").or_else(|| one(headers, "x-forgejo-event"));
        let is_json = one(headers, CONTENT_TYPE.as_str())
            .is_some_and(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json"));
        if !is_json {
            return Err(failed(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        let length = one(headers, CONTENT_LENGTH.as_str()).and_then(|length| length.parse::<usize>().ok());
        if length.is_some_and(|length| length > BODY_LIMIT) {
            return Err(failed(StatusCode::PAYLOAD_TOO_LARGE));
        }
        let reading = async {
            let _place = match length {
                Some(length) if length <= LARGE => None,
                // It is never closed.
                _ => Some(self.large.acquire().await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?),
            };
            Limited::new(body, BODY_LIMIT).collect().await.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)
        };
        let body = tokio::time::timeout(BODY_TIME, reading)
            .await
            .map_err(|_| failed(StatusCode::REQUEST_TIMEOUT))?
            .map_err(failed)?
            .to_bytes();
        if !signature::matches(&self.secret, &claimed, &body) {
            return Err(failed(StatusCode::UNAUTHORIZED));
        }
        self.failures.succeeded(peer, Instant::now());
        if event.as_deref() != Some("issue_comment") {
            return Ok("ignored: no comment");
        }
        let hook: Hook = serde_json::from_slice(&body).map_err(|_| StatusCode::UNPROCESSABLE_ENTITY)?;
        let Some(asked) = hook.asked(&self.repos, Timestamp::now()) else { return Ok("ignored: no request") };
        let shown = format!("{}#{} comment {}", asked.repo, asked.pull, asked.comment);
        match self.store.run(move |store| store.record(&asked)).await {
            Ok(Recorded::New(_)) => {
                self.wake.notify_one();
                Ok("recorded")
            }
            Ok(Recorded::Known(_)) => Ok("known"),
            Err(error) => {
                // The forge does not deliver it again; polling finds the comment once there is a database.
                tracing::error!("can't record {shown}: {}", cc_ci_core::model::error_chain(&error));
                Err(StatusCode::SERVICE_UNAVAILABLE)
            }
        }
    }
}

async fn hook(
    State(receiver): State<Arc<Receiver>>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<&'static str, StatusCode> {
    receiver.take(peer, &headers, body).await
}

/// The value of a header that is there once. What is there twice is read differently by whoever is between.
fn one(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::body::Bytes;
    use axum::http::{HeaderName, HeaderValue};
    use futures_util::{poll, stream};

    use super::*;

    /// A delivery as a forge sent it.
    fn recorded() -> (HeaderMap, String) {
        let all: serde_json::Value = serde_json::from_str(include_str!("../../recorded/hooks.json")).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in all[0]["headers"].as_object().unwrap() {
            let name: HeaderName = name.parse().unwrap();
            headers.insert(name, HeaderValue::from_str(value.as_str().unwrap()).unwrap());
        }
        (headers, all[0]["body"].as_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn who_sends_slowly_keeps_no_delivery_waiting() {
        let world = tempfile::tempdir().unwrap();
        let store = Store::open(&world.path().join("db"), "https://forge.example.org").unwrap();
        let secret = Secret::new("s3cret-of-the-hook".to_owned());
        let receiver = Receiver::new(Arc::new(store), secret, Vec::new(), Arc::new(Notify::new()));
        let (headers, body) = recorded();
        let peer = IpAddr::from(Ipv4Addr::LOCALHOST);
        let slow = |length: usize| {
            let mut headers = headers.clone();
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
            let receiver = &receiver;
            Box::pin(async move { receiver.take(peer, &headers, never).await })
        };
        let mut waiting: Vec<_> =
            (0..500).map(|at| slow(if at % 2 == 0 { 1000 } else { BODY_LIMIT })).collect();
        for one in &mut waiting {
            assert!(poll!(one).is_pending());
        }
        let mut headers = headers.clone();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        assert_eq!(receiver.take(peer, &headers, Body::from(body)).await, Ok("ignored: no comment"));
    }
}
