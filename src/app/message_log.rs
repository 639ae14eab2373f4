//! The log of the hub, stored in the database.

use crate::hub::{Hub, Kind, Limit, Log, LogError, Message, Page, RoomName};
use crate::store::{Event, Store, StoreError, events};

/// The most rows per page; the hub asks again for more.
const ROWS: usize = 1000;

pub(super) struct MessageLog {
    store: Store,
}

impl MessageLog {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }
}

fn failed(error: StoreError) -> LogError {
    LogError(error.to_string())
}

fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Log for MessageLog {
    fn read(
        &self,
        rooms: &[RoomName],
        after: u64,
        up_to: u64,
        limit: Limit,
    ) -> Result<Page, LogError> {
        let names: Vec<String> = rooms.iter().map(|room| room.as_str().to_owned()).collect();
        let rows = limit.messages.min(ROWS);
        // One more row than wanted shows if this is the end.
        let mut found = self
            .store
            .read_log(|conn| {
                let limit = i64::try_from(rows + 1).unwrap_or(i64::MAX);
                events::read(conn, &names, stored(after), stored(up_to), limit)
            })
            .map_err(failed)?;
        let mut end = found.len() <= rows;
        found.truncate(rows);
        let mut size = 0;
        let fitting = found
            .iter()
            .take_while(|event| {
                size += event.data.len();
                size <= limit.bytes
            })
            .count()
            .max(1);
        if fitting < found.len() {
            found.truncate(fitting);
            end = false;
        }
        Ok(Page {
            messages: messages(found),
            end,
        })
    }

    fn trimmed_through(&self, rooms: &[RoomName]) -> Result<Vec<u64>, LogError> {
        let trimmed_through = self.store.read(events::trimmed_through).map_err(failed)?;
        Ok(rooms
            .iter()
            .map(|room| {
                trimmed_through
                    .iter()
                    .find(|(name, _)| name == room.as_str())
                    .map_or(0, |(_, mark)| u64::try_from(*mark).unwrap_or(0))
            })
            .collect())
    }
}

/// Converts rows of the store to messages of the hub. Rows with an unknown room or kind, written by
/// another version, are skipped.
pub(super) fn messages(events: Vec<Event>) -> Vec<Message> {
    events
        .into_iter()
        .filter_map(|event| {
            Some(Message::from_json(
                u64::try_from(event.number).ok()?,
                RoomName::parse(&event.room).ok()?,
                Kind::parse(&event.kind)?,
                event.sender,
                &event.data,
                event.at.datetime(),
            ))
        })
        .collect()
}

/// Notifies the hub that retention has trimmed a room.
pub(super) fn tell_dropped(hub: &Hub, room: &str, mark: i64) {
    if let (Ok(room), Ok(mark)) = (RoomName::parse(room), u64::try_from(mark)) {
        hub.dropped(&room, mark);
    }
}
