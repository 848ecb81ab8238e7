//! A recipe's releases: its annotated tags that are named like one.

use jiff::Timestamp;

use super::git::GitError;
use super::source::CommitId;
use crate::names::{TagFault, UnfitTag, Version};

/// What `git for-each-ref` is asked for. Neither a NUL nor a line feed can be in a ref's name.
pub(super) const FORMAT: &str = "--format=%(refname:lstrip=2)%00%(objecttype)%00%(*objecttype)%00%(*objectname)%00\
                                 %(taggerdate:unix)";

/// One release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Its version: the tag's name.
    pub version: Version,
    /// The commit that the tag names.
    pub commit: CommitId,
    /// When it was tagged; the epoch where the tag does not say.
    pub tagged_at: Timestamp,
}

/// The releases of a recipe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Releases {
    /// Newest first: by the recipe's part of the version, then by the tag's date.
    pub releases: Vec<Release>,
    /// Tags that look like a release and are none.
    pub unfit: Vec<UnfitTag>,
}

/// Whether a tag that is no version was meant as one: `v1.0.3`, `1.2`, `1.2.0-1`.
fn looks_like_a_version(name: &str) -> bool {
    let digits = name.strip_prefix(['v', 'V']).unwrap_or(name);
    digits.split_once('.').is_some_and(|(major, rest)| {
        !major.is_empty()
            && major.bytes().all(|b| b.is_ascii_digit())
            && rest.starts_with(|c: char| c.is_ascii_digit())
    })
}

impl Releases {
    /// The release that names exactly this commit; the newest, if several do.
    pub fn at(&self, commit: &CommitId) -> Option<&Release> {
        self.releases.iter().find(|release| release.commit == *commit)
    }

    /// Reads what git answered to [`FORMAT`].
    pub(super) fn parse(lines: &[String]) -> Result<Self, GitError> {
        let mut found = Self::default();
        for line in lines {
            let fields: Vec<&str> = line.split('\0').collect();
            let [name, kind, peeled_kind, peeled, date] = fields[..] else {
                return Err(GitError::answer("for-each-ref", line));
            };
            let mut unfit = |fault| found.unfit.push(UnfitTag { name: name.to_owned(), fault });
            let Ok(version) = name.parse::<Version>() else {
                if looks_like_a_version(name) {
                    unfit(TagFault::Misnamed);
                }
                continue;
            };
            match (kind, peeled_kind) {
                ("commit", _) => unfit(TagFault::Lightweight),
                ("tag", "commit") => {
                    let commit = peeled.parse().map_err(|_| GitError::answer("for-each-ref", line))?;
                    // A tag may lack its date, or have one that no calendar knows.
                    let second = date.parse().ok().and_then(|second| Timestamp::from_second(second).ok());
                    found.releases.push(Release {
                        version,
                        commit,
                        tagged_at: second.unwrap_or(Timestamp::UNIX_EPOCH),
                    });
                }
                _ => unfit(TagFault::NoCommit),
            }
        }
        found.releases.sort_by(|one, other| {
            let by_version = other.version.cmp_recipe_part(&one.version);
            let by_date = other.tagged_at.cmp(&one.tagged_at);
            // The name last, so that the order never depends on how git lists them.
            by_version.then(by_date).then_with(|| other.version.upstream().cmp(one.version.upstream()))
        });
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(fields: [&str; 5]) -> String {
        fields.join("\0")
    }

    fn annotated(name: &str, commit: &str, date: &str) -> String {
        line([name, "tag", "commit", &commit.repeat(40), date])
    }

    #[test]
    fn releases_are_ordered_by_version_and_then_by_date() {
        let lines = [
            annotated("1.9.0+1.0", "a", "900"),
            annotated("1.10.0+1.0", "b", "100"),
            annotated("1.10.0+1.1", "c", "200"),
            annotated("1.10.0+0.9", "d", "200"),
            annotated("not-a-release", "e", "300"),
            line(["2.0.0+1.0", "commit", "", "", ""]),
            line(["3.0.0+1.0", "tag", "blob", &"e".repeat(40), "1"]),
            line(["4.0.0+1.0", "tag", "tag", &"e".repeat(40), "1"]),
            line(["v1.0.3", "commit", "", "", ""]),
            annotated("1.0", "e", "300"),
            annotated("before-1.0", "e", "300"),
            annotated("v.1", "e", "300"),
        ];
        let found = Releases::parse(&lines).unwrap();
        let names: Vec<String> = found.releases.iter().map(|release| release.version.to_string()).collect();
        assert_eq!(names, ["1.10.0+1.1", "1.10.0+0.9", "1.10.0+1.0", "1.9.0+1.0"]);
        let unfit: Vec<_> = found.unfit.iter().map(|tag| (tag.name.as_str(), tag.fault)).collect();
        let expected = [
            ("2.0.0+1.0", TagFault::Lightweight),
            ("3.0.0+1.0", TagFault::NoCommit),
            ("4.0.0+1.0", TagFault::NoCommit),
            ("v1.0.3", TagFault::Misnamed),
            ("1.0", TagFault::Misnamed),
        ];
        assert_eq!(unfit, expected);
        let commit = "b".repeat(40).parse().unwrap();
        assert_eq!(found.at(&commit).unwrap().version.to_string(), "1.10.0+1.0");
        assert_eq!(found.at(&"e".repeat(40).parse().unwrap()), None);
    }

    #[test]
    fn a_strange_answer_is_an_error_and_a_strange_date_is_not() {
        assert!(Releases::parse(&["1.0.0+1".to_owned()]).is_err());
        assert!(Releases::parse(&[line(["1.0.0+1", "tag", "commit", "short", "1"])]).is_err());
        for date in ["", "-1", "99999999999999999"] {
            let found = Releases::parse(&[annotated("1.0.0+1", "a", date)]).unwrap();
            assert_eq!(found.releases.len(), 1, "{date:?}");
        }
    }
}
