//! The claim of a suffix for one lock space.
//!
//! flock is per host and a Swarm is not: with two lock directories on one engine, two processes would own one domain.
//! So the first cc-ci that uses a Swarm leaves a config there, named after the suffix, whose labels say which lock
//! space it is. A config's content can't be changed, but its labels can, by compare-and-swap on its version: of two
//! that take a dead claim over, one is told to look again.

use std::collections::HashMap;

use bollard::models::{Config, ConfigSpec};
use bollard::query_parameters::{ListConfigsOptions, UpdateConfigOptions};
use cc_ci_core::engine::{Failure, LockSpace};
use cc_ci_core::names::Suffix;
use sha2::{Digest as _, Sha256};

use crate::client::Filters;
use crate::client::{ApiError, Client};
use crate::{SwarmEngine, nodes, sanitize};

const PREFIX: &str = "cc-ci-lockspace-";

/// The label that the lock space is in, as JSON.
const LABEL: &str = "cc-ci.lock-space";

/// The label that the suffix is in, for people: in the name it may be cut.
const SUFFIX_LABEL: &str = "cc-ci.suffix";

/// A config can't be empty. "cc-ci", as the API wants it.
const CONTENT: &str = "Y2MtY2k=";

/// What the Swarm allows for a config's name.
const NAME_LIMIT: usize = 64;

/// How often another one may be faster.
const ATTEMPTS: usize = 16;

/// A claim that is there.
struct Held {
    config: Config,
    /// What it says, or why that can't be read.
    space: Result<LockSpace, serde_json::Error>,
}

/// Claims `suffix` for the lock space `claim`, or says who has it.
pub(crate) async fn claim(engine: &SwarmEngine, claim: &LockSpace) -> Result<(), Failure> {
    let (client, suffix) = (&engine.client, &engine.settings.suffix);
    let doing = || format!("can't claim {suffix} on this Swarm");
    // What could not be seen could not be removed.
    nodes::others(engine).await.map_err(|error| error.during(doing()))?;
    let name = name(suffix);
    for _ in 0..ATTEMPTS {
        let taken = match find(client, &name).await.map_err(|error| error.during(doing()))? {
            None => create(client, spec(&name, suffix, claim)?).await,
            Some(Held { config, space }) => {
                let held = space.map_err(|error| unreadable(&name).with_source(error))?;
                if held.is_same(claim) {
                    return Ok(());
                }
                if let Some(whose) = claim.kept_out_by(&held) {
                    return Err(refused(
                        suffix,
                        &name,
                        &whose,
                        &claim.way_in(&held, &format!("docker config rm {name}")),
                    ));
                }
                take_over(client, &config, spec(&name, suffix, claim)?).await
            }
        };
        if taken.map_err(|error| error.during(doing()))? {
            return Ok(());
        }
    }
    Err(Failure::host(format!("{}: {name} was changed {ATTEMPTS} times in between", doing())))
}

/// The claims of a Swarm.
#[derive(Debug)]
pub struct Claims {
    /// The lock space that has this host's suffix, if one has; or why that can't be said.
    pub ours: Result<Option<LockSpace>, Failure>,
    /// The other suffixes, by name.
    pub others: Vec<OtherClaim>,
}

/// A suffix that is another one's affair: no command of this host looks at its apps. What it says is untrusted, and
/// cleaned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OtherClaim {
    /// The suffix.
    pub suffix: String,
    /// The name of the host that has it, where its claim can be read.
    pub hostname: Option<String>,
}

/// Who has `suffix`, and who has others.
pub(crate) async fn held(client: &Client, suffix: &Suffix) -> Result<Claims, ApiError> {
    let name = name(suffix);
    let (mut ours, mut others) = (Ok(None), Vec::new());
    for held in all(client).await? {
        if held.name() == name {
            ours = held.space.map(Some).map_err(|error| unreadable(&name).with_source(error));
            continue;
        }
        let labelled = label(&held.config, SUFFIX_LABEL);
        others.push(OtherClaim {
            suffix: sanitize::written(labelled.unwrap_or_else(|| held.name())),
            hostname: held.space.ok().map(|space| sanitize::written(&space.hostname)),
        });
    }
    others.sort();
    Ok(Claims { ours, others })
}

impl Held {
    fn new(config: Config) -> Self {
        let space = serde_json::from_str(label(&config, LABEL).unwrap_or_default());
        Self { config, space }
    }

    fn name(&self) -> &str {
        self.config.spec.as_ref().and_then(|spec| spec.name.as_deref()).unwrap_or_default()
    }
}

fn label<'c>(config: &'c Config, label: &str) -> Option<&'c str> {
    config.spec.as_ref()?.labels.as_ref()?.get(label).map(String::as_str)
}

/// All claims of the Swarm.
async fn all(client: &Client) -> Result<Vec<Held>, ApiError> {
    // The engine takes it for the beginning of a name.
    let filters = Filters::from([("name".to_owned(), vec![PREFIX.to_owned()])]);
    let options = ListConfigsOptions { filters: Some(filters) };
    let configs = client.call(async |docker| docker.list_configs(Some(options)).await).await?;
    Ok(configs.into_iter().map(Held::new).filter(|held| held.name().starts_with(PREFIX)).collect())
}

async fn find(client: &Client, name: &str) -> Result<Option<Held>, ApiError> {
    Ok(all(client).await?.into_iter().find(|held| held.name() == name))
}

/// Whether it was made: false when somebody else was faster.
async fn create(client: &Client, spec: ConfigSpec) -> Result<bool, ApiError> {
    match client.call(async |docker| docker.create_config(spec).await).await {
        Ok(_) => Ok(true),
        Err(ApiError::Conflict { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether it was changed: false when it is not as it was seen any more.
async fn take_over(client: &Client, seen: &Config, spec: ConfigSpec) -> Result<bool, ApiError> {
    let id = seen.id.as_deref().ok_or(ApiError::Incomplete("a config without an id"))?;
    let version = seen.version.as_ref().and_then(|version| version.index);
    let version = version.ok_or(ApiError::Incomplete("a config without a version"))?;
    let version = i64::try_from(version).map_err(|_| ApiError::Incomplete("a version beyond all numbers"))?;
    // Of the rest, only the labels may differ.
    let content = seen.spec.as_ref().and_then(|spec| spec.data.clone());
    let spec = ConfigSpec { data: content, ..spec };
    let options = UpdateConfigOptions { version };
    match client.call(async |docker| docker.update_config(id, spec, options).await).await {
        Ok(()) => Ok(true),
        Err(ApiError::Gone { .. }) => Ok(false),
        Err(ApiError::Refused { message, .. }) if message.contains("update out of sequence") => Ok(false),
        Err(error) => Err(error),
    }
}

fn spec(name: &str, suffix: &Suffix, claim: &LockSpace) -> Result<ConfigSpec, Failure> {
    let text = serde_json::to_string(claim)
        .map_err(|error| Failure::host("this lock space can't be written down").with_source(error))?;
    Ok(ConfigSpec {
        name: Some(name.to_owned()),
        labels: Some(HashMap::from([
            (LABEL.to_owned(), text),
            (SUFFIX_LABEL.to_owned(), suffix.to_string()),
        ])),
        data: Some(CONTENT.to_owned()),
        templating: None,
    })
}

/// The config's name. A suffix that is too long for one is cut, and its digest tells it from others.
fn name(suffix: &Suffix) -> String {
    let room = NAME_LIMIT - PREFIX.len();
    let suffix = suffix.as_str();
    if suffix.len() <= room {
        return format!("{PREFIX}{suffix}");
    }
    let digest =
        Sha256::digest(suffix).iter().take(12).fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    // A suffix is ASCII.
    format!("{PREFIX}{}-{digest}", &suffix[..room - 1 - digest.len()])
}

fn refused(suffix: &Suffix, name: &str, whose: &str, way_in: &str) -> Failure {
    Failure::configuration(format!(
        "{suffix} on this Swarm belongs to {whose}: two lock spaces would own one domain"
    ))
    .with_hint(format!(
        "{way_in}; or use another suffix; the claim is the config {name}: if nobody uses it any more, docker config rm {name}"
    ))
}

fn unreadable(name: &str) -> Failure {
    Failure::configuration(format!("the config {name} is no lock-space claim"))
        .with_hint(format!("if no other cc-ci uses this Swarm, remove it: docker config rm {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_engine::{FakeEngine, Reply};

    #[test]
    fn a_claims_name_is_one_that_a_swarm_takes_and_no_other_suffix_has() {
        let suffix = |text: &str| text.parse::<Suffix>().unwrap();
        assert_eq!(name(&suffix("ci.example.org")), "cc-ci-lockspace-ci.example.org");
        let fits = format!("{}.example.org", "a".repeat(36));
        assert_eq!(name(&suffix(&fits)).len(), NAME_LIMIT);
        assert!(name(&suffix(&fits)).ends_with(&fits));
        let long = |last: char| format!("{}.{}.example.or{last}", "a".repeat(60), "b".repeat(60));
        let (one, other) = (name(&suffix(&long('g'))), name(&suffix(&long('x'))));
        assert_ne!(one, other);
        for name in [one, other] {
            assert_eq!(name.len(), NAME_LIMIT);
            assert!(name.ends_with(|last: char| last.is_ascii_alphanumeric()), "{name}");
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)), "{name}");
        }
    }

    #[tokio::test]
    async fn who_has_other_suffixes_is_told_and_cleaned() {
        let space = r#"{"machine_id":"m","hostname":"two\u001b[2J","boot_id":"b","directory":"1:2","path":"/run/lock"}"#;
        let config = |name: &str, labels: serde_json::Value| serde_json::json!({"Spec": {"Name": name, "Labels": labels}});
        let body = serde_json::json!([
            config(
                "cc-ci-lockspace-cut-0a1b",
                serde_json::json!({SUFFIX_LABEL: "two.example.org", LABEL: space})
            ),
            config("cc-ci-lockspace-broken", serde_json::json!({})),
            config("my-cc-ci-lockspace-x", serde_json::json!({LABEL: space})),
            config("cc-ci-lockspace-ci.example.org", serde_json::json!({LABEL: space})),
        ]);
        let fake = FakeEngine::start(move |_| Reply::Json(200, body.to_string()));
        let claims = held(&fake.engine().client, &"ci.example.org".parse().unwrap()).await.unwrap();
        assert_eq!(claims.ours.unwrap().unwrap().hostname, "two\u{1b}[2J");
        let others: Vec<(&str, Option<&str>)> =
            claims.others.iter().map(|other| (other.suffix.as_str(), other.hostname.as_deref())).collect();
        assert_eq!(others, [("cc-ci-lockspace-broken", None), ("two.example.org", Some(r"two\u{1b}[2J"))]);
    }
}
