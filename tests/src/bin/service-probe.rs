//! The service of the suites' recipes: `service-probe PORT VERSION`.
//!
//! It answers every GET with its version, and is told to misbehave by variables:
//! `UNHEALTHY_WHILE` (a path: 503 while it exists), `EXIT` (a status, at once), `IGNORE_TERM`, `STARTED` (a named
//! pipe: one line is written before it listens), `PROBED` (a named pipe: one line is written before the first
//! answer).

#![expect(clippy::expect_used, clippy::print_stderr, reason = "a program of the tests: its panics are told")]

use std::env;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

fn main() {
    let mut args = env::args().skip(1);
    let port: u16 = args.next().and_then(|port| port.parse().ok()).expect("a port");
    let version = args.next().unwrap_or_default();
    if let Some(status) = env::var("EXIT").ok().and_then(|status| status.parse().ok()) {
        eprintln!("told to exit with {status}");
        std::process::exit(status);
    }
    if env::var_os("IGNORE_TERM").is_some() {
        ignore_term();
    }
    if let Some(pipe) = env::var_os("STARTED") {
        fs::write(pipe, "started\n").expect("the pipe has a reader");
    }
    let unhealthy = env::var_os("UNHEALTHY_WHILE");
    let mut probed = env::var_os("PROBED");
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    for mut stream in listener.incoming().flatten() {
        read_request(&mut stream);
        if let Some(pipe) = probed.take() {
            fs::write(pipe, "probed\n").expect("the pipe has a reader");
        }
        let status = match &unhealthy {
            Some(path) if Path::new(path).exists() => "503 Service Unavailable",
            _ => "200 OK",
        };
        let body = format!("version {version}\n");
        let _written = write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .is_ok();
    }
}

/// Reads a request, which has no body, to its end: whoever hangs up before breaks the connection, and its answer is lost.
fn read_request(stream: &mut TcpStream) {
    let mut request = Vec::new();
    let mut part = [0; 4096];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut part) {
            Ok(read) if read > 0 => request.extend_from_slice(&part[..read]),
            // A probe that hangs up early is no reason to end.
            _ => return,
        }
    }
}

/// Blocks TERM before the first thread exists: a blocked signal is as good as ignored.
fn ignore_term() {
    let mut set = nix::sys::signal::SigSet::empty();
    set.add(nix::sys::signal::Signal::SIGTERM);
    set.thread_block().expect("a signal can be blocked");
}
