//! Event headers, checksums, and the event that describes the file's format.

/// Bytes of a header.
pub const HEADER: usize = 19;
/// Bytes of a checksum, where there is one.
pub const CHECKSUM: usize = 4;
/// The writer of the file has not closed it.
const IN_USE: u16 = 1;

/// Kinds of events, by MySQL's numbers.
pub mod kind {
    pub const QUERY: u8 = 2;
    pub const STOP: u8 = 3;
    pub const ROTATE: u8 = 4;
    pub const INTVAR: u8 = 5;
    pub const RAND: u8 = 13;
    pub const USER_VAR: u8 = 14;
    pub const FORMAT: u8 = 15;
    pub const XID: u8 = 16;
    pub const TABLE_MAP: u8 = 19;
    pub const ROWS_V1: std::ops::RangeInclusive<u8> = 23..=25;
    pub const ROWS_QUERY: u8 = 29;
    pub const ROWS: std::ops::RangeInclusive<u8> = 30..=32;
    pub const GTID: u8 = 33;
    pub const ANONYMOUS: u8 = 34;
    pub const PREVIOUS_GTIDS: u8 = 35;
    pub const XA_PREPARE: u8 = 38;
    pub const PARTIAL_ROWS: u8 = 39;
    pub const PAYLOAD: u8 = 40;
    pub const TAGGED_GTID: u8 = 42;
}

/// The fixed beginning of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What it is.
    pub kind: u8,
    /// Bytes of the whole event.
    pub size: u32,
    /// Flags.
    pub flags: u16,
}

impl Header {
    /// Reads a header; `None` where the bytes cannot be one.
    pub fn read(bytes: &[u8; HEADER]) -> Option<Self> {
        let header = Self {
            kind: bytes[4],
            size: u32_at(bytes, 9)?,
            flags: u16::from_le_bytes([bytes[17], bytes[18]]),
        };
        (header.size as usize >= HEADER).then_some(header)
    }
}

/// What the first event says of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// Each event ends with a checksum.
    pub checksums: bool,
    /// The server that wrote the file did not close it.
    pub in_use: bool,
}

impl Format {
    /// Reads the whole first event; `None` where it is damaged.
    pub fn read(event: &[u8]) -> Option<Self> {
        let flags = u16::from_le_bytes([*event.get(17)?, *event.get(18)?]);
        // The format event itself has a checksum even where the others have none.
        let algorithm = event
            .len()
            .checked_sub(CHECKSUM + 1)
            .filter(|at| *at >= HEADER)
            .and_then(|at| event.get(at))?;
        let mut closed = event.to_vec();
        closed[17..19].copy_from_slice(&(flags & !IN_USE).to_le_bytes());
        if *algorithm > 1 || (*algorithm == 1 && !is_whole(&closed)) {
            return None;
        }
        Some(Self {
            checksums: *algorithm == 1,
            in_use: flags & IN_USE != 0,
        })
    }
}

/// True when the event's last four bytes are the checksum of the others.
pub fn is_whole(event: &[u8]) -> bool {
    event
        .split_last_chunk::<CHECKSUM>()
        .is_some_and(|(body, sum)| crc32(body) == u32::from_le_bytes(*sum))
}

/// The little-endian number at `at`.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// The little-endian number at `at`.
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// The checksum of zlib and of MySQL.
pub fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| {
        let mut sum = sum ^ u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 {
                (sum >> 1) ^ 0xEDB8_8320
            } else {
                sum >> 1
            };
        }
        sum
    };
    !bytes.iter().fold(u32::MAX, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn a_header_that_says_less_than_itself_is_none() {
        let mut bytes = [0; HEADER];
        assert_eq!(Header::read(&bytes), None);
        (bytes[4], bytes[9]) = (kind::XID, 31);
        assert!(matches!(
            Header::read(&bytes),
            Some(Header {
                kind: 16,
                size: 31,
                ..
            })
        ));
    }
}
