//! What every command takes.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use cc_ci_core::names::Suffix;
use clap::{Args, ValueEnum};
use serde::Deserialize;

use super::{limit, time};

// How options are grouped.
const OUTPUT: &str = "Output";
const ENGINE: &str = "Engine";
const PLACES: &str = "Places";
const LIMITS: &str = "Limits";
const PROCESS: &str = "Process";

/// What every command understands. Layers: defaults, then one file, then the environment, then flags.
#[derive(Debug, Args)]
pub struct Settings {
    /// The configuration file [default: /etc/cc-ci/config.toml, if it is there]
    #[arg(long, global = true, env = "CCCI_CONFIG", value_name = "FILE", help_heading = PLACES)]
    pub config: Option<PathBuf>,
    /// How results are written to stdout
    #[arg(long, global = true, env = "CCCI_FORMAT", value_enum, default_value_t, help_heading = OUTPUT)]
    pub format: Format,
    /// Whether results are coloured; `auto`: on a terminal, as `NO_COLOR` and `CLICOLOR_FORCE` say
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t, help_heading = OUTPUT)]
    pub color: Colour,
    /// Tell nothing but the result, warnings and errors
    #[arg(long, short, global = true, conflicts_with = "verbose", help_heading = OUTPUT)]
    pub quiet: bool,
    /// Tell each step's begin, how services come up, and all names of what was removed
    #[arg(long, short, global = true, help_heading = OUTPUT)]
    pub verbose: bool,
    /// Which engine the command works on: what runs the apps [default: auto]
    #[arg(long, global = true, env = "CCCI_EXECUTOR", value_enum, help_heading = ENGINE)]
    pub executor: Option<Executor>,
    /// Which of abra's servers this engine is: whose `.env` files are its apps' [default: default]
    #[arg(long, global = true, env = "CCCI_SERVER", value_name = "NAME", help_heading = ENGINE)]
    pub server: Option<ServerName>,
    /// What follows the first label of every run app's domain [default, of the local executor only: cc-ci.localhost]
    #[arg(long, global = true, env = "CCCI_SUFFIX", help_heading = ENGINE)]
    pub suffix: Option<Suffix>,
    /// Where the apps' lock files are [default: /run/lock]
    #[arg(long, global = true, env = "CCCI_APP_LOCK_DIR", value_name = "DIR", help_heading = PLACES)]
    pub lock_dir: Option<PathBuf>,
    /// Where runs keep their directories [default: /var/lib/cc-ci-runs; without root, below the XDG state directory]
    #[arg(long, global = true, env = "CCCI_RUNS_DIR", value_name = "DIR", help_heading = PLACES)]
    pub runs_dir: Option<PathBuf>,
    /// The world of the local executor [default: /var/lib/cc-ci-local; without root, below the XDG state directory]
    #[arg(long, global = true, env = "CCCI_LOCAL_ROOT", value_name = "DIR", help_heading = PLACES)]
    pub local_root: Option<PathBuf>,
    /// The reverse proxy through which an app must serve; `none`: straight from its task [default: none]
    #[arg(long, global = true, env = "CCCI_PROXY", value_name = "ADDRESS:PORT", help_heading = ENGINE)]
    pub proxy: Option<ProxyAddress>,
    /// The longest wait for an app's lock, and of a run to be admitted (`[limits]`), e.g. 30m [default: 1h]
    #[arg(long, global = true, env = "CCCI_LOCK_TIMEOUT", value_name = "TIME", value_parser = time, help_heading = LIMITS)]
    pub lock_timeout: Option<Duration>,
    /// The longest wait for another command's claim of the local root [default: 30s]
    #[arg(long, global = true, env = "CCCI_CLAIM_TIMEOUT", value_name = "TIME", value_parser = time, help_heading = LIMITS)]
    pub claim_timeout: Option<Duration>,
    /// What teardown may take [default: 10m]
    #[arg(long, global = true, env = "CCCI_TEARDOWN_BUDGET", value_name = "TIME", value_parser = limit, help_heading = LIMITS)]
    pub teardown_budget: Option<Duration>,
    /// The process whose death ends this one, when it is not the parent; PID or PID:STARTTIME
    #[arg(long, global = true, env = "CCCI_PARENT_PID", value_name = "PID", value_parser = process, help_heading = PROCESS)]
    pub parent_pid: Option<(i32, Option<u64>)>,
    /// `none`: no parent is watched; for systemd units, which have a manager instead
    #[arg(long, global = true, env = "CCCI_PARENT", value_enum, conflicts_with = "parent_pid", help_heading = PROCESS)]
    pub parent: Option<Parent>,
    /// Which of these somebody gave, by their names in the code: with the flag or the variable.
    #[arg(skip)]
    pub origins: BTreeMap<String, String>,
}

/// Which engine a command works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Executor {
    /// abra, where there is an `abra` command and a Swarm to manage; else local.
    #[default]
    Auto,
    /// Processes on this host, in sandboxes where bubblewrap makes them.
    Local,
    /// abra and the Docker Swarm at `DOCKER_HOST`.
    Abra,
}

/// The name of one of abra's servers: that of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ServerName(String);

impl ServerName {
    /// As abra calls the engine of its own host.
    pub const DEFAULT: &'static str = "default";

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Default for ServerName {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl FromStr for ServerName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let is_name =
            (1..=200).contains(&text.len()) && !text.starts_with(['.', '-']) && text.chars().all(plain);
        if is_name {
            Ok(Self(text.to_owned()))
        } else {
            Err("it is [A-Za-z0-9._-], first a letter or digit".to_owned())
        }
    }
}

impl TryFrom<String> for ServerName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|rule| format!("{text:?} is no server's name: {rule}"))
    }
}

/// Where the reverse proxy is, or that none is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum ProxyAddress {
    None,
    At(SocketAddr),
}

impl FromStr for ProxyAddress {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::None);
        }
        let address = text.parse().ok().filter(|address: &SocketAddr| address.port() != 0);
        address.map(Self::At).ok_or_else(|| "it is ADDRESS:PORT, e.g. 127.0.0.1:443, or none".to_owned())
    }
}

impl TryFrom<String> for ProxyAddress {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|rule| format!("{text:?} is no proxy's address: {rule}"))
    }
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Human,
    /// For programs: versioned JSON; errors too.
    Json,
    /// For programs: each event when it happens, then the result, a line of JSON each.
    Ndjson,
}

/// Whether results are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Colour {
    #[default]
    Auto,
    Always,
    Never,
}

/// Whether a parent is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Parent {
    /// Nobody's death ends the command.
    None,
}

fn process(text: &str) -> Result<(i32, Option<u64>), String> {
    let (pid, start_time) = text.split_once(':').map_or((text, None), |(pid, start)| (pid, Some(start)));
    let rule = "PID or PID:STARTTIME, where STARTTIME is field 22 of /proc/PID/stat";
    let pid = pid.parse().ok().filter(|pid| *pid > 0).ok_or(rule)?;
    let start_time = start_time.map(|start| start.parse().map_err(|_| rule)).transpose()?;
    Ok((pid, start_time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_name_is_a_directorys() {
        assert_eq!("default".parse::<ServerName>().as_ref().map(ServerName::as_str), Ok("default"));
        assert!("swarm-1.example.org".parse::<ServerName>().is_ok());
        for bad in ["", ".", "..", "../x", "a/b", ".hidden", "-x", "a b", "a\0"] {
            assert!(bad.parse::<ServerName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_proxy_is_an_address_with_a_port_or_none() {
        assert_eq!("none".parse(), Ok(ProxyAddress::None));
        for good in ["127.0.0.1:443", "[::1]:8443"] {
            assert_eq!(good.parse(), Ok(ProxyAddress::At(good.parse().unwrap())));
        }
        for bad in ["", "127.0.0.1", "localhost:443", "127.0.0.1:0", ":443", "https://127.0.0.1:443"] {
            assert!(bad.parse::<ProxyAddress>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_process_is_named_whole_or_not_at_all() {
        assert_eq!(process("12"), Ok((12, None)));
        assert_eq!(process("12:99"), Ok((12, Some(99))));
        for bad in ["", "0", "-1", "12:", "12:x", "x"] {
            assert!(process(bad).is_err(), "{bad:?}");
        }
    }
}
