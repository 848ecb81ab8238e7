//! Whether what the recipe brings is confined in this run, what is refused where it can't be (I15), and whom it reaches.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use super::request::{Harness, RecipeScripts};
use super::scripts::Scripts;
use super::state::{Fetched, Run};
use crate::engine::{Confined, RecipeCode};
use crate::http::Gateway;
use crate::lifetime::{Command, Confinement, NoConfinement, Sandbox, TRUSTED, User};
use crate::model::failure::Failure;
use crate::sys::process::Marker;
use crate::sys::programs::operator_path;

/// The address of a sandbox's loopback that the app's name means, another one than what else listens there; the names of the
/// apps beside it mean those that follow.
const APP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Where programs are told whose certificates are good, if they don't look for the host's own bundle, or that one is at another
/// place than Debian's.
const TRUST: [&str; 5] =
    ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"];

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

/// Lets a confined test reach the app at `CCCI_URL`, and by their names the app and those beside it: their tasks at port 80, as
/// `CCCI_URL` does, and where there is a proxy, that at 443, for these names alone.
pub(super) async fn network(
    run: &Run<'_>,
    fetched: &Fetched,
    endpoint: Option<SocketAddr>,
    mut command: Command,
    mut sandbox: Sandbox,
) -> Result<(Command, Sandbox), Failure> {
    let app = run.main_app();
    if run.harness.settings.host_network.contains(&app.recipe) {
        let command = endpoint.into_iter().fold(command, url);
        return Ok((command, sandbox.host_network()));
    }
    if let Some(address) = endpoint {
        let inside = SocketAddrV4::new(Ipv4Addr::LOCALHOST, address.port());
        command = url(command, inside.into());
        sandbox = sandbox.forward(inside, address);
    }
    let mut apps = vec![(app.domain, endpoint)];
    for (_, domain) in &fetched.dependencies {
        // What is not there yet, or has no port, has no task to reach.
        let task = run.harness.ci_host.engine.endpoint(domain).await.ok();
        apps.push((domain.clone(), task.map(|task| task.address)));
    }
    let names = || apps.iter().map(|(domain, _)| domain.clone()).collect();
    let gateway = run.harness.settings.proxy.as_ref().map(|proxy| Gateway::new(proxy.clone(), names()));
    let gateway = gateway.transpose().map_err(|error| {
        Failure::host("can't make the certificates of a test's own way to the proxy").with_source(error)
    })?;
    if let Some(gateway) = &gateway {
        sandbox = sandbox.trust(gateway.authority());
        command = command.envs(TRUST.map(|name| (name, TRUSTED)));
    }
    let gateway = gateway.map(Arc::new);
    for (number, (domain, task)) in (0..).zip(&apps) {
        let address = Ipv4Addr::from(u32::from(APP) + number);
        if let Some(task) = *task {
            sandbox = sandbox.forward(SocketAddrV4::new(address, 80), task);
        }
        if let Some(gateway) = &gateway {
            sandbox = sandbox.gateway(SocketAddrV4::new(address, 443), gateway.clone());
        }
        if task.is_some() || gateway.is_some() {
            sandbox = sandbox.name(domain.as_str(), address);
        }
    }
    Ok((command, sandbox))
}

fn url(command: Command, address: SocketAddr) -> Command {
    command.env("CCCI_URL", format!("http://{address}"))
}
