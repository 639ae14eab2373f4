//! Bounds, restarts, drains, sweeps and threads.

use super::*;

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
    for (cursor, is_known) in [
        ("birth.2", true),
        ("early.1", true),
        ("later.3", true),
        ("birth.3", false),
        ("early.2", false),
        ("later.4", false),
    ] {
        let batch = after.hub.poll(poll("b", &["chat"], cursor, 0)).await;
        assert_eq!(batch.unwrap().gap.is_empty(), is_known, "{cursor}");
    }
    let kept = |cursor: &str| after.hub.kept_position(&Cursor::parse(cursor).unwrap());
    let at = |cursor: &str| Position::from(Cursor::parse(cursor).unwrap());
    assert_eq!(kept("birth.1"), at("later.1"));
    assert_eq!(
        kept("early.7"),
        at("later.1"),
        "as far as both histories are one"
    );
    assert_eq!(kept("other.1"), Position::Start);
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
    assert!(matches!(third, Err(PollError::Full(TooManyClients::InAll))));
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
async fn a_client_whose_connection_was_cut_is_forgotten_before_one_that_was_answered() {
    let bench = bench(HubOptions::default());
    let answered = bench.hub.poll(poll("a", &["chat"], "now", 0)).await;
    answered.unwrap();
    let cut = bench.park(poll("b", &["vote/x"], "birth.0", 300));
    bench.until_parked(1).await;
    cut.abort();
    assert!(cut.await.is_err());
    let later = tokio::time::Instant::now() + Duration::from_secs(20);
    while bench.hub.lock().sweep(later) {}
    assert_eq!(
        bench.hub.census(),
        Census {
            clients: 1,
            polls: 0,
            rooms: 1
        }
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

/// Clients on several threads, whose polls are cut at any moment, against a writer that does not wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_between_threads() {
    const LAST: u64 = 5000;
    let bench = bench(HubOptions {
        queue: 8,
        ring_messages: 64,
        ..HubOptions::default()
    });
    let mut clients = tokio::task::JoinSet::new();
    for i in 0..8u64 {
        let hub = bench.hub.clone();
        clients.spawn(async move {
            let (mut cursor, mut next) = ("birth.0".to_owned(), 1);
            for attempt in 0u64.. {
                if next > LAST {
                    break;
                }
                let asked = poll(&format!("c{}", i / 2), &["chat"], &cursor, 30);
                let cut = Duration::from_micros(attempt * (i + 1) % 300);
                let answer = match attempt.is_multiple_of(3) {
                    true => tokio::time::timeout(cut, hub.poll(asked)).await,
                    false => Ok(hub.poll(asked).await),
                };
                let Ok(batch) = answer else { continue };
                let batch = batch.unwrap();
                assert!(batch.gap.is_empty());
                for message in &batch.messages {
                    assert_eq!(message.number, next);
                    next += 1;
                }
                cursor = batch.cursor.to_string();
            }
        });
    }
    for number in 1..=LAST {
        bench.say("chat", "text");
        if number.is_multiple_of(7) {
            tokio::task::yield_now().await;
        }
    }
    let all = tokio::time::timeout(Duration::from_secs(60), clients.join_all());
    assert!(all.await.is_ok(), "somebody waits for what is there");
}

#[tokio::test]
async fn those_who_come_back_after_a_restart_read_the_log_once_for_all() {
    let before = bench(HubOptions::default());
    for i in 0..50 {
        before.say("chat", &format!("m{i}"));
    }
    let after = before.restarted();
    let reads = after.log.reads.load(Ordering::Relaxed);
    let back: Vec<_> = (0..500)
        .map(|i| {
            after.park(poll(
                &format!("c{i}"),
                &["chat"],
                &format!("birth.{}", 20 + i % 30),
                30,
            ))
        })
        .collect();
    for (i, answer) in back.into_iter().enumerate() {
        let batch = answer.await.unwrap().unwrap();
        assert_eq!(batch.messages.len(), 50 - (20 + i % 30));
    }
    let reads = after.log.reads.load(Ordering::Relaxed) - reads;
    // Four at once, and a few more if the first one read less than others want.
    assert!(reads <= 12, "{reads} reads for 500 clients");
}

#[tokio::test]
async fn what_was_dropped_while_the_log_was_read_does_not_come_back() {
    let before = bench(HubOptions::default());
    for i in 0..10 {
        before.say("chat", &format!("m{i}"));
    }
    let after = before.restarted();
    let first = after
        .hub
        .poll(poll("a", &["chat"], "birth.2", 0))
        .await
        .unwrap();
    assert_eq!(first.messages.len(), 8);
    after.drop_up_to("chat", 6);
    let reads = after.log.reads.load(Ordering::Relaxed);
    let kept = after
        .hub
        .poll(poll("b", &["chat"], "birth.6", 0))
        .await
        .unwrap();
    assert_eq!((kept.messages.len(), kept.gap.len()), (4, 0));
    assert_eq!(
        after.log.reads.load(Ordering::Relaxed),
        reads,
        "from the ring"
    );
    let gap = after
        .hub
        .poll(poll("c", &["chat"], "birth.4", 0))
        .await
        .unwrap();
    assert_eq!((gap.messages.len(), gap.gap.len()), (4, 1));
}
