//! Which releases a run upgrades from.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use super::step::first_few;
use crate::model::failure::Failure;
use crate::names::{InvalidName, Version};
use crate::workspace::{CommitId, Release};

/// The releases that a run upgrades from, of those that the commit under test builds on.
///
/// The run begins with the newest of them; each older one gets a pass of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpgradeFrom {
    /// All of them.
    All,
    /// So many, the newest ones.
    Newest(NonZeroUsize),
    /// These.
    Only(Vec<Version>),
}

impl Default for UpgradeFrom {
    fn default() -> Self {
        Self::Newest(NonZeroUsize::MIN)
    }
}

impl FromStr for UpgradeFrom {
    type Err = InvalidName;

    /// `all`, a number, or tags with commas between them.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let bad = |value: &str, rule| InvalidName::new("choice of releases", value, rule);
        if text == "all" {
            return Ok(Self::All);
        }
        if let Ok(number) = text.parse::<usize>() {
            let rule = "a number of releases is 1 or more; --fresh upgrades from none";
            return NonZeroUsize::new(number).map(Self::Newest).ok_or_else(|| bad(text, rule));
        }
        let rule = "all or a number alone, or releases' tags such as 1.2.0+1.27.0";
        let tags = text.split(',').map(|tag| tag.parse().map_err(|_| bad(tag, rule)));
        tags.collect::<Result<_, _>>().map(Self::Only)
    }
}

impl fmt::Display for UpgradeFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Newest(number) => number.fmt(f),
            Self::Only(tags) => {
                f.write_str(&tags.iter().map(Version::to_string).collect::<Vec<_>>().join(","))
            }
        }
    }
}

impl UpgradeFrom {
    /// Takes its choice of the releases `before` the commit, newest first.
    pub(super) fn select(&self, before: Vec<Release>, commit: &CommitId) -> Result<Vec<Release>, Failure> {
        match self {
            Self::All => Ok(before),
            Self::Newest(number) => Ok(before.into_iter().take(number.get()).collect()),
            Self::Only(tags) => {
                let is_known = |tag: &&Version| before.iter().any(|release| release.version == **tag);
                match tags.iter().find(|tag| !is_known(tag)) {
                    Some(unknown) => Err(unknown_release(unknown, &before, commit)),
                    None => {
                        Ok(before.into_iter().filter(|release| tags.contains(&release.version)).collect())
                    }
                }
            }
        }
    }
}

fn unknown_release(unknown: &Version, before: &[Release], commit: &CommitId) -> Failure {
    let known: Vec<String> = before.iter().map(|release| release.version.to_string()).collect();
    let hint = match known.as_slice() {
        [] => "leave --upgrade-from out: the commit builds on no release".to_owned(),
        known => format!("it builds on: {}", first_few(known)),
    };
    let commit = commit.short();
    Failure::configuration(format!("{unknown} is no release that the commit {commit} builds on"))
        .with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn releases(versions: &[&str]) -> Vec<Release> {
        let release = |version: &&str| Release {
            version: version.parse().unwrap(),
            commit: "a".repeat(40).parse().unwrap(),
            tagged_at: jiff::Timestamp::UNIX_EPOCH,
        };
        versions.iter().map(release).collect()
    }

    fn selected(choice: &str) -> Result<Vec<String>, Failure> {
        let before = releases(&["1.2.0+2", "1.1.0+1", "1.0.0+1"]);
        let chosen =
            choice.parse::<UpgradeFrom>().unwrap().select(before, &"b".repeat(40).parse().unwrap())?;
        Ok(chosen.iter().map(|release| release.version.to_string()).collect())
    }

    #[test]
    fn the_newest_comes_first_however_they_are_named() {
        assert_eq!(selected("all").unwrap(), ["1.2.0+2", "1.1.0+1", "1.0.0+1"]);
        assert_eq!(selected("2").unwrap(), ["1.2.0+2", "1.1.0+1"]);
        assert_eq!(selected("9").unwrap().len(), 3);
        assert_eq!(selected("1.0.0+1,1.2.0+2,1.0.0+1").unwrap(), ["1.2.0+2", "1.0.0+1"]);
        assert_eq!(selected(&UpgradeFrom::default().to_string()).unwrap(), ["1.2.0+2"]);
    }

    #[test]
    fn a_release_that_the_commit_does_not_build_on_is_refused_with_those_that_it_does() {
        let failure = selected("1.1.0+1,1.1.0+2").unwrap_err();
        assert_eq!(failure.fault(), crate::model::failure::Fault::Configuration);
        assert!(failure.to_string().contains("1.1.0+2"), "{failure:?}");
        assert!(failure.hint().unwrap().contains("1.2.0+2, 1.1.0+1, 1.0.0+1"));
    }

    #[test]
    fn what_names_no_release_is_refused_by_its_rule() {
        for bad in ["", "0", "-1", "some", "all,1.0.0+1", "1.0.0", "1.0.0+1,", "2,1.0.0+1"] {
            assert!(bad.parse::<UpgradeFrom>().is_err(), "{bad:?}");
        }
    }
}
