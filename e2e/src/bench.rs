//! The failover benchmark: the same fault many times, each under a writer, each with its proof.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use clap::ValueEnum;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use nix::sys::signal::Signal;

use crate::{
    api_writer::{ApiWriters, Pace},
    catalogue::place::{self, Together},
    clock::{Clock, millis},
    database::Database,
    facts::{BenchFacts, FaultFacts},
    faults::{self, Deletion},
    gaps::percentile,
    https::Entrance,
    install,
    ledger::{Ledger, Outcome, Pieces},
    machines::{self, Ill},
    ordeal::REST,
    proof::{self, Proof},
    screen::{Screen, Tone},
    settings::Target,
    sql,
    storm::{Aftermath, HEALED, Storm},
    world,
    writer::Habits,
};

const NAMESPACE: &str = "ddb-bench";
const NAME: &str = "bench";
const SCHEMA: &str = "bench";

/// What is done to the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Fault {
    /// kill -9 of mysqld in the master's pod.
    MysqldKill,
    /// kubectl delete pod --force --grace-period=0.
    PodForceDelete,
    /// kubectl delete pod.
    PodDelete,
    /// A switchover asked for by annotation.
    Switchover,
    /// SIGSTOP of mysqld in the master's pod; it goes on once another leads.
    Freeze,
    /// The cable of the master's machine is unplugged, and plugged in once another leads.
    Partition,
    /// kill -9 of mysqld in the master's pod together with the operator's leading pod.
    OperatorAndMaster,
}

impl Fault {
    /// Its name on the command line and in the facts.
    pub fn name(self) -> &'static str {
        match self {
            Self::MysqldKill => "mysqld-kill",
            Self::PodForceDelete => "pod-force-delete",
            Self::PodDelete => "pod-delete",
            Self::Switchover => "switchover",
            Self::Freeze => "freeze",
            Self::Partition => "partition",
            Self::OperatorAndMaster => "operator-and-master",
        }
    }
}

/// Where the writers connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Through {
    /// The master's Service, whose one address the operator swaps.
    Master,
    /// The Service over every node, whose agents pass connections through to the master.
    Any,
    /// The data API, at the Service over every node. A row waits there for the next master.
    Api,
}

/// What is measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Which faults, in this order.
    pub faults: Vec<Fault>,
    /// How often each.
    pub runs: u32,
    /// How many clients write.
    pub writers: u32,
    /// Where they connect.
    pub through: Through,
}

struct Run {
    outage: u64,
    pieces: Pieces,
    failure: Option<String>,
    lost: usize,
    acknowledged: usize,
    failed: usize,
    steps: Vec<(String, u64)>,
}

/// Measures on a database of its own, which is removed afterwards.
pub async fn run(target: &Target, plan: &Plan, screen: &Screen) -> Result<BenchFacts> {
    let client = world::client(target).await?;
    fresh_namespace(&client, NAMESPACE).await?;
    install::install(&client, target, &[]).await?;
    let database = create(&client, NAMESPACE, NAME).await?;
    let mut faults = BTreeMap::new();
    for fault in &plan.faults {
        screen.heading(fault.name());
        let mut runs = Vec::new();
        for number in 1..=plan.runs {
            let run = one(&database, target, *fault, plan, number).await;
            let run = match run.with_context(|| format!("{} run {number}", fault.name())) {
                Ok(run) => run,
                Err(error) => {
                    crate::dump::dump(&client, NAMESPACE, "bench").await;
                    return Err(error);
                }
            };
            show(screen, number, &run);
            if run.failure.is_some() {
                crate::dump::dump(&client, NAMESPACE, &format!("bench {} {number}", fault.name())).await;
            }
            runs.push(run);
        }
        faults.insert(fault.name().to_owned(), summary(&runs));
    }
    world::remove_namespace(&client, NAMESPACE).await?;
    let facts = BenchFacts { faults };
    table(screen, plan.through, &facts);
    Ok(facts)
}

/// A namespace of this name without anything in it.
pub async fn fresh_namespace(client: &kube::Client, name: &str) -> Result<()> {
    world::remove_namespace(client, name).await?;
    let mut namespace = k8s_openapi::api::core::v1::Namespace::default();
    namespace.metadata.name = Some(name.to_owned());
    kube::Api::all(client.clone())
        .create(&kube::api::PostParams::default(), &namespace)
        .await?;
    Ok(())
}

/// A healthy database of three nodes.
pub async fn create(client: &kube::Client, namespace: &str, name: &str) -> Result<Database> {
    let database = Database::new(client, namespace, name);
    database.apply(&world::small(name, namespace)).await?;
    database.wait_healthy(Duration::from_mins(3)).await?;
    Ok(database)
}

async fn one(database: &Database, target: &Target, fault: Fault, plan: &Plan, number: u32) -> Result<Run> {
    if fault == Fault::Partition {
        // Cutting the machine off is then one fault and not two.
        place::put_master(database, Together::No).await?;
    }
    let status = database.wait_healthy(Duration::from_mins(3)).await?;
    let term = status.record.term.0;
    let table = format!("{SCHEMA}.{}_{number}", fault.name().replace('-', "_"));
    tokio::time::sleep(REST).await;
    let load = Load::begin(database, plan, &table).await?;
    let at = load.now();
    let remedy = inflict(database, target, fault).await?;
    let led = database.wait_led(term, HEALED).await;
    mend(target, remedy).await?;
    led?;
    let Told {
        ledger,
        proof,
        failed,
    } = load.end(database, term, &table).await?;
    let (_, steps) = database.account_of_change_after(term).await?;
    // Proofs compare all tables of the schema, and must not become slower from run to run.
    let mut connection = database.master_connection().await?;
    sql::drop_table(&mut connection, &table).await?;
    Ok(Run {
        outage: millis(ledger.outage(at)),
        pieces: ledger.pieces(at),
        failure: proof.check().err().map(|error| format!("{error:#}")),
        lost: proof.lost(),
        acknowledged: proof.acknowledged,
        failed,
        steps,
    })
}

/// Clients at work.
enum Load<'a> {
    MySql(Box<Storm<'a>>),
    Api(ApiWriters),
}

/// What the clients were told, and what the nodes hold.
struct Told {
    ledger: Ledger,
    proof: Proof,
    /// Tries without an acknowledgement.
    failed: usize,
}

impl<'a> Load<'a> {
    async fn begin(database: &'a Database, plan: &Plan, table: &str) -> Result<Self> {
        let address = match plan.through {
            Through::Master => database.master_address().await?,
            Through::Any => database.any_address().await?,
            Through::Api => {
                let entrance = Entrance::service(database).await?;
                let pace = Pace::measuring(plan.writers);
                let writers = ApiWriters::start(database, &entrance, Clock::start(), table, pace).await?;
                tokio::time::sleep(REST).await;
                return Ok(Self::Api(writers));
            }
        };
        let habits = Habits::of(plan.writers, table);
        let storm = Storm::begin_at(database, &habits, &address).await?;
        Ok(Self::MySql(Box::new(storm)))
    }

    fn now(&self) -> Duration {
        match self {
            Self::MySql(storm) => storm.clock.at(),
            Self::Api(writers) => writers.now(),
        }
    }

    /// Ends once all is well in a term after `term`.
    async fn end(self, database: &Database, term: u64, table: &str) -> Result<Told> {
        match self {
            Self::MySql(storm) => {
                let Aftermath { ledger, proof, .. } = storm.after_new_master(&[SCHEMA]).await?;
                Ok(Told {
                    failed: ledger.count(Outcome::Refused) + ledger.count(Outcome::Unknown),
                    ledger,
                    proof,
                })
            }
            Self::Api(writers) => {
                database.wait_healed(term, HEALED).await?;
                let told = writers.finish().await?;
                Ok(Told {
                    // One that was sent again because its connection ended would be of unknown outcome without its key.
                    failed: told.failures.len() + told.resent,
                    proof: proof::prove(database, &told.ledger, table, &[SCHEMA]).await?,
                    ledger: told.ledger,
                })
            }
        }
    }
}

/// What undoes a fault once another node leads.
enum Remedy {
    Nothing,
    Continue(Box<Pod>),
    Mend(String),
}

async fn mend(target: &Target, remedy: Remedy) -> Result<()> {
    match remedy {
        Remedy::Nothing => Ok(()),
        // A server that was killed meanwhile because it did not obey has nothing to continue.
        Remedy::Continue(pod) => faults::signal_mysqld(&pod, Signal::SIGCONT).or(Ok(())),
        Remedy::Mend(machine) => machines::mend_machine(target, &machine).await,
    }
}

async fn inflict(database: &Database, target: &Target, fault: Fault) -> Result<Remedy> {
    let master = database.master_pod().await?;
    match fault {
        Fault::MysqldKill => faults::signal_mysqld(&master, Signal::SIGKILL)?,
        Fault::PodForceDelete => faults::delete_pod(&database.pod_api(), &master, Deletion::Forced).await?,
        Fault::PodDelete => faults::delete_pod(&database.pod_api(), &master, Deletion::Normal).await?,
        Fault::Switchover => {
            let slave = database.slave_pod().await?.name_any();
            faults::ask_to_promote(&database.client, &database.namespace, &database.name, &slave).await?;
        }
        Fault::Freeze => {
            faults::signal_mysqld(&master, Signal::SIGSTOP)?;
            return Ok(Remedy::Continue(Box::new(master)));
        }
        Fault::Partition => {
            let machine = machines::machine_of(&master)?.to_owned();
            machines::break_machine(target, &machine, Ill::Cut).await?;
            return Ok(Remedy::Mend(machine));
        }
        Fault::OperatorAndMaster => {
            let leader = install::leader(&database.client).await?;
            let pods = kube::Api::namespaced(database.client.clone(), install::NAMESPACE);
            faults::delete_pod(&pods, &leader, Deletion::Forced).await?;
            faults::signal_mysqld(&master, Signal::SIGKILL)?;
        }
    }
    Ok(Remedy::Nothing)
}

fn summary(runs: &[Run]) -> FaultFacts {
    let outages: Vec<u64> = runs.iter().map(|run| run.outage).collect();
    let mut by_step: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (name, end) in runs.iter().flat_map(|run| &run.steps) {
        by_step.entry(name.clone()).or_default().push(*end);
    }
    FaultFacts {
        runs: runs.len(),
        median_ms: percentile(&outages, 50),
        p90_ms: percentile(&outages, 90),
        max_ms: percentile(&outages, 100),
        lost: runs.iter().map(|run| run.lost).sum(),
        failed: runs.iter().map(|run| run.failed).sum(),
        cut_ms: median(runs, |run| run.pieces.cut),
        login_ms: median(runs, |run| run.pieces.login),
        failed_proofs: runs.iter().filter(|run| run.failure.is_some()).count(),
        acknowledged: runs.iter().map(|run| run.acknowledged).sum(),
        steps: by_step
            .into_iter()
            .map(|(name, ends)| (name, percentile(&ends, 50)))
            .collect(),
        outages_ms: outages,
    }
}

fn median(runs: &[Run], of: impl Fn(&Run) -> Duration) -> u64 {
    percentile(&runs.iter().map(|run| millis(of(run))).collect::<Vec<_>>(), 50)
}

fn show(screen: &Screen, number: u32, run: &Run) {
    let steps: Vec<String> = run
        .steps
        .iter()
        .map(|(name, end)| format!("{name} {end}"))
        .collect();
    let Pieces {
        cut,
        login,
        answer,
        refusals,
    } = run.pieces;
    let client = format!(
        "cut {} login {} answer {}",
        millis(cut),
        millis(login),
        millis(answer)
    );
    let operator = steps.join(" ");
    screen.line(&format!(
        "  run {number:>3} {:>6} ms  lost {}  {operator}",
        run.outage, run.lost
    ));
    let client = format!("                     client: {client}, {refusals} refusals");
    screen.line(&screen.paint(Tone::Dim, &client));
    if let Some(failure) = &run.failure {
        screen.line(&screen.paint(Tone::Bad, &format!("          {failure}")));
    }
}

fn table(screen: &Screen, through: Through, facts: &BenchFacts) {
    screen.heading(match through {
        Through::Master => "Outage seen by a client of the master's Service, in milliseconds",
        Through::Any => "Outage seen by a client of the Service over every node, in milliseconds",
        Through::Api => "Outage seen by a client of the data API, in milliseconds",
    });
    let head = format!(
        "  {:<20} {:>5} {:>8} {:>8} {:>8} {:>6} {:>7}",
        "fault", "runs", "median", "p90", "max", "lost", "failed"
    );
    screen.line(&screen.paint(Tone::Dim, &head));
    for (name, fault) in &facts.faults {
        let FaultFacts {
            runs,
            median_ms,
            p90_ms,
            max_ms,
            lost,
            failed,
            ..
        } = fault;
        screen.line(&format!(
            "  {name:<20} {runs:>5} {median_ms:>8} {p90_ms:>8} {max_ms:>8} {lost:>6} {failed:>7}"
        ));
    }
    screen.line("");
}
