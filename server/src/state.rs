//! What all requests share: databases, tokens, pools, counters, the phase of life.
//!
//! 1. A database is known by its name and nothing else; no path comes from a request.
//! 2. `basis` of a database moves after its commit is durable, and wakes whoever waits.
//! 3. From [`Phase::Draining`] on `/ready` says 503 and new work is refused, while
//!    what runs goes on; from [`Phase::Stopped`] on streams end.

use crate::{
    blocking::Pool,
    config::{Config, ConfigError, Limits},
    idempotency::Keys,
    metrics::Metrics,
    prepared::Prepared,
    routes::timeline::Density,
    token::{Denied, Principal, RELOAD_EVERY, Scope, TokenFile, Tokens},
    wire::problem::{Class, Problem},
};
use annals::{
    Connection, T,
    event::{ProcessRunner, Runner},
};
use parking_lot::{Mutex, RwLock};
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};
use tokio::sync::{Notify, Semaphore, watch};

/// Where the server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Answering.
    Ready,
    /// Told to stop: not ready, finishing.
    Draining,
    /// Streams end, connections close.
    Stopped,
}

/// One database being served.
pub struct Database {
    /// The name in URLs.
    pub name: String,
    /// The database itself.
    pub conn: Connection,
    /// Newest durable transaction, as the watcher saw it.
    pub basis: watch::Receiver<T>,
    /// Keys of requests that may be sent again.
    pub keys: Keys,
    /// Transactions over time, for the console.
    pub density: Mutex<Density>,
    /// Projections, accepted commands, process managers, timers. None when read-only, or stopped.
    background: Mutex<Option<Background>>,
}

impl Database {
    /// Ends what works in the background, then closes the database.
    pub fn close(&self) {
        drop(self.background.lock().take());
        self.conn.close();
    }

    /// Waits until the database has reached `min_t`, as long as `wait` allows.
    pub async fn reach(&self, min_t: Option<u64>, wait: Duration) -> Result<(), Problem> {
        let Some(min_t) = min_t else { return Ok(()) };
        if self.conn.db().t() >= T(min_t) {
            return Ok(());
        }
        let mut basis = self.basis.clone();
        let reached = async { basis.wait_for(|t| *t >= T(min_t)).await.is_ok() };
        if tokio::time::timeout(wait, reached).await.unwrap_or(false) {
            return Ok(());
        }
        Err(Problem::new(
            Class::Unavailable,
            "basis/behind",
            format!("the database has not reached t {min_t} in time"),
        )
        .with("basis-t", self.conn.db().t().0)
        .with("min-t", min_t))
    }
}

/// Everything behind the router.
pub struct Server {
    /// As given.
    pub config: Config,
    /// Its limits, shared with the listener.
    pub limits: Arc<Limits>,
    /// Queries and other reads.
    pub readers: Pool,
    /// Transactions and appends: many at once, because they share a sync.
    pub writers: Pool,
    /// Places for server-sent event streams.
    pub subscriptions: Arc<Semaphore>,
    /// Counters.
    pub metrics: Metrics,
    /// Queries kept ready.
    pub prepared: Prepared,
    /// Where spans go, when a collector is configured. Set when serving begins.
    #[cfg(feature = "otel")]
    pub traces: std::sync::OnceLock<crate::otel::Exporter>,
    databases: RwLock<BTreeMap<String, Arc<Database>>>,
    tokens: RwLock<Option<Tokens>>,
    failures: Mutex<HashMap<IpAddr, (Instant, u32)>>,
    phase: watch::Sender<Phase>,
    reload: Notify,
}

/// Writers at a time; a group commit carries all that wait.
const WRITERS: usize = 256;
/// Addresses whose failures are remembered at a time.
const FAILURE_ADDRESSES: usize = 4_096;

/// Is this a name a database may be served under?
pub fn valid_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    (1..=63).contains(&bytes.len())
        && (bytes[0].is_ascii_lowercase() || bytes[0].is_ascii_digit())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_' || *b == b'-')
}

impl Server {
    /// A server over these databases. Reads the token file.
    pub fn new(config: Config, databases: Vec<(String, Connection)>) -> Result<Arc<Server>, ConfigError> {
        let tokens = match &config.token_file {
            None => None,
            Some(path) => Some(Tokens::read(path).map_err(|e| ConfigError::File {
                what: "token file",
                path: path.clone(),
                message: e.to_string(),
            })?),
        };
        let mut named = BTreeMap::new();
        for (name, conn) in databases {
            if !valid_name(&name) {
                return Err(ConfigError::Value {
                    name: "database".into(),
                    message: format!(
                        "{name:?} cannot be a database's name: use a-z, 0-9, - and _, at most 63, and begin with a letter or digit"
                    ),
                });
            }
            let database = Arc::new(watched(name.clone(), conn, config.read_only));
            if named.insert(name.clone(), database).is_some() {
                return Err(ConfigError::Value {
                    name: "database".into(),
                    message: format!("two databases would be called {name:?}"),
                });
            }
        }
        let limits = Arc::new(config.limits.clone());
        let wait = Duration::from_millis(limits.queue_wait_ms);
        Ok(Arc::new(Server {
            readers: Pool::new(limits.running, limits.queued, wait),
            writers: Pool::new(WRITERS, limits.queued.max(WRITERS), wait),
            subscriptions: Arc::new(Semaphore::new(limits.subscriptions)),
            metrics: Metrics::default(),
            prepared: Prepared::default(),
            #[cfg(feature = "otel")]
            traces: std::sync::OnceLock::new(),
            databases: RwLock::new(named),
            tokens: RwLock::new(tokens),
            failures: Mutex::default(),
            phase: watch::Sender::new(Phase::Ready),
            reload: Notify::new(),
            limits,
            config,
        }))
    }

    /// The databases, in order of name.
    pub fn databases(&self) -> Vec<Arc<Database>> {
        self.databases.read().values().cloned().collect()
    }

    /// May this principal make a database of this name, and is the name free?
    pub fn may_create(&self, who: &Principal, name: &str) -> Result<(), Problem> {
        if !valid_name(name) {
            return Err(bad_name());
        }
        if !who.sees(name) || !who.has(Scope::Admin) {
            return Err(Problem::new(
                Class::Forbidden,
                "access/scope",
                "this needs a token with scope admin on the new database's name",
            ));
        }
        match self.databases.read().contains_key(name) {
            false => Ok(()),
            true => Err(taken()),
        }
    }

    /// Serves one more database from now on.
    pub fn serve_also(&self, name: &str, conn: Connection) -> Result<(), Problem> {
        let mut databases = self.databases.write();
        if databases.contains_key(name) {
            return Err(taken());
        }
        let database = watched(name.to_owned(), conn, self.config.read_only);
        databases.insert(name.to_owned(), Arc::new(database));
        Ok(())
    }

    /// The database of this name, if the principal may know of it and do this with it.
    pub fn database(&self, who: &Principal, name: &str, scope: Scope) -> Result<Arc<Database>, Problem> {
        if !valid_name(name) {
            return Err(bad_name());
        }
        let found = self.databases.read().get(name).cloned();
        let database = found.filter(|_| who.sees(name)).ok_or_else(|| {
            Problem::new(Class::NotFound, "request/no-database", format!("no database {name:?}"))
                .hint("GET /v1/db lists the databases you may know of")
        })?;
        self.permit(who, scope)?;
        Ok(database)
    }

    /// Refuses a principal without the scope.
    pub fn permit(&self, who: &Principal, scope: Scope) -> Result<(), Problem> {
        if !who.has(scope) {
            self.metrics.denied.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            tracing::warn!(principal = %who.name, %scope, "denied: scope missing");
            return Err(Problem::new(
                Class::Forbidden,
                "access/scope",
                format!("this needs a token with scope {scope}"),
            )
            .with("scope", scope.to_string()));
        }
        if self.config.read_only && matches!(scope, Scope::Write | Scope::Schema) {
            return Err(Problem::new(
                Class::Forbidden,
                "access/read-only",
                "this server was started read-only",
            ));
        }
        Ok(())
    }

    /// Who asks, by the `Authorization` header.
    pub fn principal(&self, peer: Option<IpAddr>, authorization: Option<&str>) -> Result<Principal, Problem> {
        let tokens = self.tokens.read();
        let Some(tokens) = tokens.as_ref() else { return Ok(Principal::local()) };
        tokens.principal(authorization).map_err(|denied| {
            self.metrics.denied.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if let (Some(peer), Denied::Invalid) = (peer, denied) {
                // A valid token is never refused for what others do from the same address:
                // behind a proxy all addresses are one.
                if self.failing_too_often(peer) {
                    return Problem::new(
                        Class::TooMany,
                        "access/too-many-failures",
                        "too many failed attempts from this address",
                    )
                    .with("limit_per_minute", self.limits.failed_auth_per_minute);
                }
                self.note_failure(peer);
            }
            tracing::warn!(?denied, peer = ?peer, "denied: no valid token");
            Problem::new(Class::Unauthenticated, "access/token", "a valid token is needed")
                .hint("send Authorization: Bearer annals_…; `annals token create` makes one")
        })
    }

    fn failing_too_often(&self, peer: IpAddr) -> bool {
        let failures = self.failures.lock();
        failures.get(&peer).is_some_and(|(since, n)| {
            since.elapsed() < Duration::from_secs(60) && *n >= self.limits.failed_auth_per_minute
        })
    }

    fn note_failure(&self, peer: IpAddr) {
        let mut failures = self.failures.lock();
        if failures.len() >= FAILURE_ADDRESSES {
            failures.retain(|_, (since, _)| since.elapsed() < Duration::from_secs(60));
        }
        let entry = failures.entry(peer).or_insert((Instant::now(), 0));
        if entry.0.elapsed() >= Duration::from_secs(60) {
            *entry = (Instant::now(), 0);
        }
        entry.1 += 1;
    }

    /// Are tokens asked for at all?
    pub fn open_to_all(&self) -> bool {
        self.tokens.read().is_none()
    }

    /// The phase, and how to wait for its change.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Moves on in life; never back.
    pub fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let later = phase > *now;
            if later {
                *now = phase;
            }
            later
        });
    }

    /// Asks for certificate, key and tokens to be read again, as SIGHUP does.
    pub fn reload(&self) {
        self.reload.notify_one();
    }

    /// Done when [`Server::reload`] was called.
    pub async fn told_to_reload(&self) {
        self.reload.notified().await;
    }

    /// Reads the token file again, if there is one.
    /// An unreadable file locks everyone out rather than keeping what was revoked.
    pub fn reload_tokens(&self) {
        let Some(path) = &self.config.token_file else { return };
        let read = Tokens::read(path).unwrap_or_else(|e| {
            tracing::error!(error = %e, "the token file cannot be read: nobody is let in until it can");
            Tokens::default()
        });
        *self.tokens.write() = Some(read);
    }

    /// Re-reads the token file whenever it changes, for as long as the server lives.
    pub fn watch_tokens(self: &Arc<Server>) {
        let Some(path) = self.config.token_file.clone() else { return };
        let server: Weak<Server> = Arc::downgrade(self);
        tokio::spawn(async move {
            let file = TokenFile::new(&path);
            let mut seen = file.stamp();
            loop {
                tokio::time::sleep(RELOAD_EVERY).await;
                let Some(server) = server.upgrade() else { return };
                let stamp = file.stamp();
                if stamp == seen && stamp.is_some() {
                    continue;
                }
                seen = stamp;
                server.reload_tokens();
            }
        });
    }
}

fn bad_name() -> Problem {
    Problem::new(Class::Syntax, "request/database-name", "this cannot be a database's name")
        .hint("names are made of a-z, 0-9, - and _, at most 63")
}

fn taken() -> Problem {
    Problem::new(Class::Conflict, "server/name-taken", "there is something under this name already")
        .hint("choose another name")
}

/// What works on a database beside its requests; ends when dropped.
struct Background {
    _processes: ProcessRunner,
    _projections: Option<Runner>,
}

impl Background {
    fn of(name: &str, conn: &Connection) -> Background {
        let projections = conn.run_projections().map_err(|e| {
            tracing::error!(error = %e, database = %name, "no thread for projections: async ones will not move");
        });
        Background { _processes: conn.run_processes(), _projections: projections.ok() }
    }
}

/// A database with a thread that turns its reports into a moving basis.
fn watched(name: String, conn: Connection, read_only: bool) -> Database {
    let background = (!read_only).then(|| Background::of(&name, &conn));
    let (sender, basis) = watch::channel(conn.db().t());
    let mut reports = conn.listen();
    let thread = std::thread::Builder::new().name(format!("basis-{name}"));
    let spawned = thread.spawn(move || {
        loop {
            match reports.next() {
                Some(Ok(report)) => drop(sender.send_replace(report.t())),
                // Closed: nothing will move any more.
                None => return,
                Some(Err(e)) => {
                    tracing::error!(error = %e, "the log cannot be followed: live answers stand still");
                    return;
                }
            }
        }
    });
    if let Err(e) = spawned {
        tracing::error!(error = %e, database = %name, "no thread to watch the basis: live answers will stand still");
    }
    Database {
        name,
        conn,
        basis,
        keys: Keys::default(),
        density: Mutex::default(),
        background: Mutex::new(background),
    }
}
