//! `Expect: 100-continue`: decides before the client sends the body.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_http::body::BoxBody;
use actix_http::error::PayloadError;
use actix_http::{BoxedPayloadStream, Payload, Request, Response};
use actix_service::Service;
use actix_web::dev::ServiceResponse;
use actix_web::web::Bytes;
use futures_util::Stream;
use futures_util::future::{Either, select};

/// Calls `routes` with a body that never arrives, so that their own rules can refuse the request.
/// Returns the request if they want to read the body.
///
/// # Errors
/// The final response, if they respond without the body.
pub(super) async fn ask<S>(routes: &S, request: Request) -> Result<Request, Response<BoxBody>>
where
    S: Service<Request, Response = ServiceResponse, Error = actix_web::Error>,
{
    let body = Unsent::default();
    let is_wanted = Rc::clone(&body.is_wanted);
    let mut question = Request::with_payload(Payload::Stream {
        payload: Box::pin(body) as BoxedPayloadStream,
    });
    *question.head_mut() = request.head().clone();
    // The response future is polled first, and that poll is what sets `is_wanted`.
    let answer = pin!(routes.call(question));
    let wanted = poll_fn(|_| {
        if is_wanted.get() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    match select(answer, wanted).await {
        Either::Left((Ok(answer), _)) => Err(answer.into_parts().1.into()),
        Either::Left((Err(error), _)) => Err(error.into()),
        Either::Right(_) => Ok(request),
    }
}

/// A body that never arrives, and records if it was polled.
#[derive(Default)]
struct Unsent {
    is_wanted: Rc<Cell<bool>>,
}

impl Stream for Unsent {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.is_wanted.set(true);
        Poll::Pending
    }
}
