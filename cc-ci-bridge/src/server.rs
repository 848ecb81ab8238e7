//! Connections: so many, for so long, and none is cut off by the end.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

/// So many connections there are at once.
const CONNECTIONS: u32 = 256;

/// As long as a request's head may take, and the next one may be waited for.
const HEAD_TIME: Duration = Duration::from_secs(5);

/// As much of a head as is read.
const HEAD_LIMIT: usize = 32 * 1024;

/// As long as one connection may last.
const LONGEST: Duration = Duration::from_mins(10);

/// As long as those that are open are waited for in the end.
const LAST: Duration = Duration::from_secs(10);

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Serves until `end` says so, and then what was begun.
pub async fn serve(listener: TcpListener, routes: Router, mut end: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS as usize));
    loop {
        let accepted = tokio::select! {
            _ = end.wait_for(|end| *end) => break,
            accepted = async {
                let place = places.clone().acquire_owned().await.ok()?;
                Some((place, listener.accept().await))
            } => accepted,
        };
        let Some((place, accepted)) = accepted else { break };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, e.g.: some are free again in a moment.
                tracing::warn!("can't accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(routes.clone().layer(Extension(Peer(address.ip()))));
        let mut end = end.clone();
        tokio::spawn(async move {
            let _place = place;
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .max_buf_size(HEAD_LIMIT)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            let longest = tokio::time::sleep(LONGEST);
            let mut longest = std::pin::pin!(longest);
            // What goes wrong on a connection is the other end's affair.
            let ended = tokio::select! {
                ended = connection.as_mut() => Some(ended),
                _ = end.wait_for(|end| *end) => None,
                () = longest.as_mut() => None,
            };
            if ended.is_none() {
                connection.as_mut().graceful_shutdown();
                let _over = tokio::time::timeout(LAST, connection).await;
            }
        });
    }
    let _all = tokio::time::timeout(LAST, places.acquire_many(CONNECTIONS)).await;
}
