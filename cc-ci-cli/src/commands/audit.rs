//! `cc-ci audit`: whatever exists of run apps. It changes nothing and takes no lock.

use cc_ci_core::executor::Residue;
use std::fmt::Write as _;

use cc_ci_core::exit::Exit;
use cc_ci_core::lifetime::TakenOver;
use cc_ci_core::names::{AppKind, Domain};
use serde::Serialize;

use crate::args::{self, Format};
use crate::error::CliError;
use crate::terminal::Terminal;
use crate::wiring::{self, Wired, look_failed};

#[derive(Serialize)]
struct Output {
    schema: &'static str,
    apps: Vec<App>,
}

#[derive(Serialize)]
struct App {
    domain: Domain,
    state: State,
    exists: Vec<Residue>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// A live run's.
    Live,
    /// Nobody's any more.
    Left,
    /// Nothing exists.
    Empty,
    /// No run app: never reaped, and its lock is not looked at.
    NotARunApp,
}

pub fn audit(
    domains: Vec<Domain>,
    settings: &args::Settings,
    wired: &Wired,
    taken: TakenOver,
    terminal: &Terminal,
) -> Result<Exit, CliError> {
    let lifetime = wiring::look(taken, terminal)?;
    let asked = if domains.is_empty() { None } else { Some(domains) };
    let look = |domains: Option<&[Domain]>| {
        wiring::block_on_look(lifetime.as_ref(), async {
            wired.site.inventory(domains, None).await.map_err(|error| look_failed(&error))
        })
    };
    let inventory = look(asked.as_deref())?;
    let run_apps =
        || inventory.domains().filter(|domain| wired.site.pattern.is_run_app(domain)).cloned().collect();
    let domains: Vec<Domain> = asked.unwrap_or_else(run_apps);
    let mut apps = Vec::new();
    for domain in domains {
        let mut exists = inventory.of(&domain);
        let state = if wired.site.pattern.classify(&domain) != AppKind::Run {
            State::NotARunApp
        } else if exists.is_empty() {
            State::Empty
        } else if held(wired, &domain)? {
            State::Live
        } else {
            // A run that ended since the first look has taken its app down.
            exists = look(Some(std::slice::from_ref(&domain)))?.of(&domain);
            if exists.is_empty() {
                State::Empty
            } else if held(wired, &domain)? {
                State::Live
            } else {
                State::Left
            }
        };
        apps.push(App { domain, state, exists });
    }
    let left = apps.iter().any(|app| app.state == State::Left);
    match settings.format {
        Format::Human => terminal.result(text(&apps)),
        Format::Json => terminal.json(&Output { schema: "cc-ci.audit/v1", apps }),
    }
    Ok(if left { Exit::Residue } else { Exit::Green })
}

fn held(wired: &Wired, domain: &Domain) -> Result<bool, CliError> {
    let view = wired.site.locks.look(domain);
    let view = view.map_err(|error| CliError::harness("can't look at the lock").because(&error))?;
    Ok(view.is_some_and(|view| view.held))
}

fn text(apps: &[App]) -> String {
    if apps.iter().all(|app| app.state == State::Empty) {
        return "nothing exists\n".to_owned();
    }
    let mut text = String::new();
    for app in apps {
        let state = match app.state {
            State::Live => "live run",
            State::Left => "left behind",
            State::Empty => "nothing",
            State::NotARunApp => "no run app, left alone",
        };
        let exists =
            if app.exists.is_empty() { String::new() } else { format!(": {}", Residue::list(&app.exists)) };
        let _ = writeln!(text, "{}: {state}{exists}", app.domain);
    }
    text
}
