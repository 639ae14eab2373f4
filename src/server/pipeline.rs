//! The order of requests on a connection: the next one is passed on after the previous one is
//! answered, and none after a response that closes the connection.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Waker};

/// The state of a pipeline, shared by the stream that passes requests on and the service that
/// answers them; clones share it.
#[derive(Clone, Default)]
pub(super) struct Pipeline(Rc<State>);

#[derive(Default)]
struct State {
    is_busy: Cell<bool>,
    is_closed: Cell<bool>,
    reader: Cell<Option<Waker>>,
}

impl Pipeline {
    /// Records that a request is passed on.
    pub(super) fn begin(&self) {
        self.0.is_busy.set(true);
    }

    /// Records that the request is answered; `closes`: the response closes the connection.
    pub(super) fn answered(&self, closes: bool) {
        self.0.is_busy.set(false);
        self.0.is_closed.set(closes || self.is_closed());
        if let Some(reader) = self.0.reader.take() {
            reader.wake();
        }
    }

    /// True if a request is waiting for its response.
    pub(super) fn is_busy(&self) -> bool {
        self.0.is_busy.get()
    }

    /// True if the last response closes the connection.
    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed.get()
    }

    /// Wakes the task of `cx` when the request is answered.
    pub(super) fn wake_when_answered(&self, cx: &Context<'_>) {
        self.0.reader.set(Some(cx.waker().clone()));
    }
}
