//! Why a run was not green, in one look: its first failure, who is to blame by what evidence, and what to do next.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::asked::Asked;
use super::tier_name::TierName;
use crate::names::RunId;
use crate::sys::text::sanitize_line;

/// What a run does, since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Doing {
    /// Its phase: `fetch`, `recover`, a tier, …
    pub phase: String,
    /// The step of the tier that goes on.
    pub step: Option<String>,
    /// Since when.
    pub since: Timestamp,
}

impl Doing {
    pub(crate) fn phase(phase: &str, since: Timestamp) -> Self {
        Self { phase: phase.to_owned(), step: None, since }
    }
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.step {
            Some(step) => write!(f, "{}: {step}", self.phase),
            None => f.write_str(&self.phase),
        }
    }
}

/// The first failure of a run that was not green.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Digest {
    /// What happened, in one line.
    pub what: String,
    /// The tier that it happened in.
    pub tier: Option<TierName>,
    /// The step of the tier.
    pub step: Option<String>,
    /// The service that is not well.
    pub service: Option<String>,
    /// What the engine, the check or the test says of it: the last lines, where there are many.
    pub cause: Vec<String>,
    /// The end of the log of the service, or of `app` where none is known to be unwell.
    pub log: Option<LogEnd>,
    /// Who is to blame.
    pub blame: Blame,
    /// What says so; where nobody is blamed, why not.
    pub evidence: String,
    /// What helps, or shows more: commands, the most useful one first.
    pub next: Vec<String>,
}

/// The last lines of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct LogEnd {
    /// The service that wrote it.
    pub service: String,
    /// Where all of it is, in the run's directory.
    pub file: String,
    /// The lines.
    pub lines: Vec<String>,
}

impl LogEnd {
    pub(crate) fn new(service: String, file: String, lines: Vec<String>) -> Self {
        Self { service, file, lines }
    }
}

/// Who a failure is to be blamed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Blame {
    /// What the commit under test says or does.
    Recipe,
    /// An image that somebody else has made.
    UpstreamImage,
    /// A registry of images.
    Registry,
    /// This host, its engine, or what the operator has set up on it.
    Host,
    /// cc-ci.
    Harness,
    /// There is no evidence.
    Unknown,
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Recipe => "the recipe",
            Self::UpstreamImage => "the upstream image",
            Self::Registry => "the registry",
            Self::Host => "the host",
            Self::Harness => "cc-ci",
            Self::Unknown => "unknown",
        })
    }
}

impl Digest {
    pub(crate) fn new(what: String, blame: Blame, evidence: impl Into<String>) -> Self {
        Self {
            what,
            tier: None,
            step: None,
            service: None,
            cause: Vec::new(),
            log: None,
            blame,
            evidence: evidence.into(),
            next: Vec::new(),
        }
    }
}

/// The command that shows a run's logs, that of `name` where there is one, for a shell that it is copied into. A recipe names its
/// tests: such a name is no command there, and one that could not be read there is left out.
pub(crate) fn logs_command(run: &RunId, name: Option<&str>) -> String {
    let command = format!("cc-ci logs {run}");
    match name.and_then(for_a_shell) {
        Some(name) => format!("{command} {name}"),
        None => command,
    }
}

/// The command that says what breaks a rule in the recipe that was asked for, for a shell that it is copied into. A check reads
/// a directory of this host, or the canonical tree: of a recipe from elsewhere it is told what belongs there.
pub(crate) fn check_command(asked: Option<&Asked>) -> String {
    let source = asked.map(|asked| asked.source.as_str()).filter(|source| {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        source.starts_with('/') || source.chars().all(is_name)
    });
    let recipe = source.and_then(for_a_shell).unwrap_or_else(|| "RECIPE".to_owned());
    format!("cc-ci recipe check {recipe}")
}

/// A word as a shell reads it again, where it can be read.
fn for_a_shell(word: &str) -> Option<String> {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | '+' | '@' | '%');
    if word.chars().all(is_plain) {
        return Some(word.to_owned());
    }
    (sanitize_line(word) == word).then(|| format!("'{}'", word.replace('\'', r"'\''")))
}

/// The name of a test, as `cc-ci logs` takes it.
pub(crate) fn test_name(step: &str) -> Option<&str> {
    let (layer, name) = step.rsplit_once('/')?;
    (layer.ends_with("recipe") || layer.ends_with("operator")).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_shown_does_in_a_shell_what_it_says_and_no_more() {
        let run = "1".parse().unwrap();
        for (name, command) in [
            (None, "cc-ci logs 1"),
            (Some("custom-a.sh"), "cc-ci logs 1 custom-a.sh"),
            (Some("custom a; reboot"), "cc-ci logs 1 'custom a; reboot'"),
            (Some("custom-$(reboot)"), "cc-ci logs 1 'custom-$(reboot)'"),
            (Some("custom-it's"), r"cc-ci logs 1 'custom-it'\''s'"),
            (Some("custom-a\nreboot"), "cc-ci logs 1"),
            (Some("custom-\u{1b}[2J"), "cc-ci logs 1"),
        ] {
            assert_eq!(logs_command(&run, name), command);
        }
    }

    #[test]
    fn a_check_is_of_what_was_asked_for_where_it_can_be_checked() {
        for (source, command) in [
            ("/srv/recipes/pad", "cc-ci recipe check /srv/recipes/pad"),
            ("/srv/my pads/$(reboot)", "cc-ci recipe check '/srv/my pads/$(reboot)'"),
            ("pad", "cc-ci recipe check pad"),
            ("https://git.example.org/pad.git", "cc-ci recipe check RECIPE"),
            ("git@git.example.org:coop/pad", "cc-ci recipe check RECIPE"),
            ("/srv/a\nreboot", "cc-ci recipe check RECIPE"),
        ] {
            let asked = Asked {
                source: source.to_owned(),
                revision: None,
                deadline_seconds: None,
                tests_dir: None,
                fresh: false,
                upgrade_from: Vec::new(),
                skip_fetch: false,
                report_only: false,
                keep_on_red_seconds: None,
            };
            assert_eq!(check_command(Some(&asked)), command);
        }
        assert_eq!(check_command(None), "cc-ci recipe check RECIPE");
    }

    #[test]
    fn a_test_is_named_as_its_log_is_asked_for() {
        assert_eq!(test_name("recipe/custom-a"), Some("custom-a"));
        assert_eq!(test_name("install: operator/install-b"), Some("install-b"));
        assert_eq!((test_name("generic/serving"), test_name("deploy")), (None, None));
    }
}
