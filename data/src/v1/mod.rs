//! `/v1`: the same engine as resources.

mod audit;
mod changes;
mod cluster;
mod databases;
mod diagnose;
mod export;
mod import;
mod processes;
mod rows;
mod search;
pub mod sql;
mod statements;
mod tables;
mod transactions;

#[cfg(test)]
pub use rows::filters_of_a_test_table;

use std::sync::Arc;

pub use changes::Feeds;
pub use cluster::steer::{Asked, copy_anew};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::engine::Engine;

/// Answered by the node that was asked.
pub fn here() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new()
        .routes(routes!(cluster::position::position))
        .routes(routes!(audit::list::list))
        .routes(routes!(statements::list::list))
}

/// Answered by the node that was asked, even while requests pile up.
pub fn watched() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new()
        .routes(routes!(cluster::read::read))
        .routes(routes!(cluster::node::node))
        .routes(routes!(cluster::failovers::list))
        .routes(routes!(cluster::failovers::read))
        .routes(routes!(cluster::events::events))
        .routes(routes!(processes::list::list))
        .routes(routes!(diagnose::check::check))
}

/// Carried out by the node that was asked, even while requests pile up.
pub fn steered() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new()
        .routes(routes!(cluster::steer::switchover))
        .routes(routes!(cluster::steer::resync))
        .routes(routes!(processes::remove::remove))
}

/// What nodes ask each other, without a token.
pub fn between_nodes() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new().routes(routes!(cluster::beat::beat))
}

/// Answered by any node that serves.
pub fn reads() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new()
        .routes(routes!(databases::list::list))
        .routes(routes!(tables::list::list))
        .routes(routes!(tables::read::read))
        .routes(routes!(rows::list::list))
        .routes(routes!(rows::read::read))
        .routes(routes!(export::table::table))
        .routes(routes!(export::database::database))
        .routes(routes!(search::find::find))
        .routes(routes!(import::read::read))
        .routes(routes!(import::list::list))
}

/// Told by the master for as long as the client listens.
pub fn followed() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new().routes(routes!(changes::follow::follow))
}

/// Carried out on the master.
pub fn changes() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new()
        .routes(routes!(databases::create::create))
        .routes(routes!(databases::remove::remove))
        .routes(routes!(tables::create::create))
        .routes(routes!(tables::remove::remove))
        .routes(routes!(
            rows::insert::insert,
            rows::change_many::change_many,
            rows::remove_many::remove_many
        ))
        .routes(routes!(
            rows::put::put,
            rows::change::change,
            rows::remove::remove
        ))
        .routes(routes!(transactions::run::run))
}

/// Carried out on the master, which takes the body as it comes.
pub fn imports() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new().routes(routes!(import::create::create))
}
