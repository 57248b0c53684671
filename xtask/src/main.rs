//! Developer commands, as `cargo xtask COMMAND`: one module a command, this file only chooses between them.
//!
//! stdout carries results, stderr carries progress and errors. Nothing here is part of the product.

mod cluster;
mod digest;
mod generate;
mod host;
mod images;
mod process;
mod progress;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer commands of this repository")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A real Kubernetes cluster on this machine.
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Write the custom resource definition from the Rust types.
    Generate(generate::Arguments),
    /// Build the container images, and load them into the local cluster.
    Images(images::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Cluster(command) => cluster::run(command),
        Command::Generate(arguments) => generate::run(&arguments),
        Command::Images(arguments) => images::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
