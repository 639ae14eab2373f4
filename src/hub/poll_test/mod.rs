//! Single guarantees, each by itself. Tests in which nothing should wait set a long wait, so that
//! waiting would show.

mod answers;
mod bounds;
mod keeping;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{task::JoinHandle, time::Instant};

use super::{
    test_log::{MemoryLog, epoch},
    *,
};

struct Bench {
    log: Arc<MemoryLog>,
    hub: Hub,
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

fn bench(options: HubOptions) -> Bench {
    let log = MemoryLog::new();
    let hub = Hub::new(log.clone(), epoch("birth"), 0, options);
    Bench { log, hub }
}

impl Bench {
    fn say(&self, to: &str, text: &str) -> u64 {
        let message = self.log.append(&room(to), text, 1);
        let number = message.number;
        self.hub.publish(vec![message]);
        number
    }

    fn drop_up_to(&self, name: &str, up_to: u64) {
        if let Some(mark) = self.log.drop_up_to(&room(name), up_to) {
            self.hub.dropped(&room(name), mark);
        }
    }

    fn restarted(&self) -> Bench {
        let log = self.log.clone();
        let epochs = Epochs::new("later", [("birth", log.head()), ("early", 1)]).unwrap();
        let hub = Hub::new(log.clone(), epochs, log.head(), HubOptions::default());
        Bench { log, hub }
    }

    fn park(&self, poll: Poll) -> JoinHandle<Result<Batch, PollError>> {
        let hub = self.hub.clone();
        tokio::spawn(async move { hub.poll(poll).await })
    }

    async fn until_parked(&self, polls: usize) {
        while self.hub.census().polls != polls {
            tokio::task::yield_now().await;
        }
    }
}

fn poll(name: &str, rooms: &[&str], after: &str, wait: u64) -> Poll {
    Poll {
        client: ClientId::new(None, name).unwrap().into(),
        address: None,
        rooms: rooms.iter().map(|name| room(name)).collect(),
        after: Position::parse([after]).unwrap(),
        wait: Duration::from_secs(wait),
        messages: usize::MAX,
        may_be_superseded: true,
    }
}

fn texts(batch: &Batch) -> Vec<String> {
    batch.messages.iter().filter_map(|m| m.text()).collect()
}
