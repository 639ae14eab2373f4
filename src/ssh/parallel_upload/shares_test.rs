//! The shares against a model: in whatever order connections take, lengthen, finish and fail, every
//! byte is carried exactly once, and the end is reported when all are.

use proptest::prelude::*;

use super::shares::Shares;

/// An action of the n-th connection that has a share, or of one that has none.
#[derive(Debug, Clone)]
enum Deed {
    Take,
    /// Carries this many bytes of its share.
    Carry(usize, u64),
    Lengthen(usize),
    /// Gives its share back, finished or not.
    GiveBack(usize),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        2 => Just(Deed::Take),
        4 => (0..4usize, 1..20_000_000u64).prop_map(|(connection, bytes)| Deed::Carry(connection, bytes)),
        1 => (0..4usize).prop_map(Deed::Lengthen),
        1 => (0..4usize).prop_map(Deed::GiveBack),
    ]
}

/// A share that is out: the position to continue from, and its end.
type Out = (u64, u64);

#[derive(Default)]
struct Carried(Vec<(u64, u64)>);

impl Carried {
    fn note(&mut self, from: u64, to: u64) {
        if from < to {
            self.0.push((from, to));
        }
    }

    /// True if they are the whole file, each byte once.
    fn make_up(mut self, length: u64) -> bool {
        self.0.sort_unstable();
        let end = self
            .0
            .iter()
            .try_fold(0, |at, (from, to)| (*from == at).then_some(*to));
        end == Some(length)
    }
}

proptest! {
    #[test]
    fn every_byte_is_carried_once(
        length in prop_oneof![0..3_000_000u64, 0..400_000_000u64],
        connections in 1..6usize,
        deeds in proptest::collection::vec(deed(), 0..200),
    ) {
        let mut shares = Shares::of(length, connections);
        let mut out: Vec<Out> = Vec::new();
        let mut carried = Carried::default();
        for deed in deeds {
            match deed {
                Deed::Take => out.extend(shares.take().map(|share| (share.start, share.end))),
                Deed::Carry(connection, bytes) => {
                    if let Some((at, end)) = out.get_mut(connection) {
                        let to = (*at + bytes).min(*end);
                        carried.note(*at, to);
                        *at = to;
                    }
                }
                Deed::Lengthen(connection) => {
                    if let Some((_, end)) = out.get_mut(connection) {
                        let longer = shares.lengthen(*end);
                        prop_assert!(longer >= *end && longer <= length);
                        *end = longer;
                    }
                }
                Deed::GiveBack(connection) => {
                    if connection < out.len() {
                        let (at, end) = out.swap_remove(connection);
                        shares.give_back(at..end);
                    }
                }
            }
            prop_assert!(!shares.is_carried() || out.is_empty());
        }
        // The remaining shares are finished, and one connection carries the rest.
        for (at, end) in out {
            carried.note(at, end);
            shares.give_back(end..end);
        }
        while let Some(share) = shares.take() {
            prop_assert!(!shares.is_carried());
            carried.note(share.start, share.end);
            shares.give_back(share.end..share.end);
        }
        prop_assert!(shares.is_carried());
        prop_assert!(carried.make_up(length));
    }
}

/// A single connection goes on without a pause, and two end with small pieces.
#[test]
fn what_follows_is_added_to_a_share_and_pieces_get_smaller() {
    let length = 200_000_000;
    let mut shares = Shares::of(length, 2);
    let mut end = shares.take().unwrap().end;
    while end < length {
        let longer = shares.lengthen(end);
        assert!(longer > end);
        end = longer;
    }
    let mut shares = Shares::of(length, 2);
    let end = shares.take().unwrap().end;
    assert!(shares.take().is_some());
    assert_eq!(
        shares.lengthen(end),
        end,
        "another connection has what follows"
    );
    let mut shares = Shares::of(length, 2);
    let mut pieces = Vec::new();
    while let Some(share) = shares.take() {
        pieces.push(share.end - share.start);
    }
    assert!(pieces.is_sorted_by(|one, next| one >= next), "{pieces:?}");
    assert!(pieces.last() <= Some(&(1 << 20)), "{pieces:?}");
    assert!(pieces.len() < 40, "{pieces:?}");
}
