//! The HTTP data API that every node serves over TLS: databases, tables, rows, transactions; in `/v1` and in the flat
//! classic endpoints.
//!
//! ```text
//!   client ══ TLS ══► server ──► routing ──► classic/*, v1/* ──► engine ──► mysql ──► mysqld (this node's)
//!                                  │ ▲           │                 └── keys (in the same transaction)
//!                  another node ◄──┘ └─ view     └─► fragment, sql (nothing else makes statements)
//! ```
//!
//! - `routing` lets a request in (token, body, key), carries it to where it belongs and tries again only where that
//!   is proven to be safe.
//! - `engine` has one way to read and one to change; a change and its key are one transaction.
//! - `fragment` understands what users write as MySQL and writes it anew; `sql` is the only maker of statements.
//! - `v1/changes` tells committed changes from the binary log, which `mysql::binlog` reads.
//! - `view` is what the node says of itself. The API decides nothing about roles.

pub mod access;
mod age;
mod audit;
mod call;
mod classic;
mod clock;
mod csv;
mod document;
pub mod engine;
mod format;
pub mod fragment;
#[cfg(test)]
mod fuzz;
pub mod host;
mod input;
pub mod keys;
mod leftover;
mod load;
mod manners;
mod metrics;
mod mysql;
mod open;
mod position;
pub mod problem;
mod reply;
mod router;
mod routing;
mod rows;
mod search;
mod server;
mod settings;
mod shapes;
pub mod sql;
mod table;
pub mod tls;
mod v1;
pub mod view;

use std::{
    io,
    sync::{Arc, OnceLock},
};

use host::Host;
pub use metrics::Metrics;
pub use mysql::binlog::ACCOUNT as CHANGES_ACCOUNT;
pub use settings::{Limits, Recorded, Settings};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinHandle,
};
use view::View;

/// The API while it is served.
pub struct Serving {
    /// Ends when the listener does.
    pub task: JoinHandle<io::Result<()>>,
    stop: watch::Sender<bool>,
}

impl Serving {
    /// Takes no further requests; `task` ends when what runs has finished.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}

/// Starts to serve. What `view` says decides where requests are carried out; what is done is counted in `metrics`.
pub async fn listen(
    settings: Settings,
    view: watch::Receiver<View>,
    host: Arc<dyn Host>,
    metrics: Metrics,
) -> io::Result<Serving> {
    let listener = TcpListener::bind(settings.listen).await?;
    let origins = settings.origins.clone();
    let certificates = server::Certificates {
        node: settings.tls.clone(),
        users: settings.users_tls.clone(),
    };
    let engine = engine(settings, view, host, metrics);
    tokio::spawn(Arc::clone(&engine.tokens).follow());
    tokio::spawn(mysql::sweep(Arc::clone(&engine.pools)));
    let (router, _) = router::build(&engine);
    let router = manners::layered(router, &origins);
    let (stop, stopped) = (engine.stop.clone(), engine.stop.subscribe());
    Ok(Serving {
        task: tokio::spawn(server::serve(listener, certificates, router, stopped)),
        stop,
    })
}

fn engine(
    settings: Settings,
    view: watch::Receiver<View>,
    host: Arc<dyn Host>,
    metrics: Metrics,
) -> Arc<engine::Engine> {
    let Settings {
        node,
        listen: _,
        tls,
        users_tls: _,
        tokens,
        accounts,
        roles,
        mysql_socket,
        audit,
        recorded,
        limits,
        origins: _,
    } = settings;
    Arc::new(engine::Engine {
        node,
        view,
        pools: Arc::new(mysql::Pools::new(mysql::Settings {
            socket: mysql_socket,
            accounts,
            roles: roles.clone(),
            connections: limits.connections,
            statement: limits.statement,
            notes_values: recorded.values,
        })),
        tokens: Arc::new(access::Tokens::open(tokens, roles.clone())),
        accounts: access::Accounts::new(roles),
        audit: audit::Audit::open(audit),
        recorded,
        quotas: Arc::new(routing::Quotas::new(limits.token_rate, limits.token_requests)),
        running: Semaphore::new(limits.requests),
        watchers: Arc::new(Semaphore::new(limits.watchers)),
        feeds: v1::Feeds::new(limits.feeds),
        stop: watch::Sender::new(false),
        streams: Arc::new(Semaphore::new(limits.streams)),
        queued: Semaphore::new(limits.queue),
        limits,
        peers: routing::Peers::new(tls),
        host,
        age: age::Age::default(),
        tables: table::Cache::default(),
        metrics,
        document: OnceLock::new(),
    })
}
