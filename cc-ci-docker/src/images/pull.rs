//! One image, pulled.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use cc_ci_core::engine::Redactor;
use cc_ci_core::recipe::{ImageReference, ImageVersion};
use cc_ci_core::run::Blame;
use cc_ci_core::workspace::RegistryCredentials;
use cc_ci_core::{Failure, Fault};
use futures_util::TryStreamExt as _;

use crate::client::{ApiError, Client};
use crate::sanitize;

/// How far the pulls have come, in bytes; for people.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<HashMap<String, (i64, i64)>>);

impl Progress {
    fn take(&self, info: &CreateImageInfo) {
        let (Some(layer), Some(detail)) = (&info.id, &info.progress_detail) else { return };
        // Unpacking counts the same bytes once more.
        if let (Some("Downloading"), Some(current), Some(total)) =
            (info.status.as_deref(), detail.current, detail.total)
        {
            let mut layers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            layers.insert(layer.clone(), (current, total));
        } else if info.status.as_deref() == Some("Download complete") {
            let mut layers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((current, total)) = layers.get_mut(layer) {
                *current = *total;
            }
        }
    }

    /// Megabytes that have come, and that are known to come in all.
    pub(super) fn megabytes(&self) -> (i64, i64) {
        let layers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |of: fn(&(i64, i64)) -> i64| layers.values().map(of).fold(0, i64::saturating_add);
        (sum(|(current, _)| *current) / 1_000_000, sum(|(_, total)| *total) / 1_000_000)
    }
}

/// Its id, if the engine has it. Asks no registry.
pub(super) async fn id_of(client: &Client, image: &ImageReference) -> Result<Option<String>, ApiError> {
    let name = image.to_string();
    match client.call(async |docker| docker.inspect_image(&name).await).await {
        Ok(found) => found.id.map(Some).ok_or(ApiError::Incomplete("an image without an id")),
        Err(ApiError::Gone { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Pulls it, with what of the `credentials` is its registry's, and gives its id; a registry that sends nothing for `silence` is given up on. Dropping it ends the pull.
pub(super) async fn pull(
    client: &Client,
    image: &ImageReference,
    credentials: &RegistryCredentials,
    silence: Duration,
    progress: &Progress,
) -> Result<String, Failure> {
    let docker = client.docker().await.map_err(|error| trouble(image, &error))?;
    // Its own limit is for the first word of an answer, which may be the registry's.
    let docker = docker.clone().with_timeout(silence + Duration::from_secs(1));
    let options =
        CreateImageOptionsBuilder::new().from_image(&image.repository()).tag(image.version.as_str()).build();
    let login = credentials.of(&image.registry, &image.name);
    let has_login = login.is_some();
    let credentials = login.map(|(user, password)| DockerCredentials {
        username: Some(user.to_owned()),
        password: Some(password.expose().to_owned()),
        serveraddress: Some(image.registry.clone()),
        ..DockerCredentials::default()
    });
    let mut words = std::pin::pin!(docker.create_image(Some(options), None, credentials));
    loop {
        match tokio::time::timeout(silence, words.try_next()).await {
            Ok(Ok(Some(info))) => progress.take(&info),
            Ok(Ok(None)) => break,
            Ok(Err(error)) => return Err(explain(client, image, has_login, error)),
            Err(_) => {
                let registry = &image.registry;
                return Err(Failure::host(format!("{registry} sent nothing of {image} for {silence:?}")));
            }
        }
    }
    // A stream that just ends has said nothing of success.
    match id_of(client, image).await {
        Ok(Some(id)) => Ok(id),
        Ok(None) => Err(Failure::host(format!("the pull of {image} ended without an image"))),
        Err(error) => Err(trouble(image, &error)),
    }
}

fn trouble(image: &ImageReference, error: &ApiError) -> Failure {
    Failure::host(format!("can't pull {image}: {}", cc_ci_core::error_chain(error)))
}

/// Whether what a pull failed of is that the image is for other machines only.
pub(super) fn is_for_other_machines(failure: &Failure) -> bool {
    failure.blame() == Some(Blame::UpstreamImage)
}

/// The engine passes a registry's refusal on as text, with the status 500 or 404, or in the middle of the stream.
fn explain(client: &Client, image: &ImageReference, has_login: bool, error: Error) -> Failure {
    match error {
        Error::DockerStreamError { error } => refusal(client.redactor(), image, has_login, &error),
        Error::DockerResponseServerError { message, .. } => {
            refusal(client.redactor(), image, has_login, &message)
        }
        error => trouble(image, &client.explain(error)),
    }
}

fn refusal(redactor: &Redactor, image: &ImageReference, has_login: bool, text: &str) -> Failure {
    let (registry, name) = (&image.registry, &image.name);
    let version = match &image.version {
        ImageVersion::Tag(tag) => format!("the tag {tag}"),
        ImageVersion::Digest(digest) => format!("the digest {digest}"),
    };
    let lower = text.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let (fault, blame, what, hint) = if says(&["toomanyrequests", "too many requests", "rate limit"]) {
        let hint = "wait, or let the engine use a mirror (registry-mirrors in /etc/docker/daemon.json)";
        (
            Fault::Host,
            Some(Blame::Registry),
            format!("{registry} lets this host pull no more for now"),
            Some(hint.to_owned()),
        )
    } else if says(&["no matching manifest"]) {
        (
            Fault::Recipe,
            Some(Blame::UpstreamImage),
            format!("{registry} has {name} with {version}, but not for this machine"),
            None,
        )
    } else if says(&["manifest unknown", "manifest_unknown", "name unknown", "name_unknown", "not found"]) {
        (Fault::Recipe, Some(Blame::Recipe), format!("{registry} has no {name} with {version}"), None)
    } else if says(&["denied", "unauthorized", "authentication required", "no basic auth credentials"]) {
        let (whom, hint) = if has_login {
            (
                format!("the user that [registry] credentials_file has for {registry}"),
                "may that user read it? is the token still good?",
            )
        } else {
            (
                "everybody".to_owned(),
                "if it is private: say with what to sign in, in [registry] credentials_file",
            )
        };
        let what = format!("{registry} has no {name} for {whom}");
        (Fault::Recipe, Some(Blame::Recipe), what, Some(hint.to_owned()))
    } else {
        (Fault::Host, None, format!("can't pull {name} with {version} from {registry}"), None)
    };
    let failure = Failure::new(fault, format!("{what} ({})", sanitize::message(redactor, text)));
    failure.with_any_hint(hint).with_any_blame(blame)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Engine 20.10 passed them on; those of later engines as they are documented.
    #[test]
    fn a_refusal_is_told_as_what_it_is() {
        let image: ImageReference = "ghcr.io/a/x:1".parse().unwrap();
        for (text, fault, says) in [
            ("manifest unknown", Fault::Recipe, "ghcr.io has no a/x with the tag 1 (manifest unknown)"),
            (
                "manifest for ghcr.io/a/x:1 not found: manifest unknown: manifest unknown",
                Fault::Recipe,
                "ghcr.io has no a/x with the tag 1 (",
            ),
            ("name unknown", Fault::Recipe, "ghcr.io has no a/x with the tag 1 ("),
            ("denied", Fault::Recipe, "ghcr.io has no a/x for everybody (denied)"),
            ("unauthorized", Fault::Recipe, "ghcr.io has no a/x for everybody ("),
            (
                "pull access denied for x, repository does not exist or may require 'docker login': denied: \
                 requested access to the resource is denied",
                Fault::Recipe,
                "ghcr.io has no a/x for everybody (pull access denied",
            ),
            (
                "no matching manifest for linux/arm64/v8 in the manifest list entries",
                Fault::Recipe,
                "ghcr.io has a/x with the tag 1, but not for this machine (",
            ),
            (
                "toomanyrequests: You have reached your pull rate limit.",
                Fault::Host,
                "ghcr.io lets this host pull no more for now (toomanyrequests:",
            ),
            (
                "received unexpected HTTP status: 500 Internal Server Error",
                Fault::Host,
                "can't pull a/x with the tag 1 from ghcr.io (received unexpected HTTP status: 500",
            ),
            (
                "Get \"http://127.0.0.1:5998/v2/\": dial tcp 127.0.0.1:5998: connect: connection refused",
                Fault::Host,
                "can't pull a/x with the tag 1 from ghcr.io (Get ",
            ),
            (
                "failed to register layer: write /x: no space left on device",
                Fault::Host,
                "can't pull a/x with the tag 1 from ghcr.io (failed to register layer",
            ),
        ] {
            let failure = refusal(&Redactor::default(), &image, false, text);
            assert_eq!(failure.fault(), fault, "{text}");
            assert!(failure.to_string().starts_with(says), "{failure}");
        }
    }

    #[test]
    fn bytes_are_counted_once() {
        let progress = Progress::default();
        let info = |layer: &str, status: &str, current, total| CreateImageInfo {
            id: Some(layer.to_owned()),
            status: Some(status.to_owned()),
            progress_detail: Some(bollard::models::ProgressDetail { current, total }),
            error_detail: None,
        };
        progress.take(&info("a", "Downloading", Some(1_000_000), Some(4_000_000)));
        progress.take(&info("a", "Downloading", Some(3_000_000), Some(4_000_000)));
        progress.take(&info("b", "Downloading", Some(1_000_000), Some(2_000_000)));
        assert_eq!(progress.megabytes(), (4, 6));
        progress.take(&info("a", "Download complete", None, None));
        progress.take(&info("a", "Extracting", Some(1_000_000), Some(4_000_000)));
        assert_eq!(progress.megabytes(), (5, 6));
        progress.take(&info("c", "Downloading", Some(i64::MAX), Some(i64::MAX)));
        assert_eq!(progress.megabytes().1, i64::MAX / 1_000_000);
    }
}
