//! The pages: what each shows, and its template.

use askama::Template;
use cc_ci_core::sys::text::sanitize_line;
use jiff::Timestamp;

use super::Dashboard;
use super::host::{Host, Left};
use super::report::Report;
use super::runs::{self, Mark, NOT_RUN, Run, Time};
use crate::explain;
use crate::listing::HostRun;
use crate::names::{Key, Repo};
use crate::request::{self, Request, State};
use crate::store::{Row, Store, StoreError};

/// So many runs of a repository are in its line of the overview.
const IN_LINE: usize = 10;

/// And so many on its own page.
const ON_PAGE: u32 = 40;

/// So many of them are columns of the grid.
const COLUMNS: usize = 20;

/// That something went wrong.
#[derive(Debug, Template)]
#[template(path = "message.html")]
pub struct Message {
    pub root: String,
    pub title: String,
    pub text: String,
}

/// All recipes, and what goes on.
#[derive(Debug, Template)]
#[template(path = "overview.html")]
pub struct Overview {
    root: String,
    recipes: Vec<RecipeLine>,
    open: Vec<OpenRun>,
    /// Live runs of the host that nobody asked for here.
    others: Vec<HostRun>,
    host: Option<Host>,
}

/// A recipe, in short.
#[derive(Debug)]
struct RecipeLine {
    repo: String,
    last: Option<Run>,
    history: Vec<Run>,
}

/// A request that is not over.
#[derive(Debug)]
struct OpenRun {
    run: Run,
    state: String,
    /// What its run does.
    doing: Option<String>,
}

impl Overview {
    pub fn read(dashboard: &Dashboard, store: &Store, root: String) -> Result<Self, StoreError> {
        let mut recipes = Vec::new();
        for repo in &dashboard.repos {
            recipes.push(RecipeLine::read(store, repo)?);
        }
        let mut host = store.host()?.map(|view| Host::new(&view, Timestamp::now()));
        let mut live =
            host.as_mut().and_then(|host| host.view.as_mut()).map(|view| std::mem::take(&mut view.live));
        let mut open = Vec::new();
        let rows = store.of_open_pulls()?;
        for row in rows.iter().filter(|row| !row.request.state.is_final()) {
            let doing = live.as_mut().and_then(|live| live.remove(dashboard.key(&row.request).as_str()));
            let state = match &row.request.state {
                State::Queued { .. } => {
                    let place = request::place(&row.request, rows.iter().map(|row| &row.request));
                    format!("number {place} of those that wait")
                }
                State::Received => "is looked at".to_owned(),
                State::Intent { .. } => "is being started".to_owned(),
                State::Started { cancel: Some(_), .. } => "is being ended".to_owned(),
                State::Started { job, .. } => match job.running_since.map(Timestamp::from_second) {
                    Some(Ok(since)) => format!("since {}", Time(since).shown()),
                    _ => "waits in the CI".to_owned(),
                },
                State::Refused { .. } | State::Superseded { .. } | State::Ended { .. } => String::new(),
            };
            let doing = doing.and_then(|run| run.why);
            open.push(OpenRun { run: Run::new(row, false), state, doing });
        }
        let mut others: Vec<HostRun> = live.unwrap_or_default().into_values().collect();
        others.sort_by(|one, other| one.run_id.cmp(&other.run_id));
        Ok(Self { root, recipes, open, others, host })
    }
}

impl RecipeLine {
    fn read(store: &Store, repo: &Repo) -> Result<Self, StoreError> {
        let mut history = runs::of_repository(&store.last_of(repo, ON_PAGE)?);
        let last = last_verdict(&history).cloned();
        history.truncate(IN_LINE);
        // As one reads: the newest at the end.
        history.reverse();
        Ok(Self { repo: repo.to_string(), last, history })
    }
}

/// The newest that was run to a verdict.
fn last_verdict(runs: &[Run]) -> Option<&Run> {
    runs.iter().find(|run| run.mark == runs::GREEN || run.mark == runs::RED)
}

/// A recipe.
#[derive(Debug, Template)]
#[template(path = "recipe.html")]
pub struct RecipePage {
    root: String,
    repo: String,
    forge: String,
    last: Option<Run>,
    /// The tiers that any of the runs has, and a column for each run, the newest at the end.
    tiers: Vec<String>,
    columns: Vec<Run>,
    /// The newest first.
    runs: Vec<Run>,
}

impl RecipePage {
    pub fn read(dashboard: &Dashboard, store: &Store, root: String, repo: &Repo) -> Result<Self, StoreError> {
        let runs = runs::of_repository(&store.last_of(repo, ON_PAGE)?);
        let mut columns: Vec<Run> = runs.iter().take(COLUMNS).cloned().collect();
        columns.reverse();
        let mut tiers: Vec<String> = Vec::new();
        for (name, _) in columns.iter().flat_map(|run| &run.tiers) {
            if !tiers.contains(name) {
                tiers.push(name.clone());
            }
        }
        let last = last_verdict(&runs).cloned();
        Ok(Self { root, repo: repo.to_string(), forge: dashboard.forge.clone(), last, tiers, columns, runs })
    }
}

/// A request, and all that is known of it.
#[derive(Debug, Template)]
#[template(path = "request.html")]
pub struct RequestPage {
    root: String,
    forge: String,
    run: Run,
    state: String,
    received: Time,
    via: &'static str,
    /// The job's address in the CI.
    job: Option<String>,
    notes: Vec<String>,
    tiers: Vec<(String, Mark, Option<String>)>,
    report: Option<Report>,
    failing: Option<(u32, Time)>,
    foreigner: Option<String>,
    history: Vec<(Time, String)>,
}

impl RequestPage {
    pub fn read(
        dashboard: &Dashboard,
        store: &Store,
        root: String,
        repo: &Repo,
        comment: u64,
    ) -> Result<Option<Self>, StoreError> {
        let Some(row) = store.by_comment(repo, comment)? else { return Ok(None) };
        let Row { request, .. } = &row;
        let newest = store.last_head(repo, request.asked.pull)?;
        let stale = runs::is_later_known(&request.state, newest.as_ref());
        let outcome = match &request.state {
            State::Ended { outcome, .. } => Some(outcome),
            _ => None,
        };
        let job = match &request.state {
            State::Started { job, .. } | State::Ended { job: Some(job), .. } => job.url.clone(),
            _ => None,
        };
        let tiers = outcome.iter().flat_map(|outcome| &outcome.tiers).map(|tier| {
            let why = tier.reason.as_deref().map(sanitize_line);
            (sanitize_line(&tier.name), runs::mark_of_status(&tier.status), why)
        });
        let history = store.history(request.id)?;
        Ok(Some(Self {
            root,
            forge: dashboard.forge.clone(),
            run: Run::new(&row, stale),
            state: sanitize_line(&runs::public_state(&request.state)),
            received: Time(request.asked.received),
            via: explain::via(request.asked.via),
            job,
            notes: outcome
                .iter()
                .flat_map(|outcome| &outcome.notes)
                .map(|note| sanitize_line(note))
                .collect(),
            tiers: tiers.collect(),
            report: store.record_of(&dashboard.key(request))?.as_deref().and_then(Report::read),
            failing: (row.failures > 0).then_some((row.failures, Time(row.due))),
            foreigner: store.told(request.id)?.foreigner.as_deref().map(sanitize_line),
            history: history
                .into_iter()
                .filter(|line| !line.is_internal)
                .map(|line| (Time(line.at), sanitize_line(&line.line)))
                .collect(),
        }))
    }
}

/// Returns the badge of a recipe's last verdict, for other pages to show.
pub fn badge(store: &Store, repo: &Repo) -> Result<String, StoreError> {
    let runs = runs::of_repository(&store.last_of(repo, ON_PAGE)?);
    let last = last_verdict(&runs);
    let words = last.map_or_else(|| NOT_RUN.word.to_owned(), Run::words);
    let text = match last.and_then(|run| run.level.as_ref()) {
        Some(level) => format!("{words}, {level}"),
        None => words,
    };
    let colour = match last.map(|run| (run.mark.class, run.stale)) {
        Some(("good", false)) => "#1a7f37",
        Some(("bad", false)) => "#c62828",
        _ => "#5c6470",
    };
    Ok(cc_ci_core::report::badge_of("cc-ci", &text, colour))
}

impl Dashboard {
    fn key(&self, request: &Request) -> Key {
        Key::of(&self.forge, &request.asked.repo, request.asked.comment)
    }
}
