//! A reverse proxy that ends TLS, as a host's own does.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// The certificate that a proxy shows, and its key.
#[derive(Debug)]
pub struct ProxyCertificate(CertificateDer<'static>, KeyPair);

impl ProxyCertificate {
    /// A certificate for `name` of a CA whose own is put into the file.
    pub fn signed(name: &str, ca_file: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "a CA of the tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = || KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key()).expect("a CA");
        fs::write(ca_file, issuer.pem()).expect("a file");
        let (key, params) = (key(), CertificateParams::new([name.to_owned()]).expect("a name"));
        Self(params.signed_by(&key, &issuer).expect("a certificate").der().clone(), key)
    }

    /// What Traefik shows until it has one.
    pub fn default_of_traefik() -> Self {
        let names = ["0123456789abcdef.traefik.default".to_owned()];
        let mut params = CertificateParams::new(names).expect("a name");
        params.distinguished_name.push(DnType::CommonName, "TRAEFIK DEFAULT CERT");
        let key = KeyPair::generate().expect("a key");
        Self(params.self_signed(&key).expect("a certificate").der().clone(), key)
    }

    fn into_config(self) -> Arc<ServerConfig> {
        let Self(certificate, key) = self;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key);
        Arc::new(config.expect("the key is the certificate's"))
    }
}

/// A proxy on this host's loopback. It ends with the process.
#[derive(Debug)]
pub struct TlsProxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Option<String>>>>,
}

impl TlsProxy {
    /// It shows each client the next certificate, and the last one to all the rest. What is asked of a host is answered with what
    /// `route` brings, by the host and the head of the request; it has none of a host that it does not know.
    pub fn start(
        shown: Vec<ProxyCertificate>,
        route: impl Fn(&str, &str) -> Option<io::Result<String>> + Send + 'static,
    ) -> Self {
        let shown: Vec<Arc<ServerConfig>> = shown.into_iter().map(ProxyCertificate::into_config).collect();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let all = asked.clone();
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().flatten().enumerate() {
                let config = shown.get(number).or(shown.last()).expect("it shows something").clone();
                let connection = ServerConnection::new(config).expect("a good configuration");
                let mut client = BufReader::new(StreamOwned::new(connection, stream));
                let (head, host) = request(&mut client).unzip();
                // First: who has the answer may look at once.
                all.lock().unwrap_or_else(PoisonError::into_inner).push(host.clone());
                if let (Some(head), Some(host)) = (head, host) {
                    let answer = match route(&host, &head) {
                        // An app that is coming up or going down hangs up, as a real one does to a real proxy.
                        Some(answer) => {
                            answer.unwrap_or_else(|_| own_answer("502 Bad Gateway", "bad gateway\n"))
                        }
                        None => own_answer("404 Not Found", "404 page not found\n"),
                    };
                    let client = client.get_mut();
                    let _told = client.write_all(answer.as_bytes()).and_then(|()| client.flush()).is_ok();
                }
            }
        });
        Self { address, asked }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Of each client in turn: the host that it asked for, if the certificate was good enough for it to ask.
    pub fn asked(&self) -> Vec<Option<String>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

type Client = StreamOwned<ServerConnection, TcpStream>;

/// The head of a request, and the host that it is for. `None` of a client that refuses the certificate: it hangs up.
fn request(client: &mut BufReader<Client>) -> Option<(String, String)> {
    let (mut head, mut line) = (String::new(), String::new());
    while line != "\r\n" {
        head.push_str(&line);
        line.clear();
        client.read_line(&mut line).ok().filter(|read| *read > 0)?;
    }
    let host = head.lines().find_map(|line| line.strip_prefix("host: "))?.to_owned();
    Some((head, host))
}

/// An answer of the proxy's own.
fn own_answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}
