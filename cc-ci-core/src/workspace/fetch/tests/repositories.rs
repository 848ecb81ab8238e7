//! What a recipe is fetched from: repositories of every form, the canonical tree, a cache.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;
use crate::model::failure::{Failure, Fault};

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
