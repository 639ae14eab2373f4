//! What a stranger may take, and what happens past it: to them, and to everybody else.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fixture::{Answer, Longshore, Wire, raw_request, until, until_true};

/// A poll that asks for the cursor of this moment, as it comes from `address` through a proxy here.
fn enter(server: &Longshore, name: &str, address: &str) -> Answer {
    let url = format!("{}/get_msg", server.url);
    let query = [("name", name), ("room", "chat"), ("after", "now")];
    Answer::of(
        ureq::get(&url)
            .query_pairs(query)
            .header("X-Forwarded-For", address)
            .config()
            .http_status_as_error(false)
            .build()
            .call(),
    )
}

fn send(server: &Longshore, name: &str, address: &str) -> Answer {
    let form = [("name", name), ("content", "hi")];
    Answer::of(
        ureq::post(format!("{}/send_msg", server.url))
            .header("X-Forwarded-For", address)
            .config()
            .http_status_as_error(false)
            .build()
            .send_form(form),
    )
}

#[track_caller]
fn refused(answer: &Answer, status: u16, field: &str) -> Value {
    let error = answer.json();
    assert_eq!(answer.status, status, "{error}");
    assert_eq!(error["field"], field, "{error}");
    if matches!(status, 429 | 503) {
        let after: u64 = answer.header("retry-after").parse().unwrap();
        assert!((1..=60).contains(&after), "{after}");
    }
    error
}

#[test]
fn clients_are_counted_in_all_and_by_address() {
    let server = Longshore::bounded()
        .set("clients", "5")
        .set("address_clients", "3")
        .set("trusted_proxies", "127.0.0.1")
        .start();
    for name in ["a", "b", "c", "a"] {
        enter(&server, name, "192.0.2.1").expect(200);
    }
    let full = enter(&server, "d", "192.0.2.1");
    refused(&full, 429, "");
    assert!(full.text.contains("address"), "{}", full.text);
    // What the sender wrote itself does not make another sender of it; a /64 is one.
    refused(&enter(&server, "d", "198.51.100.9, 192.0.2.1"), 429, "");
    enter(&server, "d", "2001:db8::1").expect(200);
    enter(&server, "e", "2001:db8::ffff:2").expect(200);
    let full = enter(&server, "f", "192.0.2.2");
    refused(&full, 429, "");
    assert!(!full.text.contains("address"), "{}", full.text);
    enter(&server, "a", "192.0.2.1").expect(200);
}

#[test]
fn rooms_and_sizes_are_bounded() {
    let server = Longshore::bounded()
        .set("poll_rooms", "3")
        .set("message_bytes", "10")
        .start();
    let ann = server.wire("ann");
    let rooms = |count: usize| -> Vec<(String, String)> {
        (0..count)
            .map(|i| ("room".to_owned(), format!("chat/{i}")))
            .collect()
    };
    let poll = |count: usize| {
        let mut pairs = rooms(count);
        pairs.push(("after".to_owned(), "now".to_owned()));
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(k, v)| (&**k, &**v)).collect();
        ann.get_msg(&pairs)
    };
    poll(3).expect(200);
    refused(&poll(4), 422, "room");
    refused(&poll(300), 422, "room");
    assert_eq!(ann.send(&[("content", "0123456789")]).status, 200);
    refused(&ann.send(&[("content", "0123456789a")]), 413, "content");
}

#[test]
fn messages_come_at_a_rate() {
    let server = Longshore::bounded()
        .set("client_messages_second", "1")
        .set("client_messages_burst", "3")
        .set("address_messages_second", "1")
        .set("address_messages_burst", "6")
        .set("trusted_proxies", "127.0.0.0/8")
        .start();
    // So many of these come through at most, however slow this machine is.
    let passed = |name: &str, address: &str, tries: usize| {
        let begun = Instant::now();
        let answers: Vec<Answer> = (0..tries).map(|_| send(&server, name, address)).collect();
        let passed = answers.iter().filter(|answer| answer.status == 200).count();
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            refused(answer, 429, "");
        }
        let came_back = begun.elapsed().as_secs() as usize + 1;
        (passed, came_back)
    };
    let (sent, came_back) = passed("ann", "192.0.2.1", 10);
    assert!((3..=3 + came_back).contains(&sent), "{sent}");
    let (sent, _) = passed("bob", "192.0.2.1", 1);
    assert_eq!(sent, 1, "another one in the same office");
    let begun = Instant::now();
    let names = (0..20).filter(|i| send(&server, &format!("x{i}"), "192.0.2.1").status == 200);
    let names = names.count();
    let came_back = begun.elapsed().as_secs() as usize + 1;
    assert!(names <= 6 + came_back, "{names} by changing the name");
    assert_eq!(passed("ann", "192.0.2.9", 1).0, 1, "elsewhere");
    // Whoever waits as long as they are told gets through.
    let told = until("a refusal", || {
        let answer = send(&server, "eve", "192.0.2.5");
        (answer.status == 429).then(|| answer.header("retry-after").parse::<u64>().unwrap())
    });
    std::thread::sleep(Duration::from_secs(told));
    assert_eq!(send(&server, "eve", "192.0.2.5").status, 200);
}

#[test]
fn an_account_has_a_rate_of_its_own_wherever_it_is() {
    let server = Longshore::bounded()
        .set("client_messages_second", "1")
        .set("client_messages_burst", "2")
        .set("address_messages_second", "1")
        .set("address_messages_burst", "1")
        .start();
    let as_admin = |name: &str| {
        Answer::of(
            ureq::post(format!("{}/send_msg", server.url))
                .header("Authorization", &format!("Bearer {}", server.token))
                .config()
                .http_status_as_error(false)
                .build()
                .send_form([("name", name), ("content", "hi")]),
        )
    };
    // The office has spent what it had.
    until_true("a refusal", || {
        server.wire("ann").send(&[("content", "x")]).status == 429
    });
    let sent = (0..20)
        .filter(|i| as_admin(&format!("tab{i}")).status == 200)
        .count();
    assert!((2..20).contains(&sent), "{sent}");
}

#[test]
fn the_login_limiter_sees_the_sender_behind_the_proxy() {
    let guess = |server: &Longshore, address: &str| {
        let answer = ureq::post(format!("{}/login", server.url))
            .header("X-Forwarded-For", address)
            .config()
            .http_status_as_error(false)
            .max_redirects(0)
            .build()
            .send_form([("name", "admin"), ("password", "wrong")]);
        answer.unwrap().status().as_u16()
    };
    let server = Longshore::settings()
        .set("trusted_proxies", "127.0.0.1")
        .start();
    for _ in 0..5 {
        assert_ne!(guess(&server, "192.0.2.1"), 429);
    }
    assert_eq!(guess(&server, "192.0.2.1"), 429);
    assert_ne!(guess(&server, "192.0.2.2"), 429);
    let server = Longshore::settings().start();
    for i in 0..5 {
        assert_ne!(guess(&server, &format!("192.0.2.{i}")), 429);
    }
    assert_eq!(
        guess(&server, "192.0.2.9"),
        429,
        "anybody can write that header"
    );
}

#[test]
fn limits_off_lifts_counts_and_rates_and_no_sizes() {
    let server = Longshore::settings()
        .set("clients", "1")
        .set("client_messages_burst", "1")
        .set("client_messages_second", "1")
        .set("message_bytes", "5")
        .start();
    for i in 0..20 {
        let ann = server.wire(&format!("ann{i}"));
        ann.now("chat");
        ann.say("hi");
    }
    assert_eq!(
        server.wire("ann").send(&[("content", "123456")]).status,
        413
    );
}

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
    let before = memory(&server);
    let floods: Vec<TcpStream> = (0..FLOODS)
        .map(|i| flood(&address, &format!("flood{i}")))
        .collect();
    let grown = memory(&server).saturating_sub(before) / FLOODS;
    eprintln!("{grown} kB a connection that floods");
    assert!(grown < 2 << 10, "{grown} kB");
    ann.say("still here");
    assert_eq!(ann.drain("chat", &mut after), ["still here"]);
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
