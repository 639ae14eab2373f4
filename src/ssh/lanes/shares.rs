//! Which bytes of a file go over which lane. Pure: it reads and sends nothing itself.

use std::ops::Range;

/// The smallest and the largest piece that is cut from what is left, in bytes. Large ones keep a lane
/// going; towards the end they get smaller, so that the lanes end at about the same time.
const PIECE: (u64, u64) = (1 << 20, 16 << 20);

/// What of a file is still to be carried. Whoever takes a share gives back afterwards what of it was
/// not carried.
#[derive(Debug)]
pub(super) struct Shares {
    /// What nobody has taken yet.
    left: Range<u64>,
    /// What was given back.
    back: Vec<Range<u64>>,
    /// How many shares are out.
    out: usize,
    lanes: u64,
}

impl Shares {
    /// A file of `length` bytes for so many lanes.
    pub(super) fn of(length: u64, lanes: usize) -> Self {
        Self {
            left: 0..length,
            back: Vec::new(),
            out: 0,
            lanes: (lanes as u64).max(1),
        }
    }

    /// The next share; none where there is nothing to take at this moment.
    pub(super) fn take(&mut self) -> Option<Range<u64>> {
        let share = self.back.pop().or_else(|| self.cut())?;
        self.out += 1;
        Some(share)
    }

    /// Lengthens a share that ends at `end` by what follows, if nobody has taken that; its new end.
    pub(super) fn lengthen(&mut self, end: u64) -> u64 {
        match end == self.left.start {
            true => self.cut().map_or(end, |piece| piece.end),
            false => end,
        }
    }

    /// A share comes back with what of it was not carried, if anything.
    pub(super) fn give_back(&mut self, rest: Range<u64>) {
        self.out = self.out.saturating_sub(1);
        if !rest.is_empty() {
            self.back.push(rest);
        }
    }

    /// Whether there is nothing to take at this moment.
    pub(super) fn is_taken(&self) -> bool {
        self.left.is_empty() && self.back.is_empty()
    }

    /// Whether all of it was carried.
    pub(super) fn is_carried(&self) -> bool {
        self.is_taken() && self.out == 0
    }

    fn cut(&mut self) -> Option<Range<u64>> {
        let left = self.left.end - self.left.start;
        let (least, most) = PIECE;
        let length = (left / (2 * self.lanes)).clamp(least, most).min(left);
        let start = self.left.start;
        self.left.start += length;
        (length > 0).then_some(start..self.left.start)
    }
}
