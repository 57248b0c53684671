//! Plain HTTP for the kubelet, load balancers and Prometheus: whether the node lives, serves its role, and leads.
//! Nothing secret is said here and nothing can be changed.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock, atomic::AtomicU64},
};

use api::names::{ROLE_MASTER, ROLE_SLAVE};
use axum::{
    Json, Router,
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
    response::IntoResponse,
    routing::get,
};
use failover::{Applier, NodeReport, Receiver, Role, Server};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{agent::Agent, board::Board};

/// Where the agent is put once it may work on the volume.
pub type Slot = Arc<OnceLock<Arc<Agent>>>;

/// Starts to answer, before there is an agent: one that waits for an earlier one lives, though it serves nobody.
pub async fn listen(address: SocketAddr, agent: Slot) -> std::io::Result<JoinHandle<std::io::Result<()>>> {
    let listener = TcpListener::bind(address).await?;
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/ping", get(ping))
        .route("/is-master", get(is_master))
        .with_state(agent);
    Ok(tokio::spawn(async move { axum::serve(listener, routes).await }))
}

/// The agent, once it works.
struct Working(Arc<Agent>);

impl FromRequestParts<Slot> for Working {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(_: &mut Parts, agent: &Slot) -> Result<Self, Self::Rejection> {
        let agent = agent.get().cloned().map(Self);
        agent.ok_or((
            StatusCode::SERVICE_UNAVAILABLE,
            "waits for an earlier agent that still works on this volume\n",
        ))
    }
}

/// True when the server can serve the role it has: a master that is open, or a slave that was opened, also while
/// it is fenced or there is no master.
fn is_ready(report: &NodeReport) -> bool {
    matches!(&report.server, Server::Up(state) if state.open) && report.cloning.is_none()
}

fn role(report: &NodeReport) -> Option<&'static str> {
    match &report.server {
        Server::Up(state) => match state.role {
            Role::Master { .. } => Some(ROLE_MASTER),
            Role::Slave { .. } => Some(ROLE_SLAVE),
            Role::Idle => None,
        },
        _ => None,
    }
}

async fn ready(Working(agent): Working) -> impl IntoResponse {
    if is_ready(&agent.board.report()) {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn ping(Working(agent): Working) -> impl IntoResponse {
    let report = agent.board.report();
    Json(json!({
        "status": "ok",
        "node": agent.settings.node,
        "cluster": agent.settings.cluster,
        "role": role(&report),
        "term": report.term,
        "fenced": report.fenced.is_some(),
    }))
}

async fn is_master(Working(agent): Working) -> impl IntoResponse {
    let report = agent.board.report();
    let leads = role(&report) == Some(ROLE_MASTER) && is_ready(&report);
    Json(json!({ "isMaster": leads }))
}

async fn metrics(Working(agent): Working) -> Result<impl IntoResponse, StatusCode> {
    let mut text = String::new();
    let mut registry = registry(&agent.board);
    agent.api_metrics.register(&mut registry);
    encode(&mut text, &registry).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok((
        [(
            "content-type",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )],
        text,
    ))
}

/// The metrics are made of the report when they are asked for; there is nothing to keep in step.
fn registry(board: &Board) -> Registry {
    let report = &*board.report();
    let mut registry = Registry::with_prefix("ddb_node");
    let mut count = |name: &str, help: &str, value: u64| {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    };
    count(
        "guard_actions",
        "How often this node, being master, closed itself to clients",
        board.closings(),
    );
    count(
        "applier_standstills",
        "How often mysqld was killed because its applier stood still without an error",
        board.standstills(),
    );
    count(
        "data_discards",
        "How often data on which mysqld could not run was thrown away",
        board.discards(),
    );
    let mut whole = |name: &str, help: &str, value: u64| {
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    };
    whole("term", "Highest term stored", report.term.0);
    whole(
        "fenced",
        "1 while the node is fenced",
        report.fenced.is_some().into(),
    );
    whole(
        "ready",
        "1 while the node serves its role",
        is_ready(report).into(),
    );
    whole(
        "master",
        "1 while the node leads",
        (role(report) == Some(ROLE_MASTER)).into(),
    );
    whole(
        "closed",
        "1 while this node, being master, is closed by its guard",
        report.closed.is_some().into(),
    );
    let Server::Up(state) = &report.server else {
        whole("mysql_up", "1 while mysqld answers", 0);
        return registry;
    };
    whole("mysql_up", "1 while mysqld answers", 1);
    whole(
        "executed_transactions",
        "Transactions that the server has executed since its data began",
        state.executed.count(),
    );
    let backlog = state.received.subtract(&state.executed).count();
    whole(
        "backlog_transactions",
        "Received and not yet executed transactions",
        backlog,
    );
    match &state.role {
        Role::Master { acks, waiting, .. } => {
            whole(
                "acknowledgements",
                "Slaves that must hold a write",
                u64::from(*acks),
            );
            whole(
                "waiting_sessions",
                "Sessions that wait for an acknowledgement",
                u64::from(*waiting),
            );
        }
        Role::Slave {
            receiver, applier, ..
        } => {
            whole(
                "applier_running",
                "1 while the applier runs",
                u64::from(*applier == Applier::Running),
            );
            if let Receiver::Receiving { age_ms } = receiver {
                let gauge = Gauge::<f64, AtomicU64>::default();
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "an age in milliseconds is far below 2^52"
                )]
                gauge.set(*age_ms as f64 / 1000.0);
                let help = "Time since anything came from the master";
                registry.register_with_unit("source_age", help, Unit::Seconds, gauge);
            }
        }
        Role::Idle => {}
    }
    registry
}
