//! How a child ended.

/// How a child ended. Neither code nor signal: somebody else reaped it, so nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status, where it exited.
    pub code: Option<i32>,
    /// The signal that killed it, where one did.
    pub signal: Option<i32>,
    /// It was to be confined, and there was no sandbox: what it printed says why. A program that can't be executed in one ends
    /// with 126 or 127, as a shell tells it.
    pub unstarted: bool,
}

impl Ended {
    /// Whether it exited with 0.
    pub fn success(self) -> bool {
        self.code == Some(0)
    }

    /// The status as a shell tells it: 128+n for a signal.
    pub fn shell_code(self) -> Option<i32> {
        self.code.or_else(|| self.signal.map(|signal| 128 + signal))
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit status {code}"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => f.write_str("unknown status"),
        }
    }
}
