//! Why a recipe could not be fetched, and whose fault it is.

use std::io;
use std::path::PathBuf;

use super::WorkspaceError;
use super::git::GitError;
use super::source::InvalidSource;
use crate::model::error_chain;
use crate::model::failure::{Failure, Fault};

/// What git says where a server wants to know who asks.
const SIGN_IN: [&str; 3] = ["could not read Username", "could not read Password", "Authentication failed"];

/// A recipe could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The source names no recipe.
    #[error(transparent)]
    Source(#[from] InvalidSource),
    /// A recipe was given by name, and there is no canonical tree.
    #[error("{name} is looked for in the canonical abra tree, and there is none")]
    NoCanonicalTree {
        /// The recipe.
        name: String,
    },
    /// There is nothing at the source's path.
    #[error("can't use the recipe at {path}")]
    Path {
        /// Which path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// What is at the source's path is no repository.
    #[error("{path} is no git repository")]
    NoRepository {
        /// Which path.
        path: PathBuf,
    },
    /// A local repository that says what was released has not all of its history.
    #[error("{path} says what was released, and its history is cut: it is a shallow clone")]
    Shallow {
        /// Which.
        path: PathBuf,
    },
    /// git takes no commit of a history that is cut.
    #[error("the history of {source_name} is cut: it is a shallow clone")]
    CutHistory {
        /// The source.
        source_name: String,
    },
    /// git gives no content that the source itself would have to fetch.
    #[error("{source_name} has not all of its content: it is a partial clone")]
    Partial {
        /// The source.
        source_name: String,
    },
    /// The source names its objects by SHA-256.
    #[error("{source_name} is a repository with SHA-256 object names")]
    Sha256 {
        /// The source.
        source_name: String,
    },
    /// A branch or tag is named like the beginning of another commit's id.
    #[error(
        "{revision} is a branch or tag of {source_name}, and the beginning of the id of {commit}: give all of its digits"
    )]
    LooksLikeId {
        /// The source.
        source_name: String,
        /// What was asked for.
        revision: String,
        /// The other commit.
        commit: String,
    },
    /// The repository has no such commit.
    #[error("{source_name} has no {revision}: neither branch, tag nor commit")]
    NoSuchRevision {
        /// The source.
        source_name: String,
        /// What was asked for.
        revision: String,
    },
    /// A branch and a tag share the name, and name different commits.
    #[error(
        "{revision} is a branch and a tag of {source_name}: say refs/heads/{revision} or refs/tags/{revision}"
    )]
    Ambiguous {
        /// The source.
        source_name: String,
        /// What was asked for.
        revision: String,
    },
    /// git failed.
    #[error("can't fetch {source_name}")]
    Git {
        /// The source.
        source_name: String,
        /// What git said.
        #[source]
        source: GitError,
    },
    /// The run's own tree can't be used.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
}

impl FetchError {
    /// What git said of the source.
    pub(super) fn of_git(source_name: &str, source: GitError) -> Self {
        let source_name = source_name.to_owned();
        if source.says("from promisor remote") {
            Self::Partial { source_name }
        } else if source.says("mismatched algorithms") {
            Self::Sha256 { source_name }
        } else {
            Self::Git { source_name, source }
        }
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        if let FetchError::NoRepository { .. } = error {
            let hint = "name a repository's own top, e.g. a clone of the recipe; or make it one: git init, git commit";
            return Self::configuration(error_chain(&error)).with_hint(hint);
        }
        if let FetchError::Shallow { .. } | FetchError::CutHistory { .. } = error {
            let hint = "fetch all of it, there: git fetch --unshallow --tags";
            return Self::configuration(error_chain(&error)).with_hint(hint);
        }
        if let FetchError::Partial { .. } = error {
            let hint = "clone it anew, without --filter";
            return Self::configuration(error_chain(&error)).with_hint(hint);
        }
        if let FetchError::Sha256 { .. } = error {
            let hint =
                "use one with SHA-1 object names, as abra and forges do: git init --object-format=sha1";
            return Self::configuration(error_chain(&error)).with_hint(hint);
        }
        if let FetchError::Git { source, .. } = &error
            && SIGN_IN.iter().any(|words| source.says(words))
        {
            let hint =
                "name in a file with what git signs in there: [git] credentials_file in the configuration";
            return Self::host(error_chain(&error)).with_hint(hint);
        }
        let fault = match error {
            // What was asked for is not there: nothing was changed yet.
            FetchError::Source(_)
            | FetchError::NoCanonicalTree { .. }
            | FetchError::Path { .. }
            | FetchError::NoRepository { .. }
            | FetchError::Shallow { .. }
            | FetchError::CutHistory { .. }
            | FetchError::Partial { .. }
            | FetchError::Sha256 { .. }
            | FetchError::LooksLikeId { .. }
            | FetchError::NoSuchRevision { .. }
            | FetchError::Ambiguous { .. } => Fault::Configuration,
            FetchError::Git { .. } | FetchError::Workspace(_) => Fault::Host,
        };
        Self::new(fault, error_chain(&error))
    }
}
