//! `doctor`: whether the bridge can do its work. Changes nothing but the database's schema, where that is older.

use std::fmt::Write as _;
use std::sync::Arc;

use cc_ci_core::Failure;
use cc_ci_core::blocking;
use cc_ci_core::model::error_chain;
use cc_ci_core::sys::text::sanitize_line;
use jiff::{SignedDuration, Timestamp};

use crate::config::Config;
use crate::names::{Key, Sha};
use crate::request::Permission;
use crate::starter::{Order, Starter};

/// The forge's clock and this host's may differ by so much: polling looks back for twice as long.
const CLOCKS: SignedDuration = SignedDuration::from_secs(60);

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    facts: Vec<String>,
    problems: Vec<String>,
}

impl Report {
    /// Whether there is no problem.
    pub fn is_well(&self) -> bool {
        self.problems.is_empty()
    }

    /// Returns it for people: facts, then numbered problems.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for fact in &self.facts {
            // Writing to a string can't fail.
            let _ = writeln!(text, "{}", sanitize_line(fact));
        }
        for (number, problem) in self.problems.iter().enumerate() {
            let _ = writeln!(text, "{}. {}", number + 1, sanitize_line(problem));
        }
        text
    }

    fn failure(&mut self, failure: &Failure) {
        let hint = failure.hint().map_or(String::new(), |hint| format!(" ({hint})"));
        self.problems.push(format!("{}{hint}", failure.chain()));
    }
}

/// Looks.
pub async fn look(config: &Config) -> Report {
    let mut report = Report::default();
    match config.store() {
        Ok(store) => {
            report.facts.push("the database opens".to_owned());
            match config.starter(Arc::new(store)) {
                Ok(starter) => look_at_ci(config, &starter, &mut report).await,
                Err(failure) => report.failure(&failure),
            }
        }
        Err(failure) => report.failure(&failure),
    }
    match config.receive() {
        Ok(None) => report.facts.push("no webhook is received: polling alone finds requests".to_owned()),
        Ok(Some((listen, _))) => {
            report.facts.push(format!("webhooks are received at {listen}, with a secret"));
        }
        Err(failure) => report.failure(&failure),
    }
    if let Ok(work) = config.work() {
        let command = work.command.clone();
        match blocking::run(move || std::fs::metadata(command)).await {
            Ok(_) => report.facts.push(format!("jobs are run by {}", work.command.display())),
            Err(error) => report.problems.push(format!(
                "{}: {error}: install it, or name it in [bridge.work] `command`",
                work.command.display()
            )),
        }
    }
    match config.forge() {
        Ok(forge) => look_at_forge(config, &forge, &mut report).await,
        Err(failure) => report.failure(&failure),
    }
    report
}

/// Asks for the jobs of a request that nobody made: whoever is told may ask for others' jobs, too.
async fn look_at_ci(config: &Config, starter: &Starter, report: &mut Report) {
    let Some(repo) = config.settings.repos.first() else { return };
    let order = Order {
        key: Key::of(config.forge_address(), repo, 0),
        repo: repo.clone(),
        url: String::new(),
        pull: 0,
        head: Sha::none(),
        quick: false,
        since: Timestamp::now(),
    };
    match starter.look_up(&order).await {
        Ok(_) => report.facts.push("jobs are looked up".to_owned()),
        Err(error) => report.problems.push(format!(
            "can't look up jobs in the CI: {}: are its address, its token and its repository right?",
            error_chain(&error)
        )),
    }
}

fn look_at_clocks(theirs: Option<Timestamp>, report: &mut Report) {
    let Some(theirs) = theirs else {
        report.facts.push("the forge does not say what its clock says".to_owned());
        return;
    };
    // The question took a moment, and the answer has seconds.
    let ahead = theirs.duration_since(Timestamp::now());
    if ahead.abs() > CLOCKS {
        report.problems.push(format!(
            "the forge's clock differs from this host's by {} s: set both, e.g. by NTP; comments are missed or late otherwise",
            ahead.as_secs().abs()
        ));
    } else {
        report.facts.push("the forge's clock and this host's agree".to_owned());
    }
}

async fn look_at_forge(config: &Config, forge: &crate::forge::Forge, report: &mut Report) {
    let (name, clock) = match forge.own_name_and_clock().await {
        Ok(told) => told,
        Err(error) => {
            let text = error_chain(&error);
            report.problems.push(format!("the forge does not say whose the token is: {text}: is it valid, with the rights to read its user, and to read and write repositories and issues?"));
            return;
        }
    };
    report.facts.push(format!("the token is {name}'s"));
    look_at_clocks(clock, report);
    for repo in &config.settings.repos {
        match forge.comments_since(repo, Timestamp::now()).await {
            Ok(_) => report.facts.push(format!("the comments of {repo} are read")),
            Err(error) => {
                report.problems.push(format!("can't read the comments of {repo}: {}", error_chain(&error)));
            }
        }
        match forge.may_write(repo).await {
            Ok(()) => report.facts.push(format!("statuses and comments are written in {repo}")),
            Err(error) => report.problems.push(format!(
                "can't write statuses and comments in {repo}: {}: give the token the rights to write repositories and issues, and \
                 {name} that to write to the repository",
                error_chain(&error)
            )),
        }
        // Everybody may ask what he may himself: who is asked after is another one.
        match forge.permission(repo, repo.as_str().split('/').next().unwrap_or_default()).await {
            Ok(Permission::Unknown) if config.settings.allow.is_empty() => report.problems.push(format!(
                "the forge does not tell {name} who may write to {repo}: make it an administrator of the repository, or name \
                 in `allow` who may ask for tests"
            )),
            Ok(Permission::Unknown) => {
                report.facts.push(format!("who may write to {repo} is not told: only those in `allow` may ask"));
            }
            Ok(_) => report.facts.push(format!("who may write to {repo} is told")),
            Err(error) => report.problems.push(format!("can't ask who may write to {repo}: {}", error_chain(&error))),
        }
    }
}
