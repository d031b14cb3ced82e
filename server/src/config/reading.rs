//! Checking each setting, and all of them together.
//!
//! Owns: what each setting takes, and the words when it does not. Refuses to know: where values come from.

use super::{Config, LogFormat, Mistakes, SETTINGS};
use crate::db::Location;
use crate::tls;
use crate::trace;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The settings by key, each with where it comes from, and what is wrong so far.
pub(super) struct Reading {
    pub(super) values: BTreeMap<&'static str, (String, String)>,
    pub(super) mistakes: Vec<String>,
}

impl Reading {
    /// All of it, or all that is wrong with it.
    pub(super) fn config(mut self) -> Result<Config, Mistakes> {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 8080));
        let address = "takes an address and a port, such as 127.0.0.1:8080";
        let listen = self.parsed("listen", address).unwrap_or(loopback);
        let metrics_listen =
            if self.is_empty("metrics_listen") { None } else { self.parsed("metrics_listen", address) };
        let workers: usize = self.parsed("workers", "takes a number from 0 to 64").unwrap_or(0);
        let workers = match workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            1..=64 => workers,
            _ => {
                self.refuse("workers", "takes a number from 0 to 64");
                1
            }
        };
        let drain = self.parsed("drain_seconds", "takes a number of seconds from 0 to 600").unwrap_or(5_u64);
        if drain > 600 {
            self.refuse("drain_seconds", "takes a number of seconds from 0 to 600");
        }
        let data_dir = PathBuf::from(self.value("data_dir"));
        if data_dir.as_os_str().is_empty() {
            self.refuse("data_dir", "takes the path of a folder");
        }
        let database_url = self.value("database_url");
        let database = if database_url.is_empty() {
            Location::Sqlite(data_dir.join("homeroom.db"))
        } else {
            if !database_url.starts_with("postgres://") && !database_url.starts_with("postgresql://") {
                self.refuse("database_url", "takes postgres://user:password@host:port/name; leave it out for SQLite");
            }
            Location::Postgres(database_url)
        };
        let redis_urls = self.value("redis_urls");
        let redis_urls: Vec<String> =
            redis_urls.split(',').map(str::trim).filter(|url| !url.is_empty()).map(str::to_owned).collect();
        if redis_urls.iter().any(|url| redis::parse_redis_url(url).is_none()) {
            self.refuse("redis_urls", "takes redis://:password@host:port, or rediss:// for TLS, with commas between");
        } else if !redis_urls.is_empty() && matches!(database, Location::Sqlite(_)) {
            self.refuse(
                "redis_urls",
                "is for several nodes, and they need PostgreSQL: set database_url too, or leave it out",
            );
        }
        let public_url = self.value("public_url");
        let public_url = public_url.trim_end_matches('/');
        let is_origin = |url: &str| {
            let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            rest.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', ' ']))
        };
        if !public_url.is_empty() && !is_origin(public_url) {
            self.refuse("public_url", "takes http:// or https:// and a host, without a path");
        }
        let tls = self.tls();
        let trusted_proxies = self.networks("trusted_proxies");
        let traces = self.traces();
        let log_format = match self.value("log_format").as_str() {
            "json" => LogFormat::Json,
            "text" => LogFormat::Text,
            _ => {
                self.refuse("log_format", "takes text or json");
                LogFormat::Text
            }
        };
        let log = self.value("log");
        if tracing_subscriber::EnvFilter::try_new(&log).is_err() {
            self.refuse("log", "takes a filter, such as info or homeroom=debug,sqlx=warn");
        }
        if !self.mistakes.is_empty() {
            return Err(Mistakes(self.mistakes));
        }
        Ok(Config {
            listen,
            data_dir,
            database,
            redis_urls,
            public_url: (!public_url.is_empty()).then(|| public_url.to_owned()),
            tls,
            trusted_proxies,
            metrics_listen,
            traces,
            workers,
            drain: Duration::from_secs(drain),
            log,
            log_format,
        })
    }

    fn value(&self, key: &str) -> String {
        self.values.get(key).map(|(value, _)| value.trim().to_owned()).unwrap_or_default()
    }

    fn is_empty(&self, key: &str) -> bool {
        self.value(key).is_empty()
    }

    fn parsed<T: std::str::FromStr>(&mut self, key: &str, takes: &str) -> Option<T> {
        let parsed = self.value(key).parse().ok();
        if parsed.is_none() {
            self.refuse(key, takes);
        }
        parsed
    }

    /// Addresses and networks, with commas between.
    fn networks(&mut self, key: &str) -> Vec<IpNet> {
        let value = self.value(key);
        let words = value.split(',').map(str::trim).filter(|word| !word.is_empty());
        let network =
            |word: &str| word.parse().ok().or_else(|| word.parse().ok().map(|address: IpAddr| address.into()));
        let networks: Option<Vec<IpNet>> = words.map(network).collect();
        if networks.is_none() {
            self.refuse(key, "takes addresses or networks with commas between, such as 10.0.0.7, 10.1.0.0/16");
        }
        networks.unwrap_or_default()
    }

    /// Where traces go, if anywhere.
    fn traces(&mut self) -> Option<trace::Export> {
        let takes = "takes a number from 0 to 1, such as 0.01 for one message in a hundred";
        let ratio = self.parsed("trace_ratio", takes).unwrap_or(0.0);
        if !(0.0..=1.0).contains(&ratio) {
            self.refuse("trace_ratio", takes);
        }
        let endpoint = self.value("otlp_endpoint");
        let is_address = endpoint.starts_with("http://") || endpoint.starts_with("https://");
        if !endpoint.is_empty() && !is_address {
            self.refuse("otlp_endpoint", "takes http:// or https://, a host and a port, such as http://127.0.0.1:4318");
        }
        is_address.then_some(trace::Export { endpoint, ratio })
    }

    /// Both files or none, and they have to be of use.
    fn tls(&mut self) -> Option<tls::Files> {
        let missing = match (self.is_empty("tls_certificate"), self.is_empty("tls_key")) {
            (true, true) => return None,
            (true, false) => Some("tls_certificate"),
            (false, true) => Some("tls_key"),
            (false, false) => None,
        };
        if let Some(missing) = missing {
            let given = if missing == "tls_key" { "tls_certificate" } else { "tls_key" };
            self.refuse(given, &format!("needs `{missing}` beside it"));
        }
        let files = tls::Files {
            certificate: PathBuf::from(self.value("tls_certificate")),
            key: PathBuf::from(self.value("tls_key")),
        };
        let certificate = files.read_certificate().map(drop);
        let key = files.read_key().map(drop);
        for (name, read) in [("tls_certificate", &certificate), ("tls_key", &key)] {
            if let Err(error) = read
                && !self.is_empty(name)
            {
                self.refuse(name, &error.to_string());
            }
        }
        if let (Ok(()), Ok(()), Err(unfit)) = (certificate, key, files.read()) {
            self.refuse("tls_key", &unfit.to_string());
        }
        Some(files)
    }

    fn refuse(&mut self, key: &str, why: &str) {
        let secret = SETTINGS.iter().any(|setting| setting.key == key && setting.secret);
        let (value, from) = self.values.get(key).cloned().unwrap_or_default();
        let shown = if secret { String::new() } else { format!(" = {value:?}") };
        self.mistakes.push(format!("{from}{shown}: {why}"));
    }
}
