//! A way through the proxy to some names, and to nothing else that is behind it.
//!
//! Whoever may open a TLS connection to a proxy may ask it for any of its apps, whatever name the connection was opened for:
//! the proxy goes by the `Host` of each request, which nobody sees from outside. So a gateway ends the connection itself, with a
//! certificate for its names of an authority made for it alone. It reads each request, refuses (421) what is for another host,
//! and asks the proxy anew, with one `Host` that is the name of the connection, and the proxy's own certificate checked.
//!
//! # Limitations
//! HTTP/1.1, and what changes from it to `websocket`. Names beneath one of its own are others. Routes of the proxy that go by no host, answer its names too.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::uri::{Authority, PathAndQuery};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

use super::{HttpError, Proxy, client, connect};
use crate::model::error_chain;
use crate::names::Domain;

/// What a handshake may take, with a client or the proxy.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The port of https.
const PORT: u16 = 443;

/// What is between two neighbours, and not passed on.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    // It offers to speak another HTTP.
    "http2-settings",
];

/// The only protocol that a connection may change to: with any other, what comes next would be requests that nobody reads.
const WEBSOCKET: &str = "websocket";

type Body = Either<Incoming, Full<Bytes>>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A gateway. It serves connections that others accepted.
pub struct Gateway {
    proxy: Proxy,
    names: Vec<Domain>,
    acceptor: TlsAcceptor,
    authority: String,
}

/// A request that is not passed on, or brought no answer.
struct Refused(StatusCode, String);

/// What goes on for a client beside the connection to it, and ends with that.
#[derive(Default, Clone)]
struct Beside(Arc<Mutex<JoinSet<()>>>);

impl Beside {
    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

impl Gateway {
    /// One to `names` through `proxy`.
    ///
    /// # Errors
    /// When no certificate can be made for the names.
    pub fn new(proxy: Proxy, names: Vec<Domain>) -> Result<Self, BoxError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "cc-ci, for one test");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(names.iter().map(Domain::to_string).collect::<Vec<_>>())?;
        let certificate = params.signed_by(&key, &issuer)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let mut server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        let (acceptor, authority) = (TlsAcceptor::from(Arc::new(server)), issuer.pem());
        Ok(Self { proxy, names, acceptor, authority })
    }

    /// The certificate, in PEM, of who says that its own are good.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Serves one client until it has gone.
    pub(crate) async fn serve(self: Arc<Self>, stream: TcpStream) {
        let handshake = Box::pin(self.acceptor.accept(stream));
        let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, handshake).await else { return };
        let beside = Beside::default();
        let service = service_fn(|request| {
            let (gateway, beside) = (self.clone(), beside.clone());
            async move {
                let answered = Box::pin(gateway.pass(request, &beside)).await;
                Ok::<_, Infallible>(answered.unwrap_or_else(Refused::answer))
            }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        // Whoever speaks no HTTP is hung up on.
        let _hung_up = connection.with_upgrades().await.is_err();
        let mut left = std::mem::take(&mut *beside.tasks());
        while left.join_next().await.is_some() {}
    }

    /// Asks the proxy what a client asks.
    async fn pass(&self, mut request: Request<Incoming>, beside: &Beside) -> Result<Response<Body>, Refused> {
        let host = self.host(&request)?;
        let upgrades = is_websocket(request.headers());
        let inside = upgrades.then(|| hyper::upgrade::on(&mut request));
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().cloned();
        parts.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        pass_on(&mut parts.headers, upgrades);
        let value = HeaderValue::from_str(host.as_str()).map_err(|error| self.failed(&error))?;
        parts.headers.insert(header::HOST, value);
        let stream = Box::pin(async { self.proxy.connect(connect(self.proxy.address()).await?, host).await });
        let (address, limit) = (self.proxy.address(), HANDSHAKE);
        let stream = tokio::time::timeout(limit, stream).await;
        let stream = stream.unwrap_or(Err(HttpError::NoConnection { address, limit }));
        let stream = stream.map_err(|error| self.failed(&error))?;
        let handshake = client().handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.failed(&error))?;
        beside.spawn(async { drop(connection.with_upgrades().await) });
        let response = sender.send_request(Request::from_parts(parts, body)).await;
        let mut response = response.map_err(|error| self.failed(&error))?;
        let has_changed = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if has_changed {
            let outside = hyper::upgrade::on(&mut response);
            let Some(inside) = inside.filter(|_| is_websocket(response.headers())) else {
                return Err(Refused(
                    StatusCode::BAD_GATEWAY,
                    "the app changed the protocol unasked".to_owned(),
                ));
            };
            beside.spawn(async {
                let (Ok(inside), Ok(outside)) = (inside.await, outside.await) else { return };
                let (mut inside, mut outside) = (TokioIo::new(inside), TokioIo::new(outside));
                let _ended = copy_bidirectional(&mut inside, &mut outside).await.is_err();
            });
        }
        pass_on(response.headers_mut(), has_changed);
        Ok(response.map(Either::Left))
    }

    /// The name that a request is for, by all that says so.
    fn host(&self, request: &Request<Incoming>) -> Result<&Domain, Refused> {
        if request.method() == Method::CONNECT {
            return Err(Refused(StatusCode::METHOD_NOT_ALLOWED, "this is no proxy".to_owned()));
        }
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let (host, another) = (hosts.next(), hosts.next());
        let host = host.and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
        let host = host.filter(|_| another.is_none());
        // In a request's first line, it counts before the header.
        let agrees = |host: &Authority| request.uri().authority().is_none_or(|named| named == host);
        host.filter(agrees).and_then(|host| self.named(&host)).ok_or_else(|| {
            let names: Vec<&str> = self.names.iter().map(Domain::as_str).collect();
            let text = format!("this run has https for {}, and no other host", names.join(", "));
            Refused(StatusCode::MISDIRECTED_REQUEST, text)
        })
    }

    fn named(&self, host: &Authority) -> Option<&Domain> {
        // An empty port, or one that is no number, is no port for it.
        let is_plain = host.as_str().len() == host.host().len();
        let is_reached = is_plain || host.port_u16() == Some(PORT);
        self.names.iter().find(|name| is_reached && name.as_str().eq_ignore_ascii_case(host.host()))
    }

    fn failed(&self, error: &dyn std::error::Error) -> Refused {
        let address: SocketAddr = self.proxy.address();
        Refused(StatusCode::BAD_GATEWAY, format!("the proxy at {address}: {}", error_chain(error)))
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Refused {
    fn answer(self) -> Response<Body> {
        let Self(status, text) = self;
        let mut response = Response::new(Either::Right(Full::new(Bytes::from(format!("{text}\n")))));
        *response.status_mut() = status;
        response
    }
}

/// Whether it asks, or agrees, to go on as a WebSocket.
fn is_websocket(headers: &HeaderMap) -> bool {
    let mut protocols = headers.get_all(header::UPGRADE).iter();
    let is =
        protocols.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes()));
    is && protocols.next().is_none()
}

/// Leaves of the headers what is for who comes next.
fn pass_on(headers: &mut HeaderMap, is_websocket: bool) {
    let values: Vec<HeaderValue> = headers.get_all(header::CONNECTION).iter().cloned().collect();
    let named = values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    for name in named {
        headers.remove(name.trim());
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    if is_websocket {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
    }
}

#[cfg(test)]
mod tests;
