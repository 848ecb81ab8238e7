use std::fs::{self, DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::process::Command;

use super::super::testing::{alone, mount, unmount};
use super::super::{remove_tree, remove_tree_until};
use super::*;

#[test]
fn symlinks_go_and_what_they_name_stays() {
    let world = tempfile::tempdir().unwrap();
    let (outside, tree) = (world.path().join("outside"), world.path().join("tree"));
    fs::create_dir_all(outside.join("inner")).unwrap();
    fs::write(outside.join("inner/file"), "stays").unwrap();
    fs::create_dir_all(tree.join("a")).unwrap();
    symlink(&outside, tree.join("link")).unwrap();
    symlink(&outside, tree.join("a/link")).unwrap();
    symlink("nowhere", tree.join("a/dangling")).unwrap();
    remove_tree(&tree).unwrap();
    assert!(tree.symlink_metadata().is_err());
    assert_eq!(fs::read_to_string(outside.join("inner/file")).unwrap(), "stays");

    symlink(&outside, &tree).unwrap();
    remove_tree(&tree).unwrap();
    assert!(tree.symlink_metadata().is_err());
    assert!(outside.join("inner/file").exists());
    remove_tree(&tree).unwrap();
}

/// A tree whose owner took all permissions away.
fn closed_tree(tree: &Path) {
    fs::create_dir_all(tree.join("locked/inner")).unwrap();
    fs::write(tree.join("locked/inner/file"), "").unwrap();
    fs::write(tree.join("locked/.removing-1"), "").unwrap();
    DirBuilder::new().mode(0o000).create(tree.join("closed")).unwrap();
    fs::set_permissions(tree.join("locked/inner"), Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(tree.join("locked"), Permissions::from_mode(0o500)).unwrap();
    fs::set_permissions(tree, Permissions::from_mode(0o500)).unwrap();
}

/// Root passes every mode, so under root a thread of its own becomes an ordinary user first.
#[test]
fn a_directory_without_permissions_is_removed() {
    let world = tempfile::tempdir().unwrap();
    let tree = world.path().join("tree");
    if nix::unistd::geteuid().is_root() {
        let nobody = 65534;
        std::os::unix::fs::chown(world.path(), Some(nobody), Some(nobody)).unwrap();
        let ordinary = || {
            let uid = rustix::thread::Uid::from_raw(nobody);
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            if fs::create_dir(&tree).is_err() {
                println!("skipped: an ordinary user can't reach {}", world.path().display());
                return;
            }
            closed_tree(&tree);
            assert!(fs::remove_dir_all(&tree).is_err(), "this user passes every mode too");
            remove_tree(&tree).unwrap();
        };
        std::thread::scope(|scope| scope.spawn(ordinary).join()).unwrap();
    } else {
        fs::create_dir(&tree).unwrap();
        closed_tree(&tree);
        remove_tree(&tree).unwrap();
    }
    assert!(tree.symlink_metadata().is_err());
}

#[test]
fn a_removal_stops_between_two_entries_and_a_later_one_goes_on() {
    let world = tempfile::tempdir().unwrap();
    let tree = world.path().join("tree");
    fs::create_dir_all(tree.join("inner")).unwrap();
    for number in 0..10 {
        fs::write(tree.join(format!("inner/{number}")), "").unwrap();
    }
    let asked = std::cell::Cell::new(0);
    let stop = || {
        asked.set(asked.get() + 1);
        asked.get() > 6
    };
    let stopped = remove_tree_until(&tree, &stop).unwrap_err();
    assert_eq!(stopped.kind(), io::ErrorKind::Interrupted);
    let left = fs::read_dir(tree.join("inner")).unwrap().count();
    assert!(0 < left && left < 10, "{left}");
    remove_tree(&tree).unwrap();
    assert!(tree.symlink_metadata().is_err());
}

#[test]
fn depth_costs_neither_stack_nor_descriptors() {
    let world = tempfile::tempdir().unwrap();
    let tree = world.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let mut at: OwnedFd = File::open(&tree).unwrap().into();
    for _ in 0..2000 {
        rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
        at = openat(&at, "d", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    }
    drop(at);
    remove_tree(&tree).unwrap();
    assert!(tree.symlink_metadata().is_err());
}

#[test]
fn what_is_mounted_in_a_tree_is_named_and_never_emptied() {
    if !alone("sys::files::remove::tests::what_is_mounted_in_a_tree_is_named_and_never_emptied") {
        return;
    }
    let world = tempfile::tempdir().unwrap();
    let (precious, tree) = (world.path().join("precious"), world.path().join("tree"));
    fs::create_dir_all(precious.join("sub")).unwrap();
    fs::write(precious.join("sub/file"), "stays").unwrap();
    fs::create_dir_all(tree.join("a/b/mounted")).unwrap();
    fs::create_dir_all(tree.join("a/c/d")).unwrap();
    fs::write(tree.join("a/b/file"), "").unwrap();
    fs::write(tree.join("a/c/d/file"), "").unwrap();
    // The same device, so that only the mount tells.
    mount(&["--bind"], &precious, &tree.join("a/b/mounted"));
    mount(&["--bind"], &precious.join("sub/file"), &tree.join("a/b/file"));
    let text = remove_tree(&tree).unwrap_err().to_string();
    for point in ["a/b/mounted", "a/b/file"] {
        assert!(text.contains(&format!("{} is a mount point", tree.join(point).display())), "{text}");
    }
    assert_eq!(fs::read_to_string(precious.join("sub/file")).unwrap(), "stays");
    assert!(!tree.join("a/c").exists(), "the rest stays");
    assert_eq!(fs::read_dir(tree.join("a/b")).unwrap().count(), 2);
    // The tree itself.
    let top = world.path().join("top");
    fs::create_dir(&top).unwrap();
    mount(&["--bind"], &precious, &top);
    assert!(remove_tree(&top).unwrap_err().to_string().contains("top is a mount point"));
    assert!(precious.join("sub/file").exists());
    for point in [tree.join("a/b/mounted"), tree.join("a/b/file"), top] {
        unmount(&point);
    }
    remove_tree(&tree).unwrap();
    assert!(tree.symlink_metadata().is_err());
}

#[test]
fn a_full_disk_is_cleaned_in_place() {
    if !alone("sys::files::remove::tests::a_full_disk_is_cleaned_in_place") {
        return;
    }
    let world = tempfile::tempdir().unwrap();
    mount(&["-t", "tmpfs", "-o", "size=64k,nr_inodes=12"], Path::new("none"), world.path());
    let tree = world.path().join("tree");
    fs::create_dir_all(tree.join("a/b/c")).unwrap();
    let full =
        |directory: &Path| (0..100).any(|n| fs::write(directory.join(n.to_string()), [0; 9000]).is_err());
    assert!(full(&tree.join("a/b")) && full(&tree.join("a")), "there is room");
    while File::create_new(tree.join(super::super::new_id().unwrap())).is_ok() {}
    remove_tree(&tree).unwrap();
    assert_eq!(fs::read_dir(world.path()).unwrap().count(), 0);
    unmount(world.path());
}

#[test]
fn every_kind_of_file_and_name_goes() {
    let world = tempfile::tempdir().unwrap();
    let tree = world.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for name in [&b"\xff\xfe"[..], b"a\nb", b"\x1b[2J", b" ", b"-rf", &[b'x'; 255]] {
        let directory = tree.join(OsStr::from_bytes(name));
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join(OsStr::from_bytes(name)), "").unwrap();
    }
    nix::unistd::mkfifo(&tree.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap();
    remove_tree(&tree).unwrap();
    drop(socket);
    assert!(tree.symlink_metadata().is_err());
}

#[test]
fn what_cant_go_is_named_and_the_rest_goes() {
    let world = tempfile::tempdir().unwrap();
    let tree = world.path().join("tree");
    fs::create_dir_all(tree.join("a/fixed")).unwrap();
    fs::create_dir_all(tree.join("b/c")).unwrap();
    let fixed = tree.join("a/fixed/file");
    fs::write(&fixed, "").unwrap();
    let chattr = |flag: &str| Command::new("chattr").arg(flag).arg(&fixed).output().unwrap().status.success();
    if !chattr("+i") {
        println!("skipped: no file can be made immutable here");
        return;
    }
    let error = remove_tree(&tree).unwrap_err();
    assert!(chattr("-i"));
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    assert!(error.to_string().starts_with(&fixed.display().to_string()), "{error}");
    assert!(!tree.join("b").exists(), "the rest stays");
    remove_tree(&tree).unwrap();
}
