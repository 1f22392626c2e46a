//! What the server may be told: addresses, credentials, limits.
//!
//! 1. Every setting has a default, may stand in a TOML file, may be overridden by
//!    an `ANNALS_…` environment variable, and that by a flag. [`Config::origins`]
//!    says where each one came from.
//! 2. Every quantity carries its unit in its name.
//! 3. [`Config::check`] is the only door to a listener: an address that others can
//!    reach needs tokens, and TLS or a proxy that does TLS.
//!
//! Secrets are never settings: the token file is named here, not its content.

use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// The ceilings the server keeps. `GET /v1/limits` shows them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each name says what is limited and in which unit")]
pub struct Limits {
    pub body_bytes: u64,
    pub transact_body_bytes: u64,
    pub header_bytes: usize,
    pub header_count: usize,
    pub header_read_ms: u64,
    pub body_idle_ms: u64,
    pub query_default_ms: u64,
    pub query_max_ms: u64,
    pub query_rows: u64,
    pub query_bytes: u64,
    pub result_rows: u64,
    pub edn_depth: u32,
    pub running: usize,
    pub queued: usize,
    pub queue_wait_ms: u64,
    pub connections: usize,
    pub subscriptions: usize,
    pub failed_auth_per_minute: u32,
    pub idempotency_keep_s: u64,
    pub sse_heartbeat_ms: u64,
    pub write_stall_ms: u64,
    pub slow_query_ms: u64,
    pub shutdown_ms: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            body_bytes: 4 << 20,
            transact_body_bytes: 64 << 20,
            header_bytes: 32 << 10,
            header_count: 100,
            header_read_ms: 10_000,
            body_idle_ms: 10_000,
            query_default_ms: 5_000,
            query_max_ms: 60_000,
            query_rows: 10_000_000,
            query_bytes: 256 << 20,
            result_rows: 100_000,
            edn_depth: 256,
            running: 64,
            queued: 256,
            queue_wait_ms: 10_000,
            connections: 2_048,
            subscriptions: 512,
            failed_auth_per_minute: 100,
            idempotency_keep_s: 24 * 3_600,
            sse_heartbeat_ms: 15_000,
            write_stall_ms: 30_000,
            slow_query_ms: 1_000,
            shutdown_ms: 9_000,
        }
    }
}

impl Limits {
    /// The deadline of a query that asked for `asked_ms`.
    pub fn query_timeout(&self, asked_ms: Option<u64>) -> Duration {
        Duration::from_millis(asked_ms.unwrap_or(self.query_default_ms).min(self.query_max_ms))
    }
}

/// Everything [`crate::serve`] needs to know besides the databases.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Hashed tokens, one JSON object a line. Without it everyone who can connect may do everything.
    pub token_file: Option<PathBuf>,
    /// PEM certificate chain for TLS.
    pub tls_cert: Option<PathBuf>,
    /// PEM private key for TLS.
    pub tls_key: Option<PathBuf>,
    /// A reverse proxy in front does TLS.
    pub behind_proxy: bool,
    /// Names this server goes by in `Host`, besides loopback names and the listening address.
    pub hosts: Vec<String>,
    /// Web origins that may call us from a browser, exactly as in `Origin`.
    pub origins_allowed: Vec<String>,
    /// The only folder backups are written to. None: no backup over HTTP.
    pub backup_dir: Option<PathBuf>,
    /// The only folder databases are restored into. None: no restore over HTTP.
    pub restore_dir: Option<PathBuf>,
    /// Refuse commands without an `Idempotency-Key`.
    pub commands_need_key: bool,
    /// Refuse every write.
    pub read_only: bool,
    /// `text` or `json` lines on standard error.
    pub log_format: LogFormat,
    /// Collector of traces: `http://localhost:4318`. Needs a build with the feature `otel`.
    pub otlp_endpoint: Option<String>,
    /// Ceilings.
    pub limits: Limits,
    /// Where each setting that is not a default came from.
    #[serde(skip)]
    pub origins: BTreeMap<String, Origin>,
}

/// Shape of the log on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The layer a setting was taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of the TOML file.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// A command-line flag.
    Flag,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::File(p) => write!(f, "file {}", p.display()),
            Origin::Env(name) => write!(f, "environment {name}"),
            Origin::Flag => write!(f, "flag"),
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 7407)),
            token_file: None,
            tls_cert: None,
            tls_key: None,
            behind_proxy: false,
            hosts: Vec::new(),
            origins_allowed: Vec::new(),
            backup_dir: None,
            restore_dir: None,
            commands_need_key: false,
            read_only: false,
            log_format: LogFormat::Text,
            otlp_endpoint: None,
            limits: Limits::default(),
            origins: BTreeMap::new(),
        }
    }
}

/// Why a configuration cannot be served. All are usage errors (exit code 2).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The TOML file cannot be read.
    #[error("cannot read the configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The TOML file is malformed or names an unknown setting.
    #[error("configuration {path}: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What and where, by the TOML reader.
        message: String,
    },
    /// An environment variable or flag does not parse.
    #[error("{name}: {message}")]
    Value {
        /// The variable.
        name: String,
        /// What was wrong.
        message: String,
    },
    /// Others can reach the address, and nobody is asked who they are.
    #[error("refusing to listen on {0} without --token-file: anyone who can reach it could read and write")]
    OpenToAll(SocketAddr),
    /// Others can reach the address, and tokens would cross the network in the clear.
    #[error("refusing to listen on {0} without TLS (--tls-cert, --tls-key) or --behind-proxy")]
    InTheClear(SocketAddr),
    /// One of certificate and key is missing.
    #[error("--tls-cert and --tls-key go together")]
    HalfTls,
    /// The setting needs a part that this build does not have.
    #[error("{name} needs a build with the feature {feature} of annals-server")]
    NotBuilt {
        /// The setting.
        name: &'static str,
        /// What it was built without.
        feature: &'static str,
    },
    /// The token file, certificate or key is unusable.
    #[error("{what} {path}: {message}")]
    File {
        /// Which file.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
}

impl Config {
    /// Defaults, then the TOML file if one is given, then the environment.
    pub fn load(file: Option<&std::path::Path>) -> Result<Config, ConfigError> {
        Config::layered(file, |name| std::env::var(name).ok())
    }

    fn layered(
        file: Option<&std::path::Path>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Config, ConfigError> {
        let mut table = toml::Table::new();
        let mut origins = BTreeMap::new();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Read { path: path.into(), source })?;
            table = text
                .parse()
                .map_err(|e| ConfigError::Syntax { path: path.into(), message: format!("{e}") })?;
            for name in setting_names(&table) {
                origins.insert(name, Origin::File(path.into()));
            }
        }
        // The defaults, as TOML, give the names and types of all settings.
        let shape = toml::Table::try_from(Config::default()).expect("the defaults are plain data");
        let optional = ["token_file", "tls_cert", "tls_key", "backup_dir", "restore_dir", "otlp_endpoint"]
            .map(|n| (n.to_owned(), None));
        let known = leaves(&shape).into_iter().map(|(n, v)| (n, Some(v))).chain(optional);
        for (name, default) in known {
            let var = format!("ANNALS_{}", name.to_uppercase().replace('.', "_"));
            let Some(text) = env(&var) else { continue };
            let value = parse_like(default.as_ref(), &text).ok_or_else(|| ConfigError::Value {
                name: var.clone(),
                message: format!("cannot read {text:?}"),
            })?;
            put(&mut table, &name, value);
            origins.insert(name, Origin::Env(var));
        }
        let path = file.map_or_else(|| PathBuf::from("(environment)"), PathBuf::from);
        let mut config: Config = table
            .try_into()
            .map_err(|e: toml::de::Error| ConfigError::Syntax { path, message: e.message().to_owned() })?;
        config.origins = origins;
        Ok(config)
    }

    /// Notes that a setting was given on the command line.
    pub fn from_flag(&mut self, name: &str) {
        self.origins.insert(name.to_owned(), Origin::Flag);
    }

    /// Every setting with its value and origin, as TOML. Holds no secrets: none is a setting.
    pub fn show(&self) -> String {
        let line = |(name, value, origin): (String, toml::Value, Option<&Origin>)| {
            let origin = origin.map_or("default".to_owned(), Origin::to_string);
            format!("{name} = {value}  # {origin}\n")
        };
        self.settings().into_iter().map(line).collect()
    }

    /// The settings that are no defaults: name, value, origin. The server logs them when it begins.
    pub fn given(&self) -> Vec<(String, String, String)> {
        let given = self
            .settings()
            .into_iter()
            .filter_map(|(name, v, o)| Some((name, v.to_string(), o?.to_string())));
        given.collect()
    }

    fn settings(&self) -> Vec<(String, toml::Value, Option<&Origin>)> {
        let table = toml::Table::try_from(self).expect("a configuration is plain data");
        leaves(&table).into_iter().map(|(name, v)| (name.clone(), v, self.origins.get(&name))).collect()
    }

    /// Is the listening address reachable from this machine alone?
    pub fn is_loopback(&self) -> bool {
        self.listen.ip().is_loopback()
    }

    /// Refuses what would expose data by accident.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return Err(ConfigError::HalfTls);
        }
        if self.otlp_endpoint.is_some() && !cfg!(feature = "otel") {
            return Err(ConfigError::NotBuilt { name: "otlp_endpoint", feature: "otel" });
        }
        if !self.is_loopback() {
            if self.token_file.is_none() {
                return Err(ConfigError::OpenToAll(self.listen));
            }
            if self.tls_cert.is_none() && !self.behind_proxy {
                return Err(ConfigError::InTheClear(self.listen));
            }
        }
        Ok(())
    }

    /// Is this the name of the server, as a browser or client would put it into `Host`?
    pub fn knows_host(&self, host: &str) -> bool {
        let name = host_name(host);
        let loopback = name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip == self.listen.ip());
        loopback || self.hosts.iter().any(|h| h.eq_ignore_ascii_case(name) || h.eq_ignore_ascii_case(host))
    }
}

/// The name part of `name:port`, `[v6]:port`.
fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

fn setting_names(table: &toml::Table) -> Vec<String> {
    leaves(table).into_iter().map(|(name, _)| name).collect()
}

fn leaves(table: &toml::Table) -> Vec<(String, toml::Value)> {
    let mut out = Vec::new();
    for (name, value) in table {
        match value {
            toml::Value::Table(inner) => {
                out.extend(leaves(inner).into_iter().map(|(n, v)| (format!("{name}.{n}"), v)));
            }
            value => out.push((name.clone(), value.clone())),
        }
    }
    out
}

fn put(table: &mut toml::Table, name: &str, value: toml::Value) {
    match name.split_once('.') {
        Some((head, rest)) => {
            let inner = table.entry(head).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            if let toml::Value::Table(inner) = inner {
                put(inner, rest, value);
            }
        }
        None => {
            table.insert(name.to_owned(), value);
        }
    }
}

fn parse_like(default: Option<&toml::Value>, text: &str) -> Option<toml::Value> {
    Some(match default {
        Some(toml::Value::Integer(_)) => toml::Value::Integer(text.parse().ok()?),
        Some(toml::Value::Boolean(_)) => toml::Value::Boolean(text.parse().ok()?),
        Some(toml::Value::Array(_)) => toml::Value::Array(
            text.split(',').filter(|s| !s.trim().is_empty()).map(|s| s.trim().to_owned().into()).collect(),
        ),
        _ => toml::Value::String(text.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_beat_environment_beats_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("annals.toml");
        std::fs::write(&path, "listen = \"127.0.0.1:9\"\n[limits]\nrunning = 3\nqueued = 4\n").unwrap();
        let config =
            Config::layered(Some(&path), |n| (n == "ANNALS_LIMITS_RUNNING").then(|| "7".into())).unwrap();
        assert_eq!((config.limits.running, config.limits.queued, config.listen.port()), (7, 4, 9));
        assert_eq!(config.origins["limits.running"], Origin::Env("ANNALS_LIMITS_RUNNING".into()));
        assert_eq!(config.origins["limits.queued"], Origin::File(path.clone()));
        let mut config = config;
        config.from_flag("listen");
        let shown = config.show();
        assert!(shown.contains("listen = \"127.0.0.1:9\"  # flag\n"), "{shown}");
        assert!(shown.contains("limits.running = 7  # environment ANNALS_LIMITS_RUNNING\n"), "{shown}");
        assert!(shown.contains(&format!("limits.queued = 4  # file {}\n", path.display())), "{shown}");
        assert!(shown.contains("limits.connections = 2048  # default\n"), "{shown}");
        assert_eq!(config.given().len(), 3);
    }

    #[test]
    fn unknown_settings_and_bad_values_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("annals.toml");
        std::fs::write(&path, "lisen = \"127.0.0.1:9\"\n").unwrap();
        assert!(matches!(Config::layered(Some(&path), |_| None), Err(ConfigError::Syntax { .. })));
        let bad = Config::layered(None, |n| (n == "ANNALS_LIMITS_RUNNING").then(|| "many".into()));
        assert!(matches!(bad, Err(ConfigError::Value { .. })));
    }

    #[test]
    fn an_open_address_needs_tokens_and_tls() {
        let mut c = Config { listen: "0.0.0.0:1".parse().unwrap(), ..Config::default() };
        assert!(matches!(c.check(), Err(ConfigError::OpenToAll(_))));
        c.token_file = Some("t".into());
        assert!(matches!(c.check(), Err(ConfigError::InTheClear(_))));
        c.behind_proxy = true;
        assert!(c.check().is_ok());
    }

    #[test]
    fn only_our_own_names_are_hosts() {
        let c = Config { hosts: vec!["db.example".into()], ..Config::default() };
        for ok in ["localhost:7407", "127.0.0.1", "[::1]:7407", "db.example:443", "DB.example"] {
            assert!(c.knows_host(ok), "{ok}");
        }
        for bad in ["evil.example", "localhost.evil.example", "10.0.0.1", ""] {
            assert!(!c.knows_host(bad), "{bad}");
        }
    }
}
