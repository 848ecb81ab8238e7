//! With what the engine signs in where it pulls images, from a file of the operator's.
//!
//! The engine is given it with the one pull that needs it, over its socket: no argument, no variable and no configuration of a
//! client's has it.

use std::path::Path;

use super::logins::Logins;
use crate::model::failure::Failure;
use crate::model::secret::Secret;

/// Users and passwords of registries; none by default.
#[derive(Debug, Clone, Default)]
pub struct RegistryCredentials(Logins);

impl RegistryCredentials {
    /// Reads a file of credentials, `https://user:password@registry` a line, which everybody else must not be able to read.
    ///
    /// # Errors
    /// When it can't be used, or a line is none. What a line says is told by its number alone.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        Logins::read(path, "registry").map(Self)
    }

    /// What nobody may see.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.0.secrets()
    }

    /// The user and password for the image `name` of `registry`.
    pub fn of(&self, registry: &str, name: &str) -> Option<(&str, &Secret)> {
        let at = |scheme: &str| self.0.at(&format!("{scheme}://{registry}/{name}"));
        at("https").or_else(|| at("http")).map(|login| (login.user.as_str(), &login.password))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn read(text: &str, mode: u32) -> Result<RegistryCredentials, Failure> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("credentials");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        RegistryCredentials::read(&file)
    }

    #[test]
    fn an_image_gets_the_login_of_its_registry_and_of_its_path_before_others() {
        let text =
            "https://ci:hunter22@ghcr.io\nhttps://me:special1@ghcr.io/a\nhttp://x:local999@127.0.0.1:5000\n";
        let credentials = read(text, 0o600).unwrap();
        let of =
            |registry, name| credentials.of(registry, name).map(|(user, password)| (user, password.expose()));
        assert_eq!(of("ghcr.io", "b/app"), Some(("ci", "hunter22")));
        assert_eq!(of("ghcr.io", "a/app"), Some(("me", "special1")));
        assert_eq!(of("ghcr.io", "ab/app"), Some(("ci", "hunter22")));
        assert_eq!(of("127.0.0.1:5000", "app"), Some(("x", "local999")));
        for other in ["docker.io", "ghcr.io.evil.test", "ghcr.io:443", "127.0.0.1"] {
            assert_eq!(of(other, "a/app"), None, "{other}");
        }
        assert!(!format!("{credentials:?}").contains("hunter"));
        assert!(credentials.secrets().any(|secret| secret == "special1"));
    }

    #[test]
    fn a_file_that_is_everybodys_or_holds_something_else_is_refused_without_its_words() {
        let failure = read("https://ci:hunter22@ghcr.io\n", 0o644).unwrap_err();
        assert!(failure.chain().contains("everybody may read"), "{failure}");
        let failure = read("\n{\"auths\": {\"ghcr.io\": {\"auth\": \"hunter22\"}}}\n", 0o600).unwrap_err();
        let said = format!("{} {}", failure.chain(), failure.hint().unwrap());
        assert!(
            said.contains("credentials:2: no credentials of a registry") && !said.contains("hunter"),
            "{said}"
        );
    }
}
