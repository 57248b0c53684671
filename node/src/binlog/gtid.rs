//! GTIDs as the binary log writes them.

use std::fmt::Write as _;

use failover::GtidSet;
use supervisor::binlog::event::{HEADER, u64_at};

use super::Error;

/// More origins than any server has: the number then means the other encoding, of sets with tags.
const ORIGINS: u64 = 1 << 20;

/// The transaction that a GTID event begins: flags, UUID, number.
pub fn one(event: &[u8], at: u64) -> Result<GtidSet, Error> {
    let read = || {
        let uuid = uuid(event.get(HEADER + 1..HEADER + 17)?);
        let number = u64_at(event, HEADER + 17).filter(|number| *number > 0)?;
        Some(GtidSet::new().with(&uuid, number, number))
    };
    read().ok_or(Error::Damaged { at })
}

/// What all older files hold together: how many origins; for each its UUID, how many intervals, and these as first
/// and one past the last.
pub fn previous(event: &[u8], at: u64) -> Result<GtidSet, Error> {
    let damaged = || Error::Damaged { at };
    let origins = u64_at(event, HEADER).ok_or_else(damaged)?;
    if origins > ORIGINS {
        return Err(Error::Tagged);
    }
    let mut set = GtidSet::new();
    let mut place = HEADER + 8;
    for _ in 0..origins {
        let uuid = uuid(event.get(place..place + 16).ok_or_else(damaged)?);
        let intervals = u64_at(event, place + 16).ok_or_else(damaged)?;
        place += 24;
        for _ in 0..intervals {
            let from = u64_at(event, place).ok_or_else(damaged)?;
            let past = u64_at(event, place + 8).ok_or_else(damaged)?;
            if from == 0 || past <= from {
                return Err(damaged());
            }
            set = set.with(&uuid, from, past - 1);
            place += 16;
        }
    }
    Ok(set)
}

fn uuid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}
