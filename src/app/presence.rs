//! Tells who comes and goes: numbers what the hub wants to tell and publishes it.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::App;
use crate::hub::Kind;
use crate::store::{Moment, NewEvent, StoreError};

/// How often a room's presence is told, at most.
const TICK: Duration = Duration::from_secs(1);

impl App {
    /// Tells who is in the rooms whose presence somebody polls, for ever; run it beside the server.
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
            // What was not told now differs still at the next tick.
            if let Ok(Err(error)) = announced {
                tracing::warn!(%error, "presence");
            }
        }
    }
}

fn announce(app: &App, events: Vec<NewEvent>) -> Result<(), StoreError> {
    app.store().announce(events)
}
