//! How the API is run.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::access::Roles;

/// What one request may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a body.
    pub body: usize,
    /// Rows of a page where the request says nothing.
    pub rows: usize,
    /// Rows of a page at most.
    pub most_rows: usize,
    /// How long a statement may take.
    pub statement: Duration,
    /// Requests that are carried out at a time.
    pub requests: usize,
    /// Requests that wait for their turn.
    pub queue: usize,
    /// Requests a second of one token; 0 for any number.
    pub token_rate: u32,
    /// Requests of one token at a time.
    pub token_requests: u32,
    /// Exports, imports and searches at a time.
    pub streams: usize,
    /// Clients that watch events at a time.
    pub watchers: usize,
    /// Change feeds of this node's log at a time.
    pub feeds: u32,
    /// Connections to MySQL for each role.
    pub connections: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 8 << 20,
            rows: 100,
            most_rows: 10_000,
            statement: Duration::from_secs(30),
            requests: 128,
            queue: 1024,
            token_rate: 10_000,
            token_requests: 1024,
            streams: 8,
            watchers: 256,
            feeds: 32,
            connections: 32,
        }
    }
}

/// What is recorded besides changes and refusals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Reads too.
    pub reads: bool,
    /// The values of statements too, in place of `?`.
    pub values: bool,
    /// Whatever took so long or longer; `None` for nothing.
    pub slow: Option<Duration>,
}

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The node's name.
    pub node: String,
    /// Where requests arrive.
    pub listen: SocketAddr,
    /// `ca.crt`, `tls.crt`, `tls.key`.
    pub tls: PathBuf,
    /// The user's `tls.crt` and `tls.key`, for clients; there need not be any.
    pub users_tls: PathBuf,
    /// One file for each token.
    pub tokens: PathBuf,
    /// One file for each of the three roles, with its account's password.
    pub accounts: PathBuf,
    /// All roles.
    pub roles: Roles,
    /// mysqld's socket.
    pub mysql_socket: PathBuf,
    /// Where audit records are kept.
    pub audit: PathBuf,
    /// What they are kept of.
    pub recorded: Recorded,
    /// How much at most.
    pub limits: Limits,
    /// The origins whose scripts a browser lets in.
    pub origins: Vec<String>,
}
