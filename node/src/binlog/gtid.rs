//! GTIDs as the binary log writes them.

use std::fmt::Write as _;

use failover::GtidSet;
use mysql_common::{
    binlog::{BinlogCtx, consts::BinlogVersion, events::FormatDescriptionEvent, events::GtidEvent},
    io::ParseBuf,
};
use supervisor::binlog::event::{HEADER, kind, u64_at};

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

/// The transaction that a GTID event with a tag begins. `event` is without its checksum.
pub fn tagged(event: &[u8], at: u64) -> Result<GtidSet, Error> {
    let read = || {
        let format = FormatDescriptionEvent::new(BinlogVersion::Version4);
        let context = BinlogCtx::new(event.len(), &format, kind::TAGGED_GTID);
        let name: GtidEvent = ParseBuf(event.get(HEADER..)?).parse(context).ok()?;
        let uuid = uuid(&name.sid());
        let text = match name.tag() {
            Some(tag) => format!("{uuid}:{tag}:{}", name.gno()),
            None => format!("{uuid}:{}", name.gno()),
        };
        text.parse().ok()
    };
    read().ok_or(Error::Damaged { at })
}

/// What all older files hold together, where it has no tags.
pub fn previous(event: &[u8], at: u64) -> Result<GtidSet, Error> {
    match u64_at(event, HEADER) {
        Some(origins) if origins > ORIGINS => Err(Error::Tagged),
        _ => all_previous(event, at),
    }
}

/// What all older files hold together: how many origins; for each its UUID, with tags the length of its tag doubled and
/// the tag, how many intervals, and these as first and one past the last.
pub fn all_previous(event: &[u8], at: u64) -> Result<GtidSet, Error> {
    sets(event).ok_or(Error::Damaged { at })
}

fn sets(event: &[u8]) -> Option<GtidSet> {
    let origins = u64_at(event, HEADER)?;
    let has_tags = origins > ORIGINS;
    let origins = if has_tags { (origins << 8) >> 16 } else { origins };
    let mut set = GtidSet::new();
    let mut place = HEADER + 8;
    for _ in 0..origins {
        let mut origin = uuid(event.get(place..place + 16)?);
        place += 16;
        if has_tags {
            let length = usize::from(event.get(place)? / 2);
            let tag = event.get(place + 1..place + 1 + length)?;
            if length > 0 {
                origin = format!("{origin}:{}", std::str::from_utf8(tag).ok()?);
            }
            place += 1 + length;
        }
        let intervals = u64_at(event, place)?;
        place += 8;
        for _ in 0..intervals {
            let (from, past) = (u64_at(event, place)?, u64_at(event, place + 8)?);
            let last = past.checked_sub(1)?;
            set = set.union(&format!("{origin}:{from}-{last}").parse().ok()?);
            place += 16;
        }
    }
    Some(set)
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
