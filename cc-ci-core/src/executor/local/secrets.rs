//! Generated secrets: files that only their owner reads.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read as _};

use super::deploy::host;
use super::world::World;
use crate::executor::{App, EngineError};
use crate::files::{private_directory, write_whole};
use crate::recipe::SecretSpec;

/// The length of a secret whose recipe states none.
const LENGTH: u32 = 32;

/// Generates what the `.env` names and is not there yet. Blocks.
pub(super) fn generate(world: &World, app: &App) -> Result<BTreeMap<String, String>, EngineError> {
    let specs = app
        .env()?
        .secrets()
        .map_err(|error| EngineError::recipe("can't read the secrets of the .env file").because(error))?;
    let directory = world.of(&app.domain, "secrets");
    let mut generated = BTreeMap::new();
    for spec in specs.into_iter().filter(|spec| spec.generate) {
        let path = directory.join(format!("{}_{}_{}", app.domain.stack(), spec.name, spec.version));
        if path.exists() {
            continue;
        }
        private_directory(&directory).map_err(host)?;
        let value = random(&spec).map_err(host)?;
        write_whole(&path, value.as_bytes(), 0o600).map_err(host)?;
        generated.insert(spec.name, value);
    }
    Ok(generated)
}

/// Characters of the charset, each as likely as the others.
fn random(spec: &SecretSpec) -> io::Result<String> {
    let charset: &[u8] = match spec.charset.as_deref() {
        Some("hex") => b"0123456789abcdef",
        _ => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
    };
    let fair = 256 / charset.len() * charset.len();
    let mut bytes = BufReader::with_capacity(256, File::open("/dev/urandom")?).bytes();
    let mut value = String::new();
    while value.len() < spec.length.unwrap_or(LENGTH) as usize {
        let byte = usize::from(bytes.next().ok_or(io::ErrorKind::UnexpectedEof)??);
        if byte < fair {
            value.push(char::from(charset[byte % charset.len()]));
        }
    }
    Ok(value)
}
