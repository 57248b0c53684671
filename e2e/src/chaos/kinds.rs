//! The table of random faults: what is done, how often, what it may cost, how it is undone.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};
use nix::sys::signal::Signal;
use rand::{Rng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use crate::{
    database::Database,
    faults::{self, Deletion},
    install,
    machines::{self, Ill},
    settings::Target,
};

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The pod labelled master.
    Master,
    /// A pod labelled slave.
    Slave,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// kill -9 of mysqld.
    KillMysqld(Who),
    /// SIGSTOP of mysqld, SIGCONT later.
    FreezeMysqld(Who),
    /// kill -9 of the node agent.
    KillAgent(Who),
    /// The pod is deleted.
    DeletePod(Who, Deletion),
    /// A slave's pod and volume are deleted.
    DeleteVolume,
    /// The machine's cable is unplugged.
    CutMachine(Who),
    /// All processes of the machine stand still.
    FreezeMachine(Who),
    /// Packets from one pod to another are dropped, in this direction only.
    CutOneWay,
    /// kill -9 of the operator that leads.
    KillOperator,
    /// Both operators' pods are deleted by force.
    KillOperators,
    /// The operator that leads and the API server do not hear each other.
    CutOperator,
    /// A switchover asked for by annotation.
    Switchover,
    /// kill -9 of mysqld in the master and of the operator that leads.
    KillBoth,
}

/// One kind of fault.
pub struct Kind {
    /// Its name in the history and the table.
    pub name: &'static str,
    /// How often it is chosen, compared with the others.
    pub weight: u32,
    /// The longest outage that the design allows it alone, in milliseconds.
    pub budget_ms: u64,
    /// What is done.
    pub act: Act,
    /// It is undone so many milliseconds later, where it does not undo itself.
    pub lasts_ms: (u64, u64),
}

const fn kind(name: &'static str, weight: u32, budget_ms: u64, act: Act, lasts_ms: (u64, u64)) -> Kind {
    Kind {
        name,
        weight,
        budget_ms,
        act,
        lasts_ms,
    }
}

const ONCE: (u64, u64) = (0, 0);

/// Every kind. A slave's fault, an agent's or an operator's must not stop writes; what it may cost is the time in which
/// a commit waits for the other slave, or one reconnection.
pub const KINDS: [Kind; 22] = [
    kind("mysqld-kill", 12, 400, Act::KillMysqld(Who::Master), ONCE),
    kind(
        "pod-force-delete",
        7,
        400,
        Act::DeletePod(Who::Master, Deletion::Forced),
        ONCE,
    ),
    kind(
        "pod-delete",
        5,
        150,
        Act::DeletePod(Who::Master, Deletion::Normal),
        ONCE,
    ),
    kind(
        "pod-hasty-delete",
        2,
        400,
        Act::DeletePod(Who::Master, Deletion::Hasty),
        ONCE,
    ),
    kind("switchover", 8, 150, Act::Switchover, ONCE),
    kind("freeze", 7, 2000, Act::FreezeMysqld(Who::Master), (1000, 6000)),
    kind("partition", 6, 2000, Act::CutMachine(Who::Master), (2000, 7000)),
    kind(
        "machine-freeze",
        3,
        2000,
        Act::FreezeMachine(Who::Master),
        (1500, 6000),
    ),
    kind("agent-kill", 3, 400, Act::KillAgent(Who::Master), ONCE),
    kind("one-way-cut", 6, 2000, Act::CutOneWay, (1000, 6000)),
    kind("operator-kill", 4, 400, Act::KillOperator, ONCE),
    kind("operators-kill", 2, 400, Act::KillOperators, ONCE),
    kind("operator-cut", 3, 400, Act::CutOperator, (1000, 8000)),
    kind("operator-and-master", 3, 8000, Act::KillBoth, ONCE),
    kind("slave-mysqld-kill", 5, 400, Act::KillMysqld(Who::Slave), ONCE),
    kind(
        "slave-pod-delete",
        3,
        400,
        Act::DeletePod(Who::Slave, Deletion::Normal),
        ONCE,
    ),
    kind(
        "slave-pod-force-delete",
        3,
        400,
        Act::DeletePod(Who::Slave, Deletion::Forced),
        ONCE,
    ),
    kind(
        "slave-freeze",
        4,
        400,
        Act::FreezeMysqld(Who::Slave),
        (1000, 6000),
    ),
    kind(
        "slave-partition",
        4,
        400,
        Act::CutMachine(Who::Slave),
        (2000, 7000),
    ),
    kind(
        "slave-machine-freeze",
        2,
        400,
        Act::FreezeMachine(Who::Slave),
        (1500, 5000),
    ),
    kind("slave-agent-kill", 2, 400, Act::KillAgent(Who::Slave), ONCE),
    kind("slave-volume-delete", 2, 400, Act::DeleteVolume, ONCE),
];

/// The name of a machine's fault that also hits the operator that leads.
pub const WITH_OPERATOR: &str = "-with-operator";
/// The longest outage of those.
pub const WITH_OPERATOR_MS: u64 = 8000;

/// What undoes a fault.
pub enum Remedy {
    /// Nothing needs to be done.
    Nothing,
    /// SIGCONT.
    Continue(Box<Pod>),
    /// The machine is mended.
    Machine(String),
    /// Packets pass again, from the first to the second.
    OneWay(Vec<(String, String)>),
}

/// What was done.
pub struct Done {
    /// The kind's name, more exact where the place matters.
    pub kind: String,
    /// To whom.
    pub on: String,
    /// What undoes it.
    pub remedy: Remedy,
    /// And when.
    pub lasts: Duration,
}

/// What faults need.
pub struct Field<'a> {
    /// The cluster.
    pub target: &'a Target,
    /// The database.
    pub database: &'a Database,
}

impl Field<'_> {
    async fn pod(&self, who: Who) -> Result<Pod> {
        match who {
            Who::Master => self.database.master_pod().await,
            Who::Slave => self.database.slave_pod().await,
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// Where there is nobody that it could be done to: another fault is under way.
    pub async fn inflict(&self, kind: &Kind, random: &mut ChaCha8Rng) -> Result<Done> {
        let Database {
            client,
            namespace,
            name,
        } = self.database;
        let mut exact = kind.name.to_owned();
        let (on, remedy) = match kind.act {
            Act::KillMysqld(who) => {
                let pod = self.pod(who).await?;
                faults::signal_mysqld(&pod, Signal::SIGKILL)?;
                (pod.name_any(), Remedy::Nothing)
            }
            Act::FreezeMysqld(who) => {
                let pod = self.pod(who).await?;
                faults::signal_mysqld(&pod, Signal::SIGSTOP)?;
                (pod.name_any(), Remedy::Continue(Box::new(pod)))
            }
            Act::KillAgent(who) => {
                let pod = self.pod(who).await?;
                faults::signal_process(&pod, "ddb-node", Signal::SIGKILL)?;
                (pod.name_any(), Remedy::Nothing)
            }
            Act::DeletePod(who, how) => {
                let pod = self.pod(who).await?;
                faults::delete_pod(&self.database.pod_api(), &pod, how).await?;
                (pod.name_any(), Remedy::Nothing)
            }
            Act::DeleteVolume => {
                let pod = self.pod(Who::Slave).await?;
                faults::delete_pod_and_volumes(client, &pod).await?;
                (pod.name_any(), Remedy::Nothing)
            }
            Act::CutMachine(who) | Act::FreezeMachine(who) => {
                let pod = self.pod(who).await?;
                let machine = machines::machine_of(&pod)?.to_owned();
                let leader = install::leader(client).await;
                if leader.is_ok_and(|leader| machines::machine_of(&leader).is_ok_and(|its| its == machine)) {
                    exact += WITH_OPERATOR;
                }
                let ill = match kind.act {
                    Act::CutMachine(_) => Ill::Cut,
                    _ => Ill::Freeze,
                };
                machines::break_machine(self.target, &machine, ill).await?;
                (
                    format!("{machine} with {}", pod.name_any()),
                    Remedy::Machine(machine),
                )
            }
            Act::CutOneWay => self.cut_one_way(random).await?,
            Act::KillOperator => {
                let leader = install::leader(client).await?;
                faults::signal_process(&leader, "ddb-operator", Signal::SIGKILL)?;
                (leader.name_any(), Remedy::Nothing)
            }
            Act::KillOperators => {
                let pods = Api::namespaced(client.clone(), install::NAMESPACE);
                for pod in install::operator_pods(client).await? {
                    faults::delete_pod(&pods, &pod, Deletion::Forced).await?;
                }
                ("both".to_owned(), Remedy::Nothing)
            }
            Act::CutOperator => {
                let leader = install::leader(client).await?;
                let ip = ip_of(&leader)?;
                machines::cut_between(self.target, &ip, "control", false).await?;
                let both = vec![(ip.clone(), "control".to_owned()), ("control".to_owned(), ip)];
                (leader.name_any(), Remedy::OneWay(both))
            }
            Act::Switchover => {
                let slave = self.pod(Who::Slave).await?.name_any();
                faults::ask_to_promote(client, namespace, name, &slave).await?;
                (slave, Remedy::Nothing)
            }
            Act::KillBoth => {
                let master = self.pod(Who::Master).await?;
                let leader = install::leader(client).await?;
                faults::signal_process(&leader, "ddb-operator", Signal::SIGKILL)?;
                faults::signal_mysqld(&master, Signal::SIGKILL)?;
                (master.name_any(), Remedy::Nothing)
            }
        };
        let (least, most) = kind.lasts_ms;
        Ok(Done {
            kind: exact,
            on,
            remedy,
            lasts: Duration::from_millis(random.random_range(least..=most)),
        })
    }

    async fn cut_one_way(&self, random: &mut ChaCha8Rng) -> Result<(String, Remedy)> {
        let nodes = self.database.pods().await?;
        let mut places: Vec<(String, String)> = nodes
            .into_iter()
            .filter_map(|node| Some((node.name, node.ip?)))
            .collect();
        for pod in install::operator_pods(&self.database.client).await? {
            if let Ok(ip) = ip_of(&pod) {
                places.push((pod.name_any(), ip));
            }
        }
        let two: Vec<_> = places.choose_multiple(random, 2).cloned().collect();
        ensure!(
            two.len() == 2 && two[0].1 != two[1].1,
            "there are no two pods to part"
        );
        let ((from, from_ip), (to, to_ip)) = (&two[0], &two[1]);
        machines::cut_between(self.target, from_ip, to_ip, true).await?;
        let remedy = Remedy::OneWay(vec![(from_ip.clone(), to_ip.clone())]);
        Ok((format!("{from} to {to}"), remedy))
    }

    /// Undoes it.
    pub async fn mend(&self, remedy: &Remedy) -> Result<()> {
        match remedy {
            Remedy::Nothing => Ok(()),
            // A server that was killed meanwhile because it did not obey has nothing to continue.
            Remedy::Continue(pod) => faults::signal_mysqld(pod, Signal::SIGCONT).or(Ok(())),
            Remedy::Machine(machine) => machines::mend_machine(self.target, machine).await,
            Remedy::OneWay(pairs) => {
                for (from, to) in pairs {
                    machines::mend_one_way(self.target, from, to).await?;
                }
                Ok(())
            }
        }
    }
}

/// A pod's address.
pub fn ip_of(pod: &Pod) -> Result<String> {
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    ip.with_context(|| format!("{} has no address", pod.name_any()))
}
