//! What confined tests and install steps get in the place of what cc-ci itself works with: a copy of the `.env`, and for
//! install steps one of the recipe's files.
//!
//! What install steps did to them cc-ci reads, in bounds, and writes itself. So no script ever has a hand on the file that
//! the deployer reads, and what is deployed is judged in the form in which it is deployed.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags};

use crate::engine::App;
use crate::model::cancellation::Cancellation;
use crate::model::failure::Failure;
use crate::sys::files::Dir;
use crate::workspace::{RunDir, copy_entries};

/// git's own part of a checkout.
const GIT: &str = ".git";
/// So many files may be added, ...
const FILES: usize = 10_000;
/// ... of so many bytes in all.
const BYTES: u64 = 256 << 20;
/// So deep may a directory lie.
const DEPTH: usize = 64;

/// The copies of one test or install step.
#[derive(Debug, Clone)]
pub(super) struct Copies {
    /// Has the `.env` and nothing else: what edits a file in place makes a new one beside it.
    pub env_directory: PathBuf,
    env_name: PathBuf,
    /// The recipe's files, for install steps.
    pub tree: Option<PathBuf>,
}

impl Copies {
    /// Those of `app` beneath `directory`.
    pub fn new(directory: &Path, app: &App, is_install_step: bool) -> Self {
        let env_name = app.env_file.file_name().map_or_else(|| ".env".into(), PathBuf::from);
        let tree = is_install_step.then(|| directory.join(app.recipe.as_str()));
        Self { env_directory: directory.join("env"), env_name, tree }
    }

    /// The copy of the `.env`.
    pub fn env_file(&self) -> PathBuf {
        self.env_directory.join(&self.env_name)
    }

    /// Makes them. Blocks.
    pub fn make(&self, directory: &RunDir, app: &App, cancellation: &Cancellation) -> Result<(), Failure> {
        let io = |error: io::Error| Failure::host("can't copy the app's files for a test").with_source(error);
        for path in [Some(&self.env_directory), self.tree.as_ref()].into_iter().flatten() {
            directory.remove(path).map_err(io)?;
            directory.make_private(path).map_err(io)?;
        }
        directory.write(&self.env_file(), &app.env_text()?).map_err(io)?;
        match &self.tree {
            Some(tree) => copy_entries(&app.tree, tree, GIT, cancellation).map_err(io),
            None => Ok(()),
        }
    }

    /// Takes over what was done to them: the `.env` where it is one, and files that are new or another. Blocks.
    pub fn take_back(&self, app: &App) -> Result<(), Failure> {
        let copied = App { env_file: self.env_file(), ..app.clone() };
        let env =
            copied.env().map_err(|failure| failure.context("what the install steps made of the .env"))?;
        app.set_env(&env)?;
        let Some(tree) = &self.tree else { return Ok(()) };
        let failed = |error: io::Error| {
            Failure::recipe("can't take over the files of the install steps").with_source(error)
        };
        let (from, to) = (Dir::open(tree).map_err(failed)?, Dir::open(&app.tree).map_err(failed)?);
        let mut taken = Taken { from: &from, to: &to, files: 0, bytes: 0 };
        taken.directory(Path::new("."), 0).map_err(failed)
    }
}

/// What was taken over so far.
struct Taken<'a> {
    from: &'a Dir,
    to: &'a Dir,
    files: usize,
    bytes: u64,
}

impl Taken<'_> {
    fn directory(&mut self, path: &Path, depth: usize) -> io::Result<()> {
        if depth > DEPTH {
            return Err(io::Error::other(format!("{} lies too deep", path.display())));
        }
        for name in self.from.names(path)? {
            if name == GIT {
                continue;
            }
            let path = if path == Path::new(".") { PathBuf::from(&name) } else { path.join(&name) };
            self.files += 1;
            if self.files > FILES {
                return Err(io::Error::other(format!("there are more than {FILES} of them")));
            }
            let Some(found) = self.from.find(&path)? else { continue };
            match found.kind {
                FileType::Directory => {
                    if !self.to.has(&path) {
                        self.to.make_new(&path, 0o755)?;
                    }
                    self.directory(&path, depth + 1)?;
                }
                FileType::RegularFile => self.file(&path, found.mode)?,
                FileType::Symlink if self.is_same_link(&path) => {}
                _ => {
                    let what = format!("{} is neither a file nor a directory", path.display());
                    return Err(io::Error::other(what));
                }
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, mode: u32) -> io::Result<()> {
        let mut content = Vec::new();
        let left = BYTES - self.bytes;
        self.from.open_file(path, OFlags::RDONLY, 0)?.take(left + 1).read_to_end(&mut content)?;
        self.bytes += content.len() as u64;
        if self.bytes > BYTES {
            return Err(io::Error::other(format!("they have more than {BYTES} bytes")));
        }
        let mode = if mode & 0o100 == 0 { 0o644 } else { 0o755 };
        if self.is_same(path, &content, mode)? {
            return Ok(());
        }
        // Where a file of the commit's is changed, the next deploy names it and is red.
        self.to.write(path, &content, mode)
    }

    fn is_same(&self, path: &Path, content: &[u8], mode: u32) -> io::Result<bool> {
        let Some(found) = self.to.find(path)? else { return Ok(false) };
        if found.kind != FileType::RegularFile || found.mode & 0o100 != mode & 0o100 {
            return Ok(false);
        }
        let mut there = Vec::new();
        let file = self.to.open_file(path, OFlags::RDONLY, 0)?;
        file.take(content.len() as u64 + 1).read_to_end(&mut there)?;
        Ok(there == content)
    }

    fn is_same_link(&self, path: &Path) -> bool {
        matches!((self.from.read_link(path), self.to.read_link(path)), (Ok(one), Ok(other)) if one == other)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    struct World {
        root: tempfile::TempDir,
        app: App,
        copies: Copies,
    }

    fn world() -> World {
        let root = tempfile::tempdir().unwrap();
        let app = App {
            domain: "a.test".parse().unwrap(),
            recipe: "blog".parse().unwrap(),
            tree: root.path().join("tree"),
            env_file: root.path().join("a.test.env"),
        };
        fs::create_dir_all(app.tree.join(".git")).unwrap();
        fs::write(app.tree.join("compose.yml"), "services: {}\n").unwrap();
        fs::write(&app.env_file, "DOMAIN=a.test\n").unwrap();
        let copies = Copies::new(&root.path().join("copies"), &app, true);
        for path in [&copies.env_directory, copies.tree.as_ref().unwrap()] {
            fs::create_dir_all(path).unwrap();
        }
        fs::write(copies.env_file(), "DOMAIN=a.test\n").unwrap();
        copy_entries(&app.tree, copies.tree.as_ref().unwrap(), GIT, &Cancellation::new()).unwrap();
        World { root, app, copies }
    }

    #[test]
    fn what_is_new_or_another_is_taken_over_and_git_is_not() {
        let World { root, app, copies } = world();
        let tree = copies.tree.clone().unwrap();
        fs::write(copies.env_file(), "DOMAIN=a.test\nMORE=1\n").unwrap();
        fs::create_dir_all(tree.join("deep/er")).unwrap();
        fs::write(tree.join("deep/er/hook.sh"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(tree.join("deep/er/hook.sh"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::write(tree.join("compose.yml"), "services: {a: {}}\n").unwrap();
        fs::create_dir(tree.join(".git")).unwrap();
        fs::write(tree.join(".git/config"), "[core]\n").unwrap();
        copies.take_back(&app).unwrap();
        assert_eq!(fs::read_to_string(&app.env_file).unwrap(), "DOMAIN=a.test\nMORE=1\n");
        assert_eq!(fs::read_to_string(app.tree.join("compose.yml")).unwrap(), "services: {a: {}}\n");
        let hook = app.tree.join("deep/er/hook.sh").metadata().unwrap();
        assert_eq!(hook.permissions().mode() & 0o7777, 0o755, "no bit that gives rights comes along");
        assert!(!app.tree.join(".git/config").exists());
        drop(root);
    }

    #[test]
    fn what_is_no_file_is_refused_and_leads_nowhere() {
        for hostile in ["link", "pipe", "through"] {
            let World { root, app, copies } = world();
            let tree = copies.tree.clone().unwrap();
            match hostile {
                "link" => symlink("/etc/passwd", tree.join("new")).unwrap(),
                "pipe" => {
                    nix::unistd::mkfifo(&tree.join("new"), nix::sys::stat::Mode::S_IRWXU).unwrap();
                }
                _ => {
                    // A directory of the copy where the checkout has a link to elsewhere.
                    symlink(root.path(), app.tree.join("out")).unwrap();
                    fs::create_dir(tree.join("out")).unwrap();
                    fs::write(tree.join("out/planted"), "").unwrap();
                }
            }
            assert!(copies.take_back(&app).is_err(), "{hostile}");
            assert!(!root.path().join("planted").exists());
        }
    }

    #[test]
    fn what_is_no_env_file_is_refused_and_the_apps_own_stays() {
        let World { root, app, copies } = world();
        fs::write(copies.env_file(), "=x=\n").unwrap();
        assert!(copies.take_back(&app).is_err());
        fs::remove_file(copies.env_file()).unwrap();
        symlink("/etc/passwd", copies.env_file()).unwrap();
        assert!(copies.take_back(&app).is_err());
        assert_eq!(fs::read_to_string(&app.env_file).unwrap(), "DOMAIN=a.test\n");
        drop(root);
    }

    #[test]
    fn more_than_a_recipe_has_is_refused() {
        let World { root, app, copies } = world();
        let tree = copies.tree.clone().unwrap();
        fs::File::create(tree.join("hole")).unwrap().set_len(BYTES + 1).unwrap();
        let failure = copies.take_back(&app).unwrap_err();
        assert!(failure.chain().contains("bytes"), "{}", failure.chain());
        drop(root);
    }
}
