//! `cargo xtask bench`: measurements on a real cluster.

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::e2e::{self, Output, Place};

#[derive(Subcommand)]
pub enum Command {
    /// The outage that a client of the master's Service sees, per fault, and the proof that nothing was lost.
    Failover(Failover),
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
    let Command::Failover(Failover {
        runs,
        fault,
        writers,
        through,
        output,
        place,
    }) = command;
    let words = [
        "--output".to_owned(),
        output.word().to_owned(),
        "bench-failover".to_owned(),
        format!("--runs={runs}"),
        format!("--fault={}", fault.join(",")),
        format!("--writers={writers}"),
        format!("--through={through}"),
    ];
    e2e::run(place, &words)
}
