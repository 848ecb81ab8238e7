//! The app over real HTTP, on real files.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Output;

use support::{KEY, Place, Service, note_keeper, refused};

fn call(args: &[&str]) -> Output {
    note_keeper().args(args).output().unwrap()
}

/// Sends bytes as they are; gives the status line.
fn raw(server: &Service, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(support::HANGS)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap().to_owned()
}

#[test]
fn writing_needs_the_key_and_reading_does_not() {
    for format in ["lines", "json"] {
        let place = Place::new();
        let server = place.serve(format, &[]);
        let notes = format!("{}/notes", server.url);
        let wrong = place.path().join("wrong");
        fs::write(&wrong, "0123").unwrap();
        for key in ["-", wrong.to_str().unwrap()] {
            let refused = call(&["post", &notes, key, "a note"]);
            assert_eq!(refused.status.code(), Some(1));
            assert!(String::from_utf8_lossy(&refused.stderr).contains("answered 401"));
        }
        assert_eq!(server.get("/notes"), "[]\n");
        assert_eq!(server.post(&place, "a note"), "{\"id\":1,\"text\":\"a note\"}\n");
        assert_eq!(server.get("/notes/1"), "{\"id\":1,\"text\":\"a note\"}\n");
        assert_eq!(call(&["get", "--expect", "404", &format!("{notes}/2")]).status.code(), Some(0));
        assert!(server.get("/health").contains(&format!("data format {format}, 1 notes")));
        server.stop();
    }
}

#[test]
fn a_note_that_would_not_stay_what_it_is_is_refused() {
    let place = Place::new();
    let server = place.serve("lines", &[("NOTES_MAX_LENGTH", "10")]);
    let post = |body: &[u8]| {
        let mut request = format!(
            "POST /notes HTTP/1.0\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        raw(&server, &request)
    };
    for (body, status) in [
        (&b"two\nnotes"[..], "400"),
        (b" \t ", "400"),
        (b"\xff\xfe", "400"),
        (b"eleven long", "413"),
        (b"ten bytes.", "201"),
    ] {
        assert!(post(body).contains(status), "{body:?}");
    }
    assert_eq!(fs::read_to_string(place.data().join("notes.txt")).unwrap(), "ten bytes.\n");
}

#[test]
fn nothing_is_read_from_whoever_has_no_key() {
    let place = Place::new();
    let server = place.serve("lines", &[]);
    // The body never comes, and the answer comes all the same.
    let status = raw(&server, b"POST /notes HTTP/1.0\r\nContent-Length: 1000\r\n\r\n");
    assert!(status.contains("401"), "{status}");
}

#[test]
fn what_a_restore_puts_in_place_shows_at_once() {
    let place = Place::new();
    let server = place.serve("json", &[]);
    server.post(&place, "in the backup");
    let backup = fs::read(place.data().join("notes.json")).unwrap();
    server.post(&place, "after the backup");
    assert!(server.get("/notes").contains("after the backup"));
    fs::write(place.data().join("notes.json"), backup).unwrap();
    assert_eq!(server.get("/notes"), "[{\"id\":1,\"text\":\"in the backup\"}]\n");
}

#[test]
fn two_servers_on_one_directory_lose_no_note() {
    const EACH: usize = 20;
    let place = Place::new();
    let servers = [place.serve("json", &[]), place.serve("json", &[])];
    std::thread::scope(|scope| {
        for server in &servers {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..EACH / 2 {
                        server.post(&place, "a note");
                    }
                });
            }
        }
    });
    let notes = servers[0].get("/notes");
    for id in 1..=2 * EACH {
        assert!(notes.contains(&format!("\"id\":{id},")), "note {id} is lost: {notes}");
    }
}

#[test]
fn the_first_page_shows_names_as_text_and_not_as_markup() {
    let place = Place::new();
    let notice = place.path().join("notice");
    fs::write(&notice, "a < b & c").unwrap();
    let server = place
        .serve("json", &[("NOTES_INSTANCE_NAME", "<b>"), ("NOTES_NOTICE_FILE", notice.to_str().unwrap())]);
    let page = server.get("/");
    assert!(page.contains("<h1>&lt;b&gt;</h1>") && page.contains("a &lt; b &amp; c"), "{page}");
    assert!(page.contains("data format json"), "{page}");
}

#[test]
fn without_an_admin_key_nothing_can_be_deleted() {
    let place = Place::new();
    let write = place.key();
    let write = write.to_str().unwrap();
    let admin = place.path().join("admin_key");
    fs::write(&admin, "another").unwrap();
    let admin = admin.to_str().unwrap();
    let server = place.serve("json", &[]);
    server.post(&place, "a note");
    let note = |server: &Service| format!("{}/notes/1", server.url);
    let delete = |status, url: &str, key| call(&["delete", "--expect", status, url, key]).status.success();
    assert!(delete("403", &note(&server), write));
    server.stop();

    let server = place.serve("json", &[("NOTES_ADMIN_KEY_FILE", admin)]);
    assert!(delete("401", &note(&server), write));
    assert!(delete("200", &note(&server), admin));
    assert_eq!(server.get("/notes"), "[]\n");
}

#[test]
fn wrong_calls_and_settings_are_clear_errors() {
    let place = Place::new();
    let missing = place.path().join("missing");
    let missing = missing.to_str().unwrap();
    fs::write(place.path().join("empty"), "").unwrap();
    let empty = place.path().join("empty");
    let serve = |more: &[(&str, &str)]| refused(place.command("lines", more));
    let call = |args: &[&str]| {
        let mut command = note_keeper();
        command.args(args);
        refused(command)
    };
    for ((ended, said), status, words) in [
        (serve(&[("NOTES_PORT", "none")]), 2, "error: NOTES_PORT is \"none\""),
        (serve(&[("NOTES_LISTEN", "192.0.2.1")]), 1, "error: listen on 192.0.2.1:0: "),
        (serve(&[("NOTES_DATA_DIR", missing)]), 1, "error: prepare the data directory "),
        (serve(&[("NOTES_WRITE_KEY_FILE", missing)]), 1, "error: read the key file "),
        (serve(&[("NOTES_WRITE_KEY_FILE", empty.to_str().unwrap())]), 1, "the key is empty"),
        (serve(&[("NOTES_NOTICE_FILE", missing)]), 1, "error: read the notice "),
        (call(&[]), 2, "error: no command given"),
        (call(&["serve"]), 2, "--data-format is missing"),
        (call(&["serve", "--data-format", "xml"]), 2, "must be lines or json"),
        (call(&["sevre"]), 2, "unknown command \"sevre\""),
        (call(&["worker", "now"]), 2, "unexpected argument \"now\""),
        (call(&["get", "https://x/"]), 2, "must be http://"),
        (call(&["get", "--host", "a\r\nb", "http://127.0.0.1:1/"]), 2, "must be a name"),
        (call(&["post", "http://127.0.0.1:1/", missing, "x"]), 2, "error: read the key file "),
        (call(&["get", "http://127.0.0.1:1/"]), 3, "error: connect to 127.0.0.1:1: "),
    ] {
        assert_eq!(ended, Some(status), "{said}");
        assert!(said.contains(words) && !said.contains("panicked"), "{said}");
    }
}
