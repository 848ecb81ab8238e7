//! What an image's name may be: the docker command judges it before it asks an engine, and there is none here. How long it is the
//! engine judges alone.

use std::process::Command;

use cc_ci_core::recipe::ImageReference;

use super::corpus::dice::Dice;

/// What names are generated of.
const PARTS: [&str; 24] = [
    "a",
    "b9",
    "A",
    "é",
    "0",
    ".",
    "_",
    "__",
    "-",
    "/",
    "/",
    ":",
    ":",
    "@",
    "localhost",
    "[::1]",
    ":5000",
    ":65536",
    "example.org/",
    "docker.io/",
    ":1.2-x",
    "@sha256:",
    " ",
    "~",
];

/// So many of them.
const GENERATED: usize = 150;

/// Whether the docker command takes the name for one.
fn docker_takes(name: &str) -> bool {
    let asked = Command::new("docker")
        .args(["--host", "unix:///nonexistent/docker.sock", "pull", "--quiet", "--", name])
        .output()
        .expect("the docker command was there before");
    let says = String::from_utf8_lossy(&asked.stderr).into_owned();
    let is_asked_for = says.contains("Cannot connect to the Docker daemon")
        || says.contains("failed to connect to the docker API");
    let refusals = [
        "invalid reference format",
        "invalid repository name",
        "unsupported digest",
        "invalid checksum digest",
        "repository name must",
    ];
    let is_refused = refusals.iter().any(|words| says.contains(words));
    assert!(is_asked_for != is_refused, "{name:?} is neither asked for nor refused: {says}");
    is_asked_for
}

#[test]
fn images_are_named_as_docker_names_them() {
    if !super::is_there("images_are_named_as_docker_names_them") {
        return;
    }
    let (sha256, sha384) = ("0a".repeat(32), "0a".repeat(48));
    let mut names = vec![
        format!("x@sha256:{sha256}"),
        format!("x:1@sha256:{sha256}"),
        format!("x@sha384:{sha384}"),
        format!("x@sha384:{sha256}"),
        format!("x@sha1:{}", "0a".repeat(20)),
        format!("x@sha256+b64u:{sha256}"),
        sha256.clone(),
        format!("{sha256}:1"),
        "x".repeat(230),
        format!("x:{}", "y".repeat(128)),
        format!("x:{}", "y".repeat(129)),
    ];
    let mut dice = Dice::new(7);
    for _ in 0..GENERATED {
        let length = 1 + dice.below(5);
        names.push((0..length).map(|_| dice.of(&PARTS)).collect());
    }
    let mut wrong = Vec::new();
    for name in names.iter().filter(|name| !name.trim().is_empty()) {
        let ours = name.parse::<ImageReference>();
        match (&ours, docker_takes(name)) {
            (Ok(_), true) | (Err(_), false) => {}
            // The grammar takes any number for a port, and a name with _ for a host: neither leads anywhere.
            (Err(refusal), true) if refusal.to_string().contains("a registry is a host's name") => {}
            (Ok(_), false) => wrong.push(format!("{name:?} is taken, and Docker refuses it")),
            (Err(refusal), true) => wrong.push(format!("Docker takes what is refused: {refusal}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
