//! Server-sent events: that something has changed. What it is, the page asks for.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use super::Dashboard;

/// No browser is told more often.
const PAUSE: Duration = Duration::from_secs(1);

/// After so long a browser asks anew: what is behind a proxy is not always seen to be gone.
const LONGEST: Duration = Duration::from_mins(9);

/// How long it waits before it does.
const RETRY: Duration = Duration::from_secs(3);

pub async fn events(State(dashboard): State<Arc<Dashboard>>) -> Response {
    let Ok(place) = dashboard.clients.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "60")]).into_response();
    };
    let over = Instant::now() + LONGEST;
    let (mut news, end) = (dashboard.news.clone(), dashboard.end.clone());
    news.mark_unchanged();
    let first = stream::iter([Ok::<_, Infallible>(Event::default().retry(RETRY).comment("here"))]);
    let later = stream::unfold((news, end, place), move |(mut news, mut end, place)| async move {
        tokio::select! {
            changed = news.changed() => changed.ok()?,
            _ = end.wait_for(|end| *end) => return None,
            () = tokio::time::sleep_until(over) => return None,
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = end.wait_for(|end| *end) => return None,
        }
        news.mark_unchanged();
        // Without data it would be no event.
        Some((Ok(Event::default().event("changed").data("-")), (news, end, place)))
    });
    Sse::new(first.chain(later)).keep_alive(KeepAlive::default()).into_response()
}
