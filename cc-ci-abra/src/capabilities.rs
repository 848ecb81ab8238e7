//! What cc-ci asks of an abra: which subcommands, with which flags, and what it can do without.

use std::fmt;

/// A subcommand that cc-ci calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subcommand {
    /// `app new`
    New,
    /// `app deploy`
    Deploy,
    /// `app secret insert`
    SecretInsert,
    /// `app ls`
    List,
    /// `app backup create`
    BackupCreate,
    /// `app restore`
    Restore,
}

/// A flag, whatever a version of abra calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// Asks nothing.
    NoInput,
    /// Takes the recipe's tree as it is.
    Chaos,
    /// Does not wait until the app is up: that is cc-ci's, and abra takes a healthcheck's start for a failure.
    NoConvergeChecks,
    /// Does not look the domain up.
    NoDomainChecks,
    /// Deploys what is deployed already.
    Force,
    /// Fetches nothing, and so writes nothing into the catalogue.
    Offline,
    /// The server of a new app.
    Server,
    /// The domain of a new app.
    Domain,
    /// The value is a file's path.
    File,
    /// JSON.
    Machine,
    /// With what is deployed.
    Status,
}

/// What was found of one flag, or of a subcommand itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// Of which subcommand.
    pub subcommand: Subcommand,
    /// Which flag; `None` for the subcommand itself.
    pub flag: Option<Flag>,
    /// How this abra spells it, where it has it.
    pub found: Option<&'static str>,
    /// Whether cc-ci can't do without.
    pub needed: bool,
}

impl Subcommand {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::New, Self::Deploy, Self::SecretInsert, Self::List, Self::BackupCreate, Self::Restore];

    /// As cc-ci writes it.
    pub fn as_str(self) -> &'static str {
        self.names()[0]
    }

    /// What it may be called in its own help.
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::New => &["app new"],
            Self::Deploy => &["app deploy"],
            Self::SecretInsert => &["app secret insert"],
            // The one is the other's alias, in either way.
            Self::List => &["app ls", "app list"],
            Self::BackupCreate => &["app backup create"],
            Self::Restore => &["app restore"],
        }
    }

    /// Whether a run needs it. A run reads the `.env` files by itself, removes through the engine, and takes backups by
    /// itself where abra can't.
    pub fn is_needed(self) -> bool {
        matches!(self, Self::New | Self::Deploy | Self::SecretInsert)
    }

    /// The flags that it is called with, and whether it can't be called without; of the offline one, the catalogue
    /// decides.
    pub(crate) fn flags(self) -> &'static [(Flag, bool)] {
        use Flag::{
            Chaos, Domain, File, Force, Machine, NoConvergeChecks, NoDomainChecks, NoInput, Offline, Server,
            Status,
        };
        match self {
            Self::New => &[(NoInput, true), (Chaos, true), (Server, true), (Domain, true), (Offline, false)],
            Self::Deploy => &[
                (NoInput, true),
                (Chaos, true),
                (NoConvergeChecks, true),
                (Force, true),
                (NoDomainChecks, false),
                (Offline, false),
            ],
            Self::BackupCreate | Self::Restore => &[(NoInput, true), (Chaos, false), (Offline, false)],
            Self::SecretInsert => &[(NoInput, true), (File, true), (Chaos, false), (Offline, false)],
            Self::List => &[(NoInput, true), (Machine, true), (Status, false), (Offline, false)],
        }
    }
}

impl fmt::Display for Subcommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Flag {
    /// How it may be spelled. The long ones first: a letter may mean something else in another version.
    pub(crate) fn spellings(self) -> &'static [&'static str] {
        match self {
            Self::NoInput => &["--no-input", "-n"],
            Self::Chaos => &["--chaos", "-C"],
            Self::NoConvergeChecks => &["--no-converge-checks", "-c"],
            Self::NoDomainChecks => &["--no-domain-checks", "-D"],
            Self::Force => &["--force", "-f"],
            Self::Offline => &["--offline", "-o"],
            Self::Server => &["--server"],
            Self::Domain => &["--domain"],
            Self::File => &["--file", "-f"],
            Self::Machine => &["--machine", "-m"],
            Self::Status => &["--status", "-S"],
        }
    }

    /// Whether abra may tell it only where it tells what holds for all subcommands.
    pub(crate) fn is_global(self) -> bool {
        matches!(self, Self::NoInput | Self::Offline)
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spellings().join("/"))
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.flag {
            Some(flag) => write!(f, "{flag} of abra {}", self.subcommand),
            None => write!(f, "abra {}", self.subcommand),
        }
    }
}
