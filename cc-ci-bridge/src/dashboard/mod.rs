//! The dashboard: pages of what the database has. It only reads, on a connection of its own, so that no delivery waits for a page.
//!
//! Everything that comes from outside is escaped where it is put into a page, and made harmless before. What a page may do in a
//! browser is said by its headers: nothing that is not from here. Links are relative, so it may be behind a reverse proxy
//! under any path that the proxy takes away.

mod host;
mod live;
mod pages;
mod report;
mod runs;

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use cc_ci_core::model::error_chain;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::explain;
use crate::names::{Key, Repo};
use crate::store::{News, Store, StoreError};
use pages::{Message, Overview, RecipePage, RequestPage};

/// So many pages are made at once.
const AT_ONCE: usize = 4;

/// As long as a page may wait for its turn.
const TURN: Duration = Duration::from_secs(5);

/// So many browsers are told of changes.
const CLIENTS: usize = 64;

/// What a page may load and do: its style, its script, its badge, and what the script asks for; all from here.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The same of a run's page, which has its style in it. Of that, the page's own policy names the one that it is.
const RUN_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; \
                          frame-ancestors 'none'";

/// Who may load what an answer is.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// All that makes pages.
#[derive(Debug)]
pub struct Dashboard {
    store: Arc<Store>,
    forge: String,
    repos: Vec<Repo>,
    making: Semaphore,
    clients: Arc<Semaphore>,
    news: watch::Receiver<String>,
    end: watch::Receiver<bool>,
}

impl Dashboard {
    /// Returns the dashboard of these repositories of the forge at the address `forge`. `store` is its own. Open streams of events end when `end` says so.
    pub fn new(store: Arc<Store>, forge: &str, repos: Vec<Repo>, end: watch::Receiver<bool>) -> Self {
        let news = store.news(News::Shown);
        let (making, clients) = (Semaphore::new(AT_ONCE), Arc::new(Semaphore::new(CLIENTS)));
        Self { store, forge: forge.to_owned(), repos, making, clients, news, end }
    }

    /// Returns its routes.
    pub fn routes(self) -> Router {
        Router::new()
            .route("/", get(overview))
            .route("/r/{owner}/{name}", get(recipe))
            .route("/r/{owner}/{name}/badge.svg", get(badge))
            .route("/r/{owner}/{name}/{comment}", get(request))
            .route("/r/{owner}/{name}/{comment}/run", get(run))
            .route("/explain", get(explained))
            .route("/events", get(live::events))
            .route("/style.css", get(async || asset("text/css", include_str!("../../assets/style.css"))))
            .route("/live.js", get(async || asset("text/javascript", include_str!("../../assets/live.js"))))
            .fallback(async |uri: Uri| message(StatusCode::NOT_FOUND, &uri, "There is no such page."))
            .layer(from_fn(with_headers))
            .with_state(Arc::new(self))
    }

    /// Waits for a place among those that are made at once, or says that there is none.
    async fn turn(&self, uri: &Uri) -> Result<SemaphorePermit<'_>, Response> {
        // It is never closed.
        if let Ok(Ok(turn)) = tokio::time::timeout(TURN, self.making.acquire()).await {
            return Ok(turn);
        }
        let busy = "Too many pages are asked for just now.";
        let mut response = message(StatusCode::SERVICE_UNAVAILABLE, uri, busy);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        Err(response)
    }

    /// Makes a page of what `read` finds. `None`: there is no such page.
    async fn page<T: Template>(
        self: &Arc<Self>,
        uri: &Uri,
        read: impl FnOnce(&Self, &Store) -> Result<Option<T>, StoreError> + Send + 'static,
    ) -> Response {
        let made = |dashboard: &Self, store: &Store| Ok(read(dashboard, store)?.map(|page| page.render()));
        self.answer(uri, made).await
    }

    /// Answers with the text that `make` makes. `None`: there is no such page.
    async fn answer(
        self: &Arc<Self>,
        uri: &Uri,
        make: impl FnOnce(&Self, &Store) -> Result<Option<askama::Result<String>>, StoreError> + Send + 'static,
    ) -> Response {
        let _turn = match self.turn(uri).await {
            Ok(turn) => turn,
            Err(busy) => return busy,
        };
        let dashboard = self.clone();
        match self.store.run(move |store| make(&dashboard, store)).await {
            Ok(Some(Ok(text))) => html(StatusCode::OK, text),
            Ok(Some(Err(error))) => {
                tracing::error!("can't make a page: {error}");
                message(StatusCode::INTERNAL_SERVER_ERROR, uri, "This page can't be made.")
            }
            Ok(None) => message(StatusCode::NOT_FOUND, uri, "There is no such page."),
            Err(error) => {
                tracing::warn!("can't make a page: {}", error_chain(&error));
                message(StatusCode::SERVICE_UNAVAILABLE, uri, "The database can't be read just now.")
            }
        }
    }

    fn known(&self, owner: &str, name: &str) -> Option<Repo> {
        format!("{owner}/{name}").parse().ok().filter(|repo| self.repos.contains(repo))
    }
}

async fn overview(State(dashboard): State<Arc<Dashboard>>, uri: Uri) -> Response {
    let root = root(&uri);
    dashboard.page(&uri, |dashboard, store| Overview::read(dashboard, store, root).map(Some)).await
}

async fn recipe(
    State(dashboard): State<Arc<Dashboard>>,
    Path((owner, name)): Path<(String, String)>,
    uri: Uri,
) -> Response {
    let root = root(&uri);
    let page = move |dashboard: &Dashboard, store: &Store| {
        let repo = dashboard.known(&owner, &name);
        repo.map(|repo| RecipePage::read(dashboard, store, root, &repo)).transpose()
    };
    dashboard.page(&uri, page).await
}

async fn badge(
    State(dashboard): State<Arc<Dashboard>>,
    Path((owner, name)): Path<(String, String)>,
    uri: Uri,
) -> Response {
    let page = move |dashboard: &Dashboard, store: &Store| {
        dashboard.known(&owner, &name).map(|repo| pages::badge(store, &repo).map(Ok)).transpose()
    };
    let mut response = dashboard.answer(&uri, page).await;
    if response.status() == StatusCode::OK {
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("image/svg+xml"));
        headers.insert(RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
    }
    response
}

async fn request(
    State(dashboard): State<Arc<Dashboard>>,
    Path((owner, name, comment)): Path<(String, String, String)>,
    uri: Uri,
) -> Response {
    let root = root(&uri);
    let page = move |dashboard: &Dashboard, store: &Store| {
        let (Some(repo), Ok(comment)) = (dashboard.known(&owner, &name), comment.parse()) else {
            return Ok(None);
        };
        RequestPage::read(dashboard, store, root, &repo, comment)
    };
    dashboard.page(&uri, page).await
}

async fn run(
    State(dashboard): State<Arc<Dashboard>>,
    Path((owner, name, comment)): Path<(String, String, String)>,
    uri: Uri,
) -> Response {
    let page = move |dashboard: &Dashboard, store: &Store| {
        let (Some(repo), Ok(comment)) = (dashboard.known(&owner, &name), comment.parse()) else {
            return Ok(None);
        };
        let record = store.record_of(&Key::of(&dashboard.forge, &repo, comment))?;
        Ok(record.as_deref().and_then(report::page).map(Ok))
    };
    let mut response = dashboard.answer(&uri, page).await;
    if response.status() == StatusCode::OK {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(RUN_POLICY));
    }
    response
}

/// Leads to the page of the comment with the address that is asked for, or says why there is none.
async fn explained(State(dashboard): State<Arc<Dashboard>>, uri: Uri) -> Response {
    let asked = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let url = asked.into_iter().find(|(name, _)| name == "url").map(|(_, url)| url).unwrap_or_default();
    let (repo, comment) = match explain::parse(url.trim(), &dashboard.forge) {
        Ok(parsed) => parsed,
        Err(failure) => {
            let text = format!("{failure}: {}.", failure.hint().unwrap_or_default());
            return message(StatusCode::BAD_REQUEST, &uri, &text);
        }
    };
    let _turn = match dashboard.turn(&uri).await {
        Ok(turn) => turn,
        Err(busy) => return busy,
    };
    let found = {
        let repo = repo.clone();
        dashboard.store.run(move |store| store.by_comment(&repo, comment)).await
    };
    match found {
        Ok(Some(_)) => (StatusCode::SEE_OTHER, [(LOCATION, format!("r/{repo}/{comment}"))]).into_response(),
        Ok(None) => message(StatusCode::NOT_FOUND, &uri, &explain::unknown(&repo, comment)),
        Err(error) => {
            tracing::warn!("can't explain a comment: {}", error_chain(&error));
            message(StatusCode::SERVICE_UNAVAILABLE, &uri, "The database can't be read just now.")
        }
    }
}

/// The way from a page to the overview.
fn root(uri: &Uri) -> String {
    // Of a page of ours there are few; of any other path, enough.
    let depth = uri.path().matches('/').count().saturating_sub(1).min(8);
    if depth == 0 { "./".to_owned() } else { "../".repeat(depth) }
}

fn message(status: StatusCode, uri: &Uri, text: &str) -> Response {
    let title = status.canonical_reason().unwrap_or_default().to_owned();
    match (Message { root: root(uri), title, text: text.to_owned() }).render() {
        Ok(page) => html(status, page),
        Err(_) => status.into_response(),
    }
}

fn html(status: StatusCode, text: String) -> Response {
    (status, [(CONTENT_TYPE, "text/html; charset=utf-8"), (CACHE_CONTROL, "no-store")], text).into_response()
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    let kind = format!("{kind}; charset=utf-8");
    ([(CONTENT_TYPE, kind.as_str()), (CACHE_CONTROL, "max-age=300")], text).into_response()
}

async fn with_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (RESOURCE_POLICY, "same-origin"),
    ] {
        // Some answers have one of their own.
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}
