//! `cargo xtask simulate`: attacks databases in the model until so many events have happened, or repeats a run that
//! failed, or searches every order of moves of small worlds. The model and its rules are the crate `simulation`; this only reads arguments and prints.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::ValueEnum;
use serde::Serialize;
use simulation::{
    run::{self, Replay, Summary},
    search::{self, Found, SCOPES},
};

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
    /// Search every order of moves from prepared states instead, with so many faults in each. With 0 it takes minutes,
    /// with 1 hours.
    #[arg(long, value_name = "FAULTS", conflicts_with = "replay")]
    search: Option<u8>,
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

/// What one search found.
#[derive(Serialize)]
struct Searched {
    scope: &'static str,
    #[serde(flatten)]
    found: Found,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    let sound = match (arguments.search, &arguments.replay) {
        (Some(faults), _) => search(faults, arguments.output),
        (None, Some(file)) => repeat(file).and_then(|outcome| judge(&outcome, arguments.output)),
        (None, None) => attack(arguments).and_then(|outcome| judge(&outcome, arguments.output)),
    };
    match sound {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
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

/// Prints the outcome; false where a rule was broken.
fn judge(outcome: &Outcome, output: Output) -> anyhow::Result<bool> {
    print(outcome, output)?;
    Ok(outcome.failure.is_none())
}

/// Searches all scopes, and tells of each as soon as it is done; false where a rule was broken.
fn search(faults: u8, output: Output) -> anyhow::Result<bool> {
    let mut sound = true;
    for mut scope in SCOPES {
        scope.budget.faults = faults;
        let mut found = search::search(&scope, None, u64::MAX);
        if let Some((_, path)) = &mut found.violation {
            *path = search::shrink(&scope, None, path);
            sound = false;
        }
        match output {
            Output::Json => {
                let scope = scope.name;
                println!("{}", serde_json::to_string(&Searched { scope, found })?);
            }
            Output::Text => {
                let Found {
                    states,
                    moves,
                    promoted,
                    acknowledged,
                    violation,
                    ..
                } = found;
                println!(
                    "{}: {states} states by {moves} moves; a new master is promoted in {promoted} and has \
                     acknowledged in {acknowledged}",
                    scope.name
                );
                if let Some((violation, path)) = violation {
                    println!("{violation}: {path:?}");
                }
            }
        }
    }
    Ok(sound)
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
