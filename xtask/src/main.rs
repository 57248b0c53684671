//! Developer commands, as `cargo xtask COMMAND`: one module a command, this file only chooses between them.
//!
//! stdout carries results, stderr carries progress and errors. Nothing here is part of the product.

mod api;
mod bench;
mod chaos;
mod cluster;
mod demo;
mod digest;
mod e2e;
mod faults;
mod generate;
mod host;
mod images;
mod process;
mod progress;
mod simulate;
mod test;

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
    /// See it work: a cluster if there is none, a database, a failover, and the proof that nothing was lost.
    Demo(demo::Arguments),
    /// Everything that must hold: formatting, lints, unit tests, charts, and end-to-end tests on a real cluster.
    Test(test::Arguments),
    /// Attack the failover engine in a model of the whole system, with every fault it must bear.
    Simulate(simulate::Arguments),
    /// Measurements, most of them on a real cluster.
    #[command(subcommand)]
    Bench(bench::Command),
    /// Random faults of every kind on a real cluster under clients of every sort, and the judgement of their history.
    Chaos(chaos::Arguments),
    /// Every fault that the system must bear, each for real on a cluster, with a table of the results.
    Faults(faults::Arguments),
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
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Test(arguments) => return test::run(&arguments),
        Command::Simulate(arguments) => return simulate::run(&arguments),
        Command::Bench(command) => bench::run(&command),
        Command::Chaos(arguments) => chaos::run(&arguments),
        Command::Faults(arguments) => faults::run(&arguments),
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
