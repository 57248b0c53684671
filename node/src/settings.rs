//! The agent's arguments. The defaults are those of the pod; the hidden ones exist for tests outside of one.

use std::{net::SocketAddr, path::PathBuf};

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
    /// The port of the other nodes' MySQL servers where an address names none; tests put `address:port` into it.
    #[arg(long, hide = true, env = "DDB_MYSQL_PORT", default_value_t = api::wire::MYSQL_PORT)]
    pub mysql_port: u16,
}
