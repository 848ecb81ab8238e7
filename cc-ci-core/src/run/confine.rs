//! Whether what the recipe brings is confined in this run, and what is refused where it can't be (I15).

use super::request::{Harness, RecipeScripts};
use super::scripts::Scripts;
use super::state::Run;
use crate::engine::{Confined, RecipeCode};
use crate::lifetime::{Confinement, NoConfinement, User};
use crate::model::failure::Failure;
use crate::sys::process::Marker;
use crate::sys::programs::operator_path;

const HINT: &str = "install bubblewrap (apt-get install bubblewrap), and see `cc-ci doctor`; where all who write recipes are \
                    trusted: recipe_scripts = \"unconfined\" in the configuration";

/// How what the recipe brings is run: in sandboxes, where this host can make them and nobody says otherwise.
///
/// An ordinary user's recipes run without where there is no bubblewrap; one that fails is somebody's doing, or tells of a host
/// that is not well.
pub(super) async fn recipe_code(harness: &Harness, marker: Marker) -> Result<RecipeCode, Failure> {
    let settings = &harness.settings;
    if settings.recipe_scripts == RecipeScripts::Unconfined {
        return Ok(RecipeCode::Unconfined("the operator says so (recipe_scripts)".to_owned()));
    }
    if settings.report_only {
        return Ok(RecipeCode::Unconfined("it would be, but for --report-only".to_owned()));
    }
    let probed = Confinement::probe(harness.lifetime.as_ref(), &operator_path(), Some(marker)).await;
    // Whatever ended the probe then says nothing of the host.
    if let Some(cause) = harness.lifetime.cancellation().cause() {
        return Err(Failure::cancelled(cause));
    }
    match probed {
        Ok(confinement) => Ok(RecipeCode::Confined(Confined {
            confinement,
            user: User::of_run(),
            readable: settings.sandbox_paths.clone(),
        })),
        Err(why @ NoConfinement::NotInstalled) => Ok(RecipeCode::Unconfined(why.to_string())),
        Err(why @ NoConfinement::Failed(_)) => {
            let what = format!("the recipe's code would run unconfined: {why}");
            Err(Failure::configuration(what).with_hint(HINT))
        }
    }
}

/// What a stranger wrote does not run as root, nor beside an engine whose socket may be used, because something is not
/// installed: whoever wants that says so.
pub(super) fn guard(run: &Run<'_>, scripts: &Scripts) -> Result<(), Failure> {
    let RecipeCode::Unconfined(why) = &run.context.recipe_code else { return Ok(()) };
    let (settings, deployer) = (&run.harness.settings, &run.harness.deployer);
    let (is_root, runs_on_host) = (nix::unistd::geteuid().is_root(), deployer.runs_on_host());
    if settings.recipe_scripts == RecipeScripts::Unconfined || settings.report_only {
        return Ok(());
    }
    let what = match (scripts.of_recipe(), runs_on_host) {
        (0, false) => return Ok(()),
        (0, true) => "the recipe's services".to_owned(),
        (1, _) => "a script of the recipe's own".to_owned(),
        (count, _) => format!("{count} scripts of the recipe's own"),
    };
    let as_whom = match (is_root, runs_on_host) {
        (true, _) => "as root",
        (false, false) => "as a user who may talk to the engine",
        // Whoever runs that does it for themselves.
        (false, true) => return Ok(()),
    };
    Err(Failure::configuration(format!("{what} would run {as_whom}, not confined: {why}")).with_hint(HINT))
}
