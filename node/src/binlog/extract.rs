//! Copies whole transactions out of binary logs and relay logs into one file that is a binary log itself, so that
//! `mysqlbinlog` reads it.

use std::io::{self, Read, Seek, SeekFrom, Write};

use failover::GtidSet;
use supervisor::binlog::MAGIC;

use super::{
    Error,
    groups::{Group, groups},
};

/// Where an event has its flags; the lowest says that the file's writer has not closed it. No checksum counts it.
const FLAGS: usize = 17;
/// Read at a time.
const PART: usize = 64 << 10;

/// The copies so far, and what is still sought.
#[derive(Debug)]
pub struct Extract<W> {
    to: W,
    wanted: GtidSet,
    found: GtidSet,
    /// The event by which the last copy is understood.
    format: Vec<u8>,
}

impl<W: Write> Extract<W> {
    /// Seeks `wanted`, for the file `to`.
    pub fn new(to: W, wanted: GtidSet) -> Self {
        Self {
            to,
            wanted,
            found: GtidSet::new(),
            format: Vec::new(),
        }
    }

    /// Copies what `log` holds of what is still sought. Where the log is not understood from some event on, what comes
    /// before it was copied.
    pub fn take(&mut self, log: &mut (impl Read + Seek)) -> Result<(), Error> {
        groups(log, |log, group, format| {
            if self.wanted.contains(&group.name) {
                self.copy(log, group, format)?;
                self.wanted = self.wanted.subtract(&group.name);
                self.found = self.found.union(&group.name);
            }
            Ok(())
        })
    }

    /// What was not found yet.
    pub fn wanted(&self) -> &GtidSet {
        &self.wanted
    }

    /// Ends the copy. Returns what was found and what was not.
    pub fn finish(mut self) -> io::Result<(GtidSet, GtidSet)> {
        self.to.flush()?;
        Ok((self.found, self.wanted))
    }

    fn copy(&mut self, log: &mut (impl Read + Seek), group: &Group, format: &[u8]) -> io::Result<()> {
        if self.format != format {
            if self.format.is_empty() {
                self.to.write_all(&MAGIC)?;
            }
            self.format = format.to_vec();
            let mut closed = format.to_vec();
            closed[FLAGS] &= !1;
            self.to.write_all(&closed)?;
        }
        log.seek(SeekFrom::Start(group.bytes.start))?;
        let mut rest = group.bytes.end - group.bytes.start;
        let mut part = vec![0; PART];
        while rest > 0 {
            let next = usize::try_from(rest).map_or(PART, |rest| rest.min(PART));
            log.read_exact(&mut part[..next])?;
            self.to.write_all(&part[..next])?;
            rest -= next as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use supervisor::binlog::event::kind;

    use super::*;
    use crate::binlog::{
        groups::previous,
        tail::tests::{A, Log, upto},
        whole,
    };

    fn only(numbers: &[u64]) -> GtidSet {
        numbers
            .iter()
            .fold(GtidSet::new(), |set, number| set.with(A, *number, *number))
    }

    fn take(logs: &[&Log], wanted: &[u64]) -> (Extract<Vec<u8>>, Vec<Option<Error>>) {
        let mut extract = Extract::new(Vec::new(), only(wanted));
        let errors = logs
            .iter()
            .map(|log| extract.take(&mut Cursor::new(&log.0)).err())
            .collect();
        (extract, errors)
    }

    /// The kinds of the events of a file.
    fn kinds(file: &[u8]) -> Vec<u8> {
        let (mut at, mut kinds) = (MAGIC.len(), Vec::new());
        while at < file.len() {
            kinds.push(file[at + 4]);
            let size = u32::from_le_bytes(file[at + 9..at + 13].try_into().unwrap());
            at += size as usize;
        }
        kinds
    }

    #[test]
    fn what_is_sought_is_copied_out_of_several_files_and_nothing_else() {
        let (mut one, mut other) = (Log::begin(0), Log::begin(3));
        for number in 1..=3 {
            one.rows(number);
        }
        other.gtid(4);
        other.event(kind::PAYLOAD, &[7; 300]);
        other.gtid(5);
        other.query("CREATE TABLE t (n INT)");
        other.rows(6);
        let (extract, errors) = take(&[&one, &other], &[2, 4, 5, 9]);
        assert!(errors.iter().all(Option::is_none), "{errors:?}");
        assert_eq!(
            (&extract.found, &extract.wanted),
            (&only(&[2, 4, 5]), &only(&[9]))
        );
        assert_eq!(
            kinds(&extract.to),
            [
                &[
                    kind::FORMAT,
                    kind::GTID,
                    kind::QUERY,
                    kind::TABLE_MAP,
                    30,
                    kind::XID
                ][..],
                &[kind::GTID, kind::PAYLOAD, kind::GTID, kind::QUERY],
            ]
            .concat(),
            "both files are written alike, so that this is said once"
        );
        assert_eq!(extract.to[4 + FLAGS], 0, "the copy is closed");
        assert_eq!(whole(&mut Cursor::new(&extract.to)).unwrap(), only(&[2, 4, 5]));
    }

    #[test]
    fn a_transaction_without_its_end_is_not_taken_for_a_whole_one() {
        let mut log = Log::begin(0);
        log.rows(1);
        // As where a receiver lost its source: it fetches the transaction anew, into a file that begins anew.
        log.gtid(2);
        log.query("BEGIN");
        log.event(kind::ROTATE, &[0; 20]);
        log.rows(3);
        log.rows(4);
        log.0.truncate(log.0.len() - 7);
        assert_eq!(whole(&mut Cursor::new(&log.0)).unwrap(), only(&[1, 3]));
        let (extract, _) = take(&[&log], &[2, 4]);
        assert!(extract.found.is_empty() && extract.to.is_empty());
    }

    #[test]
    fn every_form_of_a_transaction_has_its_own_end() {
        let mut log = Log::begin(0);
        log.gtid(1);
        for text in ["BEGIN", "CREATE TABLE t (n INT) START TRANSACTION"] {
            log.query(text);
        }
        log.event(kind::XID, &[0; 8]);
        log.gtid(2);
        for text in ["BEGIN", "SAVEPOINT `a`", "COMMIT"] {
            log.query(text);
        }
        log.gtid(3);
        for text in ["XA START 'x',X'',1", "XA END 'x',X'',1"] {
            log.query(text);
        }
        log.event(kind::XA_PREPARE, &[0; 20]);
        log.gtid(4);
        log.query("XA COMMIT 'x',X'',1");
        assert_eq!(whole(&mut Cursor::new(&log.0)).unwrap(), upto(4));
        let (extract, _) = take(&[&log], &[3]);
        assert_eq!(kinds(&extract.to).len(), 5, "format, name, start, end, prepare");
    }

    #[test]
    fn what_is_before_damage_is_copied_and_the_damage_told() {
        let mut log = Log::begin(0);
        log.rows(1);
        let second = usize::try_from(log.rows(2)).unwrap();
        log.0[second + 25] ^= 1;
        let (extract, errors) = take(&[&log], &[1, 2]);
        assert!(matches!(errors[0], Some(Error::Damaged { at }) if at == second as u64));
        assert_eq!(extract.found, only(&[1]));
        let (_, errors) = take(&[&Log(b"\xfdbin and more".to_vec())], &[1]);
        assert!(matches!(errors[0], Some(Error::Encrypted)));
    }

    #[test]
    fn what_older_files_hold_is_read_with_and_without_tags() {
        let of = |log: &Log| previous(&mut Cursor::new(&log.0)).unwrap();
        assert_eq!(of(&Log::begin(7)), Some(upto(7)));
        assert_eq!(of(&Log::begin(0)), Some(GtidSet::new()));
        // As MySQL 8.4 writes 1-5 and two tags with one each.
        let uuid = "fb5b7041775411f1a067e69d25af13b4";
        let one = "01000000000000000100000000000000";
        let body = format!(
            "0103000000000001{uuid}00{one}0600000000000000{uuid}0a7461675f61{one}0200000000000000\
             {uuid}0a7461675f62{one}0200000000000000"
        );
        let bytes: Vec<u8> = (0..body.len() / 2)
            .map(|at| u8::from_str_radix(&body[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        let mut log = Log(Log::begin(0).0[..4 + 19 + 98 + 4].to_vec());
        log.event(kind::PREVIOUS_GTIDS, &bytes);
        let set = "fb5b7041-7754-11f1-a067-e69d25af13b4:1-5:tag_a:1:tag_b:1";
        assert_eq!(of(&log), Some(set.parse().unwrap()));
    }
}
