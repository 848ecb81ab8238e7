//! The configuration file as text: where in it each key stands.

use std::path::{Path, PathBuf};

use cc_ci_core::Failure;
use toml::de::{DeTable, DeValue};

/// A configuration file that was read; an empty one where there is none.
#[derive(Debug, Clone, Default)]
pub struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    pub fn new(path: &Path, text: String) -> Self {
        Self { path: path.to_owned(), text }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The file and line of the key, `None` where it is not in the file. The name of a recipe or a node may have dots in it.
    pub fn place(&self, key: &str) -> Option<String> {
        let named = key.split_once('.').filter(|(table, _)| matches!(*table, "recipes" | "nodes"));
        let parts: Vec<&str> = match named {
            Some((table, rest)) => [table]
                .into_iter()
                .chain(rest.rsplit_once('.').map_or_else(|| vec![rest], |(name, key)| vec![name, key]))
                .collect(),
            None => key.split('.').collect(),
        };
        let file = DeTable::parse(&self.text).ok()?;
        let (mut table, mut at) = (file.get_ref(), None);
        for (index, part) in parts.iter().enumerate() {
            let (name, value) = table.iter().find(|(name, _)| name.get_ref() == part)?;
            at = Some(name.span().start);
            table = match value.get_ref() {
                DeValue::Table(inner) => inner,
                _ if index + 1 == parts.len() => break,
                _ => return None,
            };
        }
        at.map(|at| self.line_at(at))
    }

    /// The file and the line of a byte of it.
    pub fn line_at(&self, at: usize) -> String {
        let line = self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
        format!("{}:{line}", self.path.display())
    }

    /// The value of `key` is no absolute path.
    pub fn relative(&self, key: &str, path: &Path) -> Failure {
        self.wrong(key, format!("it is no absolute path: {}", path.display()))
            .with_hint("it would be another one in each directory that cc-ci is called in: begin it with /")
    }

    /// What is wrong with the value of `key`.
    pub fn wrong(&self, key: &str, what: impl std::fmt::Display) -> Failure {
        let place = self.place(key).unwrap_or_else(|| self.path.display().to_string());
        Failure::configuration(format!("{place}: {key}: {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_in_a_line_of_the_file() {
        let text = "# one\nsuffix = \"x\"\nproxy.address = \"none\"\n[local]\nroot = \"/x\"\n\n[recipes.\"a.b\"]\nallow = [\n]\n[nodes.\"c.d\"]\nengine = 1\n";
        let source = Source::new(Path::new("/c.toml"), text.to_owned());
        for (key, line) in [
            ("suffix", 2),
            ("proxy.address", 3),
            ("local.root", 5),
            ("recipes.a.b.allow", 8),
            ("nodes.c.d.engine", 11),
        ] {
            assert_eq!(source.place(key), Some(format!("/c.toml:{line}")), "{key}");
        }
        for none in ["lock_dir", "local.roots", "suffix.x", "recipes.a.c.allow"] {
            assert_eq!(source.place(none), None, "{none}");
        }
        assert_eq!(source.wrong("local.root", "no").to_string(), "/c.toml:5: local.root: no");
        assert_eq!(source.wrong("lock_dir", "no").to_string(), "/c.toml: lock_dir: no");
    }
}
