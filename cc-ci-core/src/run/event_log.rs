//! A run's events, told and kept.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::engine::Redactor;
use crate::model::event::{Event, EventLine, Reporter};
use crate::sys::output::QueuedWriter;
use crate::sys::system_info::SystemInfo;

/// The file of a run's events.
pub(super) const EVENTS: &str = "events.ndjson";

/// What writing the last events may take.
const EVENTS_LIMIT: Duration = Duration::from_secs(5);

/// So many warnings are kept for the record; all are in `events.ndjson`.
const MAX_WARNINGS: usize = 1000;

/// Keeps a run's events in `events.ndjson` beside telling them, and its warnings for its record, whoever gave them.
#[derive(Debug)]
pub(super) struct EventLog {
    file: Option<QueuedWriter>,
    warnings: Mutex<Vec<String>>,
    host: Arc<dyn SystemInfo>,
    inner: Arc<dyn Reporter>,
    redactor: Redactor,
}

impl EventLog {
    /// Begins, with the `file` to keep them in.
    pub fn start(
        file: io::Result<File>,
        host: Arc<dyn SystemInfo>,
        inner: Arc<dyn Reporter>,
        redactor: Redactor,
    ) -> Self {
        let file = file.map(|file| QueuedWriter::new("events", file));
        if let Err(error) = &file {
            inner.report(&Event::Warning { text: format!("events are not recorded: {error}") });
        }
        Self { file: file.ok(), warnings: Mutex::default(), host, inner, redactor }
    }

    /// Keeps what somebody else has told already.
    pub fn keep(&self, event: &Event) {
        let event = &event.map_text(|text| self.redactor.redact(text));
        let line = EventLine::new(self.host.now(), event);
        if let (Some(file), Ok(line)) = (&self.file, serde_json::to_string(&line)) {
            file.write(crate::sys::text::sanitize_json(&line) + "\n");
        }
    }

    /// The warnings so far.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits, within a bound, until what was kept is written.
    pub fn close(&self) {
        // A disk that is full or stuck costs events, never the run's end.
        let _written = self.file.as_ref().is_none_or(|file| file.flush(EVENTS_LIMIT));
    }
}

impl Reporter for EventLog {
    fn report(&self, event: &Event) {
        let event = &event.map_text(|text| self.redactor.redact(text));
        if let Event::Warning { text } = event {
            let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
            if warnings.len() < MAX_WARNINGS {
                warnings.push(text.clone());
            }
        }
        self.keep(event);
        self.inner.report(event);
    }
}
