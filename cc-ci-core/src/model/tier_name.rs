//! What the tiers of a run are called.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The name of a tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TierName {
    /// The app installs and serves.
    Install,
    /// It upgrades in place to the commit under test.
    Upgrade,
    /// A backup can be taken.
    Backup,
    /// The backup brings the content back.
    Restore,
    /// Whatever else the operator and the recipe test.
    Custom,
    /// The warm app is as it was: of the quick lane only.
    Rollback,
}

impl TierName {
    /// All tiers of the cold lane, in their order: those that a test may belong to.
    pub const ALL: [Self; 5] = [Self::Install, Self::Upgrade, Self::Backup, Self::Restore, Self::Custom];

    /// All tiers of the quick lane.
    pub const QUICK: [Self; 6] =
        [Self::Install, Self::Upgrade, Self::Backup, Self::Restore, Self::Custom, Self::Rollback];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Upgrade => "upgrade",
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::Custom => "custom",
            Self::Rollback => "rollback",
        }
    }
}

impl std::fmt::Display for TierName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
