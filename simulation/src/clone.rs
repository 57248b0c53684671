//! Clone: the node's data is thrown away and a donor's copied, beside the agent's queue.

use crate::{
    agent::Next,
    bits::Bits,
    event::Node,
    machine::{Job, Order},
    mutant::Mutant,
    world::World,
};

impl World {
    /// The data gets its new identity before the first byte is touched; copying goes on beside the queue.
    pub(crate) fn begin_clone(&mut self, node: Node, job: &Job) -> Next {
        if !self.retire_source(node) && self.mutant != Some(Mutant::CloneOverLastCopy) {
            return Next::Refused;
        }
        self.volumes += 1;
        let volume = self.volumes;
        let machine = &mut self.machines[node];
        let memory = &mut machine.disk.memory;
        (memory.volume, memory.followed, memory.promoted) = (volume, None, None);
        machine.agent.cloning = Some(Job {
            stage: 1,
            ..job.clone()
        });
        Next::Beside
    }

    /// The clone goes on by one stage.
    pub(crate) fn copy(&mut self, node: Node) -> bool {
        let Some(job) = self.machines[node].agent.cloning.clone() else {
            return false;
        };
        if self.machines[node].agent.frozen {
            return false;
        }
        let Order::Clone { donor, ref requires } = job.command.order else {
            return false;
        };
        let there = self.machines[donor].awake().is_some()
            && self.reaches(donor, node)
            && self.reaches(node, donor)
            && donor != node;
        // A donor that came back with another volume must not be copied over data that was whole.
        let unchecked = matches!(
            self.mutant,
            Some(Mutant::DonorUnchecked | Mutant::CloneOverLastCopy)
        );
        let there = there
            && (unchecked
                || self
                    .ledger
                    .gtids(&self.machines[donor].executed())
                    .contains(requires));
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
            2 if there => {
                self.on_overwrite(node);
                let copied = self.machines[donor].disk.divergent;
                let disk = &mut self.machines[node].disk;
                disk.relay.clear();
                disk.binlog.clear();
                disk.divergent = copied;
                (disk.channel, disk.received, disk.log, disk.purged) =
                    (None, Bits::default(), Bits::default(), Bits::default());
                self.machines[node].agent.cloning = Some(Job {
                    stage: 3,
                    ..job.clone()
                });
            }
            3 => {
                if there {
                    let (order, set) = self.copy_of(donor);
                    for txn in &order {
                        self.ledger.txns[usize::from(*txn)].reached |= 1 << node;
                    }
                    let disk = &mut self.machines[node].disk;
                    (disk.binlog, disk.log, disk.purged) = (order, set, set);
                }
                self.crash(node);
                return self.end_clone(node, &job);
            }
            _ => return self.end_clone(node, &job),
        }
        true
    }

    fn end_clone(&mut self, node: Node, job: &Job) -> bool {
        self.machines[node].agent.cloning = None;
        self.outcome(node, &job.command);
        true
    }
}
