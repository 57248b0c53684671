//! A query's whole result as lines of JSON, with no more of it in memory than a few parts.

use std::{io, time::Duration};

use axum::body::Bytes;
use futures::TryStreamExt as _;
use tokio::{sync::mpsc, time::timeout};

use super::{Rows, Transaction, transaction::bind};
use crate::sql::Sql;

/// A part goes out when it has this many bytes.
const PART: usize = 64 << 10;
/// A client that takes nothing for this long is let go; the server would do so itself after 60 s.
const PATIENCE: Duration = Duration::from_secs(45);

/// Where the parts go; an error breaks the reply off.
pub type Parts = mpsc::Sender<Result<Bytes, io::Error>>;

impl Transaction {
    /// Sends every row as one line, and then the line that proves that these are all. The connection is closed
    /// afterwards; where the client goes away, the server is told to stop.
    pub async fn stream(mut self, sql: Sql, parts: Parts) {
        match self.lines(sql, &parts).await {
            Ok(()) => self.abandon(),
            Err(error) => {
                tracing::debug!(%error, "a stream was broken off");
                self.stop();
                // Nobody may be there any more.
                let _ = timeout(PATIENCE, parts.send(Err(error))).await;
            }
        }
    }

    async fn lines(&mut self, sql: Sql, parts: &Parts) -> Result<(), io::Error> {
        let limit = self.pools().limit();
        let Some(connection) = self.connection() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let (text, values) = sql.into_parts();
        let mut found = bind(text, values).fetch(connection);
        let mut row = Rows::default();
        let (mut part, mut count) = (Vec::with_capacity(PART), 0_u64);
        loop {
            let next = timeout(limit, found.try_next()).await;
            let Some(next) = next.map_err(io::Error::other)?.map_err(io::Error::other)? else {
                break;
            };
            row.cells.clear();
            row.push(&next).map_err(io::Error::other)?;
            serde_json::to_writer(&mut part, &row.first())?;
            part.push(b'\n');
            count += 1;
            if part.len() >= PART {
                send(parts, std::mem::replace(&mut part, Vec::with_capacity(PART))).await?;
            }
        }
        part.extend_from_slice(format!("{{\"end\":true,\"rows\":{count}}}\n").as_bytes());
        send(parts, part).await
    }
}

async fn send(parts: &Parts, part: Vec<u8>) -> Result<(), io::Error> {
    let sent = timeout(PATIENCE, parts.send(Ok(part.into()))).await;
    sent.map_err(io::Error::other)?
        .map_err(|_| io::ErrorKind::BrokenPipe.into())
}
