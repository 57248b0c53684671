//! The node's own guard: when a master that is alone closes itself, and when it opens again.
//!
//! ```text
//!   open ──── no leading operator AND fewer than W slaves heard for GUARD, or a higher term seen ───► closed
//!   closed ── the leading operator names it, or W slaves answer that they know no higher term ──────► open
//! ```
//! Closed means that clients are dropped and none is let in. It is not a fence: a commit that waits goes on waiting
//! and is never released by it, and nobody may count on it for a promotion. It only keeps clients from sitting on a
//! server that another one may have replaced.
//!
//! Why W slaves may open it: every promotion in a higher term needs the fences of N − W members, and a fenced node
//! has stored that term. This node and W others that have not are W + 1 of N, so too few are left. A node that is
//! fenced in this very term may be on its way out of the N, so it does not count. Only a promotion by force goes without
//! those fences: what an old master does that nobody could end then is part of its price.

use crate::{Millis, Term};

/// A master that hears neither the leading operator nor enough slaves for so long closes itself.
pub const GUARD: Millis = 2000;
/// What was heard less than this ago counts as heard now, where a closed master is to be opened.
pub const FRESH: Millis = 1000;

/// What the node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Master {
    /// The term it leads in.
    pub term: Term,
    /// How many slaves must hold a write before it is acknowledged.
    pub acks: u32,
    /// Clients may connect.
    pub open: bool,
    /// The highest term that the node has stored.
    pub stored: Term,
    /// Since when it leads, or since when its agent knows.
    pub since: Millis,
}

/// What the leading operator said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Word {
    /// The last moment in which it surely led.
    pub at: Millis,
    /// The term in which this node is its master; `None` where it is not, or while the master changes.
    pub names: Option<Term>,
}

/// Another node that answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer {
    /// When.
    pub at: Millis,
    /// The highest term that it had stored by then.
    pub term: Term,
    /// It was fenced then, in whatever term.
    pub fenced: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Stay,
    /// Drop all clients and let none in, for this reason.
    Close(String),
    /// Let clients in again, for this reason.
    Open(String),
}

/// Judges a master by what it hears. `peers` are the other nodes that ever answered in this mastership.
pub fn judge(master: Master, word: Option<Word>, peers: &[Peer], now: Millis) -> Verdict {
    let ago = |at: Millis| now.saturating_sub(at);
    let seen = peers.iter().map(|peer| peer.term).max().unwrap_or_default();
    let highest = seen.max(master.stored);
    if highest > master.term {
        return if master.open {
            Verdict::Close(format!(
                "it leads in term {} and has learned of term {highest}",
                master.term
            ))
        } else {
            Verdict::Stay
        };
    }
    if master.open {
        return close(master, word, peers, now);
    }
    if word.is_some_and(|word| word.names == Some(master.term) && ago(word.at) < FRESH) {
        return Verdict::Open("the operator confirms it as the master".to_owned());
    }
    let heard = peers
        .iter()
        .filter(|peer| peer.term == master.term && !peer.fenced && ago(peer.at) < FRESH)
        .count();
    if master.acks > 0 && heard >= master.acks as usize {
        return Verdict::Open(format!("{heard} other nodes answer and know no higher term"));
    }
    Verdict::Stay
}

fn close(master: Master, word: Option<Word>, peers: &[Peer], now: Millis) -> Verdict {
    // A master that waits for nobody is complete by itself.
    if master.acks == 0 {
        return Verdict::Stay;
    }
    // What was not heard yet may still come: the time runs from the beginning of the mastership.
    let silent = |at: Option<Millis>| now.saturating_sub(at.unwrap_or_default().max(master.since));
    let heard = peers.iter().filter(|peer| silent(Some(peer.at)) < GUARD).count();
    let operator = silent(word.map(|word| word.at));
    if operator < GUARD || heard >= master.acks as usize || silent(None) < GUARD {
        return Verdict::Stay;
    }
    Verdict::Close(format!(
        "no leading operator was heard for {GUARD} ms and {heard} of the {} slaves that must hold a write answer",
        master.acks
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master(open: bool) -> Master {
        Master {
            term: Term(3),
            acks: 1,
            open,
            stored: Term(3),
            since: 0,
        }
    }

    fn peer(at: Millis, term: u64) -> Peer {
        Peer {
            at,
            term: Term(term),
            fenced: false,
        }
    }

    fn word(at: Millis, names: u64) -> Word {
        Word {
            at,
            names: (names > 0).then_some(Term(names)),
        }
    }

    #[test]
    fn a_master_that_hears_nobody_closes_after_the_guard_time_and_not_before() {
        let peers = [peer(900, 3)];
        assert_eq!(
            judge(master(true), Some(word(1000, 3)), &peers, 2999),
            Verdict::Stay
        );
        assert!(matches!(
            judge(master(true), Some(word(1000, 3)), &peers, 3000),
            Verdict::Close(_)
        ));
        assert_eq!(judge(master(true), None, &[], GUARD - 1), Verdict::Stay);
        assert!(matches!(judge(master(true), None, &[], GUARD), Verdict::Close(_)));
    }

    #[test]
    fn losing_the_operator_alone_or_the_slaves_alone_closes_nothing() {
        assert_eq!(
            judge(master(true), None, &[peer(59_500, 3)], 60_000),
            Verdict::Stay
        );
        assert_eq!(
            judge(master(true), Some(word(59_500, 3)), &[], 60_000),
            Verdict::Stay
        );
    }

    #[test]
    fn a_master_that_waits_for_nobody_is_never_alone() {
        let single = Master {
            acks: 0,
            ..master(true)
        };
        assert_eq!(judge(single, None, &[], 60_000), Verdict::Stay);
    }

    #[test]
    fn fewer_slaves_than_must_hold_a_write_are_not_enough() {
        let five = Master {
            acks: 2,
            ..master(true)
        };
        assert!(matches!(
            judge(five, None, &[peer(9_900, 3)], 10_000),
            Verdict::Close(_)
        ));
        assert_eq!(
            judge(five, None, &[peer(9_900, 3), peer(9_800, 3)], 10_000),
            Verdict::Stay
        );
    }

    #[test]
    fn a_higher_term_closes_at_once_and_keeps_closed_whoever_says_what() {
        let peers = [peer(0, 4), peer(9_990, 3)];
        assert!(matches!(
            judge(master(true), Some(word(9_990, 3)), &peers, 10_000),
            Verdict::Close(_)
        ));
        assert_eq!(
            judge(master(false), Some(word(9_990, 3)), &peers, 10_000),
            Verdict::Stay
        );
        let told = Master {
            stored: Term(4),
            ..master(true)
        };
        assert!(matches!(judge(told, None, &[], 0), Verdict::Close(_)));
    }

    #[test]
    fn a_closed_master_opens_for_the_operator_that_names_it_or_for_enough_slaves_of_its_term() {
        let closed = master(false);
        assert!(matches!(
            judge(closed, Some(word(9_900, 3)), &[], 10_000),
            Verdict::Open(_)
        ));
        assert!(matches!(
            judge(closed, None, &[peer(9_900, 3)], 10_000),
            Verdict::Open(_)
        ));
        // An operator that changes the master, one that speaks of an older term, and one that led some time ago.
        for word in [Some(word(9_900, 0)), Some(word(9_900, 2)), Some(word(8_000, 3))] {
            assert_eq!(judge(closed, word, &[], 10_000), Verdict::Stay);
        }
        // A node that has forgotten its term proves nothing, and neither does a fenced one or an answer from before.
        let fenced = Peer {
            fenced: true,
            ..peer(9_900, 3)
        };
        for peer in [peer(9_900, 0), peer(8_000, 3), fenced] {
            assert_eq!(judge(closed, None, &[peer], 10_000), Verdict::Stay);
        }
    }
}
