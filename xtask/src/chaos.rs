//! `cargo xtask chaos`: the long run on a real cluster, the same with a build broken on purpose, and a kept history
//! judged again. What happens is in the crate `e2e`, what is judged in `history`; this only reads arguments and prints.

use std::{fs::File, io::BufReader, path::PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use crate::{
    e2e::{self, Output, Place},
    images::Programs,
};

#[derive(Args)]
pub struct Arguments {
    /// For how long faults are made.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// The same seed chooses the same faults, though not at the same moments of the programs they hit.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Of how many nodes the database is.
    #[arg(long, default_value_t = 3, conflicts_with = "sabotage",
          value_parser = clap::value_parser!(i32).range(2..=9))]
    nodes: i32,
    /// Only faults of these kinds, such as mysqld-kill,pod-delete.
    #[arg(long, value_name = "KIND", value_delimiter = ',', conflicts_with = "sabotage")]
    only: Vec<String>,
    /// Keep the history also when it is good.
    #[arg(long)]
    keep: bool,
    /// With clients that keep two processors busy; otherwise they leave some time over.
    #[arg(long, conflicts_with_all = ["sabotage", "check"])]
    busy: bool,
    /// Only judge this history again.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["sabotage", "keep"])]
    check: Option<PathBuf>,
    /// Run with a build in which this safety rule is broken, under faults that make it show; good is then that it is
    /// found.
    #[arg(long, value_name = "RULE", conflicts_with = "context")]
    sabotage: Option<Sabotage>,
    /// The same faults with the sound build, in which nothing may be found.
    #[arg(long, requires = "sabotage")]
    sound: bool,
    /// How the facts are given.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

/// A safety rule that a build can break, to prove that the long run notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sabotage {
    /// mysqld is ended by SIGTERM where it must be SIGKILL.
    FenceBySigterm,
    /// A slave's server throws its relay logs away when it starts.
    RelayLogRecovery,
    /// A master is fenced by switching semi-synchronous replication off first.
    SourceOffFirst,
    /// A slave's server connects to its source by itself when it starts, and acknowledges.
    ReplicaStart,
}

impl Sabotage {
    /// The word on the command line.
    fn word(self) -> &'static str {
        match self {
            Self::FenceBySigterm => "fence-by-sigterm",
            Self::RelayLogRecovery => "relay-log-recovery",
            Self::SourceOffFirst => "source-off-first",
            Self::ReplicaStart => "replica-start",
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    if let Some(file) = &arguments.check {
        return check(file, arguments.output);
    }
    let mut words = vec!["--output".to_owned(), arguments.output.word().to_owned()];
    let Some(sabotage) = arguments.sabotage else {
        ensure!(
            arguments.minutes.is_finite() && arguments.minutes > 0.0,
            "--minutes must be above zero"
        );
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and no run lasts 2^63 seconds"
        )]
        let seconds = (arguments.minutes * 60.0).ceil() as u64;
        words.extend(["chaos".to_owned(), format!("--seconds={seconds}")]);
        words.push(format!("--seed={}", arguments.seed));
        words.push(format!("--nodes={}", arguments.nodes));
        if !arguments.only.is_empty() {
            words.push(format!("--only={}", arguments.only.join(",")));
        }
        words.extend(arguments.keep.then(|| "--keep".to_owned()));
        words.extend(arguments.busy.then(|| "--busy".to_owned()));
        return run_with(arguments, Programs::Built, &words);
    };
    words.extend(["directed".to_owned(), format!("--rule={}", sabotage.word())]);
    words.push(format!("--seed={}", arguments.seed));
    if arguments.sound {
        return run_with(arguments, Programs::Built, &words);
    }
    words.push("--broken".to_owned());
    run_with(arguments, Programs::Broken, &words)
}

/// Clients of the data API get their token from the plugin of kubectl.
fn run_with(arguments: &Arguments, programs: Programs, words: &[String]) -> Result<()> {
    e2e::run_with(&arguments.place, programs, Some(&e2e::plugin()?), words)
}

fn check(file: &PathBuf, output: Output) -> Result<()> {
    let opened = File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let lines = history::read(BufReader::new(opened)).with_context(|| file.display().to_string())?;
    let verdict = history::judge(&lines);
    match output {
        Output::Json => println!("{}", serde_json::to_string(&verdict)?),
        Output::Text => println!("{verdict}"),
    }
    ensure!(verdict.is_ok(), "the history is violated");
    Ok(())
}
