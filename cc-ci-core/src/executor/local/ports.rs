//! Ports for services: taken by name before they are used, so that two apps never get the same one.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{Ipv4Addr, TcpListener};

use super::world::World;
use crate::names::Domain;

/// Below the range that Linux hands out by itself, so that no outgoing connection sits there.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// Takes a port for a service of `domain`. A symbolic link names the owner: it is made at once and whole.
pub(super) fn take(world: &World, domain: &Domain, service: &str) -> io::Result<u16> {
    world.make(&world.ports())?;
    let mut hasher = DefaultHasher::new();
    (domain, service).hash(&mut hasher);
    let size = u64::from(RANGE.end - RANGE.start);
    for attempt in 0..size {
        let offset = u16::try_from((hasher.finish().wrapping_add(attempt)) % size).unwrap_or_default();
        let port = RANGE.start + offset;
        let path = world.ports().join(port.to_string());
        match world.dir()?.link(domain.as_str().as_ref(), &path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(error),
        }
        // Somebody else's program may listen there.
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
        world.free_port(port)?;
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, format!("no port of {RANGE:?} is free")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice_nor_taken_from_a_listener() {
        let root = tempfile::tempdir().unwrap();
        let world = World::new(root.path().to_owned());
        let domain: Domain = "note-012345.ci.example.org".parse().unwrap();
        let first = take(&world, &domain, "app").unwrap();
        let second = take(&world, &domain, "app").unwrap();
        assert_ne!(first, second);
        world.free_ports(&domain).unwrap();
        assert_eq!(world.taken_ports().unwrap(), []);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        assert_ne!(take(&world, &domain, "app").unwrap(), first);
        drop(listener);
    }
}
