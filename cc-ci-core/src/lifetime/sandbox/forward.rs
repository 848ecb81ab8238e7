//! What a sandbox reaches beyond its own loopback: connections to its listeners, carried on to where they lead.

use std::io;
use std::net::{SocketAddr, TcpListener as Listener};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// So many connections are carried at once; the next one waits.
const CONNECTIONS: usize = 256;

/// Listeners in a sandbox, and their connections. They end when it is dropped.
#[derive(Debug, Default)]
pub(in crate::lifetime) struct Forwards {
    _tasks: JoinSet<()>,
}

impl Forwards {
    /// Carries on what comes to `listeners`, each to its own address.
    pub fn start(listeners: Vec<(Listener, SocketAddr)>) -> io::Result<Self> {
        let mut tasks = JoinSet::new();
        for (listener, to) in listeners {
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            tasks.spawn(serve(listener, to));
        }
        Ok(Self { _tasks: tasks })
    }
}

async fn serve(listener: TcpListener, to: SocketAddr) {
    // Its connections end with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => drop(connections.spawn(carry(stream, to))),
                Err(error) => {
                    tracing::debug!(%error, "a sandbox's listener");
                    // It may be out of descriptors: they come back with the connections that end.
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            },
        }
    }
}

/// Where nobody answers, the connection is closed: whoever connected sees that as it would see a reset.
async fn carry(mut inside: TcpStream, to: SocketAddr) {
    if let Ok(mut outside) = TcpStream::connect(to).await {
        let _ended = copy_bidirectional(&mut inside, &mut outside).await.is_err();
    }
}
