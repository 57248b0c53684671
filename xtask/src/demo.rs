//! `cargo xtask demo`: a cluster if there is none, the operator, a database, a failover, and the proof.

use anyhow::Result;
use clap::Args;

use crate::{
    cluster::requirements,
    e2e::{self, Output, Place},
};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    /// How the facts are given.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    requirements::ensure(requirements::SAMPLE_DATA)?;
    e2e::run(
        &arguments.place,
        &["--output", arguments.output.word(), "demo"].map(str::to_owned),
    )
}
