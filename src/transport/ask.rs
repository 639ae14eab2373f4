//! The query parameters of polls and streams.

use std::{borrow::Cow, time::Duration};

use super::{
    refusal::{Code, Refusal},
    traffic::Way,
};
use crate::http::{NotUtf8, pairs};
use crate::hub::{Position, RoomName};

/// The most rooms that are parsed; the hub enforces the configured limit of a poll.
const ROOMS: usize = 256;
const WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: f64 = 60.0;

/// Spellings of the last event id in a query, as used by polyfills of the browser's `EventSource`:
/// a script cannot set the `Last-Event-ID` header.
const LAST_EVENT_ID: [&str; 4] = [
    "lastEventId",
    "lastEventID",
    "last_event_id",
    "Last-Event-ID",
];

/// A parsed poll query. The hub checks the length of the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) name: String,
    pub(super) wait: Duration,
    pub(super) contract: Contract,
}

/// The contract of a poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Contract {
    /// The course's contract: `name` without `room` and `after`; `wait` is optional.
    Course,
    Full {
        rooms: Vec<RoomName>,
        after: Position,
    },
}

/// A parsed stream query: a poll of the full contract that is repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subscribe {
    pub(super) name: String,
    pub(super) rooms: Vec<RoomName>,
    pub(super) after: Position,
}

impl Ask {
    /// The transport that the poll counts as.
    pub(super) fn way(&self) -> Way {
        match self.contract {
            Contract::Course => Way::Course,
            Contract::Full { .. } => Way::of_wait(self.wait),
        }
    }

    /// Parses a query. Unknown parameters are ignored; the first `name` and the first `wait` count.
    ///
    /// # Errors
    /// 400 for a missing name, a cursor without a room or a malformed value, 422 for a value out of
    /// bounds.
    pub(super) fn parse(query: &str) -> Result<Ask, Refusal> {
        let Query {
            name,
            wait,
            rooms,
            afters,
            ..
        } = Query::read(query)?;
        let contract = match (rooms.is_empty(), afters.is_empty()) {
            (true, true) => Contract::Course,
            (true, false) => {
                let message = "a poll with a cursor names its rooms";
                return Err(Refusal::new(Code::Malformed, "room", message));
            }
            (false, _) => Contract::Full {
                rooms,
                after: position(&afters)?,
            },
        };
        Ok(Ask {
            name,
            wait: wait.map_or(Ok(WAIT), |wait| seconds(&wait))?,
            contract,
        })
    }
}

impl Subscribe {
    /// Parses a query. The default room is `chat`, the default cursor is now. `last`, the
    /// `Last-Event-ID` header of a reconnecting stream, takes precedence over the same id in the
    /// query, and that over `after`: the cursors in the URL are as old as the page.
    ///
    /// # Errors
    /// 400 for a missing name or a malformed value, 422 for a value out of bounds.
    pub(super) fn parse(query: &str, last: Option<&str>) -> Result<Subscribe, Refusal> {
        let Query {
            name,
            mut rooms,
            afters,
            last: in_query,
            ..
        } = Query::read(query)?;
        if rooms.is_empty() {
            rooms.push(RoomName::chat());
        }
        let last = last.filter(|last| !last.is_empty());
        let after = match last.or(in_query.as_deref()) {
            Some(last) => Position::parse([last])
                .map_err(|bad| Refusal::new(Code::Malformed, "last-event-id", bad.to_string()))?,
            None => position(&afters)?,
        };
        Ok(Subscribe { name, rooms, after })
    }
}

struct Query<'a> {
    name: String,
    wait: Option<Cow<'a, str>>,
    rooms: Vec<RoomName>,
    afters: Vec<Cow<'a, str>>,
    last: Option<Cow<'a, str>>,
}

impl Query<'_> {
    fn read(query: &str) -> Result<Query<'_>, Refusal> {
        let (mut name, mut wait, mut last) = (None, None, None);
        let (mut rooms, mut afters) = (Vec::new(), Vec::new());
        for pair in pairs(query.as_bytes()) {
            let Ok(key) = pair.name else { continue };
            let text = |field| pair.value.map_err(|NotUtf8| Refusal::not_utf8(field));
            match &*key {
                "name" if name.is_none() => name = Some(text("name")?.into_owned()),
                "wait" if wait.is_none() => wait = Some(text("wait")?),
                // jQuery writes arrays with brackets.
                "room" | "room[]" => {
                    let room = RoomName::parse(&text("room")?)?;
                    if !rooms.contains(&room) {
                        rooms.push(room);
                    }
                }
                "after" | "after[]" => afters.push(text("after")?),
                key if LAST_EVENT_ID.contains(&key) => {
                    let id = text("last-event-id")?;
                    last = last.or((!id.is_empty()).then_some(id));
                }
                _ => {}
            }
            if rooms.len() > ROOMS {
                let message = format!("a poll has at most {ROOMS} rooms");
                return Err(Refusal::new(Code::Invalid, "room", message));
            }
        }
        let name = name.ok_or(Refusal::new(
            Code::Malformed,
            "name",
            "the client's name is missing",
        ))?;
        Ok(Query {
            name,
            wait,
            rooms,
            afters,
            last,
        })
    }
}

fn position(afters: &[Cow<'_, str>]) -> Result<Position, Refusal> {
    Ok(Position::parse(afters.iter().map(|after| &**after))?)
}

fn seconds(text: &str) -> Result<Duration, Refusal> {
    let number = text.parse::<f64>().ok().filter(|number| !number.is_nan());
    match number {
        None => Err(Refusal::new(
            Code::Malformed,
            "wait",
            "wait is a number of seconds",
        )),
        Some(number) if (0.0..=LONGEST_WAIT).contains(&number) => {
            Ok(Duration::from_secs_f64(number))
        }
        Some(_) => Err(Refusal::new(
            Code::Invalid,
            "wait",
            "wait is 0 to 60 seconds",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_course_speaks_by_name_alone() {
        let ask = Ask::parse("name=%E6%9D%B0%E6%A3%AE&_=17").unwrap();
        assert_eq!(ask.name, "杰森");
        assert_eq!((ask.wait, ask.contract), (WAIT, Contract::Course));
        let ask = Ask::parse("name=a&wait=0.5").unwrap();
        assert_eq!(ask.wait, Duration::from_millis(500));
    }

    #[test]
    fn rooms_count_once_and_mean_now() {
        let ask = Ask::parse("name=a&room=chat&room=vote%2Fx&room=chat").unwrap();
        let rooms = vec![RoomName::chat(), RoomName::parse("vote/x").unwrap()];
        let after = Position::Now;
        assert_eq!(ask.contract, Contract::Full { rooms, after });
    }

    #[test]
    fn rooms_come_as_jquery_writes_arrays() {
        for query in [
            "name=a&room[]=chat&room[]=vote/x",
            "name=a&room%5B%5D=chat&room=vote%2Fx",
        ] {
            let ask = Ask::parse(query).unwrap();
            let rooms = vec![RoomName::chat(), RoomName::parse("vote/x").unwrap()];
            let after = Position::Now;
            assert_eq!(ask.contract, Contract::Full { rooms, after }, "{query}");
        }
    }

    #[test]
    fn what_is_not_ours_may_hold_any_bytes() {
        let ask = Ask::parse("%FF=1&x=%FF&name=%E6%9D%B0&name=%FF&lastEventId=&wait=1&wait=%FF");
        assert_eq!(ask.unwrap().name, "杰");
    }

    #[test]
    fn a_stream_goes_on_from_where_it_broke_off() {
        let chat = vec![RoomName::chat()];
        fn parse(query: &str, last: Option<&str>) -> Subscribe {
            Subscribe::parse(query, last).unwrap()
        }
        let plain = parse("name=a", None);
        assert_eq!((plain.rooms, plain.after), (chat.clone(), Position::Now));
        let after = |text| Position::parse([text]).unwrap();
        assert_eq!(parse("name=a&after=b.1", None).after, after("b.1"));
        assert_eq!(parse("name=a&after=b.1", Some("")).after, after("b.1"));
        assert_eq!(parse("name=a&after=b.1", Some("b.7")).after, after("b.7"));
        assert_eq!(parse("name=a", Some("start")).after, Position::Start);
        for name in LAST_EVENT_ID {
            let query = format!("name=a&after=b.1&{name}=&{name}=b.5");
            assert_eq!(parse(&query, None).after, after("b.5"), "{name}");
            assert_eq!(parse(&query, Some("")).after, after("b.5"), "{name}");
            assert_eq!(parse(&query, Some("b.7")).after, after("b.7"), "{name}");
        }
        let refusal = Subscribe::parse("name=a", Some("x")).unwrap_err();
        let sought = Refusal::new(Code::Malformed, "last-event-id", refusal.to_string());
        assert_eq!(refusal, sought);
    }

    #[test]
    fn refusals_name_their_field() {
        let many: String = (0..257).map(|i| format!("&room=chat/{i}")).collect();
        let table = [
            ("", Code::Malformed, "name"),
            ("room=chat", Code::Malformed, "name"),
            ("name=a&after=now", Code::Malformed, "room"),
            ("name=a&room=chat&after=x", Code::Malformed, "after"),
            ("name=a&room=chat&after=", Code::Malformed, "after"),
            ("name=a&room=nope", Code::Invalid, "room"),
            (&format!("name=a{many}"), Code::Invalid, "room"),
            ("name=%C0%EE%C0%D7", Code::Malformed, "name"),
            ("name=%E4%BD", Code::Malformed, "name"),
            ("name=a&room=chat%2F%FF", Code::Malformed, "room"),
            ("name=a&room[]=%FF", Code::Malformed, "room"),
            ("name=a&room=chat&after=%FF", Code::Malformed, "after"),
            ("name=a&wait=%FF", Code::Malformed, "wait"),
            ("name=a&wait=", Code::Malformed, "wait"),
            ("name=a&wait=x", Code::Malformed, "wait"),
            ("name=a&wait=NaN", Code::Malformed, "wait"),
            ("name=a&wait=61", Code::Invalid, "wait"),
            ("name=a&wait=-1", Code::Invalid, "wait"),
            ("name=a&wait=inf", Code::Invalid, "wait"),
        ];
        for (query, code, field) in table {
            let refusal = Ask::parse(query).unwrap_err();
            let sought = Refusal::new(code, field, refusal.to_string());
            assert_eq!(refusal, sought, "{query}");
        }
    }
}
