//! Opened → fetched: the commit under test, its releases, and the recipes that it needs.

use super::state::{Fetched, Run};
use super::step::first_few;
use crate::model::failure::Failure;
use crate::names::{Domain, TagFault};
use crate::workspace::{self, FetchRequest, RecipeSource, RecipeTree, Revision};

/// Fetches all recipes of the run.
pub(super) async fn fetch(run: &Run<'_>) -> Result<Fetched, Failure> {
    let (request, lifetime) = (run.request, run.harness.lifetime.as_ref());
    let domain = run.record().domain.clone();
    let tested = fetch_one(run, &request.source, request.revision.clone(), &domain).await?;
    run.record().commit = Some(tested.tested().to_string());
    let mut dependencies = Vec::new();
    for (source, domain) in run.harness.dependencies(request, run.lane())? {
        dependencies.push((fetch_one(run, &source, None, &domain).await?, domain));
    }
    let releases = tested.releases(lifetime).await?;
    for fault in TagFault::ALL {
        let tags = releases.unfit.iter().filter(|tag| tag.fault == fault);
        let tags: Vec<String> = tags.map(|tag| tag.name.clone()).collect();
        if !tags.is_empty() {
            let rule = match fault {
                TagFault::Lightweight => "R014: abra takes only annotated tags, so these are no releases",
                TagFault::NoCommit => "abra takes only tags of a commit, so these are no releases",
                TagFault::Misnamed => "a release is named <recipe semver>+<upstream>, so these are none",
            };
            run.warn(&format!("{rule}: {}", first_few(&tags)));
        }
    }
    let release = releases.at(tested.tested()).cloned();
    let known = releases.releases.into_iter().filter(|known| known.commit != *tested.tested());
    let newest = known.map(|known| known.version).next();
    let upgrade_from = if request.fresh {
        Vec::new()
    } else {
        let before = tested.releases_before(lifetime, tested.tested()).await?;
        request.upgrade_from.select(before, tested.tested())?
    };
    Ok(Fetched { tested, release, newest, upgrade_from, dependencies })
}

async fn fetch_one(
    run: &Run<'_>,
    source: &RecipeSource,
    revision: Option<Revision>,
    domain: &Domain,
) -> Result<RecipeTree, Failure> {
    let request = FetchRequest {
        source: source.clone(),
        revision,
        skip_fetch: run.request.skip_fetch,
        limit: run.harness.settings.fetch_limit,
        marker: Some(run.context.marker(domain)),
    };
    let fetched = workspace::fetch(&run.directory, run.harness.lifetime.as_ref(), &request).await?;
    for note in fetched.notes {
        run.warn(&note);
    }
    Ok(fetched.tree)
}
