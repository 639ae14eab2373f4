//! Accepts connections: one that begins with a poll is served by the poll loop until it sends
//! another kind of request; all others are served by the routes.

use std::{future::ready, io, net::SocketAddr, rc::Rc, time::Duration};

use actix_http::body::BoxBody;
use actix_http::{HttpMessage as _, HttpService, Request, Response};
use actix_service::{Service, ServiceFactory, apply_fn_factory, fn_factory, fn_service};
use actix_web::body::{BodySize, MessageBody as _};
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::http::{ConnectionType, Version};
use actix_web::web::Data;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::canonical::canonical;
use super::expectation;
use super::pipeline::Pipeline;
use super::request_stream::{HEAD_LIMIT, RequestStream};
use super::spin_guard::{Meter, Metered, unless_spinning};
use crate::app::App;
use crate::http::{FAULT_HEADER, Fault};
use crate::metrics::Metrics;
use crate::transport::poll_loop::{HEAD_BYTES, Left, PollLoop, PollLoopTimes, is_for_poll_loop};
use crate::transport::{ClientEnd, Wire};
use crate::web;

/// The time without progress after which a half-closed connection is closed.
const GONE_LIMIT: Duration = Duration::from_secs(6);
/// The time after which an idle connection is closed; longer than the pause between two polls of a
/// slow client.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// The time after which a connection is closed whose client does not read its response.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// The site that is served, and its address.
#[derive(Clone)]
pub(super) struct Site {
    pub(super) app: App,
    pub(super) wire: Wire,
    pub(super) metrics: Metrics,
    pub(super) address: SocketAddr,
}

/// The service for the connections of one thread. `ended` completes when the server shuts down.
pub(super) fn service<E>(
    site: Site,
    ended: impl Fn() -> E + Clone + 'static,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = (), InitError = ()>
where
    E: Future<Output = ()> + 'static,
{
    fn_factory(move || {
        let poll_loop = PollLoop::start(
            site.wire.clone(),
            PollLoopTimes {
                keep_alive: KEEP_ALIVE,
                write: WRITE_LIMIT,
            },
            ended(),
        );
        let routes = routes(site.clone()).new_service(AppConfig::default());
        let (address, ended) = (site.address, ended.clone());
        async move {
            let poll_loop = poll_loop.map_err(|error| tracing::error!(%error, "no poll loop"))?;
            let routes = Rc::new(routes.await?);
            let asked = Rc::clone(&routes);
            let expect = move |request| whether_to_send(Rc::clone(&asked), request);
            let routes = HttpService::build()
                .graceful_shutdown_signal(ended.clone())
                .keep_alive(KEEP_ALIVE)
                // The request stream enforces the timeout of heads, and responds to late ones.
                .client_request_timeout(Duration::ZERO)
                .h1_allow_half_closed(true)
                .on_connect_ext(|stream: &RequestStream<Metered<TcpStream>>, data| {
                    data.insert(stream.client_end().clone());
                    data.insert(stream.pipeline().clone());
                })
                .local_addr(address)
                .expect(fn_service(expect))
                .h1(fn_factory(move || ready(Ok::<_, ()>(Rc::clone(&routes)))))
                .new_service(());
            let routes = Rc::new(routes.await?);
            Ok(fn_service(move |stream: TcpStream| {
                let (poll_loop, routes, ended) =
                    (poll_loop.clone(), Rc::clone(&routes), ended.clone());
                async move {
                    // Without this (Nagle's algorithm), the last segment of a response waits for
                    // the delayed ACK of the one before.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "TCP_NODELAY");
                    }
                    let first = Box::pin(first_piece(&stream, ended()));
                    let Some(read) = first.await else {
                        return Ok(());
                    };
                    let left = match is_for_poll_loop(&read) {
                        true => poll_loop.serve(stream, read).await,
                        false => Ok(Left::Handed(stream, read)),
                    };
                    match left {
                        Ok(Left::Over) => {}
                        // Boxed, so that a connection parked in the poll loop reserves no space for
                        // it here.
                        Ok(Left::Handed(stream, read)) => {
                            Box::pin(by_the_routes(&*routes, stream, read)).await;
                        }
                        Err(error) => tracing::debug!(%error, "a connection"),
                    }
                    Ok(())
                }
            }))
        }
    })
}

/// The first bytes of the client, if they come in time and before the server shuts down.
async fn first_piece(stream: &TcpStream, ended: impl Future<Output = ()>) -> Option<Vec<u8>> {
    let readable = tokio::time::timeout(HEAD_LIMIT, async {
        loop {
            stream.readable().await.ok()?;
            match piece(stream) {
                Ok(read) if read.is_empty() => return None,
                Ok(read) => return Some(read),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
    });
    tokio::select! {
        read = readable => read.ok().flatten(),
        () = ended => None,
    }
}

/// The available bytes, in an allocation of their size.
fn piece(stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut head = [0; HEAD_BYTES];
    let length = stream.try_read(&mut head)?;
    Ok(head[..length].to_vec())
}

async fn by_the_routes<S, E>(routes: &S, stream: TcpStream, read: Vec<u8>)
where
    S: Service<(RequestStream<Metered<TcpStream>>, Option<SocketAddr>), Response = (), Error = E>,
    E: std::fmt::Display,
{
    let peer = stream.peer_addr().ok();
    // The routes have no timeout of their own for a client that does not read.
    give_up_when_stuck(&stream);
    let meter = Meter::default();
    let stream = RequestStream::new(read, Metered::new(stream, meter.clone()));
    let gone = gone(stream.client_end().clone(), meter.clone());
    let served = unless_spinning(routes.call((stream, peer)), meter);
    tokio::select! {
        served = served => match served {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::debug!(%error, "a connection"),
            None => tracing::warn!(?peer, "a connection sent too far ahead: cut"),
        },
        () = gone => tracing::debug!(?peer, "a client did not wait for its answer"),
    }
}

/// Waits until the client has half-closed its connection, so that it may be gone, and nothing has
/// been written to it for [`GONE_LIMIT`]. Work for it is then cancelled: a command on a server, a
/// check of a server, a fetch.
async fn gone(client_end: ClientEnd, meter: Meter) {
    client_end.come().await;
    let mut moved = None;
    while moved != Some(meter.moved()) {
        moved = Some(meter.moved());
        sleep(GONE_LIMIT).await;
    }
}

fn routes(
    site: Site,
) -> impl ServiceFactory<
    actix_http::Request,
    Config = AppConfig,
    Response = ServiceResponse,
    Error = actix_web::Error,
    InitError = (),
> {
    let app = actix_web::App::new()
        .app_data(Data::new(site.app))
        .app_data(Data::new(site.metrics))
        .configure(move |config| site.wire.routes(config))
        .configure(web::configure);
    apply_fn_factory(app, |request: Request, app| {
        let is_old = request.version() == Version::HTTP_10;
        let pipeline = request.conn_data::<Pipeline>().cloned();
        let answer = app.call(canonical(with_fault(request)));
        async move {
            let mut answer = answer.await;
            if let Ok(answer) = &mut answer
                && is_old
                && answer.response().body().size() == BodySize::Stream
            {
                end_by_close(answer);
            }
            if let Some(pipeline) = pipeline {
                pipeline.answered(answer.as_mut().is_ok_and(|answer| {
                    let head = answer.response_mut().head_mut();
                    // In HTTP/1.0 every response counts as closing; the encoder writes the version
                    // of the request.
                    head.version = Version::HTTP_11;
                    head.connection_type() == ConnectionType::Close
                }));
            }
            answer
        }
    })
}

/// Returns the request if its client should send the body.
async fn whether_to_send<S>(routes: Rc<S>, request: Request) -> Result<Request, Response<BoxBody>>
where
    S: Service<Request, Response = ServiceResponse, Error = actix_web::Error>,
{
    let pipeline = request.conn_data::<Pipeline>().cloned();
    let decided = expectation::ask(&*routes, request).await;
    if let (Err(answer), Some(pipeline)) = (&decided, pipeline) {
        let is_close = answer.head().connection_type() == ConnectionType::Close;
        pipeline.answered(is_close);
    }
    decided
}

/// Moves the fault of a request from its header to its extensions. Only the request stream sets
/// that header; it removes it from client requests.
fn with_fault(mut request: Request) -> Request {
    if let Some(word) = request.head_mut().headers.remove(FAULT_HEADER).next()
        && let Some(fault) = Fault::parse(word.as_bytes())
    {
        request.extensions_mut().insert(fault);
    }
    request
}

/// HTTP/1.0 has no chunked encoding: a response without a length ends with its connection.
fn end_by_close(answer: &mut ServiceResponse) {
    let head = answer.response_mut().head_mut();
    head.no_chunking(true);
    head.set_connection_type(ConnectionType::Close);
}

/// Makes the system close a connection whose peer accepts no data for [`WRITE_LIMIT`].
fn give_up_when_stuck(stream: &TcpStream) {
    let limit = u32::try_from(WRITE_LIMIT.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = set_tcp_user_timeout(stream, limit) {
        tracing::debug!(%error, "TCP_USER_TIMEOUT");
    }
}
