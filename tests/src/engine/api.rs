//! Questions over HTTP: to an engine's API, for what the docker command has no word for or only a slow one, and to what
//! runs on the engine.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use crate::EVENT_LIMIT;

/// The engine's answer to `GET path`; `None` when there is no such thing.
///
/// # Errors
/// When the engine can't be asked, or refuses.
pub(super) fn get(socket: &Path, path: &str) -> io::Result<Option<Value>> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(EVENT_LIMIT))?;
    let (status, body) = ask(stream, "engine", path)?;
    match status {
        200 => Ok(Some(serde_json::from_str(&body)?)),
        404 => Ok(None),
        _ => Err(invalid(format!("GET {path}: {status}: {}", body.trim()))),
    }
}

/// The status and the body of `GET path` from `address`, asked as `host`.
///
/// # Errors
/// When nobody answers there.
pub fn http_get(address: SocketAddr, host: &str, path: &str) -> io::Result<(u16, String)> {
    let stream = TcpStream::connect_timeout(&address, EVENT_LIMIT)?;
    stream.set_read_timeout(Some(EVENT_LIMIT))?;
    ask(stream, host, path)
}

fn ask(mut stream: impl Read + Write, host: &str, path: &str) -> io::Result<(u16, String)> {
    // A 1.0 answer is one piece, and ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| invalid("no answer".into()))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(|| invalid(head.into()))?, body.to_owned()))
}

fn invalid(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}
