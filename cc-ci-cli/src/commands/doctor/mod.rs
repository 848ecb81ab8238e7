//! `cc-ci doctor`: whether this host can do its work. It changes nothing, and needs little to work itself.
//!
//! Each check stands alone and is bounded in time, so that what is broken or hangs becomes a line and hides nothing
//! else.

mod abra;
mod engine;
mod host;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use cc_ci_core::exit::Exit;
use cc_ci_core::lifetime::{RunLifetime, TakenOver};
use futures_util::future::{BoxFuture, join_all};
use schemars::JsonSchema;
use serde::Serialize;

use crate::app::{self, Base};
use crate::args::{self, Format};
use crate::engine::{self as which, Choice, Engine};
use crate::terminal::{Document, Terminal};
use cc_ci_core::Failure;

/// What one check may take. The engine is given the time of some answers.
const LIMIT: Duration = Duration::from_secs(15);

/// One thing that was looked at.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Check {
    name: &'static str,
    facts: Vec<String>,
    problems: Vec<Problem>,
}

/// What keeps cc-ci from its work.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct Problem {
    problem: String,
    fix: String,
}

impl Check {
    pub fn of(name: &'static str) -> Self {
        Self { name, facts: Vec::new(), problems: Vec::new() }
    }

    pub fn fact(mut self, fact: impl Into<String>) -> Self {
        self.facts.push(fact.into());
        self
    }

    pub fn problem(mut self, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        self.problems.push(Problem { problem: problem.into(), fix: fix.into() });
        self
    }

    /// An error of this command's, where it is one, and what helps.
    fn error(self, error: &Failure) -> Self {
        self.problem(error.chain(), error.hint().unwrap_or("see the error above"))
    }
}

/// What the checks share.
struct Patient {
    base: Base,
    /// Which engine the other commands would use.
    choice: Result<Choice, Failure>,
    /// What is wrong with the files that the configuration names: the proxy's certificates, credentials of git and of registries.
    unusable: Vec<Failure>,
    lifetime: Arc<dyn RunLifetime>,
}

impl Patient {
    /// Whether Docker's engine must work: where it is not certain that it is not used.
    fn needs_docker(&self) -> bool {
        !matches!(&self.choice, Ok(Choice { engine: Engine::Local, .. }))
    }

    fn uses_local(&self) -> bool {
        matches!(&self.choice, Ok(Choice { engine: Engine::Local, .. }))
    }
}

pub fn doctor(
    settings: &args::Settings,
    base: Base,
    taken: TakenOver,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let lifetime: Arc<dyn RunLifetime> = app::start_read_only(taken, terminal)?;
    // They read files.
    let config = &base.config;
    let unusable =
        [config.proxy().err(), config.git_credentials().err(), config.registry_credentials().err()];
    let unusable = unusable.into_iter().flatten().collect();
    let checks = app::block_on_read_only(lifetime.as_ref(), async {
        let chosen = tokio::time::timeout(LIMIT, which::choose(&base.config)).await;
        let choice = chosen.unwrap_or_else(|_| Err(Failure::host("choosing the engine took too long")));
        let patient = Patient { base, choice, unusable, lifetime: lifetime.clone() };
        Ok(check_all(&patient).await)
    })?;
    match settings.format {
        Format::Human => terminal.result(text(&checks)),
        Format::Json | Format::Ndjson => terminal.json(&document(&checks)),
    }
    Ok(if healthy(&checks) { Exit::Green } else { Exit::Red })
}

fn healthy(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.problems.is_empty())
}

/// What `cc-ci doctor` writes.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Diagnosis<'c> {
    /// Whether there is no problem.
    healthy: bool,
    /// What was looked at.
    checks: &'c [Check],
}

pub fn document(checks: &[Check]) -> Document<Diagnosis<'_>> {
    Document { schema: "cc-ci.doctor/v1", content: Diagnosis { healthy: healthy(checks), checks } }
}

/// All checks at once: together they take as long as the slowest.
async fn check_all(patient: &Patient) -> Vec<Check> {
    let checks: Vec<(&'static str, BoxFuture<'_, Vec<Check>>)> = vec![
        ("executor", Box::pin(async { vec![host::executor(patient)] })),
        ("recipes", Box::pin(host::recipes(patient))),
        ("engine", Box::pin(engine::all(patient))),
        ("lock directory", Box::pin(host::lock_directory(patient))),
        ("runs directory", Box::pin(host::runs_directory(patient))),
        ("abra", Box::pin(abra::all(patient))),
        ("git", Box::pin(host::git(patient))),
        ("recipes' code", Box::pin(host::confinement(patient))),
    ];
    let bounded = checks.into_iter().map(async |(name, check)| {
        tokio::time::timeout(LIMIT, check).await.unwrap_or_else(|_| {
            let problem = format!("the look at it took longer than {} s", LIMIT.as_secs());
            vec![
                Check::of(name)
                    .problem(problem, "see what hangs: a file system of a network's, or the engine"),
            ]
        })
    });
    let mut checks: Vec<Check> = join_all(bounded).await.into_iter().flatten().collect();
    // One cause may keep several from their looks.
    let mut message = BTreeSet::new();
    for check in &mut checks {
        check.problems.retain(|problem| message.insert(problem.problem.clone()));
    }
    checks
}

/// Facts first, then the problems with their numbers.
pub fn text(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let mut name = check.name;
        for fact in &check.facts {
            let _ = writeln!(text, "{name:<15} {fact}");
            name = "";
        }
    }
    let problems =
        checks.iter().flat_map(|check| check.problems.iter().map(move |problem| (check.name, problem)));
    let mut count = 0;
    for (check, Problem { problem, fix }) in problems {
        count += 1;
        let _ = write!(text, "\n{count}. {check}: {problem}\n   fix: {fix}\n");
    }
    if count == 0 {
        text.push_str("\nno problems\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_come_first_and_problems_have_numbers_and_fixes() {
        let checks = [
            Check::of("one").fact("it is there").fact("and new").problem("it is bent", "bend it back"),
            Check::of("other").problem("it is gone", "get another"),
        ];
        let expected = "one             it is there\n                and new\n\n1. one: it is bent\n   fix: bend it \
                        back\n\n2. other: it is gone\n   fix: get another\n";
        assert_eq!(text(&checks), expected);
        assert!(text(&[Check::of("one")]).contains("no problems"));
    }
}
