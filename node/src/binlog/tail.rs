//! Finds the transactions at the end of a binary log that the new master lacks.

use std::io::{Read, Seek};

use failover::GtidSet;
use supervisor::binlog::{
    event::{Format, Header, is_whole, kind},
    query::{self, Statement},
};

use super::{Error, gtid};

/// The end that can be cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// The first byte of it.
    pub at: u64,
    /// The first byte behind the events that every file begins with.
    pub head: u64,
    /// Its transactions.
    pub transactions: GtidSet,
}

/// Looks for transactions that `keep` lacks. `None`: there are none, the file can stay as it is.
///
/// # Errors
/// Where there are some and they may not or cannot be cut off, or the file is not understood.
pub fn find(file: &mut (impl Read + Seek), keep: &GtidSet) -> Result<Option<Tail>, Error> {
    let length = super::open(file)?;
    let mut scan = Scan {
        keep,
        format: None,
        older: GtidSet::new(),
        head: 4,
        tail: None,
        current: None,
    };
    let mut at = 4;
    while let Some(header) = super::header(file, at, length)? {
        let event = if scan.must_read(header) {
            Some(super::event(file, at, header)?)
        } else {
            None
        };
        scan.take(header, event.as_deref(), at)?;
        at += u64::from(header.size);
    }
    scan.finish()
}

struct Scan<'a> {
    keep: &'a GtidSet,
    format: Option<Format>,
    /// What older files hold.
    older: GtidSet,
    head: u64,
    tail: Option<Tail>,
    /// The transaction of the tail that the next events belong to, and whether it has begun.
    current: Option<(GtidSet, bool)>,
}

impl Scan<'_> {
    /// Rows and blobs are passed over; everything that decides is read and its checksum proved.
    fn must_read(&self, header: Header) -> bool {
        match header.kind {
            kind::FORMAT | kind::PREVIOUS_GTIDS | kind::GTID => true,
            kind::QUERY => self.tail.is_some(),
            _ => false,
        }
    }

    fn take(&mut self, header: Header, event: Option<&[u8]>, at: u64) -> Result<(), Error> {
        let unknown = Error::Unknown {
            at,
            kind: header.kind,
        };
        let Some(format) = self.format else {
            return match (header.kind, event) {
                (kind::FORMAT, Some(event)) => {
                    self.format = Some(Format::read(event).ok_or(Error::Damaged { at })?);
                    self.head = at + u64::from(header.size);
                    Ok(())
                }
                _ => Err(unknown),
            };
        };
        if event.is_some_and(|event| format.checksums && !is_whole(event)) {
            return Err(Error::Damaged { at });
        }
        match (header.kind, event) {
            (kind::PREVIOUS_GTIDS, Some(event)) => {
                self.older = gtid::previous(event, at)?;
                self.head = at + u64::from(header.size);
                Ok(())
            }
            (kind::GTID, Some(event)) => self.transaction(gtid::one(event, at)?, at),
            (kind::TAGGED_GTID, _) => Err(Error::Tagged),
            (kind::ANONYMOUS, _) => Err(unknown),
            _ if self.tail.is_none() => Ok(()),
            (kind::QUERY, Some(event)) => {
                let statement = query::read(event, format.checksums).ok_or(unknown)?;
                self.statement(statement)
            }
            (kind, _) if self.current.is_some() && is_part_of_a_transaction(kind) => Ok(()),
            // The server was killed between the end of this file and the beginning of the next.
            (kind::ROTATE | kind::STOP, _) => Err(Error::Clean),
            _ => Err(unknown),
        }
    }

    fn transaction(&mut self, gtid: GtidSet, at: u64) -> Result<(), Error> {
        let kept = self.keep.contains(&gtid);
        self.current = None;
        match &mut self.tail {
            None if kept => {}
            None => {
                self.current = Some((gtid.clone(), false));
                self.tail = Some(Tail {
                    at,
                    head: self.head,
                    transactions: gtid,
                });
            }
            Some(tail) if kept => {
                return Err(Error::Between {
                    kept: gtid,
                    missing: tail.transactions.clone(),
                });
            }
            Some(tail) => {
                tail.transactions = tail.transactions.union(&gtid);
                self.current = Some((gtid, false));
            }
        }
        Ok(())
    }

    fn statement(&mut self, statement: Statement) -> Result<(), Error> {
        let Some((gtid, begun)) = &mut self.current else {
            return Ok(());
        };
        match (statement, *begun) {
            (Statement::Begin, false) => {
                *begun = true;
                Ok(())
            }
            (Statement::Atomic, false) => Ok(()),
            _ => Err(Error::Permanent(gtid.clone())),
        }
    }

    fn finish(self) -> Result<Option<Tail>, Error> {
        let Some(format) = self.format else {
            return Err(Error::NotABinaryLog);
        };
        let older = self.older.subtract(self.keep);
        if !older.is_empty() {
            return Err(Error::Older(older));
        }
        if self.tail.is_some() && !format.in_use {
            return Err(Error::Clean);
        }
        Ok(self.tail)
    }
}

fn is_part_of_a_transaction(kind: u8) -> bool {
    use kind::{INTVAR, PARTIAL_ROWS, PAYLOAD, RAND, ROWS, ROWS_QUERY, ROWS_V1, TABLE_MAP, USER_VAR, XID};
    matches!(
        kind,
        INTVAR | RAND | USER_VAR | XID | TABLE_MAP | ROWS_QUERY | PARTIAL_ROWS | PAYLOAD
    ) || ROWS_V1.contains(&kind)
        || ROWS.contains(&kind)
}

#[cfg(test)]
#[path = "tests.rs"]
pub mod tests;
