//! The installed abra: what it says of itself, asked once for each program file.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cc_ci_core::executor::{EngineError, Redactor};
use cc_ci_core::lifetime::{ChildError, Command, RunLifetime};
use futures_util::future::{join_all, join3};
use serde::{Deserialize, Serialize};

use crate::cache;
use crate::call::{self, Heard};
use crate::capabilities::{Capability, Flag, Subcommand};
use crate::help;
use crate::words;

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
}

/// An installed abra, and what it can do.
#[derive(Debug, Clone)]
pub struct Abra {
    program: PathBuf,
    said: Said,
}

/// What an abra says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Said {
    pub(crate) version: String,
    /// The flags that hold for all subcommands.
    pub(crate) global: BTreeSet<String>,
    /// The flags of each subcommand; `None` where there is no such subcommand.
    pub(crate) flags: BTreeMap<String, Option<BTreeSet<String>>>,
}

impl Abra {
    /// Asks it, or remembers what the same file said. It may still lack what is needed: see [`require`](Self::require).
    ///
    /// # Errors
    /// It can't be run, hangs, or fails to say its version: the host's fault.
    pub async fn probe(lifetime: &dyn RunLifetime, probe: Probe) -> Result<Self, EngineError> {
        let Probe { program, environment, cache } = probe;
        // Identified before it is asked: when it is replaced meanwhile, the answers are kept for nobody.
        let identified = {
            let (program, cache) = (program.clone(), cache.clone());
            lifetime
                .jobs()
                .run(move || cache::identify(&program).map(|key| (cache::read(cache.as_deref(), &key), key)))
        };
        let key = match identified.await {
            Some((Some(said), _)) => return Ok(Self { program, said }),
            Some((None, key)) => Some(key),
            None => None,
        };
        let said = ask(lifetime, &program, &environment).await?;
        if let Some((key, cache)) = key.zip(cache) {
            let kept = said.clone();
            lifetime.jobs().run(move || cache::write(&cache, &key, &kept)).await;
        }
        Ok(Self { program, said })
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// What it says when it is asked for its version.
    pub fn version(&self) -> &str {
        &self.said.version
    }

    /// Whether it has a subcommand with all that a call of it needs.
    pub fn can(&self, subcommand: Subcommand) -> bool {
        self.capabilities()
            .iter()
            .filter(|found| found.subcommand == subcommand)
            .all(|found| found.found.is_some() || found.flag.is_some_and(|flag| !needs(subcommand, flag)))
    }

    /// Everything that cc-ci asks of an abra, and what was found of it.
    pub fn capabilities(&self) -> Vec<Capability> {
        let mut all = Vec::new();
        for subcommand in Subcommand::ALL {
            let there = self.flags(subcommand).map(|_| subcommand.as_str());
            all.push(Capability { subcommand, flag: None, found: there, needed: subcommand.is_needed() });
            all.extend(subcommand.flags().iter().map(|&(flag, needed)| Capability {
                subcommand,
                flag: Some(flag),
                found: self.spelling(subcommand, flag),
                needed: needed && subcommand.is_needed(),
            }));
        }
        all
    }

    /// Refuses an abra that lacks what a run needs.
    ///
    /// # Errors
    /// Names all that it lacks: the configuration's fault, found before anything is touched.
    pub fn require(&self) -> Result<(), EngineError> {
        let capabilities = self.capabilities();
        let lacking: Vec<String> = capabilities
            .iter()
            .filter(|capability| capability.needed && capability.found.is_none())
            // Without the subcommand, its flags go without saying.
            .filter(|capability| capability.flag.is_none() || self.flags(capability.subcommand).is_some())
            .map(ToString::to_string)
            .collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let (program, version) = (self.program.display(), self.version());
        let message = format!("{program} ({version}) lacks what cc-ci needs: {}", lacking.join(", "));
        Err(EngineError::configuration(message)
            .with_hint("install a newer abra (abra upgrade); `cc-ci doctor` shows all that is asked of it"))
    }

    /// How it spells a flag of a subcommand, where it has it.
    pub(crate) fn spelling(&self, subcommand: Subcommand, flag: Flag) -> Option<&'static str> {
        let flags = self.flags(subcommand)?;
        let has = |spelling: &str| {
            flags.contains(spelling) || (flag.is_global() && self.said.global.contains(spelling))
        };
        flag.spellings().iter().copied().find(|spelling| has(spelling))
    }

    fn flags(&self, subcommand: Subcommand) -> Option<&BTreeSet<String>> {
        self.said.flags.get(subcommand.as_str())?.as_ref()
    }
}

fn needs(subcommand: Subcommand, flag: Flag) -> bool {
    subcommand.flags().contains(&(flag, true))
}

impl std::fmt::Display for Capability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.flag {
            Some(flag) => write!(f, "{flag} of abra {}", self.subcommand),
            None => write!(f, "abra {}", self.subcommand),
        }
    }
}

/// Asks for the version and for every help at once.
async fn ask(
    lifetime: &dyn RunLifetime,
    program: &Path,
    environment: &[(OsString, OsString)],
) -> Result<Said, EngineError> {
    let ask = async |words: &str, flag: &str| {
        let args: Vec<&str> = words.split_whitespace().chain([flag]).collect();
        let shown = format!("{} {}", program.display(), args.join(" "));
        let command = Command::new(program, "/")
            .args(&args)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .grace(Duration::ZERO);
        let heard = call::hear(lifetime, &Redactor::default(), command, HELP_LIMIT).await;
        match heard.ended {
            Err(ChildError::TimedOut { limit, .. }) => Err(EngineError::host(format!(
                "`{shown}` did not end within {} s, and was ended",
                limit.as_secs()
            ))),
            Err(error) => Err(call::not_run(&shown, error)),
            Ok(ended) if ended.code.is_none() => {
                Err(EngineError::host(format!("`{shown}` was ended by {ended}")))
            }
            Ok(ended) => Ok((ended, heard)),
        }
    };
    let version = async {
        let (ended, Heard { stdout, words, .. }) = ask("", "--version").await?;
        if !ended.success() {
            let (program, said) = (program.display(), words.tell(&Redactor::default()));
            return Err(EngineError::host(format!("`{program} --version` failed with {ended}: {said}")));
        }
        let line = stdout.lines().find(|line| !line.trim().is_empty()).unwrap_or("no version");
        Ok(words::clean(line, &Redactor::default(), VERSION_LIMIT))
    };
    let global = async { Ok(help::flags(&ask("", "--help").await?.1.stdout)) };
    let each = Subcommand::ALL.map(async |subcommand| {
        let name = subcommand.as_str();
        let (ended, heard) = ask(name, "--help").await?;
        let is_there = ended.success() && help::is_of(&heard.stdout, name);
        Ok((name.to_owned(), is_there.then(|| help::flags(&heard.stdout))))
    });
    // All are waited for, whichever fails: none is left running.
    let (version, global, flags) = join3(version, global, join_all(each)).await;
    Ok(Said { version: version?, global: global?, flags: flags.into_iter().collect::<Result<_, _>>()? })
}
