//! What the driver's errors mean to who asked.

use sqlx::mysql::MySqlDatabaseError;

use crate::problem::{Kind, Outcome, Problem};

/// The server lets nobody in, writes nothing, or ends: a change of master is under way.
const NOT_SERVING: [u16; 8] = [1053, 1290, 1792, 1836, 3032, 1040, 1203, 2013];
/// A wrong password: the accounts are not settled yet, or their passwords changed.
pub const ACCESS_DENIED: u16 = 1045;
/// An account that is not complete yet.
const LOCKED: u16 = 3118;
/// A row with this key exists already.
pub const DUPLICATE: u16 = 1062;

/// MySQL's error number, where the server answered with one.
pub fn code(error: &sqlx::Error) -> Option<u16> {
    error
        .as_database_error()
        .and_then(|database| database.try_downcast_ref::<MySqlDatabaseError>())
        .map(MySqlDatabaseError::number)
}

/// A statement that failed before `COMMIT`: nothing was changed.
pub fn problem(error: &sqlx::Error) -> Problem {
    let refused = error
        .as_database_error()
        .and_then(|database| database.try_downcast_ref::<MySqlDatabaseError>());
    let Some(refused) = refused else {
        return match error {
            sqlx::Error::Encode(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => {
                tracing::error!(%error, "a value could not be read");
                Problem::new(Kind::Internal, "the node could not read MySQL's answer")
            }
            _ => {
                tracing::debug!(%error, "no connection to MySQL");
                no_answer()
            }
        };
    };
    let code = refused.number();
    let state = refused.code().map(str::to_owned);
    let detail = refused.message();
    let of = |kind: Kind, detail: &str| Problem::new(kind, detail).with_code(code, state.clone());
    match code {
        ACCESS_DENIED | LOCKED => Problem::new(
            Kind::NotServing,
            "the accounts of the data API are not settled on this node yet",
        )
        .again(),
        code if NOT_SERVING.contains(&code) => of(
            Kind::NotServing,
            "the node's MySQL server takes no requests at the moment",
        )
        .again(),
        1044 | 1142 | 1143 | 1227 | 1370 | 1410 => of(
            Kind::Forbidden,
            &format!("{detail}. Use a token of a role that may do it"),
        ),
        1049 | 1051 | 1146 | 1008 | 1091 | 1176 => of(Kind::NotFound, detail),
        1007 | 1050 | DUPLICATE | 1451 | 1452 | 1061 | 1060 => of(Kind::Conflict, detail),
        1213 | 1205 => of(Kind::Conflict, detail).retryable(),
        1317 | 3024 => of(
            Kind::Timeout,
            "the statement took longer than allowed and was stopped; narrow it, or add an index",
        ),
        1264 | 1265 | 1292 | 1366 | 1406 | 1048 | 1364 | 1690 | 3140 | 3819 | 1411 | 1416 | 3156 | 1138 => {
            of(Kind::BadValue, detail)
        }
        _ => of(Kind::BadRequest, detail),
    }
}

/// The server is not there, or hangs; nothing was changed.
pub fn no_answer() -> Problem {
    Problem::new(Kind::NotServing, "the node's MySQL server does not answer").again()
}

/// A broken connection after `COMMIT` was sent. An answer of the server is a refusal, and the change is undone.
pub fn at_commit(error: &sqlx::Error) -> Problem {
    if error.as_database_error().is_some() && code(error).is_none_or(|code| !is_cut(code)) {
        return problem(error);
    }
    Problem::new(
        Kind::OutcomeUnknown,
        "the connection broke while the change was committed; look whether it is there, or send an \
         Idempotency-Key with every change and repeat the request with the same key",
    )
    .with_outcome(Outcome::Unknown)
    .again()
}

/// The server ended the connection; what it was doing may have been done. 1317 and 1053 too: a commit that waits for
/// an acknowledgement is interrupted by a kill, and stays in the log.
fn is_cut(code: u16) -> bool {
    matches!(code, 1053 | 1317 | 2013 | 3032 | 1927)
}
