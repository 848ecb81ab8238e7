//! The engine's API: one call at a time, each with a deadline, each error named.
//!
//! Everything that is asked of the engine goes through [`Client::call`] or [`Client::get`], so that no call can hang and none fails
//! without saying what was being done.

use std::collections::HashMap;
use std::error::Error as _;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use cc_ci_core::engine::{Failure, Fault, Kind, Redactor};
use form_urlencoded::byte_serialize;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::HOST;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::address::Address;
use crate::sanitize;
use crate::tunnel::NoTunnel;

/// What one call may take, unless it is said. Engines under load take seconds to start a container; none takes half
/// a minute to say what exists.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(30);

/// The oldest API that says all that is needed: Docker Engine 20.10.
const OLDEST_API: (usize, usize) = (1, 41);

/// Filters of a list call, by name.
pub(crate) type Filters = HashMap<String, Vec<String>>;

/// A connection to one engine; made when it is first needed.
#[derive(Debug)]
pub(crate) struct Client {
    address: Address,
    at: Place,
    call_limit: Duration,
    redactor: Redactor,
    docker: OnceCell<Docker>,
}

/// Which engine it is, and where, in words: an error that somebody keeps has no connection to it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    address: String,
    /// The node's name, of another one than the manager.
    node: Option<String>,
}

/// A call failed. What the caller does about it depends on which way.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// Nobody listens: an engine that restarts answers again.
    #[error("no Docker engine answers at {at}")]
    Unreachable {
        at: Box<Place>,
        #[source]
        source: Error,
    },
    /// There is no way to whoever may listen there.
    #[error("no engine is reached at {at}: {why}")]
    NoTunnel { at: Box<Place>, why: String, hint: String, is_passing: bool },
    /// Somebody listened, and the connection ended before the answer did.
    #[error("the Docker engine at {at} broke off")]
    Broken {
        at: Box<Place>,
        #[source]
        source: Error,
    },
    #[error("{at} may not be used")]
    Denied {
        at: Box<Place>,
        #[source]
        source: Error,
    },
    #[error("the Docker engine{} did not answer within {limit:?}", of_node(node.as_deref()))]
    Hangs { limit: Duration, node: Option<String> },
    #[error("the Docker engine is no Swarm manager: {message}")]
    NoManager { message: String },
    #[error(
        "this Swarm gives tasks to nodes too whose engines are not named: {}",
        nodes.iter().map(|(name, _)| sanitize::written(name)).collect::<Vec<_>>().join(", ")
    )]
    UnnamedNodes {
        /// Their names and ids.
        nodes: Vec<(String, String)>,
    },
    /// What listens there is another machine than the one that is meant.
    #[error("the engine at {address} is not that of the node {expected}, but of {found}")]
    OtherNode { address: String, expected: String, found: String },
    #[error("the Docker engine speaks API {found}, but {}.{} or later is needed", OLDEST_API.0, OLDEST_API.1)]
    TooOld { found: String },
    /// What was asked for does not exist.
    #[error("{message}")]
    Gone { message: String },
    /// It is in use, or is being changed by somebody else.
    #[error("{message}")]
    Conflict { message: String },
    /// The engine said no, or failed itself.
    #[error("the Docker engine answered {status}: {message}")]
    Refused { status: u16, message: String },
    #[error("the Docker engine's answer can't be read")]
    Garbled(#[source] Error),
    /// A kind that nobody here knows how to remove.
    #[error("nothing here removes a {kind}")]
    NoRemoval { kind: Kind },
    /// It lacks what no answer lacks: to go on without would be to overlook something.
    #[error("the Docker engine's answer has {0}")]
    Incomplete(&'static str),
}

impl Client {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self::at(Address::Unix(socket), None)
    }

    /// The same of any engine; `node` is the name of another node than the manager.
    pub(crate) fn at(address: Address, node: Option<String>) -> Self {
        let at = Place { address: address.to_string(), node };
        Self { address, at, call_limit: CALL_LIMIT, redactor: Redactor::default(), docker: OnceCell::new() }
    }

    /// The same, which hides what `redactor` does.
    pub(crate) fn with_redactor(self, redactor: Redactor) -> Self {
        Self { redactor, ..self }
    }

    /// The same, with another bound for each call.
    pub(crate) fn with_call_limit(self, call_limit: Duration) -> Self {
        Self { call_limit, docker: OnceCell::new(), ..self }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Hides the secrets of the runs on this engine.
    pub(crate) fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// What one call may take.
    pub(crate) fn call_limit(&self) -> Duration {
        self.call_limit
    }

    /// Makes one call, within the limit of each.
    pub(crate) async fn call<T>(
        &self,
        call: impl AsyncFnOnce(&Docker) -> Result<T, Error>,
    ) -> Result<T, ApiError> {
        let docker = self.docker().await?;
        match tokio::time::timeout(self.call_limit, call(docker)).await {
            Ok(answer) => answer.map_err(|error| self.explain(error)),
            Err(_) => Err(self.hangs()),
        }
    }

    /// What the engine answers to `GET path?filters=…`, whole: bollard's types drop what they don't know.
    pub(crate) async fn get(&self, path: &str, filters: &Filters) -> Result<Value, ApiError> {
        let version = self.docker().await?.client_version();
        // An error is impossible: every key is a string.
        let filters = serde_json::to_string(filters).unwrap_or_default();
        let uri =
            format!("/v{version}{path}?filters={}", byte_serialize(filters.as_bytes()).collect::<String>());
        // The state of a handshake over TLS is large.
        match tokio::time::timeout(self.call_limit, Box::pin(ask(&self.address, self.call_limit, &uri))).await
        {
            Ok(answer) => answer.map_err(|error| self.explain(error)),
            Err(_) => Err(self.hangs()),
        }
    }

    /// The connection, for streams: they have no end to wait for, and bound their own silence.
    pub(crate) async fn docker(&self) -> Result<&Docker, ApiError> {
        self.docker.get_or_try_init(|| self.connect()).await
    }

    async fn connect(&self) -> Result<Docker, ApiError> {
        let connected = async { self.address.open(self.call_limit)?.negotiate_version().await };
        let docker = match tokio::time::timeout(self.call_limit, connected).await {
            Ok(docker) => docker.map_err(|error| self.explain(error))?,
            Err(_) => return Err(self.hangs()),
        };
        let version = docker.client_version();
        if (version.major_version, version.minor_version) < OLDEST_API {
            return Err(ApiError::TooOld { found: version.to_string() });
        }
        Ok(docker)
    }

    fn hangs(&self) -> ApiError {
        ApiError::Hangs { limit: self.call_limit, node: self.at.node.clone() }
    }

    /// Which way a call failed; for streams too.
    pub(crate) fn explain(&self, error: Error) -> ApiError {
        match error {
            Error::DockerResponseServerError { status_code, message } => {
                let message = message.trim().to_owned();
                match status_code {
                    404 => ApiError::Gone { message },
                    409 => ApiError::Conflict { message },
                    503 if message.contains("swarm") => ApiError::NoManager { message },
                    status => ApiError::Refused { status, message },
                }
            }
            Error::RequestTimeoutError => self.hangs(),
            Error::JsonDataError { .. } | Error::JsonSerdeError { .. } | Error::StrParseError { .. } => {
                ApiError::Garbled(error)
            }
            source => {
                let at = Box::new(self.at.clone());
                if let Some(no_tunnel) = no_tunnel(&source) {
                    let why = sanitize::message(&self.redactor, &no_tunnel.to_string());
                    let (hint, is_passing) = (no_tunnel.hint.clone(), no_tunnel.is_passing);
                    return ApiError::NoTunnel { at, why, hint, is_passing };
                }
                let missing = matches!(source, Error::SocketNotFoundError(_));
                // It is called missing also where this user may not look for it.
                let kind = match self.address.socket() {
                    Some(socket) if missing => looked_for(socket),
                    _ => io_kind(&source),
                };
                match kind {
                    Some(io::ErrorKind::PermissionDenied) => ApiError::Denied { at, source },
                    Some(
                        io::ErrorKind::NotFound
                        | io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::HostUnreachable
                        | io::ErrorKind::NetworkUnreachable
                        | io::ErrorKind::TimedOut,
                    ) => ApiError::Unreachable { at, source },
                    _ if missing => ApiError::Unreachable { at, source },
                    _ => ApiError::Broken { at, source },
                }
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Some(node) => write!(f, "{} (node {node})", self.address),
            None => write!(f, "{}", self.address),
        }
    }
}

/// Which engine it was, where that is another than the manager.
fn of_node(node: Option<&str>) -> String {
    node.map(|node| format!(" of the node {node}")).unwrap_or_default()
}

impl ApiError {
    /// Whether the same call may succeed a moment later: the engine restarts, elects a leader, or is slow.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Broken { .. }
            | Self::Hangs { .. }
            | Self::Conflict { .. }
            | Self::Garbled(_)
            // A restarted manager says so until it leads again.
            | Self::NoManager { .. } => true,
            Self::Refused { status, .. } => *status >= 500,
            Self::NoTunnel { is_passing, .. } => *is_passing,
            Self::Denied { .. }
            | Self::UnnamedNodes { .. }
            | Self::OtherNode { .. }
            | Self::TooOld { .. }
            | Self::Gone { .. }
            | Self::NoRemoval { .. }
            | Self::Incomplete(_) => false,
        }
    }

    /// As the executor traits tell it: what was being done, and what helps.
    pub(crate) fn during(self, doing: impl Into<String>) -> Failure {
        let hint = match &self {
            Self::Unreachable { at, .. } => Some(match &at.node {
                Some(node) => format!(
                    "start the engine of that node (systemctl start docker), or say where it listens: `engine` in the \
                     configuration's [nodes.{node}]"
                ),
                None => format!(
                    "start the engine (systemctl start docker), or say where it listens: DOCKER_HOST=unix://{at}"
                ),
            }),
            Self::NoTunnel { hint, .. } => Some(hint.clone()),
            Self::Denied { .. } => {
                Some("run as root, or as a member of the group that owns the socket".to_owned())
            }
            Self::Hangs { .. } | Self::Broken { .. } => {
                Some("see what it is doing: journalctl -u docker".to_owned())
            }
            Self::NoManager { message } if message.contains("swarm unlock") => {
                Some("docker swarm unlock".to_owned())
            }
            Self::NoManager { message } if message.contains("swarm init") => {
                Some("make this host a Swarm of its own: docker swarm init".to_owned())
            }
            Self::NoManager { .. } => Some("see its state: docker info".to_owned()),
            Self::UnnamedNodes { nodes } => {
                let named = nodes.iter().map(|(name, _)| format!("[nodes.{:?}]", sanitize::written(name)));
                let drain =
                    nodes.iter().map(|(_, id)| format!("docker node update --availability drain {id}"));
                Some(format!(
                    "name them in the configuration, {} with engine = \"ssh://HOST\", \"unix:///PATH\" or \
                     \"tcp://HOST:2376\" (docs/nodes.md); or have them given no tasks: {}",
                    named.collect::<Vec<_>>().join(" and "),
                    drain.collect::<Vec<_>>().join(" && ")
                ))
            }
            Self::OtherNode { .. } => {
                Some("name the node's own engine in the configuration's [nodes]".to_owned())
            }
            Self::TooOld { .. } => Some("upgrade to Docker Engine 20.10 or later".to_owned()),
            Self::Gone { .. }
            | Self::Conflict { .. }
            | Self::Refused { .. }
            | Self::Garbled(_)
            | Self::NoRemoval { .. }
            | Self::Incomplete(_) => None,
        };
        let of_configuration = matches!(self, Self::UnnamedNodes { .. } | Self::OtherNode { .. });
        let fault = if of_configuration { Fault::Configuration } else { Fault::Host };
        let error = Failure::new(fault, doing).with_source(self);
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

/// No stack's list is longer.
const ANSWER_LIMIT: usize = 64 << 20;

/// One request on a connection of its own.
async fn ask(address: &Address, limit: Duration, uri: &str) -> Result<Value, Error> {
    let stream = address.connect(limit).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    let request = Request::get(uri).header(HOST, "docker").body(Empty::<Bytes>::new())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await;
        let body = body.map_err(io::Error::other)?.to_bytes();
        if status.is_success() {
            return Ok(serde_json::from_slice(&body)?);
        }
        let shown = serde_json::from_slice::<Value>(&body).unwrap_or_default();
        let message = shown["message"].as_str().unwrap_or_default().to_owned();
        Err(Error::DockerResponseServerError { status_code: status.as_u16(), message })
    };
    // The connection is driven here, so that nothing outlives this call.
    tokio::pin!(exchange, connection);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        _closed = &mut connection => exchange.await,
    }
}

/// Why a path can't be looked at.
fn looked_for(path: &Path) -> Option<io::ErrorKind> {
    path.metadata().err().map(|error| error.kind())
}

/// The kernel's own reason, somewhere beneath.
fn io_kind(error: &Error) -> Option<io::ErrorKind> {
    io_error(error).map(io::Error::kind)
}

/// Why there is no tunnel, where that is the reason.
fn no_tunnel(error: &Error) -> Option<&NoTunnel> {
    io_error(error)?.get_ref()?.downcast_ref()
}

fn io_error(error: &Error) -> Option<&io::Error> {
    if let Error::IOError { err } = error {
        return Some(err);
    }
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error);
        }
        source = error.source();
    }
    None
}
