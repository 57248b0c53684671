//! Takes half a transaction off the ends of relay logs, before mysqld starts.
//!
//! A receiver that is stopped or killed leaves what it had of a transaction. Where the server was then shut down in
//! order, the log ends with that half and the event "Stop", and MySQL's parallel applier never gets past it: it waits for
//! workers that have nothing to do, whatever is killed or restarted (seen of 9.7.4). The half is of no use to anybody: it
//! was never acknowledged nor counted as received, and the source sends the whole transaction again.
//!
//! Relay logs may hold what exists nowhere else, so only what is understood to be half is cut. Whatever else is found
//! leaves the log as it is.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use nix::{errno::Errno, fcntl, libc};

use crate::binlog::{
    MAGIC,
    event::{Format, HEADER, Header, kind},
    query,
};

/// No event is longer: it would not fit into a packet.
const LONGEST: u32 = 1 << 30;
/// A statement that opens a transaction or stays inside one is shorter, with all that is written before it.
const SHORT: u32 = 64 << 10;

/// Half a transaction that was taken off.
#[derive(Debug, PartialEq, Eq)]
pub struct Half {
    /// The log.
    pub log: PathBuf,
    /// Where the log ends now.
    pub end: u64,
}

/// Takes the half transactions off the relay logs of `datadir`, which no mysqld uses, and tells of each as it is done.
///
/// # Errors
/// Where a log cannot be read or cut, or another mysqld has the data directory.
pub fn mend(datadir: &Path, mut tell: impl FnMut(&Half)) -> io::Result<()> {
    let logs = logs(datadir)?;
    if logs.is_empty() {
        return Ok(());
    }
    let _ours = Lock::take(datadir)?;
    for log in logs {
        if let Some(end) = half_at(&log)? {
            let file = OpenOptions::new().write(true).open(&log)?;
            file.set_len(end)?;
            file.sync_all()?;
            tell(&Half { log, end });
        }
    }
    Ok(())
}

/// The lock that InnoDB takes on its data. Mysqlds that were started without a [claim](crate::claim), by an earlier
/// version, are told by it as far as they still have it.
struct Lock {
    _file: File,
}

impl Lock {
    fn take(datadir: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(datadir.join("ibdata1"))?;
        let whole = libc::flock {
            l_type: i16::try_from(libc::F_WRLCK).unwrap_or_default(),
            l_whence: i16::try_from(libc::SEEK_SET).unwrap_or_default(),
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        match fcntl::fcntl(&file, fcntl::FcntlArg::F_SETLK(&whole)) {
            Ok(_) => Ok(Self { _file: file }),
            Err(Errno::EAGAIN | Errno::EACCES) => {
                Err(io::Error::other("another mysqld has the data directory"))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The relay logs, as their index names them; none where there is no index.
fn logs(datadir: &Path) -> io::Result<Vec<PathBuf>> {
    let index = match fs::read_to_string(datadir.join("relay.index")) {
        Ok(index) => index,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let named = index.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(named
        .map(|line| datadir.join(line))
        .filter(|log| log.exists())
        .collect())
}

/// What the walk has of the transaction that began last.
#[derive(Clone, Copy)]
struct Open {
    at: u64,
    /// Its first statement was seen.
    begun: bool,
}

/// Where the log's last transaction begins, if its end is not there.
fn half_at(log: &Path) -> io::Result<Option<u64>> {
    let file = File::open(log)?;
    let length = file.metadata()?.len();
    let mut file = BufReader::with_capacity(256 << 10, file);
    let mut magic = [0; MAGIC.len()];
    if length < MAGIC.len() as u64 {
        return Ok(None);
    }
    file.read_exact(&mut magic)?;
    if magic != MAGIC {
        // An encrypted log, or none.
        return Ok(None);
    }
    let mut at = MAGIC.len() as u64;
    let mut checksums = true;
    let mut open: Option<Open> = None;
    while at < length {
        let torn = Ok(Some(open.map_or(at, |open| open.at)));
        if length - at < HEADER as u64 {
            return torn;
        }
        let mut bytes = [0; HEADER];
        file.read_exact(&mut bytes)?;
        let Some(header) = Header::read(&bytes).filter(|header| header.size <= LONGEST) else {
            // Damage, which is for mysqld to find.
            return Ok(None);
        };
        let size = u64::from(header.size);
        if size > length - at {
            return torn;
        }
        let mut read = 0;
        let mut whole = || -> io::Result<Option<Vec<u8>>> {
            if header.size > SHORT {
                return Ok(None);
            }
            let mut event = bytes.to_vec();
            event.resize(header.size as usize, 0);
            file.read_exact(&mut event[HEADER..])?;
            read = event.len() - HEADER;
            Ok(Some(event))
        };
        match (header.kind, open) {
            (kind::FORMAT, _) => {
                let format = whole()?.as_deref().and_then(Format::read);
                checksums = format.is_none_or(|format| format.checksums);
            }
            (kind::GTID | kind::TAGGED_GTID, _) => open = Some(Open { at, begun: false }),
            (kind::QUERY, Some(begun)) => {
                let event = whole()?;
                let parts = event.as_deref().and_then(|event| query::parts(event, checksums));
                open = match parts {
                    Some((_, text)) if stays_open(begun, text) => Some(Open { begun: true, ..begun }),
                    _ => None,
                };
            }
            (kind, Some(_)) if is_inside(kind) => {}
            // The end of a transaction, or what is not known to be inside one.
            _ => open = None,
        }
        at += size;
        let rest = size - (HEADER + read) as u64;
        file.seek_relative(i64::try_from(rest).unwrap_or(i64::MAX))?;
    }
    Ok(open.map(|open| open.at))
}

/// True for a statement that does not end its transaction.
fn stays_open(open: Open, text: &[u8]) -> bool {
    let begins = |words: &[&[u8]]| words.iter().any(|word| text.starts_with(word));
    if open.begun {
        begins(&[b"SAVEPOINT ", b"ROLLBACK TO ", b"XA END "])
    } else {
        text == b"BEGIN" || begins(&[b"XA START "])
    }
}

/// True for events that stand inside a transaction, and for those that stand behind the half where its writer ended.
fn is_inside(kind: u8) -> bool {
    matches!(
        kind,
        kind::TABLE_MAP
            | kind::ROWS_QUERY
            | kind::INTVAR
            | kind::RAND
            | kind::USER_VAR
            | kind::PARTIAL_ROWS
            | kind::STOP
            | kind::ROTATE
            | kind::PREVIOUS_GTIDS
    ) || kind::ROWS.contains(&kind)
        || kind::ROWS_V1.contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u8, body: &[u8]) -> Vec<u8> {
        let size = u32::try_from(HEADER + body.len() + 4).unwrap();
        let mut event = vec![0; HEADER];
        event[4] = kind;
        event[9..13].copy_from_slice(&size.to_le_bytes());
        event.extend(body);
        event.extend([7; 4]);
        event
    }

    fn statement(text: &str) -> Vec<u8> {
        let mut body = vec![0; 13];
        body[8] = 2;
        body.extend(b"db\0");
        body.extend(text.as_bytes());
        event(kind::QUERY, &body)
    }

    fn row() -> Vec<u8> {
        event(*kind::ROWS.start(), b"row")
    }

    /// A data directory with one relay log of these bytes.
    fn datadir(name: &str, log: &[u8]) -> PathBuf {
        let datadir = std::env::temp_dir().join(format!("ddb-relay-{name}-{}", std::process::id()));
        fs::create_dir_all(&datadir).unwrap();
        fs::write(datadir.join("ibdata1"), "").unwrap();
        fs::write(datadir.join("relay.index"), "./relay.000001\n").unwrap();
        fs::write(datadir.join("relay.000001"), [&MAGIC[..], log].concat()).unwrap();
        datadir
    }

    /// How many bytes behind the magic are left of a log.
    fn left_of(name: &str, log: &[u8]) -> usize {
        let datadir = datadir(name, log);
        let mut told = 0;
        mend(&datadir, |_| told += 1).unwrap();
        let left = fs::read(datadir.join("relay.000001")).unwrap().len() - MAGIC.len();
        assert_eq!(told, usize::from(left < log.len()), "{name}");
        mend(&datadir, |half| panic!("{name}: {half:?}")).unwrap();
        fs::remove_dir_all(datadir).unwrap();
        left
    }

    fn complete() -> Vec<u8> {
        [event(kind::GTID, b"1"), event(kind::PAYLOAD, b"p")].concat()
    }

    #[test]
    fn a_half_is_taken_off_with_whatever_stands_behind_it() {
        let gtid = event(kind::GTID, b"2");
        let stop = event(kind::STOP, b"");
        let halves = [
            ("name", vec![gtid.clone()]),
            ("stopped", vec![gtid.clone(), stop.clone()]),
            ("begun", vec![gtid.clone(), statement("BEGIN")]),
            (
                "xa",
                vec![
                    gtid.clone(),
                    statement("XA START X'61',X'',1"),
                    row(),
                    statement("XA END X'61',X'',1"),
                ],
            ),
            (
                "savepoint",
                vec![gtid.clone(), statement("BEGIN"), statement("SAVEPOINT `a`"), stop],
            ),
            (
                "rows",
                vec![
                    event(kind::TAGGED_GTID, b"2"),
                    statement("BEGIN"),
                    event(kind::TABLE_MAP, b"map"),
                    row(),
                    event(kind::ROTATE, b"next"),
                ],
            ),
            (
                "torn",
                vec![gtid.clone(), event(kind::PAYLOAD, b"payload")[..22].to_vec()],
            ),
            ("torn-name", vec![gtid[..21].to_vec()]),
            ("torn-header", vec![gtid[..5].to_vec()]),
        ];
        for (name, half) in halves {
            let log = [complete(), half.concat()].concat();
            assert_eq!(left_of(name, &log), complete().len(), "{name}");
        }
    }

    #[test]
    fn what_is_whole_or_not_understood_stays() {
        let ends = [
            ("payload", vec![event(kind::PAYLOAD, b"p")]),
            (
                "ddl",
                vec![statement(
                    "ALTER TABLE t ADD COLUMN date_end DATE AFTER DATE_BEGIN",
                )],
            ),
            (
                "long",
                vec![statement(&format!(
                    "CREATE VIEW v AS SELECT '{}'",
                    "x".repeat(70_000)
                ))],
            ),
            ("xid", vec![statement("BEGIN"), row(), event(kind::XID, b"9")]),
            ("myisam", vec![statement("BEGIN"), row(), statement("COMMIT")]),
            (
                "prepared",
                vec![statement("XA START X'61',X'',1"), event(kind::XA_PREPARE, b"x")],
            ),
            ("incident", vec![event(26, b"i")]),
            ("later", vec![event(77, b"?")]),
            ("damaged", vec![vec![0; 40]]),
        ];
        for (name, rest) in ends {
            let log = [
                complete(),
                event(kind::GTID, b"2"),
                rest.concat(),
                event(kind::STOP, b""),
            ]
            .concat();
            assert_eq!(left_of(name, &log), log.len(), "{name}");
        }
    }

    #[test]
    fn a_server_that_never_received_has_nothing_to_mend() {
        mend(Path::new("/nowhere/at/all"), |half| panic!("{half:?}")).unwrap();
    }
}
