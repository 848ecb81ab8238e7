//! Domains, their suffixes and their stacks.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{InvalidName, RecipeName, Subject, string_name};

/// What follows the first label of every run app's domain, e.g. `ci.example.org`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(into = "String", try_from = "String")]
pub struct Suffix(String);
string_name!(Suffix);

impl FromStr for Suffix {
    type Err = InvalidName;
    fn from_str(value: &str) -> Result<Self, InvalidName> {
        check_dns("suffix", value, 240).map(|()| Self(value.to_owned()))
    }
}

/// Address and name of an app: `immi-ad3e33.ci.example.org`.
///
/// Lower-case DNS labels joined by dots, at least two of them, so that it is also safe as a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(into = "String", try_from = "String")]
pub struct Domain(String);
string_name!(Domain);

impl FromStr for Domain {
    type Err = InvalidName;
    fn from_str(value: &str) -> Result<Self, InvalidName> {
        check_dns("domain", value, 200)?;
        if !value.contains('.') {
            return Err(InvalidName::new(
                "domain",
                value,
                "a domain has at least two labels, e.g. app.example.org",
            ));
        }
        Ok(Self(value.to_owned()))
    }
}

impl Domain {
    /// The domain of a run: the same recipe and pull request always get the same one.
    ///
    /// Its first label is the recipe's name in lower case, only `[a-z0-9]`, cut to 4 characters (`x` if nothing
    /// is left), a dash, and the first 6 hex digits of SHA-256 over `recipe`, a line feed and the subject.
    pub fn of_run(recipe: &RecipeName, subject: &Subject, suffix: &Suffix) -> Self {
        let mut prefix: String = recipe
            .as_str()
            .chars()
            .map(|c| c.to_ascii_lowercase())
            .filter(char::is_ascii_alphanumeric)
            .take(4)
            .collect();
        if prefix.is_empty() {
            prefix.push('x');
        }
        let digest = Sha256::digest(format!("{recipe}\n{subject}"));
        Self(format!("{prefix}-{:02x}{:02x}{:02x}.{suffix}", digest[0], digest[1], digest[2]))
    }

    /// The Swarm stack of this app.
    pub fn stack(&self) -> Stack {
        Stack(self.0.replace('.', "_"))
    }
}

/// A domain with `.` as `_`: the namespace of an app's Docker objects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(into = "String", try_from = "String")]
pub struct Stack(String);
string_name!(Stack);

impl FromStr for Stack {
    type Err = InvalidName;
    fn from_str(value: &str) -> Result<Self, InvalidName> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let starts_well = value.starts_with(|c: char| c.is_ascii_alphanumeric());
        if value.len() > 200 || !starts_well || !value.chars().all(plain) {
            return Err(InvalidName::new(
                "stack",
                value,
                "1 to 200 of [A-Za-z0-9._-], first a letter or digit",
            ));
        }
        Ok(Self(value.to_owned()))
    }
}

impl Stack {
    /// The longest stack name that leaves room for the names that a recipe derives from it.
    pub const MAX_LEN: usize = 45;

    /// The longest of `known` stacks that owns the object called `name` (I12): `a_ci_org_uk_db` belongs to
    /// `a_ci_org_uk`, never to `a_ci_org`.
    pub fn owner_of<'a>(name: &str, known: impl IntoIterator<Item = &'a Self>) -> Option<&'a Self> {
        known.into_iter().filter(|stack| stack.prefixes(name)).max_by_key(|stack| stack.0.len())
    }

    /// Whether `name` is this stack's own name or begins with it and an underscore.
    pub fn prefixes(&self, name: &str) -> bool {
        name.strip_prefix(&self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    }
}

fn check_dns(what: &'static str, value: &str, max: usize) -> Result<(), InvalidName> {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    if value.len() <= max && value.split('.').all(label) {
        Ok(())
    } else {
        Err(InvalidName::new(
            what,
            value,
            "lower-case DNS labels of [a-z0-9-] joined by dots, 200 characters at most",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(name: &str) -> RecipeName {
        name.parse().unwrap()
    }

    #[test]
    fn the_same_pull_request_always_gets_the_same_domain() {
        let suffix: Suffix = "ci.example.org".parse().unwrap();
        let one = Domain::of_run(&recipe("immich"), &Subject::PullRequest(7), &suffix);
        // printf 'immich\npr-7' | sha256sum
        assert_eq!(one.as_str(), "immi-35308d.ci.example.org");
        assert_ne!(one, Domain::of_run(&recipe("immich"), &Subject::PullRequest(8), &suffix));
        assert_ne!(one, Domain::of_run(&recipe("immich"), &Subject::reference("7"), &suffix));
    }

    #[test]
    fn a_recipe_without_letters_still_gets_a_prefix() {
        let suffix: Suffix = "x.y".parse().unwrap();
        let domain = Domain::of_run(&recipe("__"), &Subject::PullRequest(1), &suffix);
        assert!(domain.as_str().starts_with("x-"), "{domain}");
    }

    #[test]
    fn names_from_outside_cannot_become_paths_or_options() {
        for bad in
            ["", "a", "..", "a..b", "../etc.x", "a/b.c", "-a.b", "a.b-", "A.b", "a b.c", "a\n.b", "a.b\0"]
        {
            assert!(bad.parse::<Domain>().is_err(), "{bad:?}");
        }
        let error = "A.b".parse::<Domain>().unwrap_err().to_string();
        assert!(error.contains("\"A.b\"") && error.contains("lower-case"), "{error}");
    }

    #[test]
    fn an_object_belongs_to_the_longest_known_stack() {
        let short: Stack = "a_ci_org".parse().unwrap();
        let long: Stack = "a_ci_org_uk".parse().unwrap();
        let known = [short.clone(), long.clone()];
        assert_eq!(Stack::owner_of("a_ci_org_uk_db", &known), Some(&long));
        assert_eq!(Stack::owner_of("a_ci_org_db", &known), Some(&short));
        assert_eq!(Stack::owner_of("a_ci_orgdb", &known), None);
    }
}
