//! Ports that are taken, held for the whole host.
//!
//! The names that take them are of one root; a port is of the whole host, and between taking it and the service's own `bind` nobody
//! listens there. So whoever deploys also holds the port by a name that the kernel keeps for the network namespace, and
//! gives back when the holder ends: executors of other roots and other users go on to the next port.

use std::collections::BTreeMap;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Arc, Mutex, PoisonError};

/// The ports that this executor holds against those of other roots, until they are given back or the process ends.
#[derive(Debug, Clone, Default)]
pub(super) struct HeldPorts(Arc<Mutex<BTreeMap<u16, UnixListener>>>);

impl HeldPorts {
    /// Holds a port. `false` where another executor of this network namespace does.
    pub fn hold(&self, port: u16) -> io::Result<bool> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.contains_key(&port) {
            return Ok(true);
        }
        // An abstract name: no file, and gone with its last descriptor.
        let name = SocketAddr::from_abstract_name(format!("cc-ci/port/{port}"))?;
        match UnixListener::bind_addr(&name) {
            Ok(listener) => {
                held.insert(port, listener);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub fn release(&self, port: u16) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&port);
    }
}
