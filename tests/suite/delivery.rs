//! Messages sent and messages received by each reader, and the rules of delivery for both.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::fixture::{Line, Reply};

/// The last message of a test; who has it is done.
pub const END: &str = "the end";
/// A pause where nobody answers: the server is down.
const PAUSE: Duration = Duration::from_millis(5);

/// A message as a reader took it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Taken {
    pub number: u64,
    pub room: String,
    pub text: String,
}

/// The messages that the publishers tried to send, and those that were acknowledged.
#[derive(Default)]
pub struct Said {
    tried: Mutex<BTreeSet<String>>,
    accepted: Mutex<BTreeMap<u64, String>>,
    count: AtomicUsize,
    allowed: AtomicUsize,
    enough: AtomicBool,
    over: AtomicBool,
}

/// Ends all publishers and readers if the test fails, so that none runs forever.
pub struct Watch<'a>(&'a Said);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.be_quiet();
            self.0.over.store(true, Ordering::SeqCst);
        }
    }
}

impl Said {
    /// A guard for the thread that leads the test.
    pub fn watch(&self) -> Watch<'_> {
        Watch(self)
    }

    /// Lets the publishers go on until so many are accepted.
    pub fn allow(&self, messages: usize) {
        self.allowed.store(messages, Ordering::SeqCst);
    }

    /// Publishes what is allowed until there is enough: most to the first room, some to the others.
    pub fn keep_talking(&self, url: &str, rooms: &[&str], name: &str) {
        let mut line = Line::new(url);
        for turn in 0.. {
            while self.accepted() >= self.allowed.load(Ordering::SeqCst) && !self.is_enough() {
                std::thread::sleep(PAUSE / 5);
            }
            if self.is_enough() {
                return;
            }
            let room = rooms[(turn % 4 / 3) * (turn / 4 % rooms.len())];
            self.say(&mut line, room, &format!("{name}: {turn}"));
        }
    }

    /// Ends the publishers.
    pub fn be_quiet(&self) {
        self.enough.store(true, Ordering::SeqCst);
    }

    fn is_enough(&self) -> bool {
        self.enough.load(Ordering::SeqCst)
    }

    /// True if the test has failed elsewhere.
    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// The number of messages that the server has acknowledged.
    pub fn accepted(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Sends `text` once and notes whether it was acknowledged. An answer that did not come leaves
    /// open whether it was accepted.
    pub fn say(&self, line: &mut Line, room: &str, text: &str) -> bool {
        let new = self.tried.lock().unwrap().insert(text.to_owned());
        assert!(new, "each text is said once");
        let form = [("content", text), ("room", room), ("name", "publisher")];
        let Ok(reply) = line.post("/send_msg", &form) else {
            std::thread::sleep(PAUSE);
            return false;
        };
        assert_eq!(reply.status, 200, "{}", reply.body);
        let number = number(&reply.json()["id"]);
        let before = self.accepted.lock().unwrap().insert(number, text.into());
        assert_eq!(before, None, "the number {number} was given twice");
        self.count.fetch_add(1, Ordering::SeqCst);
        true
    }

    /// The log as it is kept must have every accepted message under its number, nothing twice, and
    /// nothing that nobody said. `dropped` tells what retention may have taken.
    pub fn check(&self, log: &[Taken], dropped: impl Fn(&str, u64) -> bool) {
        let numbers: Vec<u64> = log.iter().map(|taken| taken.number).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        let texts: BTreeSet<&str> = log.iter().map(|taken| &*taken.text).collect();
        assert_eq!(texts.len(), log.len(), "something was accepted twice");
        let tried = self.tried.lock().unwrap();
        let strange: Vec<_> = texts
            .iter()
            .filter(|text| !tried.contains(**text))
            .collect();
        assert!(strange.is_empty(), "nobody said {strange:?}");
        let kept: BTreeMap<u64, &str> = log.iter().map(|t| (t.number, &*t.text)).collect();
        for (number, text) in &*self.accepted.lock().unwrap() {
            let found = kept.get(number).copied();
            let gone = found.is_none() && dropped(text, *number);
            assert!(gone || found == Some(text), "{number} {text:?}: {found:?}");
        }
    }
}

/// One reply of a poll with a cursor.
#[derive(Debug)]
pub struct Seen {
    /// The position that was asked from, and the one that the reply reaches.
    pub after: u64,
    pub reaches: u64,
    pub messages: Vec<Taken>,
    pub gap: Vec<String>,
}

/// A client that keeps its cursor.
pub struct Reader {
    pub name: String,
    pub rooms: Vec<String>,
    pub seen: Vec<Seen>,
    pub taken: Vec<Taken>,
    cursor: String,
}

impl Reader {
    pub fn new(name: &str, rooms: &[&str], cursor: &str) -> Self {
        Self {
            name: name.to_owned(),
            rooms: rooms.iter().map(|room| (*room).to_owned()).collect(),
            seen: Vec::new(),
            taken: Vec::new(),
            cursor: cursor.to_owned(),
        }
    }

    /// Polls until the last message came.
    pub fn read_on(mut self, url: &str, said: &Said) -> Self {
        let mut line = Line::new(url);
        while !self.is_done() && !said.is_over() {
            let asked = self.cursor.clone();
            let answer = self.begin(&mut line, "20").and_then(|()| line.finish());
            self.take(&asked, answer);
        }
        self
    }

    /// The same with two polls at a time: each is answered by its own cursor, the second late.
    pub fn read_on_overlapping(mut self, url: &str, said: &Said) -> Self {
        let (mut line, mut late) = (Line::new(url), Line::new(url));
        let mut late_asked = self.cursor.clone();
        let mut begun = self.begin(&mut late, "20");
        while !self.is_done() && !said.is_over() {
            let asked = self.cursor.clone();
            let sent = self.begin(&mut line, "20");
            self.take(&late_asked, begun.and_then(|()| late.finish()));
            std::mem::swap(&mut line, &mut late);
            (late_asked, begun) = (asked, sent);
        }
        self
    }

    /// Polls until one answer came, which may be empty.
    pub fn look_once(&mut self, url: &str) {
        let (mut line, before) = (Line::new(url), self.seen.len());
        while self.seen.len() == before {
            let asked = self.cursor.clone();
            let answer = self.begin(&mut line, "0").and_then(|()| line.finish());
            self.take(&asked, answer);
        }
    }

    fn begin(&self, line: &mut Line, wait: &str) -> io::Result<()> {
        let mut query = vec![
            ("name", &*self.name),
            ("after", &*self.cursor),
            ("wait", wait),
        ];
        query.extend(self.rooms.iter().map(|room| ("room", &**room)));
        line.begin("/get_msg", &query)
    }

    fn is_done(&self) -> bool {
        self.taken.last().is_some_and(|last| last.text == END)
    }

    /// Takes what is new in an answer; where none came, the cursor stays.
    fn take(&mut self, asked: &str, answer: io::Result<Reply>) {
        let Ok(reply) = answer else {
            std::thread::sleep(PAUSE);
            return;
        };
        assert_eq!(
            reply.status, 200,
            "{} by {asked}: {}",
            self.name, reply.body
        );
        let reply = reply.json();
        let seen = Seen {
            after: position(asked),
            reaches: position(reply["cursor"].as_str().unwrap()),
            messages: taken(&reply),
            gap: strings(&reply["gap"]),
        };
        let last = self.taken.last().map_or(0, |taken| taken.number);
        let new = seen.messages.iter().filter(|taken| taken.number > last);
        self.taken.extend(new.cloned());
        if seen.reaches > position(&self.cursor) {
            self.cursor = reply["cursor"].as_str().unwrap().to_owned();
        }
        self.seen.push(seen);
    }

    /// Everything in the reader's rooms after its start came to it once and in order, and each reply
    /// alone was whole: nothing between its two cursors is missing but what its gap names.
    pub fn check(&self, log: &[Taken], dropped: impl Fn(&Taken) -> bool) {
        let heard_of: BTreeSet<u64> = log.iter().map(|taken| taken.number).collect();
        let mine = |taken: &&Taken| self.rooms.contains(&taken.room);
        let log: Vec<&Taken> = log.iter().filter(mine).collect();
        let mut told = BTreeSet::new();
        for seen in &self.seen {
            let (after, reaches) = (seen.after, seen.reaches);
            let sound = after <= reaches && seen.messages.iter().all(|m| m.number <= reaches);
            assert!(sound, "{}: {seen:?}", self.name);
            let between = |taken: &&&Taken| after < taken.number && taken.number <= reaches;
            let due = log.iter().filter(between);
            let missing: BTreeSet<&str> = due
                .clone()
                .filter(|taken| !seen.messages.contains(taken))
                .map(|taken| &*taken.room)
                .collect();
            let lost: BTreeSet<&str> = due.filter(|t| dropped(t)).map(|t| &*t.room).collect();
            let gap: BTreeSet<&str> = seen.gap.iter().map(|room| &**room).collect();
            assert!(
                missing.is_subset(&gap),
                "{}: {missing:?}: {seen:?}",
                self.name
            );
            // Numbers have no holes: one that nobody heard of was accepted by a server that was killed
            // before it could say so, and was dropped before anybody read it. Its gap is told rightly.
            let unheard = (after + 1..=reaches).any(|number| !heard_of.contains(&number));
            let rightly = unheard || gap.is_subset(&lost);
            assert!(rightly, "{}: {lost:?}: {seen:?}", self.name);
            told.extend(gap.iter().map(|room| (*room, after, reaches)));
        }
        let start = self.seen.first().map_or(0, |seen| seen.after);
        let excused = |taken: &Taken| {
            told.iter().any(|(room, after, reaches)| {
                *room == taken.room && *after < taken.number && taken.number <= *reaches
            })
        };
        let has = |taken: &&&Taken| self.taken.binary_search(taken).is_ok() || !excused(taken);
        let after_start = log.iter().filter(|taken| taken.number > start);
        let due: Vec<&Taken> = after_start.filter(has).copied().collect();
        assert_eq!(self.taken.iter().collect::<Vec<_>>(), due, "{}", self.name);
    }
}

/// The course's page: its cookie is its cursor.
pub struct CourseReader {
    pub name: String,
    pub texts: Vec<String>,
    /// The number of messages received, shared with other threads.
    pub progress: Arc<AtomicUsize>,
    cookie: String,
}

impl CourseReader {
    /// Opens `/home`; from here on nothing is missed.
    pub fn open(url: &str, name: &str) -> Self {
        let reply = Line::new(url).get("/home/", &[("name", name)], None);
        let cookie = cookie(&reply.unwrap()).expect("a cookie");
        Self {
            name: name.to_owned(),
            texts: Vec::new(),
            progress: Arc::default(),
            cookie,
        }
    }

    /// Polls until the last message came.
    pub fn read_on(mut self, url: &str, said: &Said) -> Self {
        let mut line = Line::new(url);
        while self.texts.last().is_none_or(|last| last != END) && !said.is_over() {
            let query = [("name", &*self.name)];
            let Ok(reply) = line.get("/get_msg/", &query, Some(&self.cookie)) else {
                std::thread::sleep(PAUSE);
                continue;
            };
            assert_eq!(reply.status, 200, "{}: {}", self.name, reply.body);
            let told = reply.json();
            if told["status"] == true {
                self.texts.push(told["msg"].as_str().unwrap().to_owned());
                self.progress.store(self.texts.len(), Ordering::SeqCst);
            }
            self.cookie = cookie(&reply).expect("each reply sets the cookie");
        }
        self
    }
}

/// Everything that `rooms` keep at this moment, by a client that reads it all at once.
pub fn kept(url: &str, rooms: &[&str]) -> Vec<Taken> {
    let mut line = Line::new(url);
    let (mut after, mut all) = ("start".to_owned(), Vec::new());
    loop {
        let mut query = vec![("name", "auditor"), ("after", &*after), ("wait", "0")];
        query.extend(rooms.iter().map(|room| ("room", *room)));
        let reply = line.get("/get_msg", &query, None).unwrap().json();
        let new = taken(&reply);
        if new.is_empty() {
            return all;
        }
        all.extend(new);
        after = reply["cursor"].as_str().unwrap().to_owned();
    }
}

fn taken(reply: &Value) -> Vec<Taken> {
    let messages = reply["messages"].as_array().unwrap();
    let take = |message: &Value| Taken {
        number: number(&message["id"]),
        room: message["room"].as_str().unwrap().to_owned(),
        text: message["data"].as_str().unwrap().to_owned(),
    };
    messages.iter().map(take).collect()
}

fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn number(id: &Value) -> u64 {
    id.as_str().unwrap().parse().unwrap()
}

/// The number in a cursor: clients do not look, the model does.
fn position(cursor: &str) -> u64 {
    cursor.rsplit_once('.').unwrap().1.parse().unwrap()
}

fn cookie(reply: &Reply) -> Option<String> {
    let set = reply.header("set-cookie")?;
    Some(set.split(';').next()?.to_owned())
}
