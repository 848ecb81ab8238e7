//! A new owner of a domain ends what a dead one left running, and nothing else.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use cc_ci_core::names::Domain;
use cc_ci_core::process::{Marker, MarkerOwner, ProcessIdentity, end_marked_of_dead_owners};
use cc_ci_core::system_info::BootId;

use crate::probe::{Probe, identity, is_alive};

/// A domain that no other test uses.
fn domain(name: &str) -> Domain {
    format!("{name}-{}.lifetime.test", std::process::id()).parse().unwrap()
}

fn dead() -> ProcessIdentity {
    let mut child = Command::new("true").spawn().unwrap();
    let identity = identity(child.id().cast_signed());
    child.wait().unwrap();
    identity
}

fn myself() -> ProcessIdentity {
    identity(std::process::id().cast_signed())
}

fn run(domain: &Domain, owner: ProcessIdentity) -> Marker {
    Marker { domain: domain.clone(), owner: MarkerOwner::Run { run_id: "1".parse().unwrap(), owner } }
}

fn service(domain: &Domain) -> Marker {
    Marker {
        domain: domain.clone(),
        owner: MarkerOwner::Service { service: "app".into(), state_dir: "recover".into() },
    }
}

/// A process that carries a mark, until it is dropped.
struct Marked(Child);

impl Marked {
    fn start(marker: &Marker) -> Self {
        Self(Self::command(marker).spawn().unwrap())
    }

    /// Another user's.
    fn of_user(user: u32, marker: &Marker) -> Self {
        Self(Self::command(marker).uid(user).spawn().unwrap())
    }

    fn command(marker: &Marker) -> Command {
        let mut command = Command::new("sleep");
        command.arg("1000").env(Marker::VARIABLE, marker.to_string()).stdin(Stdio::null());
        command
    }

    fn identity(&self) -> ProcessIdentity {
        identity(self.0.id().cast_signed())
    }
}

impl Drop for Marked {
    fn drop(&mut self) {
        let _ended = self.0.kill().is_err();
        let _waited = self.0.wait().is_err();
    }
}

#[test]
fn only_a_dead_owners_processes_of_this_domain_are_ended() {
    let boot = BootId::current().unwrap();
    let (ours, other) = (domain("recover"), domain("other"));
    let mut orphans = vec![Marked::start(&run(&ours, dead())), Marked::start(&run(&ours, dead()))];
    if nix::unistd::geteuid().is_root() {
        // What makes a sandbox is of a user of its own.
        orphans.push(Marked::of_user(1_879_048_200, &run(&ours, dead())));
    }
    let mut spared = vec![
        Marked::start(&run(&ours, myself())),
        Marked::start(&run(&other, dead())),
        Marked::start(&service(&ours)),
    ];
    // Root can read what others write into their environments.
    if nix::unistd::geteuid().is_root() {
        spared.push(Marked::of_user(65_534, &run(&ours, dead())));
    }
    assert_eq!(end_marked_of_dead_owners(&ours, &boot).unwrap(), orphans.len());
    assert!(!orphans.iter().any(|child| is_alive(&child.identity())));
    assert!(spared.iter().all(|child| is_alive(&child.identity())), "ended somebody else's process");
    assert_eq!(end_marked_of_dead_owners(&ours, &boot).unwrap(), 0);
}

#[test]
fn who_forks_on_is_ended_all_the_same() {
    let boot = BootId::current().unwrap();
    let domain = domain("forks");
    let mut forker = Command::new("sh")
        .args(["-c", "echo up; n=0; while [ $n -lt 500 ]; do n=$((n+1)); sleep 60 & sleep 0.001; done"])
        .env(Marker::VARIABLE, run(&domain, dead()).to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut up = [0; 3];
    std::io::Read::read_exact(forker.stdout.as_mut().unwrap(), &mut up).unwrap();
    assert!(end_marked_of_dead_owners(&domain, &boot).unwrap() >= 1);
    forker.wait().unwrap();
    assert_eq!(end_marked_of_dead_owners(&domain, &boot).unwrap(), 0);
}

#[test]
fn whoever_recovers_a_domain_and_its_ancestors_survive_their_own_mark() {
    let domain = domain("nested");
    // Marked from its start: what a shell exports later is not in its own environment.
    let script =
        r#"exec env CCCI_MARKER="$1" sh -c 'sleep 1000 & "$0" recover "$1"; wait; echo survived' "$0" "$2""#;
    let mut shell = Probe::shell(script, &[&run(&domain, dead()).to_string(), domain.as_str()]);
    assert_eq!(shell.expect("recovered:"), "1");
    assert_eq!(shell.line(), "survived");
}
