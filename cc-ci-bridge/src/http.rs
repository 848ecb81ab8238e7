//! One request to a forge or a CI: bounded in time and size, with the token in its header and nowhere else.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use cc_ci_core::Secret;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HOST, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// As long as a request may take, with its answer. It is far below [`crate::request::CREATION_GRACE`].
const LIMIT: Duration = Duration::from_secs(20);

/// As much as an answer may have.
const BODY_LIMIT: usize = 8 << 20;

/// As much of an error's text as is kept.
const QUOTED: usize = 300;

/// The longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_mins(15);

/// The address of a forge or a CI: what all of its API's paths follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    text: String,
    tls: bool,
    host: String,
    port: u16,
    path: String,
}

/// A text is no address of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no server's address: {1}")]
pub struct InvalidUrl(String, &'static str);

impl BaseUrl {
    /// Returns it without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for BaseUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let url = Self::of_link(text)?;
        // The token would be everybody's on the way.
        if !url.tls && !matches!(url.host.as_str(), "localhost" | "127.0.0.1" | "[::1]") {
            let rule = "http is for this host only: a token would be read by whoever is on the way";
            return Err(InvalidUrl(text.to_owned(), rule));
        }
        Ok(url)
    }
}

impl BaseUrl {
    /// Reads an address that nobody is asked at: it is a link for people.
    ///
    /// # Errors
    /// When it is none that a text or an attribute may have as it is.
    pub fn of_link(text: &str) -> Result<Self, InvalidUrl> {
        let bad = |rule| InvalidUrl(text.to_owned(), rule);
        let text = text.trim_end_matches('/');
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| bad("write it like https://git.example.org"))?;
        let tls = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(bad("the scheme is https or http")),
        };
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| bad("it has no port like that"))?)
            }
            _ => (authority, if tls { 443 } else { 80 }),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':' | '[' | ']');
        if host.is_empty() || !host.chars().all(plain) {
            return Err(bad("the host is a name or an address, without user and password"));
        }
        let is_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '/' | '~');
        if !path.chars().all(is_path) || path.split('/').any(|part| part == "..") {
            return Err(bad("the path is plain, without a query"));
        }
        let (host, path) = (host.to_ascii_lowercase(), path.to_owned());
        Ok(Self { text: text.to_owned(), tls, host, port, path })
    }
}

/// A server that is asked with a token.
#[derive(Clone)]
pub struct Client {
    base: BaseUrl,
    authorization: HeaderValue,
    tls: Option<TlsConnector>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client").field(&self.base.text).finish()
    }
}

/// A server was not asked, or its answer is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// It did not answer in time. What was asked for may yet happen.
    #[error("no answer from {host} within {limit:?}")]
    TimedOut {
        /// The server.
        host: String,
        /// As long as was waited.
        limit: Duration,
    },
    /// There is no connection to it: nothing was asked.
    #[error("no connection to {host}")]
    Connect {
        /// The server.
        host: String,
        /// Why.
        source: std::io::Error,
    },
    /// What came is no answer. What was asked for may have happened.
    #[error("no whole answer from {host}")]
    Protocol {
        /// The server.
        host: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It refuses or fails.
    #[error("{host} answers {status}: {text}")]
    Status {
        /// The server.
        host: String,
        /// Its status.
        status: u16,
        /// The beginning of its text.
        text: String,
        /// For how long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// The answer is not what it should be.
    #[error("{host} answers something else than it should")]
    Shape {
        /// The server.
        host: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// There is more of something than anybody has.
    #[error("{host} has too many of {what}")]
    TooMany {
        /// The server.
        host: String,
        /// Of what.
        what: &'static str,
    },
    /// The client can't be made.
    #[error("{0}")]
    Setup(String),
}

impl HttpError {
    /// Returns the status that the server refused with.
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Returns for how long the server wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether it is certain that what was asked for did not and will not happen: the server said no, or was not there.
    pub fn is_certain(&self) -> bool {
        match self {
            Self::Status { status, .. } => (400..500).contains(status) && *status != 408,
            Self::Connect { .. } | Self::Setup(_) => true,
            _ => false,
        }
    }
}

/// What came back, with a status of 2xx.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// How many there are in all, where the answer is a page of them.
    pub total: Option<usize>,
    /// What the server's clock said.
    pub date: Option<Timestamp>,
    /// The body.
    pub body: Bytes,
}

impl Client {
    /// Returns a client of the server at `base`. `scheme` is what stands before the token in the header.
    ///
    /// # Errors
    /// When the token is no header, or `ca_file` no certificates.
    pub fn new(
        base: BaseUrl,
        scheme: &str,
        token: &Secret,
        ca_file: Option<&Path>,
    ) -> Result<Self, HttpError> {
        let setup = |text: &str| HttpError::Setup(text.to_owned());
        let mut authorization = HeaderValue::from_str(&format!("{scheme} {}", token.expose()))
            .map_err(|_| setup("the token has characters that no token has"))?;
        authorization.set_sensitive(true);
        let tls = base.tls.then(|| tls(ca_file)).transpose()?;
        Ok(Self { base, authorization, tls })
    }

    /// The server's address.
    pub fn base(&self) -> &BaseUrl {
        &self.base
    }

    /// Asks for `path`, with `body` as JSON. Dropping the future closes the connection.
    ///
    /// # Errors
    /// When there is no answer, or its status is not 2xx.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<Answer, HttpError> {
        let host = self.base.host.clone();
        tokio::time::timeout(LIMIT, Box::pin(self.exchange(method, path, body)))
            .await
            .map_err(|_| HttpError::TimedOut { host, limit: LIMIT })?
    }

    /// Asks for `path`, and reads the answer as JSON.
    ///
    /// # Errors
    /// As [`ask`](Self::ask), and when it is another JSON.
    pub async fn json<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<(T, Answer), HttpError> {
        let answer = self.ask(method, path, body).await?;
        let value = serde_json::from_slice(&answer.body)
            .map_err(|source| HttpError::Shape { host: self.base.host.clone(), source })?;
        Ok((value, answer))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<Answer, HttpError> {
        let host = || self.base.host.clone();
        let connect = |source| HttpError::Connect { host: host(), source };
        let address = self.base.host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((address, self.base.port)).await.map_err(connect)?;
        // Small requests are not to wait for each other's acknowledgements.
        stream.set_nodelay(true).map_err(connect)?;
        let payload = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let mut request = Request::new(Full::new(payload));
        *request.method_mut() = method;
        let protocol =
            |source: Box<dyn std::error::Error + Send + Sync>| HttpError::Protocol { host: host(), source };
        *request.uri_mut() =
            format!("{}{path}", self.base.path).parse().map_err(|error| protocol(Box::new(error)))?;
        let authority = format!("{}:{}", self.base.host, self.base.port);
        let authority = HeaderValue::from_str(&authority).map_err(|error| protocol(Box::new(error)))?;
        let headers = request.headers_mut();
        headers.insert(HOST, authority);
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static("cc-ci-bridge"));
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        match &self.tls {
            None => self.send(stream, request).await,
            Some(tls) => {
                let name =
                    ServerName::try_from(address.to_owned()).map_err(|error| protocol(Box::new(error)))?;
                let stream = tls.connect(name, stream).await.map_err(connect)?;
                self.send(stream, request).await
            }
        }
    }

    async fn send<S>(&self, stream: S, request: Request<Full<Bytes>>) -> Result<Answer, HttpError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let host = || self.base.host.clone();
        let protocol =
            |source: Box<dyn std::error::Error + Send + Sync>| HttpError::Protocol { host: host(), source };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| protocol(Box::new(error)))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| protocol(Box::new(error)))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, BODY_LIMIT).collect().await.map_err(protocol)?.to_bytes();
            Ok((head, body))
        };
        // The connection is driven here and nowhere else: it goes with this future.
        let (head, body) = tokio::select! {
            biased;
            exchanged = exchange => exchanged?,
            ended = connection => {
                let text = ended.err().map_or_else(|| "it hung up".to_owned(), |error| error.to_string());
                return Err(protocol(text.into()));
            }
        };
        if head.status.is_success() {
            let total = header(&head.headers, "x-total-count").and_then(|total| total.parse().ok());
            let date = header(&head.headers, DATE.as_str());
            let date = date.and_then(|date| Some(rfc2822::parse(date).ok()?.timestamp()));
            return Ok(Answer { status: head.status.as_u16(), total, date, body });
        }
        let text = String::from_utf8_lossy(&body[..body.len().min(4 * QUOTED)]);
        let text = cc_ci_core::sys::text::sanitize_line(text.trim()).chars().take(QUOTED).collect();
        let retry_after = retry_after(head.status, &head.headers);
        Err(HttpError::Status { host: host(), status: head.status.as_u16(), text, retry_after })
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// In seconds only: a date would need both clocks to agree.
fn retry_after(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let asks = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let seconds = asks.then(|| header(headers, RETRY_AFTER.as_str())?.trim().parse().ok())??;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

fn tls(ca_file: Option<&Path>) -> Result<TlsConnector, HttpError> {
    let mut roots = RootCertStore::empty();
    // What of the system's can't be read is as if it was not there: whoever shows its certificate is refused.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let wrong =
            |error: &dyn std::fmt::Display| HttpError::Setup(format!("ca_file {}: {error}", path.display()));
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
            roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| HttpError::Setup(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_address_is_plain_and_a_token_goes_nowhere_unencrypted() {
        let url = |text: &str| text.parse::<BaseUrl>();
        assert_eq!(url("https://Git.example.org/").unwrap().as_str(), "https://Git.example.org");
        let forge = url("https://git.example.org:8443/forge").unwrap();
        assert_eq!((forge.port, forge.path.as_str(), forge.tls), (8443, "/forge", true));
        assert!(url("http://127.0.0.1:3000").is_ok() && url("http://[::1]:3000").is_ok());
        for bad in [
            "",
            "git.example.org",
            "http://git.example.org",
            "ftp://x",
            "https://",
            "https://user:pw@x",
            "https://x:y",
            "https://x/a?b",
            "https://x/../y",
            "https://x y",
            "http://127.0.0.1.example.org",
        ] {
            assert!(url(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_shown_of_a_client_has_no_token() {
        let base = "http://127.0.0.1:1".parse().unwrap();
        let client = Client::new(base, "token", &Secret::new("hunter22".to_owned()), None).unwrap();
        assert!(!format!("{client:?}").contains("hunter22"));
        let base = "http://127.0.0.1:1".parse().unwrap();
        let error = Client::new(base, "token", &Secret::new("hunter22\n".to_owned()), None).unwrap_err();
        assert!(!format!("{error:?}").contains("hunter22"));
    }

    #[test]
    fn a_refusal_is_certain_and_silence_is_not() {
        let status = |status| HttpError::Status {
            host: String::new(),
            status,
            text: String::new(),
            retry_after: None,
        };
        for certain in [400, 401, 403, 404, 409, 422, 429] {
            assert!(status(certain).is_certain());
        }
        for uncertain in [408, 500, 502, 503, 504] {
            assert!(!status(uncertain).is_certain());
        }
        assert!(!HttpError::TimedOut { host: String::new(), limit: LIMIT }.is_certain());
        assert!(crate::request::CREATION_GRACE > jiff::SignedDuration::try_from(2 * LIMIT).unwrap());
    }
}
