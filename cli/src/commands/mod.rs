//! One file a command. Each reads with [`crate::fetch`], prints what [`crate::view`] makes of it, and returns the
//! exit code.

mod explain;
mod history;
mod logs;
mod maintain;
mod request;
mod sql;
mod status;
mod switchover;
mod token;

use std::io::Write;
use std::process::ExitCode;

use crate::arguments::{Arguments, Command};
use crate::{connect, fetch};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No client.
    #[error(transparent)]
    Connect(#[from] connect::Error),
    /// The API server.
    #[error(transparent)]
    Fetch(#[from] fetch::Error),
    /// No switchover.
    #[error(transparent)]
    Switchover(#[from] switchover::Error),
    /// No logs.
    #[error(transparent)]
    Logs(#[from] logs::Error),
    /// No shell.
    #[error(transparent)]
    Sql(#[from] sql::Error),
    /// No token.
    #[error(transparent)]
    Token(#[from] token::Error),
    /// The answer cannot be written.
    #[error("the answer cannot be written")]
    Output(#[from] std::io::Error),
    /// The answer cannot be put into JSON.
    #[error("the answer cannot be put into JSON")]
    Json(#[from] serde_json::Error),
}

/// Carries a command out.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let Arguments { place, command } = arguments;
    let cluster = connect::connect(&place).await?;
    match command {
        Command::Status(arguments) => status::run(&cluster, &place, &arguments).await,
        Command::Explain(arguments) => explain::run(&cluster, &place, &arguments).await,
        Command::Switchover(arguments) => switchover::run(&cluster, &place, &arguments).await,
        Command::Failover(arguments) => switchover::failover(&cluster, &place, &arguments).await,
        Command::ForcePromote(arguments) => switchover::force(&cluster, &place, &arguments).await,
        Command::Fence(arguments) => maintain::fence(&cluster, &arguments, true).await,
        Command::Unfence(arguments) => maintain::fence(&cluster, &arguments, false).await,
        Command::Resync(arguments) => switchover::resync(&cluster, &place, &arguments).await,
        Command::Pause(arguments) => maintain::pause(&cluster, &arguments, true).await,
        Command::Resume(arguments) => maintain::pause(&cluster, &arguments, false).await,
        Command::History(arguments) => history::run(&cluster, &place, &arguments).await,
        Command::Logs(arguments) => logs::run(&cluster, &place, &arguments).await,
        Command::Token(command) => token::run(&cluster, &command).await,
        Command::Sql(arguments) => sql::run(&cluster, &place, &arguments).await,
    }
}

/// Writes to stdout at once. `println!` would panic where the reader is gone.
fn say(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
