//! Starting, serving, stopping.
//!
//! 1. The configuration is checked before anything is opened to anyone.
//! 2. At the first SIGTERM or SIGINT `/ready` turns 503 and new work is refused,
//!    while what runs may finish; then connections close. At the second the
//!    process ends at once.
//! 3. All of that takes less than `shutdown_ms`.
//! 4. At SIGHUP certificate, key and tokens are read again; connections stay.

use crate::{
    Server,
    config::{Config, ConfigError, LogFormat},
    listen, router,
    state::Phase,
};
use annals::Connection;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// How long `/ready` says 503 before the listener closes, so that a balancer can look.
const DRAIN: Duration = Duration::from_millis(700);

/// Why serving could not begin, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The configuration does not hold together.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The runtime could not start.
    #[error("cannot start: {0}")]
    Runtime(#[from] io::Error),
}

/// Serves databases under their names until told to stop by a signal. Blocks.
pub fn run(config: Config, databases: Vec<(String, Connection)>) -> Result<(), ServeError> {
    config.check()?;
    log_to_stderr(config.log_format);
    for (name, value, origin) in config.given() {
        tracing::info!(%name, %value, %origin, "setting");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("annals-http")
        .max_blocking_threads(512)
        .build()?;
    runtime.block_on(async {
        let address = config.listen;
        let server = Server::new(config, databases)?;
        let listener =
            TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })?;
        tokio::spawn(hangups(server.clone()));
        serve(server, listener, stop_signal()).await
    })?;
    // Blocking threads may still be in the engine; their budgets end them.
    runtime.shutdown_timeout(Duration::from_millis(500));
    Ok(())
}

/// Serves on `listener` until `stop` is done, then finishes what runs.
pub async fn serve(
    server: Arc<Server>,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let tls = listen::Tls::read(&server.config)?.map(Arc::new);
    server.watch_tokens();
    #[cfg(feature = "otel")]
    if let Some(endpoint) = &server.config.otlp_endpoint {
        let service = std::env::var("OTEL_SERVICE_NAME").unwrap_or_else(|_| "annals".into());
        let _ = server.traces.set(crate::otel::Exporter::start(endpoint, &service)?);
    }
    let (close, closing) = watch::channel(false);
    let address = listener.local_addr()?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    tracing::info!(%address, console = %format!("{scheme}://{address}/"), "serving");
    let limits = server.limits.clone();
    let accepting =
        tokio::spawn(listen::accept(listener, tls.clone(), router(server.clone()), limits.clone(), closing));
    let reloading = tokio::spawn(reload_when_told(server.clone(), tls));

    stop.await;
    tracing::info!("stopping");
    server.enter(Phase::Draining);
    let deadline = tokio::time::Instant::now() + Duration::from_millis(limits.shutdown_ms);
    tokio::time::sleep(DRAIN.min(Duration::from_millis(limits.shutdown_ms / 4))).await;
    server.enter(Phase::Stopped);
    let _ = close.send(true);
    if tokio::time::timeout_at(deadline, accepting).await.is_err() {
        tracing::warn!("some connections were still open at the end");
    }
    reloading.abort();
    for database in server.databases() {
        database.close();
    }
    tracing::info!("stopped");
    Ok(())
}

/// Reads certificate, key and tokens again whenever [`Server::reload`] asks for it.
async fn reload_when_told(server: Arc<Server>, tls: Option<Arc<listen::Tls>>) {
    loop {
        server.told_to_reload().await;
        server.reload_tokens();
        match tls.as_ref().map_or(Ok(()), |tls| tls.reload(&server.config)) {
            Ok(()) => tracing::info!("reloaded tokens and certificates"),
            Err(e) => tracing::error!(error = %e, "the old certificate stays in use"),
        }
    }
}

/// Every SIGHUP is a request to reload.
async fn hangups(server: Arc<Server>) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    while hangup.recv().await.is_some() {
        server.reload();
    }
}

/// Done at the first SIGTERM or SIGINT; at the second one the process ends.
async fn stop_signal() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("no signal handlers: stop by SIGKILL");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        std::process::exit(143);
    });
}

fn log_to_stderr(format: LogFormat) {
    use tracing_subscriber::{EnvFilter, fmt};
    let filter = EnvFilter::try_from_env("ANNALS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let base = fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&io::stderr()));
    // A subscriber may be set already by a program that embeds us; then its is used.
    let _ = match format {
        LogFormat::Text => base.compact().try_init(),
        LogFormat::Json => base.json().flatten_event(true).try_init(),
    };
}
