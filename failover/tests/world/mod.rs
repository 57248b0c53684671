//! A small world that carries plans out at once, checks the safety rules at each action, and can be broken.
//!
//! It knows of MySQL only what the engine's arguments show. Time passes by calls of [`World::run`].

#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "a test helper: a panic is its verdict")]

use std::{collections::BTreeMap, ops::Range};

use failover::{
    Action, Applier, Asked, Decision, Durability, ErrantPolicy, Followed, Force, GtidSet, Kind, Millis,
    NodeId, NodeReport, NodeView, Observed, Pod, Policy, Receiver, Record, Report, Role, Server, ServerState,
    Service, Session, State, Switchover, Tail, Term, Wish, record::Change, step,
};

pub struct World {
    pub observed: Observed,
    pub state: State,
    pub policy: Policy,
    pub now: Millis,
    pub changes: Vec<Change>,
    pub answers: Vec<(bool, String)>,
    pub clones: Vec<(NodeId, NodeId)>,
    /// What the binary logs of servers hold that are kept down.
    pub held: BTreeMap<NodeId, GtidSet>,
    pub report: Report,
    /// Actions of these kinds are planned but never carried out.
    pub stuck: Vec<&'static str>,
    /// What the last steps planned, as `Fence b`, in their order.
    pub log: Vec<String>,
}

pub fn uuid(node: &NodeId) -> String {
    let index = node.as_str().bytes().last().unwrap_or(b'0');
    format!("00000000-0000-0000-0000-{index:012}")
}

fn pods(indexes: Range<u32>) -> impl Iterator<Item = (NodeId, NodeView)> {
    indexes.map(|index| (format!("db-{index}").into(), fresh(index)))
}

fn fresh(index: u32) -> NodeView {
    let node = NodeId::from(format!("db-{index}"));
    NodeView {
        pod: Pod::Present {
            address: Some(format!("10.0.0.{index}")),
            deleting: false,
            labelled_master: false,
            stamp: Term(0),
        },
        session: Session::Open { heard: 0 },
        report: Some(NodeReport::new(format!("volume-{index}").into(), empty(&node))),
    }
}

/// A server without data.
fn empty(node: &NodeId) -> Server {
    Server::Up(Box::new(ServerState {
        uuid: uuid(node),
        version: "9.7.4".into(),
        role: Role::Idle,
        executed: GtidSet::new(),
        received: GtidSet::new(),
        purged: GtidSet::new(),
        open: false,
        stuck: None,
    }))
}

impl World {
    /// Nodes `db-0` … that run and are empty, and no record.
    pub fn new(nodes: u32) -> Self {
        Self {
            observed: Observed {
                record: Record::default(),
                nodes: pods(0..nodes).collect(),
                switchover: None,
                service: failover::Service::default(),
                asked: Asked::default(),
            },
            state: State::default(),
            policy: Policy {
                automatic: true,
                paused: false,
                durability: Durability::Strict,
                detect_after: 1000,
                switchover_deadline: 5000,
                nodes,
                replay: 1000,
                errant: ErrantPolicy::Repair,
            },
            now: 0,
            changes: Vec::new(),
            answers: Vec::new(),
            clones: Vec::new(),
            held: BTreeMap::new(),
            report: Report::of(Decision::Starting),
            stuck: Vec::new(),
            log: Vec::new(),
        }
    }

    /// A database that is led by `db-0` in term 1 with `writes` writes on every node.
    pub fn led(nodes: u32, writes: u64) -> Self {
        let mut world = Self::new(nodes);
        world.run(10);
        assert_eq!(world.master(), Some("db-0".into()));
        for _ in 0..writes {
            world.write(&[]);
        }
        world.run(3);
        world
    }

    /// The spec asks for more nodes, and they are there, never used before.
    pub fn grow(&mut self, nodes: u32) {
        self.observed.nodes.extend(pods(self.policy.nodes..nodes));
        self.policy.nodes = nodes;
    }

    pub fn master(&self) -> Option<NodeId> {
        self.observed.record.master.clone()
    }

    pub fn view(&mut self, node: &str) -> &mut NodeView {
        self.observed.nodes.get_mut(&node.into()).unwrap()
    }

    pub fn report_of(&mut self, node: &str) -> &mut NodeReport {
        self.view(node).report.as_mut().unwrap()
    }

    pub fn server(&mut self, node: &str) -> &mut ServerState {
        match &mut self.report_of(node).server {
            Server::Up(state) => state,
            other => panic!("{node} is {other:?}"),
        }
    }

    /// One write that the master and its slaves except `lagging` get.
    pub fn write(&mut self, lagging: &[&str]) -> GtidSet {
        let master = self.master().unwrap();
        let number = self.server(master.as_str()).executed.count() + 1;
        let write = GtidSet::new().with(&uuid(&master), number, number);
        for node in self.observed.nodes.keys().cloned().collect::<Vec<_>>() {
            let follows = |role: &Role| matches!(role, Role::Slave { source, receiver: Receiver::Receiving { .. }, .. } if *source == master);
            if let Some(NodeReport {
                server: Server::Up(state),
                ..
            }) = &mut self.view(node.as_str()).report
                && (node == master || follows(&state.role) && !lagging.contains(&node.as_str()))
            {
                state.executed = state.executed.union(&write);
            }
        }
        write
    }

    /// mysqld of the node ended and has not come back yet.
    pub fn kill(&mut self, node: &str) {
        self.report_of(node).server = Server::Down {
            cause: "killed".into(),
        };
        self.lose_source(node);
    }

    /// mysqld came back after [`World::kill`], fenced, with this set.
    pub fn reboot(&mut self, node: &str, executed: GtidSet) {
        self.report_of(node).server = Server::Up(Box::new(ServerState {
            uuid: uuid(&node.into()),
            version: "9.7.4".into(),
            role: Role::Idle,
            executed,
            received: GtidSet::new(),
            purged: GtidSet::new(),
            open: false,
            stuck: None,
        }));
    }

    /// Nobody reaches the node any more, with or without its slaves.
    pub fn cut(&mut self, node: &str, slaves_too: bool) {
        self.view(node).session = Session::Broken { since: self.now };
        if slaves_too {
            self.lose_source(node);
        }
    }

    fn lose_source(&mut self, lost: &str) {
        for view in self.observed.nodes.values_mut() {
            if let Some(NodeReport {
                server: Server::Up(state),
                ..
            }) = &mut view.report
                && let Role::Slave { source, receiver, .. } = &mut state.role
                && source.as_str() == lost
            {
                *receiver = Receiver::Connecting {
                    error: "lost connection".into(),
                };
            }
        }
    }

    /// The deletion of the pod was asked for.
    pub fn delete_pod(&mut self, node: &str) {
        if let Pod::Present { deleting, .. } = &mut self.view(node).pod {
            *deleting = true;
        }
    }

    pub fn ask(&mut self, to: &str) {
        self.observed.switchover = Some(Switchover { to: Some(to.into()) });
    }

    /// Asks for any other master.
    pub fn ask_for_another(&mut self) {
        self.observed.switchover = Some(Switchover { to: None });
    }

    /// The annotation for a forced promotion, as it was typed.
    pub fn force(&mut self, typed: &str) {
        self.observed.asked.force = Some(Force::parse(typed));
    }

    /// The annotation that keeps nodes closed.
    pub fn fence_by_hand(&mut self, nodes: &[&str]) {
        self.observed.asked.fence = nodes.iter().map(|node| (*node).into()).collect();
    }

    /// Lets `steps` steps of 10 ms pass.
    pub fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.now += 10;
            for view in self.observed.nodes.values_mut() {
                if let Session::Open { heard } = &mut view.session {
                    *heard = self.now;
                }
            }
            let (state, plan, report) = step(self.state.clone(), &self.observed, &self.policy, self.now);
            self.state = state;
            self.report = report;
            for action in plan {
                let of = action.node().map_or("", NodeId::as_str);
                let entry = format!("{} {of}", name(&action)).trim().to_owned();
                if self.stuck.contains(&name(&action)) || self.stuck.contains(&entry.as_str()) {
                    continue;
                }
                self.log.push(entry);
                self.carry_out(action);
            }
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Record { record, completes } => {
                assert!(record.term >= self.observed.record.term, "terms only rise");
                self.observed.record = record;
                self.changes.extend(completes);
            }
            Action::Unlabel { node, term: at } => {
                if let Pod::Present {
                    labelled_master,
                    stamp,
                    ..
                } = &mut self.view(node.as_str()).pod
                {
                    (*labelled_master, *stamp) = (false, at);
                }
            }
            Action::Withdraw { term, .. } => {
                self.observed.service = Service {
                    to: None,
                    term,
                    settles: None,
                }
            }
            Action::Lead { node, term } => {
                self.observed.service = Service {
                    to: Some(node),
                    term,
                    settles: None,
                }
            }
            Action::Route { node, term: at } => self.route(&node, at),
            Action::Fence { node, term, .. } => self.fence(node.as_str(), term),
            Action::Drain { node, .. } => {
                let state = self.server(node.as_str());
                if state.stuck.is_none() {
                    state.executed = state.holds();
                }
            }
            Action::Promote {
                node,
                term,
                acks,
                requires,
            } => self.promote(&node, term, acks, &requires),
            Action::Follow {
                node,
                term,
                source,
                address,
                until,
                whole: _,
            } => {
                self.follow(node.as_str(), term, source, address, &until);
            }
            Action::Cut { node, term, keep } => self.cut_tail(&node, term, &keep),
            Action::Clone {
                node,
                term,
                donor,
                extra,
                ..
            } => self.clone_from(node.as_str(), term, donor, &extra),
            Action::Discard { node, term, .. } => self.discard(&node, term),
            // The agent ends, and its session with it.
            Action::Release { node, .. } => self.cut(node.as_str(), false),
            Action::Answer { wish, done, message } => {
                self.answers.push((done, message));
                match wish {
                    Wish::Promote => self.observed.switchover = None,
                    Wish::Force => self.observed.asked.force = None,
                    Wish::Resync => self.observed.asked.resync = None,
                }
            }
        }
    }

    fn route(&mut self, node: &NodeId, at: Term) {
        if let Pod::Present {
            labelled_master,
            stamp,
            ..
        } = &mut self.view(node.as_str()).pod
        {
            assert_eq!(*stamp, at, "a label is put on a pod by the term of its stamp");
            *labelled_master = true;
        }
        let labelled = |view: &&NodeView| {
            matches!(
                view.pod,
                Pod::Present {
                    labelled_master: true,
                    ..
                }
            )
        };
        assert!(
            self.observed.nodes.values().filter(labelled).count() <= 1,
            "never two pods labelled master"
        );
    }

    fn fence(&mut self, node: &str, term: Term) {
        assert_eq!(
            term, self.observed.record.term,
            "no command before its term is recorded"
        );
        let report = self.report_of(node);
        (report.term, report.fenced) = (term, Some(term));
        if let Server::Up(state) = &mut report.server {
            if matches!(state.role, Role::Master { .. }) {
                state.open = false;
            }
            state.role = Role::Idle;
        }
    }

    fn promote(&mut self, node: &NodeId, at: Term, acks: u32, requires: &GtidSet) {
        let record = self.observed.record.clone();
        if self.view(node.as_str()).leads_in(at) {
            if let Role::Master { acks: in_force, .. } = &mut self.server(node.as_str()).role {
                *in_force = acks;
            }
            return;
        }
        let fenced = record.members.iter().filter(|(name, volume)| {
            let report = self
                .observed
                .nodes
                .get(*name)
                .and_then(|view| view.report.as_ref());
            report.is_some_and(|report| report.fenced == Some(at) && report.volume == **volume)
        });
        let held = fenced
            .clone()
            .filter_map(|(name, _)| Some(self.observed.nodes.get(name)?.server()?.holds()));
        let held: Vec<GtidSet> = held.collect();
        let forced = record
            .intent
            .as_ref()
            .is_some_and(|intent| intent.kind == Kind::Forced);
        if forced {
            let named = record.intent.as_ref().and_then(|intent| intent.to.as_ref());
            assert_eq!(named, Some(node), "only the named node is forced");
            let open = self.observed.nodes.values().filter_map(NodeView::live_report);
            let open: Vec<_> = open.filter(|live| live.fenced != Some(at)).collect();
            assert!(
                open.is_empty(),
                "all that answer are fenced before a forced promotion"
            );
        }
        let rests = record
            .intent
            .as_ref()
            .is_some_and(|intent| intent.kind == Kind::Rest && intent.to.as_ref() == Some(node));
        if rests {
            let own: Vec<&NodeId> = fenced.clone().map(|(name, _)| name).collect();
            assert!(own.contains(&node), "a master rests in a fence of its own");
        }
        assert!(
            forced || rests || fenced.count() >= record.fence_quorum(),
            "fence before promote"
        );
        let other = self
            .observed
            .nodes
            .iter()
            .find(|(name, view)| *name != node && view.leads_in(at));
        assert!(other.is_none(), "a term has one master");
        let state = self.server(node.as_str());
        let contained = held.iter().filter(|held| state.executed.contains(held)).count();
        assert!(
            state.executed.contains(requires) && (forced || rests || contained >= record.fence_quorum()),
            "nothing acknowledged is left behind"
        );
        state.role = Role::Master {
            term: at,
            acks,
            waiting: 0,
        };
        state.open = true;
        let report = self.report_of(node.as_str());
        (report.fenced, report.followed) = (None, None);
    }

    fn follow(&mut self, node: &str, term: Term, source: NodeId, address: String, until: &GtidSet) {
        let theirs = self
            .observed
            .nodes
            .get(&source)
            .unwrap()
            .server()
            .unwrap()
            .executed
            .clone();
        let report = self.report_of(node);
        (report.term, report.fenced) = (term, None);
        report.followed = Some(Followed {
            term,
            source: source.clone(),
        });
        let state = self.server(node);
        assert!(
            !matches!(state.role, Role::Master { .. }),
            "a master is fenced before it follows"
        );
        assert!(
            theirs.contains(&state.executed),
            "only a part of the master's set may follow it"
        );
        state.executed = theirs.union(until);
        let (receiver, applier) = (Receiver::Receiving { age_ms: 0 }, Applier::Running);
        state.role = Role::Slave {
            term,
            source,
            address,
            receiver,
            applier,
            caught_up: true,
        };
        state.open = true;
    }

    /// mysqld of the master ended with `unacknowledged` writes in its log, and is kept down.
    pub fn kill_and_hold(&mut self, node: &str, unacknowledged: &GtidSet) {
        let all = self.server(node).executed.union(unacknowledged);
        self.held.insert(node.into(), all);
        self.kill(node);
        self.report_of(node).tail = Some(Tail::Held);
    }

    /// The node waited in vain, or refused to cut: mysqld starts as it is.
    pub fn start_held(&mut self, node: &str) {
        let all = self.held.remove(&node.into()).unwrap();
        self.report_of(node).tail = None;
        self.reboot(node, all);
    }

    fn cut_tail(&mut self, node: &NodeId, term: Term, keep: &GtidSet) {
        let led = |view: &NodeView| view.leads_in(term) && view.server().unwrap().executed.contains(keep);
        assert!(
            self.observed.nodes.values().any(led),
            "only by the set of a master of this term"
        );
        let all = self.held.remove(node).unwrap();
        let transactions = all.subtract(keep);
        self.reboot(node.as_str(), all.subtract(&transactions));
        let file = String::new();
        self.report_of(node.as_str()).tail = Some(Tail::Cut {
            term,
            transactions,
            file,
        });
    }

    fn discard(&mut self, node: &NodeId, term: Term) {
        let led = self.observed.nodes.values().any(|view| view.leads_in(term));
        assert!(led, "only what a master of this term has may be thrown away");
        let report = self.report_of(node.as_str());
        assert!(report.damaged.is_some(), "only data that is of no use");
        let volume = format!("{}-anew", report.volume.as_str());
        *report = NodeReport {
            term,
            ..NodeReport::new(volume.into(), empty(node))
        };
    }

    /// mysqld of the node dies at each start.
    pub fn damage(&mut self, node: &str) {
        self.kill(node);
        self.report_of(node).damaged = Some("mysqld killed by SIGABRT".into());
    }

    fn clone_from(&mut self, node: &str, term: Term, donor: NodeId, extra: &GtidSet) {
        let theirs = self
            .observed
            .nodes
            .get(&donor)
            .unwrap()
            .server()
            .unwrap()
            .executed
            .clone();
        let holds = self
            .observed
            .nodes
            .get(&node.into())
            .unwrap()
            .server()
            .unwrap()
            .holds();
        assert!(
            theirs.contains(&holds.subtract(extra)),
            "{node} is to give up {extra} of {holds} for {theirs}"
        );
        self.clones.push((node.into(), donor));
        let count = self.clones.len();
        let report = self.report_of(node);
        report.volume = format!("volume-of-clone-{count}").into();
        (report.term, report.followed) = (term, None);
        self.reboot(node, theirs);
    }

    /// Sets of every node, by name.
    pub fn sets(&self) -> BTreeMap<NodeId, GtidSet> {
        let nodes = self.observed.nodes.iter();
        nodes
            .filter_map(|(node, view)| Some((node.clone(), view.server()?.executed.clone())))
            .collect()
    }
}

pub fn name(action: &Action) -> &'static str {
    match action {
        Action::Record { .. } => "Record",
        Action::Unlabel { .. } => "Unlabel",
        Action::Fence { .. } => "Fence",
        Action::Drain { .. } => "Drain",
        Action::Promote { .. } => "Promote",
        Action::Withdraw { .. } => "Withdraw",
        Action::Lead { .. } => "Lead",
        Action::Route { .. } => "Route",
        Action::Follow { .. } => "Follow",
        Action::Cut { .. } => "Cut",
        Action::Clone { .. } => "Clone",
        Action::Discard { .. } => "Discard",
        Action::Release { .. } => "Release",
        Action::Answer { .. } => "Answer",
    }
}
