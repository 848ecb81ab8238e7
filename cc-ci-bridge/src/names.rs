//! What comes from a forge, parsed once: repositories, commits, and the key of a request.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A text is not what its type says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {value:?}: {rule}")]
pub struct InvalidName {
    what: &'static str,
    value: String,
    rule: &'static str,
}

impl InvalidName {
    fn new(what: &'static str, value: &str, rule: &'static str) -> Self {
        // What is quoted came from outside, and may be as long as it likes.
        Self { what, value: value.chars().take(100).collect(), rule }
    }
}

/// A repository of the forge: `owner/name`. Letter case counts for nothing, as on the forge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Repo(String);

impl Repo {
    /// Returns it as the forge's API spells it, `owner/name`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Repo {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let is_name = |name: &str| {
            (1..=100).contains(&name.len())
                && !name.starts_with(['.', '-'])
                && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        };
        match text.split_once('/') {
            Some((owner, name)) if is_name(owner) && is_name(name) => Ok(Self(text.to_ascii_lowercase())),
            _ => {
                let rule = "owner/name, each 1 to 100 of [A-Za-z0-9._-], first no dot or dash";
                Err(InvalidName::new("repository", text, rule))
            }
        }
    }
}

/// The full id of a commit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Sha(String);

impl Sha {
    /// The id that no commit has.
    pub fn none() -> Self {
        Self("0".repeat(40))
    }

    /// Returns its hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Sha {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if matches!(text.len(), 40 | 64) && hex {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName::new("commit", text, "40 or 64 of [0-9a-f]"))
        }
    }
}

/// What a job is looked up by in the CI. It follows from the comment alone: a bridge that lost its database finds the jobs
/// that it started before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Key(String);

impl Key {
    /// Returns the key of the request that `comment` in `repo` is, at the forge with that address.
    pub fn of(forge: &str, repo: &Repo, comment: u64) -> Self {
        let digest = Sha256::digest(format!("{forge}\n{}\n{comment}", repo.as_str()));
        let hex = digest.iter().take(12).fold(String::from("req-"), |mut hex, byte| {
            hex.extend([byte >> 4, byte & 15].map(|half| char::from_digit(half.into(), 16).unwrap_or('0')));
            hex
        });
        Self(hex)
    }

    /// Returns its text: `req-` and 24 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Key {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let hex =
            |rest: &str| rest.len() == 24 && rest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match text.strip_prefix("req-") {
            Some(rest) if hex(rest) => Ok(Self(text.to_owned())),
            _ => Err(InvalidName::new("key", text, "req- and 24 of [0-9a-f]")),
        }
    }
}

macro_rules! text_name {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }
    )*};
}
text_name!(Repo, Sha, Key);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_an_owner_and_a_name() {
        assert_eq!("Recipes/Notes".parse::<Repo>().unwrap().as_str(), "recipes/notes");
        for bad in
            ["", "notes", "/notes", "recipes/", "a/b/c", "../x", "a/..", "a/-b", "a/b?x=1", "a b/c", "a/b\n"]
        {
            assert!(bad.parse::<Repo>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_commit_is_named_whole() {
        assert!("74724b98cf7e31456073ff0b13c5ab328710aee2".parse::<Sha>().is_ok());
        for bad in ["", "74724b9", "74724B98CF7E31456073FF0B13C5AB328710AEE2", &"g".repeat(40), "HEAD"] {
            assert!(bad.parse::<Sha>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_key_is_of_one_comment_of_one_repository_of_one_forge() {
        let repo = |name: &str| name.parse::<Repo>().unwrap();
        let key = Key::of("https://git.example.org", &repo("recipes/notes"), 3);
        assert_eq!(key.as_str().parse::<Key>().unwrap(), key);
        assert_eq!(key, Key::of("https://git.example.org", &repo("recipes/NOTES"), 3));
        for other in [
            Key::of("https://git.example.com", &repo("recipes/notes"), 3),
            Key::of("https://git.example.org", &repo("recipes/note"), 3),
            Key::of("https://git.example.org", &repo("recipes/notes"), 4),
        ] {
            assert_ne!(key, other);
        }
        for bad in ["", "req-", "req-12", &format!("req-{}", "g".repeat(24)), "x"] {
            assert!(bad.parse::<Key>().is_err(), "{bad:?}");
        }
    }
}
