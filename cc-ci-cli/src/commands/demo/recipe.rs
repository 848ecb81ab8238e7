//! The example's recipe as git repositories: its two releases, and pull requests on top.

use std::io;
use std::path::{Path, PathBuf};

use cc_ci_core::blocking;
use cc_ci_core::files;

use super::world::World;
use cc_ci_core::Failure;

/// The pull request that is all right.
pub const GOOD: &str = "pr-good";
/// The one that forgets the data's format.
pub const BROKEN: &str = "pr-broken";
/// The one whose app never gets healthy.
pub const STUCK: &str = "pr-stuck";
/// The tag of the newest release.
pub const RELEASE: &str = "1.1.0+1.1.0";

/// A file of the recipe. What is in `tests/` is executable.
struct File {
    path: &'static str,
    text: &'static str,
}

macro_rules! files {
    ($release:literal: $($path:literal)*) => {
        &[$(File {
            path: $path,
            text: include_str!(concat!("../../../../examples/recipe/", $release, "/", $path)),
        }),*]
    };
}

/// What the first release consists of.
const FIRST: &[File] = files!("1.0.0":
    ".env.sample" "README.md" "abra.sh" "compose.yml" "notice.txt.tmpl"
    "tests/backup-writes-a-note" "tests/install-answers" "tests/install-writes-with-the-key-only"
    "tests/install_steps.sh" "tests/restore-brings-the-note-back"
);

/// What the second changes and adds.
const SECOND: &[File] = files!("1.1.0":
    ".env.sample" "abra.sh" "compose.yml" "notice.txt.tmpl" "release/1.1.0+1.1.0"
    "tests/custom-deletes-with-the-admin-key" "tests/custom-limits-the-length" "tests/custom-the-worker-counts"
    "tests/upgrade-keeps-notes"
);

const COMPOSE: &str = "compose.yml";

/// What the newest release says of its app, for the local executor.
const COMMAND: &str = r#"      command: ["note-keeper", "serve", "--data-format", "json"]
      health: /health
"#;

/// Makes the repository `name`. The app of its stuck pull request writes a line to `started` when it starts.
pub async fn make(world: &World, name: &str, started: &Path) -> Result<PathBuf, Failure> {
    let repository = world.path(name);
    let made = |error: io::Error| {
        Failure::host(format!("can't make the repository {}", repository.display())).with_source(error)
    };
    let path = repository.clone();
    blocking::run(move || files::private_directory(&path)).await.map_err(made)?;
    let git = async |args: &[&str]| world.git(&repository, args).await;
    git(&["init", "--quiet", "--template=", "--initial-branch=main"]).await?;
    for (files, tag) in [(FIRST, "1.0.0+1.0.0"), (SECOND, RELEASE)] {
        let path = repository.clone();
        blocking::run(move || lay(&path, files)).await.map_err(made)?;
        git(&["add", "--all"]).await?;
        git(&["commit", "--quiet", "--message", tag]).await?;
        git(&["tag", "--annotate", "--message", tag, tag]).await?;
    }
    let release = compose(SECOND);
    let pull_requests = [
        (
            GOOD,
            "Say who may read",
            vec![("notice.txt.tmpl", notice()), ("abra.sh", "export NOTICE_VERSION=v3\n".to_owned())],
        ),
        (BROKEN, "Keep notes as lines again", vec![(COMPOSE, broken(release))]),
        (STUCK, "Ask for health at the wrong path", vec![(COMPOSE, stuck(release, started))]),
    ];
    for (branch, message, changes) in pull_requests {
        git(&["checkout", "--quiet", "-b", branch, "main"]).await?;
        for (path, text) in changes {
            let path = repository.join(path);
            let write = move || files::write_whole(&path, text.as_bytes(), 0o644);
            blocking::run(write).await.map_err(made)?;
        }
        git(&["commit", "--quiet", "--all", "--message", message]).await?;
    }
    git(&["checkout", "--quiet", "main"]).await?;
    Ok(repository)
}

fn lay(repository: &Path, files: &[File]) -> io::Result<()> {
    for File { path, text } in files {
        let file = repository.join(path);
        if let Some(directory) = file.parent() {
            files::private_directory(directory)?;
        }
        let mode = if path.starts_with("tests/") { 0o755 } else { 0o644 };
        files::write_whole(&file, text.as_bytes(), mode)?;
    }
    Ok(())
}

fn compose(release: &[File]) -> &'static str {
    release.iter().find(|file| file.path == COMPOSE).map_or("", |file| file.text)
}

/// Configs can't change in Swarm: a changed one has a new name, by its version in `abra.sh`.
fn notice() -> String {
    let text = SECOND.iter().find(|file| file.path == "notice.txt.tmpl").map_or("", |file| file.text);
    format!("{text}Anybody may read.\n")
}

/// The data is JSON since 1.1.0, and the app can't go back.
fn broken(compose: &str) -> String {
    compose.replace(r#""--data-format", "json""#, r#""--data-format", "lines""#)
}

/// Its app says that it was started, and then never answers where it is asked.
fn stuck(compose: &str, started: &Path) -> String {
    // In a compose file a dollar is written twice, and JSON's strings are YAML's.
    let path = started.display().to_string().replace('$', "$$");
    let path = serde_json::Value::from(path);
    let script = r#"echo started >\"$$0\"; exec note-keeper serve --data-format json"#;
    let command =
        format!("      command: [\"sh\", \"-c\", \"{script}\", {path}]\n      health: /not-there\n");
    compose.replace(COMMAND, &command)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// The files below `directory`, with whether they are executable.
    fn on_disk(directory: &Path, below: &Path, found: &mut Vec<(String, bool)>) {
        for entry in fs::read_dir(directory.join(below)).unwrap() {
            let entry = entry.unwrap();
            let path = below.join(entry.file_name());
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                on_disk(directory, &path, found);
            } else {
                found.push((path.to_str().unwrap().to_owned(), metadata.permissions().mode() & 0o111 != 0));
            }
        }
    }

    #[test]
    fn the_binary_carries_every_file_of_the_recipe() {
        let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/recipe");
        for (release, files) in [("1.0.0", FIRST), ("1.1.0", SECOND)] {
            let mut there = Vec::new();
            on_disk(&recipe.join(release), Path::new(""), &mut there);
            there.sort();
            let mut carried: Vec<_> =
                files.iter().map(|file| (file.path.to_owned(), file.path.starts_with("tests/"))).collect();
            carried.sort();
            assert_eq!(carried, there, "{release}");
        }
    }

    #[test]
    fn pull_requests_change_what_they_say() {
        let release = compose(SECOND);
        assert_ne!(broken(release), release);
        let stuck = stuck(release, Path::new("/tmp/a $dollar \"quote\"/started"));
        assert!(stuck.contains(r#""/tmp/a $$dollar \"quote\"/started""#), "{stuck}");
        assert!(stuck.contains("health: /not-there") && !stuck.contains("health: /health"), "{stuck}");
        assert!(notice().lines().count() > 2);
    }
}
