//! The demonstration, the benchmark and the fault tests as a program, which `cargo xtask` runs inside the cluster's network.
//!
//! With `--output json` the facts are the last thing on stdout and people read stderr.

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use e2e::{
    bench::{self, Fault, Through},
    busy, catalogue,
    chaos::{self, Course},
    demo, rejoin, scale,
    screen::Screen,
    settings::Target,
    steady,
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
    /// What agents and operator cost at rest and under load.
    BenchSteady {
        /// How many turns of each measurement.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        turns: u32,
        /// Seconds for which the processes are watched at rest.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
        idle: u64,
    },
    /// Many databases with simulated nodes, in a network namespace of its own.
    BenchScale(scale::Plan),
    /// Masters killed with commits that wait, and how they come back.
    BenchRejoin {
        /// How many.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        runs: u32,
    },
    /// Whether a machine whose cores are all kept busy passes for a fault.
    BenchBusy {
        /// For so long.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=1440))]
        minutes: u64,
    },
    /// The same fault many times.
    BenchFailover {
        /// How often each fault.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
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
    /// Random faults under clients of every sort, and the judgement of what they saw.
    Chaos {
        /// For how long faults are made.
        #[arg(long)]
        seconds: u64,
        /// The same seed chooses the same faults.
        #[arg(long)]
        seed: u64,
        /// Of how many nodes the database is.
        #[arg(long)]
        nodes: i32,
        /// Only faults of these kinds.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// Keep the history also when it is good.
        #[arg(long)]
        keep: bool,
        /// Clients that leave no processor time over.
        #[arg(long)]
        busy: bool,
    },
    /// Faults that show whether one safety rule is kept.
    Directed {
        /// The rule.
        #[arg(long, value_enum)]
        rule: chaos::Rule,
        /// What clients choose by chance depends on it.
        #[arg(long)]
        seed: u64,
        /// The build breaks the rule: good is that this is found.
        #[arg(long)]
        broken: bool,
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
        Command::BenchSteady { turns, idle } => {
            let idle = std::time::Duration::from_secs(*idle);
            let facts = steady::run(&arguments.target, *turns, idle, &screen).await?;
            print(json, &facts)
        }
        Command::BenchScale(plan) => {
            let facts = scale::run(plan, &screen).await?;
            print(json, &facts)?;
            ensure!(
                facts.replaced == facts.killed,
                "{} masters were not replaced",
                facts.killed - facts.replaced
            );
            Ok(())
        }
        Command::BenchRejoin { runs } => {
            let facts = rejoin::run(&arguments.target, *runs, &screen).await?;
            print(json, &facts)?;
            ensure!(
                facts.lost == 0 && facts.failed_proofs == 0,
                "{} proofs failed; {} acknowledged writes were lost",
                facts.failed_proofs,
                facts.lost
            );
            Ok(())
        }
        Command::BenchBusy { minutes } => {
            let facts = busy::run(&arguments.target, *minutes, &screen).await?;
            print(json, &facts)?;
            ensure!(facts.wrong.is_empty(), "{}", facts.wrong.join("; "));
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
        Command::Chaos {
            seconds,
            seed,
            nodes,
            only,
            keep,
            busy,
        } => {
            let plan = chaos::Plan {
                course: Course::Random(Duration::from_secs(*seconds)),
                seed: *seed,
                nodes: *nodes,
                only: only.clone(),
                keep: *keep,
                busy: *busy,
            };
            chaos(arguments, &plan, false).await
        }
        Command::Directed { rule, seed, broken } => {
            let plan = chaos::Plan {
                course: Course::Directed(*rule),
                seed: *seed,
                nodes: 3,
                only: Vec::new(),
                keep: false,
                busy: true,
            };
            chaos(arguments, &plan, *broken).await
        }
        Command::Faults { only } => faults(arguments, only, &screen).await,
    }
}

/// Rows of the fault catalogue.
async fn faults(arguments: &Arguments, only: &[String], screen: &Screen) -> Result<()> {
    let facts = catalogue::run::run(&arguments.target, only, screen).await?;
    print(arguments.output == Output::Json, &facts)?;
    let failed = facts.rows.iter().filter(|row| !row.passed).count();
    ensure!(failed == 0, "{failed} rows did not pass");
    Ok(())
}

async fn chaos(arguments: &Arguments, plan: &chaos::Plan, broken: bool) -> Result<()> {
    let json = arguments.output == Output::Json;
    let facts = chaos::run(&arguments.target, plan, &Screen::new(json)).await?;
    print(json, &facts)?;
    if broken {
        ensure!(
            facts.is_caught(),
            "the build is broken on purpose, and nothing was found"
        );
    } else {
        ensure!(facts.is_ok(), "something is wrong, see above");
    }
    Ok(())
}

fn print(json: bool, facts: &impl Serialize) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(facts)?);
    }
    Ok(())
}
