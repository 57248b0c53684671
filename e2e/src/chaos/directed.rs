//! Faults that make one broken safety rule show. A sound build passes them; a build in which that rule is broken must
//! not, or the long run would prove nothing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use history::{Episode, Fault, Line};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use nix::sys::signal::Signal;
use sqlx::MySqlConnection;
use tokio::time::sleep;

use super::{
    kinds::{Field, ip_of},
    recorder::Recorder,
    schedule::{NOTICED, healed},
    statements::{self, SINGLES},
};
use crate::{
    faults::{self, Deletion},
    install,
    machines::{self, Ill},
    screen::Screen,
    sql,
};

/// Each is tried so often, because each needs a little luck.
const ROUNDS: usize = 4;
/// How long after a round everything must be Ready again; a broken build may never be.
const HEALED: Duration = Duration::from_secs(90);
/// How long commits are left waiting, or relay logs growing.
const GATHER: Duration = Duration::from_millis(600);

/// The node agent's program.
const AGENT: &str = "ddb-node";

/// A rule that a build can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Rule {
    /// A master with waiting commits is never ended by SIGTERM.
    FenceBySigterm,
    /// A slave's server keeps its relay logs when it starts.
    RelayLogRecovery,
    /// Semi-synchronous replication stays on while a master is fenced.
    SourceOffFirst,
    /// A slave's server boots fenced.
    ReplicaStart,
}

impl Rule {
    /// The word on the command line.
    pub fn word(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}

/// The master and its two slaves.
struct Cast {
    master: Pod,
    slaves: Vec<Pod>,
}

/// Makes the faults that show `rule`, several times.
pub async fn run(field: &Field<'_>, recorder: &Recorder, screen: &Screen, rule: Rule) -> Result<()> {
    for round in 1..=ROUNDS {
        let at = recorder.now();
        let cast = cast(field).await?;
        let done = match rule {
            Rule::FenceBySigterm | Rule::SourceOffFirst => end_while_commits_wait(field, &cast).await,
            Rule::RelayLogRecovery => restart_slaves_without_master(field, &cast).await,
            Rule::ReplicaStart => restart_a_fenced_slave(field, &cast).await,
        };
        machines::mend_all(field.target).await?;
        done.with_context(|| format!("round {round}"))?;
        let mended = recorder.now();
        sleep(NOTICED).await;
        let unhealed = healed(field, recorder, HEALED)
            .await
            .err()
            .map(|error| format!("{error:#}"));
        let given_up = unhealed.is_some();
        let fault = Fault {
            kind: rule.word(),
            on: cast.master.name_any(),
            at,
            mended,
        };
        let ended = recorder.now();
        screen.line(&format!(
            "  round {round}: master {}, calm after {:.1} s",
            fault.on,
            Duration::from_micros(ended - at).as_secs_f64()
        ));
        let faults = vec![fault];
        recorder.line(Line::Episode(Episode {
            faults,
            ended,
            unhealed,
            soon: false,
        }));
        if given_up {
            break;
        }
    }
    Ok(())
}

async fn cast(field: &Field<'_>) -> Result<Cast> {
    let master = field.database.master_pod().await?;
    let all = field.database.pod_api().list(&field.database.selector()).await?;
    let slaves: Vec<Pod> = all
        .items
        .into_iter()
        .filter(|pod| pod.name_any() != master.name_any())
        .collect();
    ensure!(slaves.len() == 2, "there are {} slaves", slaves.len());
    Ok(Cast { master, slaves })
}

/// The master loses its slaves, so that commits wait in it, and then its pod.
async fn end_while_commits_wait(field: &Field<'_>, cast: &Cast) -> Result<()> {
    let master = ip_of(&cast.master)?;
    for slave in &cast.slaves {
        machines::cut_between(field.target, &master, &ip_of(slave)?, false).await?;
    }
    sleep(GATHER).await;
    faults::delete_pod(&field.database.pod_api(), &cast.master, Deletion::Normal).await?;
    sleep(Duration::from_secs(6)).await;
    Ok(())
}

/// Acknowledged writes are only in the slaves' relay logs when both slaves' servers are killed and the master is gone.
async fn restart_slaves_without_master(field: &Field<'_>, cast: &Cast) -> Result<()> {
    let held = hold_appliers(field, cast).await?;
    sleep(GATHER).await;
    for slave in &cast.slaves {
        faults::signal_mysqld(slave, Signal::SIGKILL)?;
    }
    machines::break_machine(field.target, machines::machine_of(&cast.master)?, Ill::Cut).await?;
    drop(held);
    sleep(Duration::from_secs(8)).await;
    Ok(())
}

/// The master is cut off with commits waiting; while its successor still executes what it received, the other slave,
/// which is fenced, restarts and can reach the old master again.
///
/// The master's agent is frozen meanwhile: as the guard of a master that is alone it would drop the clients that wait,
/// before the slave is back, and nobody would be told of what should not have been acknowledged.
async fn restart_a_fenced_slave(field: &Field<'_>, cast: &Cast) -> Result<()> {
    faults::signal_process(&cast.master, AGENT, Signal::SIGSTOP)?;
    let done = restart_beside_an_unguarded_master(field, cast).await;
    faults::signal_process(&cast.master, AGENT, Signal::SIGCONT)?;
    done
}

async fn restart_beside_an_unguarded_master(field: &Field<'_>, cast: &Cast) -> Result<()> {
    let held = hold_appliers(field, cast).await?;
    let term = field.database.status().await?.record.term.0;
    let master = ip_of(&cast.master)?;
    let restarted = &cast.slaves[1];
    let ip = ip_of(restarted)?;
    // It receives less than the other, which is chosen then.
    machines::cut_between(field.target, &master, &ip, false).await?;
    sleep(GATHER).await;
    let mut others = vec![ip_of(&cast.slaves[0])?];
    for operator in install::operator_pods(&field.database.client).await? {
        others.push(ip_of(&operator)?);
    }
    for other in &others {
        machines::cut_between(field.target, &master, other, false).await?;
    }
    field.database.wait_term(term, Duration::from_secs(20)).await?;
    sleep(Duration::from_millis(300)).await;
    faults::signal_mysqld(restarted, Signal::SIGKILL)?;
    machines::mend_one_way(field.target, &master, &ip).await?;
    machines::mend_one_way(field.target, &ip, &master).await?;
    sleep(Duration::from_secs(4)).await;
    drop(held);
    sleep(Duration::from_secs(4)).await;
    Ok(())
}

/// Makes the slaves receive and acknowledge without executing, until the connections are dropped.
async fn hold_appliers(field: &Field<'_>, cast: &Cast) -> Result<Vec<MySqlConnection>> {
    let mut held = Vec::new();
    for slave in &cast.slaves {
        let address = field.database.at(&ip_of(slave)?).await?;
        let mut connection = sql::connect(&address, Duration::from_secs(2)).await?;
        statements::hold_still(&mut connection, SINGLES).await?;
        held.push(connection);
    }
    Ok(held)
}
