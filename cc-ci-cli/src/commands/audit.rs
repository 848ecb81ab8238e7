//! `cc-ci audit`: whatever exists of run apps. It changes nothing and takes no lock.

use std::fmt::Write as _;

use cc_ci_core::executor::Residue;
use cc_ci_core::exit::Exit;
use cc_ci_core::lifetime::TakenOver;
use cc_ci_core::names::Domain;
use cc_ci_core::{Standing, Surveyed};
use serde::Serialize;

use crate::args::{self, Format};
use crate::error::CliError;
use crate::terminal::Terminal;
use crate::wiring::{self, Base, look_failed};

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
    base: Base,
    taken: TakenOver,
    terminal: &Terminal,
) -> Result<Exit, CliError> {
    let lifetime = wiring::look(taken, terminal)?;
    let asked = (!domains.is_empty()).then_some(domains);
    let survey = wiring::block_on_look(lifetime.as_ref(), async {
        let wired = base.wire().await?;
        wired.tell_engine(terminal);
        wired.site.survey(asked.as_deref()).await.map_err(|error| look_failed(&error))
    })?;
    let mut apps = Vec::new();
    for Surveyed { domain, standing, exists, .. } in survey {
        let state = match standing {
            Standing::NotARunApp => State::NotARunApp,
            // An app that is about to be deployed, or was just taken down, is none.
            _ if exists.is_empty() => State::Empty,
            Standing::Live => State::Live,
            Standing::Empty => State::Empty,
            Standing::Left => State::Left,
            Standing::Refused(error) => {
                return Err(CliError::harness("can't look at the lock").because(&error));
            }
        };
        if asked.is_some() || state != State::Empty {
            apps.push(App { domain, state, exists });
        }
    }
    let left = apps.iter().any(|app| app.state == State::Left);
    match settings.format {
        Format::Human => terminal.result(text(&apps)),
        Format::Json => terminal.json(&Output { schema: "cc-ci.audit/v1", apps }),
    }
    Ok(if left { Exit::Residue } else { Exit::Green })
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
