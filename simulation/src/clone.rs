//! Clone: the node's data is thrown away and a donor's copied, beside the agent's queue.

use failover::{GtidSet, Millis};

use crate::{
    agent::Next,
    bits::Bits,
    event::Node,
    machine::{Job, Order},
    mutant::Mutant,
    world::World,
};

/// More refusals are not told apart: the histories to be searched would have no end.
const REFUSALS: u32 = 3;
/// A copy that stands still for so long is given up.
const STANDSTILL: Millis = 10_000;

impl World {
    /// The first look at the donor, before anything is stopped; the rest goes on beside the queue.
    pub(crate) fn begin_clone(&mut self, node: Node, job: &Job) -> Next {
        let retired = self.retire_source(node) || self.mutant == Some(Mutant::CloneOverLastCopy);
        if !retired {
            return Next::Refused;
        }
        if !self.donor_has_all(node, &job.command.order) {
            self.count_refusal(node);
            return Next::Refused;
        }
        self.machines[node].agent.cloning = Some(Job {
            stage: 1,
            ..job.clone()
        });
        Next::Beside
    }

    fn count_refusal(&mut self, node: Node) {
        let agent = &mut self.machines[node].agent;
        agent.refused_clones = agent.refused_clones.saturating_add(1).min(REFUSALS);
    }

    /// True where the donor answers and has executed what the node holds, but for what is given up.
    fn donor_has_all(&self, node: Node, order: &Order) -> bool {
        let Order::Clone { donor, ref extra } = *order else {
            return false;
        };
        let unchecked = matches!(
            self.mutant,
            Some(Mutant::DonorUnchecked | Mutant::CloneOverLastCopy)
        );
        let holds = self.ledger.gtids(&self.machines[node].disk.holds());
        self.executed_by(donor, node)
            .is_some_and(|theirs| unchecked || theirs.contains(&holds.subtract(extra)))
    }

    /// What another node says to this one that it has executed, where it answers.
    pub(crate) fn executed_by(&self, other: Node, node: Node) -> Option<GtidSet> {
        self.answers(other, node)
            .then(|| self.ledger.gtids(&self.machines[other].executed()))
    }

    /// What another node says to this one that it has in its log, where it answers.
    pub(crate) fn logged_by(&self, other: Node, node: Node) -> Option<GtidSet> {
        self.answers(other, node)
            .then(|| self.ledger.gtids(&self.machines[other].disk.log))
    }

    fn answers(&self, other: Node, node: Node) -> bool {
        other != node
            && self.machines[other].awake().is_some()
            && self.reaches(other, node)
            && self.reaches(node, other)
    }

    /// The clone goes on by one stage.
    pub(crate) fn copy(&mut self, node: Node) -> bool {
        let Some(job) = self.machines[node].agent.cloning.clone() else {
            return false;
        };
        if self.machines[node].agent.frozen {
            return false;
        }
        let Order::Clone { donor, .. } = job.command.order else {
            return false;
        };
        // A donor that came back with another volume must not be copied over data that was whole. Once the node's own
        // data is gone, nothing is left to be compared.
        let there = self.donor_has_all(node, &job.command.order);
        if self.machines[node].awake().is_none() {
            return self.end_clone(node, &job);
        }
        match job.stage {
            1 => {
                self.stop_receiver(node);
                let machine = &mut self.machines[node];
                if let Some(server) = &mut machine.server {
                    (server.offline, server.replica_on, server.applier) = (true, false, false);
                }
                self.machines[node].agent.cloning = Some(Job {
                    stage: 2,
                    ..job.clone()
                });
            }
            // Whoever asks in a newer term counts on the data that is here. The agent looks up from its waiting as well,
            // which only saves time.
            2 if self.machines[node].disk.memory.term > job.command.term
                && self.mutant != Some(Mutant::CloneOverLastCopy) =>
            {
                return self.end_clone(node, &job);
            }
            2 if there => {
                // The data and its server get their new identities before the first byte is touched.
                self.volumes += 1;
                let volume = self.volumes;
                let disk = &mut self.machines[node].disk;
                if self.mutant != Some(Mutant::CloneKeepsName) {
                    disk.uuid = volume;
                }
                let memory = &mut disk.memory;
                (memory.volume, memory.followed, memory.promoted) = (volume, None, None);
                self.machines[node].agent.cloning = Some(Job {
                    stage: 3,
                    ..job.clone()
                });
            }
            // A server is copied to one other at a time.
            3 if there && self.is_copied(donor) => return self.end_clone(node, &job),
            // No other donor can have come up since it was asked.
            3 if there => {
                self.on_overwrite(node);
                let copied = self.machines[donor].disk.divergent;
                let disk = &mut self.machines[node].disk;
                disk.relay.clear();
                disk.binlog.clear();
                disk.divergent = copied;
                (disk.channel, disk.received, disk.log, disk.purged) =
                    (None, Bits::default(), Bits::default(), Bits::default());
                self.machines[node].agent.cloning = Some(Job {
                    stage: 4,
                    began: self.now,
                    ..job.clone()
                });
            }
            // The donor's commits that wait for an acknowledgement hold up the end.
            4 if there
                && self.machines[donor]
                    .server
                    .as_ref()
                    .is_some_and(|it| !it.waiting.is_empty()) =>
            {
                if self.now.saturating_sub(job.began) < STANDSTILL {
                    return false;
                }
                self.crash(node);
                return self.end_clone(node, &job);
            }
            4 => {
                if there {
                    let (order, set) = self.copy_of(donor);
                    for txn in &order {
                        self.ledger.txns[usize::from(*txn)].reached |= 1 << node;
                    }
                    let disk = &mut self.machines[node].disk;
                    (disk.binlog, disk.log, disk.purged) = (order, set, set);
                }
                // MySQL ends by itself, cleanly.
                self.machines[node].disk.hold.clear();
                self.crash(node);
                return self.end_clone(node, &job);
            }
            _ => return self.end_clone(node, &job),
        }
        true
    }

    fn is_copied(&self, donor: Node) -> bool {
        let copies = |job: &Job| {
            job.stage == 4 && matches!(job.command.order, Order::Clone { donor: of, .. } if of == donor)
        };
        let mut clones = self
            .machines
            .iter()
            .filter_map(|machine| machine.agent.cloning.as_ref());
        clones.any(copies)
    }

    fn end_clone(&mut self, node: Node, job: &Job) -> bool {
        self.machines[node].agent.cloning = None;
        if job.stage <= 2 {
            self.count_refusal(node);
        }
        self.outcome(node, &job.command);
        true
    }
}
