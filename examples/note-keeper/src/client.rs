//! A tiny HTTP client: one request, one answer, no TLS, no redirects.
//!
//! It asks in HTTP/1.0, so that the answer comes in one piece and ends with the connection.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(30);
const MOST: u64 = 16 << 20;

/// One request.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) url: String,
    pub(crate) host: Option<String>,
    pub(crate) expect: Option<u16>,
    pub(crate) key_file: Option<PathBuf>,
    pub(crate) body: Option<String>,
}

/// Why there is no answer, or not the expected one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("URL {url:?} must be http://HOST[:PORT]/PATH, without spaces")]
    BadUrl { url: String },
    #[error("host {0:?} must be a name, without spaces")]
    BadHost(String),
    #[error("read the key file {}", file.display())]
    Key { file: PathBuf, source: io::Error },
    #[error("connect to {authority}")]
    Connect { authority: String, source: io::Error },
    #[error("ask {url}")]
    Exchange { url: String, source: io::Error },
    #[error("the answer of {url} is no HTTP, or is cut short")]
    NoHttp { url: String },
    #[error("{method} {url} answered {status}")]
    Status { method: &'static str, url: String, status: u16, body: Vec<u8> },
}

/// Makes one request, and gives the body of an answer whose status is as expected.
pub(crate) fn call(call: &Call) -> Result<Vec<u8>, ClientError> {
    let url = || call.url.clone();
    let (authority, path) = split(&call.url).ok_or_else(|| ClientError::BadUrl { url: url() })?;
    let request = request(call, authority, path)?;
    let mut stream = connect(authority)
        .map_err(|source| ClientError::Connect { authority: authority.to_owned(), source })?;
    let mut answer = Vec::new();
    exchange(&mut stream, &request, &mut answer)
        .map_err(|source| ClientError::Exchange { url: url(), source })?;
    let (status, body) = understand(&answer).ok_or_else(|| ClientError::NoHttp { url: url() })?;
    let good = call.expect.map_or((200..300).contains(&status), |expected| expected == status);
    if good {
        Ok(body.to_vec())
    } else {
        Err(ClientError::Status { method: call.method, url: url(), status, body: body.to_vec() })
    }
}

fn split(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("http://").filter(|rest| plain(rest))?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    (!authority.is_empty()).then_some((authority, path))
}

/// Whether the text can stand in a request line or a header without breaking it.
fn plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn request(call: &Call, authority: &str, path: &str) -> Result<Vec<u8>, ClientError> {
    let host = call.host.as_deref().unwrap_or(authority);
    if host.is_empty() || !plain(host) {
        return Err(ClientError::BadHost(host.to_owned()));
    }
    let mut request = format!("{} {path} HTTP/1.0\r\nHost: {host}\r\n", call.method).into_bytes();
    if let Some(file) = &call.key_file {
        let key = std::fs::read(file)
            .and_then(|content| {
                let key = content.trim_ascii();
                let good = key.iter().all(u8::is_ascii_graphic);
                good.then(|| key.to_vec()).ok_or_else(|| io::ErrorKind::InvalidData.into())
            })
            .map_err(|source| ClientError::Key { file: file.clone(), source })?;
        request.extend_from_slice(b"Authorization: Bearer ");
        request.extend_from_slice(&key);
        request.extend_from_slice(b"\r\n");
    }
    let body = call.body.as_deref().unwrap_or_default();
    if call.body.is_some() {
        request.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body.as_bytes());
    Ok(request)
}

fn connect(authority: &str) -> io::Result<TcpStream> {
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let addresses =
        if has_port { authority.to_socket_addrs()? } else { format!("{authority}:80").to_socket_addrs()? };
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn exchange(stream: &mut TcpStream, request: &[u8], answer: &mut Vec<u8>) -> io::Result<()> {
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    // A server may answer and close before it has read a body that it refuses; then the answer counts, not the error.
    let sent = stream.write_all(request);
    match stream.take(MOST).read_to_end(answer) {
        Ok(_) if !answer.is_empty() => Ok(()),
        Err(_) if understand(answer).is_some() => Ok(()),
        Ok(_) => sent.and(Err(io::ErrorKind::UnexpectedEof.into())),
        Err(error) => sent.and(Err(error)),
    }
}

/// The status and the body of a whole answer.
fn understand(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let body = &answer[end + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    for line in lines {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") {
            let length: usize = value.trim().parse().ok()?;
            return Some((status, body.get(..length)?));
        }
    }
    Some((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split_or_refused() {
        assert_eq!(split("http://[::1]:80/a/b"), Some(("[::1]:80", "/a/b")));
        assert_eq!(split("http://host"), Some(("host", "/")));
        for bad in ["https://host/", "http:///x", "host", "http://host/a b", "http://host/\r\nX: y"] {
            assert_eq!(split(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn an_answer_that_is_cut_short_is_no_answer() {
        assert_eq!(understand(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi"), Some((200, &b"hi"[..])));
        assert_eq!(understand(b"HTTP/1.1 404 Not Found\r\n\r\nrest"), Some((404, &b"rest"[..])));
        assert_eq!(understand(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nhi"), None);
        assert_eq!(understand(b"HTTP/1.0 200 OK\r\nContent-"), None);
        assert_eq!(understand(b"SSH-2.0-x\r\n\r\n"), None);
    }
}
