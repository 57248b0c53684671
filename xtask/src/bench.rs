//! `cargo xtask bench`: measurements on a real cluster.

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::e2e::{self, Output, Place};

#[derive(Subcommand)]
pub enum Command {
    /// The outage that a client of the master's Service sees, per fault, and the proof that nothing was lost.
    Failover(Failover),
    /// What agents and operator cost: processor and memory at rest, MySQL's throughput with and without them, and the
    /// passage to the master against the direct way.
    Steady(Steady),
    /// Masters killed while commits wait: how they come back, how soon, and whether all data is equal. It cuts the
    /// network between nodes, so it needs the local cluster.
    Rejoin(Rejoin),
}

#[derive(Args)]
pub struct Steady {
    /// How many turns of each measurement.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    turns: u32,
    /// Seconds for which the processes are watched at rest.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    idle: u64,
    /// How the facts are given.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
pub struct Rejoin {
    /// How many kills.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// How the facts are given.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
pub struct Failover {
    /// How often each fault.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Which faults: mysqld-kill, pod-force-delete, pod-delete, switchover, freeze, partition, operator-and-master.
    /// Those of machines (partition) need the local cluster.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "mysqld-kill,pod-force-delete,switchover"
    )]
    fault: Vec<String>,
    /// How many clients write at the same time; the unluckiest one tells the outage.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    writers: u32,
    /// Where they connect: `master`, the master's Service, or `any`, the Service over every node.
    #[arg(long, default_value = "master")]
    through: String,
    /// How the facts are given.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

pub fn run(command: &Command) -> Result<()> {
    match command {
        Command::Failover(arguments) => failover(arguments),
        Command::Steady(Steady {
            turns,
            idle,
            output,
            place,
        }) => measure(
            place,
            *output,
            "bench-steady",
            vec![format!("--turns={turns}"), format!("--idle={idle}")],
        ),
        Command::Rejoin(Rejoin { runs, output, place }) => {
            measure(place, *output, "bench-rejoin", vec![format!("--runs={runs}")])
        }
    }
}

fn failover(arguments: &Failover) -> Result<()> {
    let Failover {
        runs,
        fault,
        writers,
        through,
        output,
        place,
    } = arguments;
    let words = vec![
        format!("--runs={runs}"),
        format!("--fault={}", fault.join(",")),
        format!("--writers={writers}"),
        format!("--through={through}"),
    ];
    measure(place, *output, "bench-failover", words)
}

fn measure(place: &Place, output: Output, what: &str, more: Vec<String>) -> Result<()> {
    let mut words = vec!["--output".to_owned(), output.word().to_owned(), what.to_owned()];
    words.extend(more);
    e2e::run(place, &words)
}
