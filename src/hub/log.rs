//! The durable log as the hub uses it. The store keeps it; the app connects the two.

use super::{message::Message, room::RoomName};

/// The durable log of all messages. Its calls may block: the hub makes them on the blocking pool only
/// and never under its lock.
pub trait Log: Send + Sync + 'static {
    /// Reads the messages of `rooms` with numbers in `after < number <= up_to`, oldest first, cut at
    /// `limit`.
    ///
    /// Everything up to the hub's head is committed before it is published, so a plain read sees it.
    ///
    /// # Errors
    /// [`LogError`] if the log cannot be read; the poll is then answered 503.
    fn read(
        &self,
        rooms: &[RoomName],
        after: u64,
        up_to: u64,
        limit: Limit,
    ) -> Result<Page, LogError>;

    /// For each of `rooms`, in their order, the number up to which retention has dropped messages of
    /// it; 0 if it never did. Durable, and committed together with the deletion. The hub reads these
    /// after the messages, so that a deletion in between is reported as a gap and never missed.
    ///
    /// # Errors
    /// [`LogError`] if the log cannot be read.
    fn trimmed_through(&self, rooms: &[RoomName]) -> Result<Vec<u64>, LogError>;
}

/// The bounds of a reply or a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The maximum number of messages.
    pub messages: usize,
    /// The maximum number of encoded bytes; a log may count the bytes of the data alone. One message
    /// always fits.
    pub bytes: usize,
}

/// A part of the log.
#[derive(Debug, Default)]
pub struct Page {
    /// Oldest first. Never empty while `end` is false.
    pub messages: Vec<Message>,
    /// True if there is nothing more up to the requested number.
    pub end: bool,
}

/// The log could not be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the message log cannot be read: {0}")]
pub struct LogError(pub String);
