//! What may be a lock file.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use nix::sys::stat::Mode;
use nix::sys::statfs::statfs;

use super::{domain, space, take};
use crate::lock::{AppLock, FlockLocks, LockError};
use crate::sys::system_info::KernelSystemInfo;

/// Both ways to the file refuse it, and say why.
fn refused(locks: &FlockLocks) -> String {
    let path = locks.path(&domain());
    let reason = |error| match error {
        LockError::Refused { path: named, reason } if named == path => reason,
        other => panic!("{other:?}"),
    };
    let looked = reason(locks.inspect(&domain()).unwrap_err());
    let taken = reason(locks.try_acquire(&domain()).unwrap_err());
    assert_eq!(looked, taken);
    taken
}

fn unusable(directory: &Path) -> String {
    let locks = FlockLocks::new(directory, Arc::new(KernelSystemInfo::new().unwrap()));
    match locks.try_acquire(&domain()).unwrap_err() {
        LockError::Directory { path, reason } if path == directory => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_plain_file_is_refused_by_name() {
    let (directory, locks) = space();
    let path = locks.path(&domain());
    let other = directory.path().join("other");
    File::create(&other).unwrap();

    symlink(&other, &path).unwrap();
    assert_eq!(refused(&locks), "it is a symbolic link");
    fs::remove_file(&path).unwrap();

    symlink(directory.path().join("nowhere"), &path).unwrap();
    assert_eq!(refused(&locks), "it is a symbolic link");
    assert!(!directory.path().join("nowhere").exists());
    fs::remove_file(&path).unwrap();

    nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
    assert_eq!(refused(&locks), "it is a FIFO");
    fs::remove_file(&path).unwrap();

    let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert_eq!(refused(&locks), "it is a socket");
    drop(socket);
    fs::remove_file(&path).unwrap();

    fs::create_dir(&path).unwrap();
    assert_eq!(refused(&locks), "it is a directory");
    fs::remove_dir(&path).unwrap();

    fs::hard_link(&other, &path).unwrap();
    assert_eq!(refused(&locks), "it has 2 links, so it is some other file too");
    fs::remove_file(&other).unwrap();
    drop(take(&locks));
}

#[test]
fn a_file_of_somebody_else_is_refused_unless_he_is_trusted() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root can give a file away");
        return;
    }
    let (_directory, locks) = space();
    let path = locks.path(&domain());
    drop(take(&locks));
    std::os::unix::fs::chown(&path, Some(4711), None).unwrap();
    assert_eq!(refused(&locks), "it is owned by user 4711, who is not trusted");
    drop(take(&locks.with_trusted_owners([4711])));
}

#[test]
fn a_new_lock_file_is_ours_alone_or_the_groups() {
    let (_directory, locks) = space();
    drop(take(&locks));
    let path = locks.path(&domain());
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    fs::remove_file(&path).unwrap();

    // Any group but the default, where this user may give it.
    let group = if nix::unistd::geteuid().is_root() { 4711 } else { nix::unistd::getegid().as_raw() };
    drop(take(&locks.with_group(group)));
    let created = fs::metadata(&path).unwrap();
    assert_eq!((created.mode() & 0o7777, created.gid()), (0o660, group));
}

#[test]
fn an_existing_file_keeps_its_mode() {
    let (_directory, locks) = space();
    let path = locks.path(&domain());
    File::create(&path).unwrap().set_permissions(PermissionsExt::from_mode(0o644)).unwrap();
    drop(take(&locks));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o644);
}

#[test]
fn a_directory_that_cannot_be_used_is_named_with_the_reason() {
    let (directory, _) = space();
    assert_eq!(unusable(&directory.path().join("missing")), "it does not exist");
    let file = directory.path().join("file");
    File::create(&file).unwrap();
    assert_eq!(unusable(&file), "it is not a directory");
    // Not even root creates files there.
    assert_eq!(unusable(Path::new("/sys/kernel")), "this user may not write to it");
}

#[test]
fn a_filesystem_whose_locks_may_span_hosts_is_refused() {
    let (directory, locks) = space();
    drop(take(&locks));
    let kind = statfs(directory.path()).unwrap().filesystem_type();
    // Another filesystem stands for NFS here: that of the test.
    let locks = locks.with(|rules| rules.refused_filesystem = kind);
    for error in [locks.try_acquire(&domain()).unwrap_err(), locks.check_directory().unwrap_err()] {
        assert!(matches!(&error, LockError::Directory { path, .. } if path == directory.path()), "{error:?}");
    }
}

#[test]
fn a_directory_where_others_may_replace_lock_files_is_told() {
    let (directory, locks) = space();
    let reason = |locks: &FlockLocks| match locks.check_directory() {
        Ok(()) => "none".to_owned(),
        Err(LockError::Directory { path, reason }) if path == directory.path() => reason,
        Err(other) => panic!("{other:?}"),
    };
    let mode = |mode| fs::set_permissions(directory.path(), PermissionsExt::from_mode(mode)).unwrap();
    assert_eq!(reason(&locks), "none");
    mode(0o1777);
    assert_eq!(reason(&locks), "none");
    mode(0o777);
    assert!(reason(&locks).contains("not sticky"), "{}", reason(&locks));
    mode(0o700);
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(directory.path(), Some(65534), None).unwrap();
        assert_eq!(reason(&locks), "it is owned by user 65534, who is not trusted");
        assert_eq!(reason(&locks.with_trusted_owners([65534])), "none");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "a look made something");
    for missing in ["missing", "file"] {
        let path = directory.path().join(missing);
        if missing == "file" {
            File::create(&path).unwrap();
        }
        let locks = FlockLocks::new(&path, Arc::new(KernelSystemInfo::new().unwrap()));
        assert!(matches!(locks.check_directory(), Err(LockError::Directory { .. })));
    }
}

#[test]
fn a_lock_file_can_only_be_removed_while_it_is_the_one_held() {
    let (_directory, locks) = space();
    let path = locks.path(&domain());
    let guard = take(&locks);
    fs::remove_file(&path).unwrap();
    let fresh = take(&locks);
    let error = guard.unlink().unwrap_err();
    assert!(matches!(error, LockError::Refused { .. }), "{error:?}");
    assert!(path.exists(), "somebody else's lock file was removed");
    fresh.unlink().unwrap();
    assert!(!path.exists());
}

#[test]
fn only_lock_files_of_domains_are_listed() {
    let (directory, locks) = space();
    for name in ["cc-ci-app-b.org.lock", "cc-ci-app-a.org.lock", "cc-ci-app-NO.lock", "a.org.lock", "x"] {
        File::create(directory.path().join(name)).unwrap();
    }
    let listed: Vec<String> = locks.domains().unwrap().into_iter().map(String::from).collect();
    assert_eq!(listed, ["a.org", "b.org"]);
}

/// How many descriptors of this process are of `directory`.
fn descriptors_of(directory: &Path) -> usize {
    let directory = fs::canonicalize(directory).unwrap();
    let open = fs::read_dir("/proc/self/fd").unwrap().map(|fd| fd.unwrap().path());
    open.filter(|fd| fs::read_link(fd).is_ok_and(|path| path == directory)).count()
}

#[test]
fn the_directory_is_opened_once_and_kept_no_longer_than_its_locks() {
    let (directory, locks) = space();
    let other = "note-012346.ci.example.org".parse().unwrap();
    File::create(locks.path(&domain())).unwrap();
    File::create(locks.path(&other)).unwrap();
    let held = (take(&locks), locks.try_acquire(&other).unwrap().unwrap());
    assert_eq!(descriptors_of(directory.path()), 1);
    drop(held);
    drop(take(&locks));
    assert_eq!(descriptors_of(directory.path()), 1);
    drop(locks);
    assert_eq!(descriptors_of(directory.path()), 0);
}

#[test]
fn a_directory_that_was_replaced_is_not_used_though_it_is_still_open() {
    for (held_there, still_held) in [(false, true), (true, true), (false, false), (true, false)] {
        let above = tempfile::tempdir().unwrap();
        let (path, old) = (above.path().join("locks"), above.path().join("old"));
        fs::create_dir(&path).unwrap();
        let locks = FlockLocks::new(&path, Arc::new(KernelSystemInfo::new().unwrap()));
        let other = "note-012346.ci.example.org".parse().unwrap();
        let file = File::create(locks.path(&other)).unwrap();
        let held = Some(take(&locks)).filter(|_| still_held);
        if held_there {
            file.lock().unwrap();
        }

        fs::rename(&path, &old).unwrap();
        fs::create_dir(&path).unwrap();
        let taken = locks.try_acquire(&other).unwrap().expect("nobody holds the lock at this path");
        taken.ownership().check().unwrap();
        if let Some(held) = &held {
            held.ownership().check().unwrap_err();
        }
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
        taken.unlink().unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        assert_eq!(fs::read_dir(&old).unwrap().count(), 2, "a lock file of another directory was touched");
    }
}
