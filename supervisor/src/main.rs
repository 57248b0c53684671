//! `ddb-supervisor`: parses arguments and starts the part that was asked for; decides nothing itself.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use supervisor::{install, log, server};

#[derive(Parser)]
#[command(about = "Process 1 of the MySQL container of a DistributedDatabase")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Copy this program to where the MySQL container runs it from.
    Install {
        /// The file to write.
        target: PathBuf,
    },
    /// Prepare the data directory and run mysqld for ever.
    Run(server::Settings),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Install { target } => install::install(&target),
        Command::Run(settings) => server::run(settings),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}
