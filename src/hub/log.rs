//! The durable log as the hub sees it. The store keeps it; the app wires the two.

use super::{message::Message, room::RoomName};

/// The durable log of all messages. Its calls may block: the hub makes them on the blocking pool only,
/// and never under its lock.
pub trait Log: Send + Sync + 'static {
    /// The messages of `rooms` with numbers in `after < number <= up_to`, oldest first, cut at `limit`.
    ///
    /// Everything up to the hub's head is committed before it is published, so a plain read sees it.
    ///
    /// # Errors
    /// [`LogError`] where the log cannot be read; the poll is then answered 503.
    fn read(
        &self,
        rooms: &[RoomName],
        after: u64,
        up_to: u64,
        limit: Limit,
    ) -> Result<Page, LogError>;

    /// For each of `rooms`, in their order, the number up to which retention has dropped messages of
    /// it; 0 where it never did. Durable, and committed together with the deletion. The hub asks after
    /// it has read, so that a deletion in between is told as a gap and never passed over.
    ///
    /// # Errors
    /// [`LogError`] where the log cannot be read.
    fn marks(&self, rooms: &[RoomName]) -> Result<Vec<u64>, LogError>;
}

/// Where a reply or a page ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The most messages.
    pub messages: usize,
    /// The most bytes, encoded; a log may count the data's bytes alone. One message always goes.
    pub bytes: usize,
}

/// A piece of the log.
#[derive(Debug, Default)]
pub struct Page {
    /// Oldest first. Never empty while `end` is false.
    pub messages: Vec<Message>,
    /// Nothing more is there up to the number that was asked for.
    pub end: bool,
}

/// The log could not be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the message log cannot be read: {0}")]
pub struct LogError(pub String);
