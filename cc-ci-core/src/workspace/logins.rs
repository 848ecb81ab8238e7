//! Users and passwords of servers, from a file of the operator's: `https://user:password@host` a line, as
//! git-credential-store has it.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::model::failure::Failure;
use crate::model::secret::Secret;
use crate::sys::files::read_private;

/// So long a file of credentials may be, in bytes.
const LIMIT: u64 = 64 << 10;

/// What a line has, for whoever wrote another one.
const FORM: &str = "write a line each: https://user:password@host, or …@host/path for some repositories of it; %XX for what is no \
                    letter or digit";

/// Logins of servers, or of what lies beneath a path there.
#[derive(Clone, Default)]
pub(super) struct Logins(Vec<Login>);

/// One of them.
#[derive(Clone)]
pub(super) struct Login {
    /// Scheme, host and port, and the beginning of a path: without a slash at its end.
    pub prefix: String,
    pub user: String,
    pub password: Secret,
    /// Both as a header has them.
    pub encoded: Secret,
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|login| &login.prefix)).finish()
    }
}

impl Logins {
    /// Reads a file of logins of servers `of` a kind, which everybody else must not be able to read.
    ///
    /// # Errors
    /// When it can't be used, or a line is none. What a line says is told by its number alone.
    pub fn read(path: &Path, of: &str) -> Result<Self, Failure> {
        let text = Secret::new(read_private(path, LIMIT)?);
        let mut all = Vec::new();
        for (number, line) in text.expose().lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            all.push(Login::parse(line).ok_or_else(|| {
                let place = format!("{}:{}", path.display(), number + 1);
                Failure::configuration(format!("{place}: no credentials of a {of}")).with_hint(FORM)
            })?);
        }
        Ok(Self(all))
    }

    /// What nobody may see.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|known| [known.password.expose(), known.encoded.expose()])
    }

    /// The login at `address`: the one of the longest path.
    pub fn at(&self, address: &str) -> Option<&Login> {
        self.0.iter().filter(|known| known.is_of(address)).max_by_key(|known| known.prefix.len())
    }
}

impl Login {
    fn parse(line: &str) -> Option<Self> {
        let (scheme, rest) =
            line.split_once("://").filter(|(scheme, _)| matches!(*scheme, "https" | "http"))?;
        let (login, place) = rest.split_once('@')?;
        let (user, password) = login.split_once(':')?;
        let (user, password) = (decoded(user)?, Secret::new(decoded(password)?));
        let place = place.trim_end_matches('/');
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~/:[]%+".contains(c);
        if user.is_empty() || user.contains(':') || password.expose().is_empty() {
            return None;
        }
        if place.is_empty() || place.starts_with(['/', ':']) || !place.chars().all(is_plain) {
            return None;
        }
        let (host, path) = place.split_once('/').map_or((place, ""), |(host, path)| (host, path));
        let slash = if path.is_empty() { "" } else { "/" };
        let prefix = format!("{scheme}://{}{slash}{path}", host.to_ascii_lowercase());
        let encoded = Secret::new(STANDARD.encode(format!("{user}:{}", password.expose())));
        Some(Self { prefix, user, password, encoded })
    }

    /// Whether `address` is the place, or beneath it.
    fn is_of(&self, address: &str) -> bool {
        let Some((scheme, rest)) = address.split_once("://") else { return false };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let address = format!("{scheme}://{}/{path}", host.to_ascii_lowercase());
        address.strip_prefix(&self.prefix).is_some_and(|rest| rest.starts_with('/') || rest.is_empty())
    }
}

/// Text as an address has it.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control))
}
