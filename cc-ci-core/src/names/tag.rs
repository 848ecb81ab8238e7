//! Tags that look like releases and are none.

use std::fmt;

/// A tag that looks like a release and is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfitTag {
    /// Its name.
    pub name: String,
    /// Why it is none.
    pub fault: TagFault,
}

/// Why a tag is no release; it prints as what the tags are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TagFault {
    /// It is named like one, and is not annotated.
    Lightweight,
    /// It is named like one, and names another tag, or what is no commit.
    NoCommit,
    /// It has a number, and not the form `<recipe semver>+<upstream>`.
    Misnamed,
}

impl TagFault {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Lightweight, Self::NoCommit, Self::Misnamed];

    /// Returns the sentence that says it of `tags`.
    pub(crate) fn of(self, tags: &str) -> String {
        format!("{self} are no releases: {tags}")
    }
}

impl fmt::Display for TagFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lightweight => "tags that are not annotated",
            Self::NoCommit => "tags of another tag, or of no commit",
            Self::Misnamed => "tags that are not named <recipe semver>+<upstream>",
        })
    }
}
