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
fn what_is_announced_has_a_number_of_its_own_and_is_not_kept() {
    let (_folder, store) = store();
    let published = Arc::new(Mutex::new(Vec::new()));
    let seen = published.clone();
    store.on_publish(Box::new(move |events| {
        let mut seen = seen.lock().unwrap();
        seen.extend(events.into_iter().map(|event| (event.number, event.room)));
    }));
    let said = |store: &Store| {
        let said = store.record(|_, log| {
            log.push(message("chat", "1"));
            Ok(())
        });
        said.unwrap().1[0]
    };
    assert_eq!(said(&store), 1);
    store
        .announce(vec![
            message("presence/chat", "2"),
            message("presence/vote/x", "3"),
        ])
        .unwrap();
    assert_eq!(store.read(events::head).unwrap(), 3, "also after a restart");
    assert_eq!(said(&store), 4);
    store.announce(Vec::new()).unwrap();
    let rooms = [
        "chat".into(),
        "presence/chat".into(),
        "presence/vote/x".into(),
    ];
    let kept = store
        .read(|conn| events::read(conn, &rooms, 0, 100, 100))
        .unwrap();
    assert_eq!(
        kept.iter().map(|event| event.number).collect::<Vec<_>>(),
        [1, 4]
    );
    let order = ["chat", "presence/chat", "presence/vote/x", "chat"];
    let expected: Vec<_> = (1..).zip(order.map(str::to_owned)).collect();
    assert_eq!(*published.lock().unwrap(), expected);
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
    store.close().unwrap();
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
    store.close().unwrap();
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

fn trimmed(store: &Store, retention: Retention) -> Vec<(String, i64)> {
    let mut told = Vec::new();
    store
        .trim(retention, |room, mark| told.push((room.to_owned(), mark)))
        .unwrap();
    told
}

#[test]
fn retention_goes_by_age_in_pieces_and_its_marks_outlive_a_restart() {
    let (folder, store) = store();
    let old = Moment::now().plus_seconds(-7200);
    for (room, at, messages) in [
        ("chat", old, 1200),
        ("chat", Moment::now(), 3),
        ("vote/x", old, 1),
    ] {
        let of = NewEvent {
            at,
            ..message(room, "\"hi\"")
        };
        store
            .record(|_, log| {
                log.extend(std::iter::repeat_n(of, messages));
                Ok(())
            })
            .unwrap();
    }
    let keep = |seconds| Retention {
        messages: 10_000,
        bytes: 1 << 20,
        seconds,
    };
    assert_eq!(trimmed(&store, keep(9000)), []);
    let marks = [
        ("chat", 500),
        ("chat", 1000),
        ("chat", 1200),
        ("vote/x", 1204),
    ];
    let marks = marks.map(|(room, mark)| (room.to_owned(), mark));
    assert_eq!(trimmed(&store, keep(3600)), marks);
    assert_eq!(trimmed(&store, keep(3600)), [], "nothing is dropped twice");
    drop(store);
    let store = Store::open(&folder.path().join("longshore.db"), Durability::Process).unwrap();
    assert_eq!(store.read(events::marks).unwrap(), marks[2..]);
    assert_eq!(
        store.read(events::head).unwrap(),
        1204,
        "no number comes again"
    );
    let left = store.read(|c| events::last(c, "chat", 10)).unwrap();
    assert_eq!(
        left.iter().map(|e| e.number).collect::<Vec<_>>(),
        [1201, 1202, 1203]
    );
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
    let trim = |messages, bytes| {
        let keep = Retention {
            messages,
            bytes,
            seconds: 3600,
        };
        trimmed(&store, keep)
    };
    assert_eq!(trim(4, 1000), [("chat".to_owned(), 6)]);
    // Each message has four bytes of data.
    assert_eq!(trim(4, 9), [("chat".to_owned(), 8)]);
    assert_eq!(store.read(events::marks).unwrap(), [("chat".to_owned(), 8)]);
    let left = store
        .read(|c| events::read(c, &["chat".into(), "vote/x".into()], 0, 100, 100))
        .unwrap();
    assert_eq!(
        left.iter().map(|e| e.number).collect::<Vec<_>>(),
        [1, 9, 10]
    );
}

/// The log's birth id after a start in `boot`; without `closed` the last end was a torn one.
fn birth_after(path: &Path, durability: Durability, boot: Option<&str>, close: bool) -> String {
    let store = Store::open(path, durability).unwrap();
    store.begin_log(boot).unwrap();
    let written = store.append(message("chat", "1")).unwrap();
    written.blocking_recv().unwrap().unwrap();
    let birth = store.read(events::birth).unwrap();
    if close {
        store.close().unwrap();
    }
    birth
}

#[test]
fn only_a_machine_that_went_down_with_an_open_log_gives_it_another_birth() {
    use Durability::{Machine, Process};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("longshore.db");
    let start = |durability, boot, close| birth_after(&path, durability, boot, close);
    let first = start(Process, Some("a"), false);
    assert_eq!(start(Process, Some("a"), true), first, "kill -9");
    assert_eq!(start(Process, Some("b"), false), first, "a clean end");
    let second = start(Process, Some("c"), false);
    assert_ne!(second, first, "a power cut");
    assert_eq!(start(Machine, Some("c"), false), second, "the same boot");
    assert_eq!(start(Machine, Some("d"), false), second, "all was on disk");
    assert_eq!(start(Process, Some("e"), false), second, "all was on disk");
    let third = start(Machine, Some("f"), true);
    assert_ne!(third, second, "what counts is how it was written");
    assert_eq!(start(Process, None, true), third);
    assert_eq!(start(Process, None, false), third, "a clean end");
    assert_ne!(start(Process, None, false), third, "nobody can tell");
}

#[test]
fn a_closed_log_takes_nothing_more() {
    let (_folder, store) = store();
    store.close().unwrap();
    let refused = store.record(|_, log| {
        log.push(message("chat", "1"));
        Ok(())
    });
    assert!(matches!(refused, Err(StoreError::LogClosed)));
    store.write(|c| servers::add(c, &server("web-1"))).unwrap();
}
