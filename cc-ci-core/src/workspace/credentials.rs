//! With what git signs in, from a file of the operator's.
//!
//! git is given it as a header of one address, in its environment, which only its own user and root can read; never as an
//! argument, which everybody can. It follows no redirection with it: git would send the header on, to whatever host it is led to.

use std::ffi::OsString;
use std::path::Path;

use super::logins::Logins;
use crate::model::failure::Failure;

/// Users and passwords of git servers; none by default.
#[derive(Debug, Clone, Default)]
pub struct GitCredentials(Logins);

impl GitCredentials {
    /// Reads a file of credentials, `https://user:password@host` a line, which everybody else must not be able to read.
    ///
    /// # Errors
    /// When it can't be used, or a line is none. What a line says is told by its number alone.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        Logins::read(path, "git server").map(Self)
    }

    /// What nobody may see.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.0.secrets()
    }

    /// `text` without them.
    pub(super) fn hide(&self, text: &str) -> String {
        self.secrets().fold(text.to_owned(), |text, secret| text.replace(secret, "[secret]"))
    }

    /// The variables with which git signs in at `address`; none where there is nothing for it.
    pub(super) fn environment(&self, address: &str) -> Vec<(OsString, OsString)> {
        let Some(known) = self.0.at(address) else { return Vec::new() };
        let header = format!("Authorization: Basic {}", known.encoded.expose());
        [
            ("GIT_CONFIG_COUNT", "2".to_owned()),
            ("GIT_CONFIG_KEY_0", format!("http.{}.extraHeader", known.prefix)),
            ("GIT_CONFIG_VALUE_0", header),
            ("GIT_CONFIG_KEY_1", "http.followRedirects".to_owned()),
            ("GIT_CONFIG_VALUE_1", "false".to_owned()),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .into()
    }
}

/// Returns `text` with neither user, password nor query in any address.
pub fn redact(text: &str) -> String {
    let mut redacted = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        redacted.push_str(before);
        let end = after.find(|c: char| c == '/' || c.is_whitespace()).unwrap_or(after.len());
        // The last one: a password may hold an @ itself.
        let host = after[..end].rfind('@').map_or(0, |at| at + 1);
        rest = &after[host..];
        // What is asked of a host may be a token.
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '\'' | '"')).unwrap_or(rest.len());
        if let Some(query) = rest[..end].find('?') {
            redacted.push_str(&rest[..query]);
            redacted.push_str("?[secret]");
            rest = &rest[end..];
        }
    }
    redacted + rest
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn read(text: &str, mode: u32) -> Result<GitCredentials, Failure> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("credentials");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        GitCredentials::read(&file)
    }

    /// The header that is sent to `address`, decoded.
    fn sent(credentials: &GitCredentials, address: &str) -> Option<(String, String)> {
        let environment = credentials.environment(address);
        let value = |name: &str| {
            environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.to_str().unwrap())
        };
        let encoded = value("GIT_CONFIG_VALUE_0")?.strip_prefix("Authorization: Basic ")?;
        let login = String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap();
        Some((value("GIT_CONFIG_KEY_0")?.to_owned(), login))
    }

    #[test]
    fn users_and_passwords_are_taken_out_of_addresses() {
        for (text, expected) in [
            ("fatal: 'https://me:p@ss@host/x': 403", "fatal: 'https://host/x': 403"),
            ("https://tok@a/b and ssh://git@c", "https://a/b and ssh://c"),
            ("https://host/a@b", "https://host/a@b"),
            ("'https://t@host/x.git?private_token=a&b=c': 403", "'https://host/x.git?[secret]': 403"),
            ("https://host?a=https://me:p@x", "https://host?[secret]"),
            ("why? see https://host/x", "why? see https://host/x"),
            ("no address, a@b", "no address, a@b"),
            ("x://", "x://"),
        ] {
            assert_eq!(redact(text), expected);
        }
    }

    #[test]
    fn an_address_gets_what_is_of_its_own_server_and_of_its_path_before_others() {
        let text = "# of the forge\n\nhttps://ci:hunter%3A22@Git.example.org\nhttps://me:special1@git.example.org/a/\n";
        let credentials = read(text, 0o640).unwrap();
        let key = "http.https://git.example.org.extraHeader".to_owned();
        let general = Some((key, "ci:hunter:22".to_owned()));
        assert_eq!(sent(&credentials, "https://git.EXAMPLE.org/recipes/notes.git"), general);
        assert_eq!(sent(&credentials, "https://git.example.org/ab/notes"), general);
        let special = ("http.https://git.example.org/a.extraHeader".to_owned(), "me:special1".to_owned());
        assert_eq!(sent(&credentials, "https://git.example.org/a/notes"), Some(special));
        for other in [
            "http://git.example.org/a",
            "https://git.example.org.evil.test/a",
            "https://git.example.org:8443/a",
            "https://evil.test/https://git.example.org/a",
            "git@git.example.org:a",
            "/srv/git.example.org",
        ] {
            assert_eq!(sent(&credentials, other), None, "{other}");
        }
        let hidden = credentials.hide(&format!("hunter:22 {} special1", STANDARD.encode("ci:hunter:22")));
        assert_eq!(hidden, "[secret] [secret] [secret]");
        assert!(!format!("{credentials:?}").contains("hunter"));
    }

    #[test]
    fn a_file_that_is_everybodys_or_holds_something_else_is_refused_without_its_words() {
        let failure = read("https://ci:hunter22@git.example.org\n", 0o644).unwrap_err();
        assert!(
            failure.chain().contains("everybody may read")
                && failure.hint().unwrap().starts_with("chmod o= ")
        );
        for bad in [
            "https://git.example.org",
            "https://hunter22@git.example.org",
            "https://:hunter22@git.example.org",
            "https://ci:@git.example.org",
            "https://ci:hunter22@",
            "https://ci:hunter22@/a",
            "https://ci:hunter22%0a@git.example.org",
            "https://ci:hunter22@git.example.org?x",
            "ssh://ci:hunter22@git.example.org",
            "machine git.example.org login ci password hunter22",
        ] {
            let failure = read(&format!("\n{bad}\n"), 0o600).unwrap_err();
            let said = format!("{} {}", failure.chain(), failure.hint().unwrap());
            assert!(said.contains("credentials:2: ") && !said.contains("hunter"), "{bad}: {said}");
        }
    }
}
