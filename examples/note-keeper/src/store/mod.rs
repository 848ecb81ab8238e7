//! The notes on disk, in the format of the release, and the conversion from one format to the next.
//!
//! What is in the directory decides, each time: `notes.json` there means that the directory is converted. A conversion
//! writes `notes.json` whole and only then removes `notes.txt`, under the directory's lock. Killed before the rename,
//! nothing happened; killed between rename and removal, both files hold the same notes, and the next start finishes.

pub(crate) mod files;
mod format;

use std::io;
use std::path::PathBuf;

pub(crate) use format::{Format, Malformed, Note, Notes};

/// Why the notes can't be read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("lock the data directory")]
    Lock(#[source] io::Error),
    #[error("read {file}")]
    Read { file: &'static str, source: io::Error },
    #[error("read {file}")]
    Decode { file: &'static str, source: Malformed },
    #[error("write {file}")]
    Write { file: &'static str, source: io::Error },
    #[error("remove {file}, which was converted")]
    Remove { file: &'static str, source: io::Error },
    #[error(
        "the data is in format json already (notes.json): serve it with --data-format json, or restore a backup \
         from before the upgrade"
    )]
    AlreadyJson,
    #[error(
        "the data is in format lines still (notes.txt): start again with --data-format json to convert it"
    )]
    StillLines,
    #[error(
        "notes.txt and notes.json are both here and hold different notes: keep the right one, move the other"
    )]
    Ambiguous,
}

/// The notes of one data directory, in one format.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    format: Format,
}

impl Store {
    pub(crate) fn new(dir: PathBuf, format: Format) -> Self {
        Self { dir, format }
    }

    pub(crate) const fn format(&self) -> Format {
        self.format
    }

    /// Makes the directory ready to be served: converts what an earlier release left. Does nothing when repeated.
    pub(crate) fn prepare(&self) -> Result<(), StoreError> {
        let _lock = files::lock(&self.dir).map_err(StoreError::Lock)?;
        if self.format == Format::Json
            && let Some(lines) = self.load(Format::Lines)?
        {
            match self.load(Format::Json)? {
                None => self.save(&lines)?,
                Some(converted) if converted.notes.starts_with(&lines.notes) => {}
                Some(_) => return Err(StoreError::Ambiguous),
            }
            let file = Format::Lines.file();
            files::remove(&self.dir, file).map_err(|source| StoreError::Remove { file, source })?;
        }
        self.read().map(drop)
    }

    /// All notes, as they are on disk now.
    pub(crate) fn read(&self) -> Result<Notes, StoreError> {
        let (found, notes) = self.read_any()?;
        match (self.format, found) {
            (Format::Lines, Some(Format::Json)) => Err(StoreError::AlreadyJson),
            (Format::Json, Some(Format::Lines)) => Err(StoreError::StillLines),
            _ => Ok(notes),
        }
    }

    /// All notes in whatever format they are in, and that format; none where there are no notes yet.
    pub(crate) fn read_any(&self) -> Result<(Option<Format>, Notes), StoreError> {
        // JSON is looked for again last: a conversion may have come between the first two looks.
        for format in [Format::Json, Format::Lines, Format::Json] {
            if let Some(notes) = self.load(format)? {
                return Ok((Some(format), notes));
            }
        }
        Ok((None, Notes::default()))
    }

    /// Adds a note.
    pub(crate) fn add(&self, text: String) -> Result<Note, StoreError> {
        self.change(|notes| {
            let note = Note { id: notes.next_id, text };
            notes.next_id = notes.next_id.saturating_add(1);
            notes.notes.push(note.clone());
            note
        })
    }

    /// Removes a note, and gives it back if there was one.
    pub(crate) fn remove(&self, id: u64) -> Result<Option<Note>, StoreError> {
        self.change(|notes| {
            let at = notes.notes.iter().position(|note| note.id == id)?;
            Some(notes.notes.remove(at))
        })
    }

    /// Reads, changes and writes under the lock; writes nothing if nothing changed.
    fn change<T>(&self, change: impl FnOnce(&mut Notes) -> T) -> Result<T, StoreError> {
        let _lock = files::lock(&self.dir).map_err(StoreError::Lock)?;
        let before = self.read()?;
        let mut notes = before.clone();
        let done = change(&mut notes);
        if notes != before {
            self.save(&notes)?;
        }
        Ok(done)
    }

    fn load(&self, format: Format) -> Result<Option<Notes>, StoreError> {
        let file = format.file();
        files::read(&self.dir, file)
            .map_err(|source| StoreError::Read { file, source })?
            .map(|content| Notes::decode(format, &content))
            .transpose()
            .map_err(|source| StoreError::Decode { file, source })
    }

    fn save(&self, notes: &Notes) -> Result<(), StoreError> {
        let file = self.format.file();
        files::replace(&self.dir, file, notes.encode(self.format).as_bytes())
            .map_err(|source| StoreError::Write { file, source })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn store(dir: &Path, format: Format) -> Store {
        Store::new(dir.to_owned(), format)
    }

    fn texts(store: &Store) -> Vec<String> {
        store.read().unwrap().notes.into_iter().map(|note| note.text).collect()
    }

    #[test]
    fn a_conversion_keeps_every_note_and_its_id_and_may_be_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let lines = store(dir.path(), Format::Lines);
        let before = [lines.add("one".into()).unwrap(), lines.add("two".into()).unwrap()];
        let json = store(dir.path(), Format::Json);
        for _ in 0..2 {
            json.prepare().unwrap();
            assert_eq!(json.read().unwrap().notes, before);
            assert!(!dir.path().join("notes.txt").exists());
        }
        assert_eq!(json.add("three".into()).unwrap().id, 3);
    }

    #[test]
    fn a_conversion_killed_between_rename_and_removal_is_finished_by_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        store(dir.path(), Format::Lines).add("one".into()).unwrap();
        let lines = fs::read(dir.path().join("notes.txt")).unwrap();
        let json = store(dir.path(), Format::Json);
        json.prepare().unwrap();
        fs::write(dir.path().join("notes.txt"), lines).unwrap();
        json.prepare().unwrap();
        assert_eq!(texts(&json), ["one"]);
        assert!(!dir.path().join("notes.txt").exists());
    }

    #[test]
    fn two_files_with_different_notes_are_both_kept() {
        let dir = tempfile::tempdir().unwrap();
        let json = store(dir.path(), Format::Json);
        json.add("one".into()).unwrap();
        fs::write(dir.path().join("notes.txt"), "another\n").unwrap();
        assert!(matches!(json.prepare(), Err(StoreError::Ambiguous)));
        assert_eq!(fs::read_to_string(dir.path().join("notes.txt")).unwrap(), "another\n");
        assert_eq!(texts(&json), ["one"]);
    }

    #[test]
    fn the_older_release_refuses_a_converted_directory_even_while_it_serves() {
        let dir = tempfile::tempdir().unwrap();
        let lines = store(dir.path(), Format::Lines);
        lines.add("one".into()).unwrap();
        let json = store(dir.path(), Format::Json);
        json.prepare().unwrap();
        assert!(matches!(lines.prepare(), Err(StoreError::AlreadyJson)));
        assert!(matches!(lines.add("lost?".into()), Err(StoreError::AlreadyJson)));
        assert_eq!(texts(&json), ["one"]);
    }

    #[test]
    fn lines_that_come_back_under_a_json_server_are_reported_and_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("notes.txt"), "restored\n").unwrap();
        let json = store(dir.path(), Format::Json);
        assert!(matches!(json.add("new".into()), Err(StoreError::StillLines)));
        json.prepare().unwrap();
        assert_eq!(texts(&json), ["restored"]);
    }

    #[test]
    fn a_removed_note_stays_away_and_its_id_is_not_given_again() {
        let dir = tempfile::tempdir().unwrap();
        let json = store(dir.path(), Format::Json);
        let note = json.add("one".into()).unwrap();
        assert_eq!(json.remove(note.id).unwrap(), Some(note));
        assert_eq!(json.remove(1).unwrap(), None);
        assert_eq!(json.add("two".into()).unwrap().id, 2);
    }
}
