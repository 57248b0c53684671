//! The agent's arguments. The defaults are those of the pod; the hidden ones exist for tests outside of one.

use std::{net::SocketAddr, path::PathBuf};

use data::access::Roles;
use failover::NodeId;

/// What the agent is started with.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "ddb-node", about = "Node agent of a DistributedDatabase")]
pub struct Settings {
    /// The node's name: its pod.
    #[arg(long, env = "DDB_NODE")]
    pub node: NodeId,
    /// The UID of the resource that the node belongs to.
    #[arg(long, env = "DDB_CLUSTER")]
    pub cluster: String,
    /// What is logged, in the form of `RUST_LOG`.
    #[arg(long, env = "DDB_LOG", default_value = "info")]
    pub log: String,
    /// Where the operator's sessions arrive.
    #[arg(long, hide = true, env = "DDB_SESSION_LISTEN", default_value = "0.0.0.0:8440")]
    pub session_listen: SocketAddr,
    /// Where probes and metrics are asked for.
    #[arg(long, hide = true, env = "DDB_PROBE_LISTEN", default_value = "0.0.0.0:8081")]
    pub probe_listen: SocketAddr,
    /// Where clients arrive that are passed through to the master.
    #[arg(long, hide = true, env = "DDB_PASSAGE_LISTEN", default_value = "0.0.0.0:3307")]
    pub passage_listen: SocketAddr,
    /// Durable state.
    #[arg(long, hide = true, env = "DDB_AGENT_DIR", default_value = api::names::AGENT_DIR)]
    pub agent_dir: PathBuf,
    /// mysqld's data directory; the agent touches it only while mysqld is kept down.
    #[arg(long, hide = true, env = "DDB_MYSQL_DATA_DIR", default_value = api::names::MYSQL_DATA_DIR)]
    pub mysql_data_dir: PathBuf,
    /// mysqld's socket.
    #[arg(long, hide = true, env = "DDB_MYSQL_SOCKET", default_value = api::names::MYSQL_SOCKET)]
    pub mysql_socket: PathBuf,
    /// The supervisor's socket.
    #[arg(long, hide = true, env = "DDB_SUPERVISOR_SOCKET", default_value = api::names::SUPERVISOR_SOCKET)]
    pub supervisor_socket: PathBuf,
    /// `ca.crt`, `tls.crt`, `tls.key`, as this container sees them.
    #[arg(long, hide = true, env = "DDB_TLS_DIR", default_value = api::names::TLS_DIR)]
    pub tls_dir: PathBuf,
    /// The same directory as mysqld sees it.
    #[arg(long, hide = true, env = "DDB_MYSQL_TLS_DIR", default_value = api::names::TLS_DIR)]
    pub mysql_tls_dir: PathBuf,
    /// `username`, `password` of the application account.
    #[arg(long, hide = true, env = "DDB_ACCOUNT_DIR", default_value = api::names::ACCOUNT_DIR)]
    pub account_dir: PathBuf,
    /// Where requests to the data API arrive.
    #[arg(long, hide = true, env = "DDB_API_LISTEN", default_value = "0.0.0.0:8443")]
    pub api_listen: SocketAddr,
    /// The data API is not served.
    #[arg(long, env = "DDB_API_OFF")]
    pub api_off: bool,
    /// Bytes of a request's body at most.
    #[arg(long, env = "DDB_API_BODY", default_value_t = 8 << 20)]
    pub api_body: usize,
    /// Rows of a reply at most.
    #[arg(long, env = "DDB_API_ROWS", default_value_t = 10_000)]
    pub api_rows: usize,
    /// Seconds that a statement may take at most.
    #[arg(long, env = "DDB_API_STATEMENT_SECONDS", default_value_t = 30)]
    pub api_statement_seconds: u64,
    /// Requests that are carried out at a time.
    #[arg(long, env = "DDB_API_REQUESTS", default_value_t = 128)]
    pub api_requests: usize,
    /// Requests that wait for their turn.
    #[arg(long, env = "DDB_API_QUEUE", default_value_t = 1024)]
    pub api_queue: usize,
    /// Requests a second of one token; 0 for any number.
    #[arg(long, env = "DDB_API_TOKEN_RATE", default_value_t = 10_000)]
    pub api_token_rate: u32,
    /// Requests of one token at a time.
    #[arg(long, env = "DDB_API_TOKEN_REQUESTS", default_value_t = 1024)]
    pub api_token_requests: u32,
    /// Origins whose scripts a browser lets in, with commas between them.
    #[arg(long, env = "DDB_API_CORS_ORIGINS", default_value = "")]
    pub api_cors_origins: String,
    /// Records reads too.
    #[arg(long, env = "DDB_API_AUDIT_READS", default_value_t = false, action = clap::ArgAction::Set)]
    pub api_audit_reads: bool,
    /// Records the values of statements too.
    #[arg(long, env = "DDB_API_AUDIT_VALUES", default_value_t = false, action = clap::ArgAction::Set)]
    pub api_audit_values: bool,
    /// Records what takes so many milliseconds or longer; 0 for nothing.
    #[arg(long, env = "DDB_API_AUDIT_SLOW", default_value_t = 1000)]
    pub api_audit_slow: u64,
    /// The roles that the resource defines, as a JSON array.
    #[arg(long, env = "DDB_API_ROLES", default_value = "[]", value_parser = Roles::parse)]
    pub api_roles: Roles,
    /// The user's `tls.crt` and `tls.key` for clients of the data API; there need not be any.
    #[arg(long, hide = true, env = "DDB_API_TLS_DIR", default_value = api::names::API_TLS_DIR)]
    pub api_tls_dir: PathBuf,
    /// One file for each token.
    #[arg(long, hide = true, env = "DDB_TOKENS_DIR", default_value = api::names::TOKENS_DIR)]
    pub tokens_dir: PathBuf,
    /// One file for each role with its account's password.
    #[arg(long, hide = true, env = "DDB_API_ACCOUNTS_DIR", default_value = api::names::API_ACCOUNTS_DIR)]
    pub api_accounts_dir: PathBuf,
    /// Where audit records are kept.
    #[arg(long, hide = true, env = "DDB_AUDIT_DIR", default_value = api::names::AUDIT_DIR)]
    pub audit_dir: PathBuf,
    /// `node=host:port` of another node's data API; for tests, where nodes share an address.
    #[arg(long, hide = true, value_parser = named)]
    pub api_named: Vec<(String, (String, u16))>,
    /// The port of the other nodes' MySQL servers where an address names none; tests put `address:port` into it.
    #[arg(long, hide = true, env = "DDB_MYSQL_PORT", default_value_t = api::wire::MYSQL_PORT)]
    pub mysql_port: u16,
}

fn named(text: &str) -> Result<(String, (String, u16)), String> {
    let parts = text
        .split_once('=')
        .and_then(|(node, place)| Some((node, place.rsplit_once(':')?)));
    let (node, (host, port)) = parts.ok_or("must be node=host:port")?;
    let port = port.parse().map_err(|_| "the port is no number")?;
    Ok((node.to_owned(), (host.to_owned(), port)))
}
