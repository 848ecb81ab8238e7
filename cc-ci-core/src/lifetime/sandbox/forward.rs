//! What a sandbox reaches beyond its own loopback: connections to its listeners, carried on to where they lead.

use std::io;
use std::net::{SocketAddr, TcpListener as Listener};
use std::sync::Arc;
use std::task::Context;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::http::Gateway;
use crate::sys::connections;

/// So many connections are carried at once; the next one waits.
const CONNECTIONS: usize = 256;

/// What is reached at an address of a sandbox's.
#[derive(Debug, Clone)]
pub(in crate::lifetime) enum Target {
    /// Whoever listens there, on the host.
    Address(SocketAddr),
    /// cc-ci itself.
    Gateway(Arc<Gateway>),
}

/// Listeners in a sandbox, and their connections. They end when it is dropped.
#[derive(Debug, Default)]
pub(in crate::lifetime) struct Forwards {
    _tasks: JoinSet<()>,
}

impl Forwards {
    /// Carries on what comes to `listeners`, each to its own target.
    pub fn start(listeners: Vec<(Listener, Target)>) -> io::Result<Self> {
        let mut tasks = JoinSet::new();
        for (listener, to) in listeners {
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            let accept = move |cx: &mut Context<'_>| listener.poll_accept(cx).map_ok(|(stream, _)| stream);
            tasks.spawn(connections::serve(accept, CONNECTIONS, move |stream| carry(stream, to.clone())));
        }
        Ok(Self { _tasks: tasks })
    }
}

/// Where nobody answers, the connection is closed: whoever connected sees that as it would see a reset.
async fn carry(mut inside: TcpStream, to: Target) {
    let to = match to {
        Target::Address(to) => to,
        Target::Gateway(gateway) => return gateway.serve(inside).await,
    };
    if let Ok(mut outside) = TcpStream::connect(to).await {
        let _ended = copy_bidirectional(&mut inside, &mut outside).await.is_err();
    }
}
