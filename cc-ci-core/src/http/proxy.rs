//! The reverse proxy in front of the apps: a TLS connection whose certificate is checked as a browser does.
//!
//! A check through the proxy says what users of the app would see: the router that leads to it, its certificate, and
//! the app behind. So the certificate is checked in earnest each time, against the system's roots and those that the
//! operator adds, and what is wrong with it is told apart: a proxy that has none for a domain shows its own default.
//!
//! # Limitations
//! Revocation is not looked at. The default certificate is told by Traefik's name for it; that of another proxy is
//! refused like any other that doesn't fit, by its name or its issuer.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{Resumption, WebPkiServerVerifier};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
};

use super::HttpError;
use crate::names::Domain;
use crate::sys::text::first_few;

/// More than any bundle of roots has.
const CA_LIMIT: u64 = 4 << 20;

/// The subject of the certificate that Traefik makes for itself.
const DEFAULT_SUBJECT: &[u8] = b"TRAEFIK DEFAULT CERT";

/// So many of a certificate's names are told.
const NAMES_SHOWN: usize = 5;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The reverse proxy in front of the apps: where it is, and whose certificates it may show.
#[derive(Clone)]
pub struct Proxy {
    address: SocketAddr,
    client: Arc<ClientConfig>,
}

/// The proxy can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidProxy {
    /// The file of additional roots can't be read.
    #[error("can't read the CA file {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It is read, and has something else in it.
    #[error("the CA file {path} has something that is no certificate: it is PEM, of CA certificates only")]
    NoCertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: BoxError,
    },
    /// It has no certificate at all.
    #[error("the CA file {path} has no certificate: it is PEM, of CA certificates only")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Nobody's certificates could be accepted.
    #[error("neither the system nor a CA file says whose certificates are good")]
    NoRoots,
    /// TLS itself can't be set up.
    #[error("can't set up TLS")]
    Tls(#[source] BoxError),
}

/// What is wrong with a certificate that the proxy shows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateFault {
    #[error("its own default certificate: it has none for this domain, or not yet")]
    Default,
    #[error("a certificate that expired at {}", stamp(*not_after))]
    Expired { not_after: UnixTime },
    #[error("a certificate that is not valid before {}", stamp(*not_before))]
    NotYetValid { not_before: UnixTime },
    #[error("a certificate for another name: {0}")]
    OtherName(String),
    #[error("a certificate of an unknown issuer")]
    UnknownIssuer,
    #[error("a certificate that can't be accepted: {0}")]
    Other(rustls::Error),
}

impl Proxy {
    /// The proxy at `address`, whose certificates must be of the system's roots or of those in `ca_file`. Reads
    /// files: not for an async runtime's thread.
    ///
    /// # Errors
    /// When the file can't be used, or there is no root at all.
    pub fn new(address: SocketAddr, ca_file: Option<&Path>) -> Result<Self, InvalidProxy> {
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::warn!(%error, "can't read one of the system's roots");
        }
        let mut roots = RootCertStore::empty();
        // What the system has, somebody else has chosen: one odd root is no reason to refuse the rest.
        let _counts = roots.add_parsable_certificates(system.certs);
        if let Some(path) = ca_file {
            add_roots(&mut roots, path)?;
        }
        Self::trusting(address, roots)
    }

    fn trusting(address: SocketAddr, roots: RootCertStore) -> Result<Self, InvalidProxy> {
        if roots.is_empty() {
            return Err(InvalidProxy::NoRoots);
        }
        let tls = |error: BoxError| InvalidProxy::Tls(error);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let web = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| tls(error.into()))?;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| tls(error.into()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier(web)))
            .with_no_client_auth();
        // A resumed session shows no certificate, and each check is to see the one that is there now.
        client.resumption = Resumption::disabled();
        Ok(Self { address, client: Arc::new(client) })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        host: &Domain,
    ) -> Result<TlsStream<TcpStream>, HttpError> {
        let address = self.address;
        let tls = |source| HttpError::Tls { address, source };
        let name = ServerName::try_from(host.to_string()).map_err(|error| tls(io::Error::other(error)))?;
        TlsConnector::from(self.client.clone()).connect(name, stream).await.map_err(|source| {
            match CertificateFault::of(&source) {
                Some(fault) => HttpError::Certificate { address, fault },
                None => tls(source),
            }
        })
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("address", &self.address).finish_non_exhaustive()
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy at {}", self.address)
    }
}

fn add_roots(roots: &mut RootCertStore, path: &Path) -> Result<(), InvalidProxy> {
    let pem = read(path).map_err(|source| InvalidProxy::Unreadable { path: path.to_owned(), source })?;
    let wrong = |source: BoxError| InvalidProxy::NoCertificate { path: path.to_owned(), source };
    let mut added = false;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(error.into()))?;
        roots.add(certificate).map_err(|error| wrong(error.into()))?;
        added = true;
    }
    if added { Ok(()) } else { Err(InvalidProxy::Empty { path: path.to_owned() }) }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe would be waited for.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut content = Vec::new();
    File::open(path)?.take(CA_LIMIT + 1).read_to_end(&mut content)?;
    if content.len() as u64 > CA_LIMIT {
        return Err(io::Error::other(format!("it has more than {CA_LIMIT} bytes")));
    }
    Ok(content)
}

impl CertificateFault {
    /// Of a handshake that failed, where the certificate was the reason.
    fn of(error: &io::Error) -> Option<Self> {
        let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        let rustls::Error::InvalidCertificate(fault) = error else { return None };
        Some(match fault {
            CertificateError::Other(OtherError(other)) if other.is::<ShowsDefault>() => Self::Default,
            CertificateError::ExpiredContext { not_after, .. } => Self::Expired { not_after: *not_after },
            CertificateError::NotValidYetContext { not_before, .. } => {
                Self::NotYetValid { not_before: *not_before }
            }
            CertificateError::NotValidForNameContext { presented, .. } => Self::OtherName(names(presented)),
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            _ => Self::Other(error.clone()),
        })
    }
}

/// The names of a certificate as people write them; there may be hundreds.
fn names(presented: &[String]) -> String {
    let plain = |name: &String| {
        let name = name.strip_prefix("DnsName(\"").and_then(|name| name.strip_suffix("\")")).unwrap_or(name);
        name.chars().take(253).collect::<String>()
    };
    if presented.is_empty() {
        return "it has none".to_owned();
    }
    first_few(presented.iter().map(plain), NAMES_SHOWN)
}

fn stamp(time: UnixTime) -> String {
    let stamp = i64::try_from(time.as_secs()).ok().and_then(|secs| jiff::Timestamp::from_second(secs).ok());
    stamp.map_or_else(|| "a time that no calendar has".to_owned(), |stamp| stamp.to_string())
}

/// The web's rules, and a name for the one refusal that they can't tell.
#[derive(Debug)]
struct Verifier(Arc<WebPkiServerVerifier>);

/// What was refused is the proxy's default certificate.
#[derive(Debug, thiserror::Error)]
#[error("the proxy's default certificate")]
struct ShowsDefault;

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        verified.map_err(|error| {
            if end_entity.windows(DEFAULT_SUBJECT.len()).any(|bytes| bytes == DEFAULT_SUBJECT) {
                CertificateError::Other(OtherError(Arc::new(ShowsDefault))).into()
            } else {
                error
            }
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests;
