//! The contents of one reply: pure arithmetic over messages in memory.

use std::{iter::Peekable, sync::Arc};

use super::{
    log::{Limit, Page},
    message::Message,
    room::RoomName,
};

/// The messages of one reply.
#[derive(Debug)]
pub(super) struct ReplyPage {
    /// Oldest first.
    pub(super) messages: Vec<Arc<Message>>,
    /// The number in the reply's cursor.
    pub(super) reaches: u64,
    /// True if messages were left out.
    pub(super) more: bool,
}

/// Takes messages from the front as far as they fit, at least one. If all of them fit, the reply
/// reaches `up_to`.
pub(super) fn reply_page<'a>(
    messages: impl Iterator<Item = &'a Arc<Message>>,
    up_to: u64,
    limit: Limit,
) -> ReplyPage {
    let mut reply = ReplyPage {
        messages: Vec::new(),
        reaches: up_to,
        more: false,
    };
    let mut bytes = 0;
    for message in messages {
        // One byte for the comma.
        bytes += message.encoded().len() + 1;
        let full = reply.messages.len() >= limit.messages || bytes > limit.bytes;
        if full && let Some(last) = reply.messages.last() {
            reply.reaches = last.number;
            reply.more = true;
            break;
        }
        reply.messages.push(Arc::clone(message));
    }
    reply
}

/// A page that was read from the log.
pub(super) struct LogPage {
    pub(super) messages: Vec<Arc<Message>>,
    pub(super) end: bool,
}

impl From<Page> for LogPage {
    fn from(page: Page) -> LogPage {
        LogPage {
            messages: page.messages.into_iter().map(Arc::new).collect(),
            end: page.end,
        }
    }
}

/// The contents of a reply from a page of the log and from messages that are in no log.
pub(super) fn reply_page_from_log(
    page: LogPage,
    unlogged: Vec<Arc<Message>>,
    up_to: u64,
    limit: Limit,
) -> ReplyPage {
    let end = page.end;
    let mut messages = page.messages;
    let last = match messages.last() {
        Some(last) if !end => last.number,
        _ => up_to,
    };
    // Messages beyond the page belong to the next one.
    messages.extend(unlogged.into_iter().filter(|m| m.number <= last));
    messages.sort_by_key(|m| m.number);
    let mut reply = reply_page(messages.iter(), up_to, limit);
    if !end && !reply.more {
        reply.more = true;
        reply.reaches = last;
    }
    reply
}

/// The rooms of which something after `after` was dropped, as far as the reply reaches. A gap is
/// reported in the order of the log: one beyond the reply's cursor belongs to the next reply, so the
/// other rooms lose nothing by it.
pub(super) fn gaps(
    rooms: &[RoomName],
    trimmed_through: &[u64],
    after: u64,
    reaches: u64,
) -> Vec<RoomName> {
    rooms
        .iter()
        .zip(trimmed_through)
        .filter(|(_, mark)| after < **mark && **mark <= reaches)
        .map(|(room, _)| room.clone())
        .collect()
}

/// Merges the messages of several rooms in the order of the log.
pub(super) fn merge<'a, I>(rooms: impl Iterator<Item = I>) -> impl Iterator<Item = &'a Arc<Message>>
where
    I: Iterator<Item = &'a Arc<Message>>,
{
    let mut rooms: Vec<Peekable<I>> = rooms.map(Iterator::peekable).collect();
    std::iter::from_fn(move || {
        let next = rooms
            .iter_mut()
            .filter_map(|room| Some((room.peek()?.number, room)))
            .min_by_key(|(number, _)| *number)?;
        next.1.next()
    })
}
