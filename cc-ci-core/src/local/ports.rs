//! Ports for services: taken by name before they are used, so that two apps never get the same one.
//!
//! An app's directory is there as long as it has ports. So a port that is taken in the name of an app without one is
//! nobody's, whoever wrote that, and is given to who needs it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{Ipv4Addr, TcpListener};

use rustix::fs::OFlags;

use super::state_dir::StateDir;
use crate::names::Domain;

/// Below the range that Linux hands out by itself, so that no outgoing connection sits there.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// Takes a port for a service of `domain`. A symbolic link names the owner: it is made at once and whole.
pub(super) fn take(state_dir: &StateDir, domain: &Domain, service: &str) -> io::Result<u16> {
    state_dir.make(&state_dir.ports())?;
    state_dir.make(&state_dir.app(domain))?;
    let mut hasher = DefaultHasher::new();
    (domain, service).hash(&mut hasher);
    let size = u64::from(RANGE.end - RANGE.start);
    for attempt in 0..size {
        let offset = u16::try_from((hasher.finish().wrapping_add(attempt)) % size).unwrap_or_default();
        let port = RANGE.start + offset;
        if !(claim(state_dir, domain, port)? || take_over(state_dir, domain, port)?) {
            continue;
        }
        // Another root's service may be about to listen there, or somebody else's program do so.
        if state_dir.held_ports().hold(port)? && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
        state_dir.free_port(port)?;
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, format!("no port of {RANGE:?} is free")))
}

/// Writes the owner's name down where there is none.
fn claim(state_dir: &StateDir, domain: &Domain, port: u16) -> io::Result<bool> {
    match state_dir.dir()?.link(domain.as_str().as_ref(), &state_dir.ports().join(port.to_string())) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Claims a port that is nobody's.
fn take_over(state_dir: &StateDir, domain: &Domain, port: u16) -> io::Result<bool> {
    if state_dir.has_port_owner(port) {
        return Ok(false);
    }
    // One at a time, and looked at again: else the second would remove what the first has just claimed.
    let ports = state_dir.dir()?.open_file(&state_dir.ports(), OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
    if ports.try_lock().is_err() || state_dir.has_port_owner(port) {
        return Ok(false);
    }
    state_dir.remove(&state_dir.ports().join(port.to_string()))?;
    claim(state_dir, domain, port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice_nor_taken_from_a_listener() {
        let root = tempfile::tempdir().unwrap();
        let state_dir = StateDir::new(root.path().to_owned());
        let domain: Domain = "note-012345.ci.example.org".parse().unwrap();
        let first = take(&state_dir, &domain, "app").unwrap();
        let second = take(&state_dir, &domain, "app").unwrap();
        assert_ne!(first, second);
        state_dir.free_ports(&domain).unwrap();
        assert_eq!(state_dir.taken_ports().unwrap(), []);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        assert_ne!(take(&state_dir, &domain, "app").unwrap(), first);
        drop(listener);
    }

    #[test]
    fn a_port_that_an_executor_of_another_root_holds_is_not_taken_until_it_is_given_back() {
        let roots = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [one, other] = roots.each_ref().map(|root| StateDir::new(root.path().to_owned()));
        let domain: Domain = "held-012345.ci.example.org".parse().unwrap();
        // Nobody listens yet: the service is yet to be started.
        let port = take(&one, &domain, "app").unwrap();
        let beside = take(&other, &domain, "app").unwrap();
        assert_ne!(beside, port);
        assert_eq!(other.taken_ports().unwrap(), [(beside, domain.clone())], "what was not had is not noted");
        one.free_ports(&domain).unwrap();
        other.free_ports(&domain).unwrap();
        assert_eq!(take(&other, &domain, "app").unwrap(), port);
    }

    #[test]
    fn a_port_that_is_nobodys_is_given_to_who_needs_it() {
        let root = tempfile::tempdir().unwrap();
        let state_dir = StateDir::new(root.path().to_owned());
        let [domain, other]: [Domain; 2] =
            ["nobodys-012345.ci.example.org", "nobody.example.org"].map(|d| d.parse().unwrap());
        let port = take(&state_dir, &domain, "app").unwrap();
        state_dir.free_ports(&domain).unwrap();
        let path = state_dir.ports().join(port.to_string());
        std::os::unix::fs::symlink(other.as_str(), &path).unwrap();
        assert_eq!(take(&state_dir, &domain, "app").unwrap(), port);
        state_dir.free_ports(&domain).unwrap();
        std::fs::write(&path, "rubbish").unwrap();
        assert_eq!(take(&state_dir, &domain, "app").unwrap(), port);
        state_dir.free_ports(&domain).unwrap();
        std::os::unix::fs::symlink(other.as_str(), &path).unwrap();
        std::fs::create_dir_all(state_dir.app(&other)).unwrap();
        assert_ne!(take(&state_dir, &domain, "app").unwrap(), port);
    }

    #[test]
    fn a_link_in_the_place_of_the_ports_is_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let local = root.path().join("local");
        let elsewhere = root.path().join("elsewhere");
        let state_dir = StateDir::new(local.clone());
        let domain: Domain = "note-012345.ci.example.org".parse().unwrap();
        state_dir.make(&state_dir.app(&domain)).unwrap();
        std::fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(domain.as_str(), elsewhere.join("20000")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, state_dir.ports()).unwrap();
        assert!(!state_dir.has_port_owner(20_000));
        assert!(take(&state_dir, &domain, "app").is_err());
        let message = state_dir.in_the_way().concat();
        assert!(message.contains(&state_dir.ports().display().to_string()), "{message}");
        assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 1);
    }
}
