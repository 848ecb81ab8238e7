//! Deploy and undeploy, as abra does them: with `docker stack deploy`, from the recipe's tree.

use std::fmt::Write as _;
use std::fs;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use cc_ci_core::recipe::Compose;

use super::apps::App;
use super::command_line::Call;
use super::docker::{self, docker, docker_with, wait};
use super::tree::Tree;
use super::{Abra, Fatal, Wrong};

pub(super) fn deploy(abra: &Abra, call: &Call) -> Result<(), Fatal> {
    let mut app = App::of(abra, call)?;
    let tree = Tree::of(abra, &app.recipe)?;
    let chaos = call.has("chaos");
    if abra.does(&Wrong::R014) {
        return Err(Tree::r014());
    }
    if abra.does(&Wrong::Unstaged) {
        return Err(tree.unstaged());
    }
    if !app.services()?.is_empty() && !chaos && !call.has("force") {
        return Err(Fatal(format!("{} is already deployed", app.domain)));
    }
    if !chaos {
        check_out(call, &mut app, &tree)?;
    }
    if abra.does(&Wrong::CheckoutMoved) {
        tree.move_away()?;
    }
    for (spec, exists) in app.secrets(&tree)? {
        match (exists, spec.generate) {
            (true, _) => {}
            (false, true) => return Err(Fatal(format!("secret not generated: {}", spec.name))),
            (false, false) => {
                return Err(Fatal(format!("secret not inserted (#generate=false): {}", spec.name)));
            }
        }
    }
    let second = if abra.does(&Wrong::SecondAbra) { Some(tree.disturbed()?) } else { None };
    let parts = [Wrong::NonzeroAfterPartial, Wrong::ZeroAfterPartial, Wrong::KilledHalfWay];
    let left_out = parts.iter().any(|wrong| abra.does(wrong));
    stack(abra, &app, &tree, chaos, left_out)?;
    if let Some(mut second) = second {
        second.wait()?;
    }
    if abra.does(&Wrong::KilledHalfWay) {
        kill(Pid::this(), Signal::SIGKILL).map_err(|error| Fatal(error.to_string()))?;
    }
    if abra.does(&Wrong::EnvRewritten) {
        let version = tree.latest()?.unwrap_or(tree.head()?);
        app.set("TYPE", &format!("{}:{version}", app.recipe))?;
        app.set("TIMEOUT", "1")?;
    }
    if abra.does(&Wrong::Hangs) {
        hang(abra)?;
    }
    if abra.does(&Wrong::NonzeroAfterPartial) {
        return Err(Fatal::new("deploy failed: one of its services was rejected"));
    }
    if abra.does(&Wrong::ConvergeFata) {
        return Err(Fatal::new("deploy failed 🛑"));
    }
    if !call.has("no-converge-checks") && !left_out {
        watch(&app)?;
    }
    eprintln!("INFO {} is deployed 🚀", app.domain);
    Ok(())
}

/// Without `-C`, abra decides what is deployed, moves the tree there, and writes it down.
fn check_out(call: &Call, app: &mut App, tree: &Tree) -> Result<(), Fatal> {
    tree.assert_clean()?;
    tree.lint()?;
    let written = if call.has("ignore-env-version") { None } else { app.version() };
    let version = match call.args.get(1).cloned().or(written) {
        Some(version) => version,
        None => tree.latest()?.unwrap_or(tree.head()?),
    };
    tree.checkout(&version)?;
    app.set("TYPE", &format!("{}:{version}", app.recipe))
}

/// Deploys what the tree says now; without its last service, if one is to be left out.
fn stack(abra: &Abra, app: &App, tree: &Tree, chaos: bool, left_out: bool) -> Result<(), Fatal> {
    let mut vars = app.vars(tree)?;
    let compose = app.compose(tree)?;
    let files = vars.remove("COMPOSE_FILE").filter(|files| !files.is_empty());
    let files = files.unwrap_or_else(|| "compose.yml".to_owned());
    let last = compose.services.keys().next_back().filter(|_| left_out);
    let kept: Vec<&String> = compose.services.keys().filter(|key| Some(*key) != last).collect();
    if kept.is_empty() {
        return Ok(());
    }
    let mut words = vec!["stack", "deploy", "--resolve-image", "never"];
    let mut stdin = None;
    for file in files.split(':').filter(|file| !file.is_empty()) {
        let text = fs::read_to_string(tree.path().join(file))?;
        match last.and_then(|service| without(&text, service)) {
            Some(text) => {
                stdin = Some(text);
                words.extend(["-c", "-"]);
            }
            None => words.extend(["-c", file]),
        }
    }
    let mut own = vec![labels(app, tree, chaos, kept[0])?];
    own.extend(exposed(app, &compose).filter(|_| kept.iter().any(|key| *key == APP)));
    own.extend(abra.wrong.iter().filter_map(|wrong| match wrong {
        Wrong::Overlay(file) => Some(format!("version: \"3.8\"\n{file}\n")),
        _ => None,
    }));
    let directory = abra.world.join(format!("overlays-{}", std::process::id()));
    fs::create_dir(&directory)?;
    let mut paths = Vec::new();
    for (number, text) in own.iter().enumerate() {
        let path = directory.join(format!("{number}.yml"));
        fs::write(&path, text)?;
        paths.push(path.display().to_string());
    }
    words.extend(paths.iter().flat_map(|path| ["-c", path]));
    let name = app.stack();
    words.push(&name);
    let deployed = docker_with(&words, stdin.as_deref().map(str::as_bytes), &vars, Some(tree.path()));
    fs::remove_dir_all(&directory)?;
    deployed.map(drop)
}

/// The service that gets all of the app's variables.
const APP: &str = "app";

/// The variables of the `.env` that it does not say itself.
fn exposed(app: &App, compose: &Compose) -> Option<String> {
    let message = &compose.services.get(APP)?.environment;
    let mut text = format!("version: \"3.8\"\nservices:\n  {APP}:\n    environment:\n");
    let lines = text.len();
    for (name, value) in app.env.vars().iter().filter(|(name, _)| !message.contains_key(*name)) {
        // A text of Rust's is one of YAML here, and a dollar would be interpolated.
        writeln!(text, "      {name}: {:?}", value.replace('$', "$$")).expect("text grows");
    }
    (text.len() > lines).then_some(text)
}

/// The labels that abra adds of its own.
fn labels(app: &App, tree: &Tree, chaos: bool, service: &str) -> Result<String, Fatal> {
    let mut text = format!("version: \"3.8\"\nservices:\n  {service}:\n    deploy:\n      labels:\n");
    let mut label = |key: &str, value: &str| {
        writeln!(text, "        coop-cloud.{}.{key}: \"{value}\"", app.stack()).expect("text grows");
    };
    label("recipe", &app.recipe);
    label("chaos", if chaos { "true" } else { "false" });
    if chaos {
        label("chaos-version", &tree.head()?[..8]);
    }
    Ok(text)
}

/// A compose file without one of its services, if it has it.
fn without(text: &str, service: &str) -> Option<String> {
    let begin = format!("  {service}:");
    let mut kept = String::new();
    let (mut in_services, mut inside, mut found, mut others) = (false, false, false, false);
    for line in text.lines() {
        let indented = line.len() - line.trim_start().len();
        if indented == 0 && !line.is_empty() {
            in_services = line.starts_with("services:");
        }
        if !line.trim().is_empty() && indented <= 2 {
            inside = in_services && line.starts_with(&begin);
            found |= inside;
            others |= in_services && indented == 2 && !inside && !line.trim_start().starts_with('#');
        }
        if !inside {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    // Nothing is no mapping.
    let kept = if others { kept } else { kept.replacen("services:", "services: {}", 1) };
    found.then_some(kept)
}

/// Abra's own watch: it gives up where a container is not healthy yet.
fn watch(app: &App) -> Result<(), Fatal> {
    let label = format!("label=com.docker.stack.namespace={}", app.stack());
    for service in app.services()? {
        let filter = format!("label=com.docker.swarm.service.name={service}");
        wait(&app.stack(), || Ok(!docker::lines(&["ps", "--quiet", "--filter", &filter])?.is_empty()))?;
    }
    let states = docker::lines(&["ps", "--filter", &label, "--format", "{{.Status}}"])?;
    if states.iter().any(|state| state.contains("health: starting")) {
        return Err(Fatal::new("deploy failed 🛑: healthcheck is still starting"));
    }
    Ok(())
}

/// Never returns; nor does a child that left for a session of its own.
fn hang(abra: &Abra) -> Result<(), Fatal> {
    let mut away = Command::new("setsid");
    let _child: Child = away.args(["sleep", "1000000"]).stdin(Stdio::null()).spawn()?;
    abra.journal.note("hangs");
    loop {
        std::thread::park();
    }
}

/// Undeploys: services, configs and networks go, data and secrets stay.
pub(super) fn undeploy(abra: &Abra, call: &Call) -> Result<(), Fatal> {
    let app = App::of(abra, call)?;
    if app.services()?.is_empty() {
        return Err(Fatal(format!("{} is not deployed?", app.domain)));
    }
    docker(&["stack", "rm", &app.stack()])?;
    let label = format!("label=com.docker.stack.namespace={}", app.stack());
    wait(&app.stack(), || Ok(docker::lines(&["ps", "--all", "--quiet", "--filter", &label])?.is_empty()))?;
    eprintln!("INFO {} undeployed", app.domain);
    Ok(())
}
