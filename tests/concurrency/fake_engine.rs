//! What listens where an engine should, and says what a test wants: nothing at all, or a few answers.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

use cc_ci_tests::World;

/// What it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// Nothing: it accepts, and never answers.
    Nothing,
    /// That it is no part of a Swarm.
    NoSwarm,
    /// That it is part of one, and does not manage it yet.
    NotYet,
    /// That it manages an empty one.
    Manager,
}

/// Listens until the test ends; gives what `DOCKER_HOST` is for it.
pub fn listen(world: &World, says: Says) -> String {
    let path = world.path().join("docker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming().map_while(Result::ok) {
            if says == Says::Nothing {
                // Kept open.
                silent.push(stream);
            } else {
                thread::spawn(move || serve(&stream, says));
            }
        }
    });
    host(&path)
}

/// What `DOCKER_HOST` is for a socket.
pub fn host(path: &Path) -> String {
    format!("unix://{}", path.display())
}

fn serve(stream: &UnixStream, says: Says) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    // The head's end; none of these requests has a body.
    while lines.next().is_some_and(|line| !line.is_empty()) {}
    let path = request.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let what = path.rsplit('/').next().unwrap_or_default();
    let (status, body) = answer(what, says);
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n");
    let mut stream = stream;
    // Whoever asked may be gone.
    let _gone = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).is_err();
}

fn answer(what: &str, says: Says) -> (&'static str, String) {
    const ONE_NODE: &str =
        r#"[{"ID":"n1","Spec":{"Availability":"active"},"Description":{"Hostname":"here"}}]"#;
    const PROXY: &str =
        r#"[{"Id":"p1","Name":"proxy","Driver":"overlay","Scope":"swarm","Attachable":true}]"#;
    let of_the_swarm = matches!(what, "nodes" | "services" | "tasks" | "secrets" | "configs");
    if of_the_swarm && says != Says::Manager {
        return ("503 Service Unavailable", r#"{"message":"This node is not a swarm manager."}"#.to_owned());
    }
    let state = if says == Says::NoSwarm { "inactive" } else { "active" };
    let body = match what {
        "version" => r#"{"Version":"20.10.24","ApiVersion":"1.41","MinAPIVersion":"1.12"}"#.to_owned(),
        "info" => format!(
            r#"{{"DockerRootDir":"/nonexistent","Swarm":{{"NodeID":"n1","LocalNodeState":"{state}"}}}}"#
        ),
        "nodes" => ONE_NODE.to_owned(),
        "networks" => PROXY.to_owned(),
        "volumes" => r#"{"Volumes":[],"Warnings":[]}"#.to_owned(),
        _ => "[]".to_owned(),
    };
    ("200 OK", body)
}
