//! Clients that dribble, flood, never read, or take every descriptor: what they cost, and that the
//! others do not notice.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::fixture::{Longshore, Wire, raw_request, until_true};

#[test]
fn a_body_that_dribbles_is_cut() {
    let server = Longshore::bounded().set("body_seconds", "1").start();
    let mut slow = raw_request(
        &server.url,
        "POST /send_msg\nContent-Type: application/x-www-form-urlencoded\nContent-Length: 60",
    );
    let mut copy = slow.try_clone().unwrap();
    let dribble = std::thread::spawn(move || {
        for _ in 0..60 {
            if copy.write_all(b"c").is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    });
    let begun = Instant::now();
    let mut answer = String::new();
    let _ = slow.read_to_string(&mut answer);
    let took = begun.elapsed();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("too_slow"), "{answer}");
    assert!(took < Duration::from_secs(12), "{took:?}");
    drop(slow);
    dribble.join().unwrap();
}

#[test]
fn a_head_that_dribbles_is_cut() {
    let server = Longshore::bounded().start();
    let mut slow = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut copy = slow.try_clone().unwrap();
    let dribble = std::thread::spawn(move || {
        for byte in b"GET /get_msg?name=slow HTTP/1.1\r\nHost: x\r\nX-Slow: "
            .iter()
            .chain(&[b'x'; 200])
        {
            if copy.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    let begun = Instant::now();
    let mut answer = Vec::new();
    let _ = slow.read_to_end(&mut answer);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 408 "),
        "{answer}"
    );
    drop(slow);
    dribble.join().unwrap();
}

/// Kilobytes of memory that the process has.
fn memory(server: &Longshore) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Clock ticks (100 a second) of processor time that the process has used.
fn ticks(server: &Longshore) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Sends requests on one connection as long as the server takes them, and reads nothing.
fn flood(address: &str, name: &str) -> TcpStream {
    let mut flood = TcpStream::connect(address).unwrap();
    flood
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let request = format!(
        "GET /get_msg?name={name}&room=chat&after=now HTTP/1.1\r\nHost: {address}\r\n\r\n\
         GET /get_msg?name={name}&wait=60 HTTP/1.1\r\nHost: {address}\r\n\r\n"
    );
    let piece = request.repeat(100);
    // Up to 26 MB.
    let pieces = (0..1000).take_while(|_| flood.write_all(piece.as_bytes()).is_ok());
    assert!(pieces.count() < 1000, "it takes no more than it answers");
    flood
}

#[test]
fn a_flood_of_requests_on_one_connection_costs_little() {
    const FLOODS: u64 = 5;
    let server = Longshore::bounded().start();
    let address = server.url.trim_start_matches("http://").to_owned();
    let ann = server.wire("ann");
    let mut after = ann.now("chat");
    let warm = flood(&address, "warm");
    let (begun, used, before) = (Instant::now(), ticks(&server), memory(&server));
    let floods: Vec<TcpStream> = (0..FLOODS)
        .map(|i| flood(&address, &format!("flood{i}")))
        .collect();
    let grown = memory(&server).saturating_sub(before) / FLOODS;
    eprintln!("{grown} kB a connection that floods");
    assert!(grown < 2 << 10, "{grown} kB");
    ann.say("still here");
    assert_eq!(ann.drain("chat", &mut after), ["still here"]);
    // Nothing more comes: nothing more is done.
    let so_far = ticks(&server);
    std::thread::sleep(Duration::from_secs(2));
    let spent = ticks(&server) - so_far;
    eprintln!(
        "{} ticks in {:?}, then {spent} in 2 s",
        so_far - used,
        begun.elapsed()
    );
    assert!(spent < 50, "it spins: {spent} ticks in 2 s");
    drop((warm, floods));
}

#[test]
fn who_never_reads_costs_a_bounded_amount_and_slows_nobody() {
    let server = Longshore::bounded().start();
    let ann = server.wire("ann");
    let start = ann.now("chat");
    let text = "x".repeat(60_000);
    for _ in 0..4 {
        ann.say(&text);
    }
    let before = memory(&server);
    let address = server.url.trim_start_matches("http://").to_owned();
    let deaf: Vec<TcpStream> = (0..20)
        .map(|i| {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
            let request = format!(
                "GET /get_msg?name=deaf{i}&room=chat&after={start} HTTP/1.1\r\nHost: {address}\r\n\r\n"
            );
            // 240 kB an answer would be 24 MB a connection.
            let _ = stream.write_all(request.repeat(100).as_bytes());
            stream
        })
        .collect();
    let begun = Instant::now();
    let mut after = ann.now("chat");
    for number in 0..20 {
        ann.say(&number.to_string());
        assert_eq!(ann.drain("chat", &mut after), [number.to_string()]);
    }
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    let grown = memory(&server).saturating_sub(before) / deaf.len() as u64;
    eprintln!("{grown} kB a connection that is never read");
    assert!(grown < 1024, "{grown} kB a connection");
}

#[test]
fn without_descriptors_it_waits_and_recovers() {
    let server = Longshore::bounded().start();
    let ann = server.wire("ann");
    let mut after = ann.now("chat");
    let open = || {
        let folder = std::fs::read_dir(format!("/proc/{}/fd", server.pid()));
        folder.unwrap().count()
    };
    let limit = |files: String| {
        let pid = server.pid().to_string();
        let done = Command::new("prlimit")
            .args(["--pid", &pid, &files])
            .status();
        assert!(done.unwrap().success());
    };
    let raised = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let files = raised
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let files: Vec<&str> = files.split_whitespace().collect();
    assert_eq!(files[3], files[4], "soft is raised to hard");
    // Only the soft limit: it may go up again.
    let few = open() + 10;
    limit(format!("--nofile={few}:{}", files[4]));
    let address = server.url.trim_start_matches("http://").to_owned();
    let crowd: Vec<TcpStream> = (0..40)
        .map(|_| TcpStream::connect(&address).unwrap())
        .collect();
    until_true("the last descriptor", || open() >= few);
    let (begun, before) = (Instant::now(), ticks(&server));
    std::thread::sleep(Duration::from_secs(2));
    let share = (ticks(&server) - before) as f64 / (begun.elapsed().as_secs_f64() * 100.0);
    eprintln!("{:.0} % of a processor without descriptors", share * 100.0);
    assert!(share < 0.5, "it spins: {share}");
    drop(crowd);
    let fresh = Wire::new(&server.url, "bob");
    fresh.say("through again");
    assert_eq!(ann.drain("chat", &mut after), ["through again"]);
}
