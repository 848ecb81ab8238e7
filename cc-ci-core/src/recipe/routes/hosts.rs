//! The hosts that an app may take requests of: its own, and those that are nobody else's.

use std::collections::BTreeSet;

use super::super::env_file::EnvFile;
use super::super::issue::Policy;
use crate::names::Domain;

/// Names under which nobody serves anything (RFC 2606): what samples stand in for a real one with.
const RESERVED: [&str; 5] = ["example.com", "example.net", "example.org", "example", "invalid"];

/// The hosts that a router of the app may take.
pub(super) struct OwnHosts {
    pub domain: String,
    /// Those that the operator chose, or that are nobody's.
    pub chosen: BTreeSet<String>,
}

impl OwnHosts {
    pub fn of(env: &EnvFile, policy: &Policy<'_>) -> Self {
        let mut chosen: BTreeSet<String> = named(env).filter(|host| is_reserved(host)).collect();
        chosen.extend(policy.operators.into_iter().flat_map(named));
        Self { domain: policy.domain.to_string(), chosen }
    }

    /// Nothing but `domain` and what is below it.
    pub fn only(domain: &Domain) -> Self {
        Self { domain: domain.to_string(), chosen: BTreeSet::new() }
    }

    pub fn has(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        is_below(&host, &self.domain) || self.chosen.contains(&host)
    }

    /// Whether a pattern ends with the domain, and has no other end.
    pub fn has_pattern(&self, pattern: &str) -> bool {
        // Which of the brackets count is too much to ask where some are escaped or in a class.
        if pattern.contains('|') && pattern.contains(['\\', '[', '{']) {
            return false;
        }
        let mut depth = 0_usize;
        for c in pattern.chars() {
            match c {
                '(' | '{' => depth += 1,
                ')' | '}' => depth = depth.saturating_sub(1),
                '|' if depth == 0 => return false,
                _ => {}
            }
        }
        let plain = pattern.trim_end_matches('$').replace('\\', "").to_ascii_lowercase();
        is_below(plain.trim_start_matches('^'), &self.domain)
    }
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn is_reserved(host: &str) -> bool {
    RESERVED.iter().any(|reserved| is_below(host, reserved))
}

/// Whatever in an `.env` looks like a host.
fn named(env: &EnvFile) -> impl Iterator<Item = String> {
    let part = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    let words = env.vars().values().flat_map(move |value| value.split(part));
    words.filter(|word| word.contains('.')).map(|word| word.trim_end_matches('.').to_ascii_lowercase())
}
