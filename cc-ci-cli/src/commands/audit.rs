//! `cc-ci audit`: whatever exists of run apps. It changes nothing and takes no lock.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cc_ci_core::engine::{Resource, Unseen};
use cc_ci_core::exit::Exit;
use cc_ci_core::lifetime::TakenOver;
use cc_ci_core::names::Domain;
use cc_ci_core::{AppStatus, AppStatuses, Ownership, Quarantine};
use schemars::JsonSchema;
use serde::Serialize;

use crate::app::{self, Base, inspection_failed};
use crate::args::{self, Format};
use crate::shown::indent;
use crate::terminal::{Document, Terminal};
use cc_ci_core::Failure;

#[derive(Serialize, JsonSchema)]
pub struct App {
    pub domain: Domain,
    pub state: State,
    pub exists: Vec<Resource>,
    /// Why nobody can tell whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How often the janitor could not reap it, of one that is left behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Quarantine>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A live run's.
    Live,
    /// Nobody's any more.
    Left,
    /// Nothing exists.
    Empty,
    /// Nothing is known to exist, and there are nodes that can't be seen.
    NotVerified,
    /// What is at its lock path can't be trusted: nobody owns it, and no janitor can take it.
    Refused,
    /// No run app: never reaped, and its lock is not looked at.
    NotARunApp,
}

pub fn audit(
    domains: Vec<Domain>,
    settings: &args::Settings,
    base: Base,
    taken: TakenOver,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let lifetime = app::start_read_only(taken, terminal)?;
    let asked = (!domains.is_empty()).then_some(domains);
    let AppStatuses { apps: statuses, unseen } = app::block_on_read_only(lifetime.as_ref(), async {
        let parts = base.wire().await?;
        parts.tell_engine(terminal);
        parts.ci_host.app_status(asked.as_deref()).await.map_err(inspection_failed)
    })?;
    let mut apps = Vec::new();
    for AppStatus { domain, ownership, exists, quarantine, .. } in statuses {
        let (state, reason) = match ownership {
            Ownership::NotARunApp => (State::NotARunApp, None),
            // An app that is about to be deployed, or was just taken down, is none.
            _ if exists.is_empty() => (State::Empty, None),
            Ownership::Live => (State::Live, None),
            Ownership::Left if Resource::only_unseen(&exists) => (State::NotVerified, None),
            Ownership::Empty => (State::Empty, None),
            Ownership::Left => (State::Left, None),
            Ownership::Refused(error) => (State::Refused, Some(cc_ci_core::error_chain(&error))),
        };
        if asked.is_some() || state != State::Empty {
            apps.push(App { domain, state, exists, reason, quarantine });
        }
    }
    let has = |state| apps.iter().any(|app| app.state == state);
    let exit = match (has(State::Left), has(State::Refused) || !unseen.is_empty()) {
        (true, _) => Exit::Residue,
        (false, true) => Exit::Harness,
        (false, false) => Exit::Green,
    };
    match settings.format {
        Format::Human => terminal.result(text(&apps, &unseen)),
        Format::Json | Format::Ndjson => terminal.json(&document(&apps, &unseen)),
    }
    Ok(exit)
}

/// What `cc-ci audit` writes.
#[derive(Serialize, JsonSchema)]
pub struct Audit<'a> {
    /// Every app that exists, or those that were asked for.
    apps: &'a [App],
    /// The nodes that can't be seen: what is there is not among the apps.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    unseen: &'a BTreeMap<String, Unseen>,
}

pub fn document<'a>(apps: &'a [App], unseen: &'a BTreeMap<String, Unseen>) -> Document<Audit<'a>> {
    Document { schema: "cc-ci.audit/v1", content: Audit { apps, unseen } }
}

pub fn text(apps: &[App], unseen: &BTreeMap<String, Unseen>) -> String {
    if apps.iter().all(|app| app.state == State::Empty) && unseen.is_empty() {
        return "nothing exists\n".to_owned();
    }
    let mut text = String::new();
    for app in apps {
        let state = match app.state {
            State::Live => "live run",
            State::Left => "left behind",
            State::Empty => "nothing",
            State::NotVerified => "nothing is seen, and not all can be",
            State::Refused => "its lock is refused",
            State::NotARunApp => "no run app, left alone",
        };
        let exists =
            if app.exists.is_empty() { String::new() } else { format!(": {}", Resource::list(&app.exists)) };
        let reason = app.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        let quarantine = app.quarantine.as_ref().map(|record| format!("; {}", indent(&record.in_words())));
        let _ = writeln!(text, "{}: {state}{reason}{exists}{}", app.domain, quarantine.unwrap_or_default());
    }
    for (node, unseen) in unseen {
        let _ = writeln!(text, "{}", unseen_line(node, unseen));
    }
    text
}

/// That a node can't be seen, in a line.
pub fn unseen_line(node: &str, Unseen { since, why }: &Unseen) -> String {
    format!("the node {node} can't be seen since {since:.0}, so what is there is not known: {why}")
}
