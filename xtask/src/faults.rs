//! `cargo xtask faults`: every fault that the system must bear, each for real on a cluster.

use anyhow::Result;
use clap::Args;

use crate::{
    e2e::{self, Output, Place},
    images::Programs,
};

#[derive(Args)]
pub struct Arguments {
    /// Only these rows, such as 1,4,13; or single cases of them, such as 4b.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    only: Vec<String>,
    /// How the facts are given.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { only, output, place } = arguments;
    let mut words = vec![
        "--output".to_owned(),
        output.word().to_owned(),
        "faults".to_owned(),
    ];
    if !only.is_empty() {
        words.push(format!("--only={}", only.join(",")));
    }
    e2e::run_with(place, Programs::Built, Some(&e2e::plugin()?), &words)
}
