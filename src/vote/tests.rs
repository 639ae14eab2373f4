use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::store::{Durability, Store, events};

struct Bench {
    _folder: tempfile::TempDir,
    store: Store,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("longshore.db"), Durability::Process).unwrap();
        Bench {
            _folder: folder,
            store,
        }
    }

    fn votes(&self) -> Votes<'_> {
        Votes::of(&self.store)
    }

    /// The messages of the room `vote/lunch`, oldest first.
    fn told(&self) -> Vec<Value> {
        let told = self
            .store
            .read_log(|conn| events::last(conn, "vote/lunch", 10_000))
            .unwrap();
        for event in &told {
            assert_eq!((event.kind.as_str(), event.sender.as_str()), ("vote", ""));
        }
        let read = |text: &str| serde_json::from_str(text).unwrap();
        told.iter().map(|event| read(&event.data)).collect()
    }
}

fn lunch() -> Question {
    Question::new(" 午饭? ", ["面", " 饭 ", "", "饺子"]).unwrap()
}

fn counts(vote: &Vote) -> Vec<i64> {
    vote.options.iter().map(|option| option.count).collect()
}

#[test]
fn questions_are_bounded() {
    let question = lunch();
    assert_eq!(question.text, "午饭?");
    assert_eq!(question.options, ["面", "饭", "饺子"]);
    let long = "好".repeat(QUESTION_CHARS);
    assert!(Question::new(&long, ["a", "b"]).is_ok());
    let eleven: Vec<String> = (0..=MOST_OPTIONS).map(|i| i.to_string()).collect();
    let longer = format!("{long}x");
    let option = "x".repeat(OPTION_CHARS + 1);
    let table: [(&str, Vec<&str>, &str, &str); 8] = [
        (" ", vec!["a", "b"], "question", "required"),
        (&longer, vec!["a", "b"], "question", "too_long"),
        ("a\nb", vec!["a", "b"], "question", "invalid_characters"),
        ("q", vec!["a", " "], "options", "vote_options"),
        ("q", vec![], "options", "vote_options"),
        ("q", vec!["a", &option], "options", "too_long"),
        ("q", vec!["a", "b", " a "], "options", "vote_options_alike"),
        (
            "q",
            eleven.iter().map(String::as_str).collect(),
            "options",
            "vote_options",
        ),
    ];
    for (text, options, field, code) in table {
        let bad = Question::new(text, options).unwrap_err();
        assert_eq!((bad.field, bad.code), (field, code), "{text:.20}");
    }
}

#[test]
fn ballots_are_read() {
    for good in [
        "2",
        " 2 ",
        r#"{"choice":2}"#,
        r#"{"choice":"2"}"#,
        r#"{"choice":"02","more":[]}"#,
    ] {
        assert_eq!(read_choice(good), Ok(2), "{good}");
    }
    for (bad, field) in [
        ("", "content"),
        ("two", "content"),
        ("[2]", "content"),
        ("\"2\"", "content"),
        ("null", "content"),
        ("0", "choice"),
        ("-1", "choice"),
        ("1.5", "choice"),
        ("4294967296", "choice"),
        ("{}", "choice"),
        (r#"{"choice":null}"#, "choice"),
        (r#"{"choice":""}"#, "choice"),
        (r#"{"choice":"+2"}"#, "choice"),
        (r#"{"choice":[1]}"#, "choice"),
        (r#"{"choice":"99999999999999999999"}"#, "choice"),
    ] {
        assert_eq!(read_choice(bad), Err(field), "{bad}");
    }
}

#[test]
fn a_ballot_can_be_changed_until_the_vote_is_closed() {
    let bench = Bench::new();
    let (ann, bob) = (Voter::account("ann"), Voter::browser("token"));
    let cast = |who: &Voter, choice| {
        let cast = bench.votes().cast("lunch", who, choice);
        cast.map(|(vote, _)| vote)
    };
    assert!(matches!(cast(&ann, 1), Err(VoteError::Unknown)));
    bench.votes().set("lunch", lunch(), &bob).unwrap();
    assert_eq!(counts(&cast(&ann, 1).unwrap()), [1, 0, 0]);
    assert_eq!(counts(&cast(&bob, 1).unwrap()), [2, 0, 0]);
    assert_eq!(counts(&cast(&ann, 3).unwrap()), [1, 0, 1]);
    assert_eq!(counts(&cast(&ann, 3).unwrap()), [1, 0, 1]);
    assert!(matches!(cast(&ann, 4), Err(VoteError::NoSuchOption)));
    let closed = bench.votes().set_open("lunch", false, &bob).unwrap();
    assert!(!closed.open);
    assert!(matches!(cast(&ann, 1), Err(VoteError::Closed)));
    let found = bench.votes().find_with_ballot("lunch", &ann).unwrap();
    assert_eq!(found, Some((closed, Some(3))));
    assert!(bench.votes().set_open("lunch", true, &bob).unwrap().open);
    assert_eq!(counts(&cast(&ann, 1).unwrap()), [2, 0, 0]);

    let told = bench.told();
    let versions: Vec<_> = told.iter().map(|told| told["version"].as_i64()).collect();
    assert_eq!(versions, (1..=8).map(Some).collect::<Vec<_>>());
    assert_eq!(told[0]["options"], json!(["面", "饭", "饺子"]));
    assert_eq!(
        told[3],
        json!({"version": 4, "open": true, "counts": [1, 0, 1], "total": 2})
    );
}

#[test]
fn who_opened_it_organises_it_and_so_does_every_account() {
    let bench = Bench::new();
    let (owner, other) = (Voter::browser("one"), Voter::browser("two"));
    let program = Voter::program("account:ann");
    bench.votes().set("lunch", lunch(), &owner).unwrap();
    for stranger in [&other, &program] {
        let set = bench.votes().set("lunch", lunch(), stranger);
        assert!(matches!(set, Err(VoteError::NotOrganiser)));
        let close = bench.votes().set_open("lunch", false, stranger);
        assert!(matches!(close, Err(VoteError::NotOrganiser)));
    }
    let ann = Voter::account("ann");
    bench.votes().set_open("lunch", false, &ann).unwrap();
    let again = bench.votes().set("lunch", lunch(), &ann).unwrap();
    assert!(again.open && again.may_organise(&owner));
    let none = bench.votes().set_open("none", false, &ann);
    assert!(matches!(none, Err(VoteError::Unknown)));
}

#[test]
fn a_new_question_begins_anew_with_a_higher_version() {
    let bench = Bench::new();
    let ann = Voter::account("ann");
    bench.votes().set("lunch", lunch(), &ann).unwrap();
    bench.votes().cast("lunch", &ann, 2).unwrap();
    let next = Question::new("q", ["a", "b"]).unwrap();
    let vote = bench.votes().set("lunch", next, &ann).unwrap();
    assert_eq!((counts(&vote), vote.version), (vec![0, 0], 3));
    let found = bench.votes().find_with_ballot("lunch", &ann).unwrap();
    assert_eq!(found, Some((vote, None)));
    let newest = bench.votes().newest(10).unwrap();
    assert_eq!((newest.len(), newest[0].1), (1, 0));
    bench.votes().sweep().unwrap();
    assert!(bench.votes().find("lunch").unwrap().is_some());
}

#[test]
fn no_token_is_stored() {
    assert!(!Voter::browser("secret-token").as_str().contains("secret"));
    assert_ne!(Voter::browser("a"), Voter::browser("b"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// The stored counts are those of the last ballot of each voter, and the room's last message has
    /// the same.
    #[test]
    fn counts_are_what_a_recount_gives(
        casts in proptest::collection::vec((0u32..6, 1u32..=4), 1..40)
    ) {
        let bench = Bench::new();
        let ann = Voter::account("ann");
        bench.votes().set("lunch", lunch(), &ann).unwrap();
        let mut ballots = BTreeMap::new();
        for (who, choice) in casts {
            let cast = bench.votes().cast("lunch", &Voter::program(&who.to_string()), choice);
            match choice {
                4 => prop_assert!(matches!(cast, Err(VoteError::NoSuchOption))),
                _ => {
                    ballots.insert(who, choice);
                    prop_assert!(cast.is_ok());
                }
            }
        }
        let recount: Vec<i64> = (1..=3)
            .map(|option| ballots.values().filter(|choice| **choice == option).count() as i64)
            .collect();
        let vote = bench.votes().find("lunch").unwrap().unwrap();
        prop_assert_eq!(counts(&vote), recount.clone());
        prop_assert_eq!(&bench.told().pop().unwrap()["counts"], &json!(recount));
    }
}
