//! Requests that end at any byte of their heads: the server goes on, and blames neither itself nor others.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::fixture::{Longshore, until_true};

/// The bound of an answer to a cut request; more than that of a head.
const PATIENCE: Duration = Duration::from_secs(60);

/// Requests of every way in: pages, forms, the API, polls, streams, sockets.
fn requests(server: &Longshore) -> Vec<String> {
    let host = server.url.trim_start_matches("http://");
    let token = &server.token;
    [
        format!("GET /login?next=%2Fvote HTTP/1.1\r\nHost: {host}\r\nCookie: a=b; nick=杰森\r\n\r\n"),
        format!("GET /home/?name=杰森 HTTP/1.1\r\nHost: {host}\r\nAccept-Language: zh\r\n\r\n"),
        format!(
            "POST /login HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: 18\r\n\r\nname=x&password=yz"
        ),
        format!(
            "POST /api/v1/servers HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"
        ),
        format!("GET /get_msg?name=n&room=chat&after=now HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET /get_msg/?name=n&wait=0 HTTP/1.1\r\nHost: {host}\r\nReferer: http://{host}/\r\n\r\n"),
        format!(
            "POST /send_msg HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: 10\r\nExpect: 100-continue\r\n\r\ncontent=hi"
        ),
        format!(
            "GET /ws?name=n&room=chat HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ),
    ]
    .into()
}

fn cut(server: &Longshore, request: &[u8]) -> TcpStream {
    let stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    (&stream).write_all(request).unwrap();
    stream
}

#[test]
fn a_request_cut_at_any_byte_costs_nobody_anything() {
    let server = Longshore::settings().start();
    let files = server.open_files();
    for request in requests(&server) {
        let request = request.as_bytes();
        let cuts = || (0..request.len()).map(|length| &request[..length]);
        // The whole connection goes; what was sent may be thrown away with it.
        cuts().for_each(|piece| drop(cut(&server, piece)));
        // Or only no more comes.
        let half: Vec<TcpStream> = cuts().map(|piece| cut(&server, piece)).collect();
        for (length, mut stream) in half.into_iter().enumerate() {
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            // It may be ended roughly, with what nobody read.
            let _ = stream.read_to_end(&mut answer);
            let answer = String::from_utf8_lossy(&answer);
            assert!(
                !answer.contains("HTTP/1.1 5"),
                "{:?}: {answer}",
                String::from_utf8_lossy(&request[..length])
            );
        }
    }
    until_true("the end of all connections", || {
        server.open_files() <= files + 4
    });
    let log = server.log();
    assert!(
        !log.contains(" ERROR ") && !log.contains("panicked"),
        "{log}"
    );
    server.wire("ann").say("still there");
    assert_eq!(server.api().get("servers").status, 200);
}
