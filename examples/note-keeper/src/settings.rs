//! The settings, all from the environment. An empty variable counts as one that isn't set.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A variable holds what it must not.
#[derive(Debug, thiserror::Error)]
#[error("{name} is {value:?}, but must be {rule}")]
pub(crate) struct BadSetting {
    name: &'static str,
    value: OsString,
    rule: &'static str,
}

/// Where a service finds its things.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) listen: SocketAddr,
    pub(crate) data_dir: PathBuf,
    pub(crate) stats_dir: PathBuf,
    pub(crate) write_key_file: PathBuf,
    pub(crate) admin_key_file: Option<PathBuf>,
    pub(crate) notice_file: Option<PathBuf>,
    pub(crate) instance_name: String,
    pub(crate) max_length: usize,
    pub(crate) stop_grace: Duration,
    pub(crate) stats_interval: Duration,
}

impl Settings {
    /// Reads the settings through `lookup`, which is the environment outside of tests.
    pub(crate) fn read(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, BadSetting> {
        let get = |name: &'static str| lookup(name).filter(|value| !value.is_empty());
        let path = |name, default: &str| get(name).map_or_else(|| PathBuf::from(default), PathBuf::from);
        Ok(Self {
            listen: SocketAddr::new(
                parse(&get, "NOTES_LISTEN", "an IP address", |_| true)?
                    .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
                parse(&get, "NOTES_PORT", "a port, 0 to 65535", |_| true)?.unwrap_or(8080),
            ),
            data_dir: path("NOTES_DATA_DIR", "/data"),
            stats_dir: path("NOTES_STATS_DIR", "/stats"),
            write_key_file: path("NOTES_WRITE_KEY_FILE", "/run/secrets/write_key"),
            admin_key_file: get("NOTES_ADMIN_KEY_FILE").map(PathBuf::from),
            notice_file: get("NOTES_NOTICE_FILE").map(PathBuf::from),
            instance_name: parse(&get, "NOTES_INSTANCE_NAME", "text", |_| true)?
                .unwrap_or_else(|| "Notes".to_owned()),
            max_length: parse(&get, "NOTES_MAX_LENGTH", "a number of bytes, 1 to 65536", |&length| {
                (1..=65536).contains(&length)
            })?
            .unwrap_or(4096),
            stop_grace: seconds(&get, "NOTES_STOP_GRACE", 0..=60, "a number of seconds, 0 to 60")?
                .unwrap_or(Duration::from_secs(5)),
            stats_interval: seconds(
                &get,
                "NOTES_STATS_INTERVAL",
                1..=3600,
                "a number of seconds, 1 to 3600",
            )?
            .unwrap_or(Duration::from_secs(1)),
        })
    }
}

fn seconds(
    get: &impl Fn(&'static str) -> Option<OsString>,
    name: &'static str,
    range: std::ops::RangeInclusive<u64>,
    rule: &'static str,
) -> Result<Option<Duration>, BadSetting> {
    Ok(parse(get, name, rule, |seconds| range.contains(seconds))?.map(Duration::from_secs))
}

fn parse<T: FromStr>(
    get: &impl Fn(&'static str) -> Option<OsString>,
    name: &'static str,
    rule: &'static str,
    valid: impl Fn(&T) -> bool,
) -> Result<Option<T>, BadSetting> {
    let Some(value) = get(name) else { return Ok(None) };
    match value.to_str().and_then(|text| text.parse().ok()).filter(valid) {
        Some(parsed) => Ok(Some(parsed)),
        None => Err(BadSetting { name, value, rule }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Result<Settings, BadSetting> {
        Settings::read(|asked| (asked == name).then(|| value.into()))
    }

    #[test]
    fn nothing_set_gives_the_documented_defaults() {
        let settings = read("", "").unwrap();
        assert_eq!(settings.listen.to_string(), "0.0.0.0:8080");
        assert_eq!(settings.data_dir.to_str(), Some("/data"));
        assert_eq!(settings.write_key_file.to_str(), Some("/run/secrets/write_key"));
        assert_eq!(read("NOTES_PORT", "").unwrap().listen.port(), 8080);
    }

    #[test]
    fn a_bad_setting_shows_the_value_and_the_rule() {
        for (name, value) in [
            ("NOTES_PORT", "65536"),
            ("NOTES_PORT", "http"),
            ("NOTES_LISTEN", "localhost"),
            ("NOTES_MAX_LENGTH", "0"),
            ("NOTES_MAX_LENGTH", "65537"),
            ("NOTES_STATS_INTERVAL", "0"),
            ("NOTES_STOP_GRACE", "-1"),
        ] {
            let message = read(name, value).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains(value), "{message}");
        }
    }
}
