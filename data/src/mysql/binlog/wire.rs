//! Packets of the server's into events of the log, with no more in memory than one event: a compressed transaction is
//! unpacked while it comes.

use bytes::{Buf as _, BytesMut};

use super::{
    Error,
    unpack::{Unpacking, payload},
};

/// Bytes before what an event says.
pub(super) const HEADER: usize = 19;
/// Bytes behind it, where the log has checksums.
const CHECKSUM: usize = 4;
/// The length of a packet that goes on in another one.
const FULL: usize = 0xff_ffff;
/// Taken of a packet at a time.
const CHUNK: usize = 16 << 10;

/// Kinds of events, by MySQL's numbers.
pub mod kind {
    /// A statement.
    pub const QUERY: u8 = 2;
    /// How the file is written.
    pub const FORMAT: u8 = 15;
    /// The end of a transaction.
    pub const XID: u8 = 16;
    /// What the following rows are of.
    pub const TABLE_MAP: u8 = 19;
    /// Rows that were inserted.
    pub const WRITE_ROWS: u8 = 30;
    /// Rows that were updated.
    pub const UPDATE_ROWS: u8 = 31;
    /// Rows that were deleted.
    pub const DELETE_ROWS: u8 = 32;
    /// A transaction begins.
    pub const GTID: u8 = 33;
    /// The first half of a transaction of two phases ends.
    pub const XA_PREPARE: u8 = 38;
    /// Rows of which only parts of documents are there.
    pub const PARTIAL_ROWS: u8 = 39;
    /// A transaction's events, compressed.
    pub const PAYLOAD: u8 = 40;
    /// A transaction with a tag begins.
    pub const TAGGED_GTID: u8 = 42;
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event(pub(super) Vec<u8>);

impl Event {
    /// What it is.
    pub fn kind(&self) -> u8 {
        self.0.get(4).copied().unwrap_or_default()
    }

    /// What it says.
    pub fn data(&self) -> &[u8] {
        self.0.get(HEADER..).unwrap_or_default()
    }
}

/// What comes from the server.
#[derive(Debug)]
pub(super) struct Wire {
    raw: BytesMut,
    /// Bytes that are left of the packet.
    left: usize,
    /// A message has begun, and whether it goes on in a further packet.
    message: Option<bool>,
    /// What there is of the message.
    whole: Vec<u8>,
    /// Events of the file end with checksums; those inside a compressed transaction never do.
    has_checksums: bool,
    unpacking: Option<Unpacking>,
}

impl Wire {
    pub(super) fn new(raw: BytesMut) -> Self {
        Self {
            raw,
            left: 0,
            message: None,
            whole: Vec::new(),
            has_checksums: false,
            unpacking: None,
        }
    }

    /// Where more of it goes.
    pub(super) fn raw(&mut self) -> &mut BytesMut {
        &mut self.raw
    }

    /// The next event; nothing where more must be read first.
    pub(super) fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(unpacking) = &mut self.unpacking
                && let Some(event) = unpacking.next()?
            {
                return Ok(Some(event));
            }
            if self.left > 0 {
                if self.raw.is_empty() {
                    return Ok(None);
                }
                let count = self.left.min(self.raw.len()).min(CHUNK);
                let chunk = self.raw.split_to(count);
                self.left -= count;
                self.take(&chunk)?;
                continue;
            }
            if self.message == Some(false) {
                self.message = None;
                match self.unpacking.take() {
                    Some(unpacking) if unpacking.is_empty() => continue,
                    Some(_) => return Err(Error::Malformed("a compressed transaction is cut off")),
                    None => {
                        let message = std::mem::take(&mut self.whole);
                        return self.event(message).map(Some);
                    }
                }
            }
            let Some([a, b, c, _]) = self.raw.first_chunk() else {
                return Ok(None);
            };
            self.left = u32::from_le_bytes([*a, *b, *c, 0]) as usize;
            self.message = Some(self.left == FULL);
            self.raw.advance(4);
        }
    }

    fn take(&mut self, chunk: &[u8]) -> Result<(), Error> {
        if let Some(unpacking) = &mut self.unpacking {
            unpacking.push(chunk);
            return Ok(());
        }
        self.whole.extend_from_slice(chunk);
        let is_payload = self.whole.first() == Some(&0) && self.whole.get(5) == Some(&kind::PAYLOAD);
        if is_payload
            && let Some(fields) = self.whole.get(1 + HEADER..)
            && let Some((compressed, at)) = payload(fields)?
        {
            let size = self.whole.get(10..14).map_or(0, size);
            let around = HEADER + at + if self.has_checksums { CHECKSUM } else { 0 };
            let length = size
                .checked_sub(around)
                .ok_or(Error::Malformed("an event shorter than its header"))?;
            let mut unpacking = Unpacking::new(compressed, length)?;
            unpacking.push(fields.get(at..).unwrap_or_default());
            self.unpacking = Some(unpacking);
            self.whole = Vec::new();
        }
        Ok(())
    }

    /// A whole message: a status byte, and an event.
    fn event(&mut self, mut message: Vec<u8>) -> Result<Event, Error> {
        match message.first() {
            Some(0) if message.len() > HEADER && message.get(5) != Some(&kind::PAYLOAD) => {
                message.remove(0);
                if message.get(4) == Some(&kind::FORMAT) {
                    // It has a checksum itself even where the others have none.
                    let algorithm = message.len().checked_sub(CHECKSUM + 1);
                    self.has_checksums = algorithm.and_then(|at| message.get(at)) == Some(&1);
                } else if self.has_checksums {
                    message.truncate((message.len() - CHECKSUM).max(HEADER));
                }
                Ok(Event(message))
            }
            Some(0xff) => Err(refusal(&message)),
            Some(0xfe) => Err(Error::Ended),
            _ => Err(Error::Malformed("a message that is no event")),
        }
    }
}

/// The size that a header says.
pub(super) fn size(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rev()
        .fold(0, |sum, byte| (sum << 8) | usize::from(*byte))
}

/// What the server says in a packet that is a refusal.
pub(super) fn refusal(packet: &[u8]) -> Error {
    let code = match packet {
        [_, low, high, ..] => u16::from_le_bytes([*low, *high]),
        _ => 0,
    };
    let rest = packet.get(3..).unwrap_or_default();
    // `#` and five letters are the SQLSTATE; a refusal before the log-in has none.
    let words = match rest.first() {
        Some(b'#') => rest.get(6..).unwrap_or_default(),
        _ => rest,
    };
    Error::Refused {
        code,
        message: String::from_utf8_lossy(words).into_owned(),
    }
}

/// MySQL's number of one to nine bytes.
pub(super) fn number(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let first = *bytes.get(*at)?;
    let wide = match first {
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        small => {
            *at += 1;
            return Some(u64::from(small));
        }
    };
    let mut all = [0; 8];
    all[..wide].copy_from_slice(bytes.get(*at + 1..*at + 1 + wide)?);
    *at += 1 + wide;
    Some(u64::from_le_bytes(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event_of(kind: u8, data: &[u8]) -> Vec<u8> {
        let mut event = vec![0; HEADER];
        event[4] = kind;
        event.extend_from_slice(data);
        let size = u32::try_from(event.len()).unwrap();
        event[9..13].copy_from_slice(&size.to_le_bytes());
        event
    }

    /// Messages as the server sends them, each in packets of the largest size.
    fn sent(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for message in messages {
            let mut whole = vec![0];
            whole.extend_from_slice(message);
            let mut rest = whole.as_slice();
            loop {
                let part = &rest[..rest.len().min(FULL)];
                rest = &rest[part.len()..];
                bytes.extend_from_slice(&u32::try_from(part.len()).unwrap().to_le_bytes()[..3]);
                bytes.push(0);
                bytes.extend_from_slice(part);
                if part.len() < FULL {
                    break;
                }
            }
        }
        bytes
    }

    fn read(bytes: &[u8], at_a_time: usize) -> Result<Vec<(u8, Vec<u8>)>, Error> {
        let mut wire = Wire::new(BytesMut::new());
        let mut events = Vec::new();
        for part in bytes.chunks(at_a_time) {
            wire.raw().extend_from_slice(part);
            while let Some(event) = wire.next()? {
                events.push((event.kind(), event.data().to_vec()));
            }
            assert!(wire.unpacking.is_none() || wire.whole.is_empty());
        }
        Ok(events)
    }

    /// The event that says whether others have checksums; it has one.
    fn format(checksums: bool) -> Vec<u8> {
        event_of(kind::FORMAT, &[0, 0, u8::from(checksums), 9, 9, 9, 9])
    }

    /// With a checksum behind it.
    fn summed(event: &[u8]) -> Vec<u8> {
        let data = [&event[HEADER..], &[0x28, 0xb5, 0x2f, 0xfd]].concat();
        event_of(event[4], &data)
    }

    fn packed(events: &[Vec<u8>], compressed: bool) -> Vec<u8> {
        let plain = events.concat();
        let body = if compressed {
            zstd::stream::encode_all(plain.as_slice(), 1).unwrap()
        } else {
            plain
        };
        let mut data = vec![2, 1, 0];
        if !compressed {
            data = vec![2, 3, 0xfc, 255, 0];
        }
        data.extend_from_slice(&[0]);
        data.extend_from_slice(&body);
        event_of(kind::PAYLOAD, &data)
    }

    #[test]
    fn events_come_out_as_they_went_in_however_the_bytes_are_cut() {
        let long = vec![7; 40 << 10];
        let inner = [
            event_of(kind::QUERY, b"BEGIN"),
            event_of(kind::WRITE_ROWS, &long),
            event_of(kind::XID, &[1; 8]),
        ];
        for compressed in [true, false] {
            let bytes = sent(&[
                event_of(kind::GTID, b"g"),
                packed(&inner, compressed),
                event_of(kind::GTID, b"h"),
            ]);
            for at_a_time in [1, 3, 1000, bytes.len()] {
                let events = read(&bytes, at_a_time).unwrap();
                let kinds: Vec<u8> = events.iter().map(|(kind, _)| *kind).collect();
                assert_eq!(kinds, [33, 2, 30, 16, 33], "{compressed} {at_a_time}");
                assert_eq!(events[2].1, long);
            }
        }
    }

    #[test]
    fn checksums_are_no_part_of_what_events_say() {
        let inner = [event_of(kind::QUERY, b"BEGIN"), event_of(kind::XID, &[1; 8])];
        for compressed in [true, false] {
            let bytes = sent(&[
                format(false),
                event_of(kind::GTID, b"g"),
                format(true),
                summed(&event_of(kind::GTID, b"h")),
                summed(&packed(&inner, compressed)),
            ]);
            for at_a_time in [1, bytes.len()] {
                let events = read(&bytes, at_a_time).unwrap();
                let said: Vec<&[u8]> = events
                    .iter()
                    .filter(|(kind, _)| *kind != kind::FORMAT)
                    .map(|(_, data)| data.as_slice())
                    .collect();
                assert_eq!(said, [b"g".as_slice(), b"h", b"BEGIN", &[1; 8]]);
            }
        }
    }

    #[test]
    fn a_message_of_more_than_one_packet_is_one_event() {
        for length in [FULL - HEADER - 1, FULL, FULL + 5] {
            let bytes = sent(&[
                event_of(kind::WRITE_ROWS, &vec![1; length]),
                event_of(kind::XID, &[]),
            ]);
            let events = read(&bytes, 1 << 20).unwrap();
            assert_eq!(events.len(), 2);
            assert_eq!(events[0].1.len(), length);
        }
    }

    #[test]
    fn what_is_unpacked_waits_in_small_parts() {
        let rows = event_of(kind::WRITE_ROWS, &[0; 8000]);
        let inner = vec![rows; 2000];
        let mut wire = Wire::new(BytesMut::from(sent(&[packed(&inner, true)]).as_slice()));
        let mut count = 0;
        while wire.next().unwrap().is_some() {
            count += 1;
            let waiting = wire.unpacking.as_ref().map_or(0, Unpacking::room);
            assert!(waiting < 256 << 10, "{waiting}");
        }
        assert_eq!(count, 2000);
    }

    #[test]
    fn what_is_cut_off_or_refused_is_an_error() {
        let mut cut = packed(&[event_of(kind::XID, &[1; 8])], true);
        cut.truncate(cut.len() - 4);
        assert!(matches!(read(&sent(&[cut]), 100), Err(Error::Malformed(_))));
        let refused = b"\x0a\0\0\x01\xff\xd4\x04#HY000x".as_slice();
        let Err(Error::Refused { code, message }) = read(refused, 100) else {
            panic!("it was not refused");
        };
        assert_eq!((code, message.as_str()), (1236, "x"));
        assert!(matches!(read(b"\x01\0\0\x01\xfe", 100), Err(Error::Ended)));
    }
}
