//! TLS in the server itself: its certificate, and the handshake.
//!
//! Owns: reading certificate and key, saying what is wrong with them, taking up renewed ones while the server runs, and the time a
//! handshake may take. Refuses to know: what is said over the connection.

use crate::accepted::{Accepted, Way};
use actix_http::Protocol;
use actix_http::error::DispatchError;
use actix_service::{ServiceFactory, fn_service};
use chrono::{DateTime, TimeDelta, Utc};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::either::Either;

/// How long a handshake may take: three round trips on the worst of mobile networks.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// From when on a certificate's end is warned of; those who renew by themselves do it 30 days before.
pub const SOON: TimeDelta = TimeDelta::days(14);
/// What TLS begins with (RFC 8446, section 5.1: a record of type handshake).
const HANDSHAKE_RECORD: u8 = 22;
/// The answer to a browser that was sent to the right port by the wrong scheme.
const SPEAK_TLS: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 49\r\n\
     Connection: close\r\n\r\nThis port speaks TLS. Write https:// before it.\r\n";

/// Where the certificate and its key are: two files in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The certificate, and behind it those that lead to its root.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Why a certificate can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate's file.
    #[error("the certificate can't be read: {}", words(.0))]
    Certificate(#[source] pem::Error),
    /// It holds no certificate, or one that makes no sense.
    #[error(
        "the file holds no certificate; it takes one in PEM, with the certificates that lead to its root behind it"
    )]
    NoCertificate,
    /// The key's file.
    #[error("the key can't be read: {}", words(.0))]
    Key(#[source] pem::Error),
    /// The key is of no use, or another certificate's.
    #[error("the key does not fit the certificate, or is of a kind that is not supported")]
    Unfit(#[source] rustls::Error),
    /// What TLS needs besides.
    #[error("TLS can't be set up")]
    SetUp(#[source] rustls::Error),
}

/// What the operating system or the file says.
fn words(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => "the file holds none in PEM, or one with a password".to_owned(),
        error => error.to_string(),
    }
}

/// A certificate with its key, fit for use.
#[derive(Debug)]
pub struct Identity {
    key: Arc<CertifiedKey>,
    begins: DateTime<Utc>,
    /// When it is worth nothing any more.
    pub ends: DateTime<Utc>,
}

impl Files {
    /// Reads both files. An expired certificate is read, too: whoever ignores that can still come in.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn read(&self) -> Result<Identity, TlsError> {
        let (chain, [begins, ends]) = self.read_certificate()?;
        let key = CertifiedKey::from_der(chain, self.read_key()?, &ring::default_provider());
        Ok(Identity { key: Arc::new(key.map_err(TlsError::Unfit)?), begins, ends })
    }

    /// The certificate with those that lead to its root, and when it begins and ends.
    ///
    /// # Errors
    /// [`TlsError::Certificate`], [`TlsError::NoCertificate`].
    pub fn read_certificate(&self) -> Result<(Vec<CertificateDer<'static>>, [DateTime<Utc>; 2]), TlsError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect)
            .map_err(TlsError::Certificate)?;
        let first = chain.first().ok_or(TlsError::NoCertificate)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(first).map_err(|_| TlsError::NoCertificate)?;
        let time = |at: x509_parser::time::ASN1Time| DateTime::from_timestamp(at.timestamp(), 0).unwrap_or_default();
        let times = [parsed.validity().not_before, parsed.validity().not_after].map(time);
        Ok((chain, times))
    }

    /// The key, whosever it is.
    ///
    /// # Errors
    /// [`TlsError::Key`].
    pub fn read_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_file(&self.key).map_err(TlsError::Key)
    }
}

/// What is counted, for `/metrics`.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections that did not get through the handshake.
    pub refused: AtomicU64,
    /// When the certificate ends, in seconds since 1970.
    pub ends: AtomicI64,
}

impl Counts {
    fn refuse(&self, error: std::io::Error) -> DispatchError {
        self.refused.fetch_add(1, Ordering::Relaxed);
        DispatchError::Io(error)
    }
}

/// One node's TLS.
#[derive(Debug)]
pub struct Tls {
    files: Files,
    current: Arc<Current>,
    config: Arc<ServerConfig>,
    /// What is counted.
    pub counts: Counts,
}

/// The certificate that new connections are shown.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Nothing under this lock panics.
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Tls {
    /// Reads the files and sets everything up.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(files: &Files) -> Result<Self, TlsError> {
        let identity = files.read()?;
        let current = Arc::new(Current(RwLock::new(identity.key.clone())));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::SetUp)?
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        // A WebSocket is taken over from HTTP/1.1.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Who comes back to this node saves itself a signature; the node keeps nothing for it.
        config.ticketer = ring::Ticketer::new().map_err(TlsError::SetUp)?;
        let tls = Self { files: files.clone(), current, config: Arc::new(config), counts: Counts::default() };
        tls.show(identity);
        Ok(tls)
    }

    /// Shows another certificate from now on. Who is connected stays.
    fn show(&self, identity: Identity) {
        let now = Utc::now();
        let Identity { key, begins, ends } = identity;
        if ends <= now {
            tracing::warn!(%ends, "the TLS certificate has expired: browsers refuse it. Renew it");
        } else if begins > now {
            tracing::warn!(%begins, "the TLS certificate is not valid yet: browsers refuse it. Is the clock right?");
        } else if ends - now < SOON {
            tracing::warn!(%ends, "the TLS certificate expires soon. Renew it");
        }
        self.counts.ends.store(ends.timestamp(), Ordering::Relaxed);
        *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = key;
    }

    /// Takes up renewed files, for ever. Files that don't fit each other are half of a renewal: the next look finds the rest.
    pub async fn follow(self: Arc<Self>) {
        let mut shown = self.stamp();
        let mut complained_of = None;
        loop {
            tokio::time::sleep(LOOK).await;
            let stamp = self.stamp();
            if stamp == shown {
                continue;
            }
            match self.files.read() {
                Ok(identity) => {
                    tracing::info!(ends = %identity.ends, "a renewed TLS certificate is shown from now on");
                    self.show(identity);
                    shown = stamp;
                }
                Err(error) if complained_of.as_ref() != Some(&stamp) => {
                    tracing::warn!(%error, "the renewed TLS certificate can't be used; the old one stays");
                    complained_of = Some(stamp);
                }
                Err(_) => {}
            }
        }
    }

    /// What changes when a file is written or another one is put in its place.
    fn stamp(&self) -> [Option<(u64, i64, i64, u64)>; 2] {
        let of = |path: &Path| {
            let file = std::fs::metadata(path).ok()?;
            Some((file.ino(), file.mtime(), file.mtime_nsec(), file.size()))
        };
        [of(&self.files.certificate), of(&self.files.key)]
    }

    /// The handshake. Who does not speak TLS is told so.
    async fn accept(&self, mut socket: TcpStream) -> std::io::Result<Way> {
        // Each step of a handshake is one write, and waits for the answer.
        socket.set_nodelay(true)?;
        let mut first = [0];
        if socket.peek(&mut first).await? > 0 && first != [HANDSHAKE_RECORD] {
            socket.write_all(SPEAK_TLS.as_bytes()).await?;
            socket.shutdown().await?;
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        let stream = TlsAcceptor::from(self.config.clone()).accept(socket).await?;
        Ok(Either::Right(Box::new(stream)))
    }
}

/// What comes in, through TLS where there is any.
pub fn accepting(
    tls: Option<Arc<Tls>>,
) -> impl ServiceFactory<
    TcpStream,
    Config = (),
    Response = (Accepted, Protocol, Option<SocketAddr>),
    Error = DispatchError,
    InitError = (),
> {
    fn_service(move |socket: TcpStream| {
        let tls = tls.clone();
        async move {
            let peer = socket.peer_addr().ok();
            let Some(tls) = tls else { return Ok((Accepted::new(Either::Left(socket)), Protocol::Http1, peer)) };
            // Boxed: it is long, and over in a moment.
            match tokio::time::timeout(HANDSHAKE, Box::pin(tls.accept(socket))).await {
                Ok(Ok(way)) => Ok((Accepted::new(way), Protocol::Http1, peer)),
                Ok(Err(error)) => Err(tls.counts.refuse(error)),
                Err(_) => Err(tls.counts.refuse(std::io::ErrorKind::TimedOut.into())),
            }
        }
    })
}
