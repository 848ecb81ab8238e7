mod hostile;
mod repositories;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::sync::Arc;

use super::super::{AbraWorkspace, KernelWorkspace, Settings, SnapshotError};
use super::*;
use crate::lifetime::{Bounds, EmbeddedMode};
use crate::model::event::Silent;
use crate::sys::blocking::Unblocked;

const MINUTE: Duration = Duration::from_mins(1);

/// A canonical tree, runs, and a lifetime.
struct World {
    directory: tempfile::TempDir,
    workspace: KernelWorkspace,
    life: EmbeddedMode,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let canonical = directory.path().join("canonical");
        for name in ["servers", "catalogue", "recipes"] {
            fs::create_dir_all(canonical.join(name)).unwrap();
        }
        let settings = Settings::new(directory.path().join("runs")).unwrap().canonical(&canonical).unwrap();
        let life = EmbeddedMode::new(Bounds::default(), Arc::new(Silent)).unwrap();
        Self { workspace: KernelWorkspace::new(settings).unwrap(), life, directory }
    }

    fn run(&self) -> RunDir {
        self.workspace.create(&"7".parse().unwrap()).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A recipe with two releases and a commit on top, elsewhere and not in the canonical tree.
    fn recipe(&self) -> Repository {
        Repository::new(&self.path("upstream/notes"))
    }

    async fn fetch(&self, run: &RunDir, request: &FetchRequest) -> Result<Fetched, FetchError> {
        let _unblocked = Unblocked::begin();
        fetch(run, &self.life, request).await
    }
}

/// A repository as its maintainer has it.
struct Repository(PathBuf);

impl Repository {
    fn new(path: &Path) -> Self {
        fs::create_dir_all(path).unwrap();
        let repository = Self(path.to_owned());
        repository.git(&["init", "-q", "--template=", "-b", "main"]);
        for version in ["1.0.0+1.0", "1.1.0+1.1"] {
            repository.commit("compose.yml", version);
            repository.git(&["tag", "-a", "-m", "release", version]);
        }
        repository.commit("compose.yml", "under test");
        repository.git(&["tag", "9.0.0+lightweight"]);
        repository
    }

    fn git(&self, args: &[&str]) -> String {
        let (ok, message) = self.try_git(args);
        assert!(ok, "git {args:?}: {message}");
        message
    }

    fn try_git(&self, args: &[&str]) -> (bool, String) {
        let output = std::process::Command::new("git")
            .current_dir(&self.0)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("HOME", "/nonexistent")
            .args(["-c", "user.name=m", "-c", "user.email=m@example.org"])
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap().trim().to_owned())
    }

    fn commit(&self, file: &str, content: &str) -> CommitId {
        let path = self.0.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", content]);
        self.head()
    }

    fn head(&self) -> CommitId {
        self.git(&["rev-parse", "HEAD"]).parse().unwrap()
    }

    fn request(&self) -> FetchRequest {
        request(self.0.to_str().unwrap())
    }
}

fn request(source: &str) -> FetchRequest {
    let source = source.parse().unwrap();
    let releases = ReleasesOf::Itself;
    FetchRequest {
        source,
        revision: None,
        releases,
        skip_fetch: false,
        limit: MINUTE,
        marker: None,
        credentials: GitCredentials::default(),
    }
}

fn at(request: FetchRequest, revision: &str) -> FetchRequest {
    FetchRequest { revision: Some(revision.parse().unwrap()), ..request }
}

#[tokio::test]
async fn the_commit_under_test_and_all_releases_arrive() {
    let world = World::new();
    let upstream = world.recipe();
    let run = world.run();
    let fetched = world.fetch(&run, &upstream.request()).await.unwrap();
    assert!(fetched.notes.is_empty(), "{:?}", fetched.notes);
    let tree = fetched.tree;
    assert_eq!((tree.name().as_str(), tree.root()), ("notes", run.recipes().join("notes").as_path()));
    assert_eq!(tree.tested(), &upstream.head());
    assert_eq!(tree.head(&world.life).await.unwrap(), upstream.head());
    assert_eq!(fs::read_to_string(tree.root().join("compose.yml")).unwrap(), "under test");

    let releases = tree.releases(&world.life).await.unwrap();
    let names: Vec<String> = releases.releases.iter().map(|release| release.version.to_string()).collect();
    assert_eq!(names, ["1.1.0+1.1", "1.0.0+1.0"]);
    assert_eq!(releases.unfit.len(), 1);
    let newest = tree.newest_before(&world.life, tree.tested()).await.unwrap().unwrap();
    assert_eq!(newest, releases.releases[0]);
    // Moved to a release: what that one builds on, never the release itself.
    tree.checkout(&world.life, &newest.commit).await.unwrap();
    assert_eq!(fs::read_to_string(tree.root().join("compose.yml")).unwrap(), "1.1.0+1.1");
    assert_eq!(releases.at(&tree.head(&world.life).await.unwrap()), Some(&newest));
    let older = tree.newest_before(&world.life, &newest.commit).await.unwrap().unwrap();
    assert_eq!(older.version.to_string(), "1.0.0+1.0");
    assert_eq!(tree.newest_before(&world.life, &older.commit).await.unwrap(), None);
}

#[tokio::test]
async fn a_release_on_another_branch_is_nothing_to_upgrade_from() {
    let world = World::new();
    let upstream = world.recipe();
    upstream.git(&["checkout", "-q", "-b", "side", "1.0.0+1.0"]);
    upstream.commit("compose.yml", "2.0.0+2.0");
    upstream.git(&["tag", "-a", "-m", "release", "2.0.0+2.0"]);
    upstream.git(&["checkout", "-q", "main"]);
    let run = world.run();
    let tree = world.fetch(&run, &upstream.request()).await.unwrap().tree;
    assert_eq!(tree.releases(&world.life).await.unwrap().releases[0].version.to_string(), "2.0.0+2.0");
    let newest = tree.newest_before(&world.life, tree.tested()).await.unwrap().unwrap();
    assert_eq!(newest.version.to_string(), "1.1.0+1.1");
}

#[tokio::test]
async fn a_release_upgrades_from_none_that_is_newer_than_itself() {
    let world = World::new();
    let upstream = world.recipe();
    upstream.git(&["tag", "-a", "-m", "release", "1.0.1+1.0"]);
    let run = world.run();
    let tree = world.fetch(&run, &upstream.request()).await.unwrap().tree;
    let before = tree.releases_before(&world.life, tree.tested()).await.unwrap();
    let names: Vec<String> = before.iter().map(|release| release.version.to_string()).collect();
    assert_eq!(names, ["1.0.0+1.0"], "1.1.0 is an ancestor of 1.0.1, and nobody goes back");
}

#[tokio::test]
async fn a_commit_can_be_named_in_every_way_that_git_knows() {
    let world = World::new();
    let upstream = world.recipe();
    let first: CommitId = upstream.git(&["rev-parse", "1.0.0+1.0^{commit}"]).parse().unwrap();
    upstream.git(&["branch", "feature/x", first.as_str()]);
    // git lists these too when it is asked for the branch or for HEAD.
    upstream.git(&["update-ref", "refs/other/refs/heads/feature/x", "main"]);
    upstream.git(&["update-ref", "refs/other/HEAD", first.as_str()]);
    // As a forge keeps a pull request: on no branch.
    upstream.git(&["update-ref", "refs/pull/7/head", first.as_str()]);
    upstream.git(&["branch", "both", "main"]);
    upstream.git(&["tag", "both", first.as_str()]);
    for name in
        [first.as_str(), first.short(), "feature/x", "1.0.0+1.0", "refs/pull/7/head", "refs/tags/both"]
    {
        let run = world.run();
        let tree = world.fetch(&run, &at(upstream.request(), name)).await.unwrap().tree;
        assert_eq!(tree.tested(), &first, "{name}");
        assert_eq!(tree.head(&world.life).await.unwrap(), first, "{name}");
    }
    let run = world.run();
    assert_eq!(world.fetch(&run, &upstream.request()).await.unwrap().tree.tested(), &upstream.head());
    let run = world.run();
    let error = world.fetch(&run, &at(upstream.request(), "both")).await.unwrap_err();
    assert!(matches!(error, FetchError::Ambiguous { .. }), "{error:?}");
    for none in ["none", "0123456789", &"0".repeat(40), "x"] {
        let run = world.run();
        let error = world.fetch(&run, &at(upstream.request(), none)).await.unwrap_err();
        assert!(matches!(error, FetchError::NoSuchRevision { .. }), "{none}: {error:?}");
    }
}

async fn older_of(world: &World, tree: &RecipeTree) -> CommitId {
    tree.newest_before(&world.life, tree.tested()).await.unwrap().unwrap().commit
}

#[tokio::test]
async fn two_runs_clone_one_recipe_at_once() {
    let world = World::new();
    let upstream = world.recipe();
    Repository::new(&world.path("canonical/recipes/notes"));
    let (one, other) = (world.run(), world.run());
    let request = upstream.request();
    let (first, second) = tokio::join!(world.fetch(&one, &request), world.fetch(&other, &request));
    let (first, second) = (first.unwrap().tree, second.unwrap().tree);
    assert_ne!(first.root(), second.root());
    first.checkout(&world.life, &older_of(&world, &first).await).await.unwrap();
    assert_eq!(second.head(&world.life).await.unwrap(), upstream.head());
}

#[tokio::test]
async fn tests_are_taken_from_the_commit_under_test_and_nowhere_else() {
    let world = World::new();
    let upstream = world.recipe();
    upstream.commit("tests/install.sh", "#!/bin/sh\n");
    fs::set_permissions(upstream.0.join("tests/install.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    upstream.commit("tests/data/a.txt", "a");
    upstream.commit("install_steps.sh", "#!/bin/sh\n");
    let run = world.run();
    let tree = world.fetch(&run, &upstream.request()).await.unwrap().tree;
    let to = run.root().join("snapshot");
    let copied = tree.snapshot(&world.life, "tests", &to).await.unwrap();
    assert_eq!(copied, [Path::new("tests/data/a.txt"), Path::new("tests/install.sh")]);
    assert_eq!(tree.snapshot(&world.life, "install_steps.sh", &to).await.unwrap().len(), 1);
    assert!(tree.snapshot(&world.life, "none", &to).await.unwrap().is_empty());
    let mode = |name: &str| to.join(name).metadata().unwrap().permissions().mode() & 0o111 != 0;
    assert!(mode("tests/install.sh") && !mode("tests/data/a.txt"));
    tree.checkout(&world.life, &older_of(&world, &tree).await).await.unwrap();
    assert!(to.join("tests/install.sh").exists() && !tree.root().join("tests").exists());
    let error = tree.snapshot(&world.life, "tests", &to).await.unwrap_err();
    assert!(matches!(error, SnapshotError::Moved { .. }), "{error:?}");
}
