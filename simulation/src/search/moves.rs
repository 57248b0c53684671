//! The moves of a search: which there are in a state, and what each does.

use serde::Serialize;

use super::{Budget, Scope};
use crate::{
    event::{Event, Node, Op},
    machine::Order,
    operator::Message,
    world::{NODES, OPERATORS, World},
};

/// So many statements one move of an agent has at most.
const STATEMENTS: usize = 16;

/// What one party does in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Move {
    /// The operator looks. The first has taken in all that reaches it; the second does so now.
    Look(Op),
    /// The second operator looks with what it knows.
    Blind(Op),
    /// The API server serves the operator's oldest request.
    Api(Op),
    /// The agent takes its commands and carries them out.
    Agent(Node),
    /// The agent takes its next command or carries out one statement.
    Statement(Node),
    /// The receiver connects and gets all there is.
    Receive(Node),
    /// All acknowledgements of the node arrive.
    Acknowledge(Node),
    /// The clone into the node goes on by a stage.
    Copy(Node),
    /// The supervisor starts mysqld; one that it keeps down, because the agent has waited for long enough.
    Boot(Node),
    /// A client writes to the node.
    Write(Node),
    /// So little time passes that only waiting commits are given up.
    Moment,
    /// So much time passes that silence becomes evidence.
    Silence,
    /// Whatever was cut off is reached again, whatever stood still goes on.
    Mend,
    /// mysqld dies: one fault.
    Kill(Node),
    /// The agent dies and starts again: one fault.
    Restart(Node),
    /// Nobody reaches the node any more: one fault.
    Isolate(Node),
    /// The node stands still, with all that runs on it: one fault.
    Freeze(Node),
    /// The operator begins with an empty memory: one fault.
    Forget(Op),
    /// All commands on their way to the node are lost: one fault.
    LoseCommands(Node),
    /// The oldest command on its way to the node arrives, and will once more: one fault.
    Repeat(Node),
    /// The operator's oldest request is lost: one fault.
    LoseRequest(Op),
    /// The operator's oldest request is overtaken by all others: one fault.
    Late(Op),
    /// The operator's oldest request is served and the answer lost: one fault.
    LoseAnswer(Op),
}

impl Move {
    /// True for what may happen as often as the budget has faults.
    pub(super) fn is_fault(self) -> bool {
        matches!(
            self,
            Self::Kill(_)
                | Self::Restart(_)
                | Self::Isolate(_)
                | Self::Freeze(_)
                | Self::Forget(_)
                | Self::LoseCommands(_)
                | Self::Repeat(_)
                | Self::LoseRequest(_)
                | Self::Late(_)
                | Self::LoseAnswer(_)
        )
    }
}

/// The moves that may change something in this state.
pub(super) fn possible(world: &World, scope: &Scope, left: Budget) -> Vec<Move> {
    let mut all = Vec::new();
    let still = world.machines.iter().any(|it| it.agent.frozen);
    if still || world.cut.iter().flatten().any(|cut| *cut) {
        // The last that is tried of the beginning, so that a search that is broken off has seen more of what was cut off or
        // stands still than its end.
        all.push(Move::Mend);
    }
    for op in (0..OPERATORS).filter(|op| world.operators[*op].up) {
        operator_moves(world, op, left, &mut all);
    }
    for node in (0..NODES).filter(|node| world.machines[*node].pod != 0) {
        node_moves(world, node, scope, left, &mut all);
    }
    if left.silences > 0 {
        all.push(Move::Silence);
    }
    all
}

fn operator_moves(world: &World, op: Op, left: Budget, all: &mut Vec<Move>) {
    let operator = &world.operators[op];
    let asks = world.requests.iter().filter(|it| it.op == op).count();
    if op == 0 {
        all.push(Move::Look(op));
    } else if left.second > 0 {
        all.extend([Move::Blind(op), Move::Look(op)]);
    }
    if asks > 0 {
        all.push(Move::Api(op));
    }
    if left.faults == 0 {
        return;
    }
    all.push(Move::Forget(op));
    if asks > 0 {
        all.push(Move::LoseRequest(op));
    }
    if asks > 0 && operator.answers.is_empty() {
        all.push(Move::LoseAnswer(op));
    }
    if world.requests.len() > 1 && asks > 0 {
        all.push(Move::Late(op));
    }
}

fn node_moves(world: &World, node: Node, scope: &Scope, left: Budget, all: &mut Vec<Move>) {
    let machine = &world.machines[node];
    let agent = &machine.agent;
    let told = world.wires.iter().any(|wire| wire.node == node);
    if told || agent.running.is_some() || !agent.queue.is_empty() {
        all.push(if scope.fine {
            Move::Statement(node)
        } else {
            Move::Agent(node)
        });
        if scope.fine && left.silences > 0 && agent.running.is_some() {
            all.push(Move::Moment);
        }
    }
    if agent.cloning.is_some() {
        all.push(Move::Copy(node));
    }
    if !machine.sent.is_empty() {
        all.push(Move::Acknowledge(node));
    }
    match machine.awake() {
        Some(server) => {
            all.extend(server.receiver.then_some(Move::Receive(node)));
            let open = !server.read_only && !server.offline && left.writes > 0;
            all.extend(open.then_some(Move::Write(node)));
        }
        None => all.push(Move::Boot(node)),
    }
    if left.faults > 0 {
        node_faults(world, node, all);
    }
}

fn node_faults(world: &World, node: Node, all: &mut Vec<Move>) {
    let machine = &world.machines[node];
    if machine.server.is_some() {
        all.push(Move::Kill(node));
    }
    if machine.agent.up {
        all.push(Move::Restart(node));
    }
    if !machine.agent.frozen {
        all.push(Move::Freeze(node));
    }
    if !world.cut[node][World::API] {
        all.push(Move::Isolate(node));
    }
    if world.wires.iter().any(|wire| wire.node == node) {
        all.extend([Move::LoseCommands(node), Move::Repeat(node)]);
    }
}

/// Makes the move; false where it cannot be made.
pub(super) fn make(world: &mut World, step: Move) -> bool {
    let did = carry_out(world, step);
    if did {
        hear(world, 0);
        forget_superseded(world);
        // Only people read them.
        world.verdicts = Default::default();
    }
    did
}

fn carry_out(world: &mut World, step: Move) -> bool {
    match step {
        Move::Look(op) => {
            hear(world, op);
            world.apply(Event::Look { op })
        }
        Move::Blind(op) => world.apply(Event::Look { op }),
        Move::Api(op) => request(world, op).is_some_and(|nth| world.apply(Event::Api { nth })),
        Move::Agent(node) => agent(world, node),
        Move::Statement(node) => statement(world, node),
        Move::Receive(node) => world.apply(Event::Attach { node }) | all(world, Event::Ship { node }),
        Move::Acknowledge(node) => all(world, Event::Ack { node }),
        Move::Copy(node) => world.apply(Event::Copy { node }),
        Move::Boot(node) => world.apply(Event::Boot { node }) || world.apply(Event::Uncut { node }),
        Move::Write(node) => world.apply(Event::Write { node }),
        Move::Moment => world.apply(Event::Wait { ms: 60 }),
        Move::Silence => world.apply(Event::Wait { ms: 1500 }),
        Move::Mend => mend(world),
        fault => suffer(world, fault),
    }
}

fn suffer(world: &mut World, fault: Move) -> bool {
    match fault {
        Move::Kill(node) => world.apply(Event::KillServer { node }),
        Move::Restart(node) => {
            world.apply(Event::KillAgent { node }) && world.apply(Event::StartAgent { node })
        }
        Move::Isolate(node) => isolate(world, node),
        Move::Freeze(node) => world.apply(Event::Freeze { node }) | world.apply(Event::FreezeAgent { node }),
        Move::Forget(op) => {
            world.apply(Event::KillOperator { op }) && world.apply(Event::StartOperator { op })
        }
        Move::LoseCommands(node) => all(world, Event::LoseCommand { node, nth: 0 }),
        Move::Repeat(node) => world.apply(Event::Deliver {
            node,
            nth: 0,
            keep: true,
        }),
        Move::LoseRequest(op) => {
            request(world, op).is_some_and(|nth| world.apply(Event::LoseRequest { nth }))
        }
        Move::Late(op) => request(world, op).is_some_and(|nth| {
            let late = world.requests.remove(nth);
            world.requests.push(late);
            true
        }),
        Move::LoseAnswer(op) => {
            request(world, op).is_some_and(|nth| world.apply(Event::Api { nth }))
                && world.apply(Event::LoseAnswer { op })
        }
        _ => false,
    }
}

fn all(world: &mut World, event: Event) -> bool {
    let mut did = false;
    while world.apply(event) {
        did = true;
    }
    did
}

/// The place of the operator's oldest request.
fn request(world: &World, op: Op) -> Option<usize> {
    world.requests.iter().position(|it| it.op == op)
}

/// What was sent to the operator reaches it. Nothing but its next look depends on when it does, so that is at once.
fn hear(world: &mut World, op: Op) {
    all(world, Event::Answer { op });
    world.apply(Event::WatchPods { op });
    world.apply(Event::WatchResource { op });
    for node in 0..NODES {
        if world.machines[node].pod == 0 {
            continue;
        }
        world.apply(Event::Connect { op, node });
        world.apply(Event::Report { node });
        all(world, Event::Hear { op, node });
    }
}

/// The second operator hears of each node's state anew before it uses it.
fn forget_superseded(world: &mut World) {
    for link in &mut world.operators[1].links {
        link.inbox
            .retain(|message| matches!(message, Message::Outcome(_)));
    }
}

fn agent(world: &mut World, node: Node) -> bool {
    let mut did = all(world, deliver(node));
    for _ in 0..STATEMENTS {
        if world.apply(Event::Work { node }) {
            did = true;
            continue;
        }
        // A command that waits is given what it waits for, but for acknowledgements that are given time to arrive.
        let helped = match world.machines[node]
            .agent
            .running
            .as_ref()
            .map(|job| &job.command.order)
        {
            None => false,
            Some(Order::Fence { orderly: true }) => world.apply(Event::Boot { node }),
            Some(_) if world.machines[node].agent.frozen => false,
            Some(_) => {
                world.apply(Event::Apply { node })
                    || world.apply(Event::Boot { node })
                    || world.apply(Event::Wait { ms: 60 })
            }
        };
        if !helped {
            break;
        }
        did = true;
    }
    did | world.apply(Event::Open { node })
}

fn statement(world: &mut World, node: Node) -> bool {
    let agent = &world.machines[node].agent;
    let idle = agent.running.is_none() && agent.queue.is_empty();
    if idle {
        world.apply(deliver(node))
    } else {
        world.apply(Event::Work { node })
    }
}

fn deliver(node: Node) -> Event {
    Event::Deliver {
        node,
        nth: 0,
        keep: false,
    }
}

pub(super) fn isolate(world: &mut World, node: Node) -> bool {
    (0..=World::API).fold(false, |did, other| {
        let from = world.apply(Event::Cut {
            from: node,
            to: other,
        });
        let to = world.apply(Event::Cut {
            from: other,
            to: node,
        });
        did | from | to
    })
}

fn mend(world: &mut World) -> bool {
    world.cut = Default::default();
    for node in 0..NODES {
        world.apply(Event::Thaw { node });
        world.apply(Event::ThawAgent { node });
    }
    true
}
