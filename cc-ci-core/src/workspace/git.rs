//! The git command as a child of the run, told what it may not do.
//!
//! A repository can name programs in many places: hooks, filters, drivers, an fsmonitor, remote helpers, an
//! askpass, a pager. None of them ever runs here: no configuration but our own is read, ours is written anew
//! before each use, hooks are looked for in `/dev/null`, attributes can name filters but nothing defines them,
//! and only five transports are allowed. So a tree may differ from what a configured checkout makes of it: files
//! kept with git-lfs stay pointers.
//!
//! # Limitations
//! With what it signs in over http and https is in its environment, and in that of its helpers, which their user and root can
//! read. An ssh agent is not passed on; keys in their usual places are found. Repositories with SHA-256 object names are refused.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::RunDir;
use super::credentials::{GitCredentials, redact};
use crate::lifetime::{ChildError, Command, Ended, RunLifetime, RunLifetimeExt as _, Stream};
use crate::model::error_chain;
use crate::model::failure::Failure;
use crate::sys::blocking;
use crate::sys::files::{remove_tree, remove_tree_until, replace_file};
use crate::sys::process::Marker;
use crate::sys::programs;

/// How much of git's own words an error keeps.
const LAST_LINES: usize = 8;

/// What git says, in the kernel's words, of a host in trouble.
const HOST_TROUBLE: [&str; 8] = [
    "No space left on device",
    "Disk quota exceeded",
    "Input/output error",
    "Read-only file system",
    "Cannot allocate memory",
    "Out of memory",
    "Too many open files",
    "Resource temporarily unavailable",
];

/// What a script of the recipe may have left in a clone: programs and settings that git would obey, and locks that it
/// would respect. Nobody else works there while we do.
const IN_THE_WAY: [&str; 11] = [
    "hooks",
    "config.worktree",
    "commondir",
    "modules",
    "worktrees",
    "info/attributes",
    "config.lock",
    "index.lock",
    "HEAD.lock",
    "packed-refs.lock",
    "shallow.lock",
];

/// What nobody's configuration may change.
const OVERRIDES: [&str; 13] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "protocol.ext.allow=never",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=no",
    "credential.helper=",
    "gc.auto=0",
    "maintenance.auto=false",
    "init.defaultBranch=main",
    "advice.detachedHead=false",
];

/// The whole configuration of a run's clone. The prefix that is replaced is empty, so it is every address's: a
/// push goes to a transport that does not exist (I13). There is no remote.
const CONFIG: &str = "[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = false
\tlogallrefupdates = true
[url \"cc-ci-refuses-to-push://\"]
\tpushInsteadOf = \"\"
[protocol \"cc-ci-refuses-to-push\"]
\tallow = never
";

/// What git reads as its user's configuration while it fetches: a source may belong to another user.
const FETCH_CONFIG: &str = "[safe]\n\tdirectory = *\n";

/// git did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GitError {
    /// It ran, and failed.
    #[error("git {command} failed with {ended}{}", quoted(.message))]
    Failed {
        /// The subcommand.
        command: String,
        /// How it ended.
        ended: Ended,
        /// Its last lines; users and passwords in addresses are taken out.
        message: Vec<String>,
    },
    /// It could not be started, took too long, or the run ended.
    #[error("can't run git {command}")]
    Child {
        /// The subcommand.
        command: String,
        /// Why.
        #[source]
        source: ChildError,
    },
    /// It said something that we do not understand.
    #[error("git {command} gave an unexpected answer: {line:?}")]
    Answer {
        /// The subcommand.
        command: String,
        /// What it said.
        line: String,
    },
    /// The clone's own configuration could not be put in place.
    #[error("can't {doing} {path}")]
    Io {
        /// What was being done, in words.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl From<GitError> for Failure {
    fn from(error: GitError) -> Self {
        Self::host(error_chain(&error))
    }
}

impl GitError {
    pub(super) fn answer(command: &str, line: impl Into<String>) -> Self {
        Self::Answer { command: command.to_owned(), line: line.into() }
    }

    /// Whether it is the repository that is wrong, as far as that can be told: git came to an end of its own and did
    /// not speak of the host, or what it works on is not there.
    pub(crate) fn is_of_repository(&self) -> bool {
        match self {
            Self::Failed { ended, message, .. } => {
                let of_host =
                    message.iter().any(|line| HOST_TROUBLE.iter().any(|trouble| line.contains(trouble)));
                ended.code.is_some() && !of_host
            }
            Self::Answer { .. } => true,
            Self::Io { source, .. } => {
                use io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied};
                matches!(source.kind(), NotFound | NotADirectory | IsADirectory | PermissionDenied)
            }
            Self::Child { .. } => false,
        }
    }

    /// Whether git came to an end with these words.
    pub(super) fn says(&self, words: &str) -> bool {
        matches!(self, Self::Failed { message, .. } if message.iter().any(|line| line.contains(words)))
    }

    /// Whether the run ended or the time was up: nothing is worth trying after that.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Child { .. })
    }
}

fn quoted(message: &[String]) -> String {
    if message.is_empty() { String::new() } else { format!(":\n  {}", message.join("\n  ")) }
}

/// git on one clone.
#[derive(Debug, Clone)]
pub(super) struct Git {
    program: PathBuf,
    root: PathBuf,
    home: PathBuf,
    environment: Vec<(OsString, OsString)>,
    credentials: GitCredentials,
    marker: Option<Marker>,
}

impl Git {
    /// git for the clone at `root`, which need not exist yet.
    pub(super) async fn new(run: &RunDir, root: PathBuf, marker: Option<Marker>) -> Self {
        let mut environment = run.environment();
        let path = environment.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.clone());
        let find = move || programs::find(OsStr::new("git"), &path.unwrap_or_default());
        // Found once, before anything of the recipe's has run. A host without it tells when it is needed.
        let program = blocking::run(find).await.unwrap_or_else(|_| "git".into());
        for (name, value) in [
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_ALLOW_PROTOCOL", "file:git:http:https:ssh"),
            ("GIT_NO_LAZY_FETCH", "1"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", "/bin/false"),
            ("SSH_ASKPASS", "/bin/false"),
            ("GIT_SSH_COMMAND", "ssh -oBatchMode=yes"),
            ("GIT_PAGER", "cat"),
        ] {
            environment.push((name.into(), value.into()));
        }
        // Outside of the clone no repository is looked for above the run's own directories.
        environment.push(("GIT_CEILING_DIRECTORIES".into(), run.root().into()));
        let credentials = GitCredentials::default();
        Self { program, root, home: run.home(), environment, credentials, marker }
    }

    /// The same git, which signs in with these where it fetches.
    pub(super) fn with_credentials(self, credentials: GitCredentials) -> Self {
        Self { credentials, ..self }
    }

    /// The clone's tree.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn git_dir(&self) -> PathBuf {
        self.root.join(".git")
    }

    /// The same git, with one more variable.
    pub(super) fn with_env(&self, name: &str, value: impl Into<OsString>) -> Self {
        let mut other = self.clone();
        other.environment.push((name.into(), value.into()));
        other
    }

    /// The same git with an index of its own, and where that is: nothing is there yet.
    pub(super) fn with_own_index(&self) -> Result<(Self, PathBuf), GitError> {
        let fail = |source| GitError::Io { doing: "make an index in", path: self.home.clone(), source };
        let index = self.home.join(format!(".index-{}", crate::sys::files::new_id().map_err(fail)?));
        Ok((self.with_env("GIT_INDEX_FILE", &index), index))
    }

    /// Removes the clone's own index: the next checkout knows of no file.
    pub(super) async fn forget_index(&self, lifetime: &dyn RunLifetime) -> Result<(), GitError> {
        let index = self.git_dir().join("index");
        let path = index.clone();
        let removed = lifetime.blocking_tasks().run(move || remove_tree(&path)).await;
        removed.map_err(|source| GitError::Io { doing: "remove", path: index, source })
    }

    /// The same git as it reads from somebody else's repository, the one at `address`.
    pub(super) async fn fetching(
        &self,
        lifetime: &dyn RunLifetime,
        address: &OsStr,
    ) -> Result<Self, GitError> {
        let path = self.home.join(".gitconfig");
        let config = path.clone();
        let write = move || replace_file(&config, FETCH_CONFIG.as_bytes());
        let written = lifetime.blocking_tasks().run(write).await;
        written.map_err(|source| GitError::Io { doing: "write", path: path.clone(), source })?;
        let mut other = self.with_env("GIT_CONFIG_GLOBAL", path);
        other.environment.extend(self.credentials.environment(&address.to_string_lossy()));
        Ok(other)
    }

    /// Makes an empty repository of ours.
    pub(super) async fn init(&self, lifetime: &dyn RunLifetime, limit: Duration) -> Result<(), GitError> {
        let args = ["init", "--quiet", "--template=", "--"].map(OsString::from);
        let args = args.into_iter().chain([self.root.clone().into()]);
        self.launch(lifetime, &self.home, args.collect(), limit).await?;
        let git = self.clone();
        lifetime.blocking_tasks().run(move || git.neutralise(&|| false)).await
    }

    /// Runs `git <args>` in the clone; returns the lines of its standard output.
    pub(super) async fn run<A: AsRef<OsStr>>(
        &self,
        lifetime: &dyn RunLifetime,
        args: impl IntoIterator<Item = A>,
        limit: Duration,
    ) -> Result<Vec<String>, GitError> {
        self.run_over(lifetime, &self.root, args, limit).await
    }

    /// The same with the clone's repository over another tree.
    pub(super) async fn run_over<A: AsRef<OsStr>>(
        &self,
        lifetime: &dyn RunLifetime,
        tree: &Path,
        args: impl IntoIterator<Item = A>,
        limit: Duration,
    ) -> Result<Vec<String>, GitError> {
        // A script of the recipe may have been here, and left more than is removed in a moment.
        let (git, cancellation) = (self.clone(), lifetime.cancellation().clone());
        lifetime.blocking_tasks().run(move || git.neutralise(&|| cancellation.cause().is_some())).await?;
        // Named, so that git looks for no other repository and asks nobody whose it is.
        let mut all = vec![option("--git-dir=", &self.git_dir()), option("--work-tree=", tree)];
        all.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self.launch(lifetime, &self.root, all, limit).await
    }

    /// Runs git outside of any repository.
    pub(super) async fn run_nowhere<A: AsRef<OsStr>>(
        &self,
        lifetime: &dyn RunLifetime,
        args: impl IntoIterator<Item = A>,
        limit: Duration,
    ) -> Result<Vec<String>, GitError> {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        self.launch(lifetime, &self.home, args, limit).await
    }

    async fn launch(
        &self,
        lifetime: &dyn RunLifetime,
        cwd: &Path,
        args: Vec<OsString>,
        limit: Duration,
    ) -> Result<Vec<String>, GitError> {
        let subcommand = args.iter().find(|arg| !arg.as_encoded_bytes().starts_with(b"-"));
        let name = subcommand.map(|arg| arg.to_string_lossy().into_owned()).unwrap_or_default();
        let mut command =
            Command::new(&self.program, cwd).envs(self.environment.iter().map(|(name, value)| (name, value)));
        for setting in OVERRIDES {
            command = command.arg("-c").arg(setting);
        }
        command = command.args(args);
        if let Some(marker) = &self.marker {
            command = command.marker(marker.clone());
        }
        let mut out = Vec::new();
        let mut message = std::collections::VecDeque::new();
        let mut take = |line: &crate::lifetime::Line| match line.stream {
            Stream::Stdout => out.push(line.text.clone()),
            Stream::Stderr => {
                message
                    .push_back(crate::sys::text::sanitize_line(&self.credentials.hide(&redact(&line.text))));
                if message.len() > LAST_LINES {
                    message.pop_front();
                }
            }
        };
        let ended = lifetime.run(command, limit, &mut take).await;
        let ended = ended.map_err(|source| GitError::Child { command: name.clone(), source })?;
        if ended.success() {
            Ok(out)
        } else {
            Err(GitError::Failed { command: name, ended, message: message.into() })
        }
    }

    /// Puts our own configuration into the clone, and takes out all that could add to it.
    /// Blocks, until `stop` says so.
    pub(super) fn neutralise(&self, stop: &dyn Fn() -> bool) -> Result<(), GitError> {
        let git_dir = self.git_dir();
        let fail = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| GitError::Io { doing, path, source }
        };
        let metadata = git_dir.symlink_metadata().map_err(fail("look at", &git_dir))?;
        if !metadata.is_dir() {
            let source = io::Error::new(io::ErrorKind::NotADirectory, "not a plain directory");
            return Err(fail("use the repository", &git_dir)(source));
        }
        for name in IN_THE_WAY {
            let path = git_dir.join(name);
            remove_tree_until(&path, stop).map_err(fail("remove", &path))?;
        }
        let config = git_dir.join("config");
        replace_file(&config, CONFIG.as_bytes()).map_err(fail("write", &config))
    }
}

fn option(name: &str, path: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(path);
    option
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    use super::super::{AbraWorkspace as _, KernelWorkspace, Settings};
    use super::*;
    use crate::lifetime::{Bounds, EmbeddedMode};
    use crate::model::event::Silent;

    #[tokio::test]
    async fn the_git_that_was_found_first_is_the_one_that_runs() {
        let world = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| world.path().join(name));
        for directory in [&first, &second] {
            fs::create_dir(directory).unwrap();
        }
        let git = programs::find("git".as_ref(), &programs::operator_path()).unwrap();
        std::os::unix::fs::symlink(git, second.join("git")).unwrap();
        let path = std::env::join_paths([&first, &second]).unwrap();
        let settings = Settings::new(world.path().join("runs")).unwrap().path(path);
        let run = KernelWorkspace::new(settings).unwrap().create(&"7".parse().unwrap()).unwrap();
        let git = Git::new(&run, run.recipes().join("notes"), None).await;
        fs::write(first.join("git"), "#!/bin/sh\necho another\n").unwrap();
        fs::set_permissions(first.join("git"), fs::Permissions::from_mode(0o755)).unwrap();
        let life = EmbeddedMode::new(Bounds::default(), Arc::new(Silent)).unwrap();
        let message = git.run_nowhere(&life, ["version"], Duration::from_mins(1)).await.unwrap();
        assert!(message[0].starts_with("git version"), "{message:?}");
    }
}
