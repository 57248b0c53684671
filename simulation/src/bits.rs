//! A set of transactions as bits: the model compares sets after every event, so this must cost nothing.

use std::ops::{BitAnd, BitOr, Not};

const WORDS: usize = 8;

/// A transaction: its place in the ledger.
pub type Txn = u16;

/// How many transactions one run can hold.
pub const CAPACITY: usize = WORDS * 64;

/// A set of transactions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Bits([u64; WORDS]);

impl Bits {
    /// Adds `txn`.
    pub fn insert(&mut self, txn: Txn) {
        self.0[usize::from(txn) / 64] |= 1 << (txn % 64);
    }

    /// Takes `txn` out.
    pub fn remove(&mut self, txn: Txn) {
        self.0[usize::from(txn) / 64] &= !(1 << (txn % 64));
    }

    /// True when `txn` is in the set.
    pub fn has(&self, txn: Txn) -> bool {
        self.0[usize::from(txn) / 64] & (1 << (txn % 64)) != 0
    }

    /// True when all of `other` is in this set.
    pub fn contains(&self, other: &Self) -> bool {
        self.0
            .iter()
            .zip(&other.0)
            .all(|(ours, theirs)| theirs & !ours == 0)
    }

    /// True when nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The members, in order.
    pub fn iter(&self) -> impl Iterator<Item = Txn> + '_ {
        (0_u16..).zip(&self.0).flat_map(|(at, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                (rest != 0).then(|| {
                    let bit = rest.trailing_zeros();
                    rest &= rest - 1;
                    at * 64 + u16::try_from(bit).unwrap_or(0)
                })
            })
        })
    }

    /// What this set holds and `other` lacks.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        self & !other
    }
}

impl BitOr for Bits {
    type Output = Self;
    fn bitor(mut self, other: Self) -> Self {
        self.0
            .iter_mut()
            .zip(other.0)
            .for_each(|(ours, theirs)| *ours |= theirs);
        self
    }
}

impl BitAnd for Bits {
    type Output = Self;
    fn bitand(mut self, other: Self) -> Self {
        self.0
            .iter_mut()
            .zip(other.0)
            .for_each(|(ours, theirs)| *ours &= theirs);
        self
    }
}

impl Not for Bits {
    type Output = Self;
    fn not(mut self) -> Self {
        self.0.iter_mut().for_each(|word| *word = !*word);
        self
    }
}

impl FromIterator<Txn> for Bits {
    fn from_iter<I: IntoIterator<Item = Txn>>(all: I) -> Self {
        let mut bits = Self::default();
        all.into_iter().for_each(|txn| bits.insert(txn));
        bits
    }
}
