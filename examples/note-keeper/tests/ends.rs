//! How the app ends, in order and out of it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::mpsc;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use support::{HANGS, KEY, Place, Service, refused};

/// Begins a request of which the server has asked for the body.
fn begin_post(server: &Service) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let head = format!(
        "POST /notes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 6\r\n\
         Expect: 100-continue\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 25];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

#[test]
fn a_request_in_flight_is_finished_and_no_new_one_is_taken() {
    let place = Place::new();
    let mut server = place.serve("json", &[("NOTES_STOP_GRACE", "60")]);
    let mut stream = begin_post(&server);
    server.signal(Signal::SIGTERM);
    while TcpStream::connect(server.address()).is_ok() {
        std::thread::yield_now();
    }
    stream.write_all(b"a note").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let (status, said) = server.wait();
    assert!(status.success() && said.is_empty(), "{status}: {said}");
    assert!(fs::read_to_string(place.data().join("notes.json")).unwrap().contains("a note"));
}

#[test]
fn a_client_that_never_finishes_does_not_keep_the_server() {
    let place = Place::new();
    let mut server = place.serve("json", &[("NOTES_STOP_GRACE", "0")]);
    let stream = begin_post(&server);
    server.signal(Signal::SIGINT);
    let (status, said) = server.wait();
    assert!(status.success(), "{status}");
    assert_eq!(said, "stopped with requests still open\n");
    drop(stream);
}

#[test]
fn a_server_killed_in_the_middle_of_a_conversion_has_lost_nothing() {
    let place = Place::new();
    fs::write(place.data().join("notes.txt"), "one\ntwo\n").unwrap();
    // Where the conversion writes first: it waits there for a reader, and is then in its middle.
    let pipe = place.data().join(".notes.json.tmp");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    let mut child = place.command("json", &[]).stderr(Stdio::piped()).spawn().unwrap();
    let stderr = child.stderr.take().unwrap();
    let watcher = std::thread::spawn({
        let pipe = pipe.clone();
        move || {
            let mut line = String::new();
            BufReader::new(stderr).read_line(&mut line).unwrap();
            // It went another way: don't let the test wait at the pipe for ever.
            if !line.is_empty() {
                drop(OpenOptions::new().write(true).open(pipe));
            }
            line
        }
    });
    let mut reader = File::open(&pipe).unwrap();
    let mut first = [0; 1];
    let arrived = reader.read_exact(&mut first);
    child.kill().unwrap();
    child.wait().unwrap();
    arrived.expect("the conversion writes to a temporary file first");
    assert_eq!(&first, b"{");
    watcher.join().unwrap();
    drop(reader);
    fs::remove_file(&pipe).unwrap();
    assert_eq!(fs::read_to_string(place.data().join("notes.txt")).unwrap(), "one\ntwo\n");
    assert!(!place.data().join("notes.json").exists());

    // What a kill leaves of a file is no obstacle.
    fs::write(&pipe, "{\n  \"vers").unwrap();
    let server = place.serve("json", &[]);
    assert_eq!(server.get("/notes"), "[{\"id\":1,\"text\":\"one\"},{\"id\":2,\"text\":\"two\"}]\n");
    assert!(!place.data().join("notes.txt").exists());
}

#[test]
fn the_older_release_says_why_it_does_not_serve_converted_data() {
    let place = Place::new();
    let server = place.serve("json", &[]);
    server.post(&place, "a note");
    server.stop();
    let (status, said) = refused(place.command("lines", &[]));
    assert_eq!(status, Some(1));
    assert!(said.contains("in format json already"), "{said}");
}

#[test]
fn a_server_whose_log_has_no_reader_goes_on() {
    let place = Place::new();
    let mut server = place.serve("json", &[]);
    server.close_log();
    fs::write(place.data().join("notes.json"), "{").unwrap();
    // Twice: the first complaint meets the closed pipe.
    for _ in 0..2 {
        let url = format!("{}/health", server.url);
        let call = support::note_keeper().args(["get", "--expect", "503", &url]).status().unwrap();
        assert!(call.success());
    }
    server.signal(Signal::SIGTERM);
    assert!(server.wait().0.success());
}

#[test]
fn a_worker_whose_volume_is_emptied_beneath_it_goes_on() {
    let place = Place::new();
    let volume = place.path().join("stats");
    fs::create_dir(&volume).unwrap();
    // Where it writes first: it waits there for a reader, and is then in the middle of its work.
    let pipe = volume.join(".stats.json.tmp");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    let mut command = support::note_keeper();
    command.arg("worker").envs(place.settings()).env("NOTES_STATS_DIR", &volume);
    let mut worker = Service::start(command);
    let reader = File::open(&pipe).unwrap();
    // What it writes is lost; where it writes next, it waits for a reader again.
    let next = volume.join("next");
    mkfifo(&next, Mode::S_IRWXU).unwrap();
    fs::rename(next, &pipe).unwrap();
    drop(reader);
    let (sender, goes_on) = mpsc::channel();
    let reading = pipe.clone();
    std::thread::spawn(move || sender.send(fs::read_to_string(reading)));
    let counted = goes_on.recv_timeout(HANGS).expect("it counts no more").unwrap();
    assert!(counted.starts_with("{\"notes\":0,"), "{counted}");
    worker.signal(Signal::SIGTERM);
    let (status, said) = worker.wait();
    assert!(status.success(), "{status}: {said}");
    assert!(said.starts_with("error: write the count to "), "{said}");
}
