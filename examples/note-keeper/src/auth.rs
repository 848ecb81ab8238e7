//! Keys that guard changes, compared in constant time.

use std::fs;
use std::io;
use std::path::Path;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

/// A secret; not printable on purpose.
pub(crate) struct Key(Vec<u8>);

impl Key {
    /// Reads a key from a secret's file; white space around it doesn't count.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let content = fs::read(path)?;
        let key = content.trim_ascii();
        if key.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the key is empty"));
        }
        Ok(Self(key.to_vec()))
    }

    /// Whether the request carries `Authorization: Bearer <this key>`.
    pub(crate) fn opens(&self, headers: &HeaderMap) -> bool {
        let offered = headers.get(AUTHORIZATION).map(axum::http::HeaderValue::as_bytes);
        let Some((scheme, key)) = offered.and_then(|value| value.split_at_checked("Bearer ".len())) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"Bearer ") && self.equals(key.trim_ascii())
    }

    /// Takes as long for a wrong key as for the right one; only its length may show.
    fn equals(&self, offered: &[u8]) -> bool {
        let mut difference = u8::from(self.0.len() != offered.len());
        for (i, byte) in self.0.iter().enumerate() {
            difference |= byte ^ offered.get(i).copied().unwrap_or_default();
        }
        std::hint::black_box(difference) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opens(header: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert(AUTHORIZATION, value.parse().unwrap());
        }
        Key(b"abc1".to_vec()).opens(&headers)
    }

    #[test]
    fn only_the_whole_key_opens() {
        assert!(opens(Some("Bearer abc1")));
        assert!(opens(Some("bearer abc1")));
        for wrong in ["Bearer", "Bearer ", "Bearer abc", "Bearer abc2", "Bearer abc12", "Basic abc1", "abc1"]
        {
            assert!(!opens(Some(wrong)), "{wrong}");
        }
        assert!(!opens(None));
    }

    #[test]
    fn an_empty_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, " \n").unwrap();
        assert!(Key::read(&path).is_err());
    }
}
