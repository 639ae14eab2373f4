//! The client's end of a connection, as handlers see it. A client that sends nothing more may still
//! read: what it asked for is answered, and only what is held for it ends.

use std::cell::Cell;
use std::rc::Rc;

use actix_web::HttpRequest;
use tokio::sync::Notify;

/// Signals to the handlers of one connection that its client has closed its half of it; clones
/// share the signal.
#[derive(Clone, Debug, Default)]
pub struct ClientEnd(Rc<Signal>);

#[derive(Debug, Default)]
struct Signal {
    has_come: Cell<bool>,
    is_ahead: Cell<bool>,
    notify: Notify,
}

impl ClientEnd {
    /// The signal of the connection of `request`; one that never fires if the server has not set
    /// one.
    pub fn of(request: &HttpRequest) -> Self {
        request.conn_data::<Self>().cloned().unwrap_or_default()
    }

    /// Signals that the client has sent its last byte.
    pub fn tell(&self) {
        self.0.has_come.set(true);
        self.0.notify.notify_waiters();
    }

    /// Records if the client has sent more than the current request.
    pub fn set_ahead(&self, is_ahead: bool) {
        self.0.is_ahead.set(is_ahead);
    }

    /// True if the client has sent more than the current request.
    pub fn is_ahead(&self) -> bool {
        self.0.is_ahead.get()
    }

    /// True if the client has sent its last byte.
    pub fn has_come(&self) -> bool {
        self.0.has_come.get()
    }

    /// Waits until the client has sent its last byte.
    pub async fn come(&self) {
        while !self.has_come() {
            self.0.notify.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn all_who_wait_hear_of_the_end() {
        let end = ClientEnd::default();
        let copy = end.clone();
        let waiting = async { tokio::join!(copy.come(), copy.come()) };
        let telling = async {
            tokio::task::yield_now().await;
            end.tell();
        };
        let all = async { tokio::join!(waiting, telling, copy.come()) };
        tokio::time::timeout(Duration::from_secs(20), all)
            .await
            .unwrap();
        assert!(end.has_come());
        end.come().await;
    }
}
