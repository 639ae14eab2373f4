//! Messages from other threads to the thread of the poll loop.

use std::{
    io, mem,
    net::{IpAddr, TcpStream},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use mio::{Poll, Token, Waker};
use tokio::sync::oneshot;

use super::{Done, offload::Reply};
use crate::hub::{Notifier, Slot};

/// The poll token of the inbox; the tokens of connections are their slots in the table.
pub(super) const INBOX: Token = Token(usize::MAX);

/// An accepted connection for the poll loop.
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) peer: Option<IpAddr>,
    pub(super) read: Vec<u8>,
    pub(super) done: oneshot::Sender<Done>,
}

/// The messages since the last look.
#[derive(Default)]
pub(super) struct Mail {
    pub(super) accepted: Vec<Accepted>,
    /// Slots whose polls may have a reply.
    pub(super) ready: Vec<Slot>,
    pub(super) replies: Vec<Reply>,
    /// The server shuts down: connections close when they have no request to answer.
    pub(super) ending: bool,
    /// The last handle of the poll loop was dropped.
    pub(super) stopped: bool,
    /// True if a message was added since the last look.
    is_new: bool,
}

/// A mailbox with a waker; see the module.
pub(super) struct Inbox {
    mail: Mutex<Mail>,
    /// True if the thread will look without being woken: it is awake, or was woken already.
    will_look: AtomicBool,
    waker: Waker,
}

impl Inbox {
    pub(super) fn new(poll: &Poll) -> io::Result<Inbox> {
        Ok(Inbox {
            mail: Mutex::default(),
            will_look: AtomicBool::new(false),
            waker: Waker::new(poll.registry(), INBOX)?,
        })
    }

    /// Called before the thread waits for its sockets: from now on it must be woken. `false` if
    /// there are messages already.
    pub(super) fn doze(&self) -> bool {
        self.will_look.store(false, SeqCst);
        let is_new = self.lock().is_new;
        if is_new {
            self.stay_awake();
        }
        !is_new
    }

    /// Called when the thread runs: it looks before it waits again, so new messages need no
    /// wake-up.
    pub(super) fn stay_awake(&self) {
        self.will_look.store(true, SeqCst);
    }

    /// Takes the messages, in exchange for an empty mailbox whose buffers are reused.
    pub(super) fn look(&self, mail: &mut Mail) {
        let mut kept = self.lock();
        (mail.ending, mail.stopped, mail.is_new) = (kept.ending, kept.stopped, false);
        mem::swap(mail, &mut kept);
    }

    pub(super) fn enter(&self, accepted: Accepted) {
        self.tell(|mail| mail.accepted.push(accepted));
    }

    pub(super) fn report(&self, reply: Reply) {
        self.tell(|mail| mail.replies.push(reply));
    }

    pub(super) fn end(&self) {
        self.tell(|mail| mail.ending = true);
    }

    pub(super) fn stop(&self) {
        self.tell(|mail| mail.stopped = true);
    }

    fn tell(&self, put: impl FnOnce(&mut Mail)) {
        let mut mail = self.lock();
        put(&mut mail);
        mail.is_new = true;
        drop(mail);
        if !self.will_look.swap(true, SeqCst)
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "the poll loop could not be woken");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        // No code under the lock panics in the middle of a change.
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notifier for Inbox {
    fn notify(&self, slots: &[Slot]) {
        self.tell(|mail| mail.ready.extend_from_slice(slots));
    }
}
