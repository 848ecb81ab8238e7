//! Where the engine of the executor abra is.

use std::env;
use std::ffi::OsStr;
use std::path::PathBuf;

use cc_ci_core::Failure;

/// Where an engine listens, unless somebody says otherwise.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// Where the engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    pub path: PathBuf,
    /// Somebody named it: then it is meant to be there.
    pub named: bool,
}

impl Socket {
    /// What `DOCKER_HOST` says.
    pub fn from_environment() -> Result<Self, Failure> {
        Self::parse(env::var_os("DOCKER_HOST").as_deref())
    }

    fn parse(host: Option<&OsStr>) -> Result<Self, Failure> {
        let Some(host) = host.filter(|host| !host.is_empty()) else {
            return Ok(Self { path: DEFAULT_SOCKET.into(), named: false });
        };
        let path = host.to_str().and_then(|host| host.strip_prefix("unix://")).map(PathBuf::from);
        match path {
            Some(path) if path.is_absolute() => Ok(Self { path, named: true }),
            _ => {
                // The rest may have a password in it.
                let host = host.to_string_lossy();
                let scheme = host.split_once("://").map_or("no address", |(scheme, _)| scheme);
                Err(Failure::configuration(format!(
                    "DOCKER_HOST ({scheme}) is no unix://PATH: only an engine of this host can be used, since locks \
                     are per host"
                ))
                .with_hint(format!("run cc-ci on the engine's own host, with DOCKER_HOST=unix://{DEFAULT_SOCKET}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cc_ci_core::Fault;

    use super::*;

    #[test]
    fn only_an_engine_of_this_host_is_taken() {
        let parse = |host: &str| Socket::parse(Some(OsStr::new(host)));
        for none in [Socket::parse(None), parse("")] {
            assert_eq!(none.unwrap(), Socket { path: DEFAULT_SOCKET.into(), named: false });
        }
        assert_eq!(parse("unix:///x/y.sock").unwrap(), Socket { path: "/x/y.sock".into(), named: true });
        for remote in [
            "tcp://10.0.0.1:2376",
            "ssh://root:secret@host",
            "unix://relative",
            "unix://",
            "/x/y.sock",
            "npipe:////./x",
        ] {
            let error = parse(remote).unwrap_err();
            let message = error.chain();
            assert_eq!(error.fault(), Fault::Configuration);
            assert!(message.contains("locks are per host") && error.hint().is_some(), "{message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }
}
