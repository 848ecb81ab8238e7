//! What the nodes of a private Swarm and their clients show each other: an authority for the time of the Swarm.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};

use super::private::Failure;

/// The authority's own certificate.
pub(super) const CA: &str = "ca.pem";
/// The daemon's.
pub(super) const SERVER: &str = "server.pem";
/// Its key.
pub(super) const SERVER_KEY: &str = "server-key.pem";
/// That of whoever may use the daemon.
pub(super) const CLIENT: &str = "client.pem";
/// Its key.
pub(super) const CLIENT_KEY: &str = "client-key.pem";

/// Whoever it signs for is let in.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// When there is no key for it.
    pub(super) fn new() -> Result<Self, Failure> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "a private Swarm");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Writes what the daemon at `address` and its clients need into its directory.
    ///
    /// # Errors
    /// When that can't be written.
    pub(super) fn write(&self, directory: &Path, address: IpAddr) -> Result<(), Failure> {
        fs::write(directory.join(CA), self.0.pem())?;
        let server = ExtendedKeyUsagePurpose::ServerAuth;
        self.sign(directory, &address.to_string(), server, (SERVER, SERVER_KEY))?;
        self.sign(directory, "cc-ci", ExtendedKeyUsagePurpose::ClientAuth, (CLIENT, CLIENT_KEY))
    }

    fn sign(
        &self,
        directory: &Path,
        name: &str,
        purpose: ExtendedKeyUsagePurpose,
        (certificate, key_file): (&str, &str),
    ) -> Result<(), Failure> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.extended_key_usages.push(purpose);
        fs::write(directory.join(certificate), params.signed_by(&key, &self.0)?.pem())?;
        // As everybody's it would be refused.
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(directory.join(key_file))?;
        file.write_all(key.serialize_pem().as_bytes())?;
        Ok(())
    }
}
