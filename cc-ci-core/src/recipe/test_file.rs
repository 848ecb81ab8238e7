//! The files of a recipe's `tests/`: which of them are meant to be run, and why one of those can't be.
//!
//! A test that does not run proves nothing, and nobody misses it: so it is red by its name, and `recipe check` tells
//! it beforehand.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;

/// Runs after the app is created and before it is deployed.
pub(crate) const INSTALL_STEPS: &str = "install_steps.sh";

/// How much of a file says how it is run: what Linux reads of an interpreter's line.
const HEAD_LEN: u64 = 256;

/// What a file of `tests/` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TestFile {
    /// Something that tests use.
    Data,
    /// A test, or the install steps.
    Runs,
    /// It was meant to be run and can't be, because of this.
    Unfit(&'static str),
}

impl TestFile {
    /// Looks at a regular file, opened, of this name.
    pub(crate) fn of(name: &OsStr, file: &File) -> io::Result<Self> {
        let is_executable = file.metadata()?.permissions().mode() & 0o111 != 0;
        let mut head = Vec::new();
        file.take(HEAD_LEN).read_to_end(&mut head)?;
        Ok(Self::classify(name, is_executable, &head))
    }

    fn classify(name: &OsStr, is_executable: bool, head: &[u8]) -> Self {
        let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
        let line = text.strip_prefix(b"#!");
        if !is_executable && line.is_none() && name != INSTALL_STEPS {
            return Self::Data;
        }
        let fault = if name.to_str().is_none() {
            "its name is no UTF-8 text"
        } else if !is_executable {
            "it is not executable: chmod +x, and git update-index --chmod=+x where that is lost; what other tests \
             only read has no #! line"
        } else if head.is_empty() {
            "it is empty"
        } else if text.len() < head.len() {
            "it begins with a byte order mark: save it as UTF-8 without one"
        } else if let Some(line) = line {
            let line = line.split(|b| *b == b'\n').next().unwrap_or_default();
            match line.trim_ascii().first() {
                _ if line.ends_with(b"\r") => {
                    "its lines end with carriage returns: save it with line feeds alone"
                }
                Some(b'/') => return Self::Runs,
                _ => "its #! line names no interpreter by a whole path",
            }
        } else if head.contains(&0) {
            // A program: the kernel knows which.
            return Self::Runs;
        } else {
            "it has no #! line: nobody says what runs it"
        };
        Self::Unfit(fault)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn what_is_meant_to_be_run_runs_or_says_why_not() {
        let classify = |name: &[u8], is_executable, head: &[u8]| match TestFile::classify(
            OsStr::from_bytes(name),
            is_executable,
            head,
        ) {
            TestFile::Unfit(why) => why.split(':').next().unwrap_or_default().to_owned(),
            other => format!("{other:?}"),
        };
        for (name, is_executable, head, expected) in [
            (&b"custom-a"[..], true, &b"#!/bin/sh\nexit 0\n"[..], "Runs"),
            (b"custom-a", true, b"#! /usr/bin/env python3", "Runs"),
            (b"custom-a", true, b"\x7fELF\x02\x01\x01\0", "Runs"),
            (b"notes.txt", false, b"read me", "Data"),
            (b"custom-notes", false, b"", "Data"),
            (b"caf\xe9.txt", false, b"x", "Data"),
            (b"custom-a", false, b"#!/bin/sh\n", "it is not executable"),
            (b"install_steps.sh", false, b"echo\n", "it is not executable"),
            (b"custom-a", true, b"", "it is empty"),
            (b"custom-a", true, b"exit 0\n", "it has no #! line"),
            (b"custom-a", true, b"\xef\xbb\xbf#!/bin/sh\n", "it begins with a byte order mark"),
            (b"custom-a", true, b"#!/bin/sh\r\nexit 0\r\n", "its lines end with carriage returns"),
            (b"custom-a", true, b"#!sh\n", "its #! line names no interpreter by a whole path"),
            (b"custom-a", true, b"#!\n/bin/sh", "its #! line names no interpreter by a whole path"),
            (b"caf\xe9", true, b"#!/bin/sh\n", "its name is no UTF-8 text"),
        ] {
            assert_eq!(classify(name, is_executable, head), expected, "{name:?} {head:?}");
        }
    }
}
