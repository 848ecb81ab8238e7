//! Images, fetched before anything is deployed.
//!
//! What the engine has already needs no registry. The rest is pulled in parallel, and whatever can't be is told in
//! one error: what a registry does not have is the recipe's fault, a registry that can't be reached is the host's.
//!
//! # Limitations
//! What the engine has is used whoever asks for it: a private image that was pulled once is everybody's on that host.

mod pull;
mod unused;

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cc_ci_core::blocking;
use cc_ci_core::engine::{App, Failure, Fault};
use cc_ci_core::event::Event;
use cc_ci_core::recipe::{
    Compose, ImageReference, InvalidImageReference, Mode, MountKind, Recipe, RecipeError, Service,
};
use cc_ci_core::workspace::PulledImages;
use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior};

use crate::client::Client;
use crate::{SwarmEngine, nodes};
use pull::Progress;
pub(crate) use unused::remove;

/// So many images are pulled at once; each has several layers, and the engine pulls three of those at once.
const AT_ONCE: usize = 4;

/// How often a pull says how far it is.
const TELL: Duration = Duration::from_secs(15);

/// How long a registry may send nothing, unless it is said.
pub(crate) const SILENCE: Duration = Duration::from_mins(1);

/// Fetches what the app's services need, on every node that is given tasks, side by side.
pub(crate) async fn pre_pull(engine: &SwarmEngine, app: &App) -> Result<(), Failure> {
    let owned = app.clone();
    let compose = blocking::run(move || compose(&owned)).await?;
    let images = images(&compose)?;
    // Before the look: what is there then stays.
    note(engine, {
        let names: Vec<String> = images.iter().map(ToString::to_string).collect();
        move |pulled| pulled.used(&names)
    })
    .await?;
    let places =
        nodes::all(engine).await.map_err(|error| error.during("can't tell which images are there"))?;
    if places.len() > 1 {
        nodes::expect(engine, &app.domain);
        for (service, volume) in anywhere(&compose) {
            let text = format!(
                "the volume {volume} is made anew wherever a task of {service} is started, which may be any of {} nodes: \
                 give the service a placement constraint",
                places.len()
            );
            engine.settings.reporter.report(&Event::Warning { text });
        }
    }
    let pulls = places.iter().map(|(node, client)| pull_on(engine, client, node.as_deref(), &images));
    try_join_all(pulls).await.map(drop)
}

async fn pull_on(
    engine: &SwarmEngine,
    client: &Client,
    node: Option<&str>,
    images: &BTreeSet<ImageReference>,
) -> Result<(), Failure> {
    let look = |image: ImageReference| async move {
        pull::id_of(client, &image).await.map(|id| id.is_none().then_some(image))
    };
    let looks: Vec<_> = images.iter().cloned().map(look).collect();
    let missing: Vec<Option<ImageReference>> = stream::iter(looks)
        .buffered(AT_ONCE)
        .try_collect()
        .await
        .map_err(|error: crate::client::ApiError| error.during("can't tell which images are there"))?;
    let missing: Vec<ImageReference> = missing.into_iter().flatten().collect();
    if missing.is_empty() {
        return Ok(());
    }
    let on = node.map(|node| format!(" on {node}")).unwrap_or_default();
    let text = format!("pulling {} of {} images{on}: {}", missing.len(), images.len(), list(&missing));
    engine.settings.reporter.report(&Event::Note { text });
    let failures = pull_all(engine, client, &missing).await;
    if failures.is_empty() { Ok(()) } else { Err(error(&failures, missing.len())) }
}

/// What the app's tree and `.env` say now. Blocks.
fn compose(app: &App) -> Result<Compose, Failure> {
    let unreadable = |error: RecipeError| Failure::recipe("can't read the recipe").with_source(error);
    let recipe = Recipe::open(app.recipe.clone(), &app.tree).map_err(unreadable)?;
    let vars = recipe.vars(&app.env()?, &app.domain).map_err(unreadable)?;
    recipe.compose(&vars).map_err(unreadable)
}

/// The volumes of services that may be started on any node, by service.
fn anywhere(compose: &Compose) -> impl Iterator<Item = (&str, &str)> {
    let is_placed = |service: &Service| {
        let constraints =
            service.passed_on.get("deploy").and_then(|deploy| deploy.pointer("/placement/constraints"));
        constraints.and_then(Value::as_array).is_some_and(|constraints| !constraints.is_empty())
    };
    // One that runs on each node is meant to have a volume on each.
    let is_one = |service: &Service| matches!(service.mode, Mode::Replicated(_) | Mode::ReplicatedJob(_));
    let services = compose.services.iter().filter(move |(_, service)| is_one(service) && !is_placed(service));
    services.flat_map(|(name, service)| {
        let volumes = service.volumes.iter().filter(|mount| mount.kind == MountKind::Volume);
        volumes.filter_map(|mount| Some((name.as_str(), mount.source.as_deref()?)))
    })
}

/// The images of the app's services.
fn images(compose: &Compose) -> Result<BTreeSet<ImageReference>, Failure> {
    let parse = |(name, service): (&String, &Service)| {
        let invalid = |error| Failure::recipe(format!("services.{name}.image")).with_source(error);
        service.image.parse().map_err(|error: InvalidImageReference| invalid(error))
    };
    compose.services.iter().map(parse).collect()
}

/// Has what runs pull noted, where that is done.
async fn note(
    engine: &SwarmEngine,
    note: impl FnOnce(&PulledImages) -> io::Result<()> + Send + 'static,
) -> Result<(), Failure> {
    let Some(pulled) = engine.pulled.clone() else { return Ok(()) };
    let noted = blocking::run(move || note(&pulled)).await;
    noted.map_err(|error| Failure::host("can't note which images are pulled").with_source(error))
}

/// Pulls one, which is noted before and after.
async fn pull_one(
    engine: &SwarmEngine,
    client: &Client,
    image: &ImageReference,
    progress: &Progress,
) -> Result<(), Failure> {
    let SwarmEngine { credentials, pull_silence, .. } = engine;
    // Those of other nodes are not: see the limitations.
    if !std::ptr::eq(client, &raw const engine.client) {
        return pull::pull(client, image, credentials, *pull_silence, progress).await.map(drop);
    }
    let name = image.to_string();
    note(engine, {
        let name = name.clone();
        move |pulled| pulled.note(&name, None)
    })
    .await?;
    let id = pull::pull(client, image, credentials, *pull_silence, progress).await?;
    note(engine, move |pulled| pulled.note(&name, Some(&id))).await
}

/// Pulls them all with the node's engine, whatever becomes of each.
async fn pull_all(engine: &SwarmEngine, client: &Client, images: &[ImageReference]) -> Vec<Failure> {
    let reporter = engine.settings.reporter.as_ref();
    let (began, progress, left) = (Instant::now(), Progress::default(), AtomicUsize::new(images.len()));
    let pull = |image| {
        let (progress, left) = (&progress, &left);
        async move {
            let done = pull_one(engine, client, image, progress).await;
            let left = left.fetch_sub(1, Ordering::Relaxed) - 1;
            if done.is_ok() {
                let text = format!("pulled {image}; {left} left");
                reporter.report(&Event::Note { text });
            }
            done.err()
        }
    };
    let pulls: Vec<_> = images.iter().map(pull).collect();
    let pulls = stream::iter(pulls).buffer_unordered(AT_ONCE).collect::<Vec<Option<Failure>>>();
    tokio::pin!(pulls);
    let mut tick = tokio::time::interval_at(began + TELL, TELL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            failures = &mut pulls => return failures.into_iter().flatten().collect(),
            _ = tick.tick() => {
                let (current, total) = progress.megabytes();
                let (left, seconds) = (left.load(Ordering::Relaxed), began.elapsed().as_secs());
                let text = format!("still pulling after {seconds} s: {left} images left, {current} of {total} MB");
                reporter.report(&Event::Note { text });
            }
        }
    }
}

/// All failures in one. What a registry does not have stays so: then it is the recipe's, whatever else failed.
fn error(failures: &[Failure], pulled: usize) -> Failure {
    let recipe = failures.iter().any(|failure| failure.fault() == Fault::Recipe);
    let fault = if recipe { Fault::Recipe } else { Fault::Host };
    let hint = failures.iter().filter(|failure| failure.fault() == fault).find_map(Failure::hint);
    let blame = failures.iter().filter(|failure| failure.fault() == fault).find_map(Failure::blame);
    let reasons: Vec<String> = failures.iter().map(ToString::to_string).collect();
    let message = format!("{} of {pulled} images can't be pulled: {}", failures.len(), reasons.join("; "));
    Failure::new(fault, message).with_any_hint(hint).with_any_blame(blame)
}

fn list(images: &[ImageReference]) -> String {
    images.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
