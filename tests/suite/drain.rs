//! The server goes down and comes back: everybody is told when to come, nobody comes in a herd, and
//! nothing is lost.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fixture::{Longshore, Wire, messages, until_true};

/// Parks a poll on a connection that would be kept alive.
fn park(address: &str, name: &str, query: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    write!(
        stream,
        "GET /get_msg?name={name}{query} HTTP/1.1\r\nHost: {address}\r\n\r\n"
    )
    .unwrap();
    stream
}

/// The answer's head and JSON, read to the end of the connection.
fn answer(stream: &mut TcpStream) -> (String, Value) {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("{text:?}"));
    (head.to_lowercase(), serde_json::from_str(body).unwrap())
}

fn address(server: &Longshore) -> String {
    server.url.trim_start_matches("http://").to_owned()
}

/// Waits until the server has so many connections and has read what came on each.
fn until_parked(server: &Longshore, connections: usize) {
    let port: u16 = server.url.rsplit(':').next().unwrap().parse().unwrap();
    let local = format!(":{port:04X}");
    until_true("the parked polls", || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let rows = table.lines().map(|line| line.split_whitespace().collect());
        let own = rows.filter(|row: &Vec<&str>| row[1].ends_with(&local) && row[3] == "01");
        let unread: Vec<bool> = own.map(|row| !row[4].ends_with(":00000000")).collect();
        unread.len() >= connections && !unread.contains(&true)
    });
}

#[test]
fn thousands_are_told_when_to_come_back_and_the_server_ends_at_once() {
    const CLIENTS: usize = 2000;
    let mut server = Longshore::settings().set("drain_seconds", "8").start();
    let address = address(&server);
    let cursor = server.wire("ann").now("chat");
    let query = format!("&room=chat&after={cursor}&wait=60");
    let mut parked: Vec<TcpStream> = (0..CLIENTS)
        .map(|i| park(&address, &format!("c{i}"), &query))
        .collect();
    until_parked(&server, CLIENTS);
    // Kept alive and idle, and half a request: neither may hold the server up.
    let idle = TcpStream::connect(&address).unwrap();
    let mut half = TcpStream::connect(&address).unwrap();
    half.write_all(b"POST /send_msg HTTP/1.1\r\nContent-Le")
        .unwrap();
    let mut polled = park(&address, "kept", "&room=chat&after=now");
    let mut first = [0; 20];
    polled.read_exact(&mut first).unwrap();
    let begun = Instant::now();
    server.terminate();
    until_true("the server's end", || !server.is_running());
    let took = begun.elapsed();
    let mut retries: Vec<u64> = Vec::new();
    for stream in &mut parked {
        let (head, reply) = answer(stream);
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        assert!(head.contains("connection: close"), "{head}");
        assert_eq!(reply["status"], false, "{reply}");
        assert_eq!(reply["cursor"], cursor, "{reply}");
        retries.push(reply["retry"].as_u64().unwrap());
    }
    eprintln!("{CLIENTS} parked polls answered and the process ended in {took:?}");
    assert!(took < Duration::from_secs(8), "{took:?}");
    spread(&retries, 500, 8000);
    drop((idle, half));
}

/// Asserts that moments fill the window: no tenth of it is empty, or has more than three times its
/// share.
#[track_caller]
fn spread(moments: &[u64], from: u64, to: u64) {
    let mut tenths = [0usize; 10];
    for moment in moments {
        assert!((from..=to).contains(moment), "{moment}");
        tenths[(((moment - from) * 10 / (to - from + 1)) as usize).min(9)] += 1;
    }
    let share = moments.len() / 10;
    assert!(
        tenths.iter().all(|count| (1..=3 * share).contains(count)),
        "{tenths:?}"
    );
}

#[test]
fn clients_that_obey_come_back_one_after_the_other_and_miss_nothing() {
    const CLIENTS: usize = 100;
    let mut server = Longshore::settings().start();
    let bob = server.wire("bob");
    let cursor = bob.now("chat");
    bob.say("before");
    let (url, begun, waiting) = (server.url.clone(), Instant::now(), AtomicUsize::new(0));
    let waiting = Arc::new(waiting);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|i| {
            let (url, cursor, waiting) = (url.clone(), cursor.clone(), waiting.clone());
            std::thread::spawn(move || {
                faithful(&Wire::new(&url, &format!("c{i}")), cursor, begun, &waiting)
            })
        })
        .collect();
    until_true("their second polls", || {
        waiting.load(Ordering::SeqCst) == CLIENTS
    });
    until_parked(&server, CLIENTS);
    server.terminate();
    until_true("the server's end", || !server.is_running());
    server.start_again();
    let up = begun.elapsed().as_millis() as u64;
    bob.say("after");
    bob.say("last");
    let mut back = Vec::new();
    for client in clients {
        let (texts, came) = client.join().unwrap();
        assert_eq!(texts, ["before", "after", "last"]);
        back.extend(came);
    }
    assert_eq!(back.len(), CLIENTS, "each was told once");
    back.sort_unstable();
    eprintln!(
        "up again after {up} ms; they came back from {} to {} ms",
        back[0],
        back[CLIENTS - 1]
    );
    // Of a window of 4.5 s no half a second brings more than three times its share.
    for at in 0..CLIENTS {
        let together = back[at..]
            .iter()
            .take_while(|time| **time < back[at] + 500)
            .count();
        assert!(
            together <= CLIENTS / 3,
            "{together} in half a second: {back:?}"
        );
    }
}

/// Polls until it has `last`, and obeys `retry`. Its messages, and when it came back from each retry.
fn faithful(
    wire: &Wire,
    mut cursor: String,
    begun: Instant,
    waiting: &AtomicUsize,
) -> (Vec<String>, Vec<u64>) {
    let (mut texts, mut came) = (Vec::new(), Vec::new());
    while texts.last().is_none_or(|text| text != "last") {
        let reply = if texts.len() == 1 && came.is_empty() {
            let address = wire.url.trim_start_matches("http://");
            let query = format!("&room=chat&after={cursor}&wait=60");
            let mut parked = park(address, &wire.name, &query);
            waiting.fetch_add(1, Ordering::SeqCst);
            Some(answer(&mut parked).1)
        } else {
            wire.try_poll(&[("room", "chat"), ("after", &*cursor), ("wait", "20")])
        };
        let Some(reply) = reply else {
            // Refused while nobody listens: a client's own back-off.
            std::thread::sleep(Duration::from_millis(200));
            continue;
        };
        assert!(reply["gap"].is_null(), "{reply}");
        texts.extend(messages(&reply));
        reply["cursor"].as_str().unwrap().clone_into(&mut cursor);
        if let Some(retry) = reply["retry"].as_u64() {
            std::thread::sleep(Duration::from_millis(retry));
            came.push(begun.elapsed().as_millis() as u64);
        }
    }
    (texts, came)
}
