//! Which engine a command works on, and why.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cc_ci_abra::Probe;
use cc_ci_core::blocking;
use cc_ci_core::event::Silent;
use cc_ci_core::names::Suffix;
use cc_ci_core::sys::programs;
use cc_ci_docker::{EngineInfo, NodeAddress, SwarmEngine};

use crate::args::Executor;
use crate::config::{Config, Socket};
use cc_ci_core::Failure;

/// What the choice may wait for one answer: a busy engine takes seconds, and a wrong choice is worse than a wait.
const CHOICE_LIMIT: Duration = Duration::from_secs(10);

/// What helps where there is no abra.
pub const INSTALL_ABRA: &str = "install abra: https://docs.coopcloud.tech/abra/install/";

/// The engine that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    /// The local executor.
    Local,
    /// The Swarm whose manager listens there.
    Swarm(PathBuf),
}

impl Engine {
    /// As the option calls it.
    pub fn executor(&self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Swarm(_) => "abra",
        }
    }
}

/// A choice, and why, where nobody asked for it by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub engine: Engine,
    pub why: Option<String>,
    /// Whether it is another engine than some reader may expect.
    pub announce: bool,
}

impl Choice {
    /// One line for people.
    pub fn line(&self) -> String {
        let executor = self.engine.executor();
        self.why.as_ref().map_or_else(|| executor.to_owned(), |why| format!("{executor} ({why})"))
    }
}

/// Chooses what the configuration asks for. An engine that may be the one that is meant, and does not say so, is an
/// error: on the wrong engine, nothing would be found and all be well.
pub async fn choose(config: &Config) -> Result<Choice, Failure> {
    let asked = |engine| Choice { engine, why: None, announce: false };
    match config.executor {
        Executor::Local => Ok(asked(Engine::Local)),
        Executor::Abra => {
            let socket = blocking::run(Socket::from_environment).await?;
            Ok(asked(Engine::Swarm(socket.path)))
        }
        Executor::Auto => {
            let look = || (in_path("abra").is_some(), Socket::from_environment());
            let (has_abra, socket) = blocking::run(look).await;
            automatic(has_abra, config.names_a_server, socket).await
        }
    }
}

async fn automatic(
    has_abra: bool,
    names_a_server: bool,
    socket: Result<Socket, Failure>,
) -> Result<Choice, Failure> {
    let local = |why: String, announce| Ok(Choice { engine: Engine::Local, why: Some(why), announce });
    if !has_abra {
        // A timer's PATH has no ~/.local/bin: what looks like a Swarm is asked nothing, and never passed over in silence.
        return match blocking::run(move || sign_of_a_swarm(names_a_server, &socket)).await {
            Some(sign) => local(format!("no abra in PATH, but {sign}; for a Swarm: --executor abra"), true),
            None => local("no abra in PATH".to_owned(), false),
        };
    }
    let Socket { path, named } = socket?;
    let looked_for = path.clone();
    if !named && blocking::run(move || is_missing(&looked_for)).await {
        return local(format!("no Docker engine at {}", path.display()), true);
    }
    let info = inspect(&path, None, Vec::new(), CHOICE_LIMIT).await.map_err(|error| {
        error
            .context("can't tell whether there is a Swarm to use")
            .not_the_recipes()
            .or_hint("choose without asking: --executor local or --executor abra")
    })?;
    match info.swarm {
        Ok(_) => {
            let why = format!("abra is in PATH, and the engine at {} manages a Swarm", path.display());
            Ok(Choice { engine: Engine::Swarm(path), why: Some(why), announce: true })
        }
        Err(error) if info.in_a_swarm => {
            let message =
                format!("the engine at {} is part of a Swarm, and does not manage it", path.display());
            Err(Failure::host(message).with_source(error).with_hint(
                "when it has just been started, try again; else choose: --executor local or --executor abra",
            ))
        }
        Err(_) => local(format!("the engine at {} manages no Swarm", path.display()), true),
    }
}

/// What tells that a Swarm may be meant, without asking it.
fn sign_of_a_swarm(names_a_server: bool, socket: &Result<Socket, Failure>) -> Option<String> {
    match socket {
        Ok(Socket { named: true, .. }) | Err(_) => Some("DOCKER_HOST is set".to_owned()),
        Ok(_) if names_a_server => Some("a server is configured".to_owned()),
        Ok(Socket { path, .. }) => (!is_missing(path)).then(|| format!("there is {}", path.display())),
    }
}

fn is_missing(path: &Path) -> bool {
    matches!(fs::metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

/// What the engine at `socket` says of itself and of its `nodes`, each answer within `limit`. Without a suffix, the claim
/// is nobody's.
pub async fn inspect(
    socket: &Path,
    suffix: Option<&Suffix>,
    nodes: Vec<NodeAddress>,
    limit: Duration,
) -> Result<EngineInfo, Failure> {
    let suffix = match suffix {
        Some(suffix) => suffix.clone(),
        None => "no-suffix.invalid"
            .parse()
            .map_err(|error| Failure::host("the suffix that nobody has").with_source(error))?,
    };
    let settings = cc_ci_docker::Settings {
        socket: socket.to_owned(),
        suffix,
        sources: Vec::new(),
        reporter: Arc::new(Silent),
    };
    SwarmEngine::new(settings).with_nodes(nodes).with_call_limit(limit).inspect().await
}

/// The program of this name that would be run. Blocks.
pub fn in_path(program: &str) -> Option<PathBuf> {
    programs::find(program.as_ref(), &programs::operator_path()).ok()
}

/// How the installed abra is asked what it can do: the one that the operator's `PATH` finds, where the operator's own
/// calls of it work. Blocks.
pub fn abra_probe(config: &Config) -> Result<Probe, Failure> {
    let program =
        in_path("abra").ok_or_else(|| Failure::host("there is no abra in PATH").with_hint(INSTALL_ABRA))?;
    let mut environment: Vec<(OsString, OsString)> =
        env::var_os("HOME").map(|home| ("HOME".into(), home)).into_iter().collect();
    environment.push(("PATH".into(), programs::operator_path()));
    environment.push(("ABRA_DIR".into(), config.abra_tree()?.into()));
    environment
        .extend([("LANG", "C.UTF-8"), ("TERM", "dumb")].map(|(name, value)| (name.into(), value.into())));
    Ok(Probe { program, environment, cache: None, catalogue: config.catalogue })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_abra_each_sign_of_a_swarm_is_told_and_none_is_no_news() {
        let directory = tempfile::tempdir().unwrap();
        let choice = async |names_a_server, named, exists| {
            let path = if exists { directory.path().to_owned() } else { directory.path().join("none") };
            automatic(false, names_a_server, Ok(Socket { path, named })).await.unwrap()
        };
        for (names_a_server, named, exists, sign) in [
            (false, true, false, "DOCKER_HOST is set"),
            (true, false, false, "a server is configured"),
            (false, false, true, "there is /"),
        ] {
            let choice = choice(names_a_server, named, exists).await;
            let line = choice.line();
            assert!(line.contains(sign) && line.contains("--executor abra"), "{line}");
            assert!(choice.announce && choice.engine == Engine::Local, "{choice:?}");
        }
        let plain = choice(false, false, false).await;
        assert_eq!((plain.line().as_str(), plain.announce), ("local (no abra in PATH)", false));
    }
}
