//! With what git signs in at a server: from a file, told to that server alone, and seen by nobody else on the host.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use cc_ci_tests::{CcCi, World, unconfined};

const PASSWORD: &str = "hunter22-is-a-secret";

/// `ci:` and the password, as HTTP has them.
const ENCODED: &str = "Y2k6aHVudGVyMjItaXMtYS1zZWNyZXQ=";

/// What a server saw.
#[derive(Debug, Default)]
struct Seen {
    /// Who signed in, of each request in order.
    logins: Vec<Option<String>>,
    /// Whether a process of the host had the server's address among its arguments meanwhile.
    git: bool,
    /// The arguments of those that had the password.
    leaks: Vec<String>,
}

/// How a server answers.
#[derive(Debug, Clone, Copy)]
enum To {
    /// Whoever signs in gets the files.
    Known,
    /// Everybody gets them.
    All,
    /// Everybody is led to another server.
    Away(SocketAddr),
}

/// A server of the files below a directory. Threads serve it until the test's process ends.
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Server {
    fn start(root: PathBuf, to: To) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (address, seen) = (listener.local_addr().expect("an address"), Arc::new(Mutex::default()));
        let server = Self { address, seen: Arc::clone(&seen) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (root, seen) = (root.clone(), Arc::clone(&seen));
                // git gives up what it does not need any more.
                thread::spawn(move || answer(&stream, &root, address, to, &seen).is_ok());
            }
        });
        server
    }

    fn url(&self) -> String {
        format!("http://{}/plain.git", self.address)
    }

    fn logins(&self) -> Vec<Option<String>> {
        self.seen.lock().expect("no panic").logins.clone()
    }
}

fn answer(
    stream: &TcpStream,
    root: &Path,
    own: SocketAddr,
    to: To,
    seen: &Mutex<Seen>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let login = headers.iter().find_map(|line| line.strip_prefix("Authorization: Basic ").map(str::to_owned));
    let is_signed_in = login.as_deref() == Some(ENCODED);
    let mut seen = seen.lock().expect("no panic");
    seen.logins.push(login);
    for process in fs::read_dir("/proc")?.flatten() {
        let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        seen.git |= arguments.contains("git") && arguments.contains(&own.to_string());
        if arguments.contains(PASSWORD) || arguments.contains(ENCODED) {
            seen.leaks.push(arguments);
        }
    }
    drop(seen);
    let asked = first.split(' ').nth(1).unwrap_or_default();
    let path = asked.split('?').next().unwrap_or_default().trim_start_matches('/');
    let mut stream = stream;
    let (status, body) = match (to, is_signed_in, fs::read(root.join(path))) {
        (To::Away(away), ..) => (format!("302 Found\r\nLocation: http://{away}{asked}"), Vec::new()),
        (To::Known, false, _) => {
            ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"".to_owned(), Vec::new())
        }
        (_, _, Ok(body)) => ("200 OK".to_owned(), body),
        (_, _, Err(_)) => ("404 Not Found".to_owned(), Vec::new()),
    };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(&body)
}

/// A bare repository of a recipe with a release, as a server of files has it, in the directory that this returns.
fn served(world: &World) -> PathBuf {
    let recipe = world.recipe("plain");
    recipe.compose("1", "").release("1.0.0+1");
    recipe.compose("2", "").commit();
    let root = world.path().join("served");
    let bare = root.join("plain.git");
    for words in [&["clone", "--quiet", "--bare"][..], &["update-server-info"]] {
        let mut git = Command::new("git");
        match words {
            [_] => git.arg("--git-dir").arg(&bare).args(words),
            _ => git.args(words).arg(recipe.path()).arg(&bare),
        };
        assert!(git.status().expect("git").success());
    }
    root
}

/// A call in a world that has credentials of the server at `address`, and `mode` for their file.
fn call(world: &World, server: &Server, mode: u32) -> CcCi {
    let file = world.path().join("credentials");
    fs::write(&file, format!("http://ci:{PASSWORD}@{}\n", server.address)).expect("a file");
    fs::set_permissions(&file, Permissions::from_mode(mode)).expect("a mode");
    let text = unconfined(format!("[git]\ncredentials_file = \"{}\"\n", file.display()));
    fs::write(world.config(), text).expect("a configuration");
    world.cc_ci(["run", "--run-id", "1", "--pr", "7"]).arg(server.url())
}

#[test]
fn git_signs_in_with_what_a_file_has_and_no_argument_does() {
    let world = World::new();
    let server = Server::start(served(&world), To::Known);
    let end = call(&world, &server, 0o640).run().expect(0);
    let seen = server.seen.lock().expect("no panic");
    assert!(!seen.logins.is_empty() && seen.logins.iter().all(|login| login.as_deref() == Some(ENCODED)));
    assert!(seen.git, "nobody looked where git was");
    assert_eq!(seen.leaks, [""; 0]);
    let kept = world.snapshot_of(&world.runs());
    let kept = kept.values().map(|content| String::from_utf8_lossy(content).into_owned());
    for text in kept.chain([end.stdout, end.stderr]) {
        assert!(!text.contains(PASSWORD) && !text.contains(ENCODED), "{text}");
    }
    assert_eq!(world.record("1")["asked"]["source"], server.url());
    world.assert_empty();
}

#[test]
fn nobody_is_told_to_whom_a_server_leads() {
    let world = World::new();
    // It gives to everybody: what follows the first request is asked of it without a detour.
    let other = Server::start(served(&world), To::All);
    let server = Server::start(PathBuf::new(), To::Away(other.address));
    let end = call(&world, &server, 0o600).run().expect(3);
    assert_eq!(server.logins(), [Some(ENCODED.to_owned())], "{}", end.stderr);
    assert!(other.logins().iter().all(Option::is_none), "{:?}", other.logins());
    world.assert_empty();
}

#[test]
fn a_server_that_wants_to_know_who_asks_is_told_by_what_helps() {
    let world = World::new();
    let server = Server::start(served(&world), To::Known);
    let end = world.cc_ci(["run"]).arg(server.url()).run().expect(3);
    assert!(end.stderr.contains("[git] credentials_file"), "{}", end.stderr);
    world.assert_empty();
}

#[test]
fn a_file_of_registries_that_is_everybodys_is_refused_and_what_it_says_is_not_shown() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    let file = world.path().join("registries");
    fs::write(&file, format!("https://ci:{PASSWORD}@ghcr.io\n")).expect("a file");
    fs::write(world.config(), unconfined(format!("[registry]\ncredentials_file = \"{}\"\n", file.display())))
        .expect("a configuration");
    let run = |mode: u32, code: i32| {
        fs::set_permissions(&file, Permissions::from_mode(mode)).expect("a mode");
        world.cc_ci(["run", "--pr", "7"]).arg(recipe.path()).run().expect(code).stderr
    };
    let open = run(0o644, 2);
    assert!(open.contains("everybody may read or write it\n\nhint: chmod o= "), "{open}");
    let doctor = world.cc_ci(["doctor"]).run().expect(1).stdout;
    assert!(doctor.contains("everybody may read or write it"), "{doctor}");
    // Who only looks needs none.
    world.cc_ci(["status"]).run().expect(0);
    assert!(!run(0o640, 0).contains(PASSWORD));
    let shown = world.cc_ci(["config", "show"]).run().expect(0).stdout;
    assert!(shown.contains("registries") && !shown.contains(PASSWORD), "{shown}");
    fs::write(&file, format!("ghcr.io ci {PASSWORD}\n")).expect("a file");
    let wrong = run(0o640, 2);
    assert!(
        wrong.contains("registries:1: no credentials of a registry") && !wrong.contains(PASSWORD),
        "{wrong}"
    );
    world.assert_empty();
}

#[test]
fn a_file_that_is_everybodys_and_an_address_with_a_password_are_refused() {
    let world = World::new();
    let server = Server::start(PathBuf::new(), To::Known);
    let open = call(&world, &server, 0o644).run().expect(2).stderr;
    assert!(open.contains("everybody may read or write it\n\nhint: chmod o= "), "{open}");
    let doctor = world.cc_ci(["doctor"]).run().expect(1).stdout;
    assert!(doctor.contains("everybody may read or write it") && doctor.contains("chmod o= "), "{doctor}");
    let address = format!("http://ci:{PASSWORD}@{}/plain.git", server.address);
    let refused = world.cc_ci(["run"]).arg(address).run().expect(2).stderr;
    assert!(refused.contains("[git] credentials_file") && !refused.contains(PASSWORD), "{refused}");
    assert_eq!(server.logins(), []);
    world.assert_empty();
}
