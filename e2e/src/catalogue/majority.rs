//! Too few nodes: nothing may be promoted that could lack a write; writes wait, and go on when nodes are back.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use api::resource::Phase;
use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use nix::sys::signal::Signal;
use serde_json::json;
use sqlx::mysql::MySqlConnection;
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    Case, Finding,
    place::{self, Together},
};
use crate::{
    clock::Clock,
    database::{Database, describe},
    faults::{self, Deletion},
    inside, install,
    ledger::{Entry, Ledger, Outcome},
    machines::{self, Ill},
    ordeal::Ordeal,
    proof, sql,
    storm::HEALED,
    terms::TermWatch,
    tools::kubectl,
    wait::{Seen, until},
    watcher::Watcher,
    world::World,
    writer,
};

pub const CASES: &[Case] = &[
    Case {
        row: 14,
        part: "a",
        fault: "the machines of the master and of one slave cut off for 20 s",
        expects: "no promotion; status says who is missing and prints the command; it goes on when they are back",
        limit: None,
        run: |world| lose_majority(world).boxed_local(),
    },
    Case {
        row: 14,
        part: "b",
        fault: "the same with writes that hang at the master, and the forced promotion",
        expects: "it demands the exact term; the printed command makes the slave the master; nobody is told that the writes \
            which hang are done, and no node holds them in the end",
        limit: None,
        run: |world| force(world).boxed_local(),
    },
    Case {
        row: 15,
        part: "a",
        fault: "mysqld of every node killed at once",
        expects: "the most complete node leads, nothing is lost",
        limit: Some(Duration::from_secs(30)),
        run: |world| kill_all(world).boxed_local(),
    },
    Case {
        row: 15,
        part: "b",
        fault: "every pod deleted by force at once",
        expects: "the most complete node leads, nothing is lost",
        limit: Some(Duration::from_mins(1)),
        run: |world| delete_all(world).boxed_local(),
    },
    Case {
        row: 15,
        part: "c",
        fault: "every machine loses its power at once, with the operator's, and gets it back",
        expects: "the most complete node leads, nothing is lost",
        limit: Some(Duration::from_mins(4)),
        run: |world| restart_machines(world).boxed_local(),
    },
    Case {
        row: 20,
        part: "a",
        fault: "Strict: the machines of both slaves cut off for 20 s",
        expects: "writes wait and status says so",
        limit: None,
        run: |world| lose_both_slaves(world).boxed_local(),
    },
    Case {
        row: 20,
        part: "b",
        fault: "Available: the machines of both slaves cut off",
        expects: "writes go on and status says what may be lost",
        limit: Some(Duration::from_secs(10)),
        run: |world| available(world).boxed_local(),
    },
    Case {
        row: 21,
        part: "",
        fault: "both slaves cut off with a write under way, and back 15 s later",
        expects: "the waiting write finishes",
        limit: None,
        run: |world| slaves_back(world).boxed_local(),
    },
];

async fn cut(world: &World, pods: &[Pod]) -> Result<()> {
    for pod in pods {
        machines::break_machine(&world.target, machines::machine_of(pod)?, Ill::Cut).await?;
    }
    Ok(())
}

/// The master and the slave that can be cut off without the operator's leader, and the slave that is left.
async fn majority(world: &World, database: &Database) -> Result<(Vec<Pod>, Pod)> {
    place::put_master(database, Together::No).await?;
    let leader = install::leader(&world.client).await?;
    let together = machines::machine_of(&leader)?;
    let is_together = |pod: &Pod| machines::machine_of(pod).is_ok_and(|machine| machine == together);
    let (left, mut lost): (Vec<Pod>, Vec<Pod>) =
        database.slave_pods().await?.into_iter().partition(is_together);
    lost.push(database.master_pod().await?);
    ensure!(lost.len() == 2, "the nodes do not run on a machine each");
    Ok((lost, left.into_iter().next().context("no slave is left")?))
}

async fn lose_majority(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let (lost, left) = majority(world, &database).await?;
    let ordeal = Ordeal::begin(&database, "majority").await?;
    let (master, term) = (database.master_pod().await?, ordeal.term);
    let at = ordeal.now();
    cut(world, &lost).await?;
    let told = blocked(&database, &lost, &left).await;
    sleep(Duration::from_secs(20).saturating_sub(ordeal.now().saturating_sub(at))).await;
    let record = database.status().await?.record;
    machines::mend_all(&world.target).await?;
    let (_, command) = told?;
    // The machines are cut off one after the other: a term may be taken while only the master's is gone.
    let leads = record.master.as_ref().map(failover::NodeId::as_str);
    ensure!(
        leads.is_none_or(|node| node == master.name_any()),
        "the master moved without a majority: {leads:?} leads in term {}, before it was term {term}",
        record.term
    );
    install::wait_ready(&world.client).await?;
    Ok(ordeal.end(at, HEALED).await?.finding().note(command))
}

/// Phase, explanation and last resort name both, and the command that is printed is for the slave that is left, in the
/// present term; gives that term and the command.
async fn blocked(database: &Database, lost: &[Pod], left: &Pod) -> Result<(u64, String)> {
    until(
        "explanation that names the missing",
        Duration::from_secs(20),
        async || {
            let status = database.status().await?;
            let explanation = status.explanation.join("; ");
            let resort = status.last_resort.clone();
            let missing = resort
                .as_ref()
                .map(|resort| resort.missing.join("; "))
                .unwrap_or_default();
            let of_lost = |text: &str| lost.iter().all(|pod| text.contains(&pod.name_any()));
            let named = of_lost(&explanation) && of_lost(&missing) && status.phase == Phase::Down;
            let term = status.record.term.0;
            let command = resort.and_then(|resort| resort.command).unwrap_or_default();
            let right = command == printed(database, left, term) && explanation.contains(&command);
            Ok(if named && right {
                Seen::Done((term, command))
            } else {
                Seen::NotYet(format!(
                    "{}; {explanation}; missing: {missing}; command: {command}",
                    describe(&status)
                ))
            })
        },
    )
    .await
}

/// The command that gives up what only the lost nodes hold.
fn printed(database: &Database, left: &Pod, term: u64) -> String {
    format!(
        "kubectl annotate ddb {} -n {} --overwrite {FORCE}={}@{term}",
        database.name,
        database.namespace,
        left.name_any()
    )
}

async fn force(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let (lost, left) = majority(world, &database).await?;
    let watcher = Watcher::start(&world.client, &database.namespace, &database.name, world.clock);
    let terms = TermWatch::start(&database, world.clock).await?;
    let master = database.master_pod().await?;
    let mut connection = database.master_connection().await?;
    sql::create_writes(&mut connection, FORCED).await?;
    let mut acknowledged = Vec::new();
    for id in 0..50 {
        let begun = world.clock.at();
        sql::insert_write(&mut connection, FORCED, id).await?;
        acknowledged.push(entry(id, begun, world.clock, Outcome::Acknowledged));
    }
    // A forced promotion may lose what only the lost nodes hold; that nothing else is lost can be told only when the
    // node that is left has everything.
    let everything = sql::executed(&mut connection).await?;
    let mut administrator = inside::administrator(&left).await?;
    ensure!(
        sql::wait_executed(&mut administrator, &everything, 30).await?,
        "{} does not catch up",
        left.name_any()
    );
    let hanging = Hanging::prepare(&database, &master, world.clock).await?;
    cut(world, &lost).await?;
    let hanging = hanging.write().await;
    let forced = force_with_term(world, &database, &left, &lost).await;
    machines::mend_all(&world.target).await?;
    forced?;
    install::wait_ready(&world.client).await?;
    // What hung is more than the new master has, so the old one is cloned.
    database.wait_healthy(HEALED * 2).await?;
    let hanging = hanging?.await??;
    for entry in &hanging {
        ensure!(
            entry.outcome != Outcome::Acknowledged,
            "the master that was cut off acknowledged a write: {entry:?}"
        );
        ensure!(
            entry.ended.saturating_sub(entry.begun) >= HANGS,
            "a write did not hang at the master that was cut off: {entry:?}"
        );
    }
    let ledger = Ledger {
        writers: vec![acknowledged, hanging],
        ended: world.clock.at(),
    };
    let proof = proof::prove(&database, &ledger, FORCED, &["row_force"]).await?;
    proof.check()?;
    let mut connection = database.master_connection().await?;
    let rows = sql::count(&mut connection, FORCED).await?;
    ensure!(rows == 50, "{rows} rows of 50 are left");
    sql::drop_schema(&mut connection, "row_force").await?;
    watcher.finish()?;
    terms.finish().await?;
    let master = database.master_pod().await?.name_any();
    ensure!(
        master == left.name_any(),
        "{master} leads instead of {}",
        left.name_any()
    );
    Ok(Finding::default())
}

/// Where the forced promotion's writes go.
const FORCED: &str = "row_force.writes";
/// The first of the writes that hang.
const HANGING: i64 = 1000;
/// So many at a time.
const CLIENTS: i64 = 3;
/// A write that has no answer for so long hangs; the guard ends it after two seconds.
const HANGS: Duration = Duration::from_millis(200);
/// Long after that an answer would still be heard.
const ENDED: Duration = Duration::from_mins(1);

fn entry(id: i64, begun: Duration, clock: Clock, outcome: Outcome) -> Entry {
    Entry {
        id,
        begun,
        ended: clock.at(),
        outcome,
    }
}

/// Clients in the master's own pod, logged in before it is cut off.
struct Hanging {
    // Over the socket, which no cut reaches.
    administrator: MySqlConnection,
    begin: oneshot::Sender<()>,
    told: JoinHandle<Result<Vec<Entry>>>,
}

impl Hanging {
    async fn prepare(database: &Database, master: &Pod, clock: Clock) -> Result<Self> {
        let account = database.at("127.0.0.1").await?;
        let administrator = inside::administrator(master).await?;
        let (begin, may_begin) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let pod = master.clone();
        let told = tokio::spawn(async move {
            let work = async move || {
                let mut connections = Vec::new();
                for _ in 0..CLIENTS {
                    connections.push(sql::connect(&account, Duration::from_secs(5)).await?);
                }
                // Nobody listens where the case was given up.
                let _ = ready.send(());
                may_begin.await.context("the case was given up")?;
                let writes = (HANGING..).zip(&mut connections).map(async |(id, connection)| {
                    let asked = clock.at();
                    let answer = timeout(ENDED, sql::insert_write(connection, FORCED, id)).await;
                    entry(id, asked, clock, writer::outcome(&answer))
                });
                Ok(futures::future::join_all(writes).await)
            };
            inside::client(&pod, work).await
        });
        if is_ready.await.is_err() {
            told.await??;
            bail!("the clients in the master's pod ended too early");
        }
        Ok(Self {
            administrator,
            begin,
            told,
        })
    }

    /// Begins the writes, and gives what they come to once the master waits for acknowledgements.
    async fn write(self) -> Result<JoinHandle<Result<Vec<Entry>>>> {
        let Self {
            mut administrator,
            begin,
            told,
        } = self;
        ensure!(begin.send(()).is_ok(), "the clients in the master's pod are gone");
        until(
            "commit that waits in the master",
            Duration::from_secs(5),
            async || {
                let waiting = sql::waiting_sessions(&mut administrator).await?;
                Ok(if waiting > 0 {
                    Seen::Done(())
                } else {
                    Seen::NotYet("none waits".to_owned())
                })
            },
        )
        .await?;
        Ok(told)
    }
}

/// Tries a wrong term, which must change nothing, then the printed command, which must make `left` the master.
async fn force_with_term(world: &World, database: &Database, left: &Pod, lost: &[Pod]) -> Result<()> {
    let (term, command) = blocked(database, lost, left).await?;
    let wrong = format!("{}@{}", left.name_any(), term + 7);
    database
        .patch(json!({"metadata": {"annotations": {FORCE: wrong}}}))
        .await?;
    database.wait_taken(FORCE, Duration::from_secs(10)).await?;
    let record = database.status().await?.record;
    ensure!(
        record.term.0 == term,
        "a forced promotion with a wrong term was carried out"
    );
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    kubectl(world.target.context.as_deref(), &words).await?;
    database.wait_led(term, HEALED).await
}

/// On the resource: asks for a promotion without a quorum, as `POD@TERM`.
const FORCE: &str = "ddb-operator.io/force-promote";

async fn available(world: &World) -> Result<Finding> {
    let (database, slaves) = slaves_apart(world).await?;
    let durability = |word: &str| json!({"spec": {"durability": word}});
    database.patch(durability("Available")).await?;
    database.wait_healthy(HEALED).await?;
    let ordeal = Ordeal::begin(&database, "available").await?;
    let (master, term) = (database.master_pod().await?, ordeal.term);
    cut(world, &slaves).await?;
    let at = ordeal.now();
    let told = until("condition that says what may be lost", HEALED, async || {
        let (status, message) = database.condition("AtRisk").await?;
        Ok(if status == "True" && message.starts_with("DurabilityLowered") {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("AtRisk is {status}, {message}"))
        })
    })
    .await;
    let gone_on = ordeal.writers().wait_for_more(100, Duration::from_secs(20)).await;
    machines::mend_all(&world.target).await?;
    told?;
    gone_on.context("writes with durability Available and no slave")?;
    install::wait_ready(&world.client).await?;
    let end = ordeal.end(at, HEALED).await?;
    super::master::same_master(&database, &master, term).await?;
    database.patch(durability("Strict")).await?;
    database.wait_healthy(HEALED).await?;
    Ok(end.finding())
}

async fn all_pods(database: &Database) -> Result<Vec<Pod>> {
    let mut pods = database.slave_pods().await?;
    pods.push(database.master_pod().await?);
    Ok(pods)
}

async fn kill_all(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "killall").await?;
    let pods = all_pods(&database).await?;
    let at = ordeal.now();
    for pod in &pods {
        faults::signal_mysqld(pod, Signal::SIGKILL)?;
    }
    Ok(ordeal.end_changed(at, HEALED).await?.finding())
}

async fn delete_all(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "deleteall").await?;
    let pods = all_pods(&database).await?;
    let api = database.pod_api();
    let at = ordeal.now();
    futures::future::try_join_all(
        pods.iter()
            .map(|pod| faults::delete_pod(&api, pod, Deletion::Forced)),
    )
    .await?;
    Ok(ordeal.end_changed(at, HEALED * 2).await?.finding())
}

async fn restart_machines(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "power").await?;
    let pods = all_pods(&database).await?;
    let at = ordeal.now();
    for pod in &pods {
        machines::break_machine(&world.target, machines::machine_of(pod)?, Ill::Kill).await?;
    }
    machines::mend_all(&world.target).await?;
    install::wait_ready(&world.client).await?;
    Ok(ordeal.end_changed(at, Duration::from_mins(5)).await?.finding())
}

/// The master on the machine of the operator's leader, so that both slaves can be cut off alone.
async fn slaves_apart(world: &World) -> Result<(Database, Vec<Pod>)> {
    let database = world.database().await?;
    place::put_master(&database, Together::Yes).await?;
    let slaves = database.slave_pods().await?;
    ensure!(slaves.len() == 2, "{} slaves", slaves.len());
    Ok((database, slaves))
}

async fn writes_wait(database: &Database) -> Result<()> {
    until(
        "condition that says that writes wait",
        Duration::from_secs(20),
        async || {
            let (status, message) = database.condition("Available").await?;
            Ok(if status == "False" && message.starts_with("WritesWait") {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("Available is {status}, {message}"))
            })
        },
    )
    .await
}

async fn lose_both_slaves(world: &World) -> Result<Finding> {
    let (database, slaves) = slaves_apart(world).await?;
    let ordeal = Ordeal::begin(&database, "strict").await?;
    let (master, term) = (database.master_pod().await?, ordeal.term);
    cut(world, &slaves).await?;
    let at = ordeal.now();
    let told = writes_wait(&database).await;
    sleep(Duration::from_secs(20).saturating_sub(ordeal.now().saturating_sub(at))).await;
    let healed = ordeal.now();
    machines::mend_all(&world.target).await?;
    told?;
    install::wait_ready(&world.client).await?;
    let end = ordeal.end(at, HEALED).await?;
    let early = Duration::from_secs(1);
    let entries = [&end.aftermath.ledger, &end.api.ledger];
    let entries = entries
        .into_iter()
        .flat_map(|ledger| ledger.writers.iter().flatten());
    let good = entries.filter(|entry| {
        entry.outcome == Outcome::Acknowledged && entry.begun > at + early && entry.ended < healed
    });
    let good = good.count();
    ensure!(good == 0, "{good} writes were acknowledged without a slave");
    super::master::same_master(&database, &master, term).await?;
    Ok(Finding {
        outage: None,
        ..end.finding()
    })
}

async fn slaves_back(world: &World) -> Result<Finding> {
    let (database, slaves) = slaves_apart(world).await?;
    let ordeal = Ordeal::begin(&database, "waiting").await?;
    let (master, term) = (database.master_pod().await?, ordeal.term);
    let mut connection = database.master_connection().await?;
    cut(world, &slaves).await?;
    let at = ordeal.now();
    // The cable is out, but what was sent before may still be acknowledged.
    sleep(Duration::from_secs(1)).await;
    let write = sql::insert_write(&mut connection, "row_waiting.writes", -1);
    let (answer, mended) = futures::join!(timeout(HEALED, write), async {
        sleep(Duration::from_secs(15)).await;
        machines::mend_all(&world.target).await
    });
    let took = ordeal.now().saturating_sub(at);
    mended?;
    answer.context("the waiting write had no answer")??;
    ensure!(
        took >= Duration::from_secs(15),
        "the write did not wait: it was acknowledged after {} ms",
        took.as_millis()
    );
    install::wait_ready(&world.client).await?;
    let end = ordeal.end(at, HEALED).await?;
    super::master::same_master(&database, &master, term).await?;
    let note = format!(
        "the waiting write was acknowledged {} ms after the fault",
        took.as_millis()
    );
    Ok(Finding {
        outage: None,
        ..end.finding().note(note)
    })
}
