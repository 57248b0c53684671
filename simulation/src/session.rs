//! The sessions between operators and agents: they open, break, carry reports and outcomes in their order.

use failover::{NodeReport, Session};

use crate::{
    event::{Node, Op},
    machine::Command,
    operator::{Message, kind_of},
    world::World,
};

impl World {
    /// A session is opened; its first message is a report.
    pub(crate) fn connect(&mut self, op: Op, node: Node) -> bool {
        let both = self.sends(self.actor(op), node) && self.sends(node, self.actor(op));
        let machine = &self.machines[node];
        let operator = &self.operators[op];
        let known = operator.pods.as_ref().and_then(|pods| pods[node].as_ref());
        let there =
            machine.agent.up && !machine.agent.frozen && known.is_some_and(|pod| pod.uid == machine.pod);
        if !operator.up || operator.links[node].alive || !both || !there {
            return false;
        }
        let mut report = machine.report(&self.ledger, self.now);
        if self.takes_unseen_for_none(node) {
            report.server = failover::Server::Down { cause: String::new() };
        }
        let pod = machine.pod;
        let link = &mut self.operators[op].links[node];
        (link.alive, link.pod) = (true, pod);
        link.inbox.clear();
        link.inbox.push_back(Message::Report(Box::new(report)));
        true
    }

    /// A session breaks, and its operator notices.
    pub(crate) fn break_session(&mut self, op: Op, node: Node) -> bool {
        let now = self.now;
        let was = self.operators[op].links[node].alive;
        if was {
            self.operators[op].broke(node, now);
        }
        was
    }

    /// The agent is gone: its sessions end, for an operator that cannot be told only after a while.
    pub(crate) fn break_sessions(&mut self, node: Node) {
        for op in 0..self.operators.len() {
            if self.operators[op].links[node].alive {
                if self.sends(node, self.actor(op)) {
                    self.break_session(op, node);
                } else {
                    self.operators[op].links[node].alive = false;
                }
            }
        }
    }

    /// The agent tells all operators how it is.
    pub(crate) fn tell(&mut self, node: Node) -> bool {
        let machine = &self.machines[node];
        if !machine.agent.up || machine.agent.frozen || !self.operators.iter().any(|it| it.links[node].alive)
        {
            return false;
        }
        let report = machine.report(&self.ledger, self.now);
        self.machines[node].agent.told = true;
        for operator in &mut self.operators {
            let link = &mut operator.links[node];
            if link.alive {
                // A newer heartbeat says all that the one before it said.
                if let Some(Message::Report(last)) = link.inbox.back_mut()
                    && link_is_long(&report, last)
                {
                    **last = report.clone();
                } else {
                    link.inbox.push_back(Message::Report(Box::new(report.clone())));
                }
            }
        }
        true
    }

    /// A command has ended; a report that shows its effect goes before the outcome.
    pub(crate) fn outcome(&mut self, node: Node, command: &Command) {
        self.tell(node);
        let (op, life) = command.from;
        let key = (kind_of(&command.order), node, command.term);
        let operator = &mut self.operators[op];
        if operator.life == life && operator.links[node].alive {
            operator.links[node].inbox.push_back(Message::Outcome(key));
        }
    }

    /// The oldest message of a session arrives.
    pub(crate) fn hear(&mut self, op: Op, node: Node) -> bool {
        let (now, reaches) = (self.now, self.sends(node, self.actor(op)));
        let operator = &mut self.operators[op];
        let link = &mut operator.links[node];
        if !reaches {
            return false;
        }
        match link.inbox.pop_front() {
            None => return false,
            Some(Message::Report(report)) => {
                link.session = Session::Open { heard: now };
                link.report = Some(*report);
            }
            Some(Message::Outcome(key)) => operator.end(key),
        }
        true
    }
}

fn link_is_long(new: &NodeReport, old: &NodeReport) -> bool {
    (new.fenced, new.term, &new.volume) == (old.fenced, old.term, &old.volume)
}
