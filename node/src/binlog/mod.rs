//! Reads as much of a binary log as is needed to find the end that nobody acknowledged, and no more.
//!
//! Pure parsing over anything that can be read and sought; it changes nothing. What it does not understand it
//! refuses with a sentence, because the alternative, a clone, is always safe.

mod gtid;
pub mod tail;

pub use tail::{Tail, find};

/// Why a file's end cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk.
    #[error("the binary log cannot be read")]
    Io(#[from] std::io::Error),
    /// The first bytes are not those of a binary log.
    #[error("the file is no binary log")]
    NotABinaryLog,
    /// `binlog_encryption`.
    #[error("the binary log is encrypted")]
    Encrypted,
    /// An event whose own checksum is wrong.
    #[error("the event at byte {at} is damaged")]
    Damaged {
        /// Its place.
        at: u64,
    },
    /// An event of a kind that must not be, or is not understood, where it is.
    #[error("the event at byte {at} is of kind {kind}, which is not understood")]
    Unknown {
        /// Its place.
        at: u64,
        /// Its number.
        kind: u8,
    },
    /// GTIDs with tags are written in another way.
    #[error("the binary log holds tagged GTIDs")]
    Tagged,
    /// The first transaction that the master lacks is in an older file, which may be read but not cut.
    #[error("the master lacks transactions of an older binary log: {0}")]
    Older(failover::GtidSet),
    /// After a clean end all transactions are committed in the tables.
    #[error("the server ended cleanly, so its last transactions are committed")]
    Clean,
    /// The master has a transaction that follows one it lacks.
    #[error("the master has {kept}, which follows {missing} that it lacks")]
    Between {
        /// What it has.
        kept: failover::GtidSet,
        /// What it lacks.
        missing: failover::GtidSet,
    },
    /// Crash recovery cannot roll it back.
    #[error("{0} cannot be rolled back: it is not transactional")]
    Permanent(failover::GtidSet),
}
