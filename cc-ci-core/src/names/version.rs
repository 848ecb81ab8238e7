//! Release versions: `<recipe semver>+<upstream>`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::InvalidName;

/// A recipe's release, e.g. `2.0.1+1.0.6-social-amd64`.
///
/// Two releases can differ only behind the `+`, where semver knows no order; so the order here is that of the
/// recipe's part alone, and who needs a total order adds the tag's date.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(into = "String", try_from = "String")]
pub struct Version {
    recipe: semver::Version,
    upstream: String,
}

impl Version {
    /// The upstream's part, as the recipe's author wrote it.
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// Precedence by the recipe's part; the upstream's part takes no part in it.
    pub fn cmp_recipe_part(&self, other: &Self) -> std::cmp::Ordering {
        self.recipe.cmp_precedence(&other.recipe)
    }
}

impl FromStr for Version {
    type Err = InvalidName;
    fn from_str(value: &str) -> Result<Self, InvalidName> {
        let error = |rule| InvalidName::new("version", value, rule);
        let (recipe, upstream) = value
            .split_once('+')
            .ok_or_else(|| error("a release is <recipe semver>+<upstream>, e.g. 1.2.0+1.27.0"))?;
        let recipe =
            semver::Version::parse(recipe).map_err(|_| error("the part before + is a semantic version"))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
        if upstream.is_empty() || value.len() > 128 || !upstream.chars().all(plain) {
            return Err(error("the part after + is 1 or more of [A-Za-z0-9._+-], 128 characters in all"));
        }
        Ok(Self { recipe, upstream: upstream.to_owned() })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.recipe, self.upstream)
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl TryFrom<String> for Version {
    type Error = InvalidName;
    fn try_from(value: String) -> Result<Self, InvalidName> {
        value.parse()
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;

    #[test]
    fn releases_are_ordered_by_the_recipe_part_alone() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert_eq!(version("1.10.0+1").cmp_recipe_part(&version("1.9.0+2")), Ordering::Greater);
        assert_eq!(version("1.0.0+1").cmp_recipe_part(&version("1.0.0+2")), Ordering::Equal);
        assert_eq!(version("2.0.1+1.0.6-social-amd64").to_string(), "2.0.1+1.0.6-social-amd64");
    }

    #[test]
    fn what_is_no_release_is_refused_by_its_rule() {
        for bad in ["", "1.2.0", "1.2+1", "v1.2.0+1", "1.2.0+", "1.2.0+a b", "1.2.0+$(id)", "../1.2.0+1"] {
            assert!(bad.parse::<Version>().is_err(), "{bad:?}");
        }
    }
}
