//! `cargo xtask bench`: measurements, most of them on a real cluster.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};

use crate::{
    api, cluster,
    e2e::{self, Output, Place},
    host,
    images::{self, Programs},
    process::command,
};

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
    /// An hour with all cores kept busy, in which nothing may replace the master and no guard may close it. Give the
    /// machine nothing else to do.
    Busy(Busy),
    /// The data API against a direct client of the same MySQL servers: reads, writes, many rows, too much load, a
    /// slave's forwarded writes, and the agent's memory. Three real servers on 127.0.0.1, apart from any cluster.
    Api(api::Arguments),
    /// Many databases with simulated nodes: the operator's memory, its processor time at rest, and how soon masters
    /// that fail together are replaced. With the real operator, API server and etcd, apart from any cluster.
    Scale(Scale),
}

#[derive(Args)]
pub struct Scale {
    /// How many databases of three nodes.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=5000))]
    databases: u32,
    /// How many of their masters die within one second.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    kills: u32,
    /// Seconds for which the operator is watched at rest.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    idle: u64,
    /// Take this operator's program instead of building one.
    #[arg(long)]
    operator: Option<PathBuf>,
    /// How the facts are given.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Args)]
pub struct Steady {
    /// How many turns of each measurement.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
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
pub struct Busy {
    /// For so long.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: u64,
    /// How the facts are given.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
pub struct Failover {
    /// How often each fault.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Which faults. Those of machines (partition) need the local cluster.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "mysqld-kill,pod-force-delete,pod-delete,switchover,freeze,partition,operator-and-master"
    )]
    fault: Vec<String>,
    /// How many clients write at the same time; the unluckiest one tells the outage.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    writers: u32,
    /// Where they connect: `master`, the master's Service; `any`, the Service over every node; `api`, the data API there.
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
            None,
            "bench-steady",
            vec![format!("--turns={turns}"), format!("--idle={idle}")],
        ),
        Command::Rejoin(Rejoin { runs, output, place }) => measure(
            place,
            *output,
            None,
            "bench-rejoin",
            vec![format!("--runs={runs}")],
        ),
        Command::Busy(Busy {
            minutes,
            output,
            place,
        }) => measure(
            place,
            *output,
            None,
            "bench-busy",
            vec![format!("--minutes={minutes}")],
        ),
        Command::Api(arguments) => api::run(arguments),
        Command::Scale(arguments) => scale(arguments),
    }
}

/// Everything that is sent to 10.245.0.0/16 in a new network namespace arrives there: those are the nodes' addresses.
const OWN_NETWORK: &str = "ip link set lo up && ip route add local 10.245.0.0/16 dev lo && exec \"$@\"";

fn scale(arguments: &Scale) -> Result<()> {
    let Scale {
        databases,
        kills,
        idle,
        operator,
        output,
    } = arguments;
    host::ensure_linux_root()?;
    let cache = host::cache_dir()?;
    let (etcd, apiserver) = cluster::control_plane_programs(&cache)?;
    let operator = match operator {
        Some(operator) => operator.clone(),
        None => images::operator_program()?,
    };
    // Thousands of nodes are simulated: unoptimised, they would need more of the machine than what is measured.
    let words = ["build", "--release", "--package", "e2e", "--bin", "e2e"];
    let program = e2e::build(&words, "e2e")?;
    let folder = cache.join(format!("scale-{}", std::process::id()));
    // A PID namespace of its own, so that nothing outlives an interrupted run.
    let namespaces = ["--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut run = command(["unshare"]);
    run.args(namespaces).args(["--", "sh", "-c", OWN_NETWORK, "sh"]);
    run.arg(program)
        // Of pods that nobody starts.
        .args(["--images", r#"{"operator":"none","node":"none","mysql":"none"}"#])
        .args(["--output", output.word(), "bench-scale"])
        .args([
            format!("--databases={databases}"),
            format!("--kills={kills}"),
            format!("--idle={idle}"),
        ])
        .arg("--operator")
        .arg(operator)
        .args([format!("--etcd={etcd}"), format!("--apiserver={apiserver}")])
        .arg("--folder")
        .arg(&folder);
    let status = run.status().context("`unshare` cannot be started")?;
    ensure!(
        status.success(),
        "it ended with an error, see above; logs are in {}",
        folder.display()
    );
    std::fs::remove_dir_all(&folder).with_context(|| format!("{} cannot be removed", folder.display()))
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
    // It makes the token of a client of the data API.
    let plugin = (through == "api").then(e2e::plugin).transpose()?;
    measure(place, *output, plugin.as_deref(), "bench-failover", words)
}

fn measure(
    place: &Place,
    output: Output,
    plugin: Option<&Path>,
    what: &str,
    more: Vec<String>,
) -> Result<()> {
    let mut words = vec!["--output".to_owned(), output.word().to_owned(), what.to_owned()];
    words.extend(more);
    e2e::run_with(place, Programs::Built, plugin, &words)
}
