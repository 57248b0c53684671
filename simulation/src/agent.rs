//! The node agent, statement by statement as `node/src/commands` has them, so that it can die between any two.

use failover::GtidSet;

use crate::{
    bits::Txn,
    event::Node,
    invariant::Invariant,
    machine::{Command, Followed, Job, Order, Promoted},
    mutant::Mutant,
    statement::Statement,
    world::World,
};

/// How long the waiting commits of a doubtful master may take.
const DOUBTFUL: u64 = 50;
/// How long those of a master that hands over in order may take.
const ORDERLY: u64 = 5000;

/// What a statement led to.
pub(crate) enum Next {
    /// The next one.
    Stage(u8),
    /// The same again later.
    Again,
    /// The command is done.
    Done,
    /// The command is refused.
    Refused,
    /// It goes on beside the queue.
    Beside,
}

impl World {
    /// A command reaches the agent: an older term is refused, the term is durable before anything is done, a fence
    /// and a newer term overtake what runs.
    pub(crate) fn take_command(&mut self, node: Node, command: Command) {
        let known = self.machines[node].disk.memory.term;
        let before = (self.machines[node].disk.memory.volume, known);
        if command.term < known && self.mutant != Some(Mutant::ObeyOlderTerms) {
            return self.outcome(node, &command);
        }
        self.machines[node].disk.memory.term = command.term.max(known);
        if self.mutant == Some(Mutant::ObeyOlderTerms) {
            self.machines[node].disk.memory.term = command.term;
        }
        self.on_remembered(node, before);
        let agent = &mut self.machines[node].agent;
        let same = agent
            .running
            .as_ref()
            .is_some_and(|job| job.command.term == command.term && job.command.order == command.order);
        let fence = matches!(command.order, Order::Fence { .. });
        if (fence || command.term > known) && !same {
            let mut given_up = std::mem::take(&mut agent.queue);
            if overtakes(agent.running.as_ref(), &command.order) {
                given_up.extend(agent.running.take().map(|job| job.command));
                if let Some(server) = &mut self.machines[node].server {
                    // An abandoned statement is killed; what it had already switched stays switched.
                    server.closing = false;
                }
            }
            for command in given_up {
                self.outcome(node, &command);
            }
        }
        let agent = &mut self.machines[node].agent;
        let known = |it: &Command| it.term == command.term && it.order == command.order;
        let running = [&agent.running, &agent.cloning];
        let runs = running.into_iter().flatten().any(|job| known(&job.command));
        if !runs && !agent.queue.iter().any(known) {
            agent.queue.push_back(command);
        }
    }

    /// One statement of the running command.
    pub(crate) fn work(&mut self, node: Node) -> bool {
        let now = self.now;
        let life = self.machines[node].server.as_ref().map_or(0, |it| it.life);
        let outlives = self.mutant == Some(Mutant::CommandOutlivesServer);
        let agent = &mut self.machines[node].agent;
        if !agent.up || agent.frozen {
            return false;
        }
        if agent.running.is_none() {
            let Some(command) = agent.queue.pop_front() else {
                return false;
            };
            agent.running = Some(Job {
                command,
                stage: 0,
                began: now,
                life,
            });
        }
        let Some(job) = agent.running.take() else {
            return false;
        };
        let beside_clone = agent.cloning.is_some();
        let before = self.remembered(node);
        let next = match &job.command.order {
            Order::Fence { orderly } => self.fence(node, &job, *orderly, beside_clone),
            _ if beside_clone || (job.life != life && !outlives) => Next::Refused,
            Order::Drain => self.drain(node),
            Order::Promote { acks, requires } => self.promote(node, &job, *acks, requires),
            Order::Follow { source, until, whole } => self.follow(node, &job, *source, until, *whole),
            Order::Clone { .. } => self.begin_clone(node, &job),
            Order::Discard => self.discard(node),
            Order::Cut { keep } => self.cut(node, &job, keep),
        };
        self.on_remembered(node, before);
        match next {
            Next::Stage(stage) => self.machines[node].agent.running = Some(Job { stage, ..job }),
            Next::Again => {
                self.machines[node].agent.running = Some(job);
                return false;
            }
            Next::Beside => {}
            Next::Done | Next::Refused => self.outcome(node, &job.command),
        }
        true
    }

    /// The agent counts a server that it has not looked at since it started as none.
    pub(crate) fn takes_unseen_for_none(&self, node: Node) -> bool {
        self.mutant == Some(Mutant::UnseenIsNone) && !self.machines[node].agent.told
    }

    fn remembered(&self, node: Node) -> (u32, u64) {
        let memory = &self.machines[node].disk.memory;
        (memory.volume, memory.term)
    }

    fn store_fence(&mut self, node: Node, term: u64) -> Next {
        let memory = &mut self.machines[node].disk.memory;
        (memory.fenced, memory.promoted) = (Some(term), None);
        Next::Done
    }

    fn kill(&mut self, node: Node) -> Next {
        if self.mutant == Some(Mutant::FenceBySigterm) {
            self.sigterm(node);
        } else {
            self.crash(node);
        }
        Next::Stage(9)
    }

    fn fence(&mut self, node: Node, job: &Job, orderly: bool, beside_clone: bool) -> Next {
        let (term, now) = (job.command.term, self.now);
        let over = now.saturating_sub(job.began) >= if orderly { ORDERLY } else { DOUBTFUL };
        let memory = &self.machines[node].disk.memory;
        let already = memory.fenced.is_some();
        let led = memory.promoted.as_ref().is_some_and(|it| it.term == term);
        if led && self.mutant != Some(Mutant::PromotedTwice) {
            return Next::Refused;
        }
        if beside_clone && self.mutant != Some(Mutant::FenceBesideClone) {
            // The clone may not have come to stop the receiver yet.
            self.stop_receiver(node);
        }
        if beside_clone || self.mutant == Some(Mutant::FenceOnlyReported) || self.takes_unseen_for_none(node)
        {
            return self.store_fence(node, term);
        }
        let damaged = self.machines[node].disk.damaged;
        let Some(server) = &mut self.machines[node].server else {
            return if job.stage == 9 && damaged {
                Next::Refused
            } else if job.stage == 9 && !self.machines[node].is_held() {
                Next::Again
            } else {
                self.store_fence(node, term)
            };
        };
        if server.frozen.is_some() {
            return self.kill(node);
        }
        match job.stage {
            0 if !server.read_only && orderly => {
                server.closing = true;
                Next::Stage(1)
            }
            0 if !server.read_only => {
                self.say(node, Statement::OfflineOn);
                Next::Stage(2)
            }
            0 if server.source_on && !already => self.kill(node),
            0 if self.mutant == Some(Mutant::FenceLeavesReceiver) => self.store_fence(node, term),
            0 => {
                self.say(node, Statement::ReplicaEnabled(false));
                Next::Stage(5)
            }
            1 if server.waiting.is_empty() => {
                self.say(node, Statement::ReadOnlyOn);
                self.say(node, Statement::OfflineOn);
                Next::Stage(3)
            }
            1 if over => {
                server.closing = false;
                self.say(node, Statement::OfflineOn);
                Next::Stage(2)
            }
            2 if server.waiting.is_empty() => {
                self.say(node, Statement::ReadOnlyOn);
                Next::Stage(3)
            }
            2 if over => self.kill(node),
            1 | 2 => Next::Again,
            3 if server.waiting.is_empty() => {
                // Nothing waits inside, so there is nothing to cut off.
                self.machines[node].disk.hold.clear();
                self.store_fence(node, term)
            }
            3 => self.kill(node),
            5 => {
                self.stop_receiver(node);
                Next::Stage(6)
            }
            9 if !server.read_only || server.source_on || server.replica_on => Next::Refused,
            _ => self.store_fence(node, term),
        }
    }

    fn drain(&mut self, node: Node) -> Next {
        let machine = &mut self.machines[node];
        let empty = machine.disk.relay.is_empty();
        let Some(server) = machine.awake_mut() else {
            return Next::Refused;
        };
        if empty {
            return Next::Done;
        }
        if server.applier {
            return Next::Again;
        }
        self.say(node, Statement::StartApplier);
        Next::Stage(1)
    }

    fn promote(&mut self, node: Node, job: &Job, acks: u32, requires: &GtidSet) -> Next {
        let term = job.command.term;
        let executed = self.ledger.gtids(&self.machines[node].executed());
        let undrained = self.mutant == Some(Mutant::PromoteUndrained);
        let late_source = self.mutant == Some(Mutant::SourceAfterWritable);
        let early_open = self.mutant == Some(Mutant::OpenedBeforeDurable);
        let early_source = self.mutant == Some(Mutant::SourceBeforeDrained);
        let machine = &mut self.machines[node];
        let relay = machine.disk.relay.is_empty() || undrained;
        let memory = &mut machine.disk.memory;
        let Some(server) = machine.server.as_mut().filter(|server| server.frozen.is_none()) else {
            return Next::Refused;
        };
        match job.stage {
            0 => {
                let now = memory
                    .promoted
                    .as_ref()
                    .is_some_and(|it| it.term == term && it.server == server.life)
                    && memory.fenced.is_none();
                if now && !server.read_only && !server.offline {
                    (server.source_on, server.acks) = (acks > 0, acks);
                    self.hold_after_end(node, acks);
                    self.settle(node);
                    return Next::Done;
                }
                if memory.fenced != Some(term) && !now {
                    return Next::Refused;
                }
                if early_source && !relay {
                    self.say(node, Statement::SourceOn { acks });
                    self.say(node, Statement::StartApplier);
                    return Next::Again;
                }
                if !(executed.contains(requires) || undrained) || !relay || server.receiver {
                    return Next::Refused;
                }
                Next::Stage(1)
            }
            1 => {
                self.say(node, Statement::StopApplier);
                self.hold_after_end(node, acks);
                Next::Stage(if early_open { 3 } else { 2 })
            }
            2 => {
                // One that goes on may be asked for fewer acknowledgements than the fences were counted for.
                let goes_on = memory.promoted.as_ref().is_some_and(|it| it.term == term);
                memory.promoted = Some(Promoted {
                    term,
                    server: server.life,
                });
                (memory.fenced, memory.followed) = (None, None);
                if !goes_on {
                    self.on_promoted(node, term);
                }
                if early_open {
                    self.on_opened(node);
                    return Next::Done;
                }
                Next::Stage(if late_source { 4 } else { 3 })
            }
            3 => {
                self.say(node, Statement::ResetReplica);
                self.say(node, Statement::ReplicaEnabled(false));
                self.say(node, Statement::SourceOn { acks });
                if late_source { Next::Done } else { Next::Stage(4) }
            }
            4 => {
                self.say(node, Statement::ReadOnlyOff);
                self.on_opened(node);
                Next::Stage(5)
            }
            _ => {
                self.say(node, Statement::OfflineOff);
                self.on_readable(node);
                match (late_source, early_open) {
                    (true, _) => Next::Stage(3),
                    (_, true) => Next::Stage(2),
                    _ => Next::Done,
                }
            }
        }
    }

    /// Semi-sync as a source goes off, if nothing can wait for it.
    pub(crate) fn retire_source(&mut self, node: Node) -> bool {
        let machine = &mut self.machines[node];
        let fenced = machine.disk.memory.fenced.is_some();
        let Some(server) = machine.awake_mut() else {
            return false;
        };
        if !server.read_only || (server.source_on && (!fenced || !server.waiting.is_empty())) {
            return false;
        }
        self.say(node, Statement::SourceOff)
    }

    fn follow(&mut self, node: Node, job: &Job, source: Node, until: &GtidSet, whole: bool) -> Next {
        let throws_away = self.mutant == Some(Mutant::RelayThrownAway);
        if job.stage == 0 {
            if !self.retire_source(node) {
                return Next::Refused;
            }
            return Next::Stage(if self.machines[node].disk.channel == Some(source) {
                3
            } else {
                1
            });
        }
        if job.stage == 1
            || (job.stage == 3
                && self.machines[node]
                    .server
                    .as_ref()
                    .is_some_and(|it| it.receiver && !it.replica_on))
        {
            self.stop_receiver(node);
        }
        let asked = self.logged_by(source, node);
        let machine = &mut self.machines[node];
        let Some(server) = machine.server.as_mut().filter(|server| server.frozen.is_none()) else {
            return Next::Refused;
        };
        match job.stage {
            1 => {
                self.say(node, Statement::ReplicaEnabled(false));
                Next::Stage(2)
            }
            2 if machine.disk.relay.is_empty() || throws_away => {
                self.say(node, Statement::StopApplier);
                self.say(node, Statement::ChangeSource { source });
                Next::Stage(3)
            }
            2 => {
                self.say(node, Statement::StartApplier);
                Next::Again
            }
            3 => {
                self.say(node, Statement::ReplicaEnabled(true));
                Next::Stage(4)
            }
            4 => {
                let until = match asked {
                    _ if whole => until.clone(),
                    Some(logged) => until.union(&logged),
                    None => return Next::Refused,
                };
                let followed = Followed {
                    term: job.command.term,
                    source,
                    until,
                    server: server.life,
                };
                let memory = &mut machine.disk.memory;
                (memory.followed, memory.promoted, memory.fenced) = (Some(followed), None, None);
                Next::Stage(5)
            }
            _ => {
                self.say(node, Statement::StartReceiver);
                self.say(node, Statement::StartApplier);
                self.on_follow(node, source, job.command.term);
                Next::Done
            }
        }
    }

    /// A master that waits for acknowledgements is kept down after it was killed.
    fn hold_after_end(&mut self, node: Node, acks: u32) {
        let disk = &mut self.machines[node].disk;
        if acks > 0 && self.holds {
            disk.hold.set();
        } else {
            disk.hold.clear();
        }
    }

    /// What the log of a killed master holds beyond `keep` is cut off, and its server gets another name and starts. What
    /// cannot or may not be cut stays.
    fn cut(&mut self, node: Node, job: &Job, keep: &GtidSet) -> Next {
        if !self.machines[node].is_held() {
            return Next::Refused;
        }
        let disk = &self.machines[node].disk;
        let kept = |txn: &Txn| keep.contains(&self.ledger.gtids(&std::iter::once(*txn).collect()));
        let at = disk.binlog.iter().position(|txn| !kept(txn));
        let tail: Vec<Txn> = disk.binlog[at.unwrap_or(disk.binlog.len())..].to_vec();
        // The whole of it must be beyond what is kept. A follower may have acknowledged what was committed since `keep`
        // was told.
        let follows = disk.memory.followed.is_some() && self.mutant != Some(Mutant::CutFollower);
        if tail.is_empty() || tail.iter().any(kept) || follows {
            self.start_held(node);
            return Next::Done;
        }
        if job.stage == 0 && self.mutant != Some(Mutant::CutKeepsName) {
            // Durable before the log is touched.
            self.volumes += 1;
            self.machines[node].disk.uuid = self.volumes;
            return Next::Stage(1);
        }
        self.on_cut(node, &tail);
        let disk = &mut self.machines[node].disk;
        for txn in &tail {
            disk.log.remove(*txn);
        }
        disk.binlog.truncate(disk.binlog.len() - tail.len());
        self.start_held(node);
        Next::Done
    }

    /// What mysqld cannot run on is thrown away; term and fence stay.
    fn discard(&mut self, node: Node) -> Next {
        let damaged = self.machines[node].disk.damaged;
        if !damaged && self.mutant != Some(Mutant::DiscardUnchecked) {
            return Next::Refused;
        }
        self.require(damaged, Invariant::LastCopyKept, |_| {
            format!("db-{node} throws data away that mysqld can run on")
        });
        self.crash(node);
        self.on_overwrite(node);
        let memory = self.machines[node].disk.memory.clone();
        self.wipe(node);
        let renewed = &mut self.machines[node].disk.memory;
        (renewed.term, renewed.fenced) = (memory.term, memory.fenced);
        Next::Done
    }

    /// The agent's process ends; what it kept in memory only is gone.
    pub(crate) fn kill_agent(&mut self, node: Node) -> bool {
        let before = self.remembered(node);
        let machine = &mut self.machines[node];
        if !machine.agent.up {
            return false;
        }
        // A statement under way ends with its connection; a clone is broken off half-way and its server ends.
        let half = machine.agent.copies();
        machine.agent = crate::machine::Agent::default();
        if let Some(server) = &mut machine.server {
            server.closing = false;
        }
        let forgets_term = self.mutant == Some(Mutant::TermNotDurable);
        let forgets_fence = self.mutant == Some(Mutant::FenceNotDurable);
        let memory = &mut machine.disk.memory;
        if forgets_term {
            memory.term = 0;
        }
        let fence = memory.fenced;
        if forgets_fence {
            memory.fenced = None;
        }
        let kept = memory.fenced == fence;
        self.require(kept, Invariant::FenceStays, |_| {
            format!("db-{node} forgets its fence of term {fence:?} when its agent restarts")
        });
        self.on_remembered(node, before);
        if half {
            self.crash(node);
        }
        self.break_sessions(node);
        true
    }

    /// Lets readers into a slave that has caught up.
    pub(crate) fn open_slave(&mut self, node: Node) -> bool {
        let executed = self.machines[node].executed();
        let machine = &self.machines[node];
        let memory = &machine.disk.memory;
        let (Some(server), Some(followed)) = (machine.awake(), &memory.followed) else {
            return false;
        };
        let slave =
            memory.fenced.is_none() && machine.agent.cloning.is_none() && followed.server == server.life;
        let ready = machine.agent.up
            && !machine.agent.frozen
            && slave
            && server.offline
            && server.read_only
            && machine.disk.channel.is_some();
        if !ready || !self.ledger.gtids(&executed).contains(&followed.until) {
            return false;
        }
        self.say(node, Statement::OfflineOff)
    }
}

/// What overtakes ends everything but a fence that is as good.
fn overtakes(running: Option<&Job>, new: &Order) -> bool {
    match running.map(|job| &job.command.order) {
        Some(Order::Fence { orderly }) => *orderly && matches!(new, Order::Fence { orderly: false }),
        Some(_) => true,
        None => false,
    }
}
