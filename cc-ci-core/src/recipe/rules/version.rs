//! Releases: the version label, and the tags.

use super::finding_sink::FindingSink;
use super::layout::COMPOSE;
use super::{History, table};
use crate::names::Version;
use crate::recipe::compose::Compose;
use crate::recipe::issue::Issue;

/// How many tags one finding names.
const NAMED: usize = 5;

pub(super) fn label(compose: &Compose, is_release: Option<&Version>) -> Vec<Issue> {
    let labels = compose.labels();
    let (Some(version), Some(service)) = (&labels.version, &labels.version_on) else {
        let what = "no service says the recipe's version".to_owned();
        return vec![Issue::at(&table::VERSION_LABEL_MISSING, &["services", "app"], what)];
    };
    let issue =
        |rule, what| Issue::at(rule, &["services", service, "deploy", "labels"], what).marked(".version");
    let mut found = Vec::new();
    if service != "app" {
        let what = format!("the version label is on {service}, not on app");
        found.push(issue(&table::VERSION_LABEL_MISPLACED, what));
    }
    if version.parse::<Version>().is_err() {
        let what = format!("the version label says {version}, which is no release's name");
        found.push(issue(&table::VERSION_LABEL_NO_RELEASE, what));
    }
    if let Some(release) = is_release.filter(|release| release.to_string() != *version) {
        let what = format!("this is the release {release}, and the version label says {version}");
        found.push(issue(&table::VERSION_LABEL_NOT_THE_TAG, what));
    }
    found
}

/// Tags have no place in a file: they are told at the one whose label repeats them.
pub(super) fn tags(history: &History, sink: &mut FindingSink<'_>) {
    let tags = &history.lightweight;
    if tags.is_empty() {
        return;
    }
    let mut named: Vec<String> = tags.iter().take(NAMED).map(ToString::to_string).collect();
    if tags.len() > NAMED {
        named.push(format!("and {} more", tags.len() - NAMED));
    }
    let what = format!("not annotated, so no release: {}", named.join(", "));
    sink.write(&table::RELEASE_TAG_LIGHTWEIGHT, COMPOSE, None, &what);
}
