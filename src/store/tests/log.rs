//! The log: order, groups, retention.

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

/// A store whose log has begun, so that single messages go through the journal.
fn begun() -> (tempfile::TempDir, Store) {
    let (folder, store) = store();
    store.begin_log().unwrap();
    (folder, store)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

fn append(store: &Store, room: &str, data: &str) -> i64 {
    let appended = store.append(message(room, data)).unwrap();
    block_on(appended.number()).unwrap()
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
    share_one_order(store());
    share_one_order(begun());
}

fn share_one_order((_folder, store): (tempfile::TempDir, Store)) {
    let published = Arc::new(Mutex::new(Vec::new()));
    let seen = published.clone();
    store.on_publish(Box::new(move |events| {
        let mut seen = seen.lock().unwrap();
        seen.extend(events.into_iter().map(|event| (event.number, event.data)));
    }));
    let appended = |text: String| (append(&store, "chat", &text), text);
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
        .read_log(|c| events::read(c, &rooms, 0, i64::MAX, 1000))
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
    // Nothing is written while this thread holds the write lock, so all messages form one group.
    let state = store.write_lock.lock();
    let waiting: Vec<_> = ["1", "bad", "2", "3"]
        .into_iter()
        .map(|data| store.append(message("chat", data)).unwrap())
        .collect();
    drop(state);
    let told: Vec<bool> = waiting
        .into_iter()
        .map(|appended| block_on(appended.number()).is_ok())
        .collect();
    assert_eq!(told, [true, false, true, true]);
    assert_eq!(*published.lock().unwrap(), ["1", "2", "3"]);
}

#[test]
fn past_its_bound_the_queue_refuses_and_what_it_took_is_written() {
    let (_folder, store) = store();
    let state = store.write_lock.lock();
    let mut taken = 0;
    let refused = loop {
        match store.append(message("chat", "1")) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 1_000_000);
    };
    assert!(matches!(refused, NotWritten::Full));
    drop(state);
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
    assert_eq!(store.read(events::trimmed_through).unwrap(), marks[2..]);
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
    assert_eq!(
        store.read(events::trimmed_through).unwrap(),
        [("chat".to_owned(), 8)]
    );
    let left = store
        .read(|c| events::read(c, &["chat".into(), "vote/x".into()], 0, 100, 100))
        .unwrap();
    assert_eq!(
        left.iter().map(|e| e.number).collect::<Vec<_>>(),
        [1, 9, 10]
    );
}

/// Starts the log, appends `messages` and closes it; returns the epoch.
fn run(path: &Path, messages: &[&str]) -> String {
    let store = Store::open(path, Durability::Process).unwrap();
    store.begin_log().unwrap();
    for data in messages {
        append(&store, "chat", data);
    }
    let epoch = store.read(epochs::all).unwrap().current;
    store.close().unwrap();
    epoch
}

fn copy(from: &Path, to: &Path, files: &[&str]) {
    for file in files {
        let _ = std::fs::remove_file(to.join(file));
        let _ = std::fs::copy(from.join(file), to.join(file));
    }
}

#[test]
fn a_database_that_was_put_back_knows_its_own_epochs_alone() {
    let (folder, backup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path().join("longshore.db");
    let first = run(&path, &["1", "2"]);
    copy(folder.path(), backup.path(), &["longshore.db"]);
    let gone = run(&path, &["3", "4", "5"]);
    copy(backup.path(), folder.path(), &["longshore.db"]);
    let second = run(&path, &["three"]);
    assert!(first != gone && gone != second && first != second);

    let store = Store::open(&path, Durability::Process).unwrap();
    store.begin_log().unwrap();
    let known = store.read(epochs::all).unwrap();
    assert_eq!(known.earlier, [(first, 2), (second, 3)]);
    let kept = in_database(&store);
    let expected = [(1, "1"), (2, "2"), (3, "three")];
    assert_eq!(
        kept,
        expected.map(|(number, data)| (number, data.to_owned())),
        "nothing of the journal that stayed behind"
    );
}

#[test]
fn only_so_many_epochs_are_remembered() {
    let (_folder, store) = store();
    for _ in 0..1030 {
        store.write(epochs::begin).unwrap();
    }
    let known = store.read(epochs::all).unwrap();
    assert_eq!(known.earlier.len(), 1023);
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

/// The chat's messages in the database, by number.
fn in_database(store: &Store) -> Vec<(i64, String)> {
    let kept = store
        .read(|c| events::read(c, &["chat".into()], 0, i64::MAX, 1000))
        .unwrap();
    kept.into_iter().map(|e| (e.number, e.data)).collect()
}

#[test]
fn a_message_alone_is_published_at_once_and_comes_into_the_database_with_what_follows() {
    let (_folder, store) = begun();
    assert!(matches!(
        store.append(message("chat", "1")),
        Ok(Appended::Now(1))
    ));
    assert_eq!(store.read_log(events::head).unwrap(), 1);
    assert_eq!(append(&store, "chat", "2"), 2);
    let ((), numbers) = store
        .record(|_, log| {
            log.push(message("chat", "3"));
            Ok(())
        })
        .unwrap();
    assert_eq!(numbers, [3]);
    store.announce(vec![message("presence/chat", "4")]).unwrap();
    assert_eq!(append(&store, "chat", "5"), 5);
    let over = std::time::Instant::now() + Duration::from_secs(20);
    while in_database(&store).len() < 4 {
        assert!(
            std::time::Instant::now() < over,
            "{:?}",
            in_database(&store)
        );
        std::thread::yield_now();
    }
    let expected = [(1, "1"), (2, "2"), (3, "3"), (5, "5")];
    assert_eq!(
        in_database(&store),
        expected.map(|(number, data)| (number, data.to_owned()))
    );
}

#[test]
fn what_a_failed_record_found_in_the_journal_stays_there() {
    let (_folder, store) = begun();
    append(&store, "chat", "1");
    let failed: Result<((), _)> = store.record(|_, _| Err(StoreError::Taken { field: "name" }));
    assert!(failed.is_err());
    append(&store, "chat", "2");
    store.close().unwrap();
    let expected = [(1, "1".to_owned()), (2, "2".to_owned())];
    assert_eq!(in_database(&store), expected);
}

#[test]
fn a_turn_that_is_taken_sends_messages_to_the_writer_and_those_who_wait_stay_first() {
    let (_folder, store) = begun();
    append(&store, "chat", "1");
    let state = store.write_lock.lock();
    let waiting = store.append(message("chat", "2")).unwrap();
    assert!(matches!(waiting, Appended::Later(_)));
    drop(state);
    assert_eq!(block_on(waiting.number()).unwrap(), 2);
    assert_eq!(append(&store, "chat", "3"), 3);
}

#[test]
fn the_journal_of_a_process_that_died_is_read_at_the_next_start() {
    let (folder, store) = begun();
    // The writer never gets the lock, as if the process died first.
    append(&store, "chat", "1");
    append(&store, "chat", "2");
    let path = folder.path().join("longshore.db");
    let died = tempfile::tempdir().unwrap();
    for file in ["longshore.db", "longshore.db-wal", "longshore.db-messages"] {
        let _ = std::fs::copy(folder.path().join(file), died.path().join(file));
    }
    drop(store);
    let store = Store::open(&died.path().join("longshore.db"), Durability::Process).unwrap();
    store.begin_log().unwrap();
    let expected = [(1, "1".to_owned()), (2, "2".to_owned())];
    assert_eq!(in_database(&store), expected);
    assert_eq!(append(&store, "chat", "3"), 3);
    drop(store);
    // The file still contains records flushed long ago.
    let store = Store::open(&path, Durability::Machine).unwrap();
    store.begin_log().unwrap();
    assert_eq!(in_database(&store), expected);
    let appended = store.append(message("chat", "3")).unwrap();
    assert!(
        matches!(appended, Appended::Later(_)),
        "it goes to the disk"
    );
    assert_eq!(block_on(appended.number()).unwrap(), 3);
}

#[test]
fn a_message_that_the_database_does_not_take_stays_in_the_journal() {
    let (_folder, store) = begun();
    let trigger = |sql: &'static str| {
        let done = store.write(|c| Ok(c.batch_execute(sql)?));
        done.unwrap();
    };
    trigger("CREATE TRIGGER bad BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no'); END;");
    append(&store, "chat", "1");
    assert!(store.read_log(events::head).is_err());
    append(&store, "chat", "2");
    trigger("DROP TRIGGER bad;");
    assert_eq!(store.read_log(events::head).unwrap(), 2);
}
