//! The ends of a run's logs, as much of them as a report has.

use std::collections::BTreeSet;
use std::path::Path;

use crate::model::record::{RunRecord, Status};
use crate::report::Log;
use crate::sys::beneath::read_end_in;
use crate::sys::files::Dir;

/// As much of one log is in a report, of all together, and of so many. The files have the rest.
const LOG_END: u64 = 64 << 10;
const LOG_ENDS: u64 = 2 << 20;
const LOGS: usize = 256;

/// The ends of the logs of the run whose directory is `run` in `dir`, in the order of their names. Those of steps that failed, as
/// its `record` says, are taken before others. What can't be read, is no file, or has no room is left out.
pub(super) fn log_ends(dir: &Dir, run: &Path, record: &RunRecord) -> Vec<Log> {
    let steps = record.tiers.iter().flat_map(|tier| &tier.steps);
    let failed: BTreeSet<&str> = steps
        .filter(|step| step.status == Status::Failed)
        .filter_map(|step| step.log.as_deref()?.strip_prefix("logs/"))
        .collect();
    let mut names: Vec<String> = dir
        .names(&run.join("logs"))
        .unwrap_or_default()
        .into_iter()
        .filter_map(|name| name.into_string().ok().filter(|name| name.strip_suffix(".log").is_some()))
        .collect();
    names.sort_by(|one, other| {
        let is_other = |name: &String| !failed.contains(name.as_str());
        (is_other(one), one).cmp(&(is_other(other), other))
    });
    let mut room = LOG_ENDS;
    let end = |name: String| {
        let file = format!("logs/{name}");
        let (text, is_cut) = read_end_in(dir, run.join(&file), LOG_END.min(room)).ok()?;
        // Nothing of it has room.
        let is_left_out = room < LOG_END && is_cut && text.is_empty();
        room = room.saturating_sub(text.len() as u64);
        (!is_left_out).then_some(Log { file, text, is_cut })
    };
    let mut ends: Vec<Log> = names.into_iter().take(LOGS).filter_map(end).collect();
    ends.sort_by(|one, other| one.file.cmp(&other.file));
    ends
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    #[test]
    fn of_long_logs_the_end_is_read_and_of_many_no_more_than_a_page_holds() {
        let world = tempfile::tempdir().unwrap();
        let logs = world.path().join("1/logs");
        fs::create_dir_all(&logs).unwrap();
        fs::write(logs.join("a.log"), "first\n".to_owned() + &"x\n".repeat(1 << 16)).unwrap();
        fs::write(logs.join("b.log"), "all\n").unwrap();
        std::os::unix::fs::symlink("b.log", logs.join("c.log")).unwrap();
        fs::write(logs.join("d.txt"), "no log\n").unwrap();
        let step = json!({ "name": "recipe/z", "status": "failed", "detail": null, "seconds": 1.0, "log": "logs/z.log" });
        let record: RunRecord = serde_json::from_value(json!({
            "schema": "cc-ci.run/v1", "run_id": "1", "owner": { "pid": 1, "start_time": 2, "boot_id": "3" },
            "recipe": "demo", "subject": { "pull_request": 7 }, "domain": "demo-pr7.ci.example.org", "domains": [],
            "executor": "local", "started": "2026-01-02T03:04:05Z", "lock_waited_seconds": 0.0, "deploy_count": 1,
            "errors": [], "warnings": [],
            "tiers": [{ "name": "custom", "status": "failed", "seconds": 1.0, "steps": [step] }],
        }))
        .unwrap();
        let read = || log_ends(&Dir::open(world.path()).unwrap(), Path::new("1"), &record);
        let [long, short] = &read()[..] else { panic!("two logs") };
        assert!(long.is_cut && long.text.starts_with("x\n") && long.text.len() as u64 <= LOG_END);
        assert_eq!(*short, Log { file: "logs/b.log".to_owned(), text: "all\n".to_owned(), is_cut: false });
        for number in 0..LOGS + 5 {
            fs::write(logs.join(format!("e{number:03}.log")), "x\n".repeat(1 << 15)).unwrap();
        }
        fs::write(logs.join("z.log"), "why\n").unwrap();
        let all = read();
        let length = all.iter().map(|log| log.text.len() as u64).sum::<u64>();
        assert!(length <= LOG_ENDS && all.len() <= LOGS, "{length} bytes, {} logs", all.len());
        assert!(all.iter().all(|log| !log.text.is_empty()), "what has no room is left out");
        assert_eq!(all.last().unwrap().text, "why\n", "what a failed step said is not");
    }
}
