//! One HTTP request to an address, with a `Host` header of our choice: plain, or through a [`Proxy`].

#[cfg(test)]
pub(crate) mod fake_proxy;
mod proxy;

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::names::Domain;

pub(crate) use proxy::CertificateFault;
pub use proxy::{InvalidProxy, Proxy};

/// As much of a body as a probe ever needs.
const BODY_LIMIT: usize = 256 * 1024;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    /// The status code.
    pub status: u16,
    /// The body, cut at 256 KiB.
    pub body: String,
}

/// The request brought no response.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum HttpError {
    #[error("no answer from {address} within {limit:?}")]
    TimedOut { address: SocketAddr, limit: Duration },
    #[error("no connection to {address} within {limit:?}")]
    NoConnection { address: SocketAddr, limit: Duration },
    #[error("can't connect to {address}")]
    Connect {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("no TLS from {address}")]
    Tls {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("the proxy at {address} shows {fault}")]
    Certificate { address: SocketAddr, fault: CertificateFault },
    #[error("no HTTP from {address}")]
    Protocol {
        address: SocketAddr,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl HttpError {
    /// Whether it is a proxy that is not as it should be, whatever the app behind it is: nobody there, no TLS, or a
    /// certificate that is nobody's affair but the operator's.
    pub(crate) fn is_of_proxy(&self) -> bool {
        match self {
            Self::NoConnection { .. } | Self::Connect { .. } | Self::Tls { .. } => true,
            Self::Certificate { fault, .. } => matches!(
                fault,
                CertificateFault::Expired { .. }
                    | CertificateFault::NotYetValid { .. }
                    | CertificateFault::UnknownIssuer
                    | CertificateFault::Other(_)
            ),
            Self::TimedOut { .. } | Self::Protocol { .. } => false,
        }
    }
}

/// `GET path` from `address`, as the host `host`, within `limit`. Cancel-safe: dropping it closes the connection.
pub(crate) async fn get(
    address: SocketAddr,
    host: &str,
    path: &str,
    limit: Duration,
) -> Result<Response, HttpError> {
    tokio::time::timeout(limit, request(address, host, path))
        .await
        .map_err(|_| HttpError::TimedOut { address, limit })?
}

/// `GET https://<host>/` from the proxy, within `limit`, with its certificate checked for `host`. Cancel-safe too.
pub(crate) async fn get_through(
    proxy: &Proxy,
    host: &Domain,
    limit: Duration,
) -> Result<Response, HttpError> {
    let address = proxy.address();
    let until = tokio::time::Instant::now() + limit;
    // A TLS session is a large thing to carry about in a future.
    let connecting = Box::pin(async { proxy.connect(connect(address).await?, host).await });
    let stream = tokio::time::timeout_at(until, connecting)
        .await
        .map_err(|_| HttpError::NoConnection { address, limit })??;
    let request = Box::pin(exchange(stream, address, host.as_str(), "/"));
    tokio::time::timeout_at(until, request).await.map_err(|_| HttpError::TimedOut { address, limit })?
}

async fn request(address: SocketAddr, host: &str, path: &str) -> Result<Response, HttpError> {
    exchange(connect(address).await?, address, host, path).await
}

async fn connect(address: SocketAddr) -> Result<TcpStream, HttpError> {
    TcpStream::connect(address).await.map_err(|source| HttpError::Connect { address, source })
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    address: SocketAddr,
    host: &str,
    path: &str,
) -> Result<Response, HttpError> {
    let protocol = |source: Box<dyn std::error::Error + Send + Sync>| HttpError::Protocol { address, source };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| protocol(error.into()))?;
    let request = hyper::Request::get(path)
        .header(hyper::header::HOST, host)
        .body(Empty::<Bytes>::new())
        .map_err(|error| protocol(error.into()))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| protocol(error.into()))?;
        let status = response.status().as_u16();
        match Limited::new(response.into_body(), BODY_LIMIT).collect().await {
            Ok(body) => Ok(Response { status, body: String::from_utf8_lossy(&body.to_bytes()).into_owned() }),
            // A page longer than we read is a page all the same.
            Err(error) if error.is::<LengthLimitError>() => Ok(Response { status, body: String::new() }),
            Err(error) => Err(protocol(error)),
        }
    };
    // The connection is driven here and not in a task of its own, so that nothing outlives this call.
    tokio::pin!(exchange, connection);
    tokio::select! {
        biased;
        response = &mut exchange => response,
        _closed = &mut connection => exchange.await,
    }
}
