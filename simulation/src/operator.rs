//! The operator: what it caches and hears, what it asks the engine, and how it starts what was planned, as
//! `operator/src/cluster` and `operator/src/executor` do. It makes no choice of its own.

use std::collections::{BTreeMap, VecDeque};

use failover::{
    Action, Durability, ErrantPolicy, Force, Millis, NodeReport, NodeView, Observed, Pod as PodView, Policy,
    Record, Service, Session, State, Switchover, Term, Wish,
};

use crate::{
    apiserver::{Answer, Asked, Leads, Patch, Pod, Request, UnderWay, Wished},
    event::{Node, Op},
    ledger::index,
    machine::{Command, Order, address, name},
    mutant::Mutant,
    world::{NODES, Wire, World},
};

/// A session that is silent for so long is given up.
const IDLE_LIMIT: Millis = 2500;
/// So long an outcome is waited for.
const PATIENCE: Millis = 3000;

/// What makes two actions the same: the kind, the node, the term.
pub type Key = (&'static str, Node, u64);

/// What a node sends.
#[derive(Debug, Clone, PartialEq, Hash)]
pub enum Message {
    /// Its report.
    Report(Box<NodeReport>),
    /// The end of a command.
    Outcome(Key),
}

/// The session with one node.
#[derive(Debug, Clone, Hash)]
pub struct Link {
    /// It is open at both ends.
    pub alive: bool,
    /// The pod at the other end.
    pub pod: u32,
    /// As the engine is told.
    pub session: Session,
    /// The newest report.
    pub report: Option<NodeReport>,
    /// What is on its way.
    pub inbox: VecDeque<Message>,
}

/// One operator.
#[derive(Debug, Clone, Hash)]
pub struct Operator {
    /// It runs.
    pub up: bool,
    /// Counts its lives.
    pub life: u32,
    /// The engine's memory.
    pub state: State,
    /// The record as last read or written; none before.
    pub record: Option<Record>,
    /// The wish as last read.
    pub wish: Option<Node>,
    /// What else people ask for, as last read.
    pub wished: Asked,
    /// `spec.nodes` as last read.
    pub nodes: u32,
    /// The pods as last read; none before.
    pub pods: Option<[Option<Pod>; NODES]>,
    /// Where the master's Service led when it was last read.
    pub service: Leads,
    /// The sessions.
    pub links: [Link; NODES],
    /// What runs, and until when it is waited for.
    pub flight: BTreeMap<Key, Millis>,
    /// Answers of the API server on their way.
    pub answers: VecDeque<Answer>,
    /// Counts the requests; an answer to one that was given up is told apart by it.
    pub asked: u64,
    /// A record was written with unknown outcome: the resource is read before the next look.
    pub unclear: bool,
}

impl Operator {
    /// One that was just started, or is not.
    pub fn new(up: bool, life: u32) -> Self {
        let link = Link {
            alive: false,
            pod: 0,
            session: Session::Never,
            report: None,
            inbox: VecDeque::new(),
        };
        Self {
            up,
            life,
            state: State::default(),
            record: None,
            wish: None,
            wished: Asked::default(),
            nodes: 0,
            pods: None,
            service: Leads::default(),
            links: std::array::from_fn(|_| link.clone()),
            flight: BTreeMap::new(),
            answers: VecDeque::new(),
            asked: 0,
            unclear: false,
        }
    }

    pub(crate) fn runs(&self, key: Key) -> bool {
        self.flight.contains_key(&key)
    }

    pub(crate) fn end(&mut self, key: Key) {
        self.flight.remove(&key);
    }

    pub(crate) fn broke(&mut self, node: Node, now: Millis) {
        let link = &mut self.links[node];
        link.alive = false;
        link.inbox.clear();
        if let Session::Open { .. } = link.session {
            link.session = Session::Broken { since: now };
        }
        self.flight.retain(|(kind, at, _), _| {
            *at != node
                || matches!(
                    *kind,
                    "unlabel"
                        | "withdraw"
                        | "lead"
                        | "route"
                        | "record"
                        | "answer"
                        | "answer-force"
                        | "answer-resync"
                )
        });
    }

    fn take_record(&mut self, record: Record, wish: Option<Node>, asked: Asked, nodes: u32, beside: State) {
        if self.runs(RECORD) {
            // Held back: a record in it might be the very one that is being written.
            return;
        }
        if self.record.as_ref().is_some_and(|known| *known != record) {
            self.state = if self.state.asked_for(record.term) {
                State::default()
            } else {
                beside
            };
        }
        (self.record, self.wish, self.nodes, self.unclear) = (Some(record), wish, nodes, false);
        self.wished = asked;
    }
}

const RECORD: Key = ("record", 0, 0);

fn answer_key(wish: Wish) -> Key {
    match wish {
        Wish::Promote => ("answer", 0, 0),
        Wish::Force => ("answer-force", 0, 0),
        Wish::Resync => ("answer-resync", 0, 0),
    }
}

fn key_of(action: &Action) -> Key {
    let node = action.node().map_or(0, index);
    match action {
        Action::Record { .. } => RECORD,
        Action::Answer { wish, .. } => answer_key(*wish),
        Action::Unlabel { term, .. } => ("unlabel", node, term.0),
        Action::Fence { term, .. } => ("fence", node, term.0),
        Action::Drain { term, .. } => ("drain", node, term.0),
        Action::Promote { term, .. } => ("promote", node, term.0),
        Action::Withdraw { term, .. } => ("withdraw", 0, term.0),
        Action::Lead { term, .. } => ("lead", node, term.0),
        Action::Route { term, .. } => ("route", node, term.0),
        Action::Follow { term, .. } => ("follow", node, term.0),
        Action::Clone { term, .. } => ("clone", node, term.0),
        Action::Discard { term, .. } => ("discard", node, term.0),
        Action::Cut { term, .. } => ("cut", node, term.0),
        // Not modelled: an agent ends without waiting to be relieved.
        Action::Release { term, .. } => ("release", node, term.0),
    }
}

pub(crate) fn kind_of(order: &Order) -> &'static str {
    match order {
        Order::Fence { .. } => "fence",
        Order::Drain => "drain",
        Order::Promote { .. } => "promote",
        Order::Follow { .. } => "follow",
        Order::Clone { .. } => "clone",
        Order::Discard => "discard",
        Order::Cut { .. } => "cut",
    }
}

/// A late term leads nobody; what is so already is not asked for again.
fn lead(to: Leads, seen: Leads) -> Option<Request> {
    (seen != to && seen.1 <= to.1).then_some(Request::Lead { to, seen })
}

impl World {
    /// The operator looks: engine, then everything that is not running yet is started.
    pub(crate) fn look(&mut self, op: Op) -> bool {
        let now = self.now;
        self.mend(op);
        let operator = &mut self.operators[op];
        if !operator.up || operator.unclear || operator.record.is_none() || operator.pods.is_none() {
            return false;
        }
        let policy = Policy {
            automatic: true,
            paused: operator.wished.paused,
            durability: if self.available {
                Durability::Available
            } else {
                Durability::Strict
            },
            detect_after: 1000,
            switchover_deadline: 5000,
            nodes: operator.nodes,
            replay: 30,
            errant: if self.quarantine {
                ErrantPolicy::Quarantine
            } else {
                ErrantPolicy::Repair
            },
        };
        let Some(mut observed) = self.observe(op) else {
            return false;
        };
        let mut policy = policy;
        if self.mutant == Some(Mutant::EmptyIsNew) && observed.record.term == Term(0) {
            observed.nodes.retain(|_, view| view.server().is_some());
            policy.nodes = 1;
        }
        self.give_words(op);
        self.spoil_observation(&mut observed);
        let state = std::mem::take(&mut self.operators[op].state);
        let (state, mut plan, report) = failover::step(state, &observed, &policy, now);
        self.spoil_plan(&observed, &mut plan);
        self.operators[op].state = state;
        self.verdicts[op] = Some(report);
        for action in plan {
            let action = self.spoil_action(action);
            self.perform(op, action);
        }
        true
    }

    /// Gives up silent sessions and lost waits.
    fn mend(&mut self, op: Op) {
        let now = self.now;
        let operator = &mut self.operators[op];
        for node in 0..NODES {
            let known = operator
                .pods
                .as_ref()
                .and_then(|pods| pods[node].as_ref())
                .map(|pod| pod.uid);
            let link = &operator.links[node];
            let silent =
                matches!(link.session, Session::Open { heard } if now.saturating_sub(heard) > IDLE_LIMIT);
            let other = link.pod != 0 && known.is_some_and(|uid| uid != link.pod);
            if silent || other {
                operator.broke(node, now);
            }
        }
        let before = operator.flight.len();
        let record = operator.runs(RECORD);
        operator.flight.retain(|_, until| *until > now);
        if operator.flight.len() < before && record && !operator.runs(RECORD) {
            operator.unclear = true;
        }
    }

    fn observe(&self, op: Op) -> Option<Observed> {
        let operator = &self.operators[op];
        let pods = operator.pods.as_ref()?;
        let mut nodes = BTreeMap::new();
        for (node, pod) in pods.iter().enumerate() {
            let link = &operator.links[node];
            let open = matches!(link.session, Session::Open { .. });
            if node >= operator.nodes as usize && pod.is_none() && !open {
                continue;
            }
            let pod = pod.as_ref().filter(|pod| !open || pod.uid == link.pod);
            let pod = pod.map_or(PodView::Missing, |pod| PodView::Present {
                address: Some(address(node)),
                deleting: pod.deleting,
                labelled_master: pod.master,
                stamp: Term(pod.stamp),
            });
            nodes.insert(
                name(node),
                NodeView {
                    pod,
                    session: link.session,
                    report: link.report.clone(),
                },
            );
        }
        let switchover = operator.wish.map(|to| Switchover { to: Some(name(to)) });
        let fenced = (0..NODES).filter(|node| operator.wished.fence & (1 << node) != 0);
        let asked = failover::Asked {
            force: operator.wished.force.map(|(to, term)| Force {
                to: name(to),
                term: Some(Term(term)),
            }),
            resync: operator.wished.resync.map(name),
            fence: fenced.map(name).collect(),
            // Waiting only delays what is planned, and the model's time for a switchover is short.
            hurries: true,
        };
        Some(Observed {
            record: operator.record.clone()?,
            nodes,
            switchover,
            asked,
            service: Service {
                to: operator.service.0.map(name),
                term: Term(operator.service.1),
                settles: None,
            },
        })
    }

    fn perform(&mut self, op: Op, action: Action) {
        let key = key_of(&action);
        let now = self.now;
        let operator = &mut self.operators[op];
        if operator.runs(key) {
            return;
        }
        let (life, Some(from), Some(pods)) = (operator.life, &operator.record, &operator.pods) else {
            return;
        };
        let request = match action {
            Action::Record { record, completes: _ } => Some(Request::Record {
                from: Box::new(from.clone()),
                to: Box::new(record),
            }),
            Action::Answer { wish, .. } => {
                let wished = match wish {
                    Wish::Promote => operator.wish.map(Wished::Promote),
                    Wish::Force => operator.wished.force.map(Wished::Force),
                    Wish::Resync => operator.wished.resync.map(Wished::Resync),
                };
                wished.map(|wish| Request::Forget { wish })
            }
            Action::Unlabel { node, term } => pods[index(&node)]
                .as_ref()
                .filter(|seen| seen.stamp <= term.0)
                .map(|seen| Request::Patch {
                    node: index(&node),
                    patch: Patch::Unlabel {
                        term: term.0,
                        seen: seen.clone(),
                    },
                }),
            Action::Withdraw { term, .. } => lead((None, term.0), operator.service),
            Action::Lead { node, term } => lead((Some(index(&node)), term.0), operator.service),
            // The Service first.
            Action::Route { node, .. } if operator.service.0 != Some(index(&node)) => None,
            Action::Route { node, term } => pods[index(&node)].as_ref().map(|pod| Request::Patch {
                node: index(&node),
                patch: Patch::Master {
                    uid: pod.uid,
                    term: term.0,
                },
            }),
            command => return self.command(op, command),
        };
        if let Some(request) = request {
            operator.flight.insert(key, now + PATIENCE);
            if key == RECORD {
                operator.asked += 1;
            }
            let number = operator.asked;
            self.requests.push(UnderWay {
                op,
                life,
                number,
                request,
            });
        }
    }

    fn command(&mut self, op: Op, action: Action) {
        let key = key_of(&action);
        let now = self.now;
        let operator = &mut self.operators[op];
        let (node, order, term) = match action {
            Action::Fence { node, term, orderly } => (node, Order::Fence { orderly }, term),
            Action::Drain { node, term } => (node, Order::Drain, term),
            Action::Promote {
                node,
                term,
                acks,
                requires,
            } => (node, Order::Promote { acks, requires }, term),
            Action::Follow {
                node,
                term,
                source,
                until,
                whole,
                ..
            } => (
                node,
                Order::Follow {
                    source: index(&source),
                    until,
                    whole,
                },
                term,
            ),
            Action::Clone {
                node,
                term,
                donor,
                extra,
                ..
            } => (
                node,
                Order::Clone {
                    donor: index(&donor),
                    extra,
                },
                term,
            ),
            Action::Discard { node, term, .. } => (node, Order::Discard, term),
            Action::Cut { node, term, keep } => (node, Order::Cut { keep }, term),
            _ => return,
        };
        let node = index(&node);
        let link = &operator.links[node];
        if !link.alive {
            return;
        }
        if matches!(order, Order::Promote { .. }) {
            self.on_promotion_asked(op, node, term.0);
        }
        if matches!(order, Order::Discard) {
            self.on_discard_asked(op, node);
        }
        let operator = &mut self.operators[op];
        let link = &operator.links[node];
        let command = Command {
            from: (op, operator.life),
            term: term.0,
            order,
        };
        let wire = Wire {
            node,
            pod: link.pod,
            command,
            sent: now,
        };
        operator.flight.insert(key, now + PATIENCE);
        self.wires.push(wire);
    }

    /// What an operator goes on with that was outrun.
    fn beside_another(&self) -> State {
        if self.mutant == Some(Mutant::TakenOverAtOnce) {
            State::default()
        } else {
            State::beside_another(self.now)
        }
    }

    /// An answer of the API server arrives.
    pub(crate) fn answer(&mut self, op: Op, lost: bool) -> bool {
        let reaches = self.sends(Self::API, self.actor(op));
        let beside = self.beside_another();
        let operator = &mut self.operators[op];
        if !lost && !reaches {
            return false;
        }
        let Some(answer) = operator.answers.pop_front() else {
            return false;
        };
        if lost {
            return true;
        }
        match answer {
            Answer::Record(record, ours, number) => {
                // An answer that comes after the wait was given up tells nothing that a new reading would not.
                if operator.runs(RECORD) && number == operator.asked {
                    operator.end(RECORD);
                    if !ours {
                        operator.state = beside;
                    }
                    operator.record = Some(*record);
                }
            }
            Answer::Pod(node, pod, patch) => {
                operator.end(match patch {
                    Patch::Unlabel { term, .. } => ("unlabel", node, term),
                    Patch::Master { term, .. } => ("route", node, term),
                });
                if let Some(pods) = &mut operator.pods {
                    let newer = |known: &Pod| {
                        pod.as_ref()
                            .is_none_or(|pod| (pod.uid, pod.version) >= (known.uid, known.version))
                    };
                    if pods[node].as_ref().is_none_or(newer) {
                        pods[node] = pod;
                    }
                }
            }
            Answer::Service(service, (to, term)) => {
                operator.end(to.map_or(("withdraw", 0, term), |node| ("lead", node, term)));
                operator.service = service;
            }
            Answer::Forgotten(wish) => match wish {
                Wished::Promote(_) => {
                    operator.end(answer_key(Wish::Promote));
                    operator.wish = None;
                }
                Wished::Force(_) => {
                    operator.end(answer_key(Wish::Force));
                    operator.wished.force = None;
                }
                Wished::Resync(_) => {
                    operator.end(answer_key(Wish::Resync));
                    operator.wished.resync = None;
                }
            },
        }
        true
    }

    /// The caches take in what is there now.
    pub(crate) fn watch(&mut self, op: Op, pods: bool) -> bool {
        let beside = self.beside_another();
        let operator = &mut self.operators[op];
        if !operator.up || self.cut[Self::API][NODES + op] {
            return false;
        }
        if pods {
            if operator.pods.as_ref() == Some(&self.api.pods) {
                return false;
            }
            operator.pods = Some(self.api.pods.clone());
            operator.service = self.api.service;
        } else {
            let same = operator.record.as_ref() == Some(&self.api.record);
            let wished = operator.wish == self.api.wish && operator.wished == self.api.asked;
            if same && !operator.unclear && wished && operator.nodes == self.api.nodes {
                return false;
            }
            operator.take_record(
                self.api.record.clone(),
                self.api.wish,
                self.api.asked,
                self.api.nodes,
                beside,
            );
        }
        true
    }
}
