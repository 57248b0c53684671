//! `kubectl ddb history NAME`.

use std::process::ExitCode;

use super::{Error, say};
use crate::arguments::{History, Output, Place};
use crate::connect::Cluster;
use crate::fetch;
use crate::view::{View, history};

/// Prints the last changes of master.
pub async fn run(cluster: &Cluster, place: &Place, arguments: &History) -> Result<ExitCode, Error> {
    let facts = fetch::facts(cluster, &arguments.name, place.operator_namespace.as_deref()).await?;
    let view = View::of(&facts);
    match arguments.output {
        Output::Text => say(&history::text(&view))?,
        Output::Json => say(&(serde_json::to_string_pretty(&view.last_changes)? + "\n"))?,
    }
    Ok(ExitCode::SUCCESS)
}
