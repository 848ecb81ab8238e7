//! Questions to an engine's API that the docker command has no word for, or only a slow one.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use crate::PATIENCE;

/// The answer to `GET path`; `None` when there is no such thing.
///
/// # Errors
/// When the engine can't be asked, or refuses.
pub(super) fn get(socket: &Path, path: &str) -> io::Result<Option<Value>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // A 1.0 answer is one piece, and ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: engine\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let invalid = |what: &str| io::Error::new(ErrorKind::InvalidData, format!("GET {path}: {what}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| invalid("no answer"))?;
    match head.split(' ').nth(1) {
        Some("200") => serde_json::from_str(body).map(Some).map_err(|error| invalid(&error.to_string())),
        Some("404") => Ok(None),
        _ => Err(invalid(&format!("{}: {}", head.lines().next().unwrap_or_default(), body.trim()))),
    }
}
