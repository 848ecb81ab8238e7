//! Values for secrets that a recipe lets us make.

use std::io;

use rand::rngs::{StdRng, SysRng};
use rand::{RngExt as _, SeedableRng as _};

use super::SecretSpec;
use crate::model::secret::Secret;

/// The length of a secret whose recipe states none.
const LENGTH: u32 = 32;

impl SecretSpec {
    /// A new value, of the length and the charset that the recipe asks for: each character is as likely as the others.
    /// A charset that is not known gives letters and digits.
    pub fn random_value(&self) -> io::Result<Secret> {
        let charset: &[u8] = match self.charset.as_deref() {
            Some("hex") => b"0123456789abcdef",
            _ => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
        };
        let mut random = StdRng::try_from_rng(&mut SysRng).map_err(io::Error::other)?;
        let length = self.length.unwrap_or(LENGTH) as usize;
        // At once: what a text leaves behind when it grows is wiped by nobody.
        let mut value = String::with_capacity(length);
        value.extend((0..length).map(|_| char::from(charset[random.random_range(0..charset.len())])));
        Ok(Secret::new(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_the_length_and_the_characters_that_are_asked_for() {
        let of = |length, charset: Option<&str>| {
            let spec = SecretSpec {
                name: "key".into(),
                version: "v1".into(),
                length,
                charset: charset.map(Into::into),
                generate: true,
            };
            spec.random_value().unwrap().expose().to_owned()
        };
        let hex = of(Some(64), Some("hex"));
        assert!(
            hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)),
            "{hex}"
        );
        for charset in [None, Some("alnum"), Some("special,with,none")] {
            let value = of(None, charset);
            assert!(value.len() == 32 && value.bytes().all(|b| b.is_ascii_alphanumeric()), "{value}");
        }
        assert_ne!(of(None, None), of(None, None));
    }
}
