//! The contents and the timing of an answer.

use super::*;

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
    // The answer was lost: the old cursor brings it again, in order with newer messages.
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
        // The fifth poll ends the first.
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
    // Everything is gone: the gap is reported at once, its cursor past it.
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
async fn a_poll_held_from_the_start_is_told_of_a_gap_too() {
    let bench = bench(HubOptions::default());
    let parked = bench.park(poll("a", &["chat"], "start", 30));
    bench.until_parked(1).await;
    for text in ["one", "two", "three"] {
        bench.say("chat", text);
    }
    bench.drop_up_to("chat", 2);
    let batch = parked.await.unwrap().unwrap();
    assert_eq!(
        (texts(&batch), batch.gap),
        (vec!["three".into()], vec![room("chat")])
    );
}

#[tokio::test]
async fn one_cursor_says_what_a_position_says() {
    let bench = bench(HubOptions::default());
    for text in ["one", "two", "three"] {
        bench.say("chat", text);
    }
    let oldest = |afters: &[&str]| {
        let position = Position::parse(afters.iter().copied()).unwrap();
        bench.hub.oldest(&position).map(|cursor| cursor.to_string())
    };
    assert_eq!(oldest(&[]).as_deref(), Some("birth.3"));
    assert_eq!(oldest(&["start", "birth.1"]), None);
    assert_eq!(oldest(&["birth.2", "birth.1"]).as_deref(), Some("birth.1"));
    assert_eq!(oldest(&["birth.1", "other.2"]).as_deref(), Some("other.2"));
    assert_eq!(oldest(&["birth.1", "birth.4"]).as_deref(), Some("birth.4"));
    let batch = bench.hub.poll(poll("a", &["chat"], "start", 0)).await;
    let behind: Vec<String> = batch
        .unwrap()
        .messages
        .iter()
        .map(|message| bench.hub.behind(message).to_string())
        .collect();
    assert_eq!(behind, ["birth.1", "birth.2", "birth.3"]);
}

#[tokio::test]
async fn a_poll_of_no_room_hears_of_the_end_alone() {
    let bench = bench(HubOptions::default());
    let parked = bench.park(poll("a", &[], "birth.0", 60));
    bench.until_parked(1).await;
    bench.say("chat", "not for it");
    tokio::task::yield_now().await;
    assert!(!parked.is_finished());
    bench.hub.drain();
    let batch = parked.await.unwrap().unwrap();
    assert!(batch.retry.is_some() && batch.messages.is_empty());
}
