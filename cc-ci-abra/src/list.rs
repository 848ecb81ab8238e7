//! `abra app ls -m`: its JSON, wherever in the output it is.

use std::collections::BTreeMap;
use std::time::Duration;

use cc_ci_core::engine::{Failure, Redactor};
use cc_ci_core::lifetime::{Command, RunLifetime};
use serde::{Deserialize, Deserializer};

use crate::call::Call;
use crate::capabilities::{Flag, Subcommand};
use crate::installed::Abra;

/// How often noise may look like the beginning.
const MAX_TRIES: usize = 100;

/// An app as abra lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ListedApp {
    /// Its domain.
    #[serde(deserialize_with = "text")]
    pub domain: String,
    /// Its recipe.
    #[serde(deserialize_with = "text")]
    pub recipe: String,
    /// `deployed` or another word, where it was asked for.
    #[serde(deserialize_with = "text")]
    pub status: String,
    /// What is deployed, where it was asked for; often `unknown`.
    #[serde(deserialize_with = "text")]
    pub version: String,
}

#[derive(Deserialize)]
struct Server {
    /// There, if only as `null`: what has no such key is a line of a log.
    #[serde(default, deserialize_with = "apps")]
    apps: Option<Vec<ListedApp>>,
}

fn apps<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<ListedApp>>, D::Error> {
    Ok(Some(Option::deserialize(deserializer)?.unwrap_or_default()))
}

/// A string, or what stands in its place.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    use serde_json::Value;
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => text,
        value @ (Value::Number(_) | Value::Bool(_)) => value.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => String::new(),
    })
}

/// The apps in the output of `app ls -m`; `None` where no JSON of that form is in it.
fn parse(output: &str) -> Option<Vec<ListedApp>> {
    for (start, _) in output.match_indices('{').take(MAX_TRIES) {
        let mut values =
            serde_json::Deserializer::from_str(&output[start..]).into_iter::<BTreeMap<String, Server>>();
        match values.next() {
            Some(Ok(servers)) if servers.values().any(|server| server.apps.is_some()) => {
                return Some(
                    servers.into_values().flat_map(|server| server.apps.unwrap_or_default()).collect(),
                );
            }
            // A pair of braces may be noise's.
            Some(Ok(_) | Err(_)) | None => {}
        }
    }
    output.lines().any(|line| line.trim() == "{}").then(Vec::new)
}

impl Abra {
    /// The apps of all servers. First with what is deployed, which fails on a healthy host when one of its servers
    /// can't be resolved; then without. `command` is the child, which the arguments are added to; each try is given
    /// `limit`.
    pub async fn apps(
        &self,
        lifetime: &dyn RunLifetime,
        command: Command,
        redactor: &Redactor,
        limit: Duration,
    ) -> Result<Vec<ListedApp>, Failure> {
        if !self.can(Subcommand::List) {
            let message =
                format!("{} ({}) has no app ls --machine", self.program().display(), self.version());
            return Err(Failure::configuration(message));
        }
        let ask = async |status: bool| {
            let call = Call::new(self, Subcommand::List, limit).flag(Flag::Machine);
            let call = if status { call.flag(Flag::Status) } else { call };
            let output = call.execute(lifetime, redactor, command.clone()).await?;
            parse(&output).ok_or_else(|| Failure::host("`abra app ls` gave no JSON that lists apps"))
        };
        match ask(true).await {
            Err(error) => {
                tracing::debug!(%error, "app ls with what is deployed failed: once more without");
                ask(false).await
            }
            Ok(apps) => Ok(apps),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domains(output: &str) -> Option<Vec<String>> {
        Some(parse(output)?.into_iter().map(|app| app.domain).collect())
    }

    #[test]
    fn the_json_is_found_behind_noise_and_before_it() {
        let json = r#"{"default":{"apps":[{"domain":"a.example.org","recipe":"x","new":{"y":[1]}}],"appCount":1},"other":{"apps":null}}"#;
        for noise in [
            "",
            "WARN {} {x} is {\"a\": new}\nINFO done {\n",
            "{\"level\":\"warn\"}\n",
            "{\"ctx\":{}}\n{\"ctx\":{\"apps\":3}}\n",
        ] {
            let output = format!("{noise}{json}\nbye {{}}\n");
            assert_eq!(domains(&output).unwrap(), ["a.example.org"], "{noise}");
        }
        assert_eq!(domains("noise\n{}\n"), Some(Vec::new()));
        assert_eq!(domains(r#"{"default":{"apps":null}}"#), Some(Vec::new()));
        for nothing in [
            "",
            "no apps",
            "{",
            "null",
            "[]",
            r#"{"ctx":{}}"#,
            &json[..60],
            &"{".repeat(10_000),
            &"{\"a\":".repeat(300),
        ] {
            assert_eq!(domains(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn a_field_is_a_string_a_number_or_not_there() {
        let apps =
            parse(r#"{"s":{"apps":[{"domain":"a","version":1.5,"status":null,"recipe":true},{}]}}"#).unwrap();
        assert_eq!((apps[0].version.as_str(), apps[0].status.as_str()), ("1.5", ""));
        assert_eq!(apps[0].recipe, "true");
        assert_eq!(apps[1], ListedApp::default());
    }
}
