//! Directories by descriptor: what is given to a user.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};

use super::super::testing::{alone, mount};
use super::*;

#[test]
fn what_is_given_is_a_tree_and_neither_what_is_mounted_there_nor_what_links_name() {
    if !nix::unistd::geteuid().is_root()
        || !alone(concat!(
            "sys::files::dir::tests::",
            "what_is_given_is_a_tree_and_neither_what_is_mounted_there_nor_what_links_name"
        ))
    {
        return;
    }
    let world = tempfile::tempdir().unwrap();
    let path = |name: &str| world.path().join(name);
    for name in ["tree/a/b", "tree/mounted", "precious"] {
        fs::create_dir_all(path(name)).unwrap();
    }
    for name in ["tree/a/b/file", "precious/file", "outside", "tree/over"] {
        fs::write(path(name), "").unwrap();
    }
    symlink(path("outside"), path("tree/link")).unwrap();
    mount(&["--bind"], &path("precious"), &path("tree/mounted"));
    mount(&["--bind"], &path("outside"), &path("tree/over"));
    let owner = |name: &str| path(name).symlink_metadata().unwrap().uid();
    give_to(&path("tree"), 12_345, false).unwrap();
    for name in ["tree", "tree/a", "tree/a/b", "tree/a/b/file"] {
        assert_eq!(owner(name), 12_345, "{name}");
    }
    for name in ["precious", "precious/file", "outside", "tree/link"] {
        assert_eq!(owner(name), 0, "{name}");
    }
    // What came since is given at its top, or with all that is beneath.
    fs::write(path("tree/new"), "").unwrap();
    fs::write(path("tree/a/new"), "").unwrap();
    give_to(&path("tree"), 12_345, false).unwrap();
    assert_eq!((owner("tree/new"), owner("tree/a/new")), (12_345, 0));
    give_to(&path("tree"), 12_345, true).unwrap();
    assert_eq!(owner("tree/a/new"), 12_345);
    assert!(give_to(&path("tree/link"), 12_345, true).is_err());
    assert_eq!(owner("outside"), 0);
}

#[test]
fn a_socket_has_any_length_of_path_and_is_made_through_no_link_and_in_nobodys_place() {
    let world = tempfile::tempdir().unwrap();
    let (root, elsewhere) = (world.path().join("root"), world.path().join("elsewhere"));
    let deep = Path::new("d").join("x".repeat(200));
    fs::create_dir_all(root.join(&deep)).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, root.join("link")).unwrap();
    let dir = Dir::open(&root).unwrap();
    let _listener = dir.listen(&deep.join("socket")).unwrap();
    assert_eq!(dir.find(&deep.join("socket")).unwrap().unwrap().kind, FileType::Socket);
    assert_eq!(dir.listen(&deep.join("socket")).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    assert!(dir.listen(Path::new("link/socket")).is_err());
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}
