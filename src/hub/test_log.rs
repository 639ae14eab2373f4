//! An in-memory log for the hub's own tests. The real one is the store's.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use chrono::{DateTime, Utc};
use serde_json::json;

use super::*;

/// The epochs of a log in its first epoch.
pub(crate) fn epoch(id: &str) -> Epochs {
    Epochs::new(id, []).unwrap()
}

#[derive(Default)]
pub(crate) struct MemoryLog {
    kept: Mutex<Kept>,
    pub(crate) reads: AtomicUsize,
    pub(crate) broken: AtomicBool,
}

#[derive(Default)]
struct Kept {
    messages: Vec<(u64, RoomName, String)>,
    trimmed_through: HashMap<RoomName, u64>,
    head: u64,
}

impl MemoryLog {
    pub(crate) fn new() -> Arc<MemoryLog> {
        Arc::default()
    }

    pub(crate) fn head(&self) -> u64 {
        self.kept.lock().unwrap().head
    }

    /// Commits a message under the number `head + step` and returns it to be published.
    pub(crate) fn append(&self, room: &RoomName, text: &str, step: u64) -> Message {
        let mut kept = self.kept.lock().unwrap();
        kept.head += step;
        let number = kept.head;
        kept.messages.push((number, room.clone(), text.to_owned()));
        message(number, room, text)
    }

    /// Drops the room's messages up to `up_to`; returns the number to give to the hub, if one was
    /// dropped.
    pub(crate) fn drop_up_to(&self, room: &RoomName, up_to: u64) -> Option<u64> {
        let mut kept = self.kept.lock().unwrap();
        let gone = |(number, of, _): &(u64, RoomName, String)| of == room && *number <= up_to;
        let mark = kept
            .messages
            .iter()
            .filter(|m| gone(m))
            .map(|m| m.0)
            .max()?;
        kept.messages.retain(|m| !gone(m));
        kept.trimmed_through.insert(room.clone(), mark);
        Some(mark)
    }

    pub(crate) fn mark(&self, room: &RoomName) -> u64 {
        let kept = self.kept.lock().unwrap();
        kept.trimmed_through.get(room).copied().unwrap_or(0)
    }

    /// The numbers of `rooms` that are kept after `after` up to `up_to`.
    pub(crate) fn numbers(&self, rooms: &[RoomName], after: u64, up_to: u64) -> Vec<u64> {
        let kept = self.kept.lock().unwrap();
        let inside =
            |m: &&(u64, RoomName, String)| rooms.contains(&m.1) && after < m.0 && m.0 <= up_to;
        kept.messages.iter().filter(inside).map(|m| m.0).collect()
    }
}

impl Log for MemoryLog {
    fn read(
        &self,
        rooms: &[RoomName],
        after: u64,
        up_to: u64,
        limit: Limit,
    ) -> Result<Page, LogError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(LogError("broken on purpose".into()));
        }
        self.reads.fetch_add(1, Ordering::Relaxed);
        let kept = self.kept.lock().unwrap();
        let inside =
            |m: &&(u64, RoomName, String)| rooms.contains(&m.1) && after < m.0 && m.0 <= up_to;
        let mut all = kept.messages.iter().filter(inside);
        let messages = all.by_ref().take(limit.messages);
        let messages = messages
            .map(|(number, room, text)| message(*number, room, text))
            .collect();
        let end = all.next().is_none();
        Ok(Page { messages, end })
    }

    fn trimmed_through(&self, rooms: &[RoomName]) -> Result<Vec<u64>, LogError> {
        Ok(rooms.iter().map(|room| self.mark(room)).collect())
    }
}

fn message(number: u64, room: &RoomName, text: &str) -> Message {
    let at = DateTime::<Utc>::from_timestamp_millis(1_795_000_000_000).unwrap();
    Message::new(
        number,
        room.clone(),
        Kind::Message,
        "tester",
        &json!(text),
        at,
    )
}
