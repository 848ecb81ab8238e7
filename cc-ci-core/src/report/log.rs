//! The end of a log, as a report has it.

/// The end of a log of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Where all of it is: a path in the run's directory, such as `logs/service-app.log`.
    pub file: String,
    /// Its last lines.
    pub text: String,
    /// Whether there is more of it.
    pub is_cut: bool,
}
