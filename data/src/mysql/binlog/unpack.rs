//! A compressed transaction into its events, with no more of it in memory than one of them.

use zstd::stream::raw::{Decoder, Operation as _};

use super::{
    Error,
    wire::{Event, HEADER, number, size},
};

/// Unpacked at a time.
const OUT: usize = 32 << 10;

/// Reads what is said of a compressed transaction: whether it really is, and where it begins. Nothing where more of it
/// is needed.
pub(super) fn payload(fields: &[u8]) -> Result<Option<(bool, usize)>, Error> {
    /// No further field.
    const END: u64 = 0;
    const COMPRESSION: u64 = 2;
    const ZSTD: u64 = 0;
    const NONE: u64 = 255;
    let (mut at, mut compressed) = (0, true);
    loop {
        let Some(field) = number(fields, &mut at) else {
            return Ok(None);
        };
        if field == END {
            return Ok(Some((compressed, at)));
        }
        let Some(length) = number(fields, &mut at) else {
            return Ok(None);
        };
        let end = usize::try_from(length)
            .ok()
            .and_then(|length| at.checked_add(length));
        let end = end.ok_or(Error::Malformed("a field without an end"))?;
        if field == COMPRESSION {
            let mut inside = at;
            match number(fields, &mut inside) {
                None => return Ok(None),
                Some(ZSTD) => {}
                Some(NONE) => compressed = false,
                Some(_) => return Err(Error::Malformed("an unknown compression")),
            }
        }
        at = end;
    }
}

/// A compressed transaction while it comes.
pub(super) struct Unpacking {
    /// None where it is not compressed.
    decoder: Option<Decoder<'static>>,
    input: Vec<u8>,
    /// What is still to come of it; behind that is the checksum.
    length: usize,
    plain: Vec<u8>,
    /// What of `plain` was taken.
    at: usize,
    /// The decoder may have more without further input.
    more: bool,
    /// All of it came.
    complete: bool,
}

impl std::fmt::Debug for Unpacking {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Unpacking")
            .field("input", &self.input.len())
            .field("plain", &self.plain.len())
            .finish_non_exhaustive()
    }
}

impl Unpacking {
    pub(super) fn new(compressed: bool, length: usize) -> Result<Self, Error> {
        Ok(Self {
            decoder: if compressed { Some(Decoder::new()?) } else { None },
            input: Vec::new(),
            length,
            plain: Vec::new(),
            at: 0,
            more: false,
            complete: !compressed,
        })
    }

    pub(super) fn push(&mut self, chunk: &[u8]) {
        let chunk = &chunk[..chunk.len().min(self.length)];
        self.length -= chunk.len();
        self.input.extend_from_slice(chunk);
    }

    /// Bytes that it takes.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.plain.capacity() + self.input.capacity()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.complete && self.length == 0 && self.input.is_empty() && self.at == self.plain.len()
    }

    pub(super) fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            let plain = self.plain.get(self.at..).unwrap_or_default();
            if let Some(size) = plain.get(9..13).map(size) {
                if size < HEADER {
                    return Err(Error::Malformed("an event shorter than its header"));
                }
                if let Some(event) = plain.get(..size) {
                    let event = Event(event.to_vec());
                    self.at += size;
                    return Ok(Some(event));
                }
            }
            if self.input.is_empty() && !self.more {
                return Ok(None);
            }
            self.plain.drain(..self.at);
            self.at = 0;
            let Some(decoder) = &mut self.decoder else {
                self.plain.append(&mut self.input);
                continue;
            };
            let before = self.plain.len();
            self.plain.resize(before + OUT, 0);
            let status = decoder.run_on_buffers(&self.input, &mut self.plain[before..])?;
            self.plain.truncate(before + status.bytes_written);
            self.input.drain(..status.bytes_read);
            self.more = status.bytes_written == OUT;
            self.complete = status.remaining == 0;
            if status.bytes_written == 0 && status.bytes_read == 0 && !self.input.is_empty() {
                return Err(Error::Malformed("a compressed transaction does not go on"));
            }
        }
    }
}
