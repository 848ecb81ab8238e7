//! What asks for a test: a comment that is exactly that.

use serde::{Deserialize, Serialize};

/// Which test a comment asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// `!testme`: the cold lane.
    Cold,
    /// `!testme --quick`: the quick lane, which proves less.
    Quick,
}

impl Trigger {
    /// Returns what the comment `body` asks for: it is the whole comment but for space around it, so that nothing quoted,
    /// in a code block or in a sentence is taken for an order.
    pub fn parse(body: &str) -> Option<Self> {
        match body.trim() {
            "!testme" => Some(Self::Cold),
            "!testme --quick" => Some(Self::Quick),
            _ => None,
        }
    }

    /// Whether a comment was perhaps meant as a request: worth a line where somebody asks why nothing happened.
    pub fn is_attempt(body: &str) -> bool {
        body.trim_start().starts_with("!testme")
    }

    /// Returns the comment that asks for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "!testme",
            Self::Quick => "!testme --quick",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_the_whole_comment() {
        for good in ["!testme", " !testme\r\n", "\n\t!testme \n"] {
            assert_eq!(Trigger::parse(good), Some(Trigger::Cold), "{good:?}");
        }
        assert_eq!(Trigger::parse("!testme --quick\n"), Some(Trigger::Quick));
        for bad in [
            "",
            "testme",
            "!testmexyz",
            "!testme foo",
            "!testme  --quick",
            "!testme --quick x",
            "!TESTME",
            "please !testme",
            "`!testme`",
            "```\n!testme\n```",
            "> !testme",
            "!testme\n!testme",
            "!testme\0",
            "\u{200b}!testme",
            "!testme --quick --quick",
            "<!-- -->!testme",
        ] {
            assert_eq!(Trigger::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_request_with_a_slip_is_known_as_an_attempt() {
        assert!(Trigger::is_attempt("!testme please"));
        assert!(!Trigger::is_attempt("do you !testme"));
    }
}
