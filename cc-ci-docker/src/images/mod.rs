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
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cc_ci_core::blocking;
use cc_ci_core::engine::{App, Failure, Fault};
use cc_ci_core::event::Event;
use cc_ci_core::recipe::{
    Compose, ImageReference, InvalidImageReference, Mode, MountKind, Recipe, RecipeError, Service,
};
use cc_ci_core::workspace::PulledImages;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior};

use crate::client::{ApiError, Client};
use crate::{SwarmEngine, node, nodes, placement};
use pull::Progress;
pub(crate) use unused::remove;

/// So many images are pulled at once; each has several layers, and the engine pulls three of those at once.
const AT_ONCE: usize = 4;

/// How often a pull says how far it is.
const TELL: Duration = Duration::from_secs(15);

/// How long a registry may send nothing, unless it is said.
pub(crate) const SILENCE: Duration = Duration::from_mins(1);

/// A service, and where it may run.
struct Wanted<'c> {
    service: &'c str,
    image: ImageReference,
    constraints: Vec<&'c str>,
    /// The volumes that are where its one task is: what runs on each node is meant to have one on each.
    volumes: Vec<&'c str>,
}

/// An engine that is to have the images of these.
struct Place<'w> {
    /// Its node, where there are several.
    node: Option<Arc<str>>,
    client: &'w Client,
    wanted: Vec<&'w Wanted<'w>>,
}

impl Place<'_> {
    fn images(&self) -> BTreeSet<&ImageReference> {
        self.wanted.iter().map(|wanted| &wanted.image).collect()
    }
}

/// What became of the pulls on a node.
struct Pulls {
    /// How many there were.
    tried: usize,
    failed: Vec<(ImageReference, Failure)>,
}

/// Fetches what the app's services need, on every node that may be given their tasks, side by side.
pub(crate) async fn pre_pull(engine: &SwarmEngine, app: &App) -> Result<(), Failure> {
    let owned = app.clone();
    let compose = blocking::run(move || compose(&owned)).await?;
    let wanted: Vec<Wanted> =
        compose.services.iter().map(|(name, service)| wanted(name, service)).collect::<Result<_, _>>()?;
    // Before the look: what is there then stays.
    note(engine, {
        let names: BTreeSet<String> = wanted.iter().map(|wanted| wanted.image.to_string()).collect();
        move |pulled| pulled.used(&Vec::from_iter(names))
    })
    .await?;
    let places =
        places(engine, &wanted).await.map_err(|error| error.during("can't tell which images are there"))?;
    if places.len() > 1 {
        nodes::expect(engine, &app.domain);
        warn_of_wandering_volumes(engine, &wanted, &places);
    }
    let pulls = join_all(places.iter().map(|place| pull_on(engine, place))).await;
    let pulls = pulls.into_iter().collect::<Result<Vec<Pulls>, Failure>>()?;
    let has = |(place, pulls): (&Place, &Pulls), image: &ImageReference| {
        place.wanted.iter().any(|wanted| wanted.image == *image)
            && pulls.failed.iter().all(|(failed, _)| failed != image)
    };
    let is_somewhere = |image: &ImageReference| places.iter().zip(&pulls).any(|there| has(there, image));
    let mut failed = Vec::new();
    for (place, pulls) in places.iter().zip(&pulls) {
        let node = place.node.as_deref();
        let (spared, counted): (Vec<_>, Vec<_>) = pulls
            .failed
            .iter()
            .partition(|(image, failure)| pull::is_for_other_machines(failure) && is_somewhere(image));
        for (_, failure) in spared {
            let node = node.unwrap_or("this node");
            let text = format!("no task of it can run on {node}: {failure}");
            engine.settings.reporter.report(&Event::Warning { text });
        }
        if !counted.is_empty() {
            failed.push((node, pulls.tried, counted.into_iter().map(|(_, failure)| failure).collect()));
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(error(&failed)) }
}

/// The engines that pull. The only node is asked nothing more.
async fn places<'w>(engine: &'w SwarmEngine, wanted: &'w [Wanted<'w>]) -> Result<Vec<Place<'w>>, ApiError> {
    let engines = nodes::all(engine).await?;
    let nodes = if engines.len() > 1 { node::list(&engine.client).await? } else { Vec::new() };
    let place = |(name, client): (Option<Arc<str>>, &'w Client)| {
        let node = nodes.iter().find(|node| name.as_deref() == Some(node.name.as_str()));
        let may_have = |wanted: &&Wanted| {
            node.is_none_or(|node| !node.drained && placement::allows(&wanted.constraints, node))
        };
        Place { wanted: wanted.iter().filter(may_have).collect(), node: name, client }
    };
    Ok(engines.into_iter().map(place).collect())
}

fn warn_of_wandering_volumes(engine: &SwarmEngine, wanted: &[Wanted], places: &[Place]) {
    for Wanted { service, volumes, .. } in wanted {
        let may_have = |place: &&Place| place.wanted.iter().any(|wanted| wanted.service == *service);
        let nodes = places.iter().filter(may_have).count();
        for volume in volumes.iter().filter(|_| nodes > 1) {
            let text = format!(
                "the volume {volume} is made anew wherever a task of {service} is started, which may be any of {nodes} \
                 nodes: give the service a placement constraint that is true of one alone"
            );
            engine.settings.reporter.report(&Event::Warning { text });
        }
    }
}

/// Pulls what is not there.
async fn pull_on(engine: &SwarmEngine, place: &Place<'_>) -> Result<Pulls, Failure> {
    let images = place.images();
    let look = |image: &ImageReference| {
        let image = image.clone();
        async move { pull::id_of(place.client, &image).await.map(|id| id.is_none().then_some(image)) }
    };
    let looks: Vec<_> = images.iter().copied().map(look).collect();
    let missing: Vec<Option<ImageReference>> = stream::iter(looks)
        .buffered(AT_ONCE)
        .try_collect()
        .await
        .map_err(|error: ApiError| error.during("can't tell which images are there"))?;
    let missing: Vec<ImageReference> = missing.into_iter().flatten().collect();
    let tried = missing.len();
    if missing.is_empty() {
        return Ok(Pulls { tried, failed: Vec::new() });
    }
    let on = place.node.as_deref().map(|node| format!(" on {node}")).unwrap_or_default();
    let text = format!("pulling {tried} of {} images{on}: {}", images.len(), list(&missing));
    engine.settings.reporter.report(&Event::Note { text });
    Ok(Pulls { tried, failed: pull_all(engine, place.client, &missing).await })
}

/// What the app's tree and `.env` say now. Blocks.
fn compose(app: &App) -> Result<Compose, Failure> {
    let unreadable = |error: RecipeError| Failure::recipe("can't read the recipe").with_source(error);
    let recipe = Recipe::open(app.recipe.clone(), &app.tree).map_err(unreadable)?;
    let vars = recipe.vars(&app.env()?, &app.domain).map_err(unreadable)?;
    recipe.compose(&vars).map_err(unreadable)
}

/// What a service wants.
fn wanted<'c>(name: &'c str, service: &'c Service) -> Result<Wanted<'c>, Failure> {
    let invalid = |error| Failure::recipe(format!("services.{name}.image")).with_source(error);
    let image = service.image.parse().map_err(|error: InvalidImageReference| invalid(error))?;
    let constraints =
        service.passed_on.get("deploy").and_then(|deploy| deploy.pointer("/placement/constraints"));
    let constraints = constraints.and_then(Value::as_array).into_iter().flatten();
    let is_one = matches!(service.mode, Mode::Replicated(_) | Mode::ReplicatedJob(_));
    let volumes = service.volumes.iter().filter(|mount| is_one && mount.kind == MountKind::Volume);
    Ok(Wanted {
        service: name,
        image,
        constraints: constraints.filter_map(Value::as_str).collect(),
        volumes: volumes.filter_map(|mount| mount.source.as_deref()).collect(),
    })
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
async fn pull_all(
    engine: &SwarmEngine,
    client: &Client,
    images: &[ImageReference],
) -> Vec<(ImageReference, Failure)> {
    let reporter = engine.settings.reporter.as_ref();
    let (began, progress, left) = (Instant::now(), Progress::default(), AtomicUsize::new(images.len()));
    let pull = |image: &ImageReference| {
        let image = image.clone();
        let (progress, left) = (&progress, &left);
        async move {
            let done = pull_one(engine, client, &image, progress).await;
            let left = left.fetch_sub(1, Ordering::Relaxed) - 1;
            if done.is_ok() {
                let text = format!("pulled {image}; {left} left");
                reporter.report(&Event::Note { text });
            }
            Some((image, done.err()?))
        }
    };
    let pulls: Vec<_> = images.iter().map(pull).collect();
    let pulls =
        stream::iter(pulls).buffer_unordered(AT_ONCE).collect::<Vec<Option<(ImageReference, Failure)>>>();
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

/// All failures in one, by node and of how many. What a registry does not have stays so: then it is the recipe's, whatever else
/// failed.
fn error(failed: &[(Option<&str>, usize, Vec<&Failure>)]) -> Failure {
    let all = || failed.iter().flat_map(|(.., failures)| failures);
    let recipe = all().any(|failure| failure.fault() == Fault::Recipe);
    let fault = if recipe { Fault::Recipe } else { Fault::Host };
    let of_it = || all().filter(|failure| failure.fault() == fault);
    let hint = of_it().find_map(|failure| failure.hint());
    let blame = of_it().find_map(|failure| failure.blame());
    let told = failed.iter().map(|(node, tried, failures)| {
        let on = node.map(|node| format!(" on {node}")).unwrap_or_default();
        let reasons: Vec<String> = failures.iter().map(ToString::to_string).collect();
        format!("{} of {tried} images can't be pulled{on}: {}", failures.len(), reasons.join("; "))
    });
    let message = told.collect::<Vec<_>>().join("; ");
    Failure::new(fault, message).with_any_hint(hint).with_any_blame(blame)
}

fn list(images: &[ImageReference]) -> String {
    images.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
