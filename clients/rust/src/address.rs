//! Where a server is.
//!
//! Owns: turning what a person types into the addresses of the HTTP API and of the socket.
//! Refuses to know: whether anybody answers there.

use reqwest::Url;
use std::fmt;

/// The address of a Homeroom server, such as `http://127.0.0.1:8080`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerAddress {
    /// With scheme `http` or `https`, and a path that ends in `/`.
    base: Url,
}

/// Why a text is not the address of a server.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not the address of a server; write it like https://school.example or http://127.0.0.1:8080")]
pub struct NotAnAddress {
    text: String,
    #[source]
    source: Option<<Url as std::str::FromStr>::Err>,
}

impl ServerAddress {
    /// Parses an address. `ws` and `wss` are read as `http` and `https`; a name without a scheme as `http`.
    ///
    /// # Errors
    /// [`NotAnAddress`] when it is not a URL, or one of another scheme.
    pub fn parse(text: &str) -> Result<Self, NotAnAddress> {
        let refuse = |source| NotAnAddress { text: text.to_owned(), source };
        let text = text.trim();
        let whole = match text.split_once("://") {
            None => format!("http://{text}"),
            Some(("http" | "ws", rest)) => format!("http://{rest}"),
            Some(("https" | "wss", rest)) => format!("https://{rest}"),
            Some(_) => return Err(refuse(None)),
        };
        let mut base: Url = whole.parse().map_err(|source| refuse(Some(source)))?;
        base.set_query(None);
        base.set_fragment(None);
        if base.host().is_none() {
            return Err(refuse(None));
        }
        if !base.path().ends_with('/') {
            let path = format!("{}/", base.path());
            base.set_path(&path);
        }
        Ok(Self { base })
    }

    /// The URL of a path of the HTTP API, such as `home`.
    pub(crate) fn api(&self, path: &str) -> String {
        format!("{}api/v1/{path}", self.base)
    }

    /// The URL of the socket.
    pub(crate) fn socket(&self) -> String {
        // The scheme is one of two by construction, and each has its socket's twin by one letter pair.
        format!("{}ws", self.base).replacen("http", "ws", 1)
    }

    /// Whether what is said to the server is encrypted on its way.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.base.scheme() == "https"
    }

    /// Whether the server is on this machine, by its address alone.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self.base.host_str() {
            Some("localhost" | "[::1]") => true,
            Some(host) => host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback()),
            None => false,
        }
    }
}

/// Chooses the cryptography for https and wss, once for the whole program.
pub(crate) fn prepare_tls() {
    #[cfg(feature = "tls")]
    match rustls::crypto::ring::default_provider().install_default() {
        // The program may have chosen another before; then that one is used.
        Ok(()) | Err(_) => {}
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base.as_str().trim_end_matches('/'))
    }
}

impl std::str::FromStr for ServerAddress {
    type Err = NotAnAddress;
    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_addresses_in_many_ways() {
        for (written, socket, api) in [
            ("127.0.0.1:8080", "ws://127.0.0.1:8080/ws", "http://127.0.0.1:8080/api/v1/home"),
            ("http://localhost:1/", "ws://localhost:1/ws", "http://localhost:1/api/v1/home"),
            ("wss://school.example", "wss://school.example/ws", "https://school.example/api/v1/home"),
            ("https://a.example/line?x=1", "wss://a.example/line/ws", "https://a.example/line/api/v1/home"),
        ] {
            let address = ServerAddress::parse(written).unwrap();
            assert_eq!(address.socket(), socket);
            assert_eq!(address.api("home"), api);
        }
        for wrong in ["", "ftp://x", "http://", "a b"] {
            assert!(ServerAddress::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (written, expected) in [
            ("127.0.0.1:1", true),
            ("localhost", true),
            ("http://[::1]:2", true),
            ("10.0.0.1", false),
            ("x.example", false),
        ] {
            assert_eq!(ServerAddress::parse(written).unwrap().is_loopback(), expected, "{written}");
        }
    }
}
