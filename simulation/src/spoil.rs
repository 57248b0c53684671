//! What mutants make of the operator's observation and of its actions; without one nothing is changed.

use failover::{Action, Kind, NodeView, Observed, Plan, Pod as PodView, Receiver, Role, Server, Tail};

use crate::{ledger::index, machine::address, mutant::Mutant, world::World};

impl World {
    /// What a mutant makes of the observation.
    pub(crate) fn spoil_observation(&self, observed: &mut Observed) {
        let Some(mutant) = self.mutant else { return };
        match mutant {
            Mutant::SkipFenceQuorum => observed.record.acks = observed.record.size.saturating_sub(1),
            Mutant::LabelBeforeUnlabel => {
                let term = observed.record.term;
                for view in observed.nodes.values_mut() {
                    if let PodView::Present {
                        labelled_master,
                        stamp,
                        ..
                    } = &mut view.pod
                        && *stamp < term
                    {
                        (*labelled_master, *stamp) = (false, term);
                    }
                }
            }
            // As if the Service had been written in this term.
            Mutant::LateLeadForgotten => observed.service.term = observed.record.term,
            Mutant::VolumeIgnored => {
                for (node, view) in &mut observed.nodes {
                    if let (Some(report), Some(volume)) =
                        (&mut view.report, observed.record.members.get(node))
                    {
                        report.volume = volume.clone();
                    }
                }
            }
            Mutant::ElectAny if observed.record.intent.is_some() => {
                for state in observed.nodes.values_mut().filter_map(|view| up(view)) {
                    (state.executed, state.received) = Default::default();
                }
            }
            Mutant::FollowErrant if observed.record.intent.is_none() => {
                let master = observed.record.master.clone().and_then(|master| {
                    observed
                        .nodes
                        .get(&master)?
                        .server()
                        .map(|it| it.executed.clone())
                });
                for state in observed.nodes.values_mut().filter_map(|view| up(view)) {
                    let extra = master
                        .as_ref()
                        .map(|all| state.holds().subtract(all))
                        .unwrap_or_default();
                    state.executed = state.executed.subtract(&extra);
                    state.received = state.received.subtract(&extra);
                }
            }
            Mutant::ForcedWithAnyTerm => {
                let term = observed.record.term;
                if let Some(force) = &mut observed.asked.force {
                    force.term = Some(term);
                }
            }
            Mutant::ForcedUnfenced => {
                let term = observed.record.term;
                let intent = observed.record.intent.clone();
                let Some(to) = intent.filter(|it| it.kind == Kind::Forced).and_then(|it| it.to) else {
                    return;
                };
                for (node, view) in &mut observed.nodes {
                    if let Some(report) = view.report.as_mut().filter(|_| *node != to) {
                        report.fenced = Some(term);
                    }
                }
            }
            Mutant::RestUnfenced => count_as_closed(observed),
            // The engine believes that the record has what it wants to write there.
            Mutant::AcksLoweredUnrecorded
                if observed.record.intent.is_none() && observed.record.master.is_some() =>
            {
                let follows = observed.nodes.values().filter(|view| {
                    matches!(
                        view.server().map(|it| &it.role),
                        Some(Role::Slave {
                            receiver: Receiver::Receiving { .. },
                            ..
                        })
                    )
                });
                let follows = u32::try_from(follows.count()).unwrap_or(0);
                observed.record.acks = observed.record.acks.min(follows);
            }
            Mutant::ShrinkUnfenced if observed.record.intent.is_none() => {
                let term = observed.record.term;
                for report in observed
                    .nodes
                    .values_mut()
                    .filter_map(|view| view.report.as_mut())
                {
                    report.fenced = Some(term);
                }
            }
            _ => {}
        }
    }

    /// What a mutant adds to a plan.
    pub(crate) fn spoil_plan(&self, observed: &Observed, plan: &mut Plan) {
        if self.mutant == Some(Mutant::LedUnheld) {
            let promoted = plan.iter().find_map(|action| match action {
                Action::Promote { node, term, .. } => Some((node.clone(), *term)),
                _ => None,
            });
            plan.extend(promoted.map(|(node, term)| Action::Lead { node, term }));
        }
        if self.mutant == Some(Mutant::CutBeforeLed) {
            plan.extend(cut_before_led(observed));
        }
        let leads = observed.record.master.is_some() && observed.record.intent.is_none();
        if self.mutant != Some(Mutant::DiscardUnasked) || !leads {
            return;
        }
        for (node, view) in &observed.nodes {
            let damaged = view
                .live_report()
                .is_some_and(|live| live.damaged.is_some() && !matches!(live.server, Server::Up(_)));
            if damaged {
                plan.push(Action::Discard {
                    node: node.clone(),
                    term: observed.record.term,
                    reason: String::new(),
                });
            }
        }
    }

    /// What a mutant makes of an action.
    pub(crate) fn spoil_action(&self, action: Action) -> Action {
        match (self.mutant, action) {
            (Some(Mutant::PromoteUndrained), Action::Drain { node, term }) => {
                let acks = self.api.record.acks;
                Action::Promote {
                    node,
                    term,
                    acks,
                    requires: failover::GtidSet::new(),
                }
            }
            (
                Some(Mutant::CloneOverLastCopy),
                Action::Clone {
                    node,
                    term,
                    donor,
                    extra,
                    reason,
                    ..
                },
            ) => Action::Clone {
                address: address(index(&node)),
                node: donor,
                donor: node,
                term,
                extra,
                reason,
            },
            (
                Some(Mutant::AcksRecordedFirst),
                Action::Promote {
                    node,
                    term,
                    acks,
                    requires,
                },
            ) => {
                let acks = if self.api.record.intent.is_none() {
                    self.api.record.acks.saturating_sub(1)
                } else {
                    acks
                };
                Action::Promote {
                    node,
                    term,
                    acks,
                    requires,
                }
            }
            (
                Some(Mutant::FollowUnasked),
                Action::Follow {
                    node,
                    term,
                    source,
                    address,
                    until,
                    ..
                },
            ) => Action::Follow {
                node,
                term,
                source,
                address,
                until,
                whole: true,
            },
            (Some(Mutant::SourceBeforeDrained), Action::Drain { node, term }) => {
                let holds = self.machines[index(&node)].disk.holds();
                Action::Promote {
                    node,
                    term,
                    acks: self.api.record.acks,
                    requires: self.ledger.gtids(&holds),
                }
            }
            (_, action) => action,
        }
    }
}

/// What is kept is what any other node has.
fn cut_before_led(observed: &Observed) -> Option<Action> {
    let held = |view: &NodeView| {
        view.live_report()
            .is_some_and(|live| live.tail == Some(Tail::Held))
    };
    let (node, _) = observed.nodes.iter().find(|(_, view)| held(view))?;
    let keep = observed.nodes.values().find_map(|view| view.server())?;
    Some(Action::Cut {
        node: node.clone(),
        term: observed.record.term,
        keep: keep.executed.clone(),
    })
}

/// As if the master that is to rest had confirmed its fence.
fn count_as_closed(observed: &mut Observed) {
    let intent = observed.record.intent.as_ref();
    let Some(master) = intent
        .filter(|it| it.kind == Kind::Rest)
        .and_then(|it| it.to.as_ref())
    else {
        return;
    };
    if let Some(report) = observed
        .nodes
        .get_mut(master)
        .and_then(|view| view.report.as_mut())
    {
        report.fenced = Some(observed.record.term);
    }
}

fn up(view: &mut NodeView) -> Option<&mut failover::ServerState> {
    match &mut view.report.as_mut()?.server {
        failover::Server::Up(state) => Some(state),
        _ => None,
    }
}
