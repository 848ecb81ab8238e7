//! A recipe's tree in `$ABRA_DIR/recipes`, which abra takes for its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cc_ci_core::names::Version;
use serde_json::{Map, Value};

use super::command_line::Call;
use super::{Abra, Fatal, SECOND, print};

/// The checkout of a recipe.
#[derive(Debug)]
pub(super) struct Tree(PathBuf);

impl Tree {
    pub fn of(abra: &Abra, recipe: &str) -> Result<Self, Fatal> {
        let path = abra.directory.join("recipes").join(recipe);
        if recipe.is_empty() || recipe.contains('/') || !path.join(".git").exists() {
            // Abra would clone it.
            return Err(Fatal(format!("unable to clone {recipe}: repository not found")));
        }
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    fn git(&self, args: &[&str]) -> Result<String, Fatal> {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.0).args(["-c", "user.name=abra", "-c", "user.email=abra@example.com"]);
        command.args(args).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        let ended = command.stdin(Stdio::null()).output()?;
        if ended.status.success() {
            return Ok(String::from_utf8_lossy(&ended.stdout).trim_end().to_owned());
        }
        Err(Fatal(String::from_utf8_lossy(&ended.stderr).trim().to_owned()))
    }

    pub fn head(&self) -> Result<String, Fatal> {
        self.git(&["rev-parse", "HEAD"])
    }

    /// Refuses a tree that differs from its commit, by an untracked file too.
    pub fn assert_clean(&self) -> Result<(), Fatal> {
        if self.git(&["status", "--porcelain"])?.is_empty() { Ok(()) } else { Err(self.unstaged()) }
    }

    /// What abra says about such a tree.
    pub fn unstaged(&self) -> Fatal {
        let name = self.0.file_name().unwrap_or_default().display();
        Fatal(format!(
            "{name} ({}) has locally unstaged changes? please commit/remove your changes",
            self.0.display()
        ))
    }

    /// Refuses a release that is no annotated tag.
    pub fn lint(&self) -> Result<(), Fatal> {
        let tags = self.git(&["for-each-ref", "--format=%(refname:short) %(objecttype)", "refs/tags"])?;
        if tags.lines().any(|tag| tag.ends_with(" commit")) { Err(Self::r014()) } else { Ok(()) }
    }

    /// What abra says about such a release.
    pub fn r014() -> Fatal {
        Fatal::new("critical lint error: R014: only annotated tags used for recipe version")
    }

    /// The newest release.
    pub fn latest(&self) -> Result<Option<String>, Fatal> {
        let tags = self.git(&["tag", "--list"])?;
        let mut versions: Vec<Version> = tags.lines().filter_map(|tag| tag.parse().ok()).collect();
        versions.sort_by(Version::cmp_recipe_part);
        Ok(versions.last().map(ToString::to_string))
    }

    pub fn checkout(&self, revision: &str) -> Result<(), Fatal> {
        self.git(&["checkout", "--quiet", "--force", revision]).map(drop)
    }

    /// Checks out what was not checked out.
    pub fn move_away(&self) -> Result<(), Fatal> {
        let head = self.head()?;
        for release in self.git(&["tag", "--list"])?.lines() {
            if self.git(&["rev-parse", &format!("{release}^{{commit}}")])? != head {
                return self.checkout(release);
            }
        }
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "somewhere else"]).map(drop)
    }

    /// Starts another abra that disturbs this tree.
    pub fn disturbed(&self) -> Result<Child, Fatal> {
        let program = std::env::current_exe()?;
        Ok(Command::new(program).arg(SECOND).arg(&self.0).stdin(Stdio::null()).spawn()?)
    }
}

/// What another abra does in the same tree: it moves it, and leaves a change and a file.
pub(super) fn disturb(tree: &Path) -> Result<(), Fatal> {
    let tree = Tree(tree.to_owned());
    tree.move_away()?;
    let compose = tree.0.join("compose.yml");
    let text = fs::read_to_string(&compose)?;
    fs::write(&compose, format!("{text}\n# another abra was here\n"))?;
    Ok(fs::write(tree.0.join("another-abra"), "was here\n")?)
}

pub(super) fn list(abra: &Abra, call: &Call) -> Result<(), Fatal> {
    let mut recipes = Map::new();
    for entry in fs::read_dir(abra.directory.join("recipes"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Ok(tree) = Tree::of(abra, &name) {
            recipes.insert(name, tree.latest()?.map_or(Value::Null, Value::from));
        }
    }
    if call.has("machine") {
        return print(&format!("{}\n", Value::from(recipes)));
    }
    recipes.keys().try_for_each(|name| print(&format!("{name}\n")))
}
