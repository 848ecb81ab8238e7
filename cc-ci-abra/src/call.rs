//! One call of abra: its arguments, its bounds, and the error that it ends in.

use std::ffi::{OsStr, OsString};
use std::io;
use std::time::Duration;

use cc_ci_core::engine::{Failure, Redactor, RunContext};
use cc_ci_core::lifetime::{
    ChildError, Command, Ended, RunLifetime, RunLifetimeExt as _, SpawnError, Stream,
};
use cc_ci_core::names::Domain;

use crate::capabilities::{Flag, Subcommand};
use crate::installed::Abra;
use crate::stderr_tail::{self, StderrTail};

/// How much of stdout is kept: the JSON of some ten thousand apps.
const STDOUT_LIMIT: usize = 8 << 20;
/// All of that may stand in one line.
const LINE_LIMIT: usize = STDOUT_LIMIT;
/// What a child may say in all. Only its end is kept, but whoever writes for ever is not read for ever.
const OUTPUT_LIMIT: usize = 64 << 20;

/// A call that is being put together. Its flags are spelled as this abra spells them.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    abra: &'a Abra,
    subcommand: Subcommand,
    args: Vec<OsString>,
    limit: Duration,
}

impl<'a> Call<'a> {
    /// A call that asks nothing and fetches nothing, within `limit`.
    pub(crate) fn new(abra: &'a Abra, subcommand: Subcommand, limit: Duration) -> Self {
        let args = subcommand.as_str().split(' ').map(OsString::from).collect();
        Self { abra, subcommand, args, limit }.flag(Flag::NoInput).flag(Flag::Offline)
    }

    /// Adds a flag where this abra has it. [`Abra::require`] has seen to those that are needed.
    pub(crate) fn flag(mut self, flag: Flag) -> Self {
        self.args.extend(self.abra.spelling(self.subcommand, flag).map(OsString::from));
        self
    }

    /// Adds a flag with its value, in one argument: what begins with a dash stays a value.
    pub(crate) fn value(mut self, flag: Flag, value: &str) -> Self {
        let spelling = self.abra.spelling(self.subcommand, flag);
        self.args.extend(spelling.map(|spelling| OsString::from(format!("{spelling}={value}"))));
        self
    }

    /// Adds a plain argument. None of them begins with a dash: the names of recipes, domains and secrets don't, and
    /// paths are absolute.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Makes the call as a child of the run that works on `domain`; gives its stdout.
    pub(crate) async fn run(self, context: &RunContext, domain: &Domain) -> Result<String, Failure> {
        let command = context.command(domain, self.abra.program(), &context.tmp);
        self.execute(context.lifetime.as_ref(), &context.redactor, command).await
    }

    /// Makes the call as this child, to which its arguments are added; gives its stdout.
    pub(crate) async fn execute(
        self,
        lifetime: &dyn RunLifetime,
        redactor: &Redactor,
        command: Command,
    ) -> Result<String, Failure> {
        let shown = self.shown(redactor);
        let heard = hear(lifetime, redactor, command.args(&self.args), self.limit).await;
        let output = heard.words.tell(redactor);
        let after = |what: String| if output.is_empty() { what } else { format!("{what}: {output}") };
        match heard.ended {
            Ok(ended) if ended.success() => Ok(heard.stdout),
            Ok(ended @ Ended { code: Some(_), .. }) => {
                let message = format!("`{shown}` failed with {}", after(ended.to_string()));
                Err(Failure::new(stderr_tail::fault(&output), message))
            }
            // Killed by somebody, or lost: that says nothing of the recipe.
            Ok(ended) => Err(Failure::host(format!("`{shown}` was ended by {}", after(ended.to_string())))),
            Err(ChildError::TimedOut { limit, .. }) => {
                let what = format!("did not end within {} s, and was ended", limit.as_secs());
                Err(Failure::host(format!("`{shown}` {}", after(what))))
            }
            Err(error) => Err(not_run(&shown, error)),
        }
    }

    /// As it would be typed.
    fn shown(&self, redactor: &Redactor) -> String {
        let words = self.args.iter().map(|arg| arg.to_string_lossy());
        let line = words.fold("abra".to_owned(), |line, word| format!("{line} {word}"));
        stderr_tail::sanitize(&line, redactor, 1000)
    }
}

/// The error of a child that did not come to an end of its own.
pub(crate) fn not_run(shown: &str, error: ChildError) -> Failure {
    let missing = matches!(
        &error,
        ChildError::Spawn(SpawnError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound
    );
    let failed = Failure::host(format!("`{shown}` was not done")).with_source(error);
    if missing { failed.with_hint(INSTALL) } else { failed }
}

/// What helps where there is no abra.
pub(crate) const INSTALL: &str =
    "install abra where cc-ci finds it in PATH: https://docs.coopcloud.tech/abra/install/";

/// A child's end, and what it said by then.
pub(crate) struct Heard {
    pub(crate) ended: Result<Ended, ChildError>,
    pub(crate) stdout: String,
    pub(crate) words: StderrTail,
}

/// Runs a child and listens.
pub(crate) async fn hear(
    lifetime: &dyn RunLifetime,
    redactor: &Redactor,
    command: Command,
    limit: Duration,
) -> Heard {
    let command = command.output_limit(OUTPUT_LIMIT).line_limit(LINE_LIMIT);
    let (mut stdout, mut words) = (String::new(), StderrTail::default());
    let ended = lifetime
        .run(command, limit, &mut |line| {
            if line.stream == Stream::Stdout && stdout.len() + line.text.len() < STDOUT_LIMIT {
                stdout.push_str(&line.text);
                stdout.push('\n');
            }
            words.hear(line, redactor);
        })
        .await;
    Heard { ended, stdout, words }
}
