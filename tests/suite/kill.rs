//! kill -9 in mid-traffic: what was acknowledged is kept, and everybody reads on as if nothing were.

use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use rand::Rng;

use crate::delivery::{CourseReader, END, Reader, Said, kept};
use crate::fixture::{Line, Longshore};

const KILLS: usize = 100;
const ROOMS: [&str; 2] = ["chat", "vote/lunch"];
/// The longest time that traffic may take to get going after a start.
const PATIENCE: Duration = Duration::from_secs(60);

fn server() -> Longshore {
    Longshore::settings()
        .variable("LONGSHORE_LIMITS", "off")
        .set("room_messages", "1000000")
        .set("room_bytes", "1000000000")
        .start()
}

/// Kills the server whenever it has acknowledged a few more messages, and starts it again.
fn kill_again_and_again(server: &mut Longshore, said: &Said) {
    for _ in 0..KILLS {
        let enough = said.accepted() + rand::rng().random_range(1..25);
        said.allow(usize::MAX);
        let begun = Instant::now();
        while said.accepted() < enough {
            assert!(begun.elapsed() < PATIENCE, "no traffic: {}", server.log());
            sleep(Duration::from_millis(1));
        }
        server.crash_and_restart();
    }
}

#[test]
fn a_hundred_kills_in_mid_traffic_lose_nothing_and_give_nothing_twice() {
    let mut server = server();
    let url = server.url.clone();
    let start = server.wire("starter").now("chat");
    let reader = |name: &str, rooms: &[&str]| Reader::new(name, rooms, &start);
    let courses = ["jason", "tank"].map(|name| CourseReader::open(&url, name));
    let said = Said::default();
    let (readers, courses) = scope(|scope| {
        let (url, said) = (&*url, &said);
        let _watch = said.watch();
        let readers = [
            scope.spawn(|| reader("ann", &ROOMS).read_on(url, said)),
            scope.spawn(|| reader("bob", &["chat"]).read_on(url, said)),
            scope.spawn(|| reader("eve", &ROOMS).read_on_overlapping(url, said)),
            scope.spawn(|| reader("kim", &["chat"]).read_on_overlapping(url, said)),
        ];
        let courses = courses.map(|course| scope.spawn(move || course.read_on(url, said)));
        let publishers =
            ["p", "q", "r"].map(|name| scope.spawn(move || said.keep_talking(url, &ROOMS, name)));
        kill_again_and_again(&mut server, said);
        said.be_quiet();
        publishers
            .into_iter()
            .for_each(|publisher| publisher.join().unwrap());
        assert!(said.say(&mut Line::new(url), "chat", END));
        (
            readers.map(|reader| reader.join().unwrap()),
            courses.map(|course| course.join().unwrap()),
        )
    });
    let log = kept(&url, &ROOMS);
    eprintln!("{} accepted, {} in the log", said.accepted(), log.len());
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
