//! The ends of a run's logs, as much of them as a report has.

use std::path::Path;

use crate::report::Log;
use crate::sys::beneath::read_end_in;
use crate::sys::files::Dir;

/// As much of one log is in a report, of all together, and of so many. The files have the rest.
const LOG_END: u64 = 64 << 10;
const LOG_ENDS: u64 = 2 << 20;
const LOGS: usize = 256;

/// The ends of the logs of the run whose directory is `run` in `dir`. What can't be read, or is no file, is left out.
pub(super) fn log_ends(dir: &Dir, run: &Path) -> Vec<Log> {
    let mut names: Vec<String> = dir
        .names(&run.join("logs"))
        .unwrap_or_default()
        .into_iter()
        .filter_map(|name| name.into_string().ok().filter(|name| name.strip_suffix(".log").is_some()))
        .collect();
    names.sort();
    let mut room = LOG_ENDS;
    let end = |name: String| {
        let file = format!("logs/{name}");
        let (text, is_cut) = read_end_in(dir, run.join(&file), LOG_END.min(room)).ok()?;
        room = room.saturating_sub(text.len() as u64);
        Some(Log { file, text, is_cut })
    };
    names.into_iter().take(LOGS).filter_map(end).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

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
        let read = || log_ends(&Dir::open(world.path()).unwrap(), Path::new("1"));
        let [long, short] = &read()[..] else { panic!("two logs") };
        assert!(long.is_cut && long.text.starts_with("x\n") && long.text.len() as u64 <= LOG_END);
        assert_eq!(*short, Log { file: "logs/b.log".to_owned(), text: "all\n".to_owned(), is_cut: false });
        for number in 0..LOGS + 5 {
            fs::write(logs.join(format!("e{number:03}.log")), "x\n".repeat(1 << 15)).unwrap();
        }
        let all = read();
        let length = all.iter().map(|log| log.text.len() as u64).sum::<u64>();
        assert!(length <= LOG_ENDS && all.len() <= LOGS, "{length} bytes, {} logs", all.len());
    }
}
