//! Which program a name stands for.
//!
//! An empty part of `PATH` (`PATH=$UNSET:$PATH`), `.` or another relative part means the working directory of whoever
//! executes. cc-ci works in directories that a pull request filled: a `git` there must never be the one that runs. So
//! such parts are dropped, from cc-ci's own searches and from the `PATH` that its children get.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Searched where `PATH` is missing or has no absolute part.
const DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns `path` without its parts that are empty or relative; the usual directories when nothing is left.
pub fn absolute_parts(path: &OsStr) -> OsString {
    let parts = env::split_paths(path).filter(|part| part.is_absolute());
    match env::join_paths(parts) {
        Ok(path) if !path.is_empty() => path,
        _ => DEFAULT.into(),
    }
}

/// Returns the absolute parts of this process's `PATH`.
pub fn operator_path() -> OsString {
    absolute_parts(&env::var_os("PATH").unwrap_or_default())
}

/// Returns the absolute path of the program that `name` stands for in `path`. A name with a slash is a path already,
/// and stays as it is.
///
/// # Errors
/// `NotFound` when no directory has it, `PermissionDenied` when one has a file that can't be executed.
pub fn find(name: &OsStr, path: &OsStr) -> io::Result<PathBuf> {
    if name.as_encoded_bytes().contains(&b'/') {
        return Ok(name.into());
    }
    let mut failure = io::ErrorKind::NotFound;
    if name.is_empty() {
        return Err(failure.into());
    }
    for directory in env::split_paths(&absolute_parts(path)) {
        let file = directory.join(name);
        match is_executable(&file) {
            Some(true) => return Ok(file),
            Some(false) => failure = io::ErrorKind::PermissionDenied,
            None => {}
        }
    }
    Err(failure.into())
}

/// Whether a plain file may be executed; `None` where there is none.
fn is_executable(file: &Path) -> Option<bool> {
    let found = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some(found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn parts_that_mean_the_working_directory_are_dropped() {
        for (path, expected) in [
            (":/usr/bin", "/usr/bin"),
            ("/usr/bin:", "/usr/bin"),
            ("/a::/b", "/a:/b"),
            (".:/a:b/c:../d:/e", "/a:/e"),
            ("/a", "/a"),
            ("", DEFAULT),
            (".", DEFAULT),
            ("::", DEFAULT),
        ] {
            assert_eq!(absolute_parts(path.as_ref()), expected, "{path}");
        }
    }

    #[test]
    fn a_name_stands_for_the_first_executable_file() {
        let world = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| world.path().join(name));
        for (directory, mode) in [(&first, 0o644), (&second, 0o755)] {
            fs::create_dir(directory).unwrap();
            let file = directory.join("tool");
            fs::write(&file, "#!/bin/sh\n").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir(first.join("directory")).unwrap();
        let both = env::join_paths([&first, &second]).unwrap();
        let kind = |name: &str, path: &OsStr| find(name.as_ref(), path).unwrap_err().kind();
        assert_eq!(find("tool".as_ref(), &both).unwrap(), second.join("tool"));
        assert_eq!(kind("tool", first.as_os_str()), io::ErrorKind::PermissionDenied);
        assert_eq!(kind("directory", &both), io::ErrorKind::NotFound);
        assert_eq!(kind("", &both), io::ErrorKind::NotFound);
        assert_eq!(find("./tool".as_ref(), &both).unwrap(), Path::new("./tool"));
    }
}
