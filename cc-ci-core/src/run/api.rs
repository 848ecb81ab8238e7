//! What a pull request's test can do with its app instead of talking to the engine: two verbs over HTTP, on a socket of its own.
//!
//! `POST /exec/SERVICE` runs a command, a JSON array of strings, in a service; `GET /log/SERVICE` gives the last lines of its
//! log. With `?app=RECIPE` it is a service of an app that the operator has deployed beside it. The socket is there for as long
//! as the test, reaches the run's own apps and nobody else's, and refuses once teardown begins.
//!
//! # Limitations
//! A command that still runs when its test has ended goes on until its container, or the run, ends.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::state::{Fetched, Run};
use crate::engine::{App, Engine, RunContext, ServiceCommand};
use crate::model::failure::{Failure, Fault};
use crate::names::RecipeName;
use crate::sys::connections;

/// A command is no program: its words are short.
const BODY_LIMIT: usize = 64 * 1024;
/// So many requests are answered at once; the next one waits.
const CONNECTIONS: usize = 8;

/// The socket of one test. What it serves ends when it is dropped.
#[derive(Debug)]
pub(super) struct Api {
    _serving: JoinSet<()>,
    /// Where it is.
    pub path: PathBuf,
}

/// What requests are answered with.
struct Apps {
    context: RunContext,
    engine: Arc<dyn Engine>,
    main: RecipeName,
    known: BTreeMap<RecipeName, App>,
    limit: Duration,
}

impl Api {
    /// Serves at `api` in `directory`; what is there is replaced.
    pub async fn serve(run: &Run<'_>, fetched: &Fetched, directory: PathBuf) -> Result<Self, Failure> {
        let main = run.main_app();
        let dependencies = fetched.dependencies.iter().map(|(tree, domain)| run.app(tree.name(), domain));
        let apps = Apps {
            context: run.context.clone(),
            engine: run.harness.ci_host.engine.clone(),
            main: main.recipe.clone(),
            known: dependencies.chain([main]).map(|app| (app.recipe.clone(), app)).collect(),
            limit: run.harness.settings.script_limit,
        };
        let path = directory.join("api");
        let (of_run, at) = (run.directory.clone(), path.clone());
        let listen = move || -> io::Result<_> {
            of_run.remove(&at)?;
            of_run.make_private(&directory)?;
            of_run.listen(&at)
        };
        let listener = run.context.lifetime.blocking_tasks().run(listen).await;
        let listener = listener.and_then(UnixListener::from_std).map_err(|error| {
            Failure::host(format!("can't listen at {}", path.display())).with_source(error)
        })?;
        let mut serving = JoinSet::new();
        let apps = Arc::new(apps);
        let accept = move |cx: &mut Context<'_>| listener.poll_accept(cx).map_ok(|(stream, _)| stream);
        serving
            .spawn(connections::serve(accept, CONNECTIONS, move |stream| answer_all(stream, apps.clone())));
        Ok(Self { _serving: serving, path })
    }
}

async fn answer_all(stream: UnixStream, apps: Arc<Apps>) {
    let service = service_fn(move |request| {
        let apps = apps.clone();
        async move {
            let (status, text) = match apps.answer(request).await {
                Ok(text) => (StatusCode::OK, text),
                Err((status, text)) => (status, text),
            };
            let mut response = Response::new(Full::new(Bytes::from(text)));
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        }
    });
    // Whoever speaks no HTTP is hung up on.
    let _hung_up = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.is_err();
}

impl Apps {
    async fn answer(&self, request: Request<Incoming>) -> Result<String, (StatusCode, String)> {
        let refuse = |status, text: &str| Err((status, format!("{text}\n")));
        if self.context.lifetime.teardown().is_some() {
            return refuse(StatusCode::CONFLICT, "the run is ending");
        }
        let app = match request.uri().query() {
            None => self.known.get(&self.main),
            Some(query) => query
                .strip_prefix("app=")
                .and_then(|name| name.parse::<RecipeName>().ok())
                .and_then(|name| self.known.get(&name)),
        };
        let Some(app) = app else {
            return refuse(StatusCode::NOT_FOUND, "no such app in this run: ?app=RECIPE");
        };
        let path = request.uri().path().to_owned();
        let words: Vec<&str> = path.split('/').collect();
        match (request.method().clone(), words.as_slice()) {
            (Method::GET, ["", "log", service]) => {
                let log = self.engine.log(&app.domain, service).await;
                log.map_err(|failure| self.failed(&failure))
            }
            (Method::POST, ["", "exec", service]) => {
                let body = Limited::new(request.into_body(), BODY_LIMIT).collect().await;
                let Ok(body) = body else {
                    return refuse(StatusCode::BAD_REQUEST, "no command, or too long a one");
                };
                let Ok(command) = serde_json::from_slice::<Vec<String>>(&body.to_bytes()) else {
                    return refuse(StatusCode::BAD_REQUEST, "a command is a JSON array of strings");
                };
                if command.is_empty() {
                    return refuse(StatusCode::BAD_REQUEST, "an empty command");
                }
                let command = ServiceCommand { app, service, words: &command, limit: self.limit };
                let done = self.engine.execute(&self.context, &command).await;
                done.map_err(|failure| self.failed(&failure))
            }
            _ => refuse(StatusCode::NOT_FOUND, "POST /exec/SERVICE or GET /log/SERVICE"),
        }
    }

    /// A command that fails is the caller's affair; what the engine fails is not.
    fn failed(&self, failure: &Failure) -> (StatusCode, String) {
        let status = match failure.fault() {
            Fault::Recipe => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::BAD_GATEWAY,
        };
        (status, format!("{}\n", self.context.redactor.redact(&failure.chain())))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::engine::{MemoryEngine, RecipeCode, Redactor};
    use crate::lifetime::{Bounds, EmbeddedMode, RunLifetime as _};
    use crate::model::event::Silent;

    #[tokio::test]
    async fn nothing_is_done_for_a_test_once_its_run_ends() {
        let lifetime = Arc::new(EmbeddedMode::new(Bounds::default(), Arc::new(Silent)).unwrap());
        let context = RunContext {
            run_id: "1".parse().unwrap(),
            lifetime: lifetime.clone(),
            reporter: Arc::new(Silent),
            environment: Vec::new(),
            tmp: "/nowhere".into(),
            redactor: Redactor::default(),
            recipe_code: RecipeCode::Unconfined("a test's".into()),
        };
        let main: RecipeName = "blog".parse().unwrap();
        let (domain, path) = ("a.test".parse().unwrap(), PathBuf::from("/nowhere"));
        let app = App { domain, recipe: main.clone(), tree: path.clone(), env_file: path };
        let known = BTreeMap::from([(main.clone(), app)]);
        let engine = Arc::new(MemoryEngine::default());
        let apps = Arc::new(Apps { context, engine, main, known, limit: Duration::from_mins(1) });
        let status = async || {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            let serving = tokio::spawn(answer_all(theirs, apps.clone()));
            ours.write_all(b"GET /log/app HTTP/1.0\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            ours.read_to_string(&mut answer).await.unwrap();
            serving.await.unwrap();
            answer.split(' ').nth(1).unwrap().to_owned()
        };
        assert_eq!(status().await, "200");
        lifetime.begin_teardown();
        assert_eq!(status().await, "409");
    }
}
