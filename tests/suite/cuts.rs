//! Delivery through a network that cuts connections at random bytes, thousands of times, while queues
//! overflow and retention drops what some have not read. `CUTS_SEED` repeats a network.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use rand::Rng;

use crate::delivery::{CourseReader, END, Reader, Said, Taken, kept};
use crate::fixture::{Cutter, Line, Longshore, Settings};

const CUTS: usize = 2000;
const ROOMS: [&str; 3] = ["chat", "chat/二", "vote/lunch"];
/// The longest time of each wait, on a slow, busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

fn settings() -> Settings {
    Longshore::settings()
        .variable("LONGSHORE_LIMITS", "off")
        .set("queue_messages", "4")
}

fn network(server: &Longshore) -> Cutter {
    let given = std::env::var("CUTS_SEED").ok();
    let seed = given.map_or_else(
        || rand::rng().random(),
        |seed| seed.parse().expect("CUTS_SEED is a number"),
    );
    eprintln!("CUTS_SEED={seed}");
    Cutter::start(&server.url, seed)
}

fn wait(what: &str, mut until: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !until() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        sleep(Duration::from_millis(1));
    }
}

#[test]
fn thousands_of_cuts_lose_nothing_and_give_nothing_twice() {
    let large = |settings: Settings| {
        settings
            .set("room_messages", "1000000")
            .set("room_bytes", "1000000000")
    };
    let server = large(settings()).start();
    let network = network(&server);
    let start = server.wire("starter").now("chat");
    let reader = |name: &str, rooms: &[&str]| Reader::new(name, rooms, &start);
    let courses = ["jason", "tank"].map(|name| CourseReader::open(&server.url, name));
    let progress = courses.each_ref().map(|course| course.progress.clone());
    let said = Said::default();
    let (readers, courses) = scope(|scope| {
        let (url, said) = (&*network.url, &said);
        let _watch = said.watch();
        let readers = [
            scope.spawn(|| reader("ann", &ROOMS).read_on(url, said)),
            scope.spawn(|| reader("bob", &ROOMS[..1]).read_on(url, said)),
            scope.spawn(|| reader("cat", &ROOMS[..2]).read_on(url, said)),
            scope.spawn(|| reader("eve", &ROOMS).read_on_overlapping(url, said)),
            scope.spawn(|| reader("kim", &ROOMS[..1]).read_on_overlapping(url, said)),
        ];
        let courses = courses.map(|course| scope.spawn(move || course.read_on(url, said)));
        let publishers =
            ["p", "q"].map(|name| scope.spawn(move || said.keep_talking(url, &ROOMS, name)));
        wait("thousands of cuts", || {
            // One message a reply makes the course's pages the slowest; no flood runs away from
            // them. More than four messages of five are theirs.
            let read = progress.each_ref().map(|read| read.load(Ordering::SeqCst));
            said.allow(read.into_iter().min().unwrap_or(0) * 5 / 4 + 60);
            network.cuts() >= CUTS
        });
        said.be_quiet();
        for publisher in publishers {
            publisher.join().unwrap();
        }
        assert!(said.say(&mut Line::new(&server.url), "chat", END));
        (
            readers.map(|reader| reader.join().unwrap()),
            courses.map(|course| course.join().unwrap()),
        )
    });
    let log = kept(&server.url, &ROOMS);
    let (accepted, cuts) = (said.accepted(), network.cuts());
    eprintln!("{accepted} accepted, {} in the log, {cuts} cuts", log.len());
    said.check(&log, |_, _| false);
    for reader in readers {
        reader.check(&log, |_| false);
    }
    let chat = log.iter().filter(|taken| taken.room == "chat");
    let chat: Vec<&str> = chat.map(|taken| &*taken.text).collect();
    for course in courses {
        assert_eq!(course.texts, chat, "{}", course.name);
    }
}

/// Every message that anybody saw, and those that are kept to the end.
fn everything(readers: &[Reader], kept: &[Taken]) -> Vec<Taken> {
    let seen = readers.iter().flat_map(|reader| &reader.taken);
    let all: BTreeMap<u64, &Taken> = seen
        .chain(kept)
        .map(|taken| (taken.number, taken))
        .collect();
    all.into_values().cloned().collect()
}

#[test]
fn what_retention_drops_is_told_exactly_through_cuts_and_kills() {
    const STARTS: usize = 12;
    let mut server = settings().set("room_messages", "40").start();
    let network = network(&server);
    let start = server.wire("starter").now("chat");
    let reader = |name: &str, rooms: &[&str]| Reader::new(name, rooms, &start);
    let said = Said::default();
    let readers = scope(|scope| {
        let (url, said, network) = (&*server.url.clone(), &said, &network);
        let _watch = said.watch();
        let mut sleepers = [reader("sam", &ROOMS), reader("sue", &ROOMS[1..])];
        let readers = [
            scope.spawn(|| reader("ann", &ROOMS).read_on(&network.url, said)),
            scope.spawn(|| reader("eve", &ROOMS).read_on_overlapping(&network.url, said)),
        ];
        let publishers = ["p", "q", "r"]
            .map(|name| scope.spawn(move || said.keep_talking(&network.url, &ROOMS, name)));
        for _ in 0..STARTS {
            let enough = said.accepted() + 150;
            said.allow(enough + 20);
            wait("traffic", || said.accepted() >= enough);
            server.crash_and_restart();
            // They look in now and then, from where retention has swept meanwhile.
            for sleeper in &mut sleepers {
                sleeper.look_once(&network.url);
            }
        }
        said.be_quiet();
        for publisher in publishers {
            publisher.join().unwrap();
        }
        assert!(said.say(&mut Line::new(url), "chat", END));
        let [sam, mut sue] = sleepers;
        let [ann, eve] = readers.map(|reader| reader.join().unwrap());
        sue.look_once(url);
        [ann, eve, sam.read_on(&network.url, said), sue]
    });
    let left = kept(&server.url, &ROOMS);
    let log = everything(&readers, &left);
    let oldest = |room: &str| {
        let mut kept = left.iter().filter(|taken| taken.room == room);
        kept.next().map_or(u64::MAX, |taken| taken.number)
    };
    let gaps = readers.each_ref().map(|reader| {
        let told = reader.seen.iter().filter(|seen| !seen.gap.is_empty());
        format!("{}: {}", reader.name, told.count())
    });
    eprintln!("{} accepted, gaps {gaps:?}", said.accepted());
    said.check(&log, |_, number| {
        number < ROOMS.map(oldest).into_iter().max().unwrap()
    });
    for reader in &readers {
        reader.check(&log, |taken| taken.number < oldest(&taken.room));
    }
    let sam = &readers[2];
    assert!(
        sam.seen.iter().any(|seen| !seen.gap.is_empty()),
        "no gap at all"
    );
}
