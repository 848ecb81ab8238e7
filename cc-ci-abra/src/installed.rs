//! An abra, by what it says of itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cc_ci_core::engine::Failure;
use cc_ci_core::workspace::Catalogue;
use serde::{Deserialize, Serialize};

use crate::capabilities::{Capability, Flag, Subcommand};
use crate::help::{self, Flags};

/// An installed abra, and what it can do.
#[derive(Debug, Clone)]
pub struct Abra {
    program: PathBuf,
    catalogue: Catalogue,
    capabilities: Capabilities,
}

/// What an abra says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Capabilities {
    pub(crate) version: String,
    /// The flags that hold for all subcommands.
    pub(crate) global: Flags,
    /// The flags of each subcommand; `None` where there is no such subcommand.
    pub(crate) flags: BTreeMap<String, Option<Flags>>,
}

impl Abra {
    pub(crate) fn new(program: PathBuf, catalogue: Catalogue, capabilities: Capabilities) -> Self {
        Self { program, catalogue, capabilities }
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// What it says when it is asked for its version.
    pub fn version(&self) -> &str {
        &self.capabilities.version
    }

    /// Whether it has a subcommand with all that a call of it needs.
    pub fn can(&self, subcommand: Subcommand) -> bool {
        self.capabilities().iter().filter(|found| found.subcommand == subcommand).all(|found| {
            found.found.is_some() || found.flag.is_some_and(|flag| !self.needs(subcommand, flag))
        })
    }

    /// Everything that cc-ci asks of an abra, and what was found of it.
    pub fn capabilities(&self) -> Vec<Capability> {
        let mut all = Vec::new();
        for subcommand in Subcommand::ALL {
            let there = self.flags(subcommand).map(|_| subcommand.as_str());
            all.push(Capability { subcommand, flag: None, found: there, needed: subcommand.is_needed() });
            all.extend(subcommand.flags().iter().map(|&(flag, _)| Capability {
                subcommand,
                flag: Some(flag),
                found: self.spelling(subcommand, flag),
                needed: subcommand.is_needed() && self.needs(subcommand, flag),
            }));
        }
        all
    }

    /// Refuses an abra that lacks what a run needs.
    ///
    /// # Errors
    /// Names all that it lacks: the configuration's fault, found before anything is touched.
    pub fn require(&self) -> Result<(), Failure> {
        let capabilities = self.capabilities();
        let lacking: Vec<&Capability> = capabilities
            .iter()
            .filter(|capability| capability.needed && capability.found.is_none())
            // Without the subcommand, its flags go without saying.
            .filter(|capability| capability.flag.is_none() || self.flags(capability.subcommand).is_some())
            .collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let (program, version) = (self.program.display(), self.version());
        let names: Vec<String> = lacking.iter().map(ToString::to_string).collect();
        let message = format!("{program} ({version}) lacks what cc-ci needs: {}", names.join(", "));
        let only_offline = lacking.iter().all(|capability| capability.flag == Some(Flag::Offline));
        Err(Failure::configuration(message).with_hint(if only_offline {
            "it may update the catalogue that all runs share: set `catalogue = \"copy\"` below `[workspace]` in the \
             configuration, or install a newer abra (abra upgrade)"
        } else {
            "install a newer abra (abra upgrade); `cc-ci doctor` shows all that is asked of it"
        }))
    }

    /// How it spells a flag of a subcommand, where it has it.
    pub(crate) fn spelling(&self, subcommand: Subcommand, flag: Flag) -> Option<&'static str> {
        let flags = self.flags(subcommand)?;
        let of_all = || flag.is_global().then(|| help::find(&self.capabilities.global, flag.spellings()))?;
        help::find(flags, flag.spellings()).or_else(of_all)
    }

    fn flags(&self, subcommand: Subcommand) -> Option<&Flags> {
        self.capabilities.flags.get(subcommand.as_str())?.as_ref()
    }

    /// Whether a call of it needs this flag.
    fn needs(&self, subcommand: Subcommand, flag: Flag) -> bool {
        let is_shared = self.catalogue == Catalogue::Symlink;
        subcommand.flags().contains(&(flag, true)) || (flag == Flag::Offline && is_shared)
    }
}
