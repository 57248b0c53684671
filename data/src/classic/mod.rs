//! The classic endpoints: the flat face that scripts rely on. Field names are exactly as documented, unknown fields
//! are refused by name, and changes by GET are honoured.

pub mod body;
pub mod createdb;
pub mod createtable;
pub mod databases;
mod delete;
pub mod dropdb;
pub mod droptable;
mod insert;
mod is_master;
mod nodes;
mod replicate;
pub mod rpc;
mod search;
mod select;
mod sync;
pub mod tables;
mod update;

use std::sync::Arc;

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::engine::Engine;

/// Answered by the node that was asked.
pub fn here() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new()
        .routes(routes!(is_master::is_master))
        .routes(routes!(nodes::nodes))
        .routes(routes!(sync::sync))
        .routes(routes!(replicate::db))
        .routes(routes!(replicate::dropdb))
        .routes(routes!(replicate::table))
        .routes(routes!(replicate::insert))
        .routes(routes!(replicate::update))
        .routes(routes!(replicate::delete))
}

/// Answered by any node that serves.
pub fn reads() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new()
        .routes(routes!(databases::databases))
        .routes(routes!(tables::tables))
        .routes(routes!(select::select))
        .routes(routes!(search::search))
}

/// Carried out on the master.
pub fn changes() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new()
        .routes(routes!(createdb::createdb))
        .routes(routes!(dropdb::dropdb))
        .routes(routes!(createtable::by_query, createtable::by_body))
        .routes(routes!(droptable::droptable))
        .routes(routes!(insert::insert))
        .routes(routes!(update::update))
        .routes(routes!(delete::delete))
}
