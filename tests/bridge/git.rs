//! The repositories of the stand-in forge, served by git itself.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use axum::body::{Body, Bytes};
use axum::http::{Response, request::Parts};

/// Whether a request is for a repository and not for the API.
pub fn is_asked(head: &Parts) -> bool {
    head.uri.path().contains(".git/")
}

/// Answers as git's own CGI program does, of the repository at `repository`, whatever it is called.
pub fn answer(repository: &Path, head: &Parts, body: &Bytes) -> Response<Body> {
    let path = head.uri.path().split_once(".git/").map_or("", |(_, rest)| rest);
    let header =
        |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", repository)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", format!("/.git/{path}"))
        .env("REQUEST_METHOD", head.method.as_str())
        .env("QUERY_STRING", head.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git starts");
    // It reads what it needs: what is refused is not read to its end.
    let _read = child.stdin.take().expect("a pipe").write_all(body);
    let output = child.wait_with_output().expect("git ends").stdout;
    let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("git ends its headers");
    let mut response = Response::builder();
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").expect("a header");
        response = match value.split(' ').next().filter(|_| name == "Status") {
            Some(status) => response.status(status),
            None => response.header(name, value),
        };
    }
    response.body(Body::from(output[end + 4..].to_vec())).expect("an answer")
}
