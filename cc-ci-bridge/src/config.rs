//! The table `[bridge]` of cc-ci's configuration file. The rest of the file is the run's affair.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cc_ci_core::files::read_private;
use cc_ci_core::{Failure, Secret};
use serde::Deserialize;

use crate::forge::Forge;
use crate::http::{BaseUrl, Client, HttpError, InvalidUrl};
use crate::names::Repo;
use crate::request::Policy;
use crate::settings::Settings;
use crate::starter::{Drone, Outbox, Starter, Woodpecker};
use crate::store::Store;

/// Where the file is, unless somebody says otherwise.
pub const DEFAULT_FILE: &str = "/etc/cc-ci/config.toml";

/// The longest that a secret may be.
const SECRET_LIMIT: u64 = 4096;

#[derive(Debug, Deserialize)]
struct File {
    bridge: Option<Table>,
}

/// The table, as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    database: PathBuf,
    forge: String,
    token_file: PathBuf,
    #[serde(default)]
    ca_file: Option<PathBuf>,
    #[serde(default)]
    hook_secret_file: Option<PathBuf>,
    #[serde(default)]
    listen: Option<std::net::SocketAddr>,
    repos: Vec<Repo>,
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default)]
    bots: Vec<String>,
    #[serde(default)]
    context: Option<String>,
    #[serde(default)]
    policy: Policy,
    #[serde(default)]
    at_once: Option<usize>,
    #[serde(default)]
    poll: Option<Time>,
    #[serde(default)]
    watch: Option<Time>,
    #[serde(default)]
    keep: Option<Time>,
    #[serde(default)]
    drone: Option<DroneTable>,
    #[serde(default)]
    woodpecker: Option<WoodpeckerTable>,
    #[serde(default)]
    work: Option<WorkTable>,
    #[serde(default)]
    dashboard: Option<DashboardTable>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct DroneTable {
    url: String,
    token_file: PathBuf,
    repo: Repo,
    branch: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct WoodpeckerTable {
    url: String,
    token_file: PathBuf,
    repo_id: u64,
    branch: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkTable {
    state_dir: PathBuf,
    #[serde(default)]
    command: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct DashboardTable {
    listen: std::net::SocketAddr,
    #[serde(default)]
    url: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Time(Duration);

impl TryFrom<String> for Time {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let rule = format!("{text:?}: write it like 90s, 15m or 90d, ten years at the most, and not 0");
        let time = humantime::parse_duration(&text).map_err(|_| rule.clone())?;
        let longest = Duration::from_hours(24 * 3660);
        if time.is_zero() || time > longest { Err(rule) } else { Ok(Self(time)) }
    }
}

/// What holds for the bridge.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that it was read from.
    pub file: PathBuf,
    table: Table,
    forge: BaseUrl,
    /// How the bridge goes about it.
    pub settings: Settings,
}

/// What `work` needs to know.
#[derive(Debug, Clone)]
pub struct WorkConfig {
    /// Where jobs have their directories.
    pub state_dir: PathBuf,
    /// The command `cc-ci`.
    pub command: PathBuf,
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// When it is not there or wrong, or has no `[bridge]`.
    pub fn load(file: Option<&Path>) -> Result<Self, Failure> {
        let file = file.unwrap_or_else(|| Path::new(DEFAULT_FILE));
        let of_file = || format!("the configuration {}", file.display());
        let text = std::fs::read_to_string(file).map_err(|error| {
            Failure::configuration(format!("can't read {}", of_file())).with_source(error)
        })?;
        Self::parse(&text, file).map_err(|failure| failure.context(of_file()))
    }

    fn parse(text: &str, file: &Path) -> Result<Self, Failure> {
        let read: File = toml::from_str(text)
            .map_err(|error| Failure::configuration("it can't be read").with_source(error))?;
        let table = read.bridge.ok_or_else(|| {
            Failure::configuration("it has no [bridge]").with_hint("docs/bridge.md has one to begin with")
        })?;
        let paths = [
            ("database", Some(&table.database)),
            ("token_file", Some(&table.token_file)),
            ("ca_file", table.ca_file.as_ref()),
            ("hook_secret_file", table.hook_secret_file.as_ref()),
            ("work.state_dir", table.work.as_ref().map(|work| &work.state_dir)),
            ("work.command", table.work.as_ref().and_then(|work| work.command.as_ref())),
        ];
        for (key, path) in paths {
            if path.is_some_and(|path| !path.is_absolute()) {
                return Err(Failure::configuration(format!("bridge.{key} is no absolute path"))
                    .with_hint("begin it with /"));
            }
        }
        let starters = [table.drone.is_some(), table.woodpecker.is_some(), table.work.is_some()];
        if starters.iter().filter(|there| **there).count() != 1 {
            return Err(Failure::configuration("it does not say who runs the tests")
                .with_hint("one of [bridge.drone], [bridge.woodpecker] and [bridge.work], and no other"));
        }
        if table.repos.is_empty() {
            return Err(Failure::configuration("bridge.repos names no repository"));
        }
        let forge = url(&table.forge, "bridge.forge")?;
        let pages = table.dashboard.as_ref().and_then(|dashboard| dashboard.url.as_deref());
        let pages = pages.map(|pages| named(BaseUrl::of_link(pages), "bridge.dashboard.url")).transpose()?;
        let time = |time: Option<Time>, default: Duration| time.map_or(default, |time| time.0);
        let settings = Settings {
            repos: table.repos.clone(),
            allow: table.allow.clone(),
            bots: table.bots.clone(),
            policy: table.policy,
            at_once: table.at_once.unwrap_or(1).max(1),
            poll: time(table.poll, Duration::from_secs(30)),
            watch: time(table.watch, Duration::from_secs(10)),
            keep: time(table.keep, Duration::from_hours(24 * 90)),
            pages: pages.map(|pages| pages.as_str().to_owned()),
        };
        Ok(Self { file: file.to_owned(), table, forge, settings })
    }

    /// Opens the database.
    ///
    /// # Errors
    /// When it can't be used.
    pub fn store(&self) -> Result<Store, Failure> {
        Ok(Store::open(&self.table.database, self.forge.as_str())?)
    }

    /// The forge's address.
    pub fn forge_address(&self) -> &str {
        self.forge.as_str()
    }

    /// Returns the forge. Reads its token.
    ///
    /// # Errors
    /// When the token or the certificates can't be read.
    pub fn forge(&self) -> Result<Forge, Failure> {
        let token = secret(&self.table.token_file)?;
        let client =
            Client::new(self.forge.clone(), "token", &token, self.table.ca_file.as_deref()).map_err(setup)?;
        Ok(Forge::new(client, self.table.context.clone().unwrap_or_else(|| "cc-ci".to_owned())))
    }

    /// Returns what runs the tests.
    ///
    /// # Errors
    /// When its token can't be read.
    pub fn starter(&self, store: std::sync::Arc<Store>) -> Result<Starter, Failure> {
        let client = |address: &str, key: &str, token_file: &Path| {
            let token = secret(token_file)?;
            Client::new(url(address, key)?, "Bearer", &token, self.table.ca_file.as_deref()).map_err(setup)
        };
        if let Some(drone) = &self.table.drone {
            let client = client(&drone.url, "bridge.drone.url", &drone.token_file)?;
            return Ok(Starter::Drone(Drone::new(client, drone.repo.clone(), drone.branch.clone())));
        }
        if let Some(woodpecker) = &self.table.woodpecker {
            let client = client(&woodpecker.url, "bridge.woodpecker.url", &woodpecker.token_file)?;
            return Ok(Starter::Woodpecker(Woodpecker::new(
                client,
                woodpecker.repo_id,
                woodpecker.branch.clone(),
            )));
        }
        Ok(Starter::Outbox(Outbox::new(store)))
    }

    /// Returns where deliveries are received, and with which secret: both or none.
    ///
    /// # Errors
    /// When one is missing, or the secret can't be read.
    pub fn receive(&self) -> Result<Option<(std::net::SocketAddr, Secret)>, Failure> {
        match (self.table.listen, &self.table.hook_secret_file) {
            (None, None) => Ok(None),
            (Some(listen), Some(file)) => Ok(Some((listen, secret(file)?))),
            (Some(_), None) => Err(Failure::configuration("bridge.listen is there and no hook_secret_file")
                .with_hint(
                    "what is not signed is not received: give the webhook a secret, and the bridge its file",
                )),
            (None, Some(_)) => Err(Failure::configuration("bridge.hook_secret_file is there and no listen")
                .with_hint("e.g. listen = \"127.0.0.1:8470\", behind the reverse proxy")),
        }
    }

    /// Where the dashboard listens, where there is one.
    pub fn dashboard(&self) -> Option<std::net::SocketAddr> {
        self.table.dashboard.as_ref().map(|dashboard| dashboard.listen)
    }

    /// Returns what `work` needs to know.
    ///
    /// # Errors
    /// When a CI runs the tests.
    pub fn work(&self) -> Result<WorkConfig, Failure> {
        let work = self.table.work.as_ref().ok_or_else(|| {
            Failure::configuration("the configuration has no [bridge.work]: a CI runs the tests")
        })?;
        Ok(WorkConfig {
            state_dir: work.state_dir.clone(),
            command: work.command.clone().unwrap_or_else(|| "/usr/local/bin/cc-ci".into()),
        })
    }
}

fn url(text: &str, key: &str) -> Result<BaseUrl, Failure> {
    named(text.parse(), key)
}

fn named(url: Result<BaseUrl, InvalidUrl>, key: &str) -> Result<BaseUrl, Failure> {
    url.map_err(|error| Failure::configuration(format!("in {key}")).with_source(error))
}

fn setup(error: HttpError) -> Failure {
    Failure::configuration("can't use the token or the certificates").with_source(error)
}

/// A secret has a file of its own that nobody else reads, and is its first line.
fn secret(path: &Path) -> Result<Secret, Failure> {
    let failure = || Failure::configuration(format!("can't use the secret in {}", path.display()));
    let text = read_private(path, SECRET_LIMIT)?;
    let line = text.lines().next().unwrap_or_default().trim();
    if line.len() < 8 {
        return Err(failure().with_source(std::io::Error::other("it has less than 8 characters")));
    }
    Ok(Secret::new(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
        suffix = \"ci.example.org\"
        [bridge]
        database = \"/var/lib/cc-ci-bridge/bridge.sqlite\"
        forge = \"https://git.example.org\"
        token_file = \"/etc/cc-ci/forge-token\"
        repos = [\"recipes/notes\"]
        [bridge.work]
        state_dir = \"/var/lib/cc-ci-work\"
    ";

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("/etc/cc-ci/config.toml")).map_err(|failure| failure.chain())
    }

    #[test]
    fn a_table_is_read_and_what_is_wrong_with_it_is_named() {
        let config = parse(GOOD).unwrap();
        assert_eq!((config.settings.at_once, config.settings.poll), (1, Duration::from_secs(30)));
        assert!(config.receive().unwrap().is_none());
        assert_eq!(config.work().unwrap().command, Path::new("/usr/local/bin/cc-ci"));
        for (change, wrong) in [
            ("repos = [\"recipes/notes\"]", "repos = []"),
            ("repos = [\"recipes/notes\"]", "repos = [\"notes\"]"),
            ("repos = [\"recipes/notes\"]", "repos = [\"recipes/notes\"]\npol = \"3s\""),
            ("repos = [\"recipes/notes\"]", "repos = [\"recipes/notes\"]\npoll = \"0s\""),
            ("https://git.example.org", "http://git.example.org"),
            ("\"/var/lib/cc-ci-bridge/bridge.sqlite\"", "\"bridge.sqlite\""),
            (
                "[bridge.work]",
                "[bridge.drone]\nurl=\"https://x\"\ntoken_file=\"/t\"\nrepo=\"a/b\"\nbranch=\"main\"\n[bridge.work]",
            ),
            ("[bridge]", "[bridg]"),
        ] {
            assert!(GOOD.contains(change));
            assert!(parse(&GOOD.replace(change, wrong)).is_err(), "{wrong}");
        }
        // The dashboard's address is a link, which may be within a network of one's own; and no more than a link.
        let leads_to = |url: &str| {
            let table =
                format!("[bridge.dashboard]\nlisten = \"127.0.0.1:1\"\nurl = \"{url}\"\n[bridge.work]");
            parse(&GOOD.replace("[bridge.work]", &table)).map(|config| config.settings.pages)
        };
        assert_eq!(leads_to("http://ci.lan/ci/").unwrap().as_deref(), Some("http://ci.lan/ci"));
        for bad in ["ci.lan", "ftp://ci.lan", "https://ci.lan/a)b", "https://ci.lan/?a", "https://a@ci.lan"] {
            assert!(leads_to(bad).is_err(), "{bad}");
        }
        let only_listens = GOOD.replace("[bridge.work]", "listen = \"127.0.0.1:1\"\n[bridge.work]");
        assert!(parse(&only_listens).unwrap().receive().is_err());
    }

    #[test]
    fn a_secret_that_everybody_may_read_is_none() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "0123456789abcdef\nmore\n").unwrap();
        let set = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        set(0o640);
        assert_eq!(secret(&path).unwrap().expose(), "0123456789abcdef");
        set(0o644);
        assert!(secret(&path).unwrap_err().hint().unwrap().contains("chmod"));
        set(0o600);
        std::fs::write(&path, "short\n").unwrap();
        assert!(secret(&path).is_err());
    }
}
