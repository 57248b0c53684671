//! `cargo xtask bench api`: what the data API costs against a direct client of the same MySQL servers.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;

use crate::{
    e2e::{self, Output},
    host, images,
    process::command,
};

/// Names the mysqld; without it, that of the MySQL image is taken.
const MYSQLD: &str = "DDB_TEST_MYSQLD";

#[derive(Args)]
pub struct Arguments {
    /// How many turns of each comparison; both ways are measured in each.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    turns: u32,
    /// Clients at a time, each with a connection of its own.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
    /// Only these: read, write, forward, bulk, overload, memory.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How the facts are given.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// What must hold: where the fact is, its bar, whether it must not be below, and what it is in words.
const BARS: [(&str, f64, bool, &str); 7] = [
    (
        "/read/ratio",
        0.6,
        true,
        "point reads of the direct client's rate",
    ),
    (
        "/read/addedMedianMs",
        0.3,
        false,
        "ms more for a read of one client",
    ),
    (
        "/write/ratio",
        0.9,
        true,
        "single rows of the direct client's rate",
    ),
    ("/bulk/ratio", 0.8, true, "of the direct speed of 100,000 rows"),
    (
        "/overload/goodputRatio",
        0.9,
        true,
        "of the best goodput at three times the load",
    ),
    (
        "/forward/addedMedianMs",
        1.0,
        false,
        "ms more for a slave's forwarded write",
    ),
    (
        "/memory/residentMib",
        40.0,
        false,
        "MiB of the agent with 1,000 requests at a time",
    ),
];

pub fn run(arguments: &Arguments) -> Result<()> {
    let Arguments {
        turns,
        clients,
        only,
        output,
    } = arguments;
    let mysqld = match host::environment(MYSQLD) {
        Some(named) => named.into(),
        None => images::mysql::server(&host::cache_dir()?, true)?.context("there is no MySQL server")?,
    };
    // What is measured is what is shipped: the release build.
    let supervisor = ["build", "--release", "--package", "supervisor"];
    e2e::build(&supervisor, "ddb-supervisor")?;
    let bench = ["bench", "--no-run", "--package", "node", "--bench", "api"];
    let program = e2e::build(&bench, "api")?;
    let mut run = command([program]);
    run.args([format!("--turns={turns}"), format!("--clients={clients}")]);
    if !only.is_empty() {
        run.arg(format!("--only={}", only.join(",")));
    }
    run.env(MYSQLD, mysqld).stderr(Stdio::inherit());
    // All clients share one token here, and how much one may ask is not what is measured; it is counted all the same.
    run.env("DDB_API_TOKEN_RATE", "1000000");
    let ended = run.output().context("the benchmark cannot be started")?;
    let said = String::from_utf8_lossy(&ended.stdout);
    ensure!(
        ended.status.success(),
        "it ended with an error, see above\n{said}"
    );
    let facts = said.lines().next_back().context("the benchmark found nothing")?;
    match output {
        Output::Json => println!("{facts}"),
        Output::Text => table(&serde_json::from_str(facts)?),
    }
    Ok(())
}

fn table(facts: &Value) {
    for (place, bar, least, what) in BARS {
        let Some(found) = facts.pointer(place).and_then(Value::as_f64) else {
            continue;
        };
        let holds = if least { found >= bar } else { found <= bar };
        let mark = if holds { "✓" } else { "✗" };
        let word = if least { "at least" } else { "at most" };
        println!("{mark} {found:>7.3}  {what} ({word} {bar})");
    }
}
