//! The installed abra: what it says of itself, asked once for each program file and version.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cc_ci_core::engine::{Failure, Redactor};
use cc_ci_core::lifetime::{ChildError, Command, Ended, RunLifetime};
use cc_ci_core::workspace::Catalogue;
use futures_util::future::{join, join_all};

use crate::cache;
use crate::call::{self, Heard};
use crate::capabilities::Subcommand;
use crate::help;
use crate::installed::{Abra, Capabilities};
use crate::stderr_tail;

/// What one `--help` may take. It reads nothing but itself; a busy host takes seconds to start it all the same.
const HELP_LIMIT: Duration = Duration::from_secs(10);

/// How much of the version is told, in bytes.
const VERSION_LIMIT: usize = 100;

/// How an abra is asked.
#[derive(Debug, Clone)]
pub struct Probe {
    /// The program, by an absolute path.
    pub program: PathBuf,
    /// The whole environment that it is asked in.
    pub environment: Vec<(OsString, OsString)>,
    /// The file that keeps the answers, where they are kept. What is wrong with it is never an error.
    pub cache: Option<PathBuf>,
    /// How runs see the catalogue: one that they share is never written only where abra can be told so (I7).
    pub catalogue: Catalogue,
}

impl Abra {
    /// Asks it, or remembers what the same file said. It is always asked for its version: behind a wrapper script, the
    /// file stays the same. It may still lack what is needed: see [`require`](Self::require).
    ///
    /// # Errors
    /// It can't be run, hangs, or fails to say its version: the host's fault.
    pub async fn probe(lifetime: &dyn RunLifetime, probe: Probe) -> Result<Self, Failure> {
        let Probe { program, environment, cache, catalogue } = probe;
        let questions = Questions { lifetime, program: &program, environment: &environment };
        // Identified before it is asked: when it is replaced meanwhile, the answers are kept for nobody.
        let key = {
            let program = program.clone();
            lifetime.blocking_tasks().run(move || cache::identify(&program)).await
        };
        let version = questions.version().await?;
        let Some((key, cache)) = key.zip(cache) else {
            let message = questions.rest(version).await?;
            return Ok(Self::new(program, catalogue, message));
        };
        let kept = {
            let (key, cache, version) = (key.clone(), cache.clone(), version.clone());
            lifetime.blocking_tasks().run(move || cache::read(&cache, &key, &version)).await
        };
        if let Some(message) = kept {
            return Ok(Self::new(program, catalogue, message));
        }
        let message = questions.rest(version).await?;
        let kept = message.clone();
        lifetime.blocking_tasks().run(move || cache::write(&cache, &key, &kept)).await;
        Ok(Self::new(program, catalogue, message))
    }
}

/// Whom to ask, and how.
struct Questions<'a> {
    lifetime: &'a dyn RunLifetime,
    program: &'a Path,
    environment: &'a [(OsString, OsString)],
}

impl Questions<'_> {
    async fn version(&self) -> Result<String, Failure> {
        let (ended, Heard { stdout, words, .. }) = self.ask("", "--version").await?;
        if !ended.success() {
            let (program, message) = (self.program.display(), words.tell(&Redactor::default()));
            return Err(Failure::host(format!("`{program} --version` failed with {ended}: {message}")));
        }
        let line = stdout.lines().find(|line| !line.trim().is_empty()).unwrap_or("no version");
        Ok(stderr_tail::sanitize(line, &Redactor::default(), VERSION_LIMIT))
    }

    /// Asks for every help at once.
    async fn rest(&self, version: String) -> Result<Capabilities, Failure> {
        let global = async { Ok::<_, Failure>(help::flags(&self.ask("", "--help").await?.1.stdout)) };
        let each = Subcommand::ALL.map(async |subcommand| {
            let name = subcommand.as_str();
            let (ended, heard) = self.ask(name, "--help").await?;
            let is_there = ended.success() && help::is_of(&heard.stdout, subcommand.names());
            Ok::<_, Failure>((name.to_owned(), is_there.then(|| help::flags(&heard.stdout))))
        });
        // All are waited for, whichever fails: none is left running.
        let (global, flags) = join(global, join_all(each)).await;
        Ok(Capabilities { version, global: global?, flags: flags.into_iter().collect::<Result<_, _>>()? })
    }

    /// Its answer, whatever its status.
    async fn ask(&self, words: &str, flag: &str) -> Result<(Ended, Heard), Failure> {
        let args: Vec<&str> = words.split_whitespace().chain([flag]).collect();
        let shown = format!("{} {}", self.program.display(), args.join(" "));
        let command = Command::new(self.program, "/")
            .args(&args)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .grace(Duration::ZERO);
        let heard = call::hear(self.lifetime, &Redactor::default(), command, HELP_LIMIT).await;
        match heard.ended {
            Err(ChildError::TimedOut { limit, .. }) => Err(Failure::host(format!(
                "`{shown}` did not end within {} s, and was ended",
                limit.as_secs()
            ))),
            Err(error) => Err(call::not_run(&shown, error)),
            Ok(ended) if ended.code.is_none() => {
                Err(Failure::host(format!("`{shown}` was ended by {ended}")))
            }
            Ok(ended) => Ok((ended, heard)),
        }
    }
}
