//! A query's whole result on its way out, with no more of it in memory than a few parts.

use std::{io, time::Duration};

use axum::body::{Body, Bytes};
use futures::{TryStreamExt as _, stream};
use tokio::{sync::mpsc, time::timeout};

use super::{Rows, Transaction, transaction::bind};
use crate::sql::Sql;

/// A part goes out when it has this many bytes.
const PART: usize = 64 << 10;
/// Parts that wait for a client to take them.
const AHEAD: usize = 2;
/// A client that takes nothing for this long is let go; the server would do so itself after 60 s.
const PATIENCE: Duration = Duration::from_secs(45);

/// Where a stream is written; what is full goes out.
pub struct Out {
    parts: mpsc::Sender<Result<Bytes, io::Error>>,
    part: Vec<u8>,
}

/// A stream: where it is written, and the body that the client gets.
pub fn stream() -> (Out, Body) {
    let (parts, taken) = mpsc::channel(AHEAD);
    let body = stream::unfold(taken, |mut taken| async {
        let part = taken.recv().await?;
        Some((part, taken))
    });
    let out = Out {
        parts,
        part: Vec::with_capacity(PART),
    };
    (out, Body::from_stream(body))
}

impl Out {
    /// What is not full yet.
    pub fn part(&mut self) -> &mut Vec<u8> {
        &mut self.part
    }

    /// Sends what is full; an error where the client is gone.
    pub async fn next(&mut self) -> io::Result<()> {
        if self.part.len() < PART {
            return Ok(());
        }
        self.flush().await
    }

    /// Sends what there is.
    pub async fn flush(&mut self) -> io::Result<()> {
        let part = std::mem::replace(&mut self.part, Vec::with_capacity(PART));
        let sent = timeout(PATIENCE, self.parts.send(Ok(part.into()))).await;
        sent.map_err(io::Error::other)?
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Sends the rest, or breaks the reply off; returns whether it was sent whole.
    pub async fn end(mut self, written: io::Result<()>) -> bool {
        let sent = match written {
            Ok(()) => self.flush().await,
            Err(error) => Err(error),
        };
        let Err(error) = sent else { return true };
        tracing::debug!(%error, "a stream was broken off");
        // Nobody may be there any more.
        let _ = timeout(PATIENCE, self.parts.send(Err(error))).await;
        false
    }
}

impl Transaction {
    /// Writes every row of a query; returns how many there were. `write` gets a result of one row.
    pub async fn write(
        &mut self,
        sql: Sql,
        out: &mut Out,
        mut write: impl FnMut(&mut Vec<u8>, &Rows) -> io::Result<()>,
    ) -> io::Result<u64> {
        let limit = self.pools().limit();
        let Some(connection) = self.connection() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let (text, values) = sql.into_parts();
        let mut found = bind(text, values).fetch(connection);
        let (mut row, mut count) = (Rows::default(), 0_u64);
        loop {
            let next = timeout(limit, found.try_next()).await;
            let Some(next) = next.map_err(io::Error::other)?.map_err(io::Error::other)? else {
                return Ok(count);
            };
            row.cells.clear();
            row.push(&next).map_err(io::Error::other)?;
            write(out.part(), &row)?;
            count += 1;
            out.next().await?;
        }
    }

    /// Ends a stream. The connection is closed; where the stream was broken off, the server is told to stop.
    pub async fn end(mut self, out: Out, written: io::Result<()>) {
        if written.is_err() {
            self.stop();
        }
        out.end(written).await;
        self.abandon();
    }
}
