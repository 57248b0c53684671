//! From where a feed runs: a write's token, or the id of an event.

use axum::http::HeaderMap;
use failover::GtidSet;

use crate::{
    engine::Engine,
    problem::{Kind, Problem},
};

/// Sent by clients that come back.
const LAST: &str = "last-event-id";

/// The position that a request names, by header or parameter; the header is the newer one where a client comes back
/// with the address that it began with.
pub fn asked(headers: &HeaderMap, after: Option<&str>) -> Result<Option<GtidSet>, Problem> {
    let (field, text) = match headers.get(LAST) {
        Some(value) => ("Last-Event-ID", value.to_str().unwrap_or("?")),
        None => match after {
            Some(text) => ("after", text),
            None => return Ok(None),
        },
    };
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let set = text
        .split_once('.')
        .filter(|(term, _)| term.parse::<u64>().is_ok())
        .and_then(|(_, set)| set.parse().ok());
    set.map(Some).ok_or_else(|| {
        Problem::bad_request(format!(
            "{field}: give the id of an event of this feed, or the Write-Token of a reply, as it is"
        ))
    })
}

/// The position as an id, which is also a token that `After` takes.
pub fn id(term: u64, set: &GtidSet) -> String {
    format!("{term}.{set}")
}

/// Where the feed begins: at the position that was asked for, where the master still has all that came after it.
pub async fn begin(engine: &Engine, asked: Option<GtidSet>) -> Result<GtidSet, Problem> {
    let Some(asked) = asked else {
        // A master that is being fenced may have what nobody acknowledged.
        let settled = engine.settled().await?;
        return settled
            .ok_or_else(|| Problem::new(Kind::NoMaster, "this node does not lead any more").again());
    };
    let (executed, purged) = engine.history().await?;
    judge(asked, &executed, &purged)
}

fn judge(asked: GtidSet, executed: &GtidSet, purged: &GtidSet) -> Result<GtidSet, Problem> {
    if !executed.contains(&asked) {
        return Err(Problem::new(
            Kind::TokenLost,
            "the position names transactions that the master does not hold: it is of another database, or of a \
             history that was given up; begin a feed without a position to get one, read the tables anew, and follow from it",
        ));
    }
    if !asked.contains(purged) {
        return Err(Problem::new(
            Kind::PositionPurged,
            "the master has deleted changes after this position from its binary log; begin a feed without a position \
             to get one, read the tables anew, and follow from it",
        ));
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(numbers: &str) -> GtidSet {
        format!("{A}:{numbers}").parse().unwrap()
    }

    #[test]
    fn a_position_is_read_from_the_header_first() {
        let mut headers = HeaderMap::new();
        assert_eq!(asked(&headers, None), Ok(None));
        assert_eq!(asked(&headers, Some("")), Ok(None));
        let after = format!("7.{A}:1-5");
        assert_eq!(asked(&headers, Some(&after)), Ok(Some(set("1-5"))));
        headers.insert(LAST, format!("8.{A}:1-9").parse().unwrap());
        assert_eq!(asked(&headers, Some(&after)), Ok(Some(set("1-9"))));
        assert_eq!(id(8, &set("1-9")), format!("8.{A}:1-9"));
        for wrong in ["x", "7", "x.", "7.x", &format!("{A}:1-5")] {
            let problem = asked(&HeaderMap::new(), Some(wrong)).unwrap_err();
            assert_eq!(problem.kind(), Kind::BadRequest, "{wrong}");
        }
    }

    #[test]
    fn a_position_must_be_of_the_masters_history_and_in_its_log() {
        let from = |asked: &str, purged: &str| judge(set(asked), &set("1-9"), &set(purged));
        assert_eq!(from("1-5", "1-5"), Ok(set("1-5")));
        assert_eq!(from("1-9", "1-5"), Ok(set("1-9")));
        assert_eq!(from("1-4", "1-5").unwrap_err().kind(), Kind::PositionPurged);
        assert_eq!(from("1-10", "1-5").unwrap_err().kind(), Kind::TokenLost);
    }
}
