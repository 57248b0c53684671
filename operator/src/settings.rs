//! What the operator was started with: command line and environment, read once. Secrets are none of it.

use clap::Parser;

/// The operator of replicated MySQL: builds the databases' objects and leads each database's failover.
#[derive(Debug, Clone, Parser)]
#[command(name = "ddb-operator", version)]
pub struct Settings {
    /// Image of the node agent and the supervisor.
    #[arg(long, env = "DDB_NODE_IMAGE")]
    pub node_image: String,
    /// Image with mysqld where a resource names none.
    #[arg(long, env = "DDB_MYSQL_IMAGE")]
    pub mysql_image: String,
    /// The operator's own namespace; its lease is there.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,
    /// The operator's own name, unique among its replicas.
    #[arg(long, env = "POD_NAME")]
    pub identity: String,
    /// Watch databases in this namespace only; all where it is left out.
    #[arg(long, env = "DDB_WATCH_NAMESPACE")]
    pub watch_namespace: Option<String>,
    /// Address of the probes and metrics.
    #[arg(long, env = "DDB_HTTP", default_value = "0.0.0.0:8080")]
    pub http: std::net::SocketAddr,
}
