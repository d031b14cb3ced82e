//! The configuration: flags over environment variables over a file.
//!
//! Owns: the one list of settings that drives flags, environment names, file keys and `--help`; and saying all mistakes at
//! once. Refuses to know: what the settings are used for.

use crate::db::Location;
use crate::tls;
use crate::trace;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// As in the file; the flag has hyphens for underscores, the environment variable is `HOMEROOM_` and capitals.
    pub key: &'static str,
    /// As a flag, without the hyphens in front.
    pub flag: &'static str,
    /// What it is for.
    pub help: &'static str,
    /// What it is when nobody says.
    pub default: &'static str,
    /// May hold a password: its value is never shown.
    pub secret: bool,
}

/// All settings.
pub const SETTINGS: [Setting; 15] = [
    Setting {
        key: "listen",
        flag: "listen",
        help: "Address and port to serve on; port 0 takes a free one",
        default: "127.0.0.1:8080",
        secret: false,
    },
    Setting {
        key: "data_dir",
        flag: "data-dir",
        help: "Folder for the SQLite database and the control socket",
        default: "./data",
        secret: false,
    },
    Setting {
        key: "database_url",
        flag: "database-url",
        help: "postgres://user:password@host:port/name; without it SQLite in the data folder",
        default: "",
        secret: true,
    },
    Setting {
        key: "redis_urls",
        flag: "redis-urls",
        help: "redis://host:port for several nodes on PostgreSQL; several with commas between for a Redis Cluster",
        default: "",
        secret: true,
    },
    Setting {
        key: "public_url",
        flag: "public-url",
        help: "How browsers reach this server, such as https://homeroom.example; for links and the origin check",
        default: "",
        secret: false,
    },
    Setting {
        key: "tls_certificate",
        flag: "tls-certificate",
        help: "PEM file of the certificate, to speak TLS without a proxy; a renewed one is taken up while the server runs",
        default: "",
        secret: false,
    },
    Setting { key: "tls_key", flag: "tls-key", help: "PEM file of the certificate's key", default: "", secret: false },
    Setting {
        key: "trusted_proxies",
        flag: "trusted-proxies",
        help: "Addresses or networks of proxies whose X-Forwarded-For is believed, with commas between, such as 10.0.0.0/8",
        default: "",
        secret: false,
    },
    Setting {
        key: "metrics_listen",
        flag: "metrics-listen",
        help: "Address and port for /metrics; without it there are none",
        default: "",
        secret: false,
    },
    Setting {
        key: "otlp_endpoint",
        flag: "otlp-endpoint",
        help: "Collector of OpenTelemetry that gets traces of messages (OTLP over HTTP), such as http://127.0.0.1:4318",
        default: "",
        secret: true,
    },
    Setting {
        key: "trace_ratio",
        flag: "trace-ratio",
        help: "Which share of the messages is traced, from 0 to 1, where there is a collector",
        default: "0.01",
        secret: false,
    },
    Setting {
        key: "workers",
        flag: "workers",
        help: "Threads that serve sessions; 0 takes one for each core",
        default: "0",
        secret: false,
    },
    Setting {
        key: "drain_seconds",
        flag: "drain-seconds",
        help: "How long sessions have to leave when the server stops",
        default: "5",
        secret: false,
    },
    Setting {
        key: "log",
        flag: "log",
        help: "What is logged, such as info or homeroom=debug",
        default: "info",
        secret: false,
    },
    Setting { key: "log_format", flag: "log-format", help: "text or json", default: "text", secret: false },
];

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// The configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to serve.
    pub listen: SocketAddr,
    /// The folder of the database, its lock and the control socket.
    pub data_dir: PathBuf,
    /// The database.
    pub database: Location,
    /// Redis, or some servers of a Redis Cluster; none for one node. They may hold a password: never log them.
    pub redis_urls: Vec<String>,
    /// The origin that browsers use, such as `https://homeroom.example`, without a slash at its end.
    pub public_url: Option<String>,
    /// The certificate and its key, to speak TLS.
    pub tls: Option<tls::Files>,
    /// Proxies whose word for where a request comes from is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// Where to serve metrics.
    pub metrics_listen: Option<SocketAddr>,
    /// Where traces go, and which.
    pub traces: Option<trace::Export>,
    /// Threads that serve sessions.
    pub workers: usize,
    /// How long sessions have to leave.
    pub drain: Duration,
    /// The log's filter.
    pub log: String,
    /// The log's form.
    pub log_format: LogFormat,
}

/// What is wrong with the configuration: all of it.
#[derive(Debug)]
pub struct Mistakes(pub Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} mistake{}", self.0.len(), if self.0.len() == 1 { "" } else { "s" })?;
        self.0.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl std::error::Error for Mistakes {}

/// Where settings come from; the first that names one wins.
#[derive(Debug, Default)]
pub struct Layers {
    /// From the command line, by key.
    pub flags: BTreeMap<String, String>,
    /// From the environment, by name.
    pub environment: BTreeMap<String, String>,
    /// The file's path, and its text.
    pub file: Option<(PathBuf, String)>,
}

impl Setting {
    /// The environment variable.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("HOMEROOM_{}", self.key.to_ascii_uppercase())
    }
}

struct Reading {
    values: BTreeMap<&'static str, (String, String)>,
    mistakes: Vec<String>,
}

impl Layers {
    /// Checks everything, and says every mistake.
    ///
    /// # Errors
    /// [`Mistakes`].
    pub fn read(&self) -> Result<Config, Mistakes> {
        let mut reading = Reading { values: BTreeMap::new(), mistakes: Vec::new() };
        let file = self.file_values(&mut reading.mistakes);
        for setting in &SETTINGS {
            let flag = self.flags.get(setting.key).map(|value| (value.clone(), format!("--{}", setting.flag)));
            let variable =
                || self.environment.get(&setting.variable()).map(|value| (value.clone(), setting.variable()));
            let in_file = || file.get(setting.key).cloned();
            let found = flag.or_else(variable).or_else(in_file);
            let (value, from) = found.unwrap_or_else(|| (setting.default.to_owned(), "the default".to_owned()));
            reading.values.insert(setting.key, (value, from));
        }
        for name in self.environment.keys().filter(|name| name.starts_with("HOMEROOM_")) {
            let known = SETTINGS.iter().any(|setting| setting.variable() == *name);
            let ours = matches!(name.as_str(), "HOMEROOM_CONFIG" | "HOMEROOM_BIN")
                || (cfg!(feature = "sabotage") && name == "HOMEROOM_SABOTAGE");
            if !known && !ours {
                reading.mistakes.push(format!("{name}: there is no such setting{}", nearest(name)));
            }
        }
        reading.config()
    }

    fn file_values(&self, mistakes: &mut Vec<String>) -> BTreeMap<String, (String, String)> {
        let Some((path, text)) = &self.file else { return BTreeMap::new() };
        let table: toml::Table = match text.parse() {
            Ok(table) => table,
            Err(error) => {
                mistakes.push(format!("{}: {}", path.display(), error.message()));
                return BTreeMap::new();
            }
        };
        let mut values = BTreeMap::new();
        for (key, value) in table {
            if !SETTINGS.iter().any(|setting| setting.key == key) {
                mistakes.push(format!("{}: there is no setting `{key}`{}", path.display(), nearest(&key)));
                continue;
            }
            let value = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(truth) => truth.to_string(),
                _ => {
                    mistakes.push(format!("{}: `{key}` takes a text or a number", path.display()));
                    continue;
                }
            };
            values.insert(key.clone(), (value, format!("`{key}` in {}", path.display())));
        }
        values
    }
}

impl Reading {
    fn config(mut self) -> Result<Config, Mistakes> {
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

/// A setting that may have been meant.
fn nearest(name: &str) -> String {
    let wanted = name.trim_start_matches("HOMEROOM_").to_ascii_lowercase().replace('-', "_");
    let likeness = |setting: &&Setting| (1_000.0 * strsim::jaro_winkler(setting.key, &wanted)) as u32;
    let Some(best) = SETTINGS.iter().max_by_key(likeness).filter(|best| likeness(best) > 700) else {
        return String::new();
    };
    let meant = if name.starts_with("HOMEROOM_") { best.variable() } else { best.key.to_owned() };
    format!("; did you mean {meant}?")
}

impl Config {
    /// For tests: an SQLite database in `folder`, a free port, one worker, a short drain.
    #[must_use]
    pub fn for_tests(folder: &Path) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data_dir: folder.to_owned(),
            database: Location::Sqlite(folder.join("homeroom.db")),
            redis_urls: Vec::new(),
            public_url: None,
            tls: None,
            trusted_proxies: Vec::new(),
            metrics_listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            traces: None,
            workers: 2,
            drain: Duration::from_secs(1),
            log: "warn".to_owned(),
            log_format: LogFormat::Text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let layers = Layers {
            flags: map(&[("listen", "127.0.0.1:1")]),
            environment: map(&[("HOMEROOM_LISTEN", "127.0.0.1:2"), ("HOMEROOM_WORKERS", "3")]),
            file: Some(("homeroom.toml".into(), "listen = '127.0.0.1:4'\nworkers = 5\ndrain_seconds = 6".into())),
        };
        let config = layers.read().unwrap();
        assert_eq!((config.listen.port(), config.workers, config.drain.as_secs()), (1, 3, 6));
        assert_eq!(config.database, Location::Sqlite("./data/homeroom.db".into()));
    }

    #[test]
    fn all_mistakes_are_said_at_once_and_none_shows_a_password() {
        let layers = Layers {
            flags: map(&[("listen", "nowhere")]),
            environment: map(&[
                ("HOMEROOM_DATABASE_URL", "mysql://root:geheim@db/x"),
                ("HOMEROOM_REDIS_URLS", "http://:geheim@r"),
                ("HOMEROOM_LISTN", "x"),
            ]),
            file: Some(("h.toml".into(), "worker = 2\nlog_format = 'xml'\npublic_url = 'homeroom.example'".into())),
        };
        let text = layers.read().unwrap_err().to_string();
        for part in [
            "7 mistakes",
            "--listen",
            "HOMEROOM_DATABASE_URL",
            "HOMEROOM_REDIS_URLS",
            "did you mean HOMEROOM_LISTEN",
            "no setting `worker`; did you mean workers?",
            "log_format",
            "public_url",
        ] {
            assert!(text.contains(part), "{part} is missing from:\n{text}");
        }
        assert!(!text.contains("geheim"), "{text}");
    }
}
