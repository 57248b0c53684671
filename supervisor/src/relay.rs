//! Takes half a transaction off the ends of relay logs, before mysqld starts.
//!
//! A receiver that is stopped or killed leaves what it had of a transaction. Where the server was then shut down in
//! order, the log ends with that half and the event "Stop", and MySQL's parallel applier never gets past it: it waits for
//! workers that have nothing to do, whatever is killed or restarted (seen of 9.7.4). The half is of no use to anybody: it
//! was never acknowledged nor counted as received, and the source sends the whole transaction again.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// The first bytes of every log.
const MAGIC: [u8; 4] = *b"\xfebin";
/// The length of an event's header.
const HEADER: usize = 19;
/// What a transaction's first statement is.
const BEGIN: &[u8] = b"BEGIN";
/// The checksum at an event's end.
const CHECKSUM: usize = 4;

mod kind {
    pub const QUERY: u8 = 2;
    pub const XID: u8 = 16;
    pub const GTID: u8 = 33;
    pub const XA_PREPARE: u8 = 38;
    pub const PAYLOAD: u8 = 40;
    pub const TAGGED_GTID: u8 = 42;
}

/// Half a transaction that was taken off.
#[derive(Debug, PartialEq, Eq)]
pub struct Half {
    /// The log.
    pub log: PathBuf,
    /// Where the log ends now.
    pub end: u64,
}

/// Takes the half transactions off the relay logs of `datadir`, all of which end with none afterwards.
///
/// # Errors
/// Where a log cannot be read or cut; the others were not looked at then.
pub fn mend(datadir: &Path) -> io::Result<Vec<Half>> {
    let mut halves = Vec::new();
    for log in logs(datadir)? {
        if let Some(end) = half_at(&log)? {
            let file = OpenOptions::new().write(true).open(&log)?;
            file.set_len(end)?;
            file.sync_all()?;
            halves.push(Half { log, end });
        }
    }
    Ok(halves)
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

/// Where the log's last transaction begins, if its end is not there.
fn half_at(log: &Path) -> io::Result<Option<u64>> {
    let file = File::open(log)?;
    let length = file.metadata()?.len();
    let mut file = BufReader::new(file);
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
    let mut open: Option<Open> = None;
    while at + HEADER as u64 <= length {
        let mut header = [0; HEADER];
        file.read_exact(&mut header)?;
        let size = u64::from(u32::from_le_bytes([
            header[9], header[10], header[11], header[12],
        ]));
        if size < HEADER as u64 || at + size > length {
            // The event itself is half, which MySQL finds by itself; the transaction around it ends here too.
            break;
        }
        let kind = header[4];
        match (kind, &mut open) {
            (kind::GTID | kind::TAGGED_GTID, _) => open = Some(Open { at, statements: 0 }),
            (kind::XID | kind::PAYLOAD | kind::XA_PREPARE, _) => open = None,
            (kind::QUERY, Some(begun)) => {
                begun.statements += 1;
                // A transaction begins with BEGIN and ends with another statement; DDL is one statement alone.
                if begun.statements > 1 || !is_begin(&mut file, size)? {
                    open = None;
                }
            }
            _ => {}
        }
        at += size;
        file.seek(SeekFrom::Start(at))?;
    }
    Ok(open.map(|open| open.at))
}

/// A transaction whose end was not seen yet.
struct Open {
    at: u64,
    statements: u32,
}

/// True when the statement event whose header was just read says BEGIN: its text comes last, but for a checksum.
fn is_begin(file: &mut impl Read, size: u64) -> io::Result<bool> {
    let length = usize::try_from(size).unwrap_or(usize::MAX) - HEADER;
    let mut body = Vec::new();
    file.take(length as u64).read_to_end(&mut body)?;
    let unchecked = body.len().checked_sub(CHECKSUM).and_then(|end| body.get(..end));
    Ok(body.ends_with(BEGIN) || unchecked.is_some_and(|body| body.ends_with(BEGIN)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOP: u8 = 3;
    const ROTATE: u8 = 4;
    const FORMAT: u8 = 15;

    fn event(kind: u8, body: &[u8]) -> Vec<u8> {
        let size = u32::try_from(HEADER + body.len() + CHECKSUM).unwrap();
        let mut event = vec![0; 4];
        event.push(kind);
        event.extend([1, 0, 0, 0]);
        event.extend(size.to_le_bytes());
        event.extend([0; 6]);
        event.extend(body);
        event.extend([7; CHECKSUM]);
        event
    }

    /// A directory with one relay log of these events, and the log's length without the last `left` of them.
    fn log(name: &str, events: &[Vec<u8>], left: usize) -> (PathBuf, u64) {
        let datadir = std::env::temp_dir().join(format!("ddb-relay-{name}-{}", std::process::id()));
        fs::create_dir_all(&datadir).unwrap();
        let kept = events[..events.len() - left].concat().len();
        fs::write(datadir.join("relay.index"), "./relay.000001\n").unwrap();
        fs::write(
            datadir.join("relay.000001"),
            [&MAGIC[..], &events.concat()].concat(),
        )
        .unwrap();
        (datadir, (MAGIC.len() + kept) as u64)
    }

    fn end(datadir: &Path) -> u64 {
        let length = fs::metadata(datadir.join("relay.000001")).unwrap().len();
        fs::remove_dir_all(datadir).unwrap();
        length
    }

    #[test]
    fn a_half_is_taken_off_with_whatever_stands_behind_it() {
        let whole = [
            event(FORMAT, b"f"),
            event(kind::GTID, b"1"),
            event(kind::PAYLOAD, b"p"),
        ];
        let halves = [
            ("name", vec![event(kind::GTID, b"2")]),
            ("stopped", vec![event(kind::GTID, b"2"), event(STOP, b"")]),
            (
                "begun",
                vec![event(kind::GTID, b"2"), event(kind::QUERY, b"dbBEGIN")],
            ),
            (
                "rows",
                vec![
                    event(kind::TAGGED_GTID, b"2"),
                    event(kind::QUERY, b"BEGIN"),
                    event(19, b"map"),
                    event(30, b"row"),
                    event(ROTATE, b"next"),
                ],
            ),
        ];
        for (name, half) in halves {
            let (datadir, wanted) = log(name, &[&whole[..], &half].concat(), half.len());
            let mended = mend(&datadir).unwrap();
            assert_eq!(mended.len(), 1, "{name}");
            assert_eq!(mended[0].end, wanted, "{name}");
            assert_eq!(mend(&datadir).unwrap(), [], "{name}");
            assert_eq!(end(&datadir), wanted, "{name}");
        }
    }

    #[test]
    fn what_is_whole_stays() {
        let ends = [
            ("payload", vec![event(kind::PAYLOAD, b"p")]),
            ("ddl", vec![event(kind::QUERY, b"DROP TABLE t")]),
            (
                "xid",
                vec![
                    event(kind::QUERY, b"BEGIN"),
                    event(30, b"row"),
                    event(kind::XID, b"9"),
                ],
            ),
            (
                "myisam",
                vec![
                    event(kind::QUERY, b"BEGIN"),
                    event(30, b"row"),
                    event(kind::QUERY, b"COMMIT"),
                ],
            ),
            (
                "xa",
                vec![event(kind::QUERY, b"XA START"), event(kind::XA_PREPARE, b"x")],
            ),
        ];
        for (name, rest) in ends {
            let events = [vec![event(kind::GTID, b"1")], rest, vec![event(STOP, b"")]].concat();
            let (datadir, wanted) = log(name, &events, 0);
            assert_eq!(mend(&datadir).unwrap(), [], "{name}");
            assert_eq!(end(&datadir), wanted, "{name}");
        }
    }

    #[test]
    fn a_server_that_never_received_has_nothing_to_mend() {
        assert_eq!(mend(Path::new("/nowhere/at/all")).unwrap(), []);
    }
}
