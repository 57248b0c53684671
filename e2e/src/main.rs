//! The demonstration, the benchmark and the fault tests as a program, which `cargo xtask` runs inside the cluster's network.
//!
//! With `--output json` the facts are the last thing on stdout and people read stderr.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use e2e::{
    bench::{self, Fault, Through},
    catalogue, demo,
    screen::Screen,
    settings::Target,
};
use serde::Serialize;

#[derive(Parser)]
#[command(about = "Demonstration, benchmark and fault tests on a cluster; usually run by `cargo xtask`")]
struct Arguments {
    #[command(flatten)]
    target: Target,
    /// How the facts are given.
    #[arg(long, value_enum, default_value_t = Output::Text, global = true)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Install, create, load, kill the master, prove.
    Demo,
    /// The same fault many times.
    BenchFailover {
        /// How often each fault.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        runs: u32,
        /// Which faults.
        #[arg(long, value_delimiter = ',', value_enum, required = true)]
        fault: Vec<Fault>,
        /// How many clients write at the same time.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        writers: u32,
        /// Where they connect.
        #[arg(long, value_enum, default_value_t = Through::Master)]
        through: Through,
    },
    /// Every fault that the system must bear, one after the other.
    Faults {
        /// Only these rows or cases, such as 13 or 4b.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    let json = arguments.output == Output::Json;
    let screen = Screen::new(json);
    match &arguments.command {
        Command::Demo => {
            let facts = demo::run(&arguments.target, &screen).await?;
            print(json, &facts)?;
            ensure!(
                facts.lost == 0 && facts.checksums_equal,
                "the proof failed, see above"
            );
            Ok(())
        }
        Command::BenchFailover {
            runs,
            fault,
            writers,
            through,
        } => {
            let plan = bench::Plan {
                faults: fault.clone(),
                runs: *runs,
                writers: *writers,
                through: *through,
            };
            let facts = bench::run(&arguments.target, &plan, &screen).await?;
            print(json, &facts)?;
            let lost: usize = facts.faults.values().map(|fault| fault.lost).sum();
            let failed: usize = facts.faults.values().map(|fault| fault.failed_proofs).sum();
            ensure!(
                lost == 0 && failed == 0,
                "{failed} proofs failed; {lost} acknowledged writes were lost"
            );
            Ok(())
        }
        Command::Faults { only } => {
            let facts = catalogue::run::run(&arguments.target, only, &screen).await?;
            print(json, &facts)?;
            let failed = facts.rows.iter().filter(|row| !row.passed).count();
            ensure!(failed == 0, "{failed} rows did not pass");
            Ok(())
        }
    }
}

fn print(json: bool, facts: &impl Serialize) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(facts)?);
    }
    Ok(())
}
