//! Which requests are the lane's: pure.

use std::{mem::MaybeUninit, net::IpAddr, sync::Arc, time::Duration};

use crate::auth::Proof;
use crate::hub::{Position, RoomName};
use crate::proxies::FORWARDED_FOR;
use crate::transport::{
    ask::{Ask, Contract},
    poll::Asked,
};

/// The longest request head; longer ones are the routes'.
pub const HEAD_BYTES: usize = 8 << 10;
/// More headers than that are the routes' to judge.
const HEADERS: usize = 32;

/// Whether a connection that begins so may be one of the lane: a first look, so that pages and forms
/// do not go by way of it.
pub fn is_for_the_lane(read: &[u8]) -> bool {
    read.starts_with(b"GET /get_msg")
}

/// Reads what came in. `None`: not the lane's (or not whole, or not sound): the routes', which know all
/// of HTTP.
pub(super) fn read(
    bytes: &[u8],
    peer: Option<IpAddr>,
    usual: &mut Usual,
    shared: &mut Arc<[RoomName]>,
) -> Option<Asked> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut headers) {
        // Whatever follows the head is a body or the next request.
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        _ => return None,
    }
    let query = query(&request)?;
    let (proof, forwarded) = sender(request.headers)?;
    let Wanted {
        name,
        rooms,
        wait,
        after,
    } = usual.read(query, shared)?;
    Some(Asked {
        proof,
        peer,
        forwarded,
        name,
        rooms,
        after,
        wait,
    })
}

/// What a query wants.
#[derive(Debug, PartialEq)]
struct Wanted {
    name: Arc<str>,
    rooms: Arc<[RoomName]>,
    wait: Duration,
    after: Position,
}

/// What a connection asked last. Its next query is mostly the same but for the cursor, and then only
/// the cursor is read.
#[derive(Default)]
pub(super) struct Usual {
    /// The query without its cursor, which stood at `at`.
    query: Box<str>,
    at: usize,
    name: Option<Arc<str>>,
    rooms: Arc<[RoomName]>,
    wait: Duration,
}

impl Usual {
    /// Reads a query. `shared` are the rooms that another connection asked for last: those who ask for
    /// the same rooms share one list.
    fn read(&mut self, query: &str, shared: &mut Arc<[RoomName]>) -> Option<Wanted> {
        let parts = around_cursor(query);
        if let Some((before, cursor, behind)) = parts
            && let Some(name) = &self.name
            && self.query.split_at_checked(self.at) == Some((before, behind))
        {
            let after = Position::parse([cursor]).ok()?;
            return Some(Wanted {
                name: Arc::clone(name),
                rooms: Arc::clone(&self.rooms),
                wait: self.wait,
                after,
            });
        }
        let ask = Ask::parse(query).ok()?;
        let Contract::Full { rooms, after } = ask.contract else {
            return None;
        };
        if **shared != *rooms {
            *shared = rooms.into();
        }
        let (name, rooms) = (Arc::<str>::from(ask.name), Arc::clone(shared));
        *self = match parts {
            Some((before, _, behind)) => Usual {
                query: [before, behind].concat().into(),
                at: before.len(),
                name: Some(Arc::clone(&name)),
                rooms: Arc::clone(&rooms),
                wait: ask.wait,
            },
            None => Usual::default(),
        };
        Some(Wanted {
            name,
            rooms,
            wait: ask.wait,
            after,
        })
    }
}

/// What stands before the value of the only `after`, the value, and what stands behind it. `None`
/// where there is no such one, or where its value is written in a way that no cursor needs.
fn around_cursor(query: &str) -> Option<(&str, &str, &str)> {
    const NAME: &str = "after=";
    let mut names = query.match_indices(NAME).map(|(at, _)| at + NAME.len());
    let (at, None) = (names.next()?, names.next()) else {
        return None;
    };
    let (before, rest) = query.split_at(at);
    let (cursor, behind) = rest.split_at(rest.find('&').unwrap_or(rest.len()));
    let starts = before.len() == NAME.len() || before[..at - NAME.len()].ends_with('&');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (starts && cursor.bytes().all(plain)).then_some((before, cursor, behind))
}

fn query<'a>(request: &httparse::Request<'_, 'a>) -> Option<&'a str> {
    if request.method != Some("GET") || request.version != Some(1) {
        return None;
    }
    let path = request.path?;
    let path = path.strip_prefix("/get_msg")?;
    let query = path.strip_prefix('/').unwrap_or(path).strip_prefix('?')?;
    (!query.contains('#')).then_some(query)
}

/// What the headers show of the sender: its proof, and the lines of `X-Forwarded-For`. `None` where a
/// header asks for more than the lane can do.
fn sender(headers: &[httparse::Header<'_>]) -> Option<(Proof, Vec<String>)> {
    let (mut hosts, mut authorization, mut cookies) = (0, None, [""; 4]);
    let (mut cookie_headers, mut forwarded) = (0, Vec::new());
    let (mut host, mut origin, mut referer) = (&b""[..], None, None);
    for header in headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        match header.name.len() {
            4 if is("host") => {
                hosts += 1;
                host = header.value;
            }
            6 if is("origin") => origin = origin.or(Some(header.value)),
            7 if is("referer") => referer = referer.or(Some(header.value)),
            6 if is("cookie") => {
                *cookies.get_mut(cookie_headers)? = std::str::from_utf8(header.value).ok()?;
                cookie_headers += 1;
            }
            13 if is("authorization") => {
                authorization = authorization.or(Some(std::str::from_utf8(header.value).ok()?));
            }
            10 if is("connection") && !header.value.eq_ignore_ascii_case(b"keep-alive") => {
                return None;
            }
            15 if is(FORWARDED_FOR) => {
                forwarded.push(std::str::from_utf8(header.value).unwrap_or("?").to_owned());
            }
            6 if is("expect") => return None,
            7 if is("upgrade") => return None,
            14 if is("content-length") => return None,
            17 if is("transfer-encoding") => return None,
            _ => {}
        }
    }
    let is_plain = hosts == 1 && is_from_here(host, origin.or(referer));
    is_plain.then(|| (Proof::shown(authorization, cookies), forwarded))
}

/// Whether no page sent the request, or one that plainly is of this host. All others are the routes'
/// to judge, which know this server's other names.
fn is_from_here(host: &[u8], stated: Option<&[u8]>) -> bool {
    let Some(stated) = stated else { return true };
    let http = stated.strip_prefix(b"http://");
    let at = http.or_else(|| stated.strip_prefix(b"https://"));
    let path = at.and_then(|at| at.strip_prefix(host));
    !host.is_empty() && path.is_some_and(|path| matches!(path.first(), None | Some(b'/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: &str = "GET /get_msg?name=ann&room=chat&after=b.7 HTTP/1.1\r\nHost: here\r\n";

    fn read_text(text: &str) -> Option<Asked> {
        let mut shared = Arc::default();
        read(text.as_bytes(), None, &mut Usual::default(), &mut shared)
    }

    #[test]
    fn a_plain_poll_is_the_lanes() {
        let asked = read_text(&format!("{POLL}Connection: Keep-Alive\r\n\r\n")).unwrap();
        assert_eq!(&*asked.name, "ann");
        assert_eq!(*asked.rooms, [RoomName::chat()]);
        assert_eq!(asked.after, Position::parse(["b.7"]).unwrap());
        assert!(matches!(asked.proof, Proof::None));
        let slash = POLL.replace("/get_msg?", "/get_msg/?");
        assert!(read_text(&format!("{slash}\r\n")).is_some());
    }

    #[test]
    fn a_page_of_this_host_may_ask() {
        for own in [
            "Origin: http://here",
            "Referer: https://here/page?x=http://there",
            "Referer: http://there/\r\nOrigin: https://here",
        ] {
            assert!(
                read_text(&format!("{POLL}{own}\r\n\r\n")).is_some(),
                "{own}"
            );
        }
    }

    #[test]
    fn it_carries_its_proof() {
        let with = |header: &str| read_text(&format!("{POLL}{header}\r\n\r\n")).unwrap().proof;
        match with("cookie: a=b; longshore_session=tok") {
            Proof::Cookie(token) => assert_eq!(token.expose(), "tok"),
            other => panic!("{other:?}"),
        }
        match with("AUTHORIZATION: Bearer tok\r\nCookie: longshore_session=x") {
            Proof::Bearer(token) => assert_eq!(token.expose(), "tok"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_usual_query_gives_what_a_new_one_gives() {
        let (mut usual, mut shared) = (Usual::default(), Arc::default());
        let queries = [
            "name=ann&room=chat&after=b.7",
            "name=ann&room=chat&after=b.8",
            "name=ann&room=chat&after=now",
            "name=bob&room=chat&after=b.8",
            "name=bob&room=chat%2Fx&wait=5&after=b.8",
            "name=bob&room=chat%2Fx&wait=6&after=b.8",
            "after=b.9&name=bob&room=chat&room=vote%2Fx",
            "after=b.10&name=bob&room=chat&room=vote%2Fx",
            "after=b.10&name=bob&room=chat&room=vote%2Fx&after=b.3",
            "after=b%2E10&name=bob&room=chat",
            "name=bob&room=chat&thereafter=b.1&wait=0",
            "name=bob&room=chat",
            "name=ann&room=chat&after=b.9",
        ];
        for query in queries.iter().chain(&queries) {
            let fresh = Usual::default().read(query, &mut Arc::default()).unwrap();
            assert_eq!(usual.read(query, &mut shared).unwrap(), fresh, "{query}");
        }
        for bad in [
            "name=ann&room=chat&after=",
            "name=ann&room=chat&after=b",
            "name=ann",
        ] {
            assert!(usual.read(bad, &mut shared).is_none(), "{bad}");
        }
    }

    #[test]
    fn everything_else_is_the_routes() {
        let whole = format!("{POLL}\r\n");
        for cut in 0..whole.len() {
            assert!(read_text(&whole[..cut]).is_none(), "cut at {cut}");
        }
        for other in [
            whole.replace("GET", "POST"),
            whole.replace("GET", "HEAD"),
            whole.replace("HTTP/1.1", "HTTP/1.0"),
            whole.replace("/get_msg?", "/get_msgs?"),
            whole.replace("/get_msg?", "http://here/get_msg?"),
            whole.replace("&room=chat&after=b.7", ""),
            whole.replace("b.7", "!"),
            whole.replace("Host: here\r\n", ""),
            whole.replace("Host: here", "Host: here\r\nHost: there"),
            whole.replace("Host: here", "Host: here\r\nConnection: close"),
            whole.replace(
                "Host: here",
                "Host: here\r\nConnection: upgrade\r\nUpgrade: websocket",
            ),
            whole.replace("Host: here", "Host: here\r\nUpgrade: websocket"),
            whole.replace("Host: here", "Host: here\r\nContent-Length: 0"),
            whole.replace("Host: here", "Host: here\r\nTransfer-Encoding: chunked"),
            whole.replace("Host: here", "Host: here\r\nExpect: 100-continue"),
            whole.replace("Host: here", "Host: here\r\n folded: x"),
            whole.replace("Host: here", "Host: here\r\nOrigin: http://there"),
            whole.replace("Host: here", "Host: here\r\nOrigin: http://hereabouts"),
            whole.replace("Host: here", "Host: here\r\nOrigin: null"),
            whole.replace("Host: here", "Host: here\r\nReferer: http://there/here"),
            whole.replace("Host: here", "Host:\r\nOrigin: http://"),
            format!("{whole}{whole}"),
        ] {
            assert!(read_text(&other).is_none(), "{other}");
        }
    }
}
