//! Single promises, each by itself. Where nothing is to be waited for the wait is long, so that waiting
//! would show.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{task::JoinHandle, time::Instant};

use super::{test_log::MemoryLog, *};

struct Bench {
    log: Arc<MemoryLog>,
    hub: Hub,
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

fn bench(options: HubOptions) -> Bench {
    let log = MemoryLog::new();
    let hub = Hub::new(log.clone(), "birth", 0, options).unwrap();
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
        let hub = Hub::new(log.clone(), "birth", log.head(), HubOptions::default()).unwrap();
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
        client: ClientId::new(None, name).unwrap(),
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

#[tokio::test]
async fn an_empty_answer_comes_in_the_last_tenth() {
    let bench = bench(HubOptions::default());
    let wait = Duration::from_millis(400);
    let mut parked = tokio::task::JoinSet::new();
    for i in 0..50 {
        let hub = bench.hub.clone();
        let asked = Poll {
            wait,
            ..poll(&format!("c{i}"), &["chat"], "birth.0", 0)
        };
        parked.spawn(async move {
            let begun = Instant::now();
            let batch = hub.poll(asked).await.unwrap();
            assert!(batch.messages.is_empty() && batch.held);
            begun.elapsed()
        });
    }
    let mut held = parked.join_all().await;
    held.sort();
    assert!(held[0] >= wait.mul_f64(0.9), "{held:?}");
    let spread = held[49] - held[0];
    assert!(spread > Duration::from_millis(15), "at random: {held:?}");
}

#[tokio::test]
async fn now_and_plain_polls_never_wait() {
    let bench = bench(HubOptions::default());
    let begun = Instant::now();
    let now = bench
        .hub
        .poll(poll("a", &["chat"], "now", 30))
        .await
        .unwrap();
    assert_eq!(now.cursor.to_string(), "birth.0");
    bench.say("chat", "one");
    let plain = bench
        .hub
        .poll(poll("a", &["chat"], "birth.0", 0))
        .await
        .unwrap();
    assert_eq!(texts(&plain), ["one"]);
    let empty = bench
        .hub
        .poll(poll("a", &["chat"], "birth.1", 0))
        .await
        .unwrap();
    assert!(empty.messages.is_empty() && !empty.held);
    assert_eq!(
        bench
            .hub
            .poll(poll("a", &["chat"], "now", 30))
            .await
            .unwrap()
            .messages
            .len(),
        0
    );
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(
        bench.log.reads.load(Ordering::Relaxed),
        0,
        "the queue had it all"
    );
}

#[tokio::test]
async fn held_until_a_message_of_its_rooms() {
    let bench = bench(HubOptions::default());
    let parked = bench.park(poll("a", &["chat", "vote/x"], "birth.0", 30));
    bench.until_parked(1).await;
    bench.say("chat/other", "not mine");
    bench.say("vote/x", "mine");
    let batch = parked.await.unwrap().unwrap();
    assert_eq!(
        (texts(&batch), batch.cursor.to_string()),
        (vec!["mine".into()], "birth.2".into())
    );
    // The answer was swallowed: the old cursor brings it again, in order with what came since.
    bench.say("chat", "later");
    let again = bench
        .hub
        .poll(poll("a", &["chat", "vote/x"], "birth.0", 30))
        .await
        .unwrap();
    assert_eq!(texts(&again), ["mine", "later"]);
}

#[tokio::test]
async fn a_full_queue_is_filled_from_ring_and_log() {
    let (queue, ring_messages) = (3, 5);
    let bench = bench(HubOptions {
        queue,
        ring_messages,
        ..HubOptions::default()
    });
    let said: Vec<String> = (0..20).map(|i| i.to_string()).collect();
    for (count, from_log) in [(3, 0), (5, 0), (20, 1)] {
        let now = bench
            .hub
            .poll(poll("a", &["chat"], "now", 0))
            .await
            .unwrap()
            .cursor
            .to_string();
        said[..count].iter().for_each(|text| {
            bench.say("chat", text);
        });
        let before = bench.log.reads.load(Ordering::Relaxed);
        let batch = bench.hub.poll(poll("a", &["chat"], &now, 0)).await.unwrap();
        assert_eq!(texts(&batch), said[..count]);
        assert!(batch.gap.is_empty());
        assert_eq!(bench.log.reads.load(Ordering::Relaxed) - before, from_log);
    }
}

#[tokio::test]
async fn past_four_the_oldest_is_superseded() {
    let bench = bench(HubOptions::default());
    let mut parked = Vec::new();
    for i in 0..5 {
        parked.push(bench.park(poll("a", &["chat"], "birth.0", 30)));
        // The fifth sends the first away.
        bench.until_parked((i + 1).min(4)).await;
    }
    let ended = parked.remove(0).await.unwrap().unwrap();
    assert!(ended.superseded && ended.cursor.to_string() == "birth.0");
    let retry = ended.retry.unwrap().as_millis();
    assert!((1000..=3000).contains(&retry), "{retry}");
    let course = Poll {
        may_be_superseded: false,
        ..poll("a", &["chat"], "birth.0", 30)
    };
    parked.extend((0..3).map(|_| bench.park(course.clone())));
    bench.until_parked(7).await;
    bench.say("chat", "all get it");
    for poll in parked {
        assert_eq!(texts(&poll.await.unwrap().unwrap()), ["all get it"]);
    }
}

#[tokio::test]
async fn a_quiet_room_has_no_gap() {
    let bench = bench(HubOptions {
        ring_messages: 2,
        ..HubOptions::default()
    });
    bench.say("chat/quiet", "old");
    for i in 0..10 {
        bench.say("chat", &i.to_string());
    }
    bench.drop_up_to("chat", 8);
    let quiet = bench
        .hub
        .poll(poll("a", &["chat/quiet"], "birth.1", 0))
        .await
        .unwrap();
    assert!(quiet.gap.is_empty() && quiet.messages.is_empty());
    let both = bench
        .hub
        .poll(poll("b", &["chat/quiet", "chat"], "birth.0", 0))
        .await
        .unwrap();
    assert_eq!(both.gap, [room("chat")]);
    assert_eq!(texts(&both), ["old", "7", "8", "9"]);
    let exactly = bench
        .hub
        .poll(poll("c", &["chat"], "birth.8", 0))
        .await
        .unwrap();
    assert!(exactly.gap.is_empty() && exactly.messages.len() == 3);
    let start = bench
        .hub
        .poll(poll("d", &["chat"], "start", 0))
        .await
        .unwrap();
    assert!(start.gap.is_empty());
    assert_eq!(texts(&start), ["7", "8", "9"]);
}

#[tokio::test]
async fn what_was_dropped_is_a_gap_even_from_a_full_cache() {
    let bench = bench(HubOptions::default());
    bench
        .hub
        .poll(poll("a", &["chat"], "now", 0))
        .await
        .unwrap();
    bench.say("chat", "one");
    bench.say("chat", "two");
    bench.drop_up_to("chat", 1);
    let batch = bench
        .hub
        .poll(poll("a", &["chat"], "birth.0", 0))
        .await
        .unwrap();
    assert_eq!(
        (texts(&batch), batch.gap),
        (vec!["two".into()], vec![room("chat")])
    );
    // All of it gone: the gap is told at once, its cursor past it.
    bench.drop_up_to("chat", 2);
    let batch = bench
        .hub
        .poll(poll("a", &["chat"], "birth.0", 30))
        .await
        .unwrap();
    assert_eq!(
        (batch.gap.len(), batch.cursor.to_string()),
        (1, "birth.2".into())
    );
}

#[tokio::test]
async fn a_gap_far_ahead_costs_the_other_rooms_nothing() {
    let bench = bench(HubOptions {
        reply_bytes: 250,
        ring_messages: 1,
        ..HubOptions::default()
    });
    for i in 0..5 {
        bench.say("vote/x", &i.to_string());
    }
    bench.say("chat", "gone");
    bench.say("chat", "kept");
    bench.drop_up_to("chat", 6);
    let (mut cursor, mut got, mut gaps) = ("birth.0".to_owned(), Vec::new(), 0);
    loop {
        let batch = bench
            .hub
            .poll(poll("a", &["chat", "vote/x"], &cursor, 0))
            .await
            .unwrap();
        got.extend(texts(&batch));
        gaps += batch.gap.len();
        cursor = batch.cursor.to_string();
        if !batch.more {
            break;
        }
    }
    assert_eq!((got.join(" ").as_str(), gaps), ("0 1 2 3 4 kept", 1));
}

#[tokio::test]
async fn replies_are_bounded_but_never_empty() {
    let bench = bench(HubOptions {
        reply_bytes: 1000,
        ..HubOptions::default()
    });
    bench.say("chat", &"x".repeat(5000));
    for _ in 0..20 {
        bench.say("chat", "short");
    }
    let first = bench
        .hub
        .poll(poll("a", &["chat"], "birth.0", 0))
        .await
        .unwrap();
    assert_eq!((first.messages.len(), first.more), (1, true));
    let second = bench
        .hub
        .poll(poll("a", &["chat"], "birth.1", 0))
        .await
        .unwrap();
    let bytes: usize = second.messages.iter().map(|m| m.encoded().len()).sum();
    assert!(second.more && bytes <= 1000 && second.messages.len() > 5);
}

#[tokio::test]
async fn foreign_and_future_cursors_are_gaps() {
    let bench = bench(HubOptions::default());
    bench.say("chat", "one");
    for after in ["other.0", "birth.2", "other.1"] {
        let batch = bench
            .hub
            .poll(poll("a", &["chat", "vote/x"], after, 30))
            .await
            .unwrap();
        assert_eq!(batch.gap.len(), 2, "{after}");
        assert_eq!(batch.cursor.to_string(), "birth.1");
    }
}

#[tokio::test]
async fn cursors_survive_a_restart() {
    let before = bench(HubOptions::default());
    before.say("chat", "one");
    before.say("chat", "two");
    let after = before.restarted();
    let batch = after
        .hub
        .poll(poll("a", &["chat"], "birth.1", 30))
        .await
        .unwrap();
    assert_eq!(texts(&batch), ["two"]);
    let parked = after.park(poll("a", &["chat"], "birth.2", 30));
    after.until_parked(1).await;
    after.say("chat", "three");
    assert_eq!(texts(&parked.await.unwrap().unwrap()), ["three"]);
    after.log.broken.store(true, Ordering::Relaxed);
    let after = after.restarted();
    let failed = after.hub.poll(poll("a", &["chat"], "birth.1", 30)).await;
    assert!(matches!(failed, Err(PollError::Log(_))));
}

#[tokio::test]
async fn a_drain_answers_everyone_with_a_time_to_come_back() {
    let bench = bench(HubOptions::default());
    let parked = bench.park(poll("a", &["chat"], "birth.0", 30));
    bench.until_parked(1).await;
    bench.hub.drain();
    let begun = Instant::now();
    assert!(parked.await.unwrap().unwrap().retry.is_some());
    let later = bench
        .hub
        .poll(poll("b", &["chat"], "birth.0", 30))
        .await
        .unwrap();
    assert!(later.retry.is_some_and(|retry| retry.as_millis() >= 500));
    bench.say("chat", "still delivered");
    assert_eq!(
        texts(
            &bench
                .hub
                .poll(poll("b", &["chat"], "birth.0", 30))
                .await
                .unwrap()
        )
        .len(),
        1
    );
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn clients_are_bounded() {
    let bench = bench(HubOptions {
        clients: 2,
        ..HubOptions::default()
    });
    for name in ["a", "b", "a"] {
        bench
            .hub
            .poll(poll(name, &["chat"], "now", 0))
            .await
            .unwrap();
    }
    let third = bench.hub.poll(poll("c", &["chat"], "now", 0)).await;
    assert!(matches!(third, Err(PollError::Full(TooManyClients))));
}

const IDLE: Duration = Duration::from_millis(50);

#[tokio::test]
async fn idle_clients_and_rooms_are_swept_and_lose_nothing() {
    let bench = bench(HubOptions {
        idle: IDLE,
        ..HubOptions::default()
    });
    for name in ["b", "c"] {
        bench
            .hub
            .poll(poll(name, &["chat", "vote/x"], "now", 0))
            .await
            .unwrap();
    }
    let parked = bench.park(poll("a", &["chat/mine"], "birth.0", 300));
    bench.until_parked(1).await;
    bench.say("chat", "one");
    tokio::time::sleep(IDLE * 2).await;
    bench
        .hub
        .poll(poll("d", &["vote/y"], "now", 0))
        .await
        .unwrap();
    assert_eq!(
        bench.hub.census(),
        Census {
            clients: 2,
            polls: 1,
            rooms: 2
        }
    );
    let batch = bench
        .hub
        .poll(poll("b", &["chat"], "birth.0", 0))
        .await
        .unwrap();
    assert_eq!(texts(&batch), ["one"]);
    parked.abort();
    assert!(parked.await.is_err());
    assert_eq!(
        bench.hub.census().polls,
        0,
        "a dropped poll is deregistered"
    );
}

#[tokio::test]
async fn a_wandering_client_leaves_rooms_behind() {
    let bench = bench(HubOptions {
        idle: IDLE,
        ..HubOptions::default()
    });
    for i in 0..50 {
        let name = format!("chat/{i}");
        bench
            .hub
            .poll(poll("a", &[&name], "birth.0", 0))
            .await
            .unwrap();
        bench
            .hub
            .poll(poll("b", &["chat", &name], "birth.0", 0))
            .await
            .unwrap();
    }
    tokio::time::sleep(IDLE * 2).await;
    let parked = bench.park(poll("a", &["chat/1"], "birth.0", 30));
    bench.until_parked(1).await;
    assert_eq!(
        bench.hub.census(),
        Census {
            clients: 1,
            polls: 1,
            rooms: 1
        }
    );
    bench.say("chat/1", "here");
    assert_eq!(texts(&parked.await.unwrap().unwrap()), ["here"]);
}

#[test]
fn a_parked_poll_is_small() {
    let bench = bench(HubOptions::default());
    let future = bench.hub.poll(poll("a", &["chat"], "birth.0", 30));
    let size = size_of_val(&future);
    assert!(size <= 1024, "{size} bytes");
}
