//! The name of an image, as a recipe writes it.
//!
//! It comes from a pull request and becomes part of a request's path, so it is taken apart by the rules of the
//! engine's own grammar, and what they don't allow never gets that far.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::sys::text::{cut, sanitize_line};

/// The registry of names that name none.
const DEFAULT_REGISTRY: &str = "docker.io";

/// As the engine has it.
const MAX_NAME: usize = 255;

/// So much of what is none is shown, in bytes.
const SHOWN: usize = 200;

/// One image: registry, name, and the tag or digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageReference {
    /// A host's name or address, with a port where one is said; `docker.io` where none is.
    pub registry: String,
    /// In the registry; a name alone is one of `library/`.
    pub name: String,
    /// A digest, else a tag, else `latest`.
    pub version: ImageVersion,
}

/// Which of the images of a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ImageVersion {
    /// The one that a tag names today.
    Tag(String),
    /// The one with this digest, whatever a tag says.
    Digest(String),
}

/// What a recipe gives as an image is none.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is no image: {rule}")]
pub struct InvalidImageReference {
    text: String,
    rule: &'static str,
}

impl ImageReference {
    /// The name with its registry, as the engine takes it.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.registry, self.name)
    }
}

impl ImageVersion {
    /// What the API calls a tag.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Tag(text) | Self::Digest(text) => text,
        }
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = match self.version {
            ImageVersion::Tag(_) => ':',
            ImageVersion::Digest(_) => '@',
        };
        write!(f, "{}/{}{separator}{}", self.registry, self.name, self.version.as_str())
    }
}

impl FromStr for ImageReference {
    type Err = InvalidImageReference;

    fn from_str(text: &str) -> Result<Self, InvalidImageReference> {
        let invalid = |rule| {
            let text = cut(&sanitize_line(text), SHOWN);
            InvalidImageReference { text, rule }
        };
        if text.len() == 64 && text.bytes().all(is_hex) {
            return Err(invalid(
                "a name of 64 hex digits is an image's id, which another engine does not know",
            ));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        // A colon before the last slash is a port's.
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        let (registry, name) = match path.split_once('/') {
            Some((first, name)) if names_a_host(first) => (first.to_owned(), name.to_owned()),
            Some(_) => (DEFAULT_REGISTRY.to_owned(), path.to_owned()),
            None => (DEFAULT_REGISTRY.to_owned(), format!("library/{path}")),
        };
        if !is_registry(&registry) {
            return Err(invalid("a registry is a host's name, with or without a port"));
        }
        if registry.len() + name.len() >= MAX_NAME || !name.split('/').all(is_component) {
            return Err(invalid(
                "a name has components of [a-z0-9], joined inside by ., _, __ or dashes, 255 characters at most",
            ));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid("a tag is 1 to 128 of [A-Za-z0-9_.-], first a letter, a digit or _"));
        }
        let version = match digest {
            Some(digest) if is_digest(digest) => ImageVersion::Digest(digest.to_owned()),
            Some(_) => {
                return Err(invalid(
                    "a digest is sha256: and 64 hex digits, sha384: and 96, or sha512: and 128",
                ));
            }
            None => ImageVersion::Tag(tag.unwrap_or("latest").to_owned()),
        };
        Ok(Self { registry, name, version })
    }
}

/// Whether what stands before the first slash is a registry, and no component of a name.
fn names_a_host(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.chars().any(|c| c.is_ascii_uppercase())
}

/// A host's name or address, with or without a port.
fn is_registry(text: &str) -> bool {
    // The colons of an IPv6 address are in its brackets.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    address.map_or_else(|| host.split('.').all(label), |address| address.parse::<Ipv6Addr>().is_ok())
        && port.is_none_or(|port| {
            port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
}

/// Letters and digits, joined by one dot, one or two underscores, or dashes.
fn is_component(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let joint =
        |joint: &str| matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|byte| byte == b'-');
    text.starts_with(plain) && text.ends_with(plain) && text.split(plain).all(joint)
}

fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= 128 && text.starts_with(word) && text.chars().all(|c| word(c) || matches!(c, '.' | '-'))
}

fn is_digest(text: &str) -> bool {
    let Some((algorithm, digits)) = text.split_once(':') else { return false };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    digits.len() == length && digits.bytes().all(is_hex)
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(text: &str) -> String {
        text.parse::<ImageReference>().unwrap().to_string()
    }

    #[test]
    fn what_is_left_out_is_what_the_engine_puts_there() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, expected) in [
            ("nginx", "docker.io/library/nginx:latest".to_owned()),
            ("nginx:1.27-alpine", "docker.io/library/nginx:1.27-alpine".to_owned()),
            ("matrixdotorg/synapse:v1.2", "docker.io/matrixdotorg/synapse:v1.2".to_owned()),
            ("docker.io/library/nginx", "docker.io/library/nginx:latest".to_owned()),
            ("ghcr.io/a/b/c__d--e.f_1:_x", "ghcr.io/a/b/c__d--e.f_1:_x".to_owned()),
            ("localhost/x", "localhost/x:latest".to_owned()),
            ("localhost:5000", "docker.io/library/localhost:5000".to_owned()),
            ("127.0.0.1:5000/x/y:1", "127.0.0.1:5000/x/y:1".to_owned()),
            ("Registry.example.org:443/x", "Registry.example.org:443/x:latest".to_owned()),
            ("X/y", "X/y:latest".to_owned()),
            ("[::1]:5000/x", "[::1]:5000/x:latest".to_owned()),
            (&format!("x/y@{digest}"), format!("docker.io/x/y@{digest}")),
            // The engine pulls what the digest says, whatever the tag says.
            (&format!("x/y:1@{digest}"), format!("docker.io/x/y@{digest}")),
        ] {
            assert_eq!(full(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_image_never_becomes_part_of_a_path() {
        let long = "x".repeat(256);
        let digest = "0".repeat(63);
        for text in [
            "",
            " ",
            "/",
            "x/",
            "/x",
            "x//y",
            ".",
            "..",
            "../x",
            "x/../y",
            "x/./y",
            "X",
            "x/Y",
            "x?y",
            "x#y",
            "x%2fy",
            "x y",
            "x\n",
            "x\0",
            "-x",
            "x-",
            "_x",
            "x.",
            "x._y",
            "x___y",
            "x..y",
            "é",
            "x:",
            "x:-1",
            "x:a/b",
            "x:é",
            "x:a:b",
            "https://x/y",
            "user@host/x",
            "ghcr.io/",
            "ghcr..io/x",
            "-a.b/x",
            "a.b:/x",
            "a.b:0/x",
            "a.b:65536/x",
            "a.b:+1/x",
            "[::1/x",
            "[::1]:0/x",
            "[a.b]/x",
            "x@",
            "x@sha256:",
            "x@sha1:00",
            &long,
            &format!("x:{long}"),
            &format!("x@sha256:{digest}"),
            &format!("x@sha256:{digest}G"),
            &format!("x@sha256:{digest}A"),
            &format!("{digest}0"),
        ] {
            let error = text.parse::<ImageReference>().unwrap_err();
            assert!(error.to_string().contains("is no image: a"), "{error}");
        }
    }
}
