//! The two data formats: one note a line, and JSON with ids.

use serde::{Deserialize, Serialize};

/// How notes lie on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `notes.txt`, one note a line; the line number is the id.
    Lines,
    /// `notes.json`, with ids that stay.
    Json,
}

impl Format {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Json => "json",
        }
    }

    pub(crate) const fn file(self) -> &'static str {
        match self {
            Self::Lines => "notes.txt",
            Self::Json => "notes.json",
        }
    }
}

/// One note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) id: u64,
    pub(crate) text: String,
}

/// All notes, and the id of the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notes {
    pub(crate) next_id: u64,
    pub(crate) notes: Vec<Note>,
}

impl Default for Notes {
    fn default() -> Self {
        Self { next_id: 1, notes: Vec::new() }
    }
}

/// A file holds what no release of the app writes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("it is not the JSON that this app writes")]
    Json(#[source] serde_json::Error),
    #[error("it has version {0}, and this app knows version {VERSION} only")]
    Version(u64),
}

const VERSION: u64 = 1;

#[derive(Serialize, Deserialize)]
struct Document {
    version: u64,
    next_id: u64,
    notes: Vec<Note>,
}

#[derive(Deserialize)]
struct Envelope {
    version: u64,
}

impl Notes {
    pub(crate) fn decode(format: Format, content: &str) -> Result<Self, Malformed> {
        match format {
            Format::Lines => Ok(Self::from_lines(content)),
            Format::Json => Self::from_json(content),
        }
    }

    pub(crate) fn encode(&self, format: Format) -> String {
        match format {
            Format::Lines => self.notes.iter().flat_map(|note| [note.text.as_str(), "\n"]).collect(),
            Format::Json => {
                let document = serde_json::json!({
                    "version": VERSION,
                    "next_id": self.next_id,
                    "notes": self.notes,
                });
                format!("{document:#}\n")
            }
        }
    }

    fn from_lines(content: &str) -> Self {
        let notes: Vec<Note> =
            (1..).zip(content.lines()).map(|(id, line)| Note { id, text: line.to_owned() }).collect();
        Self { next_id: notes.last().map_or(1, |last| last.id + 1), notes }
    }

    fn from_json(content: &str) -> Result<Self, Malformed> {
        // The version first: what comes after it may look different in a later one.
        let Envelope { version } = serde_json::from_str(content).map_err(Malformed::Json)?;
        if version != VERSION {
            return Err(Malformed::Version(version));
        }
        let document: Document = serde_json::from_str(content).map_err(Malformed::Json)?;
        // An id is never given twice, not even by a file that was edited by hand.
        let next_id = document.notes.iter().map(|note| note.id.saturating_add(1)).max().unwrap_or(1);
        Ok(Self { next_id: next_id.max(document.next_id), notes: document.notes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_give_back_what_they_took() {
        let notes = Notes::from_lines("one\n\n ünï\n");
        assert_eq!(notes.next_id, 4);
        for format in [Format::Lines, Format::Json] {
            assert_eq!(Notes::decode(format, &notes.encode(format)).unwrap(), notes);
        }
    }

    #[test]
    fn a_json_of_another_version_is_refused_whatever_else_it_holds() {
        let newer = r#"{"version": 2, "shelves": []}"#;
        assert!(matches!(Notes::from_json(newer), Err(Malformed::Version(2))));
        assert!(matches!(Notes::from_json("{"), Err(Malformed::Json(_))));
    }

    #[test]
    fn an_id_is_not_given_twice() {
        let edited = r#"{"version": 1, "next_id": 1, "notes": [{"id": 7, "text": "a"}]}"#;
        assert_eq!(Notes::from_json(edited).unwrap().next_id, 8);
    }
}
