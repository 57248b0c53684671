//! `GET /sync`

use std::{sync::Arc, time::Duration};

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    call::Call,
    engine::Engine,
    input::Query,
    problem::{Kind, Problem, Problems},
    reply::Reply,
    v1::{Asked, copy_anew},
    view::NodeRole,
};

/// How long `catchup` waits.
const PATIENCE: Duration = Duration::from_secs(25);

/// What `/sync` does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Compares with the master.
    Check,
    /// Waits until everything is applied that the master had when the call came.
    #[default]
    Catchup,
    /// Has the operator copy this slave anew from another node, as an admin may; answers 202, and `message` of this node in
    /// /v1/cluster says how far it is.
    Full,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SyncQuery {
    /// What to do.
    #[serde(default)]
    #[param(inline)]
    mode: Mode,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Synced {
    ok: bool,
    /// This node has everything that the master had when the call came.
    in_sync: bool,
    /// How many of the master's transactions were missing when the call came.
    behind: u64,
    /// The master's node.
    master: String,
    /// The master's set when the call came.
    master_set: String,
    /// This node's set when the call came.
    own_set: String,
}

/// Compares this slave with the master, waits until it has caught up, or has it copied anew
#[utoipa::path(get, path = "/sync", tag = "classic", params(SyncQuery),
    responses((status = 200, body = Synced), (status = 202, body = inline(Asked)), Problems))]
pub async fn sync(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Query(query): Query<SyncQuery>,
) -> Result<Reply, Problem> {
    if query.mode == Mode::Full {
        call.note().wishes = true;
        call.require_whole()?;
        // A slave that does not serve needs it most.
        if engine.view.borrow().role == Some(NodeRole::Master) {
            engine.require_slave()?;
        }
        return copy_anew(&engine, &call, engine.node.clone(), None).await;
    }
    engine.require_slave()?;
    let (master, own) = tokio::try_join!(engine.masters_position(&call), engine.position(&call))?;
    let missing = master.set.subtract(&own.set);
    let behind = missing.count();
    let waits = query.mode == Mode::Catchup && !missing.is_empty();
    let in_sync = missing.is_empty() || (waits && engine.catch_up(&call, &master.set, PATIENCE).await?);
    if query.mode == Mode::Catchup && !in_sync {
        return Err(Problem::new(
            Kind::Timeout,
            format!("this slave was {behind} transactions behind and has not caught up yet; try again"),
        )
        .retryable());
    }
    Reply::ok(&Synced {
        ok: true,
        in_sync,
        behind,
        master: master.node,
        master_set: master.set.to_string(),
        own_set: own.set.to_string(),
    })
}
