//! Recipes made on the spot, in real git repositories.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A recipe's repository. Files are written at once; [`Recipe::commit`] and [`Recipe::release`] take them in.
#[derive(Debug, Clone)]
pub struct Recipe {
    path: PathBuf,
}

impl Recipe {
    /// A repository with a recipe of one service, `app`, that serves; nothing is committed yet.
    pub(crate) fn new(path: &Path) -> Self {
        let recipe = Self::empty(path);
        recipe.write(".env.sample", "TYPE=test\nDOMAIN=example.com\nSECRET_KEY_VERSION=v1 # length=24\n");
        recipe.compose("1", "");
        recipe
    }

    /// A repository with nothing in it.
    pub(crate) fn empty(path: &Path) -> Self {
        fs::create_dir_all(path).expect("a directory for the recipe");
        let recipe = Self { path: path.to_owned() };
        recipe.git(["init", "-q", "--template=", "-b", "main"]);
        recipe
    }

    /// Its repository.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name: that of its directory.
    pub fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).expect("a recipe has a name")
    }

    /// Writes the compose file: `version` is the service's image tag, `more` goes below its `x-cc-ci-local` (six
    /// spaces deep), e.g. `"environment:\n        GREETING: hello\n"`.
    pub fn compose(&self, version: &str, more: &str) -> &Self {
        let service = service_probe();
        self.write(
            "compose.yml",
            &format!(
                r#"version: "3.8"
services:
  app:
    image: test/app:{version}
    volumes:
      - data:/data
    secrets:
      - key
    deploy:
      labels:
        - "backupbot.backup=true"
        - "coop-cloud.${{STACK_NAME}}.timeout=60"
    x-cc-ci-local:
      command: ["{}", "${{CCCI_PORT}}", "{version}"]
      health: /health
      {more}
volumes:
  data:
secrets:
  key:
    external: true
    name: ${{STACK_NAME}}_key_${{SECRET_KEY_VERSION}}
"#,
                service.display()
            ),
        )
    }

    /// Writes a file.
    pub fn write(&self, name: &str, text: &str) -> &Self {
        let path = self.path.join(name);
        fs::create_dir_all(path.parent().expect("a file is in a directory"))
            .expect("a directory of the recipe");
        fs::write(path, text).expect("a file of the recipe");
        self
    }

    /// Writes an executable: a shell script with this body.
    pub fn script(&self, name: &str, body: &str) -> &Self {
        self.write(name, &format!("#!/bin/sh\nset -eu\n{body}\n"));
        fs::set_permissions(self.path.join(name), fs::Permissions::from_mode(0o755)).expect("an executable");
        self
    }

    /// Commits everything; gives the commit.
    pub fn commit(&self) -> String {
        self.git(["add", "-A"]);
        self.git(["commit", "-q", "--allow-empty", "-m", "change"]);
        self.git(["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// Commits everything and tags it as a release.
    pub fn release(&self, version: &str) -> String {
        let commit = self.commit();
        self.git(["tag", "-a", "-m", version, version]);
        commit
    }

    /// Runs git in the repository, with nothing of the user's configuration.
    pub fn git<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(&self, args: I) -> String {
        let output = Command::new("git")
            .arg("-C")
            .arg(&self.path)
            .args([
                "-c",
                "user.name=test",
                "-c",
                "user.email=test@example.com",
                "-c",
                "core.hooksPath=/dev/null",
                "-c",
                "maintenance.auto=false",
            ])
            .args(args)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .expect("git runs");
        assert!(output.status.success(), "git: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// The program that the recipes' service runs.
pub(crate) fn service_probe() -> PathBuf {
    crate::command::built("service-probe")
}
