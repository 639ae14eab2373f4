//! The platform's own metrics: current numbers, the last minutes, and both as Prometheus text.
//!
//! The hub and the wire count in plain atomics ([`Meter`](crate::hub::Meter),
//! [`Traffic`](crate::transport::Traffic)); nothing here delays a message.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::app::App;
use crate::hub::Census;
use crate::store::{ReleaseState, StoreError, releases};
use crate::transport::Traffic;

mod history;
mod process;
mod text;

pub use history::Sample;

use history::{History, Reading};
use process::Process;

/// The time between samples.
pub const STEP: Duration = Duration::from_secs(2);
/// The number of samples kept: five minutes.
pub const KEPT: usize = 150;

/// The handle; clones share the history.
#[derive(Clone)]
pub struct Metrics(Arc<Parts>);

struct Parts {
    app: App,
    traffic: Arc<Traffic>,
    started: Instant,
    history: Mutex<History>,
}

/// A room and its number of clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoomSize {
    /// The room's name.
    pub room: String,
    /// Clients with a queue that are in it.
    pub clients: usize,
}

impl Metrics {
    /// Creates the metrics of `app` and of the wire that counts in `traffic`.
    pub fn new(app: App, traffic: Arc<Traffic>) -> Self {
        let metrics = Self(Arc::new(Parts {
            history: Mutex::new(History::new(KEPT)),
            started: Instant::now(),
            app,
            traffic,
        }));
        metrics.history().take(metrics.reading());
        metrics
    }

    /// Takes a sample every [`STEP`], forever; run it beside the server.
    pub async fn keep_history(self) {
        let mut ticks = tokio::time::interval(STEP);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let reading = self.reading();
            self.history().take(reading);
        }
    }

    /// The samples after the one with the number `after`, oldest first.
    pub fn samples(&self, after: u64) -> Vec<Sample> {
        self.history().after(after)
    }

    /// The rooms with the most clients, at most `most`, the fullest first.
    pub fn fullest_rooms(&self, most: usize) -> Vec<RoomSize> {
        let rooms = self.0.app.hub().fullest_rooms(most);
        let named = rooms.into_iter().map(|(room, clients)| RoomSize {
            room: room.as_str().to_owned(),
            clients,
        });
        named.collect()
    }

    /// The contents of the hub at this moment.
    pub fn census(&self) -> Census {
        self.0.app.hub().census()
    }

    /// All metrics as Prometheus text, in the OpenMetrics format. Blocks on a database read.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn text(&self) -> Result<String, StoreError> {
        let releases = self.0.app.store().read(releases::count_by_state)?;
        Ok(text::text(&text::Facts {
            reading: self.reading(),
            census: self.census(),
            refused: self.0.traffic.refused(),
            begun: self.0.traffic.begun(),
            uptime: self.0.started.elapsed(),
            log: self.0.app.store().writer_stats(),
            process: Process::look(),
            releases: ReleaseState::ALL
                .iter()
                .map(|state| {
                    let count = releases.iter().find(|(of, _)| of == state);
                    (state.as_str(), count.map_or(0, |(_, count)| *count))
                })
                .collect(),
        }))
    }

    fn reading(&self) -> Reading {
        Reading {
            at: chrono::Utc::now(),
            taken: Instant::now(),
            hub: self.0.app.hub().meter().read(),
            present: self.0.traffic.present(),
            begun: self.0.traffic.begun(),
            refused: self.0.traffic.refused().iter().sum(),
        }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.0
            .history
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
