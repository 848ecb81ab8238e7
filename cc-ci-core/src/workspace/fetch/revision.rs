//! Which commit the name of a revision means.

use std::ffi::OsString;

use super::super::fetch_error::FetchError;
use super::super::git::{Git, GitError};
use super::super::recipe_tree::commit_of;
use super::super::source::{CommitId, Revision};
use super::{BRANCHES, Fetching, PULLS};

impl Fetching<'_> {
    pub fn no_such_revision(&self) -> FetchError {
        let revision = self.revision.as_ref().map_or("HEAD", Revision::as_str).to_owned();
        FetchError::NoSuchRevision { source_name: self.source_name.clone(), revision }
    }

    /// The id of what is wanted, as the source says; `None` when only the history can tell.
    pub async fn find(&self, reading: &Git, address: &OsString) -> Result<Option<String>, FetchError> {
        let revision = self.revision.as_ref().map(Revision::name).filter(|name| *name != "HEAD");
        if let Some(id) = revision.and_then(|name| name.parse::<CommitId>().ok()) {
            return Ok(Some(id.to_string()));
        }
        let names: Vec<String> = match revision {
            None => vec!["HEAD".to_owned()],
            Some(name) if name.starts_with("refs/") => vec![name.to_owned()],
            Some(name) => vec![format!("refs/heads/{name}"), format!("refs/tags/{name}")],
        };
        let mut args: Vec<OsString> = vec!["ls-remote".into(), "--".into(), address.clone()];
        args.extend(names.iter().map(OsString::from));
        let lines = reading.run_nowhere(self.lifetime, args, self.left()).await;
        let lines = lines.map_err(|error| self.git_error(error))?;
        // git takes the names for patterns, which match the ends of longer names too.
        let ids: Vec<&str> = lines
            .iter()
            .filter_map(|line| line.split_once('\t'))
            .filter(|(_, name)| names.iter().any(|wanted| wanted == name))
            .map(|(id, _)| id)
            .collect();
        match ids[..] {
            [id] => Ok(Some(id.to_owned())),
            [one, other] if one == other => Ok(Some(one.to_owned())),
            [] if self.revision.as_ref().is_some_and(Revision::may_be_abbreviated) => Ok(None),
            [] => Err(self.no_such_revision()),
            _ => Err(FetchError::Ambiguous {
                source_name: self.source_name.clone(),
                revision: revision.unwrap_or_default().to_owned(),
            }),
        }
    }

    /// Refuses a branch or tag of the commit `named` that is named like the beginning of another commit's id: whoever gave
    /// that meant the commit.
    pub async fn guard_abbreviated(
        &self,
        reading: &Git,
        address: &OsString,
        named: &str,
    ) -> Result<(), FetchError> {
        let fail = |error| self.git_error(error);
        let named = known(commit_of(&self.git, self.lifetime, named).await).map_err(fail)?;
        self.git_fetch(reading, address, &[BRANCHES, PULLS]).await.map_err(fail)?;
        let revision = self.revision.as_ref().map(Revision::name).unwrap_or_default();
        let args = ["rev-parse".to_owned(), format!("--disambiguate={revision}")];
        for object in self.git.run(self.lifetime, args, self.left()).await.map_err(fail)? {
            let commit = known(commit_of(&self.git, self.lifetime, &object).await).map_err(fail)?;
            // A tag's own id names its commit, too.
            let is_other =
                |commit: &CommitId| Some(commit) != named.as_ref() && commit.as_str().starts_with(revision);
            if let Some(commit) = commit.filter(is_other) {
                return Err(FetchError::LooksLikeId {
                    source_name: self.source_name.clone(),
                    revision: revision.to_owned(),
                    commit: commit.to_string(),
                });
            }
        }
        Ok(())
    }
}

/// git says by its status alone that there is no such commit.
pub(super) fn known(commit: Result<CommitId, GitError>) -> Result<Option<CommitId>, GitError> {
    match commit {
        Err(GitError::Failed { .. }) => Ok(None),
        found => found.map(Some),
    }
}
