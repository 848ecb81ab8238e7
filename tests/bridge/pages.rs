//! The dashboard, as a browser asks it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::json;

use crate::http::until;
use crate::place::{Place, Serving, end};

/// A dashboard, at a port of its own.
pub const DASHBOARD: &str = "[bridge.dashboard]\nlisten = \"127.0.0.1:0\"\n";

/// What a recipe's author can have a run's record say.
const HOSTILE: &str =
    "<img src=x onerror=alert(1)></style><script>alert(1)</script>\u{1b}]0;x\u{7}<b>\u{202e}' \"";

/// A run whose record is whole, and has that wherever a recipe's author can put words.
pub fn reporting() -> String {
    let at = "2026-01-02T03:05:00Z";
    let step =
        json!({ "name": HOSTILE, "status": "failed", "detail": HOSTILE, "started": at, "seconds": 1.5 });
    let record = json!({
        "schema": "cc-ci.run/v1", "run_id": "7", "owner": { "pid": 4711, "start_time": 99, "boot_id": "b007" },
        "lane": "cold", "recipe": "notes", "subject": { "ref": HOSTILE }, "domain": "note-012345.ci.example.org",
        "domains": ["note-012345.ci.example.org"], "commit": HOSTILE, "executor": HOSTILE, "started": at,
        "finished": "2026-01-02T03:06:00Z", "owned": true, "verdict": "red", "exit_code": 1, "cancelled_by": null,
        "lock_waited_seconds": 0.0, "deploy_count": 1,
        "tiers": [{ "name": "install", "status": "failed", "reason": HOSTILE, "from": null, "version": HOSTILE,
                    "started": at, "seconds": 2.0, "steps": [step] }],
        "receipt": { "recovered": [], "before": [], "removed": [], "left": [{ "kind": "volume", "name": HOSTILE }],
                     "verified": [], "failures": [HOSTILE] },
        "digest": { "what": HOSTILE, "tier": "install", "step": HOSTILE, "service": HOSTILE, "cause": [HOSTILE],
                    "blame": "recipe", "evidence": HOSTILE, "next": [HOSTILE],
                    "log": { "service": HOSTILE, "file": HOSTILE, "lines": [HOSTILE] } },
        "errors": [HOSTILE], "warnings": [HOSTILE],
    });
    format!("#!/bin/sh\n[ \"$1\" = run ] || exit 1\ncat <<'END'\n{record}\nEND\nexit 1\n")
}

/// A browser that is told of changes.
pub struct Told {
    pub status: String,
    lines: Box<dyn Iterator<Item = String>>,
}

impl Told {
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").expect("it is asked");
        let mut lines = Box::new(BufReader::new(stream).lines().map_while(Result::ok));
        Self { status: lines.next().expect("a status"), lines }
    }
}

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
    // A poll in time would be faster than the forge's delivery now and then.
    let place = Place::with(&format!("poll = \"1h\"\n{DASHBOARD}"));
    let serving = place.serve_what_is_delivered();
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
    let (_, head, badge) = ask(serving.pages.expect("a dashboard"), "GET /r/recipes/notes/badge.svg");
    assert!(badge.contains(">green<"), "{badge}");
    // Other pages show it, and nothing else.
    assert!(head.contains("cross-origin-resource-policy: cross-origin"), "{head}");
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
        ("GET /r/recipes/notes/7/run", 404),
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
        assert!(head.contains("cross-origin-resource-policy: same-origin"), "{head}");
    }
    end(serving.process);
}

#[test]
fn what_others_wrote_is_text_and_nothing_else() {
    let author = "<i>&\"";
    let place = Place::without_ci_with(&reporting(), &format!("allow = ['{author}']\n{DASHBOARD}"));
    let (serving, working) = (place.serve(), place.start(&["work"]));
    let comment = place.ask(&serving, 1, author, "!testme");
    place.told(1, "**Red**");
    let own = format!("/r/recipes/notes/{comment}");
    let run = format!("{own}/run");
    for path in ["/", "/r/recipes/notes", "/r/recipes/notes/badge.svg", &own, &run] {
        let text = page(&serving, path);
        for markup in ["<img", "<script>", "<b>", "<i>", "\u{1b}", "\u{202e}", author] {
            assert!(!text.contains(markup), "{path}: {markup}: {text}");
        }
    }
    let text = page(&serving, &own);
    assert!(
        text.contains("&#60;i&#62;") && text.contains(&format!("{run}\"").replacen('/', "../../../", 1)),
        "{text}"
    );
    // Why, whom it blames, the tier, the receipt: each is there, and no more than text.
    for part in [
        "<strong>&#60;img",
        "<strong>the recipe</strong>: &#60;img",
        "<p class=\"text\">&#60;img",
        "left volume &#60;img",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (_, head, text) = ask(serving.pages.expect("a dashboard"), &format!("GET {run}"));
    assert!(text.contains("&#60;img") && text.contains("<style>"), "{text}");
    assert!(head.contains(
        "content-security-policy: default-src 'none'; style-src 'unsafe-inline'; form-action 'none'"
    ));
    end(serving.process);
    end(working);
}

#[test]
fn what_the_pull_request_is_silent_about_no_page_says() {
    let place = Place::with(DASHBOARD);
    let serving = place.serve();
    let refused = place.ask(&serving, 1, "stranger", "!testme");
    until("it is refused", || place.explain(1, refused).contains("its author may not write").then_some(()));
    let text = page(&serving, &format!("/r/recipes/notes/{refused}"));
    assert!(text.contains("<dd>refused</dd>") && !text.contains("may not"), "{text}");
    // Nor does it show what a server says that fails.
    place.ci.lock().fails = true;
    let failing = place.ask(&serving, 2, "maintainer", "!testme");
    until("it fails", || place.explain(2, failing).contains("out of order").then_some(()));
    let text = page(&serving, &format!("/r/recipes/notes/{failing}"));
    assert!(
        text.contains("times in a row; tried again") && text.contains("checked: queued → intent"),
        "{text}"
    );
    assert!(!text.contains("out of order"), "{text}");
    end(serving.process);
}

#[test]
fn a_stream_tells_of_changes_and_ends_with_the_bridge() {
    let place = Place::with(DASHBOARD);
    let serving = place.serve();
    let pages = serving.pages.expect("a dashboard");
    let mut told = Told::open(pages);
    assert!(told.status.contains("200"), "{}", told.status);
    let mut others: Vec<_> = std::iter::repeat_with(|| Told::open(pages)).take(63).collect();
    assert!(others.iter().all(|other| other.status.contains("200")));
    assert!(Told::open(pages).status.contains("503"), "there is a bound");
    others.clear();

    place.ask(&serving, 1, "maintainer", "!testme");
    assert!(told.lines.any(|line| line == "event: changed"));
    // It ends whole, with the chunk that is the last one: it is not cut off.
    end(serving.process);
    let rest: Vec<String> = told.lines.collect();
    assert!(rest.ends_with(&["0".to_owned(), String::new()]), "{rest:?}");
}
