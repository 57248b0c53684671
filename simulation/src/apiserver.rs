//! The API server: the resource with its record, and the pods. Writes are conditional as the operator makes them, and
//! a request may arrive long after whoever sent it has ended.

use failover::Record;

use crate::{
    event::{Node, Op},
    invariant::Invariant,
    ledger::RecordNote,
    mutant::Mutant,
    world::{NODES, World},
};

/// A pod object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pod {
    /// Its identity.
    pub uid: u32,
    /// Its deletion was asked for.
    pub deleting: bool,
    /// It carries `role=master`.
    pub master: bool,
    /// The term that stamped it.
    pub stamp: u64,
    /// Changes with every write.
    pub version: u32,
}

/// What people ask for beside another master.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Asked {
    /// This node by force, with the term that was typed.
    pub force: Option<(Node, u64)>,
    /// This node cloned again.
    pub resync: Option<Node>,
    /// These nodes kept closed, a bit each.
    pub fence: u16,
    /// Nothing changed at all.
    pub paused: bool,
}

/// A wish that gets an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wished {
    /// Another master.
    Promote(Node),
    /// A master by force.
    Force((Node, u64)),
    /// A node cloned again.
    Resync(Node),
}

/// Where the master's Service leads, and the term that led it there.
pub type Leads = (Option<Node>, u64);

/// What is stored.
#[derive(Debug, Clone, Default, PartialEq, Hash)]
pub struct Api {
    /// The record in the resource's status.
    pub record: Record,
    /// The wish for a master.
    pub wish: Option<Node>,
    /// What else people ask for.
    pub asked: Asked,
    /// `spec.nodes`.
    pub nodes: u32,
    /// The pods.
    pub pods: [Option<Pod>; NODES],
    /// Where the master's Service leads, and the term that led it there.
    pub service: Leads,
}

/// A change of a pod's label, conditional on what was observed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Patch {
    /// Stamp it and take the label away, if it still is as observed.
    Unlabel {
        /// The new stamp.
        term: u64,
        /// The pod as it was observed.
        seen: Pod,
    },
    /// Put the label, if the stamp is the term.
    Master {
        /// The pod's identity.
        uid: u32,
        /// The term.
        term: u64,
    },
}

/// A request.
#[derive(Debug, Clone, PartialEq, Hash)]
pub enum Request {
    /// Replace `from` by `to`.
    Record {
        /// As it was read.
        from: Box<Record>,
        /// As it is to be.
        to: Box<Record>,
    },
    /// Change a pod.
    Patch {
        /// The pod's name.
        node: Node,
        /// How.
        patch: Patch,
    },
    /// Lead the master's Service, if it still leads where it was seen.
    Lead {
        /// Where, and the term.
        to: Leads,
        /// As it was observed.
        seen: Leads,
    },
    /// Forget the wish, if it is still this one.
    Forget {
        /// The wish.
        wish: Wished,
    },
}

/// A request on its way.
#[derive(Debug, Clone, PartialEq, Hash)]
pub struct UnderWay {
    /// Who asks.
    pub op: Op,
    /// In which life.
    pub life: u32,
    /// The writer's number for it.
    pub number: u64,
    /// What.
    pub request: Request,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Hash)]
pub enum Answer {
    /// The record is now this; true where our write of this number made it so.
    Record(Box<Record>, bool, u64),
    /// The pod is now this, after an attempt to unlabel or to label it.
    Pod(Node, Option<Pod>, Patch),
    /// The Service now leads there, after an attempt of a term to lead it.
    Service(Leads, Leads),
    /// The wish is gone.
    Forgotten(Wished),
}

impl World {
    /// The `nth` request arrives and is carried out.
    pub(crate) fn serve(&mut self, nth: usize) -> bool {
        let Some(it) = self.requests.get(nth) else {
            return false;
        };
        if !self.sends(self.actor(it.op), Self::API) {
            return false;
        }
        let it = self.requests.remove(nth);
        let answer = match it.request {
            Request::Record { from, to } => self.write_record(&from, *to, it.number),
            Request::Patch { node, patch } => {
                self.patch(node, &patch);
                Answer::Pod(node, self.api.pods[node].clone(), patch)
            }
            Request::Lead { to, seen } => {
                if self.api.service == seen {
                    self.api.service = to;
                    if let (Some(node), _) = to {
                        self.on_readable(node);
                    }
                }
                Answer::Service(self.api.service, to)
            }
            Request::Forget { wish } => {
                let api = &mut self.api;
                match wish {
                    Wished::Promote(node) if api.wish == Some(node) => api.wish = None,
                    Wished::Force(typed) if api.asked.force == Some(typed) => api.asked.force = None,
                    Wished::Resync(node) if api.asked.resync == Some(node) => api.asked.resync = None,
                    _ => {}
                }
                Answer::Forgotten(wish)
            }
        };
        if self.operators[it.op].life == it.life {
            self.operators[it.op].answers.push_back(answer);
        }
        true
    }

    fn write_record(&mut self, from: &Record, to: Record, number: u64) -> Answer {
        let blind = self.mutant == Some(Mutant::NoCompareAndSwap);
        if self.api.record != *from && !blind {
            return Answer::Record(Box::new(self.api.record.clone()), false, number);
        }
        let (old, new) = (self.api.record.term, to.term);
        self.require(new >= old, Invariant::TermsOnlyRise, |_| {
            format!("the record goes from term {old} back to {new}")
        });
        if let Some((node, typed)) = forced_by(&to).map(|node| (node, old.0)).filter(|_| new > old) {
            let known = self.ledger.typed.contains(&(node, typed));
            self.require(known, Invariant::ForcedAsTyped, |_| {
                format!("db-{node} is forced after term {typed}, which nobody typed for it")
            });
            self.ledger.forced.insert(new.0, node);
        }
        self.api.record = to;
        self.ledger
            .records
            .insert(new.0, RecordNote::of(&self.api.record));
        Answer::Record(Box::new(self.api.record.clone()), true, number)
    }

    fn patch(&mut self, node: Node, patch: &Patch) {
        let unconditional = self.mutant == Some(Mutant::LabelBeforeUnlabel);
        let Some(pod) = &mut self.api.pods[node] else {
            return;
        };
        match patch {
            Patch::Unlabel { term, seen } => {
                // With stamp and role known the patch tests these, else the version.
                let as_seen = if seen.stamp > 0 && seen.master {
                    pod.stamp == seen.stamp && pod.master
                } else {
                    pod.version == seen.version
                };
                if pod.uid == seen.uid && as_seen && seen.stamp <= *term {
                    (pod.stamp, pod.master) = (*term, false);
                    pod.version += 1;
                }
            }
            Patch::Master { uid, term } => {
                if pod.uid == *uid && (pod.stamp == *term || unconditional) {
                    pod.master = true;
                    pod.version += 1;
                }
            }
        }
        self.on_labels();
    }

    /// The reconcile side, as `operator/src/reconcile/rollout.rs`: makes missing pods, ends those that are too many.
    pub(crate) fn reconcile(&mut self) -> bool {
        let mut did = false;
        let wanted = self.api.nodes as usize;
        // A member that is not asked for any more is made anew until the engine has taken it out of the quorum.
        let counts =
            |world: &Self, node: Node| world.api.record.members.contains_key(&crate::machine::name(node));
        for node in 0..NODES {
            if node >= wanted && !counts(self, node) {
                continue;
            }
            // The volume is free again only when nothing runs on it any more.
            if self.api.pods[node].is_none() && self.machines[node].pod == 0 {
                self.pods_made += 1;
                let uid = self.pods_made;
                self.api.pods[node] = Some(Pod {
                    uid,
                    deleting: false,
                    master: false,
                    stamp: 0,
                    version: 0,
                });
                self.machines[node].pod = uid;
                self.boot(node);
                self.machines[node].agent.up = true;
                did = true;
            }
        }
        let record = &self.api.record;
        if record.size == 0 || record.size as usize > wanted || record.intent.is_some() {
            return did;
        }
        let leads = record.master.clone();
        for node in wanted..NODES {
            let name = crate::machine::name(node);
            let surplus = self.api.pods[node].as_ref().is_some_and(|pod| !pod.deleting);
            let surplus = surplus && !counts(self, node);
            if surplus && leads.as_ref().is_some_and(|master| *master != name) {
                did |= self.delete_pod(node);
            }
        }
        did
    }

    /// The pod is told to go; a force deletes the object at once and tells nobody.
    pub(crate) fn delete_pod(&mut self, node: Node) -> bool {
        let Some(pod) = self.api.pods[node].as_mut().filter(|pod| !pod.deleting) else {
            return false;
        };
        pod.deleting = true;
        pod.version += 1;
        let agent = &mut self.machines[node].agent;
        agent.stopping = agent.up;
        true
    }

    /// What runs in a deleted pod ends. An agent that ends in order leaves a clean slave; anything else is killed.
    pub(crate) fn end_pod(&mut self, node: Node) -> bool {
        let uid = self.machines[node].pod;
        let object = self.api.pods[node].as_ref();
        let goes = object.is_none_or(|pod| pod.deleting || pod.uid != uid);
        if uid == 0 || !goes {
            return false;
        }
        self.stop_machine(node);
        if object_is(self.api.pods[node].as_ref(), uid) {
            self.api.pods[node] = None;
        }
        true
    }

    /// Everything that runs on the node ends.
    pub(crate) fn stop_machine(&mut self, node: Node) {
        self.kill_agent(node);
        self.crash(node);
        self.machines[node].pod = 0;
        self.wires.retain(|wire| wire.node != node);
    }
}

/// The node that a record's intent forces.
pub(crate) fn forced_by(record: &Record) -> Option<Node> {
    let intent = record.intent.as_ref()?;
    let to = intent
        .to
        .as_ref()
        .filter(|_| intent.kind == failover::Kind::Forced)?;
    Some(crate::ledger::index(to))
}

fn object_is(object: Option<&Pod>, uid: u32) -> bool {
    object.is_some_and(|pod| pod.uid == uid)
}
