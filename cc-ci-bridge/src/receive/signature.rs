//! Whether the forge signed a delivery.

use axum::http::HeaderMap;
use cc_ci_core::Secret;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::one;

/// Headers with a signature: bare hexadecimal digits, or with `sha256=` before them.
const HEADERS: [(&str, &str); 3] =
    [("x-forgejo-signature", ""), ("x-gitea-signature", ""), ("x-hub-signature-256", "sha256=")];

/// Returns the signature that the headers claim. A header without digits is what a forge without a secret sends.
pub fn claimed(headers: &HeaderMap) -> Option<[u8; 32]> {
    let (name, prefix) = HEADERS.iter().find(|(name, _)| headers.contains_key(*name))?;
    let text = one(headers, name)?;
    let digits = text.strip_prefix(prefix)?.as_bytes();
    let half = |digit: u8| char::from(digit).to_digit(16).and_then(|half| u8::try_from(half).ok());
    let mut bytes = [0; 32];
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = half(pair[0])? << 4 | half(pair[1])?;
    }
    Some(bytes)
}

/// Whether it is that of the body, as it came. The comparison takes the same time wherever they differ.
pub fn matches(secret: &Secret, claimed: &[u8; 32], body: &[u8]) -> bool {
    // A key of any length is a key.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()) else { return false };
    mac.update(body);
    mac.verify_slice(claimed).is_ok()
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    fn recorded() -> Vec<(HeaderMap, String)> {
        let all: Vec<serde_json::Value> =
            serde_json::from_str(include_str!("../../recorded/hooks.json")).unwrap();
        let read = |delivery: serde_json::Value| {
            let mut headers = HeaderMap::new();
            for (name, value) in delivery["headers"].as_object().unwrap() {
                let name: HeaderName = name.parse().unwrap();
                headers.insert(name, HeaderValue::from_str(value.as_str().unwrap()).unwrap());
            }
            (headers, delivery["body"].as_str().unwrap().to_owned())
        };
        all.into_iter().map(read).collect()
    }

    #[test]
    fn what_a_forge_signed_is_known_by_each_of_its_headers() {
        let secret = Secret::new("s3cret-of-the-hook".to_owned());
        for (headers, body) in recorded() {
            for (name, _) in HEADERS {
                let mut only = HeaderMap::new();
                only.insert(name, headers[name].clone());
                let claimed = claimed(&only).unwrap();
                assert!(matches(&secret, &claimed, body.as_bytes()));
                assert!(!matches(&Secret::new("another".to_owned()), &claimed, body.as_bytes()));
                assert!(!matches(&secret, &claimed, format!("{body} ").as_bytes()));
            }
        }
    }

    #[test]
    fn no_signature_half_of_one_and_two_of_them_are_none() {
        let with = |values: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in values {
                headers.append(*name, HeaderValue::from_str(value).unwrap());
            }
            claimed(&headers)
        };
        let good = "ab".repeat(32);
        assert!(with(&[("x-gitea-signature", &good)]).is_some());
        assert_eq!(with(&[]), None);
        assert_eq!(with(&[("x-gitea-signature", "")]), None);
        assert_eq!(with(&[("x-gitea-signature", &good[2..])]), None);
        assert_eq!(with(&[("x-gitea-signature", &format!("{good}00"))]), None);
        assert_eq!(with(&[("x-gitea-signature", &"zz".repeat(32))]), None);
        assert_eq!(with(&[("x-gitea-signature", &good), ("x-gitea-signature", &good)]), None);
        assert_eq!(with(&[("x-hub-signature-256", &good)]), None);
        // The first that is there counts: another one does not stand in for it.
        assert_eq!(with(&[("x-forgejo-signature", ""), ("x-gitea-signature", &good)]), None);
    }
}
