//! Divides a file among connections. Pure: it reads and sends nothing.

use std::ops::Range;

/// The smallest and the largest piece that is cut from the rest, in bytes. Large ones keep a
/// connection busy; they get smaller towards the end, so that all connections end at about the same
/// time.
const PIECE: (u64, u64) = (1 << 20, 16 << 20);

/// The parts of a file that are still to be carried. A share is given back with the part of it that
/// was not carried.
#[derive(Debug)]
pub(super) struct Shares {
    /// The part that was never taken.
    left: Range<u64>,
    /// Parts that were given back.
    back: Vec<Range<u64>>,
    /// The number of shares under way.
    out: usize,
    connections: u64,
}

impl Shares {
    /// A file of `length` bytes for this many connections.
    pub(super) fn of(length: u64, connections: usize) -> Self {
        Self {
            left: 0..length,
            back: Vec::new(),
            out: 0,
            connections: (connections as u64).max(1),
        }
    }

    /// The next share; `None` if there is nothing to take at this moment.
    pub(super) fn take(&mut self) -> Option<Range<u64>> {
        let share = self.back.pop().or_else(|| self.cut())?;
        self.out += 1;
        Some(share)
    }

    /// Extends a share that ends at `end` by the next piece, if that is not taken; returns its new
    /// end.
    pub(super) fn lengthen(&mut self, end: u64) -> u64 {
        if end == self.left.start {
            self.cut().map_or(end, |piece| piece.end)
        } else {
            end
        }
    }

    /// Ends a share; `rest` is the part of it that was not carried.
    pub(super) fn give_back(&mut self, rest: Range<u64>) {
        self.out = self.out.saturating_sub(1);
        if !rest.is_empty() {
            self.back.push(rest);
        }
    }

    /// True if there is nothing to take at this moment.
    pub(super) fn is_taken(&self) -> bool {
        self.left.is_empty() && self.back.is_empty()
    }

    /// True if all of it was carried.
    pub(super) fn is_carried(&self) -> bool {
        self.is_taken() && self.out == 0
    }

    fn cut(&mut self) -> Option<Range<u64>> {
        let left = self.left.end - self.left.start;
        let (least, most) = PIECE;
        let length = (left / (2 * self.connections)).clamp(least, most).min(left);
        let start = self.left.start;
        self.left.start += length;
        (length > 0).then_some(start..self.left.start)
    }
}
