//! A scenario in the model. Whatever real servers do by themselves happens after each step, to its end.

use simulation::{
    Event, Mutant, World,
    bits::Txn,
    world::{Beginning, NODES},
};

use crate::scenario::{A, Node, Scenario, Setting, Step};

/// Longer than a receiver bears the silence of its source.
const SILENCE: u64 = 1500;

pub struct Model {
    world: World,
    servers: usize,
    written: Vec<Txn>,
}

impl Model {
    pub fn new(scenario: &Scenario) -> Self {
        let beginning = Beginning {
            nodes: u32::try_from(scenario.servers).unwrap(),
            quarantine: false,
            available: false,
            kept: false,
            holds: true,
        };
        let mutant = scenario.setting.map(|setting| match setting {
            Setting::RelayLogRecovery => Mutant::RelayLogRecovery,
            Setting::ReplicaStartsAtBoot => Mutant::ReplicaStartsAtBoot,
        });
        let mut world = World::new(beginning, mutant);
        assert!(scenario.servers <= NODES);
        for machine in &mut world.machines[..scenario.servers] {
            machine.pod = 1;
        }
        Self {
            world,
            servers: scenario.servers,
            written: Vec::new(),
        }
    }

    /// Lets a step happen; what is seen now, where it is a look.
    pub fn step(&mut self, step: Step) -> Option<String> {
        let world = &mut self.world;
        match step {
            Step::Write => {
                assert!(world.apply(Event::Write { node: A }), "the model takes no write");
                self.written.push(*world.machines[A].disk.binlog.last().unwrap());
            }
            Step::Say(node, statement) => {
                world.say(node, statement);
            }
            Step::Kill(node) => assert!(world.crash(node)),
            Step::Terminate(node) => world.sigterm(node),
            Step::Boot(node) => assert!(world.boot(node)),
            Step::Freeze(node) => {
                assert!(world.apply(Event::Freeze { node }));
                world.apply(Event::Wait { ms: SILENCE });
            }
            Step::Thaw(node) => assert!(world.apply(Event::Thaw { node })),
            Step::Purge(node) => assert!(world.apply(Event::Purge { node })),
            Step::See(_) => return Some(self.see()),
        }
        self.flow();
        None
    }

    fn flow(&mut self) {
        for _ in 0..1000 {
            let mut moved = false;
            for node in 0..self.servers {
                for event in [
                    Event::Attach { node },
                    Event::Ship { node },
                    Event::Ack { node },
                    Event::Apply { node },
                ] {
                    moved |= self.world.apply(event);
                }
                let closing = self.world.machines[node].awake().is_some_and(|it| it.closing);
                moved |= closing && self.world.say(node, simulation::Statement::ReadOnlyOn);
            }
            if !moved {
                return;
            }
        }
        panic!("the model never comes to rest");
    }

    fn see(&self) -> String {
        let clients: Vec<&str> = self.written.iter().map(|txn| self.client(*txn)).collect();
        let mut line = clients.join(", ");
        for node in 0..self.servers {
            line += &[" | ", ["a", "b", "c"][node], " ", &self.server(node)].concat();
        }
        line
    }

    fn client(&self, txn: Txn) -> &'static str {
        let waits =
            |server: &simulation::machine::Server| server.waiting.iter().any(|it| it.txn == txn && it.heard);
        if self.world.ledger.acknowledged.has(txn) {
            "ok"
        } else if self.world.machines[A].server.as_ref().is_some_and(waits) {
            "waits"
        } else {
            "error"
        }
    }

    fn server(&self, node: Node) -> String {
        let machine = &self.world.machines[node];
        let Some(server) = &machine.server else {
            return "-".to_owned();
        };
        if server.frozen.is_some() {
            return "~".to_owned();
        }
        let executed = machine.executed().iter().count();
        if node == A {
            let closing = if server.closing { " closing" } else { "" };
            return format!("{executed}{closing}");
        }
        let link = match (server.connected, server.receiver_failed) {
            (true, _) => "",
            (false, true) => " stopped",
            (false, false) => " apart",
        };
        format!("{executed}+{}{link}", machine.disk.relay.len())
    }
}
