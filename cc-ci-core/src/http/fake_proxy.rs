//! A proxy for tests: a real TLS server with certificates made on the spot.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{HandshakeKind, ServerConfig};
use tokio_rustls::server::TlsStream;

use super::Proxy;

/// Says whose certificates are good.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

/// A certificate with its key, as a server has it.
pub(crate) struct Shown {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

/// What a client of the proxy did, once its certificate was good enough.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub name: Option<String>,
    pub handshake: Option<HandshakeKind>,
    pub head: String,
}

/// It gives each client the next answer, and the last one to all the rest.
pub(crate) struct FakeProxy {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: AbortHandle,
}

impl Authority {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        // No two have the same name.
        params.distinguished_name.push(DnType::CommonName, directory.path().to_str().unwrap());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, directory }
    }

    pub fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// The proxy at `address`, for a client that trusts this authority.
    pub fn proxy(&self, address: SocketAddr) -> Proxy {
        Proxy::new(address, Some(&self.file())).unwrap()
    }

    pub fn certificate(&self, name: &str) -> Shown {
        self.certificate_with(name, |_| {})
    }

    pub fn certificate_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Shown {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Shown { certificate, key }
    }
}

/// What Traefik shows where it has nothing better.
pub(crate) fn default_certificate() -> Shown {
    let mut params = CertificateParams::new(["0123456789abcdef.traefik.default".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "TRAEFIK DEFAULT CERT");
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().der().clone();
    Shown { certificate, key }
}

/// A page with this status.
pub(crate) fn page(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

pub(crate) fn acceptor(shown: Shown) -> TlsAcceptor {
    let key = PrivatePkcs8KeyDer::from(shown.key.serialize_der()).into();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![shown.certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// The head of a request, up to its empty line.
pub(crate) async fn head(stream: &mut TlsStream<TcpStream>) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

impl FakeProxy {
    pub async fn start(shown: Shown, answers: &[String]) -> Self {
        let (listener, address) = listen().await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (acceptor, answers, all) = (acceptor(shown), answers.to_vec(), seen.clone());
        let serve = async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // A client that refuses the certificate is what most tests are about.
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let session = stream.get_ref().1;
                let (name, handshake) = (session.server_name().map(str::to_owned), session.handshake_kind());
                let head = head(&mut stream).await;
                let number = {
                    let mut all = all.lock().unwrap();
                    all.push(Seen { name, handshake, head });
                    all.len() - 1
                };
                let answer = answers.get(number).or(answers.last()).unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                let _told = stream.shutdown().await.is_ok();
            }
        };
        Self { address, seen, task: tokio::spawn(serve).abort_handle() }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for FakeProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}
