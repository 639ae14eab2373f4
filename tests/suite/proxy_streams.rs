//! Streams through Debian's proxies. Several break them, each in its own way; long polls go on.

use std::time::Duration;

use tungstenite::Message;

use crate::fixture::{Connection, Longshore, Place, Proxy, ProxyKind, messages};
use crate::proxies::{through_each, with_proxies};

/// The time that the browser's library gives a transport to prove itself.
const PROOF: Duration = Duration::from_secs(4);

/// The transports that get through a proxy with its defaults.
#[derive(Debug, PartialEq, Eq)]
struct Ways {
    /// Server-Sent Events, as they happen.
    events: bool,
    /// A WebSocket by the plain upgrade of a request, both directions.
    socket: bool,
    /// A WebSocket through a tunnel; a reverse proxy gives none.
    tunnelled: bool,
}

fn known(kind: ProxyKind) -> Ways {
    let (events, socket, tunnelled) = match kind {
        // Debian's squid gives tunnels to port 443 alone.
        ProxyKind::Squid => (true, false, false),
        ProxyKind::Tinyproxy => (true, false, true),
        // Both read a stream to its end before they pass it on; privoxy lets a handshake through and
        // swallows what the client says.
        ProxyKind::Privoxy | ProxyKind::E2guardian => (false, false, true),
        ProxyKind::Nginx => (true, false, false),
        ProxyKind::Haproxy
        | ProxyKind::TrafficServer
        | ProxyKind::NginxByManual
        | ProxyKind::HaproxyByManual => (true, true, false),
    };
    Ways {
        events,
        socket,
        tunnelled,
    }
}

#[test]
fn where_a_proxy_breaks_streams_long_polls_go_on() {
    let (server, proxies) = with_proxies();
    every_way_is_known(&server, &proxies);
}

#[test]
fn what_the_manual_recommends_lets_everything_through() {
    // No public address is set: the proxies keep the Host.
    let server = Longshore::settings().start();
    let proxies = Proxy::at(&Place::of(&ProxyKind::BY_MANUAL), &server.url);
    every_way_is_known(&server, &proxies);
}

/// Tries each way through each proxy, then a long poll for everything that was said meanwhile.
fn every_way_is_known(server: &Longshore, proxies: &[Proxy]) {
    let mouth = server.wire("mouth");
    through_each(proxies, |proxy| {
        let room = format!("chat/{:?}", proxy.kind);
        let say = |text: &str| {
            let form = [("content", text), ("room", &room), ("name", room.as_str())];
            assert_eq!(mouth.send(&form).status, 200);
        };
        let poll = |ear: &mut Connection, after: &str, wait: &str| {
            let name = ("name", room.as_str());
            ear.poll(&[name, ("room", &room), ("after", after), ("wait", wait)])
        };
        let mut ear = Connection::new(proxy);
        let start = poll(&mut ear, "now", "0")["cursor"].clone();
        let start = start.as_str().expect("a cursor");
        let query = format!("?name={:?}&room={room}&after={start}", proxy.kind);

        let ways = Ways {
            events: hears_events(proxy, &query, &say),
            socket: speaks(Connection::new(proxy), &query, &say),
            tunnelled: proxy.kind.is_forward() && {
                let mut tunnel = Connection::new(proxy);
                tunnel.tunnel().is_ok() && speaks(tunnel, &query, &say)
            },
        };
        println!("{:?}: {ways:?}", proxy.kind);
        assert_eq!(ways, known(proxy.kind), "{:?}", proxy.kind);

        let mut after = start.to_owned();
        let mut heard = Vec::new();
        say("the last");
        while heard.last().is_none_or(|text| text != "the last") {
            let reply = poll(&mut ear, &after, "20");
            heard.extend(messages(&reply));
            after = reply["cursor"].as_str().expect("a cursor").to_owned();
        }
        let mut expected = vec!["by events"];
        let sockets = if proxy.kind.is_forward() && ways.tunnelled {
            2
        } else {
            1
        };
        expected.extend(std::iter::repeat_n("by socket", sockets));
        expected.push("the last");
        assert_eq!(heard, expected, "{:?}", proxy.kind);
    });
}

/// True if an event comes while its stream is open.
fn hears_events(proxy: &Proxy, query: &str, say: &dyn Fn(&str)) -> bool {
    let mut stream = Connection::new(proxy);
    let path = format!("/events{query}");
    let accept = "Accept: text/event-stream\r\nCache-Control: no-cache\r\n";
    stream.send("GET", &path, accept, "").expect("a request");
    let opens = stream.hears("event: cursor", PROOF);
    say("by events");
    opens && stream.hears("by events", PROOF)
}

/// True if a message from the client arrives, and one from its room reaches the client.
fn speaks(connection: Connection, query: &str, say: &dyn Fn(&str)) -> bool {
    say("by socket");
    let Ok(mut socket) = connection.socket(&format!("/ws{query}")) else {
        return false;
    };
    let patience = socket.get_ref().set_read_timeout(Some(PROOF));
    patience.expect("a time-out");
    if socket.send(Message::text(r#"{"ping":1}"#)).is_err() {
        return false;
    }
    let (mut pong, mut heard) = (false, false);
    while let (false, Ok(frame)) = (pong && heard, socket.read()) {
        let text = frame.into_text().unwrap_or_default();
        pong |= text.contains("pong");
        heard |= text.contains("by socket");
    }
    pong && heard
}
