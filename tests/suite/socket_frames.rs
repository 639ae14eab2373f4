//! Frames that no browser sends: judged at their header, before what they announce has come.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::fixture::Longshore;

const PATHS: [&str; 2] = ["/ws?name=ann&room=chat", "/chat/"];

/// A socket in the test's own hands, behind its handshake.
fn shake_hands(server: &Longshore, path: &str) -> TcpStream {
    let address = server.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    let patience = Some(Duration::from_secs(90));
    stream.set_read_timeout(patience).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: keep-alive, Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    stream
}

/// Reads frames up to the close frame: its code.
fn closed(stream: &mut TcpStream) -> u16 {
    let mut read = |length: usize| {
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).map(|()| bytes)
    };
    loop {
        let head = read(2).expect("a close frame");
        let length = match head[1] {
            126 => u16::from_be_bytes(read(2).unwrap().try_into().unwrap()).into(),
            small => usize::from(small),
        };
        let content = read(length).unwrap();
        if head[0] == 0x88 {
            return u16::from_be_bytes([content[0], content[1]]);
        }
    }
}

fn announced(first: u8, length: u64) -> Vec<u8> {
    let mut header = vec![first, 0xff];
    header.extend(length.to_be_bytes());
    header
}

#[test]
fn a_frame_is_judged_by_its_header_alone() {
    let server = Longshore::settings().set("chat", "open").start();
    let piece = [&[0x01, 0x80 | 126, 0x80, 0][..], &[0; 4 + 0x8000]].concat();
    for path in PATHS {
        for (what, sent, code) in [
            ("a text of 2^40 bytes", announced(0x81, 1 << 40), 1009),
            ("one byte too many", announced(0x81, (64 << 10) + 1), 1009),
            (
                "a first piece that is too large",
                announced(0x01, 1 << 20),
                1009,
            ),
            (
                "pieces that are too large together",
                [&piece[..], &[0x80, 0x80 | 126, 0x80, 1]].concat(),
                1009,
            ),
            ("a ping of 2^62 bytes", announced(0x89, 1 << 62), 1002),
            ("a ping of 126 bytes", vec![0x89, 0x80 | 126, 0, 126], 1002),
            ("a large pong", announced(0x8a, 1 << 20), 1002),
            ("a large close frame", announced(0x88, 1 << 20), 1002),
            ("a ping in pieces", vec![0x09, 0x80, 0, 0, 0, 0], 1002),
            ("a length below zero", announced(0x81, u64::MAX), 1002),
            ("the first reserved bit", vec![0xc1, 0x80, 0, 0, 0, 0], 1002),
            (
                "the second reserved bit",
                vec![0xa1, 0x80, 0, 0, 0, 0],
                1002,
            ),
            ("the third reserved bit", vec![0x91, 0x80, 0, 0, 0, 0], 1002),
            ("an unknown kind", vec![0x83, 0x80, 0, 0, 0, 0], 1002),
            ("no mask", vec![0x81, 0x02, b'h', b'i'], 1002),
            ("a piece of nothing", vec![0x80, 0x80, 0, 0, 0, 0], 1002),
            ("a binary frame", announced(0x82, 1 << 40), 1003),
        ] {
            let mut socket = shake_hands(&server, path);
            socket.write_all(&sent).unwrap();
            assert_eq!(closed(&mut socket), code, "{path}: {what}");
        }
    }
}

#[test]
fn a_frame_that_never_ends_costs_no_memory() {
    const PIECES: usize = 64;
    let server = Longshore::settings().set("chat", "open").start();
    for (path, first) in PATHS
        .into_iter()
        .flat_map(|path| [(path, 0x81), (path, 0x89)])
    {
        let before = server.memory();
        let mut socket = shake_hands(&server, path);
        socket.write_all(&announced(first, 1 << 40)).unwrap();
        let piece = vec![0x33; 1 << 20];
        // The server hangs up on the way.
        let taken = (0..PIECES).take_while(|_| socket.write_all(&piece).is_ok());
        let taken = taken.count();
        let grown = server.memory().saturating_sub(before);
        eprintln!("{path} {first:x}: {grown} kB for {taken} MB");
        assert!(grown < 16 << 10, "{path}: {grown} kB");
    }
    server.wire("bob").say("the server is well");
}
