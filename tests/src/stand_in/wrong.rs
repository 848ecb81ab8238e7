//! What the stand-in does wrong when it is told to.

use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;

/// The file of a world that says what goes wrong, one a line.
pub(crate) const FILE: &str = "wrong";

/// One thing that abra was seen to do wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// A deploy finds a lightweight tag.
    R014,
    /// A deploy finds changes in the recipe's tree where there are none.
    Unstaged,
    /// A deploy is done, and then abra says that it did not converge.
    ConvergeFata,
    /// A deploy writes `TYPE` and another variable into the `.env`, with `-C` too.
    EnvRewritten,
    /// A deploy checks something else out before it deploys, with `-C` too.
    CheckoutMoved,
    /// Words stand before the JSON.
    JsonNoise,
    /// `app ls -S` can't resolve a server.
    LsStatusFata,
    /// A deploy leaves a service out, and fails.
    NonzeroAfterPartial,
    /// A deploy leaves a service out, and says that all is well.
    ZeroAfterPartial,
    /// A deploy never returns; nor does a child of it, in a session of its own.
    Hangs,
    /// A deploy kills itself before its last service.
    KilledHalfWay,
    /// While a deploy works, another abra moves and changes the same tree.
    SecondAbra,
    /// Secrets are taken, and kept nowhere.
    SecretsLost,
    /// A deploy lays one more compose file, of one line, over the recipe's.
    Overlay(String),
    /// A flag that nobody knows, e.g. `--chaos`.
    LacksFlag(String),
    /// An abra of years ago.
    OldVersion,
}

const NAMES: [(&str, Wrong); 14] = [
    ("r014", Wrong::R014),
    ("unstaged", Wrong::Unstaged),
    ("converge-fata", Wrong::ConvergeFata),
    ("env-rewritten", Wrong::EnvRewritten),
    ("checkout-moved", Wrong::CheckoutMoved),
    ("json-noise", Wrong::JsonNoise),
    ("ls-status-fata", Wrong::LsStatusFata),
    ("nonzero-after-partial", Wrong::NonzeroAfterPartial),
    ("zero-after-partial", Wrong::ZeroAfterPartial),
    ("hangs", Wrong::Hangs),
    ("killed-half-way", Wrong::KilledHalfWay),
    ("second-abra", Wrong::SecondAbra),
    ("secrets-lost", Wrong::SecretsLost),
    ("old-version", Wrong::OldVersion),
];

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, wrong)| wrong == self) {
            Some((name, _)) => f.write_str(name),
            None => match self {
                Self::LacksFlag(flag) => write!(f, "lacks-flag:{flag}"),
                Self::Overlay(file) => write!(f, "overlay:{file}"),
                other => write!(f, "{other:?}"),
            },
        }
    }
}

impl FromStr for Wrong {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        if let Some(flag) = text.strip_prefix("lacks-flag:") {
            return Ok(Self::LacksFlag(flag.to_owned()));
        }
        if let Some(file) = text.strip_prefix("overlay:") {
            return Ok(Self::Overlay(file.to_owned()));
        }
        NAMES.iter().find(|(name, _)| *name == text).map(|(_, wrong)| wrong.clone()).ok_or(())
    }
}

/// What goes wrong in this call, which is after so many deploys: `hangs@2` is about the second alone.
///
/// # Panics
/// On a line that names nothing.
pub(super) fn read(world: &Path, deploys: usize) -> Vec<Wrong> {
    let text = fs::read_to_string(world.join(FILE)).unwrap_or_default();
    let parse = |line: &str| {
        let (name, at) = line.split_once('@').map_or((line, None), |(name, at)| (name, Some(at)));
        let wrong = name.parse::<Wrong>().unwrap_or_else(|()| panic!("{line:?} is nothing that goes wrong"));
        let now = at.is_none_or(|at| at.parse::<usize>().expect("a number") == deploys);
        now.then_some(wrong)
    };
    text.lines().filter_map(parse).collect()
}
