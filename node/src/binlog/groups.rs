//! Walks over the whole transactions of a binary log or relay log, from the event with the name to the one that ends it.

use std::{
    io::{self, Read, Seek},
    ops::Range,
};

use failover::GtidSet;
use supervisor::binlog::{
    MAGIC,
    event::{CHECKSUM, Format, Header, is_whole, kind},
    query,
};

use super::{Error, event, gtid, header, open};

/// A whole transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The set that it is alone in.
    pub name: GtidSet,
    /// Its bytes.
    pub bytes: Range<u64>,
}

/// Calls `take` for every whole transaction in the order of the log, with the event that says how its events are
/// written. One whose end is not there is passed over, and so is whatever has no name.
///
/// # Errors
/// Where the log is not understood or cannot be read; `take`'s own are passed on as those of the disk.
pub fn groups<R: Read + Seek>(
    log: &mut R,
    mut take: impl FnMut(&mut R, &Group, &[u8]) -> io::Result<()>,
) -> Result<(), Error> {
    let length = open(log)?;
    let mut walk = Walk::default();
    let mut at = MAGIC.len() as u64;
    while let Some(header) = header(log, at, length)? {
        let bytes = at..at + u64::from(header.size);
        at = bytes.end;
        let whole = if walk.must_read(header) {
            Some(event(log, bytes.start, header)?)
        } else {
            None
        };
        if let Some(group) = walk.take(header, whole, bytes)? {
            take(log, &group, &walk.format_event)?;
        }
    }
    Ok(())
}

/// The names of all whole transactions, as far as the log is understood.
pub fn whole(log: &mut (impl Read + Seek)) -> io::Result<GtidSet> {
    let mut names = GtidSet::new();
    let walked = groups(log, |_, group, _| {
        names = names.union(&group.name);
        Ok(())
    });
    match walked {
        Err(Error::Io(error)) => Err(error),
        _ => Ok(names),
    }
}

/// What all files before this one hold; `None` where that is not understood.
pub fn previous(log: &mut (impl Read + Seek)) -> io::Result<Option<GtidSet>> {
    let mut found = || -> Result<Option<GtidSet>, Error> {
        let length = open(log)?;
        let mut at = MAGIC.len() as u64;
        while let Some(header) = header(log, at, length)? {
            match header.kind {
                kind::FORMAT => at += u64::from(header.size),
                kind::PREVIOUS_GTIDS => return gtid::all_previous(&event(log, at, header)?, at).map(Some),
                _ => break,
            }
        }
        Ok(None)
    };
    match found() {
        Err(Error::Io(error)) => Err(error),
        found => Ok(found.unwrap_or_default()),
    }
}

#[derive(Default)]
struct Walk {
    format: Option<Format>,
    format_event: Vec<u8>,
    open: Option<Open>,
}

/// A transaction whose end was not seen yet.
struct Open {
    name: GtidSet,
    at: u64,
    /// Its first statement was seen, and was no whole transaction by itself.
    begun: bool,
}

impl Walk {
    fn must_read(&self, header: Header) -> bool {
        match header.kind {
            kind::FORMAT | kind::GTID | kind::TAGGED_GTID => true,
            kind::QUERY => self.open.is_some(),
            _ => false,
        }
    }

    fn take(
        &mut self,
        header: Header,
        event: Option<Vec<u8>>,
        bytes: Range<u64>,
    ) -> Result<Option<Group>, Error> {
        let at = bytes.start;
        if let (kind::FORMAT, Some(event)) = (header.kind, event.as_ref()) {
            self.format = Some(Format::read(event).ok_or(Error::Damaged { at })?);
            self.format_event.clone_from(event);
            self.open = None;
            return Ok(None);
        }
        let Some(format) = self.format else {
            return Err(Error::Unknown {
                at,
                kind: header.kind,
            });
        };
        let body = match event {
            Some(event) if format.checksums && !is_whole(&event) => return Err(Error::Damaged { at }),
            Some(mut event) => {
                event.truncate(event.len() - if format.checksums { CHECKSUM } else { 0 });
                event
            }
            None => Vec::new(),
        };
        match header.kind {
            kind::GTID => self.begin(gtid::one(&body, at)?, at),
            kind::TAGGED_GTID => self.begin(gtid::tagged(&body, at)?, at),
            kind::ANONYMOUS | kind::ROTATE | kind::STOP | kind::PREVIOUS_GTIDS => self.open = None,
            kind::XID | kind::XA_PREPARE | kind::PAYLOAD => return Ok(self.end(bytes.end)),
            kind::QUERY if self.statement_ends(&body, at)? => return Ok(self.end(bytes.end)),
            _ => {}
        }
        Ok(None)
    }

    fn begin(&mut self, name: GtidSet, at: u64) {
        self.open = Some(Open {
            name,
            at,
            begun: false,
        });
    }

    fn end(&mut self, end: u64) -> Option<Group> {
        self.open.take().map(|open| Group {
            name: open.name,
            bytes: open.at..end,
        })
    }

    /// `event` is without its checksum.
    fn statement_ends(&mut self, event: &[u8], at: u64) -> Result<bool, Error> {
        let Some(open) = &mut self.open else {
            return Ok(false);
        };
        let (_, text) = query::parts(event, false).ok_or(Error::Unknown {
            at,
            kind: kind::QUERY,
        })?;
        if text == b"BEGIN" || text.starts_with(b"XA START ") {
            open.begun = true;
        }
        // One that stands alone, such as a change of schema, is a transaction by itself.
        Ok(!open.begun || matches!(text, b"COMMIT" | b"ROLLBACK"))
    }
}
