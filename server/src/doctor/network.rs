//! How people reach this server, and how it is measured.
//!
//! Owns: whether the settings that name addresses fit together, and whether something answers there. Refuses to know: what is
//! answered, but for health and metrics.

use super::{Finding, PATIENCE};
use crate::config::Config;
use crate::tls::{self, Files};
use chrono::{TimeDelta, Utc};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The longest answer that is read: the page of metrics.
const ANSWER: u64 = 1 << 20;

pub(super) async fn examine(config: &Config, server_runs: bool) -> Vec<Finding> {
    let listening = if server_runs { ready(config).await } else { free("listen", config.listen) };
    let measured = match config.metrics_listen {
        None => Finding::ok("metrics", "metrics_listen is not set: nothing is measured"),
        Some(address) if server_runs => metrics(address).await,
        Some(address) => free("metrics", address),
    };
    let certificate = config.tls.as_ref().map(certificate);
    [public_url(config), proxies(config), listening, measured].into_iter().chain(certificate).collect()
}

fn public_url(config: &Config) -> Finding {
    let check = "public_url";
    let Some(url) = &config.public_url else {
        if config.listen.ip().is_loopback() {
            return Finding::ok(check, "not set: this machine only");
        }
        let found = format!("not set: links name http://{}", config.listen);
        return Finding::attention(
            check,
            found,
            "set public_url to what people type, such as https://homeroom.example",
        );
    };
    let Some(host) = url.strip_prefix("http://") else {
        return Finding::ok(check, format!("{url}: the sign-in cookie is sent over TLS only"));
    };
    let found = format!("{url}: whoever is on the way reads along, and takes the sign-in cookie");
    let advice = "put a proxy that speaks TLS in front (deploy/), and set public_url to https://";
    let host = host.parse::<SocketAddr>().map_or_else(|_| host.parse().ok(), |address| Some(address.ip()));
    match host {
        Some(host) if host.is_loopback() => Finding::ok(check, format!("{url}: this machine only")),
        None if url.starts_with("http://localhost") => Finding::ok(check, format!("{url}: this machine only")),
        Some(IpAddr::V4(host)) if host.is_private() => Finding::attention(check, found, advice),
        _ => Finding::broken(check, found, advice),
    }
}

fn certificate(files: &Files) -> Finding {
    let check = "tls";
    let ends = match files.read() {
        Ok(identity) => identity.ends,
        Err(error) => {
            return Finding::broken(check, error.to_string(), "put the files there that whoever signs gave you");
        }
    };
    let found = format!("{} is good until {ends}", files.certificate.display());
    let advice = "renew it; the server takes the new files up by itself";
    match ends - Utc::now() {
        left if left <= TimeDelta::zero() => Finding::broken(check, format!("{found}, and browsers refuse it"), advice),
        left if left < tls::SOON => Finding::attention(check, found, advice),
        _ => Finding::ok(check, found),
    }
}

fn proxies(config: &Config) -> Finding {
    let check = "trusted_proxies";
    let (proxies, here) = (&config.trusted_proxies, config.listen.ip());
    if let Some(all) = proxies.iter().find(|network| network.prefix_len() == 0) {
        let found = format!("{all} is everybody: who invents addresses guesses codes without a limit");
        return Finding::broken(check, found, "name the proxies' own addresses");
    }
    let is_https = config.public_url.as_deref().is_some_and(|url| url.starts_with("https://"));
    if proxies.is_empty() && is_https && config.tls.is_none() {
        let found = "public_url is https, so a proxy is in front, and none is named: all families count as one address";
        return Finding::attention(
            check,
            found,
            "name the proxy's address: 30 sign-ins a minute are allowed from each",
        );
    }
    if proxies.is_empty() {
        return Finding::ok(check, "none: who connects is who they say");
    }
    if here.is_loopback() && !proxies.iter().any(|network| network.contains(&here)) {
        let found = format!("{here} is served, so the proxy is on this machine, and it is not named");
        return Finding::attention(check, found, format!("add {here}, or listen where the named proxies can reach it"));
    }
    let named: Vec<String> = proxies.iter().map(ToString::to_string).collect();
    Finding::ok(check, format!("{} may say whom they speak for", named.join(", ")))
}

/// Whether a server could listen there. Bound and not listened on: a server that starts in this moment is not refused.
fn free(check: &'static str, address: SocketAddr) -> Finding {
    if address.port() == 0 {
        return Finding::ok(check, format!("{address}: a free port, chosen at the start"));
    }
    let bound = || {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())
    };
    match bound() {
        Ok(()) => Finding::ok(check, format!("{address} is free")),
        Err(error) => {
            let advice = "find out who listens there (`ss -ltnp`), or choose an address of this machine that is free";
            Finding::broken(check, format!("{address}: {error}"), advice)
        }
    }
}

async fn ready(config: &Config) -> Finding {
    let check = "listen";
    let address = config.listen;
    if address.port() == 0 {
        return Finding::ok(check, format!("{address}: a free port; the server says which when it starts"));
    }
    match get(address, "/health/ready").await {
        Ok((200, _)) => Finding::ok(check, format!("{address} answers, and is ready")),
        // It says so to whoever speaks to it like this; whether it is ready, its control socket tells.
        Ok((400, body)) if config.tls.is_some() && body.contains("speaks TLS") => {
            Finding::ok(check, format!("{address} answers, and speaks TLS"))
        }
        Ok((status, body)) => {
            let found = format!("{address} is not ready ({status}): {}", body.trim());
            Finding::broken(check, found, "mend what it says; it takes clients again by itself")
        }
        Err(error) => {
            let found = format!("{address} does not answer: {error}");
            Finding::broken(check, found, "does the server run with these settings? Read its log")
        }
    }
}

async fn metrics(address: SocketAddr) -> Finding {
    let check = "metrics";
    if address.port() == 0 {
        return Finding::ok(check, format!("{address}: a free port; the server says which when it starts"));
    }
    match get(address, "/metrics").await {
        Ok((200, body)) if body.contains("homeroom_connections") => {
            Finding::ok(check, format!("http://{address}/metrics answers"))
        }
        Ok((status, _)) => {
            let found = format!("something else than homeroom's metrics answers on {address} ({status})");
            Finding::broken(check, found, "choose another metrics_listen, and start the server again")
        }
        Err(error) => {
            let found = format!("{address} does not answer: {error}");
            Finding::broken(check, found, "does the server run with these settings? Read its log")
        }
    }
}

/// Status and body of a page.
async fn get(mut address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.take(ANSWER).read_to_end(&mut bytes).await?;
        let text = String::from_utf8_lossy(&bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "this is not HTTP"))?;
        Ok((status, body.to_owned()))
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    fn config(listen: &str, public_url: Option<&str>, proxies: &[&str]) -> Config {
        Config {
            listen: listen.parse().unwrap(),
            public_url: public_url.map(str::to_owned),
            trusted_proxies: proxies.iter().map(|proxy| proxy.parse().unwrap()).collect(),
            ..Config::for_tests(std::path::Path::new("nowhere"))
        }
    }

    #[test]
    fn an_address_without_tls_is_for_this_machine_only() {
        let state = |listen, url| public_url(&config(listen, url, &[])).state;
        assert_eq!(state("127.0.0.1:80", None), State::Ok);
        assert_eq!(state("0.0.0.0:80", None), State::Attention);
        assert_eq!(state("0.0.0.0:80", Some("https://homeroom.example")), State::Ok);
        assert_eq!(state("0.0.0.0:80", Some("http://127.0.0.1:8080")), State::Ok);
        assert_eq!(state("0.0.0.0:80", Some("http://localhost:8080")), State::Ok);
        assert_eq!(state("0.0.0.0:80", Some("http://192.168.1.4")), State::Attention);
        assert_eq!(state("0.0.0.0:80", Some("http://homeroom.example")), State::Broken);
    }

    #[test]
    fn a_proxy_has_to_be_named_and_not_everybody_is_one() {
        let state = |listen, url, named: &[&str]| proxies(&config(listen, url, named)).state;
        let https = Some("https://homeroom.example");
        assert_eq!(state("127.0.0.1:80", None, &[]), State::Ok);
        assert_eq!(state("127.0.0.1:80", https, &[]), State::Attention);
        assert_eq!(state("127.0.0.1:80", https, &["10.0.0.7/32"]), State::Attention);
        assert_eq!(state("127.0.0.1:80", https, &["127.0.0.1/32"]), State::Ok);
        assert_eq!(state("0.0.0.0:80", https, &["10.0.0.0/24"]), State::Ok);
        assert_eq!(state("0.0.0.0:80", https, &["10.0.0.0/24", "::/0"]), State::Broken);
    }
}
