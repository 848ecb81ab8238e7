//! The dashboard, as a browser asks it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::http::until;
use crate::place::{Place, Serving, end};

/// A dashboard, at a port of its own.
pub const DASHBOARD: &str = "[bridge.dashboard]\nlisten = \"127.0.0.1:0\"\n";

/// A run whose record has markup wherever a recipe's author can put words.
const HOSTILE: &str = r#"#!/bin/sh
[ "$1" = run ] || exit 1
echo '{"schema": "cc-ci.run/v1", "verdict": "red", "exit_code": 1, "errors": ["<img src=x onerror=alert(1)>"],
 "receipt": {"left": []}, "tiers": [{"name": "<script>", "status": "failed", "reason": "\u001b]0;x\u0007<b>\u202e"}]}'
exit 1
"#;

/// Asks for something, and returns the status, the head and the body.
#[track_caller]
pub fn ask(address: SocketAddr, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    write!(stream, "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("it is asked");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, head.to_lowercase(), body.to_owned())
}

#[track_caller]
fn page(serving: &Serving, path: &str) -> String {
    let (status, _, body) = ask(serving.pages.expect("a dashboard"), &format!("GET {path}"));
    assert_eq!(status, 200, "{path}: {body}");
    body
}

#[test]
fn a_request_is_shown_from_first_to_last() {
    let place = Place::with(DASHBOARD);
    let serving = place.serve();
    assert!(page(&serving, "/").contains("No pull request has a verdict yet"));
    let comment = place.ask(&serving, 1, "maintainer", "!testme");
    let build = place.build(1);
    until("it is shown to wait", || page(&serving, "/").contains("waits in the CI").then_some(()));
    place.ci.lock().end(build, "success", 0);
    place.told(1, "**Green**");
    let recipe = page(&serving, "/r/recipes/notes");
    assert!(recipe.contains("✓</span> green") && recipe.contains("#1</a>"), "{recipe}");
    let own = page(&serving, &format!("/r/recipes/notes/{comment}"));
    for words in ["delivered by the forge", "ended of job 1: green", "created: intent → started"] {
        assert!(own.contains(words), "{words}: {own}");
    }
    assert!(page(&serving, "/r/recipes/notes/badge.svg").contains(">green<"));
    // The way back holds wherever the proxy has put it.
    assert!(own.contains("href=\"../../../style.css\"") && !own.contains("href=\"/"), "{own}");

    let pages = serving.pages.expect("a dashboard");
    let address = format!("{}/recipes/notes/pulls/1%23issuecomment-{comment}", place.forge.url());
    let (status, head, _) = ask(pages, &format!("GET /explain?url={address}"));
    assert_eq!(status, 303, "{head}");
    assert!(head.contains(&format!("location: r/recipes/notes/{comment}")), "{head}");
    let address = address.replace(&format!("-{comment}"), "-9999");
    let (status, _, body) = ask(pages, &format!("GET /explain?url={address}"));
    assert!(status == 404 && body.contains("was not received"), "{body}");

    for (request, expected) in [
        ("HEAD /", 200),
        ("GET /r/recipes/other", 404),
        ("GET /r/recipes/notes/7", 404),
        ("GET /r/recipes/notes/x", 404),
        ("GET /r/..%2f..%2fetc/passwd", 404),
        ("GET /hook", 404),
        ("GET /explain", 400),
        ("GET /explain?url=%3Cscript%3E", 400),
        ("POST /", 405),
        ("DELETE /r/recipes/notes", 405),
    ] {
        let (status, head, _) = ask(pages, request);
        assert_eq!(status, expected, "{request}");
        assert!(
            head.contains(
                "content-security-policy: default-src 'none'; style-src 'self'; script-src 'self'; img-src"
            ),
            "{head}"
        );
        assert!(head.contains("x-content-type-options: nosniff"), "{head}");
    }
    end(serving.process);
}

#[test]
fn what_others_wrote_is_text_and_nothing_else() {
    let author = "<i>&\"";
    let place = Place::without_ci_with(HOSTILE, &format!("allow = ['{author}']\n{DASHBOARD}"));
    let (serving, working) = (place.serve(), place.start(&["work"]));
    let comment = place.ask(&serving, 1, author, "!testme");
    place.told(1, "**Red**");
    for path in ["/", "/r/recipes/notes", &format!("/r/recipes/notes/{comment}")] {
        let text = page(&serving, path);
        for markup in ["<img", "<script>", "<b>", "<i>", "\u{1b}", "\u{202e}", author] {
            assert!(!text.contains(markup), "{path}: {markup}: {text}");
        }
    }
    let own = page(&serving, &format!("/r/recipes/notes/{comment}"));
    assert!(own.contains("&#60;script&#62;") && own.contains("&#60;i&#62;"), "{own}");
    end(serving.process);
    end(working);
}

#[test]
fn a_stream_tells_of_changes_and_ends_with_the_bridge() {
    let place = Place::with(DASHBOARD);
    let serving = place.serve();
    let pages = serving.pages.expect("a dashboard");
    let open = || {
        let mut stream = TcpStream::connect(pages).expect("a connection");
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").expect("it is asked");
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let status = lines.next().expect("a status");
        (status, lines)
    };
    let (status, mut told) = open();
    assert!(status.contains("200"), "{status}");
    let mut others: Vec<_> = std::iter::repeat_with(open).take(63).collect();
    assert!(others.iter().all(|(status, _)| status.contains("200")));
    assert!(open().0.contains("503"), "there is a bound");
    others.clear();

    place.ask(&serving, 1, "maintainer", "!testme");
    assert!(told.any(|line| line == "event: changed"));
    // It ends whole, with the chunk that is the last one: it is not cut off.
    end(serving.process);
    let rest: Vec<String> = told.collect();
    assert!(rest.ends_with(&["0".to_owned(), String::new()]), "{rest:?}");
}
