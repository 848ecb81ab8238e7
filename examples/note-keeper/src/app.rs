//! What the app answers over HTTP.

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use crate::auth::Key;
use crate::output;
use crate::store::{Note, Notes, Store, StoreError, files};
use crate::worker::STATS_FILE;

/// What the handlers share.
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) stats_dir: PathBuf,
    pub(crate) write_key: Key,
    pub(crate) admin_key: Option<Key>,
    pub(crate) instance_name: String,
    pub(crate) notice: Option<String>,
    pub(crate) max_length: usize,
}

pub(crate) fn router(app: App) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/health", get(health))
        .route("/stats", get(stats))
        .route("/notes", get(list).post(add))
        .route("/notes/{id}", get(one).delete(remove))
        .with_state(Arc::new(app))
}

/// An answer that is not a success.
enum Refusal {
    Unauthorized,
    Forbidden(&'static str),
    BadNote(&'static str),
    TooLong(usize),
    NotFound,
    Store(StoreError),
    Broken,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Unauthorized => {
                let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
                (StatusCode::UNAUTHORIZED, challenge, "the key is missing or wrong\n").into_response()
            }
            Self::Forbidden(why) => (StatusCode::FORBIDDEN, format!("{why}\n")).into_response(),
            Self::BadNote(why) => (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
            Self::TooLong(most) => {
                (StatusCode::PAYLOAD_TOO_LARGE, format!("a note has {most} bytes at most\n")).into_response()
            }
            Self::NotFound => (StatusCode::NOT_FOUND, "there is no such thing\n").into_response(),
            Self::Store(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
            Self::Broken => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}

type Answer<T> = Result<T, Refusal>;

/// Works on the files without holding up other requests. A change that began is finished even if the client leaves.
async fn with_store<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&App) -> Result<T, StoreError> + Send + 'static,
) -> Answer<T> {
    let app = Arc::clone(app);
    match tokio::task::spawn_blocking(move || work(&app)).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            output::complain(&error);
            Err(Refusal::Store(error))
        }
        Err(_) => Err(Refusal::Broken),
    }
}

async fn read(app: &Arc<App>) -> Answer<Notes> {
    with_store(app, |app| app.store.read()).await
}

async fn health(State(app): State<Arc<App>>) -> Answer<String> {
    let notes = read(&app).await?;
    Ok(format!("ok, data format {}, {} notes\n", app.store.format().name(), notes.notes.len()))
}

async fn page(State(app): State<Arc<App>>) -> Answer<Html<String>> {
    let notes = read(&app).await?;
    let name = escape(&app.instance_name);
    let notice = app.notice.as_deref().map(escape).unwrap_or_default();
    Ok(Html(format!(
        "<!doctype html>\n<title>{name}</title>\n<h1>{name}</h1>\n\
         <p>note-keeper, data format {}, {} notes</p>\n<pre>{notice}</pre>\n",
        app.store.format().name(),
        notes.notes.len(),
    )))
}

async fn list(State(app): State<Arc<App>>) -> Answer<Json<Vec<Note>>> {
    Ok(Json(read(&app).await?.notes))
}

async fn one(State(app): State<Arc<App>>, Path(id): Path<u64>) -> Answer<Json<Note>> {
    read(&app).await?.notes.into_iter().find(|note| note.id == id).map(Json).ok_or(Refusal::NotFound)
}

async fn add(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Answer<(StatusCode, Json<Note>)> {
    // Before the body is read: whoever has no key can't make the app take anything in.
    if !app.write_key.opens(&headers) {
        return Err(Refusal::Unauthorized);
    }
    let bytes = to_bytes(body, app.max_length).await.map_err(|_| Refusal::TooLong(app.max_length))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Refusal::BadNote("a note is UTF-8"))?.trim();
    if text.is_empty() {
        return Err(Refusal::BadNote("a note is not empty"));
    }
    if text.chars().any(char::is_control) {
        return Err(Refusal::BadNote("a note is one line, without control characters"));
    }
    let text = text.to_owned();
    let note = with_store(&app, move |app| app.store.add(text)).await?;
    Ok((StatusCode::CREATED, Json(note)))
}

async fn remove(State(app): State<Arc<App>>, Path(id): Path<u64>, headers: HeaderMap) -> Answer<Json<Note>> {
    let Some(key) = &app.admin_key else {
        return Err(Refusal::Forbidden("nothing can be deleted here: there is no admin key"));
    };
    if !key.opens(&headers) {
        return Err(Refusal::Unauthorized);
    }
    with_store(&app, move |app| app.store.remove(id)).await?.map(Json).ok_or(Refusal::NotFound)
}

/// The worker's count, as it left it.
async fn stats(State(app): State<Arc<App>>) -> Answer<([(header::HeaderName, &'static str); 1], String)> {
    let stats = with_store(&app, |app| {
        files::read(&app.stats_dir, STATS_FILE)
            .map_err(|source| StoreError::Read { file: STATS_FILE, source })
    })
    .await?
    .ok_or(Refusal::NotFound)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], stats))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
