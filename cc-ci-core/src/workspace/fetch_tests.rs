use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::{AbraWorkspace, KernelWorkspace, Settings, SnapshotError};
use super::*;
use crate::lifetime::{Bounds, ChildError, EmbeddedMode};
use crate::model::cancellation::Cause;
use crate::model::event::Silent;
use crate::model::failure::{Failure, Fault};

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

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
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

#[tokio::test]
async fn a_shallow_clone_is_named_as_one() {
    let world = World::new();
    let upstream = world.recipe();
    let shallow = world.path("shallow/notes");
    let url = |path: &Path| format!("file://{}", path.display());
    let from = url(&upstream.0);
    upstream.git(&["clone", "-q", "--depth", "1", &from, shallow.to_str().unwrap()]);
    for source in [shallow.display().to_string(), url(&shallow)] {
        for revision in ["HEAD", "main", upstream.head().as_str(), "main~1"] {
            let run = world.run();
            let error = world.fetch(&run, &at(request(&source), revision)).await.unwrap_err();
            assert!(matches!(error, FetchError::CutHistory { .. }), "{source} {revision}: {error:?}");
        }
    }
}

#[tokio::test]
async fn a_repository_is_read_in_whatever_form_it_is_and_one_without_a_commit_is_named() {
    let world = World::new();
    let upstream = world.recipe();
    let [worktree, bare, shared] = ["worktree", "bare", "shared"].map(|name| world.path(name).join("notes"));
    upstream.git(&["worktree", "add", "-q", "--detach", worktree.to_str().unwrap(), "HEAD"]);
    upstream.git(&["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    upstream.git(&["clone", "-q", "--shared", ".", shared.to_str().unwrap()]);
    for path in [&worktree, &bare, &shared] {
        let run = world.run();
        let tree = world.fetch(&run, &request(path.to_str().unwrap())).await.unwrap().tree;
        assert_eq!(tree.tested(), &upstream.head(), "{}", path.display());
        let newest = tree.newest_before(&world.life, tree.tested()).await.unwrap().unwrap();
        assert_eq!(newest.version.to_string(), "1.1.0+1.1", "{}", path.display());
    }
    let bare = Repository(bare);
    bare.git(&["symbolic-ref", "HEAD", "refs/heads/gone"]);
    let empty = Repository(world.path("empty/notes"));
    fs::create_dir_all(&empty.0).unwrap();
    empty.git(&["init", "-q", "--template="]);
    for repository in [bare, empty] {
        let error = world.fetch(&world.run(), &repository.request()).await.unwrap_err();
        assert!(matches!(error, FetchError::NoSuchRevision { .. }), "{error:?}");
        assert_eq!(Failure::from(error).fault(), Fault::Configuration);
    }
}

#[tokio::test]
async fn a_partial_clone_and_one_with_other_names_for_objects_are_named_as_such() {
    let world = World::new();
    let upstream = world.recipe();
    let from = format!("file://{}", upstream.0.display());
    upstream.git(&["config", "uploadpack.allowFilter", "true"]);
    let partial = world.path("partial/notes");
    upstream.git(&["clone", "-q", "--filter=blob:none", &from, partial.to_str().unwrap()]);
    let canonical = world.path("canonical/recipes/notes");
    upstream.git(&["clone", "-q", "--filter=blob:none", &from, canonical.to_str().unwrap()]);
    let copy = FetchRequest { skip_fetch: true, ..request("notes") };
    for request in
        [request(partial.to_str().unwrap()), request(&format!("file://{}", partial.display())), copy]
    {
        let error = world.fetch(&world.run(), &request).await.unwrap_err();
        assert!(matches!(error, FetchError::Partial { .. }), "{error:?}");
        let failure = Failure::from(error);
        assert!(failure.fault() == Fault::Configuration && failure.hint().is_some(), "{failure:?}");
    }
    // As a cache it only costs time.
    assert_eq!(world.fetch(&world.run(), &upstream.request()).await.unwrap().tree.tested(), &upstream.head());

    let other = Repository(world.path("other/notes"));
    fs::create_dir_all(&other.0).unwrap();
    other.git(&["init", "-q", "--template=", "-b", "main", "--object-format=sha256"]);
    let commit = other.commit("compose.yml", "x");
    for revision in ["HEAD", "main", commit.as_str(), commit.short()] {
        let error = world.fetch(&world.run(), &at(other.request(), revision)).await.unwrap_err();
        assert!(matches!(error, FetchError::Sha256 { .. }), "{revision}: {error:?}");
        let failure = Failure::from(error);
        assert!(failure.fault() == Fault::Configuration && failure.hint().is_some(), "{failure:?}");
    }
}

#[tokio::test]
async fn hooks_filters_and_configuration_of_a_recipe_never_run() {
    let world = World::new();
    let upstream = world.recipe();
    let trap = world.path("ran");
    let spring = format!("touch {}; cat", trap.display());
    upstream.commit(".gitattributes", "*.yml filter=evil diff=evil\n");
    let configure = |git: &dyn Fn(&[&str])| {
        for name in ["filter.evil.smudge", "filter.evil.clean", "core.fsmonitor", "core.sshCommand"] {
            git(&["config", name, &spring]);
        }
    };
    configure(&|args| drop(upstream.git(args)));
    let hook = |git_dir: &Path| {
        fs::create_dir_all(git_dir.join("hooks")).unwrap();
        for name in ["post-checkout", "post-index-change", "reference-transaction", "pre-push", "update"] {
            let path = git_dir.join("hooks").join(name);
            fs::write(&path, format!("#!/bin/sh\n{spring}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    };
    hook(&upstream.0.join(".git"));
    fs::write(upstream.0.join("compose.yml"), "changed\n").unwrap();
    assert!(!trap.exists());

    let run = world.run();
    let fetched = world.fetch(&run, &upstream.request()).await.unwrap();
    assert!(!trap.exists(), "something ran while it was fetched");
    let [note] = &fetched.notes[..] else { panic!("{:?}", fetched.notes) };
    assert!(note.contains("not tested") && note.contains("compose.yml"), "{note}");
    let tree = fetched.tree;
    assert!(!tree.root().join(".git/hooks").exists());

    // A script of the recipe was here: in the clone, and in the run's home.
    hook(&tree.root().join(".git"));
    let config = fs::read_to_string(upstream.0.join(".git/config")).unwrap();
    fs::write(tree.root().join(".git/config"), &config).unwrap();
    fs::create_dir_all(tree.root().join(".git/info")).unwrap();
    fs::write(tree.root().join(".git/info/attributes"), "* filter=evil\n").unwrap();
    fs::write(run.home().join(".gitconfig"), &config).unwrap();
    let older = tree.newest_before(&world.life, tree.tested()).await.unwrap().unwrap();
    tree.checkout(&world.life, &older.commit).await.unwrap();
    tree.checkout(&world.life, tree.tested()).await.unwrap();
    assert!(!trap.exists(), "something ran while the tree was moved");
    assert!(!tree.root().join(".git/hooks").exists(), "a hook waits for the next who uses git there");

    // And the copied one.
    Repository::new(&world.path("canonical/recipes/notes"));
    let canonical = Repository(world.path("canonical/recipes/notes"));
    configure(&|args| drop(canonical.git(args)));
    hook(&canonical.0.join(".git"));
    let run = world.run();
    let copy = FetchRequest { skip_fetch: true, ..request("notes") };
    let tree = world.fetch(&run, &copy).await.unwrap().tree;
    tree.checkout(&world.life, &older_of(&world, &tree).await).await.unwrap();
    assert!(!trap.exists(), "something ran while the canonical recipe was copied");

    // The trap is a real one: git as its owner uses it springs it.
    upstream.git(&["checkout", "-q", "-f", "HEAD"]);
    assert!(trap.exists());
}

async fn older_of(world: &World, tree: &RecipeTree) -> CommitId {
    tree.newest_before(&world.life, tree.tested()).await.unwrap().unwrap().commit
}

#[tokio::test]
async fn nothing_is_ever_pushed_from_a_clone() {
    let world = World::new();
    let upstream = world.recipe();
    let bare = world.path("bare/notes.git");
    upstream.git(&["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    let bare_repository = Repository(bare.clone());
    let before = bare_repository.git(&["for-each-ref"]);
    Repository::new(&world.path("canonical/recipes/copied"));
    let copy = FetchRequest { skip_fetch: true, ..request("copied") };
    let (one, other) = (world.run(), world.run());
    for (run, request) in [(&one, &request(bare.to_str().unwrap())), (&other, &copy)] {
        let clone = Repository(world.fetch(run, request).await.unwrap().tree.root().to_owned());
        clone.git(&["fetch", "-q", bare.to_str().unwrap(), "main"]);
        assert_eq!(clone.git(&["remote"]), "");
        assert_eq!(clone.try_git(&["config", "--get-regexp", "pushurl"]).1, "");
        let url = format!("file://{}", bare.display());
        for to in [bare.to_str().unwrap(), &url, "../../../../../bare/notes.git", "origin", "me@localhost:x"]
        {
            let (pushed, message) = clone.try_git(&["push", to, "HEAD:refs/heads/pushed"]);
            assert!(!pushed, "{to}: {message}");
            assert!(message.contains("cc-ci-refuses-to-push"), "{to}: {message}");
        }
        assert!(!clone.try_git(&["push"]).0);
    }
    assert_eq!(bare_repository.git(&["for-each-ref"]), before);
    // An ordinary repository can push there, so it was not the place that refused.
    upstream.git(&["push", "-q", bare.to_str().unwrap(), "HEAD:refs/heads/pushed"]);
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
async fn a_skipped_fetch_copies_the_canonical_recipe_as_it_is() {
    let world = World::new();
    let canonical = Repository::new(&world.path("canonical/recipes/notes"));
    symlink("/etc/passwd", canonical.0.join("leak")).unwrap();
    let tested = canonical.commit("other", "x");
    symlink("compose.yml", canonical.0.join("untracked-link")).unwrap();
    let run = world.run();
    // Whatever the source is: the canonical tree's recipe of that name is taken.
    let copy = FetchRequest { skip_fetch: true, ..request("https://example.invalid/notes.git") };
    let fetched = world.fetch(&run, &copy).await.unwrap();
    let tree = fetched.tree;
    assert_eq!(tree.tested(), &tested);
    assert_eq!(fs::read_link(tree.root().join("leak")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::read_link(tree.root().join("untracked-link")).unwrap(), Path::new("compose.yml"));
    assert!(fetched.notes.iter().any(|note| note.contains("not tested") && note.contains("untracked-link")));
    assert!(fetched.notes.iter().any(|note| note.contains("nothing was fetched")), "{:?}", fetched.notes);
    tree.checkout(&world.life, &older_of(&world, &tree).await).await.unwrap();
    assert_eq!(canonical.head(), tested);
    assert_eq!(canonical.git(&["for-each-ref", "refs/cc-ci"]), "", "the canonical recipe was written to");

    fs::rename(canonical.0.join(".git/refs"), world.path("refs")).unwrap();
    symlink(world.path("refs"), canonical.0.join(".git/refs")).unwrap();
    let run = world.run();
    let error = world.fetch(&run, &copy).await.unwrap_err();
    assert!(matches!(&error, FetchError::Path { path, .. } if path.ends_with(".git/refs")), "{error:?}");
}

#[tokio::test]
async fn a_recipe_by_name_is_the_canonical_one() {
    let world = World::new();
    let canonical = Repository::new(&world.path("canonical/recipes/notes"));
    let run = world.run();
    let tree = world.fetch(&run, &request("notes")).await.unwrap().tree;
    assert_eq!(tree.tested(), &canonical.head());
    let error = world.fetch(&run, &request("none")).await.unwrap_err();
    assert!(matches!(error, FetchError::Path { .. }), "{error:?}");
}

/// Every object file below `objects`, spoilt.
fn spoil(objects: &Path) {
    for entry in fs::read_dir(objects).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            spoil(&path);
        } else {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            fs::write(&path, "spoilt").unwrap();
        }
    }
}

#[tokio::test]
async fn cached_objects_help_and_a_clone_never_depends_on_them() {
    let world = World::new();
    let upstream = world.recipe();
    let cache = world.path("canonical/recipes/notes");
    upstream.git(&["clone", "-q", ".", cache.to_str().unwrap()]);
    let run = world.run();
    let fetched = world.fetch(&run, &upstream.request()).await.unwrap();
    assert!(fetched.notes.is_empty(), "{:?}", fetched.notes);
    assert!(!fetched.tree.root().join(".git/objects/info/alternates").exists());
    fs::remove_dir_all(&cache).unwrap();
    Repository(fetched.tree.root().to_owned()).git(&["fsck", "--full", "--strict"]);
    let older = older_of(&world, &fetched.tree).await;
    fetched.tree.checkout(&world.life, &older).await.unwrap();
}

#[tokio::test]
async fn a_broken_cache_only_costs_time() {
    let world = World::new();
    let upstream = world.recipe();
    let cache = world.path("canonical/recipes/notes");
    upstream.git(&["clone", "-q", "--no-hardlinks", ".", cache.to_str().unwrap()]);
    spoil(&cache.join(".git/objects"));
    let run = world.run();
    let fetched = world.fetch(&run, &upstream.request()).await.unwrap();
    assert_eq!(fetched.tree.head(&world.life).await.unwrap(), upstream.head());
    Repository(fetched.tree.root().to_owned()).git(&["fsck", "--full", "--strict"]);
    assert!(fetched.notes.iter().any(|note| note.contains("no use")), "{:?}", fetched.notes);
}

/// The kernel accepts for it; it says nothing.
async fn silent_server() -> tokio::net::TcpListener {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap()
}

#[tokio::test]
async fn a_server_that_never_answers_ends_with_the_run_or_the_limit() {
    let (silent, server) = (silent_server().await, silent_server().await);
    let url = |server: &tokio::net::TcpListener| {
        format!("git://127.0.0.1:{}/notes", server.local_addr().unwrap().port())
    };
    let world = World::new();
    let run = world.run();
    let short = FetchRequest { limit: Duration::from_millis(50), ..request(&url(&silent)) };
    let error = world.fetch(&run, &short).await.unwrap_err();
    let FetchError::Git { source: GitError::Child { source, .. }, .. } = error else { panic!("{error:?}") };
    assert!(matches!(source, ChildError::TimedOut { .. }), "{source:?}");

    let patient = request(&url(&server));
    let cancel = async {
        let (connection, _) = server.accept().await.unwrap();
        world.life.cancel();
        connection
    };
    let (fetched, mut connection) = tokio::join!(world.fetch(&run, &patient), cancel);
    let error = fetched.unwrap_err();
    let FetchError::Git { source: GitError::Child { source, .. }, .. } = error else { panic!("{error:?}") };
    assert!(matches!(source, ChildError::Cancelled { cause: Cause::Embedder, .. }), "{source:?}");
    crate::lifetime::RunLifetime::begin_teardown(&world.life);
    let ended = crate::lifetime::RunLifetime::end_children(&world.life).await;
    assert!(ended.left.is_empty(), "{ended:?}");
    // git is gone: what it held of the connection is closed.
    let _asked = connection.read_to_end(&mut Vec::new()).await.is_ok();
}

#[tokio::test]
async fn what_a_server_repeats_of_what_git_signs_in_with_is_in_no_error() {
    let world = World::new();
    let run = world.run();
    let server = silent_server().await;
    let host = server.local_addr().unwrap();
    let file = world.path("credentials");
    fs::write(&file, format!("http://me:hunter22@{host}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let repeat = async {
        loop {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut asked = vec![0; 8192];
            let length = stream.read(&mut asked).await.unwrap();
            let asked = String::from_utf8_lossy(&asked[..length]);
            assert!(asked.contains("Authorization: Basic bWU6aHVudGVyMjI="), "{asked}");
            let said = format!("hunter22 may not: {}", asked.replace("\r\n", " "));
            let length = said.len();
            let answer = format!(
                "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{said}"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    };
    let request = FetchRequest {
        credentials: GitCredentials::read(&file).unwrap(),
        ..request(&format!("http://{host}/notes.git"))
    };
    let error = tokio::select! {
        fetched = world.fetch(&run, &request) => fetched.unwrap_err(),
        () = repeat => unreachable!(),
    };
    let text = format!("{} {error:?}", chain(&error));
    assert!(text.contains("[secret] may not") && text.contains("Basic [secret]"), "{text}");
    assert!(!text.contains("hunter22") && !text.contains("bWU6aHVudGVyMjI="), "{text}");
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

#[tokio::test]
async fn a_symlink_among_the_tests_is_refused_by_its_name() {
    let world = World::new();
    let upstream = world.recipe();
    fs::create_dir(upstream.0.join("tests")).unwrap();
    symlink("/etc/passwd", upstream.0.join("tests/leak")).unwrap();
    upstream.commit("tests/a", "a");
    symlink("tests", upstream.0.join("linked")).unwrap();
    upstream.commit("b", "b");
    let run = world.run();
    let tree = world.fetch(&run, &upstream.request()).await.unwrap().tree;
    for (relative, culprit) in [("tests", "tests/leak"), ("linked", "linked"), ("../notes/tests", "..")] {
        let error = tree.snapshot(&world.life, relative, &run.root().join("snapshot")).await.unwrap_err();
        assert!(matches!(error, SnapshotError::Refused(_)), "{error:?}");
        assert!(chain(&error).contains(culprit), "{}", chain(&error));
    }
    assert!(!run.root().join("snapshot/tests/leak").exists());
}

#[tokio::test]
async fn a_plain_file_in_the_way_of_servers_stops_a_fetch() {
    let world = World::new();
    let upstream = world.recipe();
    let run = world.run();
    fs::remove_file(run.abra_dir().join("servers")).unwrap();
    fs::write(run.abra_dir().join("servers"), "x").unwrap();
    let error = world.fetch(&run, &upstream.request()).await.unwrap_err();
    assert!(matches!(error, FetchError::Workspace(WorkspaceError::InTheWay { .. })), "{error:?}");
    assert_eq!(fs::read_dir(run.recipes()).unwrap().count(), 0);
}
