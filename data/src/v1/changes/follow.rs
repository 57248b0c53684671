//! `GET /v1/changes`

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::HeaderMap,
    response::{IntoResponse as _, Response},
};
use futures::stream;
use serde::Deserialize;
use tokio::{sync::mpsc, time::timeout};

use super::{feed::Feed, position, wanted::Wanted};
use crate::{
    call::Call,
    engine::Engine,
    format,
    input::Query,
    mysql::binlog::Dump,
    problem::{Kind, Problem, Problems},
};

/// A client that takes no part for so long is let go; it can come back to where it was.
const PATIENCE: Duration = Duration::from_secs(30);

/// One event as it stands in the stream.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "only the document tells of it")]
struct ToldChange {
    /// The position behind it; `position` and `commit` have one.
    id: Option<String>,
    /// `position`, `row`, `commit`, `schema` or `skipped`.
    event: String,
    /// JSON.
    data: String,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Options {
    /// The tables, with commas between them: `database.table`, or `database` for all of its tables. Without it, every
    /// table that the token reaches.
    tables: Option<String>,
    /// The position behind which to begin, as the header `Last-Event-ID` names it: the id of an event, or a
    /// `Write-Token`. Without either, from now on.
    after: Option<String>,
}

/// Tells committed changes of rows as they happen (server-sent events)
///
/// `position` comes first: the id from which the feed runs. `row` is a change of a row: `database`, `table`, `change`
/// (`insert`, `update`, `delete`), `row` as it is and `before` as it was. `commit` ends the rows of a transaction; its
/// id is the position behind it, from which the feed goes on on any node (`Last-Event-ID`). Rows that no `commit` has
/// followed come again then. `schema` says that a definition in a `database` was changed, or a table was emptied by
/// `TRUNCATE`. `skipped` says that there are changes that the feed cannot show, and why. What no slave has acknowledged
/// is not told. A position whose changes were deleted from the binary log is 410.
#[utoipa::path(get, path = "/v1/changes", tag = "streams",
    params(Options, ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was \
        taken; it counts for more than `after`.")),
    responses((status = 200, body = ToldChange, content_type = "text/event-stream"), Problems))]
pub async fn follow(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Query(options): Query<Options>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wanted = Wanted::of(&call, options.tables.as_deref())?;
    let asked = position::asked(&headers, options.after.as_deref())?;
    let place = engine.feeds.place(&call.caller().id)?;
    let term = {
        let view = engine.view.borrow();
        if !view.leads() {
            return Err(Problem::new(Kind::NoMaster, "this node does not lead any more").again());
        }
        view.term
    };
    let begin = position::begin(&engine, asked).await?;
    let dump = Dump::begin(engine.pools.socket(), &begin).await?;
    let feed = Feed::new(engine, call, place, term, wanted, begin, dump);
    let parts = stream::unfold(tell(feed), |mut parts| async {
        let part = parts.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(part), parts))
    });
    Ok((format::headers("text/event-stream"), Body::from_stream(parts)).into_response())
}

/// Runs the feed apart from its reader: one that takes nothing would keep the server's log from being removed, and its
/// token would not be looked at. Whoever goes away ends it.
fn tell(mut feed: Feed) -> mpsc::Receiver<Bytes> {
    let (parts, taken) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let part = tokio::select! {
                () = parts.closed() => return,
                part = feed.part() => part,
            };
            let Some(part) = part else { return };
            match timeout(PATIENCE, parts.send(part)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => {
                    tracing::info!("a change feed ends: its client takes nothing");
                    return;
                }
            }
        }
    });
    taken
}
