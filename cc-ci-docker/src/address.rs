//! Where an engine listens, and how it is connected to: a socket of this host, TLS with a certificate for each side, or a socket
//! of another host by ssh.
//!
//! An engine that listens on the network without TLS gives root to whoever reaches it, so there is no such address.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bollard::errors::Error;
use bollard::{BollardRequest, Docker};
use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tower_service::Service;

use crate::tunnel::Tunnel;

/// Where an engine listens.
#[derive(Debug, Clone)]
pub enum Address {
    /// A socket of this host.
    Unix(PathBuf),
    /// A port of another host.
    Tls(TlsAddress),
    /// A socket of another host.
    Ssh(Tunnel),
}

/// A port of another host, and what each side shows the other.
#[derive(Clone)]
pub struct TlsAddress {
    host: String,
    port: u16,
    name: ServerName<'static>,
    client: Arc<ClientConfig>,
}

/// What is to be shown over TLS can't be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTls {
    /// The host's name is none.
    #[error("{0:?} is no host's name or address")]
    Name(String),
    /// One of the three texts is no PEM, or has nothing in it.
    #[error("{what} has no {wanted} in PEM")]
    Pem {
        /// Which of them.
        what: &'static str,
        /// What it should have.
        wanted: &'static str,
    },
    /// They do not go together.
    #[error("the certificate and its key can't be used")]
    Unusable(#[source] tokio_rustls::rustls::Error),
}

impl TlsAddress {
    /// An engine at `host` and `port` whose certificate is signed by one of `ca`, and that is shown `certificate`, whose
    /// key is `key`: texts in PEM.
    ///
    /// # Errors
    /// When one of them can't be used.
    pub fn new(host: &str, port: u16, ca: &str, certificate: &str, key: &str) -> Result<Self, InvalidTls> {
        let pem = |what, wanted| InvalidTls::Pem { what, wanted };
        let certificates = |what, text: &str| -> Result<Vec<CertificateDer<'static>>, InvalidTls> {
            let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
            all.ok().filter(|all| !all.is_empty()).ok_or_else(|| pem(what, "certificate"))
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| InvalidTls::Name(host.to_owned()))?;
        let mut roots = RootCertStore::empty();
        for root in certificates("ca_file", ca)? {
            roots.add(root).map_err(|_| pem("ca_file", "certificate of an authority"))?;
        }
        let key =
            PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| pem("key_file", "private key"))?;
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(InvalidTls::Unusable)?
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates("cert_file", certificate)?, key)
            .map_err(InvalidTls::Unusable)?;
        Ok(Self { host: bare.to_owned(), port, name, client: Arc::new(client) })
    }

    async fn connect(&self) -> io::Result<Stream> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        // Requests and answers are small.
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(self.client.clone()).connect(self.name.clone(), stream).await?;
        Ok(Stream(TokioIo::new(Box::pin(stream))))
    }
}

impl fmt::Debug for TlsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsAddress")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(socket) => write!(f, "{}", socket.display()),
            Self::Tls(TlsAddress { host, port, .. }) if host.contains(':') => {
                write!(f, "tcp://[{host}]:{port}")
            }
            Self::Tls(TlsAddress { host, port, .. }) => write!(f, "tcp://{host}:{port}"),
            Self::Ssh(tunnel) => tunnel.fmt(f),
        }
    }
}

impl Address {
    /// The socket, of an engine of this host.
    pub(crate) fn socket(&self) -> Option<&Path> {
        match self {
            Self::Unix(socket) => Some(socket),
            Self::Tls(_) | Self::Ssh(_) => None,
        }
    }

    /// Makes what sends requests there; nothing is sent yet. `limit` is more than any call may take.
    pub(crate) fn open(&self, limit: Duration) -> Result<Docker, Error> {
        // It counts whole seconds, and ends after ours.
        let seconds = limit.as_secs() + 1;
        match self {
            // A path that is no UTF-8 names no socket that bollard could open; it says so.
            Self::Unix(socket) => {
                Docker::connect_with_unix(&socket.to_string_lossy(), seconds, bollard::API_DEFAULT_VERSION)
            }
            Self::Tls(_) | Self::Ssh(_) => {
                let connector = Connector { address: self.clone(), limit };
                let client = Client::builder(TokioExecutor::new()).build(connector);
                let send = move |request: BollardRequest| {
                    let sent = client.request(request);
                    async move { sent.await.map_err(Error::from) }
                };
                // The name is for the header alone.
                Docker::connect_with_custom_transport(
                    send,
                    Some("http://docker"),
                    seconds,
                    bollard::API_DEFAULT_VERSION,
                )
            }
        }
    }

    /// A connection of one's own, for a call that may take `limit`.
    pub(crate) async fn connect(&self, limit: Duration) -> io::Result<Stream> {
        match self {
            Self::Unix(socket) => Ok(Stream(TokioIo::new(Box::pin(UnixStream::connect(socket).await?)))),
            Self::Tls(address) => address.connect().await,
            Self::Ssh(tunnel) => Ok(Stream(TokioIo::new(Box::pin(tunnel.connect(limit).await?)))),
        }
    }
}

/// Makes connections for a pool of them.
#[derive(Debug, Clone)]
struct Connector {
    address: Address,
    limit: Duration,
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { address, limit } = self.clone();
        Box::pin(async move { address.connect(limit).await })
    }
}

trait Bytes: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Bytes for T {}

/// A connection, whatever it is made of.
pub(crate) struct Stream(TokioIo<Pin<Box<dyn Bytes>>>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
