//! The binary log as a slave would read it: asked of the node's own server over its socket, and taken apart as it comes.
//!
//! The transport is our own, because the drivers unpack a compressed transaction whole in memory, however large it is;
//! the events themselves are read by `mysql_common`. This client must never say that it acknowledges
//! (`@rpl_semi_sync_replica`): the master would count it as a slave that holds what it was sent.

mod charset;
mod event;
mod json;
mod login;
mod row;
mod table;
mod unpack;
mod wire;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

pub use event::{Begin, Reader, Statement};
use failover::GtidSet;
use mysql_common::{
    packets::{ComBinlogDumpGtid, Sid},
    proto::MySerialize as _,
};
pub use row::{Change, Decoded, Image, Rows};
pub use table::Table;
use tokio::{io::AsyncReadExt as _, net::UnixStream, runtime::Handle, time::timeout};
pub use wire::{Event, kind};

use login::Login;
use wire::Wire;

use crate::problem::{Kind, Problem};

/// The account that reads the log: usable over the node's own socket alone, and for nothing else.
pub const ACCOUNT: &str = "ddb_changes";

/// How long the server may take to let it in.
const CONNECT: Duration = Duration::from_secs(2);
/// How often the server says that it is there, so that it notices soon when nobody reads any more.
const HEARTBEAT_NANOS: u64 = 1_000_000_000;
/// Read at a time.
const PART: usize = 64 << 10;
/// Where the events of a file begin.
const FIRST: u64 = 4;
/// What the server answers where it has deleted what is wanted.
const PURGED: u16 = 1236;

/// Why the log cannot be read, or not any further.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection broke.
    #[error("the connection to mysqld broke: {0}")]
    Broken(#[from] io::Error),
    /// The server refused.
    #[error("mysqld answered {code}: {message}")]
    Refused {
        /// MySQL's error number.
        code: u16,
        /// Its words.
        message: String,
    },
    /// It is not understood.
    #[error("the binary log is not understood: {0}")]
    Malformed(&'static str),
    /// The server ended it.
    #[error("mysqld ended the log")]
    Ended,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused {
                code: PURGED,
                message,
            } => Self::new(Kind::PositionPurged, message),
            Error::Malformed(_) => {
                tracing::error!(%error, "the binary log cannot be read");
                Self::new(Kind::Internal, "the node cannot read the binary log")
            }
            Error::Broken(_) | Error::Refused { .. } | Error::Ended => {
                tracing::info!(%error, "no binary log");
                Self::new(
                    Kind::NotServing,
                    "the node's MySQL server does not give its binary log at the moment",
                )
                .again()
            }
        }
    }
}

/// The log while it is read. Dropping it has the server stop.
#[derive(Debug)]
pub struct Dump {
    stream: UnixStream,
    wire: Wire,
    thread: u32,
    socket: PathBuf,
}

impl Dump {
    /// All transactions that `known` lacks, in the order of the log.
    pub async fn begin(socket: &Path, known: &GtidSet) -> Result<Self, Error> {
        let begun = timeout(CONNECT, async {
            let mut login = Login::with(socket, ACCOUNT).await?;
            // The server ends an older dump of the same identity, so each has one of its own.
            let uuid = uuid::Uuid::new_v4();
            login
                .run(&format!(
                    "SET @replica_uuid = '{uuid}', @slave_uuid = '{uuid}', @source_binlog_checksum = 'CRC32', \
                     @master_binlog_checksum = 'CRC32', @source_heartbeat_period = {HEARTBEAT_NANOS}, \
                     @master_heartbeat_period = {HEARTBEAT_NANOS}"
                ))
                .await?;
            let text = known.to_string();
            let sids: Vec<Sid<'_>> = text
                .split(',')
                .filter(|part| !part.is_empty())
                .map(str::parse)
                .collect::<Result<_, _>>()?;
            let (_, number) = uuid.as_u64_pair();
            // Half of all numbers, none of them 0.
            let server = u32::try_from(number & 0x7fff_ffff).unwrap_or_default() | 0x8000_0000;
            let command = ComBinlogDumpGtid::new(server).with_pos(FIRST).with_sids(sids);
            let mut bytes = Vec::new();
            command.serialize(&mut bytes);
            login.send(&bytes).await?;
            Ok::<Login, Error>(login)
        });
        let login = begun
            .await
            .map_err(|_| Error::Broken(io::ErrorKind::TimedOut.into()))??;
        let (stream, thread, rest) = login.into_parts();
        Ok(Self {
            stream,
            wire: Wire::new(rest),
            thread,
            socket: socket.to_owned(),
        })
    }

    /// The next event, where it is here already.
    pub fn at_hand(&mut self) -> Result<Option<Event>, Error> {
        self.wire.next()
    }

    /// Reads on. Nothing is lost where this is given up in the middle.
    pub async fn read(&mut self) -> Result<(), Error> {
        let raw = self.wire.raw();
        raw.reserve(PART);
        match self.stream.read_buf(raw).await {
            Ok(count) if count > 0 => Ok(()),
            ended => {
                // The number may be another connection's by now.
                self.thread = 0;
                Err(ended.err().map_or(Error::Ended, Error::Broken))
            }
        }
    }
}

impl Drop for Dump {
    /// By itself the server would notice with its next heartbeat.
    fn drop(&mut self) {
        let (socket, thread) = (std::mem::take(&mut self.socket), self.thread);
        let Some(runtime) = Handle::try_current().ok().filter(|_| thread != 0) else {
            return;
        };
        runtime.spawn(async move {
            let killed = timeout(CONNECT, async {
                let mut login = Login::with(&socket, ACCOUNT).await?;
                login.run(&format!("KILL {thread}")).await
            });
            if let Ok(Err(error)) = killed.await {
                tracing::debug!(%error, "a dump that nobody reads ends by itself");
            }
        });
    }
}
