//! What the command takes.

mod past;
mod schema;

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use cc_ci_core::names::{Domain, RunId, Suffix};
use cc_ci_core::workspace::{RecipeSource, Revision};
use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Deserialize;

pub use past::{Logs, Report, Runs, State};
pub use schema::{Form, Schema};

/// What was asked for.
pub enum Invocation {
    /// Text for stdout, and nothing else to do.
    Help(String),
    /// A command.
    Command(Box<Cli>),
}

/// Reads the arguments. The error is clap's own text.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, String> {
    match Cli::try_parse_from(args) {
        Ok(cli) if matches!(cli.command, Command::ExitCodes) => Ok(Invocation::Help(exit_codes())),
        Ok(cli) => Ok(Invocation::Command(Box::new(cli))),
        Err(error) if error.use_stderr() => Err(error.render().to_string()),
        Err(error) => Ok(Invocation::Help(error.render().to_string())),
    }
}

/// Tests Co-op Cloud recipes on a shared host: nothing is left behind, nothing else is touched.
#[derive(Debug, Parser)]
#[command(name = "cc-ci", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub settings: Settings,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command understands. Layers: defaults, then one file, then the environment, then flags.
#[derive(Debug, Args)]
pub struct Settings {
    /// The configuration file [default: /etc/cc-ci/config.toml, if it is there]
    #[arg(long, global = true, env = "CCCI_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How results are written to stdout
    #[arg(long, global = true, env = "CCCI_FORMAT", value_enum, default_value_t)]
    pub format: Format,
    /// Which engine the command works on: what runs the apps [default: auto]
    #[arg(long, global = true, env = "CCCI_EXECUTOR", value_enum)]
    pub executor: Option<Executor>,
    /// Which of abra's servers this engine is: whose `.env` files are its apps' [default: default]
    #[arg(long, global = true, env = "CCCI_SERVER", value_name = "NAME")]
    pub server: Option<ServerName>,
    /// What follows the first label of every run app's domain [default, of the local executor only: cc-ci.localhost]
    #[arg(long, global = true, env = "CCCI_SUFFIX")]
    pub suffix: Option<Suffix>,
    /// Where the apps' lock files are [default: /run/lock]
    #[arg(long, global = true, env = "CCCI_APP_LOCK_DIR", value_name = "DIR")]
    pub lock_dir: Option<PathBuf>,
    /// Where runs keep their directories [default: /var/lib/cc-ci-runs; without root, below the XDG state directory]
    #[arg(long, global = true, env = "CCCI_RUNS_DIR", value_name = "DIR")]
    pub runs_dir: Option<PathBuf>,
    /// The world of the local executor [default: /var/lib/cc-ci-local; without root, below the XDG state directory]
    #[arg(long, global = true, env = "CCCI_LOCAL_ROOT", value_name = "DIR")]
    pub local_root: Option<PathBuf>,
    /// The reverse proxy through which an app must serve; `none`: straight from its task [default: none]
    #[arg(long, global = true, env = "CCCI_PROXY", value_name = "ADDRESS:PORT")]
    pub proxy: Option<ProxyAddress>,
    /// The longest wait for an app's lock, e.g. 30m [default: 1h]
    #[arg(long, global = true, env = "CCCI_LOCK_TIMEOUT", value_name = "TIME", value_parser = time)]
    pub lock_timeout: Option<Duration>,
    /// The longest wait for another command's claim of the local root [default: 30s]
    #[arg(long, global = true, env = "CCCI_CLAIM_TIMEOUT", value_name = "TIME", value_parser = time)]
    pub claim_timeout: Option<Duration>,
    /// What teardown may take [default: 10m]
    #[arg(long, global = true, env = "CCCI_TEARDOWN_BUDGET", value_name = "TIME", value_parser = time)]
    pub teardown_budget: Option<Duration>,
    /// The process whose death ends this one, when it is not the parent; PID or PID:STARTTIME
    #[arg(long, global = true, env = "CCCI_PARENT_PID", value_name = "PID", value_parser = process)]
    pub parent_pid: Option<(i32, Option<u64>)>,
    /// `none`: no parent is watched; for systemd units, which have a manager instead
    #[arg(long, global = true, env = "CCCI_PARENT", value_enum, conflicts_with = "parent_pid")]
    pub parent: Option<Parent>,
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
    /// For programs: versioned JSON.
    Json,
}

/// Whether a parent is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Parent {
    /// Nobody's death ends the command.
    None,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Test a recipe: deploy, upgrade, back up, restore, take down, report
    Run(Box<Run>),
    /// Remove what dead runs left behind, and nothing else
    Janitor(Janitor),
    /// Show who holds and who awaits which app's lock; takes none
    Locks(Domains),
    /// Run a command while holding an app's lock
    WithLock(WithLock),
    /// Look after warm apps: those that the quick lane upgrades and rolls back
    #[command(subcommand)]
    Warm(Warm),
    /// Show whatever exists of run apps; changes nothing
    Audit(Audit),
    /// Show what goes on: live runs, runs that wait, what is left behind; takes no lock
    Status,
    /// List runs, past and live ones: how each ended and why, or what it does
    Runs(Runs),
    /// Show a run's result again: why it is red, by what evidence, and what to do next
    Report(Report),
    /// Show what a run's services and tests logged
    Logs(Logs),
    /// Look whether this host can do its work; changes nothing
    Doctor,
    /// Look at a recipe without deploying it
    #[command(subcommand)]
    Recipe(Recipe),
    /// Answer requests on pull requests: executes cc-ci-bridge, where that is installed
    Bridge(Bridge),
    /// See every promise kept, on a small example of its own
    #[cfg(feature = "demo")]
    Demo(Demo),
    /// Print the JSON Schema of what commands write with `--format json`
    Schema(Schema),
    /// Print what the exit codes mean
    #[command(name = "exit-codes", long_about = exit_codes())]
    ExitCodes,
}

#[derive(Debug, Args)]
pub struct Bridge {
    /// What cc-ci-bridge is called with: `cc-ci bridge --help` is its help
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    pub args: Vec<OsString>,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Run {
    /// The recipe: a path, a URL, or a name in the canonical abra tree
    pub recipe: RecipeSource,
    /// The commit, branch or tag under test, or an ancestor of it like main~1 [default: the source's HEAD]
    #[arg(long, env = "CCCI_COMMIT", value_name = "REV")]
    pub commit: Option<Revision>,
    /// The pull request's number: the same one always gets the same domain
    #[arg(long, env = "CCCI_PR", value_name = "N", value_parser = pull_request)]
    pub pr: Option<u64>,
    /// Names the run and its directory [default: the CI's build number, else manual-PID]
    #[arg(long = "run-id", env = "CCCI_RUN_ID", value_name = "ID")]
    pub id: Option<RunId>,
    /// How long the run may take, without the wait for its lock [default: 1h]
    #[arg(long, env = "CCCI_DEADLINE", value_name = "TIME", value_parser = time)]
    pub deadline: Option<Duration>,
    /// The operator's own tests, in DIR/RECIPE/
    #[arg(long, env = "CCCI_TESTS_DIR", value_name = "DIR")]
    pub tests_dir: Option<PathBuf>,
    /// Deploy the commit itself, without an earlier release to upgrade from
    #[arg(long, env = "CCCI_FRESH", value_parser = FalseyValueParser::new())]
    pub fresh: bool,
    /// The releases to upgrade from: all, the N newest, or these tags; each older one in a pass of its own [default: 1]
    #[arg(long, env = "CCCI_UPGRADE_FROM", value_name = "all|N|TAG")]
    pub upgrade_from: Vec<String>,
    /// Copy the recipe from the canonical abra tree instead of fetching it
    #[arg(long, env = "CCCI_SKIP_FETCH", value_parser = FalseyValueParser::new())]
    pub skip_fetch: bool,
    /// Only warn of privileges that the configuration does not grant, and of what is deployed beyond what was judged; confines
    /// nothing: the recipe's scripts run as cc-ci's own user
    #[arg(long, env = "CCCI_REPORT_ONLY", value_parser = FalseyValueParser::new())]
    pub report_only: bool,
    /// The quick lane: upgrade the recipe's warm app in place, test it, roll it back; it proves less
    #[arg(long, env = "CCCI_QUICK", value_parser = FalseyValueParser::new())]
    pub quick: bool,
}

#[derive(Debug, Subcommand)]
pub enum Warm {
    /// Restore warm apps to their baselines, where they are not
    Reconcile(Reconcile),
}

#[derive(Debug, Args)]
pub struct Reconcile {
    /// Only these, by domain or recipe [default: every warm app of the configuration]
    #[arg(value_name = "DOMAIN|RECIPE")]
    pub apps: Vec<String>,
    /// Only say what would be done; takes no lock and fetches nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Janitor {
    /// Only say what would be done; takes no lock
    #[arg(long)]
    pub dry_run: bool,
    /// How long it may take in all [default: 30m]
    #[arg(long, env = "CCCI_JANITOR_DEADLINE", value_name = "TIME", value_parser = time)]
    pub deadline: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct Domains {
    /// Only these domains
    pub domains: Vec<Domain>,
}

#[derive(Debug, Args)]
pub struct Audit {
    /// The domains to look at
    #[arg(conflicts_with = "all")]
    pub domains: Vec<Domain>,
    /// Every run app there is (the default without a domain)
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Args)]
pub struct WithLock {
    /// Whose lock
    pub domain: Domain,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

#[derive(Debug, Subcommand)]
pub enum Recipe {
    /// Say what breaks a rule, where, why it matters and how to mend it; changes nothing
    Check(RecipeCheck),
}

#[derive(Debug, Args)]
pub struct RecipeCheck {
    /// The recipe's directory
    pub path: PathBuf,
    /// Write SARIF 2.1.0, whatever --format says
    #[arg(long)]
    pub sarif: bool,
}

#[cfg(feature = "demo")]
#[derive(Debug, Args)]
pub struct Demo {
    /// Keep the demo's directory for a look around
    #[arg(long)]
    pub keep: bool,
}

/// A time as people write it: `90s`, `15m`, `1h`; a year at the most.
pub fn time(text: &str) -> Result<Duration, String> {
    let rule = "write it like 90s, 15m or 1h, a year at the most";
    let time = humantime::parse_duration(text).map_err(|error| format!("{error}; {rule}"))?;
    if time <= Duration::from_hours(24 * 366) { Ok(time) } else { Err(rule.to_owned()) }
}

fn pull_request(text: &str) -> Result<u64, String> {
    if text.is_empty() {
        // CI systems have an empty variable where there is no pull request.
        return Err(
            "it must not be empty; leave --pr and CCCI_PR out where there is no pull request".to_owned()
        );
    }
    text.parse().map_err(|_| "it is a pull request's number, e.g. 42".to_owned())
}

fn process(text: &str) -> Result<(i32, Option<u64>), String> {
    let (pid, start_time) = text.split_once(':').map_or((text, None), |(pid, start)| (pid, Some(start)));
    let rule = "PID or PID:STARTTIME, where STARTTIME is field 22 of /proc/PID/stat";
    let pid = pid.parse().ok().filter(|pid| *pid > 0).ok_or(rule)?;
    let start_time = start_time.map(|start| start.parse().map_err(|_| rule)).transpose()?;
    Ok((pid, start_time))
}

fn exit_codes() -> String {
    use cc_ci_core::exit::Exit;
    use std::fmt::Write as _;
    let mut exits = Exit::ALL;
    exits.sort_by_key(|exit| exit.code());
    exits.iter().fold(String::new(), |mut text, exit| {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{:>3}  {}", exit.code(), exit.meaning());
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

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
