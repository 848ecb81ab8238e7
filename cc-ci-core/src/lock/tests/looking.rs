//! Who is shown as the holder: never a wrong name.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::process::Command;

use jiff::Timestamp;

use super::{Holder, domain, space, take};
use crate::lock::record::{Record, this_process};
use crate::lock::{AppLock, Description, FlockLocks, LockView};
use crate::sys::process::ProcessIdentity;
use crate::sys::system_info::BootId;

fn look(locks: &FlockLocks) -> LockView {
    locks.inspect(&domain()).unwrap().expect("there is a lock file")
}

fn forge(locks: &FlockLocks, process: ProcessIdentity) {
    let description = Description { run_id: None, recipe: None, phase: "forged".into() };
    let record = Record { process, since: Timestamp::UNIX_EPOCH, description: Some(description) };
    let file = OpenOptions::new().write(true).open(locks.path(&domain())).unwrap();
    record.write_to(&file).unwrap();
}

/// The lock is held by `holder`, and the record says something else: nothing of it is shown.
fn assert_plain(locks: &FlockLocks, holder: &Holder) {
    let view = look(locks);
    let shown = view.holder.expect("the kernel knows the holder");
    assert_eq!((shown.pid, shown.description, shown.since), (holder.pid(), None, None));
    assert!(view.held);
    let modified = fs::metadata(locks.path(&domain())).unwrap().modified().unwrap();
    let modified = Timestamp::try_from(modified).unwrap().as_second();
    assert_eq!(view.since.unwrap().as_second(), modified);
}

#[test]
fn a_holder_without_a_record_is_named_by_the_kernel() {
    let (_directory, locks) = space();
    let path = locks.path(&domain());
    File::create(&path).unwrap();
    let holder = Holder::of(&path);
    assert_plain(&locks, &holder);
    drop(holder);
    let view = look(&locks);
    assert!(!view.held && view.holder.is_none() && view.since.is_none(), "{view:?}");
}

#[test]
fn a_record_of_somebody_who_does_not_hold_the_lock_is_not_believed() {
    let (_directory, locks) = space();
    let boot = BootId::current().unwrap();
    let path = locks.path(&domain());
    File::create(&path).unwrap();
    let holder = Holder::of(&path);
    let pid = holder.pid();
    let real = ProcessIdentity::of(pid, boot.clone()).unwrap();

    // This process lives and is well known, but holds nothing.
    forge(&locks, this_process(boot.clone()).unwrap());
    assert_plain(&locks, &holder);
    // Another user's process, or one of everybody.
    forge(&locks, ProcessIdentity::of(1, boot.clone()).unwrap());
    assert_plain(&locks, &holder);
    // The holder's own pid, as an earlier process had it.
    forge(&locks, ProcessIdentity { start_time: real.start_time - 1, ..real.clone() });
    assert_plain(&locks, &holder);
    // The same in another boot.
    forge(&locks, ProcessIdentity { boot_id: BootId::new("another"), ..real.clone() });
    assert_plain(&locks, &holder);
    // Its own word, at last.
    forge(&locks, real);
    let shown = look(&locks).holder.unwrap();
    assert_eq!(shown.description.unwrap().phase, "forged");
    assert_eq!(shown.since, Some(Timestamp::UNIX_EPOCH));
}

#[test]
fn hostile_content_explains_nothing_and_hinders_nobody() {
    let (_directory, locks) = space();
    let path = locks.path(&domain());
    let guard = take(&locks);
    guard.describe(&Description { run_id: None, recipe: None, phase: "recover".into() });
    let mut whole = [0; 512];
    File::open(&path).unwrap().read_exact_at(&mut whole, 0).unwrap();
    drop(guard);
    let huge = vec![b'9'; 10 << 20];
    let mut torn = whole;
    torn[60..].fill(0);
    for content in [&huge[..], &[0; 4096], &torn, &whole[..511], &[0xff; 512], b"", b"pid 1\n"] {
        fs::write(&path, content).unwrap();
        let holder = Holder::of(&path);
        assert_plain(&locks, &holder);
        assert!(locks.try_acquire(&domain()).unwrap().is_none());
        drop(holder);
        let guard = take(&locks);
        assert_eq!(look(&locks).holder.unwrap().pid, nix::unistd::getpid().as_raw());
        drop(guard);
    }
}

#[test]
fn a_holder_that_inherited_the_lock_from_a_dead_process_is_unknown() {
    let (_directory, locks) = space();
    let path = locks.path(&domain());
    File::create(&path).unwrap();
    // flock(1) takes the lock on the shell's descriptor and ends.
    let script = "exec 9<>\"$0\" && flock 9 && echo held && exec cat";
    let holder = Holder::run(Command::new("sh").args(["-c", script]).arg(&path));
    let view = look(&locks);
    assert!(view.held && view.holder.is_none(), "{view:?}");
    assert!(locks.try_acquire(&domain()).unwrap().is_none());
    // A record makes it known again, for its descriptor carries the lock.
    forge(&locks, ProcessIdentity::of(holder.pid(), BootId::current().unwrap()).unwrap());
    assert_eq!(look(&locks).holder.map(|shown| shown.pid), Some(holder.pid()));
}

#[test]
fn a_process_that_passed_the_lock_on_is_not_its_holder() {
    let (_directory, locks) = space();
    let path = locks.path(&domain());
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    file.lock().unwrap();
    forge(&locks, this_process(BootId::current().unwrap()).unwrap());
    assert_eq!(look(&locks).holder.map(|shown| shown.pid), Some(nix::unistd::getpid().as_raw()));
    // The lock goes on with a child's descriptor; /proc/locks still names this process.
    let mut child = Command::new("cat").stdin(std::process::Stdio::piped()).stdout(file).spawn().unwrap();
    let view = look(&locks);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(view.held && view.holder.is_none(), "{view:?}");
    drop(take(&locks));
}

#[test]
fn a_descriptor_on_its_way_out_does_not_make_a_free_lock_look_held() {
    let (_directory, locks) = space();
    // The reader keeps closing descriptors alive for a moment, like any scan of /proc.
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                for entry in fs::read_dir("/proc/self/fdinfo").unwrap().flatten() {
                    drop(fs::read(entry.path()));
                }
            }
        });
        for _ in 0..3000 {
            drop(take(&locks));
        }
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
    });
}
