//! Opened → fetched: the commit under test, its releases, and the recipes that it needs.

use std::io;
use std::path::Path;

use super::confine;
use super::lint;
use super::scripts::Scripts;
use super::state::{Fetched, Run};
use super::step::first_few;
use crate::model::failure::Failure;
use crate::model::record::{Lane, ReleasesBefore};
use crate::names::{Domain, TagFault};
use crate::sys::beneath::read_beneath;
use crate::sys::files::Dir;
use crate::workspace::{
    self, FetchRequest, RecipeSource, RecipeTree, Releases, ReleasesOf, Revision, copy_entries,
};

/// A fixture that is a secret is no longer.
const FIXTURE_LIMIT: u64 = 4096;

/// Fetches all recipes of the run.
pub(super) async fn fetch(run: &Run<'_>) -> Result<Fetched, Failure> {
    let (request, lifetime) = (run.request, run.harness.lifetime.as_ref());
    let domain = run.record().domain.clone();
    let source = run.harness.settings.sources.get(&request.recipe);
    let releases = source.cloned().map_or(ReleasesOf::Canonical, ReleasesOf::Source);
    let (tested, releases_of) =
        fetch_one(run, &request.source, request.revision.clone(), releases, &domain).await?;
    run.record().commit = Some(tested.tested().to_string());
    let mut dependencies = Vec::new();
    for (source, domain) in run.harness.dependencies(request, run.lane())? {
        let (tree, _) = fetch_one(run, &source, None, ReleasesOf::Itself, &domain).await?;
        dependencies.push((tree, domain));
    }
    let releases = tested.releases(lifetime).await?;
    for fault in TagFault::ALL {
        let tags = releases.unfit.iter().filter(|tag| tag.fault == fault);
        let tags: Vec<String> = tags.map(|tag| tag.name.clone()).collect();
        if !tags.is_empty() {
            run.warn(&fault.of(&first_few(&tags)));
        }
    }
    let scripts = scripts(run, &tested).await?;
    copy_fixtures(run).await?;
    confine::guard(run, &scripts)?;
    let release = releases.at(tested.tested()).cloned();
    if let Some(of) = &releases_of {
        run.note(format!("the releases are those of {of}"));
    }
    // In the quick lane the baseline says what the commit must build on.
    if run.lane() == Lane::Cold && !tested.is_cut() {
        let of = releases_of.as_deref().unwrap_or("the tested repository");
        guard_history(run, &tested, &releases, of).await?;
    }
    let before = tested.releases_before(lifetime, tested.tested()).await?;
    let other = releases.releases.iter().find(|known| known.commit != *tested.tested());
    let newest = other.map(|newest| newest.version.clone());
    // Where there are releases and the commit builds on none of them, or its history is cut, it is not the first one.
    let is_known = !tested.is_cut() && (newest.is_none() || !before.is_empty());
    run.record().releases_before = is_known.then(|| ReleasesBefore {
        newest: before.first().map(|release| release.version.to_string()),
        count: before.len(),
    });
    if run.lane() == Lane::Cold {
        lint::check(run, &tested, &releases, before.first()).await;
    }
    let has_unfit_tags = !releases.unfit.is_empty();
    let upgrade_from =
        if request.fresh { Vec::new() } else { request.upgrade_from.select(before, tested.tested())? };
    Ok(Fetched { tested, releases_of, release, newest, has_unfit_tags, upgrade_from, dependencies, scripts })
}

/// Copies the operator's files for the recipe's tests: a confined test can't read the operator's own. What is one line of them is
/// hidden from every output, as a secret is.
async fn copy_fixtures(run: &Run<'_>) -> Result<(), Failure> {
    let (Some(from), Some(to)) = (run.harness.settings.fixtures.get(&run.request.recipe), run.fixtures())
    else {
        return Ok(());
    };
    let (directory, from, cancellation) =
        (run.directory.clone(), from.clone(), run.context.lifetime.cancellation().clone());
    let redactor = run.context.redactor.clone();
    let shown = from.display().to_string();
    let copy = move || -> io::Result<()> {
        directory.make_private(&to)?;
        copy_entries(&from, &to, "", &cancellation)?;
        for name in Dir::open(&to)?.names(Path::new("."))? {
            // What is no file, or too long, is no line.
            let text = read_beneath(&to, &name, FIXTURE_LIMIT).ok();
            let text = text.and_then(|text| String::from_utf8(text).ok());
            if let Some(line) = text.as_deref().map(str::trim).filter(|text| !text.contains('\n')) {
                redactor.hide(line);
            }
        }
        Ok(())
    };
    run.context.lifetime.blocking_tasks().run(copy).await.map_err(|error| {
        Failure::configuration(format!("can't copy the fixtures {shown}"))
            .with_source(error)
            .with_hint("name a directory of files: [recipes.X] fixtures")
    })
}

/// The tests of both layers. The recipe's are kept as they are in the commit under test, before a checkout moves the tree.
async fn scripts(run: &Run<'_>, tested: &RecipeTree) -> Result<Scripts, Failure> {
    let to = run.context.tmp.join("recipe-tests");
    let lifetime = run.context.lifetime.as_ref();
    let (directory, path) = (run.directory.clone(), to.clone());
    let made = lifetime.blocking_tasks().run(move || directory.make_private(&path)).await;
    made.map_err(|error| Failure::host(format!("can't make {}", to.display())).with_source(error))?;
    let copied = tested.snapshot(lifetime, "tests", &to).await?;
    // Tests that do not run are told, not left out.
    if copied.iter().any(|path| path == Path::new("tests")) {
        return Err(Failure::recipe("the recipe's tests is a file, and no directory of tests"));
    }
    if let Some(name) = tested.submodules(lifetime, "tests").await?.first() {
        let hint = "take its files into the recipe's repository";
        return Err(
            Failure::recipe(format!("{name} is a submodule: no test in it is fetched")).with_hint(hint)
        );
    }
    let (operators, recipes) = (run.operator_tests(), to.join("tests"));
    let find = move || Scripts::find(operators.as_deref(), Some(&recipes));
    let found = run.context.lifetime.blocking_tasks().run(find).await;
    let scripts = found.map_err(|error| Failure::host("can't read the tests").with_source(error))?;
    match scripts.unfit_of_operator() {
        // It says nothing of the recipe.
        Some((script, why)) => Err(Failure::configuration(format!("the test {}: {why}", script.name()))
            .with_hint(format!("mend {}, or take it away", script.path.display()))),
        None => Ok(scripts),
    }
}

/// The commit has a part of its history in common with one of the releases, if there are any: what is upgraded to else is
/// another thing.
async fn guard_history(
    run: &Run<'_>,
    tested: &RecipeTree,
    releases: &Releases,
    of: &str,
) -> Result<(), Failure> {
    let Some(newest) = releases.releases.first() else { return Ok(()) };
    if tested.is_related(run.harness.lifetime.as_ref(), tested.tested(), &releases.releases).await? {
        return Ok(());
    }
    let commit = tested.tested().short();
    let what =
        format!("the commit {commit} has no history in common with {}, a release of {of}", newest.version);
    Err(Failure::recipe(what).with_hint("rebase it onto the recipe's own history"))
}

async fn fetch_one(
    run: &Run<'_>,
    source: &RecipeSource,
    revision: Option<Revision>,
    releases: ReleasesOf,
    domain: &Domain,
) -> Result<(RecipeTree, Option<String>), Failure> {
    let request = FetchRequest {
        source: source.clone(),
        revision,
        releases,
        skip_fetch: run.request.skip_fetch,
        limit: run.harness.settings.fetch_limit,
        marker: Some(run.context.marker(domain)),
        credentials: run.harness.settings.git_credentials.clone(),
    };
    let fetched = workspace::fetch(&run.directory, run.harness.lifetime.as_ref(), &request).await?;
    for note in fetched.notes {
        run.warn(&note);
    }
    Ok((fetched.tree, fetched.releases_of))
}
