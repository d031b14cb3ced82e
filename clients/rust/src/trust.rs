//! Whom to believe that they are the server.
//!
//! Owns: the roots that a server's certificate has to lead to. Refuses to know: which servers there are.

use crate::address::prepare_tls;
use reqwest::ClientBuilder;
use std::fmt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
#[cfg(feature = "tls")]
use {
    reqwest::Certificate,
    rustls::pki_types::CertificateDer,
    rustls::pki_types::pem::{self, PemObject},
    rustls::{ClientConfig, RootCertStore},
    std::sync::Arc,
    tokio_tungstenite::{Connector, connect_async_tls_with_config as connect},
};

/// Whose certificates are believed, for https and wss: those that the operating system trusts, or only those that lead to
/// roots of your own, where a school has its own authority.
#[derive(Clone, Default)]
pub struct Trust {
    #[cfg(feature = "tls")]
    roots: Option<Roots>,
}

#[cfg(feature = "tls")]
#[derive(Clone)]
struct Roots {
    certificates: Arc<[CertificateDer<'static>]>,
    /// Shared by all connections, so that coming back is cheap.
    config: Arc<ClientConfig>,
}

/// Why roots can't be used.
#[cfg(feature = "tls")]
#[derive(Debug, thiserror::Error)]
pub enum NotRoots {
    /// It is not PEM.
    #[error("these are no certificates in PEM")]
    Unreadable(#[source] pem::Error),
    /// It holds none.
    #[error("there is no certificate in it; it takes certificates in PEM")]
    Empty,
    /// One of them makes no sense.
    #[error("a certificate makes no sense")]
    Unfit(#[source] rustls::Error),
}

impl Trust {
    /// What the operating system trusts.
    #[must_use]
    pub fn system() -> Self {
        Self::default()
    }

    /// Only these roots, in PEM, and nobody else: no public authority either.
    ///
    /// # Errors
    /// [`NotRoots`].
    #[cfg(feature = "tls")]
    pub fn only(roots: &[u8]) -> Result<Self, NotRoots> {
        let certificates: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(roots).collect::<Result<_, _>>().map_err(NotRoots::Unreadable)?;
        if certificates.is_empty() {
            return Err(NotRoots::Empty);
        }
        let mut store = RootCertStore::empty();
        for certificate in &certificates {
            store.add(certificate.clone()).map_err(NotRoots::Unfit)?;
        }
        prepare_tls();
        let config = Arc::new(ClientConfig::builder().with_root_certificates(store).with_no_client_auth());
        Ok(Self { roots: Some(Roots { certificates: certificates.into(), config }) })
    }

    /// Connects and upgrades.
    pub(crate) async fn connect(
        &self,
        request: Request,
        config: WebSocketConfig,
    ) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>, Error> {
        prepare_tls();
        #[cfg(feature = "tls")]
        let roots = self.roots.as_ref().map(|roots| Connector::Rustls(roots.config.clone()));
        #[cfg(feature = "tls")]
        let connected = connect(request, Some(config), true, roots).await;
        #[cfg(not(feature = "tls"))]
        let connected = tokio_tungstenite::connect_async_with_config(request, Some(config), true).await;
        connected.map(|(socket, _)| socket)
    }

    /// The same for HTTP. Without https nobody is trusted: there is no reason to fail where the machine trusts nobody, nor to
    /// read whom it trusts.
    pub(crate) fn apply(&self, builder: ClientBuilder, is_encrypted: bool) -> Result<ClientBuilder, reqwest::Error> {
        prepare_tls();
        #[cfg(feature = "tls")]
        {
            Ok(match &self.roots {
                _ if !is_encrypted => builder.tls_certs_only([]),
                None => builder,
                Some(roots) => {
                    let roots = roots.certificates.iter().map(|root| Certificate::from_der(root));
                    builder.tls_certs_only(roots.collect::<Result<Vec<_>, _>>()?)
                }
            })
        }
        #[cfg(not(feature = "tls"))]
        {
            let _plain = is_encrypted;
            Ok(builder)
        }
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[cfg(feature = "tls")]
        if let Some(roots) = &self.roots {
            return write!(f, "Trust::only({} roots)", roots.certificates.len());
        }
        f.write_str("Trust::system()")
    }
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_root_is_refused() {
        assert!(matches!(Trust::only(b""), Err(NotRoots::Empty)));
        let nonsense = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(Trust::only(nonsense), Err(NotRoots::Unfit(_))));
    }
}
