//! The commit that the command is built from, for `--version`.

use std::process::Command;

fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

fn main() {
    // A source without a repository has no commit; in somebody else's repository it is not of that one's.
    let is_ours = git(&["ls-files", "build.rs"]).is_some_and(|listed| !listed.is_empty());
    let version = env!("CARGO_PKG_VERSION");
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).filter(|_| is_ours);
    // What the command is made of; what is not known to git yet is in none of it.
    let parts =
        ["Cargo.toml", "Cargo.lock", "cc-ci-abra", "cc-ci-cli", "cc-ci-core", "cc-ci-docker", "examples"]
            .map(|part| format!("../{part}"));
    let mut status = vec!["--no-optional-locks", "status", "--porcelain", "--untracked-files=no", "--"];
    status.extend(parts.iter().map(String::as_str));
    let is_dirty = git(&status).is_some_and(|changed| !changed.is_empty());
    let commit = commit.map(|commit| if is_dirty { commit + "-dirty" } else { commit });
    let version = commit.map_or_else(|| version.to_owned(), |commit| format!("{version} ({commit})"));
    println!("cargo::rustc-env=CC_CI_VERSION={version}");
    println!("cargo::rerun-if-changed=build.rs");
    for part in &parts {
        println!("cargo::rerun-if-changed={part}");
    }
    // It changes with each commit and checkout.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|_| is_ours) {
        println!("cargo::rerun-if-changed={log}");
    }
}
