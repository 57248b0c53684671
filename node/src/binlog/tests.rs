//! The scan over files that are built byte by byte.

use std::io::Cursor;

use super::*;
use supervisor::binlog::{
    ENCRYPTED, MAGIC,
    event::{HEADER, crc32},
};

pub const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
const A_BYTES: [u8; 16] = [
    0x3e, 0x11, 0xfa, 0x47, 0x71, 0xca, 0x11, 0xe1, 0x9e, 0x33, 0xc8, 0x0a, 0xa9, 0x42, 0x95, 0x62,
];

pub struct Log(pub Vec<u8>);

impl Log {
    /// A file in use that comes after others with the first `older` transactions.
    pub fn begin(older: u64) -> Self {
        let mut format = vec![0; 2 + 50 + 4 + 1 + 40];
        format.push(1);
        let mut log = Self(MAGIC.to_vec());
        log.event(kind::FORMAT, &format);
        log.0[4 + 17] = 1;
        let mut previous = Vec::new();
        previous.extend_from_slice(&u64::from(older > 0).to_le_bytes());
        if older > 0 {
            previous.extend_from_slice(&A_BYTES);
            for number in [1, 1, older + 1] {
                previous.extend_from_slice(&number.to_le_bytes());
            }
        }
        log.event(kind::PREVIOUS_GTIDS, &previous);
        log
    }

    pub fn event(&mut self, kind: u8, body: &[u8]) {
        let mut event = vec![0; HEADER];
        event[4] = kind;
        let size = u32::try_from(HEADER + body.len() + 4).unwrap();
        event[9..13].copy_from_slice(&size.to_le_bytes());
        event.extend_from_slice(body);
        let sum = crc32(&event);
        self.0.extend_from_slice(&event);
        self.0.extend_from_slice(&sum.to_le_bytes());
    }

    pub fn gtid(&mut self, number: u64) {
        let mut body = vec![1];
        body.extend_from_slice(&A_BYTES);
        body.extend_from_slice(&number.to_le_bytes());
        body.extend_from_slice(&[0; 18]);
        self.event(kind::GTID, &body);
    }

    pub fn query(&mut self, text: &str) {
        let mut body = vec![0; 13];
        body.push(0);
        body.extend_from_slice(text.as_bytes());
        self.event(kind::QUERY, &body);
    }

    /// A transaction of rows; returns where it begins.
    pub fn rows(&mut self, number: u64) -> u64 {
        let at = self.0.len() as u64;
        self.gtid(number);
        self.query("BEGIN");
        self.event(kind::TABLE_MAP, &[0; 30]);
        self.event(30, &[0; 50]);
        self.event(kind::XID, &[0; 8]);
        at
    }

    fn find(&self, keep: u64) -> Result<Option<Tail>, Error> {
        find(&mut Cursor::new(&self.0), &upto(keep))
    }
}

pub fn upto(last: u64) -> GtidSet {
    GtidSet::new().with(A, 1, last)
}

fn with_transactions(first: u64, last: u64) -> (Log, Vec<u64>) {
    let mut log = Log::begin(first - 1);
    let places = (first..=last).map(|number| log.rows(number)).collect();
    (log, places)
}

#[test]
fn the_tail_begins_at_the_first_transaction_that_the_master_lacks() {
    let (log, places) = with_transactions(5, 9);
    let tail = log.find(7).unwrap().unwrap();
    assert_eq!(tail.at, places[3]);
    assert_eq!(tail.transactions, GtidSet::new().with(A, 8, 9));
    assert_eq!(
        log.find(4).unwrap().unwrap().at,
        tail.head,
        "all of the file but its head"
    );
    assert_eq!(log.find(9).unwrap(), None);
    assert_eq!(log.find(99).unwrap(), None);
}

#[test]
fn numbers_are_compared_only_together_with_their_origin() {
    let (log, places) = with_transactions(1, 3);
    let other = GtidSet::new().with("4e11fa47-71ca-11e1-9e33-c80aa9429562", 1, 9);
    assert_eq!(
        find(&mut Cursor::new(&log.0), &other).unwrap().unwrap().at,
        places[0]
    );
}

#[test]
fn what_is_missing_from_an_older_file_is_refused() {
    let (log, _) = with_transactions(5, 9);
    assert!(matches!(log.find(3), Err(Error::Older(set)) if set == GtidSet::new().with(A, 4, 4)));
}

#[test]
fn what_the_master_has_is_never_cut() {
    let mut log = Log::begin(0);
    for number in [1, 3, 2] {
        log.rows(number);
    }
    assert!(matches!(log.find(2), Err(Error::Between { .. })));
}

#[test]
fn after_a_clean_end_there_is_nothing_to_cut() {
    let (mut log, _) = with_transactions(1, 3);
    log.0[4 + 17] = 0;
    assert!(matches!(log.find(2), Err(Error::Clean)));
    assert_eq!(log.find(3).unwrap(), None);
}

#[test]
fn a_torn_end_is_left_to_the_server() {
    let (mut log, places) = with_transactions(1, 3);
    for keep in [2, 3] {
        let found = log.find(keep).unwrap().map(|tail| tail.at);
        assert_eq!(found, (keep == 2).then_some(places[2]));
    }
    log.0.truncate(log.0.len() - 7);
    assert_eq!(log.find(3).unwrap(), None);
    assert_eq!(log.find(2).unwrap().unwrap().at, places[2]);
    log.0.extend_from_slice(&[0; 512]);
    assert_eq!(log.find(2).unwrap().unwrap().at, places[2]);
}

#[test]
fn every_kind_that_is_not_understood_is_refused() {
    let (whole, places) = with_transactions(1, 3);
    let mut tagged = Log(whole.0.clone());
    tagged.event(kind::TAGGED_GTID, &[0; 40]);
    assert!(matches!(tagged.find(3), Err(Error::Tagged)));
    for kind in [kind::ANONYMOUS, 26, 36, 38, 99] {
        let mut log = Log(whole.0.clone());
        log.event(kind, &[0; 40]);
        assert!(matches!(log.find(2), Err(Error::Unknown { .. })), "{kind}");
    }
    let mut damaged = Log(whole.0.clone());
    let at = usize::try_from(places[1]).unwrap() + HEADER + 3;
    damaged.0[at] ^= 1;
    assert!(matches!(damaged.find(3), Err(Error::Damaged { at }) if at == places[1]));
    let mut encrypted = Log(whole.0.clone());
    encrypted.0[..4].copy_from_slice(&ENCRYPTED);
    assert!(matches!(encrypted.find(3), Err(Error::Encrypted)));
    assert!(matches!(Log(b"text".to_vec()).find(3), Err(Error::NotABinaryLog)));
    assert!(matches!(Log(b"text".to_vec()).find(3), Err(Error::NotABinaryLog)));
    let mut previous = Log(whole.0[..4].to_vec());
    let mut format = vec![0; 97];
    format.push(1);
    previous.event(kind::FORMAT, &format);
    previous.event(kind::PREVIOUS_GTIDS, &(1_u64 << 56 | 1).to_le_bytes());
    assert!(matches!(previous.find(3), Err(Error::Tagged)));
}

#[test]
fn what_cannot_be_rolled_back_is_refused() {
    let (whole, _) = with_transactions(1, 2);
    for text in ["COMMIT", "CREATE TABLE m (n INT) ENGINE=MyISAM", "XA COMMIT 'x'"] {
        let mut log = Log(whole.0.clone());
        log.gtid(3);
        if text == "COMMIT" {
            log.query("BEGIN");
            log.event(30, &[0; 50]);
        }
        log.query(text);
        assert!(matches!(log.find(2), Err(Error::Permanent(_))), "{text}");
        assert_eq!(log.find(3).unwrap(), None, "{text}");
    }
}

#[test]
fn a_compressed_transaction_is_cut_whole() {
    let (mut log, _) = with_transactions(1, 2);
    let at = log.0.len() as u64;
    log.gtid(3);
    log.event(kind::PAYLOAD, &[7; 300]);
    assert_eq!(log.find(2).unwrap().unwrap().at, at);
}
