//! `annals serve`: its settings, its health, and serving itself.

use crate::{
    fail::{Exit, Failure, Outcome},
    session::{Access, name_of, open},
};
use annals::Diagnostic;
use annals_server::{Config, ConfigError, ServeError, config::Origin};
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    time::Duration,
};

/// The flags of `annals serve`.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// Address.
    pub listen: Option<SocketAddr>,
    /// Hashed tokens.
    pub token_file: Option<PathBuf>,
    /// TOML settings.
    pub config: Option<PathBuf>,
    /// Certificate chain.
    pub tls_cert: Option<PathBuf>,
    /// Private key.
    pub tls_key: Option<PathBuf>,
    /// A proxy does TLS.
    pub behind_proxy: bool,
    /// No writes.
    pub read_only: bool,
}

/// The settings: file, environment, flags, the later over the earlier. Checked.
fn config(flags: &Flags) -> Outcome<Config> {
    let mut config = Config::load(flags.config.as_deref()).map_err(|e| wrong(&e))?;
    if let Some(listen) = flags.listen {
        config.listen = listen;
        config.from_flag("listen");
    }
    for (name, given, setting) in [
        ("token_file", &flags.token_file, &mut config.token_file),
        ("tls_cert", &flags.tls_cert, &mut config.tls_cert),
        ("tls_key", &flags.tls_key, &mut config.tls_key),
    ] {
        if given.is_some() {
            setting.clone_from(given);
            config.origins.insert(name.to_owned(), Origin::Flag);
        }
    }
    for (name, given) in [("behind_proxy", flags.behind_proxy), ("read_only", flags.read_only)] {
        if given {
            config.from_flag(name);
        }
    }
    config.behind_proxy |= flags.behind_proxy;
    config.read_only |= flags.read_only;
    config.check().map_err(|e| wrong(&e))?;
    Ok(config)
}

/// `annals serve --show-config`: every setting with its value and origin, as TOML. A configuration
/// that could not be served is refused here too.
pub fn show_config(flags: &Flags) -> Outcome {
    let config = config(flags)?;
    std::io::stdout().lock().write_all(config.show().as_bytes())?;
    Ok(())
}

/// How long a server may take to say that it lives.
const PROBE: Duration = Duration::from_secs(2);

/// `annals serve --probe`: is there a server at the address of these settings, and does it live? For
/// containers, which have no other program to ask with.
pub fn probe(flags: &Flags) -> Outcome {
    let config = Config::load(flags.config.as_deref()).map_err(|e| wrong(&e))?;
    let mut address = flags.listen.unwrap_or(config.listen);
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let not = |why: String| Failure::refused("serve/not-healthy", format!("{address} {why}"));
    if flags.tls_cert.is_some() || config.tls_cert.is_some() {
        return Err(Failure::usage("--probe speaks plain HTTP").help("ask https://…/health with curl"));
    }
    let asked = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, PROBE)?;
        stream.set_read_timeout(Some(PROBE))?;
        stream.set_write_timeout(Some(PROBE))?;
        write!(stream, "GET /health HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        // The status line is all that matters, and all that is waited for.
        stream.take(1 << 10).read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = asked().map_err(|e| not(format!("does not answer: {e}")))?;
    match answer.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => Err(not(format!("answers {}", answer.lines().next().unwrap_or("nothing")))),
    }
}

/// Serves until a signal.
pub fn run(dbs: &[PathBuf], flags: &Flags) -> Outcome {
    // Before anything is opened: a usage error leaves no trace.
    let config = config(flags)?;
    let mut open_dbs = Vec::new();
    for path in dbs {
        let name = name_of(path);
        if open_dbs.iter().any(|(n, _)| *n == name) {
            return Err(Failure::usage(format!("two databases are called {name}"))
                .help("the folder's name is the database's name in URLs"));
        }
        let access = if config.read_only { Access::Read } else { Access::Create };
        open_dbs.push((name, open(path, access)?));
    }
    annals_server::run(config, open_dbs).map_err(|e| match &e {
        ServeError::Config(c) => wrong(c),
        _ => Failure::new(Exit::Refused, Diagnostic::new("serve/listen", e.to_string())),
    })
}

fn wrong(e: &ConfigError) -> Failure {
    Failure::new(Exit::Usage, Diagnostic::new("serve/config", e.to_string()))
}
