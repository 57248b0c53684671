//! Statements in the binary log: which of them crash recovery can roll back.

use super::event::{CHECKSUM, HEADER, u32_at, u64_at};

/// Bytes between header and status variables.
const FIXED: usize = 13;

/// What a statement event means for its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statement {
    /// A transaction of several events begins.
    Begin,
    /// It ends without the engine's two phases: nothing of it can be rolled back.
    Commit,
    /// A change of schema or account that is prepared and committed with the log, as InnoDB's are.
    Atomic,
    /// Any other.
    Other,
}

/// The status variables and the text of a whole statement event; `None` where it is not understood.
pub fn parts(event: &[u8], checksums: bool) -> Option<(&[u8], &[u8])> {
    let end = event.len().checked_sub(if checksums { CHECKSUM } else { 0 })?;
    let database = usize::from(*event.get(HEADER + 8)?);
    let variables = usize::from(u16::from_le_bytes([
        *event.get(HEADER + 11)?,
        *event.get(HEADER + 12)?,
    ]));
    let begin = HEADER + FIXED;
    let status = event.get(begin..begin + variables)?;
    let text = event.get(begin + variables + database + 1..end)?;
    Some((status, text))
}

/// Reads a whole statement event; `None` where it is not understood.
pub fn read(event: &[u8], checksums: bool) -> Option<Statement> {
    let (status, text) = parts(event, checksums)?;
    match text {
        b"BEGIN" => Some(Statement::Begin),
        b"COMMIT" | b"ROLLBACK" => Some(Statement::Commit),
        text if text.starts_with(b"XA ") || text.starts_with(b"SAVEPOINT") => Some(Statement::Other),
        _ if has_transaction_number(status)? => Some(Statement::Atomic),
        _ => Some(Statement::Other),
    }
}

/// Walks the status variables, each a code and a value of its own length, to the number of the engine's transaction.
fn has_transaction_number(status: &[u8]) -> Option<bool> {
    let mut at = 0;
    while let Some(code) = status.get(at) {
        at += 1;
        let length = |place: usize| status.get(place).map(|length| usize::from(*length));
        at += match code {
            17 => return u64_at(status, at).map(|number| number > 0),
            // Numbers of fixed sizes: flags, modes, character sets, times.
            0 | 3 => 4,
            1 | 9 => 8,
            4 => 6,
            7 | 8 | 18 => 2,
            10 => u32_at(status, at).map(|_| 4)?,
            13 => 3,
            16 | 19 | 20 => 1,
            // Catalog, time zone: a length before the text.
            5 | 6 => 1 + length(at)?,
            // User and host.
            11 => {
                let user = 1 + length(at)?;
                user + 1 + length(at + user)?
            }
            // Names of databases, each ended by a zero byte; 254 says that there were too many.
            12 => match length(at)? {
                254 => 1,
                names => 1 + names_length(status.get(at + 1..)?, names)?,
            },
            _ => return None,
        };
    }
    (at == status.len()).then_some(false)
}

fn names_length(bytes: &[u8], names: usize) -> Option<usize> {
    if names == 0 {
        return Some(0);
    }
    let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == 0);
    ends.map(|(at, _)| at + 1).nth(names - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(status: &[u8], text: &str) -> Vec<u8> {
        let mut event = vec![0; HEADER + FIXED];
        event[HEADER + 8] = 1;
        event[HEADER + 11] = u8::try_from(status.len()).unwrap();
        event.extend_from_slice(status);
        event.extend_from_slice(b"t\0");
        event.extend_from_slice(text.as_bytes());
        event
    }

    #[test]
    fn a_schema_change_is_atomic_only_with_the_engines_number() {
        let names = [0, 1, 0, 0, 0, 12, 2, b'a', 0, b'b', b'b', 0];
        let number = [&names[..], &[17, 9, 0, 0, 0, 0, 0, 0, 0]].concat();
        let zero = [&names[..], &[17, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
        let text = "CREATE TABLE x (n INT)";
        assert_eq!(read(&event(&number, text), false), Some(Statement::Atomic));
        assert_eq!(read(&event(&zero, text), false), Some(Statement::Other));
        assert_eq!(read(&event(&names, text), false), Some(Statement::Other));
    }

    #[test]
    fn an_unknown_variable_or_a_short_event_is_not_understood() {
        assert_eq!(read(&event(&[99, 0], "DROP TABLE x"), false), None);
        assert_eq!(read(&event(&[5, 200], "DROP TABLE x"), false), None);
        assert_eq!(read(&[0; HEADER], false), None);
    }

    #[test]
    fn the_borders_of_transactions_are_known_by_their_text() {
        assert_eq!(read(&event(&[], "BEGIN"), false), Some(Statement::Begin));
        assert_eq!(read(&event(&[], "COMMIT"), false), Some(Statement::Commit));
    }
}
