//! `explain`: all that is known of one comment.

use std::fmt::Write as _;

use cc_ci_core::Failure;
use cc_ci_core::sys::text::sanitize_line;

use crate::names::Repo;
use crate::request::{Refusal, State, Via};
use crate::store::Store;
use crate::trigger::Trigger;

/// Reads the address of a comment, as a forge shows it: `FORGE/owner/name/pulls/1#issuecomment-2`.
///
/// # Errors
/// When it is none of this forge's.
pub fn parse(url: &str, forge: &str) -> Result<(Repo, u64), Failure> {
    let read = || {
        let rest = url.strip_prefix(forge)?.strip_prefix('/')?;
        let (path, comment) = rest.split_once("#issuecomment-")?;
        let mut parts = path.split('/');
        let repo = format!("{}/{}", parts.next()?, parts.next()?);
        Some((repo.parse().ok()?, comment.parse().ok()?))
    };
    read().ok_or_else(|| {
        Failure::configuration("that is no comment's address")
            .with_hint(format!("copy its link: {forge}/OWNER/NAME/pulls/7#issuecomment-42"))
    })
}

/// Returns what is known of a comment, for people.
///
/// # Errors
/// When it can't be read.
pub fn explain(store: &Store, repo: &Repo, comment: u64) -> Result<String, Failure> {
    let Some(row) = store.by_comment(repo, comment)? else { return Ok(unknown(repo, comment) + "\n") };
    let asked = &row.request.asked;
    let via = via(asked.via);
    let mut text = String::new();
    // Writing to a string can't fail.
    let _ = writeln!(
        text,
        "comment {comment} of {repo}, on pull request {}, by {}",
        asked.pull,
        sanitize_line(&asked.author)
    );
    let _ = writeln!(text, "  made      {}", asked.created);
    let _ = writeln!(text, "  received  {} ({via})", asked.received);
    let _ = writeln!(text, "  is        {}", sanitize_line(&state(&row.request.state)));
    if row.failures > 0 {
        let _ = writeln!(text, "  failed    {} times in a row; tried again at {}", row.failures, row.due);
    }
    let told = store.told(row.request.id)?;
    if let Some(comment) = told.comment {
        let _ = writeln!(text, "  comment   {comment} of ours");
    }
    if let Some(status) = told.status {
        let _ = writeln!(text, "  status    {} on {}", status.state.as_str(), status.sha);
    }
    if let Some(foreigner) = told.foreigner {
        let _ = writeln!(text, "  beware    {} posted a status in our name", sanitize_line(&foreigner));
    }
    for line in store.history(row.request.id)? {
        let _ = writeln!(text, "  {}  {}", line.at, sanitize_line(&line.line));
    }
    Ok(text)
}

/// Returns what is said of a comment that nothing is known of.
pub fn unknown(repo: &Repo, comment: u64) -> String {
    format!(
        "comment {comment} of {repo} was not received\n\
         A request is a new comment on a pull request that is exactly `{}` or `{}`. Comments are read in the \
         repositories that `repos` names, since the bridge was started there first, and forgotten after `keep`.",
        Trigger::Cold.as_str(),
        Trigger::Quick.as_str()
    )
}

/// Returns how the bridge learned of a comment.
pub const fn via(via: Via) -> &'static str {
    match via {
        Via::Hook => "delivered by the forge",
        Via::Poll => "found by polling",
    }
}

/// Returns what became of a request.
pub fn state(state: &State) -> String {
    match state {
        State::Received => "received, and not judged yet".to_owned(),
        State::Refused { why } => format!("refused: {}", refusal(why)),
        State::Queued { head } => format!("queued, at {head}"),
        State::Superseded { by, .. } => format!("superseded by comment {by}"),
        State::Intent { head, asked, .. } => match asked {
            Some(asked) => format!("about to start, at {head}; the CI was asked at {asked}"),
            None => format!("about to start, at {head}"),
        },
        State::Started { head, job, .. } => {
            format!(
                "started as job {}{}, at {head}",
                job.number,
                job.url.as_ref().map_or(String::new(), |url| format!(" ({url})"))
            )
        }
        State::Ended { head, job, outcome, .. } => {
            let job = job.as_ref().map_or(String::new(), |job| format!(" of job {}", job.number));
            format!("ended{job}: {}, at {head}", outcome.verdict.as_str())
        }
    }
}

/// Why, for the operator: on the pull request some of it is not said.
pub fn refusal(why: &Refusal) -> String {
    match why {
        Refusal::NotExact => "it only looks like a request: the whole comment must be `!testme` or `!testme --quick`".to_owned(),
        Refusal::Bot => "a bot wrote it, or the bridge itself".to_owned(),
        Refusal::NotPermitted => "its author may not write to the repository and is not in `allow`".to_owned(),
        Refusal::PermissionUnknown => {
            "the forge does not tell the bridge's user who may write (it must be an administrator of the repository), and the \
             author is not in `allow`"
                .to_owned()
        }
        Refusal::Edited => "it was changed after it was made".to_owned(),
        Refusal::Deleted => "it was deleted".to_owned(),
        Refusal::Closed => "the pull request is not open".to_owned(),
        Refusal::PushedSince { head } => format!("the branch was pushed to since, to {head}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comments_address_is_of_this_forge() {
        let forge = "https://git.example.org";
        let (repo, comment) =
            parse("https://git.example.org/Recipes/notes/pulls/1#issuecomment-3", forge).unwrap();
        assert_eq!((repo.as_str(), comment), ("recipes/notes", 3));
        for bad in [
            "",
            "https://git.example.org/recipes/notes/pulls/1",
            "https://other.example.org/a/b/pulls/1#issuecomment-3",
            "https://git.example.org.evil/a/b/pulls/1#issuecomment-3",
            "https://git.example.org/a#issuecomment-3",
            "https://git.example.org/a/b/pulls/1#issuecomment-x",
        ] {
            assert!(parse(bad, forge).is_err(), "{bad:?}");
        }
    }
}
