//! The configuration: flags over environment variables over a file.
//!
//! Owns: the one list of settings that drives flags, environment names, file keys and `--help`; and saying all mistakes at
//! once. Refuses to know: what the settings are used for.

mod reading;

use crate::db::Location;
use crate::tls;
use crate::trace;
use ipnet::IpNet;
use reading::Reading;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
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
