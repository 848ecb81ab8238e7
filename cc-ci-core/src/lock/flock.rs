//! Locks as the kernel keeps them: `flock` on `<directory>/cc-ci-app-<domain>.lock`.

use std::fmt;
use std::fs::TryLockError;
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use super::directory::{ATTEMPTS, FileId, LockDirectory, LockFile, PLACE, failed, names};
use super::holder::{Seen, confirm, see};
use super::left_clean;
use super::record::{Record, this_process};
use super::wait::Waiting;
use super::{
    AcquireError, AppGuard, AppLock, Description, HeldLock, Holder, LockError, LockView, OwnershipCheck, Wait,
};
use crate::model::cancellation::Cancellation;
use crate::model::event::{Event, Reporter};
use crate::names::Domain;
use crate::sys::blocking::{self, blocks, briefly};
use crate::sys::process::ProcessIdentity;
use crate::sys::system_info::SystemInfo;

/// How often the holder is told again.
const TELL_HOLDER: Duration = Duration::from_mins(1);
/// A lock that nobody holds by his own account may be a descriptor on its way out: in a scan of `/proc`, in a
/// child before its exec, in a wait that was given up as it was served. So often it is looked at in all, with
/// pauses that double: 51 ms together.
const LOOKS: u32 = 9;
const PAUSE: Duration = Duration::from_micros(200);

/// The locks in one directory. Clones share it.
///
/// Any program that does `flock(2)` on the same paths takes part: `flock(1)`, Python's `fcntl.flock`. From the first lock on, the
/// directory is kept open, so its file system is in use, as long as this or a clone lives.
#[derive(Debug, Clone)]
pub struct FlockLocks {
    directory: Arc<LockDirectory>,
    host: Arc<dyn SystemInfo>,
}

impl FlockLocks {
    /// Where the locks of a host are, unless its operator says otherwise.
    pub const DEFAULT_DIRECTORY: &str = "/run/lock";

    /// The locks in `directory`. Nothing is opened yet.
    pub fn new(directory: impl Into<PathBuf>, host: Arc<dyn SystemInfo>) -> Self {
        Self { directory: Arc::new(LockDirectory::new(directory.into())), host }
    }

    /// Shares lock files with a group: new ones get it, and the mode 0660.
    pub fn with_group(self, group: u32) -> Self {
        self.with(|directory| directory.group = Some(group))
    }

    /// Accepts lock files of these users too, not only root's and our own.
    pub fn with_trusted_owners(self, owners: impl IntoIterator<Item = u32>) -> Self {
        self.with(|directory| directory.trusted_owners.extend(owners))
    }

    pub(super) fn with(self, change: impl FnOnce(&mut LockDirectory)) -> Self {
        let LockDirectory { path, prefix, group, trusted_owners, refused_filesystem, .. } = &*self.directory;
        let mut directory = LockDirectory::new(path.clone());
        directory.prefix = prefix;
        directory.group = *group;
        directory.trusted_owners.clone_from(trusted_owners);
        directory.refused_filesystem = *refused_filesystem;
        change(&mut directory);
        Self { directory: Arc::new(directory), host: self.host }
    }

    /// The locks of places beside these, which are no app's, in the same directory and by the same rules.
    pub(crate) fn places(&self) -> Self {
        self.clone().with(|directory| directory.prefix = PLACE)
    }

    /// Where the lock file of `domain` is, there or not.
    pub fn path(&self, domain: &Domain) -> PathBuf {
        self.directory.file_of(domain)
    }

    /// Looks whether locks in this directory are worth something: whether it can be used, whoever can replace its
    /// files is trusted, and its file system keeps locks. Makes nothing; blocks.
    ///
    /// # Errors
    /// When not: the first reason.
    pub fn check_directory(&self) -> Result<(), LockError> {
        self.directory.check_directory()
    }

    /// One try.
    fn probe(&self, domain: &Domain) -> Result<Probe, LockError> {
        let path = self.path(domain);
        let mut as_before = self.directory.open_as_before(&path);
        for _ in 0..ATTEMPTS {
            let was_open = as_before.is_some();
            let opened = match as_before.take() {
                Some(opened) => opened,
                None => self.directory.open(&path)?,
            };
            match opened.file.try_lock() {
                Ok(()) if opened.is_current()? => return Ok(Probe::Taken(opened)),
                Ok(()) => (),
                // Held, but perhaps in a directory that was replaced: that says nothing of this lock.
                Err(TryLockError::WouldBlock) if was_open && !opened.is_current()? => (),
                Err(TryLockError::WouldBlock) => {
                    let record = Record::read_from(&opened.file);
                    let id = opened.id;
                    drop(opened);
                    let holder = self.confirmed(record.as_ref(), id)?.1;
                    let ours = |pid| pid == nix::unistd::getpid().as_raw();
                    let recorded = holder.is_some_and(|holder| {
                        holder.since.is_some() && !(ours(holder.pid) && Waiting::any_ends())
                    });
                    return Ok(if recorded { Probe::Held } else { Probe::HeldByNobodyKnown });
                }
                Err(TryLockError::Error(error)) => return Err(failed("lock", &path, error)),
            }
        }
        Err(LockError::Unstable { path, attempts: ATTEMPTS })
    }

    fn hold(&self, domain: &Domain, opened: LockFile) -> Held {
        Held {
            opened,
            domain: domain.clone(),
            since: self.host.now(),
            process: this_process(self.host.boot_id()).ok(),
            was_left_clean: false,
        }
    }

    /// From the first moment, so that waiters see whom they wait for.
    fn hold_with_record(&self, domain: &Domain, opened: LockFile) -> AppGuard {
        let was_left_clean = left_clean::take(&opened.file);
        let held = Held { was_left_clean, ..self.hold(domain, opened) };
        held.record(None);
        AppGuard::new(held)
    }

    fn confirmed(&self, record: Option<&Record>, id: FileId) -> Result<(Seen, Option<Holder>), LockError> {
        let seen = see(id).map_err(|error| failed("read", std::path::Path::new("/proc/locks"), error))?;
        let holder = confirm(record, &seen, id, &self.host.boot_id());
        Ok((seen, holder))
    }

    async fn tell_holder(&self, domain: &Domain, reporter: &dyn Reporter) {
        let (locks, of) = (self.clone(), domain.clone());
        let view = blocking::run(move || locks.inspect(&of)).await.unwrap_or_else(|error| {
            tracing::debug!(%domain, %error, "can't look at the awaited lock");
            None
        });
        let (holder, waiting) = view.map_or((None, 0), |view| (view.holder, view.waiting));
        // We wait, even if the kernel does not show it yet.
        reporter.report(&Event::LockHolder { domain: domain.clone(), holder, queue: waiting.max(1) });
    }
}

impl fmt::Display for FlockLocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "locks in {}", self.directory.path.display())
    }
}

enum Probe {
    Taken(LockFile),
    Held,
    HeldByNobodyKnown,
}

#[async_trait]
impl AppLock for FlockLocks {
    fn try_acquire(&self, domain: &Domain) -> Result<Option<AppGuard>, LockError> {
        for look in 1..=LOOKS {
            match self.probe(domain)? {
                Probe::Taken(opened) => {
                    let held = self.hold(domain, opened);
                    // A probe mostly lets go at once, so it leaves no record; but none of an earlier hold of
                    // this very process may pass for its own.
                    if held.process.as_ref().is_none_or(|own| Record::may_name(&held.opened.file, own.pid)) {
                        held.record(None);
                    }
                    return Ok(Some(AppGuard::new(held)));
                }
                Probe::HeldByNobodyKnown if look < LOOKS => std::thread::sleep(PAUSE * (1 << look) / 2),
                Probe::Held | Probe::HeldByNobodyKnown => break,
            }
        }
        Ok(None)
    }

    async fn acquire(
        &self,
        domain: &Domain,
        wait: Wait,
        cancellation: &Cancellation,
        reporter: &dyn Reporter,
    ) -> Result<AppGuard, AcquireError> {
        let begun = Instant::now();
        let cancelled = |cause| AcquireError::Cancelled { domain: domain.clone(), cause };
        let timed_out = || AcquireError::TimedOut { domain: domain.clone(), waited: begun.elapsed() };
        for look in 1..=LOOKS {
            if let Some(cause) = cancellation.cause() {
                return Err(cancelled(cause));
            }
            // A free lock is taken in some microseconds, and what is held is told from `/proc`.
            match briefly(|| self.probe(domain))? {
                Probe::Taken(opened) => return Ok(self.hold_with_record(domain, opened)),
                Probe::HeldByNobodyKnown if look < LOOKS => sleep(PAUSE * (1 << look) / 2).await,
                Probe::Held | Probe::HeldByNobodyKnown => break,
            }
        }
        if wait == Wait::No {
            return Err(timed_out());
        }

        reporter.report(&Event::LockWaiting { domain: domain.clone(), limit: wait.limit() });
        let mut waiting = Waiting::begin(&self.directory, &self.path(domain))?;
        self.tell_holder(domain, reporter).await;
        let timeout = async {
            match wait {
                Wait::Until(bound) => sleep(bound.saturating_sub(begun.elapsed())).await,
                Wait::No | Wait::Forever => pending().await,
            }
        };
        tokio::pin!(timeout);
        let mut ticks = interval_at(Instant::now() + TELL_HOLDER, TELL_HOLDER);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let failure = loop {
            tokio::select! {
                biased;
                cause = cancellation.cancelled() => break cancelled(cause),
                granted = waiting.granted() => {
                    let guard = self.hold_with_record(domain, granted?);
                    reporter.report(&Event::LockAcquired { domain: domain.clone(), waited: begun.elapsed() });
                    return Ok(guard);
                }
                () = &mut timeout => break timed_out(),
                _ = ticks.tick() => self.tell_holder(domain, reporter).await,
            }
        };
        waiting.end().await;
        Err(failure)
    }

    fn inspect(&self, domain: &Domain) -> Result<Option<LockView>, LockError> {
        let Some((file, stat)) = self.directory.open_to_look(&self.path(domain))? else { return Ok(None) };
        let record = file.as_ref().and_then(Record::read_from);
        drop(file);
        let (seen, holder) = self.confirmed(record.as_ref(), FileId::from(&stat))?;
        let held = seen.held() || holder.is_some();
        let recorded = holder.as_ref().and_then(|holder| holder.since);
        let since = recorded.or_else(|| Timestamp::from_second(stat.st_mtime).ok());
        Ok(Some(LockView {
            domain: domain.clone(),
            held,
            holder,
            waiting: seen.waiting,
            waiters: seen.waiters.into_iter().collect(),
            since: since.filter(|_| held),
        }))
    }

    fn domains(&self) -> Result<Vec<Domain>, LockError> {
        blocks();
        let path = &self.directory.path;
        let unreadable = |error: std::io::Error| LockError::Directory {
            path: path.clone(),
            reason: format!("it can't be read: {error}"),
        };
        let mut domains = Vec::new();
        for entry in std::fs::read_dir(path).map_err(unreadable)? {
            domains.extend(self.directory.domain_of(&entry.map_err(unreadable)?.file_name()));
        }
        domains.sort_unstable();
        Ok(domains)
    }

    fn space(&self) -> Result<String, LockError> {
        let FileId { device, inode } = self.directory.id()?;
        Ok(format!("{device}:{inode}"))
    }

    fn place(&self) -> PathBuf {
        let path = &self.directory.path;
        std::path::absolute(path).unwrap_or_else(|_| path.clone())
    }
}

/// A held lock: the kernel gives it up when the descriptor is closed.
#[derive(Debug)]
struct Held {
    opened: LockFile,
    domain: Domain,
    since: Timestamp,
    /// This process; none where `/proc` can't be read.
    process: Option<ProcessIdentity>,
    was_left_clean: bool,
}

impl Held {
    fn record(&self, description: Option<&Description>) {
        let Some(process) = self.process.clone() else {
            tracing::warn!(path = %self.opened.path.display(), "can't tell who holds the lock");
            return;
        };
        let record = Record { process, since: self.since, description: description.cloned() };
        let written = record.write_to(&self.opened.file);
        if let Err(error) = written {
            tracing::warn!(path = %self.opened.path.display(), %error, "can't write who holds the lock");
        }
    }
}

impl HeldLock for Held {
    fn domain(&self) -> &Domain {
        &self.domain
    }

    fn describe(&self, description: &Description) {
        self.record(Some(description));
    }

    fn was_left_clean(&self) -> bool {
        self.was_left_clean
    }

    fn leave_clean(&self) {
        if let Err(error) = left_clean::leave(&self.opened.file) {
            tracing::debug!(path = %self.opened.path.display(), %error, "the next holder will search for itself");
        }
    }

    fn ownership(&self) -> OwnershipCheck {
        let (id, path) = (self.opened.id, self.opened.path.clone());
        let named = path.clone();
        OwnershipCheck::new(self.domain.clone(), Some(path), move || match names(&named, id) {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("{} is no longer the file that is held", named.display())),
            Err(error) => Err(crate::model::error_chain(&error)),
        })
    }

    fn unlink(self: Box<Self>) -> Result<(), LockError> {
        let path = &self.opened.path;
        if !self.opened.is_current()? {
            let reason = "it is no longer the file that is held".to_owned();
            return Err(LockError::Refused { path: path.clone(), reason });
        }
        self.opened.unlink().map_err(|error| failed("remove the lock file", path, error))
    }
}
