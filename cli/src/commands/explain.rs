//! `kubectl ddb explain NAME`.

use std::process::ExitCode;

use super::{Error, say};
use crate::arguments::{Named, Place};
use crate::connect::Cluster;
use crate::fetch;
use crate::view::{View, explain};

/// Prints the engine's explanation.
pub async fn run(cluster: &Cluster, place: &Place, arguments: &Named) -> Result<ExitCode, Error> {
    let facts = fetch::facts(cluster, &arguments.name, place.operator_namespace.as_deref()).await?;
    say(&explain::text(&View::of(&facts), &facts))?;
    Ok(ExitCode::SUCCESS)
}
