//! `GET /is-master`

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    engine::Engine,
    problem::{Problem, Problems},
    reply::Reply,
};

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct IsMaster {
    is_master: bool,
}

/// Whether the node that was asked is the master
#[utoipa::path(get, path = "/is-master", tag = "classic", responses((status = 200, body = IsMaster), Problems))]
pub async fn is_master(State(engine): State<Arc<Engine>>) -> Result<Reply, Problem> {
    let is_master = engine.view.borrow().leads();
    Reply::ok(&IsMaster { is_master })
}
