//! As much of MySQL's protocol as it takes to log in over the socket with an account that has no password, and to run
//! statements that answer no rows.

use std::path::Path;

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use super::{Error, wire::refusal};

/// `CLIENT_LONG_PASSWORD`, `CLIENT_PROTOCOL_41`, `CLIENT_SECURE_CONNECTION`, `CLIENT_PLUGIN_AUTH`.
const CAPABILITIES: u32 = 0x1 | 0x200 | 0x8000 | 0x8_0000;
/// The largest packet that is taken.
const LARGEST: u32 = 1 << 30;
/// `utf8mb4_general_ci`.
const COLLATION: u8 = 45;
const PLUGIN: &[u8] = b"caching_sha2_password\0";
const COM_QUERY: u8 = 3;

/// A connection that was let in.
#[derive(Debug)]
pub(super) struct Login {
    stream: UnixStream,
    raw: BytesMut,
    sequence: u8,
    thread: u32,
}

impl Login {
    pub(super) async fn with(socket: &Path, account: &str) -> Result<Self, Error> {
        let mut this = Self {
            stream: UnixStream::connect(socket).await?,
            raw: BytesMut::new(),
            sequence: 0,
            thread: 0,
        };
        let greeting = this.packet().await?;
        // The protocol's version, the server's version ended by a zero byte, the number of the connection.
        let after = greeting
            .iter()
            .position(|byte| *byte == 0)
            .map(|end| &greeting[end + 1..])
            .and_then(|rest| rest.first_chunk::<4>());
        this.thread = match (greeting.first(), after) {
            (Some(10), Some(thread)) => u32::from_le_bytes(*thread),
            _ => return Err(Error::Malformed("the server greets in an unknown way")),
        };
        let mut answer = Vec::with_capacity(64 + account.len());
        answer.extend_from_slice(&CAPABILITIES.to_le_bytes());
        answer.extend_from_slice(&LARGEST.to_le_bytes());
        answer.push(COLLATION);
        answer.extend_from_slice(&[0; 23]);
        answer.extend_from_slice(account.as_bytes());
        // The end of the name, and a proof of no bytes: there is no password.
        answer.extend_from_slice(&[0, 0]);
        answer.extend_from_slice(PLUGIN);
        this.write(&answer).await?;
        loop {
            let packet = this.packet().await?;
            match packet.as_slice() {
                [0, ..] => return Ok(this),
                // Another way to prove the same.
                [0xfe, ..] => this.write(&[]).await?,
                [1, 3, ..] => {}
                // The password itself, which is empty.
                [1, 4, ..] => this.write(&[0]).await?,
                _ => return Err(Error::Malformed("the server wants an unknown proof")),
            }
        }
    }

    /// Runs a statement that answers no rows.
    pub(super) async fn run(&mut self, sql: &str) -> Result<(), Error> {
        let mut command = Vec::with_capacity(sql.len() + 1);
        command.push(COM_QUERY);
        command.extend_from_slice(sql.as_bytes());
        self.send(&command).await?;
        match self.packet().await?.first() {
            Some(0) => Ok(()),
            _ => Err(Error::Malformed(
                "a statement without rows was answered with some",
            )),
        }
    }

    /// Sends a command; what is answered is the caller's to read.
    pub(super) async fn send(&mut self, command: &[u8]) -> Result<(), Error> {
        self.sequence = 0;
        self.write(command).await
    }

    /// The connection, its number, and what was read too much.
    pub(super) fn into_parts(self) -> (UnixStream, u32, BytesMut) {
        (self.stream, self.thread, self.raw)
    }

    async fn write(&mut self, payload: &[u8]) -> Result<(), Error> {
        // Longer ones would have to be cut; a set of transactions is far below.
        let length = u32::try_from(payload.len())
            .ok()
            .filter(|length| *length < 0xff_ffff)
            .ok_or(Error::Malformed("the command is too long"))?;
        let mut packet = Vec::with_capacity(payload.len() + 4);
        packet.extend_from_slice(&length.to_le_bytes()[..3]);
        packet.push(self.sequence);
        packet.extend_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.stream.write_all(&packet).await?;
        Ok(())
    }

    /// A short packet; a refusal is an error.
    async fn packet(&mut self) -> Result<Vec<u8>, Error> {
        loop {
            if let [a, b, c, sequence, rest @ ..] = self.raw.as_ref() {
                let length = u32::from_le_bytes([*a, *b, *c, 0]) as usize;
                if let Some(payload) = rest.get(..length) {
                    let payload = payload.to_vec();
                    self.sequence = sequence.wrapping_add(1);
                    self.raw.advance(4 + length);
                    return match payload.first() {
                        Some(0xff) => Err(refusal(&payload)),
                        _ => Ok(payload),
                    };
                }
            }
            if self.stream.read_buf(&mut self.raw).await? == 0 {
                return Err(Error::Ended);
            }
        }
    }
}
