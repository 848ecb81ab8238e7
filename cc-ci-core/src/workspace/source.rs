//! Where a recipe comes from, and which commit of it: read once, at the edge.
//!
//! What stands here reaches git as an argument. So nothing that git would read as an option, as a program to run
//! (`ext::`) or as a pattern gets past the parsers.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::credentials::redact;
use crate::names::{InvalidName, RecipeName, string_name};

/// The schemes that a recipe's address may have.
const SCHEMES: [&str; 5] = ["https", "http", "ssh", "git", "file"];

/// Where a recipe comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecipeSource {
    /// A repository on this host.
    Path(PathBuf),
    /// A repository elsewhere: a URL, or `[user@]host:path`.
    Url(RemoteUrl),
    /// A recipe of the canonical tree.
    Name(RecipeName),
}

/// The address of a repository, without a secret. It prints without its user, too.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteUrl(String);

impl RemoteUrl {
    /// As git takes it.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact(&self.0))
    }
}

impl fmt::Debug for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why an address with a secret is refused, and what helps.
const NO_SECRET: &str = "it must have no user, password or query, which every user of this host would see: name a file that has \
                         them, [git] credentials_file in the configuration";

/// Whether an address has a password, or what may be one: a user whom http asks for none, and a query.
fn has_secret(scheme: &str, rest: &str) -> bool {
    let user = rest.split('/').next().and_then(|host| host.rsplit_once('@')).map(|(user, _)| user);
    rest.contains('?') || user.is_some_and(|user| matches!(scheme, "https" | "http") || user.contains(':'))
}

/// A text that names no recipe that we would fetch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid recipe {value:?}: {rule}")]
#[non_exhaustive]
pub struct InvalidSource {
    /// The text as it came, without user and password.
    pub value: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

impl FromStr for RecipeSource {
    type Err = InvalidSource;

    /// A text with `://` is a URL; one with a slash, `.` and `..` are paths; `host:path` is what ssh takes;
    /// anything else is a name in the canonical tree.
    fn from_str(text: &str) -> Result<Self, InvalidSource> {
        let bad = |rule| InvalidSource { value: redact(text), rule };
        if text.is_empty() || text.len() > 4096 {
            return Err(bad("1 to 4096 bytes"));
        }
        if text.starts_with('-') {
            return Err(bad("it must not begin with a dash: write ./-name for a path"));
        }
        if text.chars().any(char::is_control) {
            return Err(bad("it must not hold control characters"));
        }
        if let Some((scheme, rest)) = text.split_once("://")
            && !scheme.contains('/')
        {
            if !SCHEMES.contains(&scheme) {
                return Err(bad("the scheme must be https, http, ssh, git or file"));
            }
            let host = rest.split('/').next().unwrap_or_default();
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            if host.starts_with('-') || (host.is_empty() && scheme != "file") {
                return Err(bad("a URL needs a host, which must not begin with a dash"));
            }
            if has_secret(scheme, rest) {
                return Err(bad(NO_SECRET));
            }
            return Ok(Self::Url(RemoteUrl(text.to_owned())));
        }
        if text.contains("::") && !text.starts_with(['/', '.']) {
            return Err(bad("git's remote helpers (name::address) are not taken"));
        }
        let colon = text.find(':');
        let slash = text.find('/');
        match (colon, slash) {
            // As git reads it: a colon before the first slash makes it a host.
            (Some(colon), slash) if slash.is_none_or(|slash| colon < slash) => {
                let (host, path) = (&text[..colon], &text[colon + 1..]);
                let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
                if host.is_empty() || host.starts_with('-') || path.is_empty() || path.starts_with('-') {
                    return Err(bad("[user@]host:path, where neither host nor path begins with a dash"));
                }
                Ok(Self::Url(RemoteUrl(text.to_owned())))
            }
            (_, Some(_)) => Ok(Self::Path(PathBuf::from(text))),
            _ if matches!(text, "." | "..") => Ok(Self::Path(PathBuf::from(text))),
            _ => text.parse().map(Self::Name).map_err(|error: InvalidName| bad(error.rule)),
        }
    }
}

impl RecipeSource {
    /// The text that is read as this source in whatever directory it is said; `None` where a path is no text.
    pub fn in_writing(&self) -> Option<String> {
        match self {
            Self::Path(path) => std::path::absolute(path).ok()?.to_str().map(str::to_owned),
            Self::Url(url) => Some(url.0.clone()),
            Self::Name(name) => Some(name.to_string()),
        }
    }

    /// The recipe's name: the last part of its address, less `.git`.
    ///
    /// # Errors
    /// When that is no recipe's name, or the path can't be resolved.
    pub fn recipe_name(&self) -> Result<RecipeName, InvalidSource> {
        let bad = |rule| InvalidSource { value: self.to_string(), rule };
        let last = match self {
            Self::Name(name) => return Ok(name.clone()),
            Self::Path(path) => {
                // `.` and `..` are names only once they are resolved.
                let named = path.file_name().filter(|_| !path.ends_with(".") && !path.ends_with(".."));
                let name = match named {
                    Some(name) => name.to_owned(),
                    None => path
                        .canonicalize()
                        .ok()
                        .and_then(|path| path.file_name().map(std::ffi::OsStr::to_owned))
                        .ok_or_else(|| bad("the path must lead to a directory with a name"))?,
                };
                name.to_string_lossy().into_owned()
            }
            Self::Url(url) => {
                let address = url.0.split(['?', '#']).next().unwrap_or_default();
                address.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default().to_owned()
            }
        };
        let name = last.strip_suffix(".git").unwrap_or(&last);
        name.parse().map_err(|error: InvalidName| bad(error.rule))
    }
}

impl fmt::Display for RecipeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Url(url) => url.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// A commit's full id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct CommitId(String);
string_name!(CommitId);

impl FromStr for CommitId {
    type Err = InvalidName;
    fn from_str(value: &str) -> Result<Self, InvalidName> {
        if matches!(value.len(), 40 | 64) && is_hex(value) {
            return Ok(Self(value.to_ascii_lowercase()));
        }
        Err(InvalidName::new("commit id", value, "40 or 64 hex digits"))
    }
}

impl CommitId {
    /// Its first 10 digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..10]
    }
}

/// Which commit of a repository is meant: a full or abbreviated id, or the name of a branch, tag or ref; or an ancestor
/// of that, as git writes it: `main~2`, `HEAD^`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Revision(String);
string_name!(Revision);

impl FromStr for Revision {
    type Err = InvalidName;
    fn from_str(value: &str) -> Result<Self, InvalidName> {
        // What git takes for a ref's name, less what a refspec or pattern would read into it.
        let plain = |c: char| c.is_alphanumeric() || "-_./+#%,@=&()'!".contains(c);
        let part =
            |part: &str| !part.is_empty() && !part.starts_with('.') && part.strip_suffix(".lock").is_none();
        let (name, ancestor) = value.split_at(ancestor_of(value));
        let is_ancestor = ancestor.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'~' | b'^'));
        let well_formed = value.len() <= 200
            && is_ancestor
            && !name.starts_with(['-', '!'])
            && !name.ends_with('.')
            && !name.contains("..")
            && name != "@"
            && name.chars().all(plain)
            && name.split('/').all(part);
        if !well_formed {
            let rule = "a commit id, or the name of a branch or tag: letters, digits and -_./+#%,@=&()'!; behind it may \
                        stand ~N or ^";
            return Err(InvalidName::new("revision", value, rule));
        }
        Ok(Self(value.to_owned()))
    }
}

impl Revision {
    /// What a repository may know by its name: all of it but the way to an ancestor.
    pub(super) fn name(&self) -> &str {
        &self.0[..ancestor_of(&self.0)]
    }

    /// The way from there to the ancestor that is meant: `~2`; mostly nothing.
    pub(super) fn ancestor(&self) -> &str {
        &self.0[ancestor_of(&self.0)..]
    }

    /// Whether its name can be the beginning of an id.
    pub(super) fn may_be_abbreviated(&self) -> bool {
        self.name().len() >= 7 && is_hex(self.name()) && self.name().parse::<CommitId>().is_err()
    }
}

/// Where in a revision the way to an ancestor begins. No name has these in it.
fn ancestor_of(revision: &str) -> usize {
    revision.find(['~', '^']).unwrap_or(revision.len())
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RecipeSource, InvalidSource> {
        text.parse()
    }

    #[test]
    fn addresses_are_told_apart_and_named() {
        for (text, name) in [
            ("https://example.org/recipes/immich.git", "immich"),
            ("https://example.org/immich/", "immich"),
            ("ssh://git@example.org:2222/a/immich", "immich"),
            ("git@example.org:immich.git", "immich"),
            ("example.org:a/immich", "immich"),
            ("file:///srv/immich.git", "immich"),
        ] {
            let source = parse(text).unwrap();
            assert!(matches!(source, RecipeSource::Url(_)), "{text}");
            assert_eq!(source.recipe_name().unwrap().as_str(), name, "{text}");
        }
        for (text, name) in
            [("./immich", "immich"), ("/srv/immich.git/", "immich"), ("a/b:c/immich", "immich")]
        {
            let source = parse(text).unwrap();
            assert!(matches!(source, RecipeSource::Path(_)), "{text}");
            assert_eq!(source.recipe_name().unwrap().as_str(), name, "{text}");
        }
        assert!(matches!(parse("immich").unwrap(), RecipeSource::Name(_)));
        let here = std::env::current_dir().unwrap();
        let name = parse(".").unwrap().recipe_name().unwrap();
        assert_eq!(name.as_str(), here.file_name().unwrap().to_str().unwrap());
    }

    #[test]
    fn what_git_would_run_or_read_as_an_option_is_refused() {
        for bad in [
            "",
            "-u",
            "--upload-pack=touch x",
            "ext::sh -c id",
            "fd::7/x",
            "ftp://example.org/x",
            "ext://x",
            "https://-oProxyCommand=id/x",
            "ssh://u@-oProxyCommand=id/x",
            "https:///x",
            "-oProxyCommand=id:x",
            "u@-oProxyCommand=id:x",
            "host:-x",
            "host:",
            ":x",
            "a\nb",
            "a b",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_address_with_a_secret_is_refused_without_its_words() {
        for secret in [
            "https://me:hunter22@example.org/notes",
            "https://hunter22@example.org/notes",
            "ssh://me:hunter22@example.org/notes",
            "https://example.org/notes?token=hunter22",
            "https://example.org?token=hunter22",
            "ftp://me:hunter22@example.org/immich",
        ] {
            let error = parse(secret).unwrap_err();
            assert!(!format!("{error:?} {error}").contains("hunter22"), "{error}");
        }
        assert!(parse("https://me:x@example.org/notes").unwrap_err().rule.contains("credentials_file"));
        assert_eq!(parse("ssh://git@example.org/notes").unwrap().to_string(), "ssh://example.org/notes");
    }

    #[test]
    fn what_is_written_down_names_the_same_anywhere() {
        let written = |text: &str| parse(text).unwrap().in_writing();
        for same in [
            "https://example.org/notes",
            "ssh://git@example.org/notes",
            "git@example.org:notes",
            "notes",
            "/notes",
        ] {
            assert_eq!(written(same).as_deref(), Some(same));
        }
        let here = std::env::current_dir().unwrap();
        assert_eq!(written("./notes").unwrap(), here.join("notes").to_str().unwrap());
    }

    #[test]
    fn revisions_cannot_become_options_refspecs_or_patterns() {
        for good in [
            "main",
            "feature/a-b",
            "1.2.0+1.27.0",
            "refs/pull/7/head",
            "deadbeef",
            "dépôt",
            "renovate/@types-node",
            "it's",
            "a&b",
            "x=1",
            "(draft)",
            "HEAD~1",
            "main^",
            "main^2~3",
        ] {
            assert!(good.parse::<Revision>().is_ok(), "{good}");
        }
        let revision: Revision = "a/b~2^".parse().unwrap();
        assert_eq!((revision.name(), revision.ancestor()), ("a/b", "~2^"));
        for bad in [
            "", "-f", "a..b", "a:b", "+a:b", "^a", "~1", "@", "a~x", "a^{tree}", "a~1/b", "!a", "a@{1}",
            "a*", "a?", "a[b", "a b", "a\\b", "/a", "a/", "a//b", ".a", "a/.b", "a.lock", "a.", "a\0",
        ] {
            assert!(bad.parse::<Revision>().is_err(), "{bad:?}");
        }
        assert!("A".repeat(40).parse::<CommitId>().is_ok_and(|id| id.as_str() == "a".repeat(40)));
        assert!("a".repeat(39).parse::<CommitId>().is_err());
    }
}
