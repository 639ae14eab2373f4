//! The HTTP server: routes, limits, graceful shutdown.

use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use actix_web::dev::Server;
use tokio::net::TcpSocket;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::App;
use crate::metrics::Metrics;
use crate::transport::{Bounds, Wire};

mod acceptor;
mod access;
mod authorization_cache;
mod canonical;
mod descriptors;
mod expectation;
mod pipeline;
mod request_stream;
mod spin_guard;

/// The time that running releases have to stop at shutdown.
const RELEASES_PATIENCE: Duration = Duration::from_secs(15);
/// The time that responses have to be written at shutdown, in seconds.
const SHUTDOWN_SECONDS: u64 = 10;
/// The most connections that wait to be accepted: many pollers may reconnect at once.
const BACKLOG: u32 = 4096;

/// A server that is bound to its port and does not respond yet.
pub struct Bound {
    app: App,
    metrics: Metrics,
    server: Server,
    address: SocketAddr,
}

/// Binds the address. Port 0 means any free port.
///
/// # Errors
/// The address cannot be bound, or the system refuses a socket or a thread.
pub fn bind(app: App, listen: SocketAddr) -> io::Result<Bound> {
    let settings = app.settings();
    let connections = descriptors::raise(settings.connections as usize);
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let wire = Wire::new(
        app.hub().clone(),
        Arc::new(access::AppAccess::new(app.clone())),
    )
    .bounded(Bounds {
        content: settings.message_bytes as usize,
        body_time: Duration::from_secs(settings.body_seconds),
    });
    let builder = Server::build()
        .workers(workers)
        .max_concurrent_connections(connections.div_ceil(workers))
        .backlog(BACKLOG)
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .disable_signals();
    let ended = builder.graceful_shutdown_signal();
    let listener = listener(listen)?;
    let address = listener.local_addr()?;
    let metrics = Metrics::new(app.clone(), Arc::clone(wire.traffic()));
    let site = acceptor::Site {
        app: app.clone(),
        wire,
        metrics: metrics.clone(),
        address,
    };
    let builder = builder.listen("longshore", listener, move || {
        let ended = ended.clone();
        let ended = move || {
            let ended = ended.clone();
            async move { ended.notified().await }
        };
        acceptor::service(site.clone(), ended)
    })?;
    Ok(Bound {
        app,
        metrics,
        server: builder.run(),
        address,
    })
}

fn listener(listen: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = match listen {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restarted server can bind its port while old connections on it are still closing.
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    socket.listen(BACKLOG)?.into_std()
}

impl Bound {
    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves requests and runs releases until SIGTERM or SIGINT. Then parked polls are answered,
    /// running releases are stopped, and responses in progress are finished.
    ///
    /// # Errors
    /// The release engine cannot start, the signal handlers cannot be installed, or the server
    /// fails.
    pub async fn run(self) -> io::Result<()> {
        let Self {
            app,
            metrics,
            server,
            ..
        } = self;
        app.engine().start()?;
        let sampling = actix_web::rt::spawn(metrics.keep_history());
        let sweeping = actix_web::rt::spawn(app.clone().sweep());
        let coalescing = app.hub().clone();
        let pacing = actix_web::rt::spawn(async move { coalescing.run_wake_loop().await });
        let telling = actix_web::rt::spawn(app.clone().tell_presence());
        let handle = server.handle();
        let (ending, log) = (app.clone(), app.store().clone());
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        actix_web::rt::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("ending");
            ending.hub().drain();
            let engine = ending.engine().clone();
            let stopped = tokio::task::spawn_blocking(move || engine.stop(RELEASES_PATIENCE)).await;
            if !matches!(stopped, Ok(true)) {
                tracing::warn!(
                    "a release did not stop in time; it is interrupted at the next start"
                );
            }
            ending.hub().end();
            handle.stop(true).await;
        });
        let result = server.await;
        sweeping.abort();
        sampling.abort();
        telling.abort();
        pacing.abort();
        match tokio::task::spawn_blocking(move || log.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the log could not be closed"),
            Err(error) => tracing::error!(%error, "the log could not be closed"),
        }
        result
    }
}
