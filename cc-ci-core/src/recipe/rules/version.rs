//! Releases: the version label, and the tags.

use super::finding_sink::FindingSink;
use super::layout::COMPOSE;
use super::{History, table};
use crate::names::{TagFault, Version};
use crate::recipe::compose::Compose;
use crate::recipe::issue::Issue;
use crate::sys::text::first_few;

/// How many tags one finding names.
const NAMED: usize = 5;

pub(super) fn label(compose: &Compose, is_release: Option<&Version>) -> Vec<Issue> {
    let labels = compose.labels();
    let (Some(version), Some(service)) = (&labels.version, &labels.version_on) else {
        let what = "no service says the recipe's version".to_owned();
        return vec![Issue::at(&table::VERSION_LABEL_MISSING, &["services", "app"], what)];
    };
    let issue = |rule, what| {
        let issue = Issue::at(rule, &["services", service, "deploy", "labels"], what);
        let stack = &compose.stack;
        issue
            .marked(format!("coop-cloud.{stack}.version"))
            .marked(format!("coop-cloud.{stack}.{service}.version"))
    };
    let mut found = Vec::new();
    if service != "app" {
        let what = format!("the version label is on {service}, not on app");
        found.push(issue(&table::VERSION_LABEL_MISPLACED, what));
    }
    if version.parse::<Version>().is_err() {
        let what = match version.as_str() {
            "" => "the version label is empty".to_owned(),
            version => format!("the version label says {version}, which is no release's name"),
        };
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
    for fault in TagFault::ALL {
        let tags: Vec<&str> =
            history.unfit.iter().filter(|tag| tag.fault == fault).map(|tag| tag.name.as_str()).collect();
        if tags.is_empty() {
            continue;
        }
        let rule = match fault {
            TagFault::Lightweight => &table::RELEASE_TAG_LIGHTWEIGHT,
            TagFault::NoCommit => &table::RELEASE_TAG_NO_COMMIT,
            TagFault::Misnamed => &table::RELEASE_TAG_MISNAMED,
        };
        sink.write(rule, COMPOSE, None, &fault.of(&first_few(tags.into_iter(), NAMED)));
    }
}
