//! How the bridge goes about it, and how long it waits.

use std::time::Duration;

use crate::names::Repo;
use crate::request::Policy;

/// The longest wait after failures.
const LONGEST_WAIT: u64 = 300;

/// How the bridge goes about it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Of which repositories.
    pub repos: Vec<Repo>,
    /// Who may ask for tests beside those who may write.
    pub allow: Vec<String>,
    /// Who is a bot.
    pub bots: Vec<String>,
    /// What becomes of a job when a newer request comes.
    pub policy: Policy,
    /// So many jobs at once.
    pub at_once: usize,
    /// How often comments are read.
    pub poll: Duration,
    /// How often a job is asked after.
    pub watch: Duration,
    /// How long what is over is kept.
    pub keep: Duration,
    /// The dashboard's address for everybody, where it has one.
    pub pages: Option<String>,
}

/// How long is waited after so many failures in a row: twice as long each time.
pub fn backoff(failures: u32, asked: Option<Duration>) -> Duration {
    let doubled = 1_u64.checked_shl(failures.min(16)).unwrap_or(u64::MAX).min(LONGEST_WAIT);
    Duration::from_secs(doubled).max(asked.unwrap_or_default())
}
