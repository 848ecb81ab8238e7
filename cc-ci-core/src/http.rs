//! One HTTP request to an address, with a `Host` header of our choice: plain, or through a [`Proxy`]. And a [`Gateway`] for
//! those who are to ask the proxy for some names only.

#[cfg(test)]
pub(crate) mod fake_proxy;
mod gateway;
mod proxy;

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::names::Domain;

pub use gateway::Gateway;
pub(crate) use proxy::CertificateFault;
pub use proxy::{InvalidProxy, Proxy};

/// As much of a body as a probe ever needs.
const BODY_LIMIT: usize = 256 * 1024;

/// How long the rest of a page is waited for once its status is known.
const BODY_WAIT: Duration = Duration::from_secs(2);

/// So many headers an answer may have.
const MAX_HEADERS: usize = 1000;

/// As much of an answer as may come before its body.
const HEAD_LIMIT: usize = 1 << 20;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    /// The status code.
    pub status: u16,
    /// Where it leads instead, if it is a redirection and sets no cookie, on which its next answer may depend.
    pub location: Option<String>,
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

/// `GET https://<host><path>` from the proxy, within `limit`, with its certificate checked for `host`. Cancel-safe too.
pub(crate) async fn get_through(
    proxy: &Proxy,
    host: &Domain,
    path: &str,
    limit: Duration,
) -> Result<Response, HttpError> {
    let address = proxy.address();
    let until = tokio::time::Instant::now() + limit;
    // A TLS session is a large thing to carry about in a future.
    let connecting = Box::pin(async { proxy.connect(connect(address).await?, host).await });
    let stream = tokio::time::timeout_at(until, connecting)
        .await
        .map_err(|_| HttpError::NoConnection { address, limit })??;
    let request = Box::pin(exchange(stream, address, host.as_str(), path));
    tokio::time::timeout_at(until, request).await.map_err(|_| HttpError::TimedOut { address, limit })?
}

async fn request(address: SocketAddr, host: &str, path: &str) -> Result<Response, HttpError> {
    exchange(connect(address).await?, address, host, path).await
}

/// What a body begins with: the status is known, however the rest of the page ends.
async fn beginning(mut body: Incoming) -> String {
    let mut read = Vec::new();
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            read.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
            if read.len() >= BODY_LIMIT {
                read.truncate(BODY_LIMIT);
                break;
            }
        }
    };
    // What has come by then is told.
    let _ended = tokio::time::timeout(BODY_WAIT, reading).await.is_ok();
    String::from_utf8_lossy(&read).into_owned()
}

async fn connect(address: SocketAddr) -> Result<TcpStream, HttpError> {
    TcpStream::connect(address).await.map_err(|source| HttpError::Connect { address, source })
}

fn client() -> hyper::client::conn::http1::Builder {
    let mut client = hyper::client::conn::http1::Builder::new();
    client
        // What browsers and proxies put up with is no fault of an app's.
        .allow_obsolete_multiline_headers_in_responses(true)
        .ignore_invalid_headers_in_responses(true)
        .max_headers(MAX_HEADERS)
        .max_buf_size(HEAD_LIMIT);
    client
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    address: SocketAddr,
    host: &str,
    path: &str,
) -> Result<Response, HttpError> {
    let protocol = |source: Box<dyn std::error::Error + Send + Sync>| HttpError::Protocol { address, source };
    let (mut sender, connection) =
        client().handshake(TokioIo::new(stream)).await.map_err(|error| protocol(error.into()))?;
    let request = hyper::Request::get(path)
        .header(hyper::header::HOST, host)
        .body(Empty::<Bytes>::new())
        .map_err(|error| protocol(error.into()))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| protocol(error.into()))?;
        let (status, headers) = (response.status(), response.headers());
        let leads = status.is_redirection() && !headers.contains_key(hyper::header::SET_COOKIE);
        let location = headers.get(hyper::header::LOCATION).filter(|_| leads);
        let location = location.and_then(|location| location.to_str().ok()).map(str::to_owned);
        let status = status.as_u16();
        Ok(Response { status, location, body: beginning(response.into_body()).await })
    };
    // The connection is driven here and not in a task of its own, so that nothing outlives this call.
    tokio::pin!(exchange, connection);
    tokio::select! {
        biased;
        response = &mut exchange => response,
        _closed = &mut connection => exchange.await,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// What is made of an answer after which the server goes on to say nothing, or goes.
    async fn answered(answer: String, stays: bool) -> Result<Response, HttpError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 16];
            stream.read_exact(&mut request).await.unwrap();
            assert!(request.starts_with(b"GET /x?y HTTP/1."));
            stream.write_all(answer.as_bytes()).await.unwrap();
            if stays {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            answer = get(address, "a.example.org", "/x?y", Duration::from_mins(1)) => answer,
            () = async { serve.await; std::future::pending().await } => unreachable!("it is pending"),
        }
    }

    #[tokio::test]
    async fn a_status_counts_however_the_page_goes_on() {
        for (rest, stays, body) in [
            ("Content-Length: 4\r\n\r\nwhol", false, "whol"),
            ("Content-Length: 400\r\n\r\nhalf", false, "half"),
            ("Content-Length: 400\r\n\r\nhalf", true, "half"),
            ("Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nrubbish", false, "half"),
            ("Transfer-Encoding: chunked\r\n\r\n", true, ""),
            ("X-Folded: one\r\n two\r\nContent-Length: 2\r\n\r\nok", false, "ok"),
            ("Bad Name: x\r\nContent-Length: 2\r\n\r\nok", false, "ok"),
        ] {
            let answer = answered(format!("HTTP/1.1 503 No\r\n{rest}"), stays).await.unwrap();
            assert_eq!((answer.status, answer.body.as_str()), (503, body), "{rest:?}");
        }
    }

    #[tokio::test]
    async fn what_is_said_before_the_answer_is_none() {
        for before in ["100 Continue\r\n\r\n", "103 Early Hints\r\nLink: </s.css>; rel=preload\r\n\r\n"] {
            let answer = format!("HTTP/1.1 {before}HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno");
            let answer = answered(answer, false).await.unwrap();
            assert_eq!((answer.status, answer.body.as_str()), (503, "no"), "{before:?}");
        }
    }

    #[tokio::test]
    async fn many_headers_are_read_and_long_pages_cut() {
        let mut answer = "HTTP/1.1 200 OK\r\n".to_owned();
        for number in 0..500 {
            write!(answer, "X-{number}: {}\r\n", "x".repeat(100)).unwrap();
        }
        write!(answer, "\r\n{}", "x".repeat(2 * BODY_LIMIT)).unwrap();
        let answer = answered(answer, true).await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, BODY_LIMIT));
    }

    #[tokio::test]
    async fn what_is_no_http_has_no_status() {
        assert!(matches!(answered("220 ready\r\n".to_owned(), false).await, Err(HttpError::Protocol { .. })));
    }
}
