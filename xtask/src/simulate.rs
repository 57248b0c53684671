//! `cargo xtask simulate`: attacks databases in the model until so many events have happened, or repeats a run that
//! failed. The model and its rules are the crate `simulation`; this only reads arguments and prints.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::ValueEnum;
use serde::Serialize;
use simulation::run::{self, Replay, Summary};

use crate::host;

/// How often a long run says how far it is.
const WORDS: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub struct Arguments {
    /// How many events are to happen at least.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// The first seed; the same seed attacks in the same way.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Repeat the run in this file instead.
    #[arg(long)]
    replay: Option<PathBuf>,
    /// Where a run that broke a rule is written, shrunk.
    #[arg(long, default_value = "target/simulation-failure.json")]
    failure: PathBuf,
    /// How the result is printed on stdout.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    #[serde(flatten)]
    summary: Summary,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
}

#[derive(Serialize)]
struct Failure {
    invariant: String,
    what: String,
    seed: u64,
    events: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    replay: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    let outcome = match &arguments.replay {
        Some(file) => repeat(file),
        None => attack(arguments),
    };
    match outcome.and_then(|outcome| print(&outcome, arguments.output).map(|()| outcome)) {
        Ok(outcome) if outcome.failure.is_none() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn attack(arguments: &Arguments) -> anyhow::Result<Outcome> {
    let begun = host::now();
    let mut spoken = begun;
    let (summary, failed) = run::campaign(arguments.seed, arguments.events, |so_far| {
        if spoken.elapsed() >= WORDS {
            spoken = host::now();
            eprintln!(
                "{} of {} events, {} runs, {} s",
                so_far.events,
                arguments.events,
                so_far.runs,
                begun.elapsed().as_secs()
            );
        }
    });
    let failure = failed
        .map(|replay| keep(&replay, &arguments.failure))
        .transpose()?;
    Ok(Outcome {
        summary,
        seconds: begun.elapsed().as_secs_f64(),
        failure,
    })
}

/// Writes the run to a file and says how to repeat it.
fn keep(replay: &Replay, file: &Path) -> anyhow::Result<Failure> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    }
    fs::write(file, serde_json::to_vec_pretty(replay)?)
        .with_context(|| format!("write {}", file.display()))?;
    eprintln!(
        "seed {} breaks {}: {}\nrepeat it with: cargo xtask simulate --replay {}",
        replay.seed,
        replay.invariant,
        replay.what,
        file.display()
    );
    Ok(Failure {
        invariant: replay.invariant.to_string(),
        what: replay.what.clone(),
        seed: replay.seed,
        events: replay.events.len(),
        replay: Some(file.to_owned()),
    })
}

fn repeat(file: &Path) -> anyhow::Result<Outcome> {
    let begun = host::now();
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let replay: Replay =
        serde_json::from_str(&text).with_context(|| format!("{} is no replay", file.display()))?;
    let (events, found) = run::replay(&replay);
    let failure = found.map(|violation| Failure {
        invariant: violation.invariant.to_string(),
        what: violation.what,
        seed: replay.seed,
        events: replay.events.len(),
        replay: None,
    });
    let summary = Summary {
        events,
        violations: u64::from(failure.is_some()),
        runs: 1,
        seed: replay.seed,
        ..Summary::default()
    };
    Ok(Outcome {
        summary,
        seconds: begun.elapsed().as_secs_f64(),
        failure,
    })
}

fn print(outcome: &Outcome, output: Output) -> anyhow::Result<()> {
    let Summary {
        events,
        violations,
        runs,
        terms,
        acknowledged,
        blocked,
        forced,
        seed: _,
    } = &outcome.summary;
    match output {
        Output::Json => println!("{}", serde_json::to_string(outcome)?),
        Output::Text => {
            println!(
                "{events} events in {runs} databases and {terms} terms, {acknowledged} writes acknowledged, {blocked} \
                 databases left to a person, {forced} given up by one: {violations} rules broken ({:.1} s)",
                outcome.seconds
            );
            if let Some(failure) = &outcome.failure {
                println!("{}: {}", failure.invariant, failure.what);
            }
        }
    }
    Ok(())
}
