//! Whether a run goes on, proved: for who is about to signal its process.
//!
//! A record may say anything, and a pid is somebody else's a moment later. So the process is taken for the run's only where it is
//! the one that the record names, by its start in this boot, and the kernel says that it holds the run's `run.lock`.

use std::io;
use std::os::unix::fs::MetadataExt as _;

use super::past_runs::PastRuns;
use crate::lock::holds;
use crate::model::failure::Failure;
use crate::model::record::{RunRecord, Verdict};
use crate::names::RunId;
use crate::sys::system_info::BootId;

impl PastRuns {
    /// The record of a run that goes on: its `owner` is the process that runs it. One that has ended, is dead, is another
    /// user's or can't be told is refused.
    pub fn live(&self, id: &RunId, boot: &BootId) -> Result<RunRecord, Failure> {
        let lock = match self.files(id).and_then(|files| files.open_lock()) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(self.of_another_user(id));
            }
            // Its record says what is missing.
            lock => lock.ok(),
        };
        let record = self.record(id)?;
        if let Some(verdict) = record.verdict {
            let how = Verdict::word(Some(verdict));
            return Err(Failure::configuration(format!("run {id} has ended: {how}"))
                .with_hint(format!("cc-ci report {id} shows its result")));
        }
        let owner = &record.owner;
        if owner.is_alive(boot) {
            if lock.is_some_and(|lock| holds(owner.pid, &lock)) {
                return Ok(record);
            }
            return Err(Failure::host(format!(
                "can't prove that {owner} runs {id}: it does not hold the lock of the run"
            ))
            .with_hint(format!(
                "ask it where it was started: in a container, cc-ci cancel {id} inside of it"
            )));
        }
        let why = if owner.boot_id == *boot {
            format!("{owner} is gone")
        } else {
            "it began in another boot of this host".to_owned()
        };
        Err(Failure::configuration(format!("run {id} is dead: {why}")).with_hint(format!(
            "cc-ci janitor removes what it left; cc-ci report {id} shows how far it came"
        )))
    }

    fn of_another_user(&self, id: &RunId) -> Failure {
        // Its directory lets nobody else in, and neither may the one that this is in.
        let uid = self.directory(id).ancestors().take(2).find_map(|path| path.symlink_metadata().ok());
        let uid = uid.map(|metadata| metadata.uid());
        let whose = uid.map(|uid| format!(" (uid {uid})")).unwrap_or_default();
        let user = uid.map(|uid| format!("sudo -u '#{uid}' ")).unwrap_or_default();
        Failure::configuration(format!("run {id} is another user's{whose}"))
            .with_hint(format!("ask as that user: {user}cc-ci cancel {id}"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;
    use crate::sys::files::RUN_RECORD;
    use crate::sys::process::ProcessIdentity;
    use crate::workspace::{AbraWorkspace as _, KernelWorkspace, RunDir, Settings};

    /// A run in `world` that this process holds and whose record says that `owner` runs it.
    fn run(world: &Path, owner: &ProcessIdentity, verdict: Option<&str>) -> (RunDir, PastRuns) {
        let runs = world.join("runs");
        let run = KernelWorkspace::new(Settings::new(&runs).unwrap()).unwrap().create(&"1".parse().unwrap());
        let run = run.unwrap();
        let record = json!({
            "schema": "cc-ci.run/v1", "run_id": "1", "owner": owner, "recipe": "app",
            "subject": { "pull_request": 1 }, "domain": "app-000001.ci.test", "domains": [], "executor": "local",
            "started": "2026-11-29T09:00:00Z", "lock_waited_seconds": 0.0, "deploy_count": 0, "tiers": [],
            "errors": [], "warnings": [], "verdict": verdict.map_or(Value::Null, Value::from)
        });
        fs::write(run.root().join(RUN_RECORD), record.to_string()).unwrap();
        (run, PastRuns::new(runs))
    }

    #[test]
    fn only_a_run_whose_process_holds_its_lock_goes_on() {
        let boot = BootId::current().unwrap();
        let me = ProcessIdentity::current(boot.clone()).unwrap();
        let id: RunId = "1".parse().unwrap();
        let refused = |owner: &ProcessIdentity, verdict| {
            let world = tempfile::tempdir().unwrap();
            let (_run, runs) = run(world.path(), owner, verdict);
            let failure = runs.live(&id, &boot).unwrap_err();
            format!("{}; {}", failure.chain(), failure.hint().unwrap_or_default())
        };
        let world = tempfile::tempdir().unwrap();
        let (held, runs) = run(world.path(), &me, None);
        assert_eq!(runs.live(&id, &boot).unwrap().owner, me);
        drop(held);
        // Nobody holds it any more, and this process lives on.
        assert!(runs.live(&id, &boot).unwrap_err().chain().contains("can't prove"));
        assert!(runs.live(&"2".parse().unwrap(), &boot).unwrap_err().chain().contains("there is no run 2"));
        let said = refused(&me, Some("green"));
        assert_eq!(said, "run 1 has ended: green; cc-ci report 1 shows its result");
        let later = ProcessIdentity { start_time: me.start_time + 1, ..me.clone() };
        assert!(refused(&later, None).contains("is dead: pid") && refused(&later, None).contains("janitor"));
        let before = ProcessIdentity { boot_id: BootId::new("before"), ..me.clone() };
        assert!(refused(&before, None).contains("it began in another boot"));
        let parent = ProcessIdentity::of(nix::unistd::getppid().as_raw(), boot.clone()).unwrap();
        assert!(refused(&parent, None).contains("does not hold the lock of the run"));
    }
}
