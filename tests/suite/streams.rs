//! The rules of every stream: rights that end, a server that ends, and readers that do not read.

use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::fixture::{Events, Longshore, PASSWORD, Socket, USER, raw_request, until_true};

/// A login through the form: its cookie, and what its forms carry.
struct Login {
    url: String,
    cookie: String,
    csrf: String,
}

impl Login {
    fn of(server: &Longshore) -> Self {
        let login = ureq::post(format!("{}/login", server.url))
            .header("Origin", &server.url)
            .config()
            .max_redirects(0)
            .build()
            .send_form([("name", USER), ("password", PASSWORD)])
            .unwrap();
        let set = login.headers()["set-cookie"].to_str().unwrap();
        let cookie = set.split(';').next().unwrap().to_owned();
        let page = ureq::get(format!("{}/projects", server.url))
            .header("Cookie", &cookie)
            .call()
            .unwrap();
        let page = page.into_body().read_to_string().unwrap();
        let (_, csrf) = page.split_once("name=\"csrf\" value=\"").expect("a form");
        Self {
            url: server.url.clone(),
            csrf: csrf.split('"').next().unwrap().to_owned(),
            cookie,
        }
    }

    fn end(self) {
        let answer = ureq::post(format!("{}/logout", self.url))
            .header("Origin", &self.url)
            .header("Cookie", &self.cookie)
            .config()
            .max_redirects(0)
            .build()
            .send_form([("csrf", &self.csrf)])
            .unwrap();
        assert_eq!(answer.status(), 303);
    }

    fn events(&self, path: &str) -> Events {
        Events::open(&self.url, path, &format!("Cookie: {}\n", self.cookie))
    }

    fn socket(&self, path: &str) -> Socket {
        let headers = [("Cookie", self.cookie.as_str()), ("Origin", &self.url)];
        Socket::open_with(&self.url, path, &headers)
    }
}

#[test]
fn a_login_that_ends_takes_its_streams_along() {
    let server = Longshore::settings().set("chat", "members").start();
    let login = Login::of(&server);
    let mut idle = login.events("/events?name=ann&room=releases");
    let mut events = login.events("/events?name=ann");
    let mut socket = login.socket("/ws?name=ann");
    let mut publisher = login.socket("/ws?name=bob&room=chat/other");
    let mut course = login.socket("/chat/");
    idle.expect("cursor");
    events.expect("cursor");
    socket.json();
    publisher.json();
    let send = |content: &str| {
        let answer = ureq::post(format!("{}/send_msg", server.url))
            .header("Authorization", format!("Bearer {}", server.token))
            .send_form([("content", content)]);
        assert_eq!(answer.unwrap().status(), 200);
    };
    send("before");
    assert_eq!(events.texts(1), ["before"]);
    assert_eq!(socket.json()["data"], "before");
    assert_eq!(course.hear().as_deref(), Some("before"));

    login.end();
    let ended = Instant::now();
    publisher.say(r#"{"content":"too late"}"#);
    assert_eq!(publisher.json()["code"], "unauthorized");
    send("after");
    assert_eq!(events.expect("refused").json()["code"], "unauthorized");
    assert_eq!(events.next(), None);
    assert_eq!(socket.json()["code"], "unauthorized");
    assert_eq!(socket.closed(), 1008);
    assert_eq!(course.closed(), 1008);
    // Nothing was said in its room: it ends all the same.
    assert_eq!(idle.expect("refused").json()["code"], "unauthorized");
    assert!(
        ended.elapsed() < Duration::from_secs(60),
        "{:?}",
        ended.elapsed()
    );
}

#[test]
fn a_server_that_ends_sends_its_streams_away_to_come_back_later() {
    let mut server = Longshore::settings().start();
    let mut events: Vec<Events> = (0..10)
        .map(|n| Events::open(&server.url, &format!("/events?name=e{n}"), ""))
        .collect();
    let mut sockets: Vec<Socket> = (0..10)
        .map(|n| Socket::open(&server.url, &format!("/ws?name=s{n}")))
        .collect();
    let mut course = Socket::open(&server.url, "/chat/");
    events.iter_mut().for_each(|stream| {
        stream.expect("cursor");
    });
    sockets.iter_mut().for_each(|socket| {
        socket.json();
    });
    // One that has more unacknowledged than it may waits for nothing but the end.
    let full = &mut sockets[0];
    full.say(r#"{"ack":"b.0"}"#);
    let large = json!({ "content": "x".repeat(60 << 10) }).to_string();
    for _ in 0..8 {
        full.say(&large);
    }
    let told = full
        .all()
        .into_iter()
        .filter(|frame| frame["room"] == "chat");
    assert!((5..8).contains(&told.count()));

    // They listen all the time, as browsers do.
    let ends: Vec<_> = sockets
        .into_iter()
        .map(|socket| std::thread::spawn(move || sent_away(socket)))
        .collect();
    let course = std::thread::spawn(move || course.closed());
    let begun = Instant::now();
    server.stop();
    let took = begun.elapsed();
    assert!(
        took < Duration::from_secs(8),
        "open streams hold the end up: {took:?}"
    );
    let mut retries = Vec::new();
    for stream in &mut events {
        while stream.next().is_some() {}
        retries.extend(stream.retry);
    }
    for end in ends {
        let (retry, code) = end.join().unwrap();
        retries.push(retry);
        assert_eq!(code, 1001);
    }
    assert_eq!(course.join().unwrap(), 1001);
    assert_eq!(retries.len(), 20);
    assert!(
        retries.iter().all(|ms| (500..=5000).contains(ms)),
        "{retries:?}"
    );
    retries.sort_unstable();
    retries.dedup();
    assert!(retries.len() > 10, "they are spread: {retries:?}");
}

/// The time after which the client shall come back, and the close frame's code.
fn sent_away(mut socket: Socket) -> (u64, u16) {
    loop {
        if let Some(retry) = socket.json()["retry"].as_u64() {
            return (retry, socket.closed());
        }
    }
}

#[test]
fn readers_that_do_not_read_cost_little_and_slow_nobody() {
    const MESSAGES: usize = 1000;
    const BYTES: usize = 48 << 10;
    let server = Longshore::settings().start();
    let bob = server.wire("bob");
    let mut reader = Events::open(&server.url, "/events?name=reader", "");
    reader.expect("cursor");
    let mut plain = Socket::open(&server.url, "/chat/");
    let before = (server.memory(), server.open_files());
    let handshake = "Upgrade: websocket\nSec-WebSocket-Version: 13\n\
                     Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\nConnection: Upgrade\n";
    let deaf: Vec<_> = (0..30)
        .map(|n| match n % 3 {
            0 => raw_request(&server.url, &format!("GET /events?name=deaf{n}")),
            1 => raw_socket(&server.url, &format!("/ws?name=deaf{n}"), handshake),
            _ => raw_socket(&server.url, "/chat/", handshake),
        })
        .collect();
    let deaf_files = server.open_files();
    let sender = std::thread::spawn(move || {
        let text = "x".repeat(BYTES);
        for number in 0..MESSAGES {
            bob.say(&format!("{number} {text}"));
        }
    });
    let mut most = 0;
    for number in 0..MESSAGES {
        let told = reader.texts(1).remove(0);
        assert!(told.starts_with(&format!("{number} ")), "{}", &told[..20]);
        assert!(plain.hear().unwrap().starts_with(&format!("{number} ")));
        most = most.max(server.memory());
    }
    sender.join().unwrap();
    // All of it in a buffer for each of them would be 1.4 GiB.
    let grown = (most - before.0) >> 10;
    println!(
        "{grown} MiB more for {} readers that do not read",
        deaf.len()
    );
    assert!(grown < 120, "{grown} MiB more, from {} KiB", before.0);
    let begun = Instant::now();
    until_true("the end of those who take nothing", || {
        server.open_files() + deaf.len() <= deaf_files + 2
    });
    println!("{:?} until they were ended", begun.elapsed());
    drop(deaf);
}

/// Shakes hands and never reads again.
fn raw_socket(url: &str, path: &str, handshake: &str) -> std::net::TcpStream {
    use std::io::Write;
    let address = url.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let lines: String = handshake
        .lines()
        .map(|line| format!("{line}\r\n"))
        .collect();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\n{lines}\r\n"
    )
    .unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 101");
    stream
}
