//! The log: one order, groups, retention.

use std::sync::Mutex;

use super::*;

fn message(room: &str, data: &str) -> NewEvent {
    NewEvent {
        room: room.into(),
        kind: "message".into(),
        sender: "ann".into(),
        data: data.into(),
        at: Moment::now(),
    }
}

#[test]
fn the_log_is_published_in_number_order_by_many_writers() {
    let (_folder, store) = store();
    let published = Arc::new(Mutex::new(Vec::new()));
    let seen = published.clone();
    store.on_publish(Box::new(move |events| {
        seen.lock()
            .unwrap()
            .extend(events.iter().map(|event| event.number));
    }));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    store
                        .record(|_, log| {
                            log.push(message("chat", "\"hi\""));
                            Ok(())
                        })
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(*published.lock().unwrap(), (1..=100).collect::<Vec<i64>>());
    assert_eq!(store.read(events::head).unwrap(), 100);
}

#[test]
fn appends_and_records_share_one_order_and_each_is_told_its_own_number() {
    let (_folder, store) = store();
    let published = Arc::new(Mutex::new(Vec::new()));
    let seen = published.clone();
    store.on_publish(Box::new(move |events| {
        let mut seen = seen.lock().unwrap();
        seen.extend(events.into_iter().map(|event| (event.number, event.data)));
    }));
    let appended = |text: String| {
        let number = store.append(message("chat", &text)).unwrap();
        (number.blocking_recv().unwrap().unwrap(), text)
    };
    let recorded = |text: String| {
        let pushed = message("releases", &text);
        let ((), numbers) = store
            .record(|_, log| {
                log.push(pushed);
                Ok(())
            })
            .unwrap();
        (numbers[0], text)
    };
    let mut told: Vec<(i64, String)> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..12)
            .map(|writer| {
                let (appended, recorded) = (&appended, &recorded);
                scope.spawn(move || {
                    (0..25)
                        .map(|turn| format!("\"{writer}.{turn}\""))
                        .map(|text| match writer % 3 {
                            0 => recorded(text),
                            _ => appended(text),
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let all = writers.into_iter().map(|writer| writer.join().unwrap());
        all.flatten().collect()
    });
    told.sort();
    assert_eq!(told.len(), 300);
    assert_eq!(*published.lock().unwrap(), told, "each once, in order");
    let rooms = ["chat".to_owned(), "releases".to_owned()];
    let kept = store
        .read(|c| events::read(c, &rooms, 0, i64::MAX, 1000))
        .unwrap();
    let kept: Vec<(i64, String)> = kept.into_iter().map(|e| (e.number, e.data)).collect();
    assert_eq!(kept, told);
}

#[test]
fn an_append_that_nobody_waits_for_is_whole() {
    let (folder, store) = store();
    for number in 0..50 {
        drop(store.append(message("chat", &number.to_string())).unwrap());
    }
    store.close();
    assert!(matches!(
        store.append(message("chat", "1")),
        Err(NotWritten::Closed)
    ));
    assert_eq!(store.read(events::head).unwrap(), 50);
    drop((store, folder));
}

#[test]
fn one_bad_message_does_not_fail_its_group() {
    let (_folder, store) = store();
    store
        .write(|c| {
            c.batch_execute(
                "CREATE TRIGGER bad BEFORE INSERT ON events WHEN NEW.data = 'bad' \
                 BEGIN SELECT RAISE(ABORT, 'no such data'); END;",
            )?;
            Ok(())
        })
        .unwrap();
    let published = Arc::new(Mutex::new(Vec::new()));
    let seen = published.clone();
    store.on_publish(Box::new(move |events| {
        let mut seen = seen.lock().unwrap();
        seen.extend(events.into_iter().map(|event| event.data));
    }));
    // Nothing is written while this turn lasts, so all of them make one group.
    let turn = store.turns.take();
    let waiting: Vec<_> = ["1", "bad", "2", "3"]
        .into_iter()
        .map(|data| store.append(message("chat", data)).unwrap())
        .collect();
    drop(turn);
    let told: Vec<bool> = waiting
        .into_iter()
        .map(|number| number.blocking_recv().unwrap().is_ok())
        .collect();
    assert_eq!(told, [true, false, true, true]);
    assert_eq!(*published.lock().unwrap(), ["1", "2", "3"]);
}

#[test]
fn past_its_bound_the_queue_refuses_and_what_it_took_is_written() {
    let (_folder, store) = store();
    let turn = store.turns.take();
    let mut taken = 0;
    let refused = loop {
        match store.append(message("chat", "1")) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 1_000_000);
    };
    assert!(matches!(refused, NotWritten::Full));
    drop(turn);
    store.close();
    assert_eq!(store.read(events::head).unwrap(), taken);
}

#[test]
fn a_failed_record_logs_nothing() {
    let (_folder, store) = store();
    let failed: Result<((), _)> = store.record(|_, log| {
        log.push(message("chat", "\"hi\""));
        Err(StoreError::Taken { field: "name" })
    });
    assert!(failed.is_err());
    assert_eq!(store.read(events::head).unwrap(), 0);
}

#[test]
fn retention_marks_what_it_dropped_and_spares_quiet_rooms() {
    let (_folder, store) = store();
    for number in 1..=10 {
        let room = if number == 1 { "vote/x" } else { "chat" };
        store
            .record(|_, log| {
                log.push(message(room, "\"hi\""));
                Ok(())
            })
            .unwrap();
    }
    let keep = |messages, bytes| events::Retention {
        messages,
        bytes,
        seconds: 3600,
    };
    let dropped = store.write(|c| events::trim(c, keep(4, 1000))).unwrap();
    assert_eq!(dropped, [("chat".to_owned(), 6)]);
    // Each message has four bytes of data.
    let dropped = store.write(|c| events::trim(c, keep(4, 9))).unwrap();
    assert_eq!(dropped, [("chat".to_owned(), 8)]);
    assert_eq!(store.read(events::marks).unwrap(), [("chat".to_owned(), 8)]);
    let left = store
        .read(|c| events::read(c, &["chat".into(), "vote/x".into()], 0, 100, 100))
        .unwrap();
    assert_eq!(
        left.iter().map(|e| e.number).collect::<Vec<_>>(),
        [1, 9, 10]
    );
}
