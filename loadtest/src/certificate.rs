//! A certificate for this machine and an afternoon.
//!
//! Owns: making it with its key, and a client that trusts nothing else. Refuses to know: who speaks TLS with it.

use rcgen::{CertificateParams, KeyPair};
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It could not be made.
    #[error("it could not be made")]
    Make(#[from] rcgen::Error),
    /// It could not be written.
    #[error("it could not be written")]
    Write(#[from] std::io::Error),
    /// No client can trust it.
    #[error("no client can trust it")]
    Trust(#[from] rustls::Error),
}

/// A certificate, as PEM files.
pub struct Made {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// A client that trusts it, and takes up no earlier session: each handshake is a whole one.
    pub trusting: Arc<ClientConfig>,
}

/// Makes one in a folder.
///
/// # Errors
/// See [`CertificateError`].
pub fn make(folder: &Path) -> Result<Made, CertificateError> {
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    let pair = KeyPair::generate()?;
    let signed = CertificateParams::new(["127.0.0.1".to_owned()])?.self_signed(&pair)?;
    std::fs::write(&certificate, signed.pem())?;
    std::fs::write(&key, pair.serialize_pem())?;
    let mut roots = RootCertStore::empty();
    roots.add(signed.der().clone())?;
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions()?;
    let mut trusting = builder.with_root_certificates(roots).with_no_client_auth();
    trusting.resumption = Resumption::disabled();
    Ok(Made { certificate, key, trusting: Arc::new(trusting) })
}
