//! The exit codes of the command. They are API: scripts and CI act on them.

use super::cancellation::Cause;
use super::failure::Fault;

/// How the command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Exit {
    /// Everything that was asked for holds.
    Green,
    /// A tier failed.
    Red,
    /// The call or the configuration is wrong; nothing was changed.
    Usage,
    /// The harness or the host failed, or cc-ci itself panicked.
    Harness,
    /// Something was left behind.
    Residue,
    /// The wait for an app's lock timed out.
    LockTimeout,
    /// Ended early, by this cause.
    Cancelled(Cause),
    /// What `with-lock` ends with: its command's own status, or 125 to 127 as env(1) has them.
    Status(u8),
}

impl Exit {
    /// Every exit of cc-ci's own, for documentation and completeness tests.
    pub const ALL: [Self; 10] = [
        Self::Green,
        Self::Red,
        Self::Usage,
        Self::Harness,
        Self::Residue,
        Self::LockTimeout,
        Self::Cancelled(Cause::Hup),
        Self::Cancelled(Cause::Int),
        Self::Cancelled(Cause::Deadline),
        Self::Cancelled(Cause::Term),
    ];

    /// The process's exit status.
    pub const fn code(self) -> u8 {
        match self {
            Self::Green => 0,
            Self::Red => 1,
            Self::Usage => 2,
            Self::Harness => 3,
            Self::Residue => 4,
            Self::LockTimeout => 75,
            Self::Cancelled(Cause::Hup) => 129,
            Self::Cancelled(Cause::Int) => 130,
            Self::Cancelled(Cause::Deadline) => 142,
            Self::Cancelled(Cause::Term | Cause::ParentDied | Cause::Embedder) => 143,
            Self::Status(status) => status,
        }
    }

    /// What the code means, in one line.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Green => "green",
            Self::Red => "red: a tier failed",
            Self::Usage => "usage or configuration; nothing was changed",
            Self::Harness => "the harness or the host failed",
            Self::Residue => "residue was left behind",
            Self::LockTimeout => "the wait for the app's lock, or for the host's room, timed out",
            Self::Cancelled(Cause::Hup) => "ended by SIGHUP",
            Self::Cancelled(Cause::Int) => "ended by SIGINT",
            Self::Cancelled(Cause::Deadline) => "ended by the deadline",
            Self::Cancelled(_) => "ended by SIGTERM or the parent's death",
            Self::Status(_) => "the command's own",
        }
    }

    /// The graver of two: 4 > 129/130/142/143 > 3 > 75 > 1 > 0. Of two cancellations the first stays.
    #[must_use]
    pub fn or_graver(self, other: Self) -> Self {
        if other.gravity() > self.gravity() { other } else { self }
    }

    const fn gravity(self) -> u8 {
        match self {
            Self::Green => 0,
            Self::Red | Self::Status(_) => 1,
            Self::LockTimeout => 2,
            Self::Usage => 3,
            Self::Harness => 4,
            Self::Cancelled(_) => 5,
            Self::Residue => 6,
        }
    }
}

impl From<Fault> for Exit {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Recipe => Self::Red,
            Fault::Host | Fault::Transient => Self::Harness,
            Fault::Configuration => Self::Usage,
            Fault::LockTimeout => Self::LockTimeout,
            Fault::Cancelled(cause) => Self::Cancelled(cause),
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precedence_is_that_of_the_documentation() {
        let order = [
            Exit::Green,
            Exit::Red,
            Exit::LockTimeout,
            Exit::Harness,
            Exit::Cancelled(Cause::Int),
            Exit::Residue,
        ];
        for (i, low) in order.iter().enumerate() {
            for high in &order[i..] {
                assert_eq!(low.or_graver(*high), *high);
                assert_eq!(high.or_graver(*low), *high);
            }
        }
        let first = Exit::Cancelled(Cause::Deadline);
        assert_eq!(first.or_graver(Exit::Cancelled(Cause::Term)), first);
    }

    #[test]
    fn codes_are_distinct() {
        let codes: std::collections::BTreeSet<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert_eq!(codes.len(), Exit::ALL.len());
    }
}
