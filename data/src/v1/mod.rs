//! `/v1`: the same engine as resources.

mod cluster;
pub mod sql;

use std::sync::Arc;

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::engine::Engine;

/// Answered by the node that was asked.
pub fn here() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new().routes(routes!(cluster::position::position))
}

/// Answered by any node that serves.
pub fn reads() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new()
}

/// Carried out on the master.
pub fn changes() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new()
}
