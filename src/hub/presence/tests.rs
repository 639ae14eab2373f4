//! Leases under a given clock: polls happen now, and presence is asked for at later moments.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::hub::{
    HubOptions, Kind, Poll, Position,
    test_log::{MemoryLog, epoch},
};

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

fn guest(name: &str) -> ClientId {
    ClientId::new(None, name).unwrap()
}

fn account(account: &str, name: &str) -> ClientId {
    ClientId::new(Some(account.into()), name).unwrap()
}

struct Bench {
    log: Arc<MemoryLog>,
    hub: Hub,
}

impl Bench {
    fn new(head: u64) -> Bench {
        let log = MemoryLog::new();
        let hub = Hub::new(log.clone(), epoch("b"), head, HubOptions::default());
        Bench { log, hub }
    }

    fn parked(&self, client: ClientId, rooms: &[&str]) -> tokio::task::JoinHandle<()> {
        let (hub, poll) = (
            self.hub.clone(),
            ask(client, rooms, Position::from(self.hub.now())),
        );
        tokio::spawn(async move {
            let poll = Poll {
                wait: Duration::from_secs(60),
                ..poll
            };
            hub.poll(poll).await.unwrap();
        })
    }

    async fn polls(&self, client: ClientId, rooms: &[&str], after: Position) -> Vec<(u64, Value)> {
        let batch = self.hub.poll(ask(client, rooms, after)).await.unwrap();
        assert_eq!(batch.gap, []);
        let read = |m: &Arc<Message>| (m.number, serde_json::from_str(m.data()).unwrap());
        batch.messages.iter().map(read).collect()
    }

    /// Does the work of the presence ticker, `later` from now: numbers and publishes the changes.
    /// Returns them.
    fn tick(&self, later: Duration) -> Vec<Value> {
        let changes = self.hub.presence_changes_at(Instant::now() + later);
        for (room, data) in &changes {
            let number = self.log.append(room, "", 1).number;
            self.log.drop_up_to(room, number);
            let at = chrono::Utc::now();
            let message = Message::new(number, room.clone(), Kind::Presence, "", data, at);
            self.hub.publish(vec![message]);
        }
        changes.into_iter().map(|(_, data)| data).collect()
    }

    /// The people present, `later` from now.
    fn names(&self, of: &str, later: Duration) -> Vec<String> {
        let here = self.hub.presence_at(&room(of), Instant::now() + later);
        assert_eq!(here.count, here.people.len());
        here.people.iter().map(|p| p.name().to_owned()).collect()
    }
}

fn ask(client: ClientId, rooms: &[&str], after: Position) -> Poll {
    Poll {
        client: client.into(),
        address: None,
        rooms: rooms.iter().map(|name| room(name)).collect(),
        after,
        wait: Duration::ZERO,
        messages: usize::MAX,
        may_be_superseded: true,
    }
}

const NOW: Duration = Duration::ZERO;
/// Times certainly before and certainly after the end of a lease, on a slow machine too.
const WITHIN: Duration = Duration::from_secs(AWAY.as_secs() / 2);
const BEYOND: Duration = Duration::from_secs(GRACE.as_secs() * 2);

#[tokio::test]
async fn who_polls_a_room_is_there_and_stays_a_while() {
    let bench = Bench::new(0);
    let ann = bench.parked(guest("ann"), &["chat", "presence/chat"]);
    while bench.hub.census().polls == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        bench.names("chat", BEYOND),
        ["ann"],
        "a held poll is a lease"
    );
    ann.abort();
    let _ = ann.await;
    assert_eq!(bench.names("chat", WITHIN), ["ann"], "a moment's break");
    assert_eq!(bench.names("chat/other", WITHIN), Vec::<String>::new());
    let closed = AWAY + WITHIN;
    assert_eq!(bench.names("chat", closed), Vec::<String>::new());
    bench.polls(guest("ann"), &["chat"], Position::Now).await;
    assert_eq!(bench.names("chat", closed), ["ann"], "between two polls");
    assert_eq!(bench.names("chat", BEYOND), Vec::<String>::new());
}

#[tokio::test]
async fn who_only_looks_is_not_there() {
    let bench = Bench::new(0);
    bench
        .polls(guest("spy"), &["presence/chat"], Position::Now)
        .await;
    bench.polls(guest("ann"), &["chat"], Position::Now).await;
    assert_eq!(bench.names("chat", NOW), ["ann"]);
    let told = json!({"room": "chat", "count": 1, "people": [{"name": "ann", "account": false}]});
    assert_eq!(bench.tick(NOW), [told]);
}

#[tokio::test]
async fn clients_of_one_person_are_one() {
    let bench = Bench::new(0);
    for client in [
        account("ann", "tab 1"),
        account("ann", "tab 2"),
        guest("ann"),
        guest("bob"),
    ] {
        bench.polls(client, &["chat"], Position::Now).await;
    }
    let here = bench.hub.presence(&room("chat"));
    let people: Vec<_> = here.people.iter().map(Person::key).collect();
    assert_eq!(people, [("ann", false), ("ann", true), ("bob", false)]);
    assert!(here.has_guest("ann") && here.has_guest("bob") && !here.has_guest("tab 1"));
}

#[tokio::test]
async fn a_client_with_two_rooms_in_turn_is_in_both() {
    let bench = Bench::new(0);
    bench.polls(guest("ann"), &["chat/a"], Position::Now).await;
    assert_eq!(bench.names("chat/a", NOW), ["ann"]);
    bench.polls(guest("ann"), &["chat/b"], Position::Now).await;
    for of in ["chat/a", "chat/b"] {
        assert_eq!(
            bench.names(of, WITHIN),
            ["ann"],
            "a lease outlives a membership"
        );
    }
}

#[tokio::test]
async fn only_changes_are_told_and_only_to_those_who_ask() {
    let bench = Bench::new(0);
    bench.polls(guest("ann"), &["chat"], Position::Now).await;
    assert_eq!(bench.tick(NOW), Vec::<Value>::new(), "nobody watches");
    let start = bench
        .polls(guest("bob"), &["chat", "presence/chat"], Position::Start)
        .await;
    assert_eq!(start, []);
    assert_eq!(bench.tick(NOW).len(), 1);
    assert_eq!(bench.tick(NOW), Vec::<Value>::new());
    for client in ["ann", "bob"] {
        bench.polls(guest(client), &["chat"], Position::Now).await;
        bench
            .polls(guest(client), &["presence/chat"], Position::Now)
            .await;
        assert_eq!(bench.tick(NOW), Vec::<Value>::new(), "nobody came or went");
    }
    assert_eq!(
        bench.tick(BEYOND),
        Vec::<Value>::new(),
        "nobody watches any more"
    );
    let cat = bench.parked(guest("cat"), &["presence/chat"]);
    while bench.hub.census().polls == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        bench.tick(BEYOND),
        [json!({"room": "chat", "count": 0, "people": []})]
    );
    cat.await.unwrap();
}

#[tokio::test]
async fn the_newest_is_kept_and_an_old_one_is_no_gap() {
    let bench = Bench::new(0);
    let before = bench.hub.now();
    for (count, name) in ["ann", "bob", "cat"].into_iter().enumerate() {
        bench
            .polls(guest(name), &["chat", "presence/chat"], Position::Now)
            .await;
        assert_eq!(bench.tick(NOW).len(), 1, "{count}");
    }
    for after in [Position::Start, Position::from(before)] {
        let found = bench.polls(guest("new"), &["presence/chat"], after).await;
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0, &found[0].1["count"]), (3, &json!(3)));
    }
    assert_eq!(
        bench.log.reads.load(std::sync::atomic::Ordering::Relaxed),
        0
    );
}

#[tokio::test]
async fn a_poll_that_reads_the_log_gets_presence_in_its_place() {
    let log = MemoryLog::new();
    log.append(&room("chat"), "old", 1);
    let options = HubOptions {
        ring_messages: 1,
        queue: 1,
        ..HubOptions::default()
    };
    let hub = Hub::new(log.clone(), epoch("b"), log.head(), options);
    let bench = Bench { log, hub };
    let say = |text: &str| {
        let message = bench.log.append(&room("chat"), text, 1);
        bench.hub.publish(vec![message]);
    };
    say("before");
    bench
        .polls(guest("ann"), &["chat", "presence/chat"], Position::Now)
        .await;
    assert_eq!(bench.tick(SETTLE).len(), 1);
    say("after");
    let found = bench
        .polls(guest("new"), &["chat", "presence/chat"], Position::Start)
        .await;
    let numbers: Vec<u64> = found.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    assert_eq!(found[2].1["count"], 1);
}

#[tokio::test]
async fn after_a_restart_nothing_is_told_until_people_are_back() {
    let bench = Bench::new(7);
    bench
        .polls(guest("ann"), &["chat", "presence/chat"], Position::Now)
        .await;
    assert_eq!(bench.tick(NOW), Vec::<Value>::new());
    bench.polls(guest("bob"), &["chat"], Position::Now).await;
    assert_eq!(bench.tick(SETTLE)[0]["count"], 2);
}

#[tokio::test]
async fn a_crowd_is_a_count() {
    let bench = Bench::new(0);
    for number in 0..=MOST_NAMED {
        let name = format!("guest {number}");
        bench.polls(guest(&name), &["chat"], Position::Now).await;
    }
    let here = bench.hub.presence(&room("chat"));
    assert_eq!(
        here.data(&room("chat")),
        json!({"room": "chat", "count": MOST_NAMED + 1})
    );
}

proptest! {
    /// A lease holds until the moment that was last given, whatever else is asked in between.
    #[test]
    fn leases_end_by_the_last_sight(
        sights in proptest::collection::vec((0u64..4, 0u64..3, 0u64..12), 1..60)
    ) {
        let start = Instant::now();
        let mut leases = Leases::new(start, false);
        let mut seen: BTreeMap<(u64, u64), Instant> = BTreeMap::new();
        let mut now = start;
        for (who, of, later) in sights {
            now += Duration::from_secs(later);
            let place = room(&format!("chat/{of}"));
            let person = Person(Arc::new(guest(&format!("guest {who}"))));
            leases.renew(&place, person, now + GRACE);
            seen.insert((of, who), now);
            if later % 3 == 0 {
                leases.sweep(now);
            }
            for of in 0..3 {
                let here = leases.here(&room(&format!("chat/{of}")), now);
                let names: Vec<&str> = here.people.iter().map(Person::name).collect();
                let expected: Vec<String> = seen
                    .iter()
                    .filter(|((place, _), at)| *place == of && now.duration_since(**at) < GRACE)
                    .map(|((_, who), _)| format!("guest {who}"))
                    .collect();
                prop_assert_eq!(names, expected);
            }
        }
    }
}
