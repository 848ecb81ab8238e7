//! A listener's connections: so many at once, until whoever serves them is dropped.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::JoinSet;

/// After a failed accept, before the next: the process may be out of descriptors, which come back with what ends.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves what `poll_accept` gives, at most `most` at once; the next one waits. Never returns; dropped, it drops its connections.
pub(crate) async fn serve<S, F>(
    mut poll_accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<S>>,
    most: usize,
    serve_one: impl Fn(S) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = connections.join_next() => {}
            accepted = poll_fn(&mut poll_accept), if connections.len() < most => match accepted {
                Ok(stream) => drop(connections.spawn(serve_one(stream))),
                Err(error) => {
                    tracing::debug!(%error, "a listener");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
}
