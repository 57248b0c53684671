//! Reads as much of a binary log as is needed to find the end that nobody acknowledged, or whole transactions by their
//! names, and no more.
//!
//! Pure parsing over anything that can be read and sought; it changes nothing. What it does not understand it
//! refuses with a sentence, because the alternative, a clone, is always safe.

pub mod extract;
pub mod groups;
mod gtid;
pub mod tail;

use std::io::{Read, Seek, SeekFrom};

pub use extract::Extract;
pub use groups::whole;
use supervisor::binlog::{
    ENCRYPTED, MAGIC,
    event::{HEADER, Header},
};
pub use tail::{Tail, find};

/// Longer events than this are not read whole; none of those that must be is.
const LONGEST: u32 = 64 << 20;

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

/// Looks at the first bytes, behind which the events begin; returns the file's length.
fn open(file: &mut (impl Read + Seek)) -> Result<u64, Error> {
    let length = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let mut magic = [0; MAGIC.len()];
    if length < MAGIC.len() as u64 {
        return Err(Error::NotABinaryLog);
    }
    file.read_exact(&mut magic)?;
    match magic {
        MAGIC => Ok(length),
        ENCRYPTED => Err(Error::Encrypted),
        _ => Err(Error::NotABinaryLog),
    }
}

/// The header of the event at `at`; `None` at the end. A torn event is the end: the server's own recovery cuts it off.
fn header(file: &mut (impl Read + Seek), at: u64, length: u64) -> Result<Option<Header>, Error> {
    if at + HEADER as u64 > length {
        return Ok(None);
    }
    let mut bytes = [0; HEADER];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut bytes)?;
    Ok(Header::read(&bytes).filter(|header| at + u64::from(header.size) <= length))
}

/// A whole event.
fn event(file: &mut (impl Read + Seek), at: u64, header: Header) -> Result<Vec<u8>, Error> {
    if header.size > LONGEST {
        return Err(Error::Unknown {
            at,
            kind: header.kind,
        });
    }
    let mut event = vec![0; header.size as usize];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut event)?;
    Ok(event)
}
