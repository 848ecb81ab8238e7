//! The dashboard in a browser, where there is one: Chromium, told what to do through its debugging pipes.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use cc_ci_tests::{EVENT_LIMIT, skip};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

use crate::http::until;
use crate::pages::{DASHBOARD, Told, reporting};
use crate::place::{Place, end};

/// A browser with one page.
struct Browser {
    process: Child,
    to: File,
    from: File,
    asked: u64,
    session: Option<String>,
    _profile: tempfile::TempDir,
}

/// The program, where this host has one.
fn chromium() -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths).map(|path| path.join("chromium")).find(|path| path.is_file())
}

impl Browser {
    fn open(program: &PathBuf, url: &str) -> Self {
        let profile = tempfile::tempdir().expect("a directory");
        let pipe = |name: &str| {
            let path = profile.path().join(name);
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a named pipe");
            // Both ends: nobody waits to open it.
            OpenOptions::new().read(true).write(true).open(path).expect("a pipe opens")
        };
        let (to, from) = (pipe("to"), pipe("from"));
        let script = "exec \"$0\" --headless --no-sandbox --disable-gpu --remote-debugging-pipe \
                      --user-data-dir=\"$TMPDIR/profile\" about:blank 3<\"$TMPDIR/to\" 4>\"$TMPDIR/from\"";
        let process = Command::new("sh")
            .args(["-c", script])
            .arg(program)
            .env("HOME", profile.path())
            .env("TMPDIR", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the browser starts");
        let mut browser = Self { process, to, from, asked: 0, session: None, _profile: profile };
        let target = browser.ask("Target.createTarget", &json!({ "url": url }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.ask("Target.attachToTarget", &attach);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        browser
    }

    /// Asks for something, and waits for the answer to that: null where it can't be done, as with a page that is not there yet.
    #[track_caller]
    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.asked += 1;
        let mut message = json!({ "id": self.asked, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.clone().into();
        }
        write!(self.to, "{message}\0").expect("the browser is told");
        loop {
            let answer: Value = serde_json::from_slice(&self.message()).expect("the browser says JSON");
            if answer["id"] == self.asked {
                return answer["result"].clone();
            }
        }
    }

    #[track_caller]
    fn message(&mut self) -> Vec<u8> {
        let mut message = Vec::new();
        loop {
            let mut fds = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
            let limit = PollTimeout::try_from(EVENT_LIMIT).expect("the limit is short");
            assert!(poll(&mut fds, limit).expect("a pipe can be polled") > 0, "the browser says nothing");
            let mut byte = [0];
            self.from.read_exact(&mut byte).expect("a byte is there");
            if byte == [0] {
                return message;
            }
            message.push(byte[0]);
        }
    }

    /// The text of what a selector finds in the page.
    fn text(&mut self, selector: &str) -> String {
        let expression = format!("document.querySelector({selector:?})?.textContent ?? ''");
        let value = self.ask("Runtime.evaluate", &json!({ "expression": expression }));
        value["result"]["value"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    fn shows(&mut self, selector: &str, text: &str) {
        until(&format!("{selector} with {text:?}"), || self.text(selector).contains(text).then_some(()));
    }

    fn close(mut self) {
        self.session = None;
        self.ask("Browser.close", &json!({}));
        self.process.wait().expect("the browser ends");
    }
}

#[test]
fn a_page_that_found_no_place_among_those_that_are_told_tries_again_and_a_runs_page_has_its_style() {
    const NAME: &str = "a_page_that_found_no_place_among_those_that_are_told_tries_again";
    let Some(program) = chromium() else { return skip(NAME, "needs chromium") };
    let place = Place::without_ci_with(&reporting(), DASHBOARD);
    let (serving, working) = (place.serve(), place.start(&["work"]));
    let pages = serving.pages.expect("a dashboard");
    let told: Vec<_> = std::iter::repeat_with(|| Told::open(pages)).take(64).collect();
    assert!(told.iter().all(|told| told.status.contains("200")));
    let mut browser = Browser::open(&program, "about:blank");
    // What it waits for, it does not wait as long for.
    browser.ask("Page.enable", &json!({}));
    let hurried = "const wait = setTimeout; setTimeout = (f, time) => wait(f, time / 100)";
    browser.ask("Page.addScriptToEvaluateOnNewDocument", &json!({ "source": hurried }));
    browser.ask("Page.navigate", &json!({ "url": format!("http://{pages}/") }));
    browser.shows("#live", "Not live just now");
    let comment = place.ask(&serving, 1, "maintainer", "!testme");
    place.told(1, "**Red**");
    assert!(!browser.text("#recipes").contains("red"), "nobody tells it");
    drop(told);
    browser.shows("#recipes", "red");
    browser.shows("#live", "Live.");

    // Both policies have its style: that of the answer, and that of the page.
    let url = format!("http://{pages}/r/recipes/notes/{comment}/run");
    browser.ask("Page.navigate", &json!({ "url": url }));
    browser.shows("h1", "notes");
    let background = "getComputedStyle(document.querySelector('.pill')).borderRadius";
    let value = browser.ask("Runtime.evaluate", &json!({ "expression": background }));
    assert!(value["result"]["value"].as_str().is_some_and(|radius| radius != "0px"), "{value}");
    end(serving.process);
    end(working);
    browser.close();
}

#[test]
fn a_page_that_is_open_shows_what_changes() {
    let Some(program) = chromium() else {
        return skip("a_page_that_is_open_shows_what_changes", "needs chromium");
    };
    let place = Place::with(DASHBOARD);
    let serving = place.serve();
    let pages = serving.pages.expect("a dashboard");
    let mut browser = Browser::open(&program, &format!("http://{pages}/"));
    browser.shows("#live", "Live.");
    browser.shows("#open", "Nothing runs");
    // Nothing loads the page anew: what is written into it stays.
    browser.ask("Runtime.evaluate", &json!({ "expression": "document.title = 'the same page'" }));
    place.ask(&serving, 1, "maintainer", "!testme");
    browser.shows("#open", "recipes/notes #1");
    let build = place.build(1);
    place.told(1, "**Waits in the CI**");
    place.ci.lock().end(build, "success", 0);
    browser.shows("#recipes", "green");
    browser.shows("title", "the same page");
    // What the pages' own headers refuse: a script in the page, and one from elsewhere.
    let inline = "const s = document.createElement('script'); s.textContent = 'document.title = 1'; document.body.append(s)";
    browser.ask("Runtime.evaluate", &json!({ "expression": inline }));
    browser.shows("title", "the same page");
    end(serving.process);
    browser.shows("#live", "Not live just now");
    browser.close();
}
