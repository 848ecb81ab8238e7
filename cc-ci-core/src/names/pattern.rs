//! Which domains belong to runs, and which never do.

use std::collections::BTreeSet;

use super::{Domain, Suffix};

/// What an app is to cc-ci. Only a [`AppKind::Run`] app is ever reaped (I5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppKind {
    /// A throw-away app of a run.
    Run,
    /// A warm, canonical or protected app: its name wins over the pattern.
    Protected,
    /// Somebody else's.
    Foreign,
}

/// `^[a-z0-9]{1,4}-[0-9a-f]{6}\.<suffix>$`, less the names that are protected.
#[derive(Debug, Clone)]
pub struct RunAppPattern {
    suffix: Suffix,
    protected: BTreeSet<Domain>,
}

impl RunAppPattern {
    /// The pattern of one suffix; `protected` holds warm, canonical and protected domains.
    pub fn new(suffix: Suffix, protected: impl IntoIterator<Item = Domain>) -> Self {
        Self { suffix, protected: protected.into_iter().collect() }
    }

    /// The suffix that the run apps of this host share.
    pub fn suffix(&self) -> &Suffix {
        &self.suffix
    }

    /// What `domain` is.
    pub fn classify(&self, domain: &Domain) -> AppKind {
        if self.protected.contains(domain) {
            return AppKind::Protected;
        }
        let matches = domain
            .as_str()
            .strip_suffix(self.suffix.as_str())
            .and_then(|rest| rest.strip_suffix('.'))
            .and_then(|label| label.split_once('-'))
            .is_some_and(|(prefix, hex)| {
                (1..=4).contains(&prefix.len())
                    && prefix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
                    && hex.len() == 6
                    && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
            });
        if matches { AppKind::Run } else { AppKind::Foreign }
    }

    /// Whether `domain` is a run app.
    pub fn is_run_app(&self, domain: &Domain) -> bool {
        self.classify(domain) == AppKind::Run
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_throw_away_names_are_run_apps() {
        let domain = |name: &str| name.parse::<Domain>().unwrap();
        let pattern =
            RunAppPattern::new("ci.example.org".parse().unwrap(), [domain("blog-facade.ci.example.org")]);
        assert_eq!(pattern.classify(&domain("immi-ad3e33.ci.example.org")), AppKind::Run);
        assert_eq!(pattern.classify(&domain("blog-facade.ci.example.org")), AppKind::Protected);
        for foreign in [
            "immich.ci.example.org",
            "immi-ad3e3.ci.example.org",
            "immi-ad3e333.ci.example.org",
            "immic-ad3e33.ci.example.org",
            "immi-ad3e3g.ci.example.org",
            "immi-ad3e33.example.org",
            "immi-ad3e33.xci.example.org",
            "www.immi-ad3e33.ci.example.org",
            "immi-ad3e33.ci.example.org.uk",
        ] {
            assert_eq!(pattern.classify(&domain(foreign)), AppKind::Foreign, "{foreign}");
        }
    }
}
