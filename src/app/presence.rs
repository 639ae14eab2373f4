//! Publishes presence: numbers the changes that the hub reports and publishes them.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::App;
use crate::hub::Kind;
use crate::store::{Moment, NewEvent, StoreError};

/// The shortest interval between two presence messages of a room.
const TICK: Duration = Duration::from_secs(1);

impl App {
    /// Publishes the presence of rooms that have presence subscribers, forever. Run it alongside
    /// the server.
    pub async fn tell_presence(self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let changes = self.hub().presence_changes();
            if changes.is_empty() {
                continue;
            }
            let events = changes.into_iter().map(|(room, data)| NewEvent {
                room: room.as_str().to_owned(),
                kind: Kind::Presence.as_str().to_owned(),
                sender: String::new(),
                data: data.to_string(),
                at: Moment::now(),
            });
            let events = events.collect();
            let announced = self.blocking(move |app| announce(app, events)).await;
            // A change that was not published is found again at the next tick.
            if let Ok(Err(error)) = announced {
                tracing::warn!(%error, "presence");
            }
        }
    }
}

fn announce(app: &App, events: Vec<NewEvent>) -> Result<(), StoreError> {
    app.store().announce(events)
}
