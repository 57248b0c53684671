//! Meetings of faults that chance brings about too seldom: each is played step by step, once with the rule that
//! forbids the harm and once without.

use simulation::{
    Event, Invariant, Mutant, World,
    apiserver::Request,
    generate::round,
    machine::{Machine, Order},
    world::{Beginning, Wire},
};

/// The open master of `term`.
fn leader(world: &World, term: u64) -> Option<usize> {
    let leads = |machine: &Machine| {
        let promoted = machine.disk.memory.promoted.as_ref();
        machine.server.as_ref().is_some_and(|server| {
            promoted.is_some_and(|it| (it.term, it.server) == (term, server.life))
                && !server.read_only
                && !server.offline
        })
    };
    world.machines.iter().position(leads)
}

/// A world that goes on by its ordinary events, but for what is held back.
struct Play {
    world: World,
    /// These servers are not started again.
    down: Vec<usize>,
    /// What the new master writes reaches nobody.
    alone: bool,
    /// Requests that do not arrive yet.
    held: fn(&Request) -> bool,
}

impl Play {
    /// Three nodes with a master that all follow.
    fn new(mutant: Option<Mutant>) -> (Self, usize) {
        Self::of(3, false, mutant)
    }

    /// So many nodes with a master that all follow; one that `holds` is kept down once it was killed.
    fn of(nodes: u32, holds: bool, mutant: Option<Mutant>) -> (Self, usize) {
        let beginning = Beginning {
            nodes,
            quarantine: false,
            available: false,
            kept: false,
            holds,
        };
        let mut play = Self {
            world: World::new(beginning, mutant),
            down: Vec::new(),
            alone: false,
            held: |_| false,
        };
        play.until(|world| {
            let receives = |it: &&Machine| it.server.as_ref().is_some_and(|it| it.connected);
            let slaves = world.machines.iter().filter(receives).count();
            world.api.record.master.is_some() && slaves + 1 == nodes as usize
        });
        let master = leader(&play.world, 1).expect("the first master is open");
        assert_eq!(play.world.api.service, (Some(master), 1));
        (play, master)
    }

    /// The one that leads in `term`, once one does.
    fn leader(&mut self, term: u64) -> usize {
        self.until(|world| leader(world, term).is_some());
        leader(&self.world, term).unwrap_or_else(|| panic!("{:?}", self.world.violation))
    }

    /// `node` leads in `term`, for the user wishes it until it may: one that is not ready is declined.
    fn hand_over(&mut self, node: usize, term: u64) {
        for _ in 0..20 {
            self.world.apply(Event::Wish { node });
            self.until(|world| world.api.wish.is_none() && world.api.record.intent.is_none());
            if leader(&self.world, term) == Some(node) {
                return;
            }
        }
        panic!("never obeyed: {}", self.world.picture());
    }

    fn may(&self, event: Event) -> bool {
        match event {
            Event::Boot { node } => !self.down.contains(&node),
            Event::Ship { .. } => !self.alone,
            Event::Write { .. } => false,
            _ => true,
        }
    }

    fn until(&mut self, reached: impl Fn(&World) -> bool) {
        for _ in 0..400 {
            for event in round(&self.world) {
                if reached(&self.world) || self.world.violation.is_some() {
                    return;
                }
                let event = match event {
                    Event::Api { .. } => {
                        let free = self
                            .world
                            .requests
                            .iter()
                            .position(|it| !(self.held)(&it.request));
                        let Some(nth) = free else { continue };
                        Event::Api { nth }
                    }
                    event => event,
                };
                if self.may(event) {
                    self.world.apply(event);
                }
            }
            self.world.apply(Event::Wait { ms: 20 });
        }
        panic!("not reached: {}", self.world.picture());
    }

    /// A client writes there; which transaction that is.
    fn write(&mut self, node: usize) -> u16 {
        assert!(self.world.apply(Event::Write { node }));
        u16::try_from(self.world.ledger.txns.len() - 1).expect("there are few")
    }

    fn crash(&mut self, node: usize) {
        self.world.apply(Event::KillServer { node });
    }

    /// `gone` does not come back while the two others make a master of their own; then everything is healed.
    fn end_without(mut self, gone: usize) -> Option<Invariant> {
        let term = self.world.api.record.term.0;
        self.down = vec![gone];
        self.crash(gone);
        self.alone = false;
        self.held = |_| false;
        self.until(|world| {
            let led = |it: &Machine| it.disk.memory.promoted.as_ref().is_some_and(|it| it.term > term);
            let others = (0..3).filter(|node| *node != gone);
            world.api.record.master.is_some() && others.into_iter().any(|node| led(&world.machines[node]))
        });
        let found = match self.world.violation.clone() {
            Some(found) => Some(found),
            None => self.world.recover(&mut 0).err(),
        };
        found.map(|it| it.invariant)
    }
}

/// The lead of an older term arrives when its node leads again and shows what nobody else holds.
fn a_late_lead(mutant: Option<Mutant>) -> Option<Invariant> {
    let late = |request: &Request| matches!(request, Request::Lead { to: (Some(_), 2), .. });
    let under_way = |world: &World| world.requests.iter().position(|it| late(&it.request));
    let (mut play, first) = Play::new(mutant);
    play.held = late;
    play.down = vec![first];
    play.crash(first);
    let second = play.leader(2);
    play.until(|world| under_way(world).is_some());
    play.world.apply(Event::KillOperator { op: 0 });
    play.alone = true;
    play.world.apply(Event::Write { node: second });
    play.crash(second);
    assert_eq!(play.leader(3), second, "it holds more than the other slave");
    let nth = under_way(&play.world).expect("it is held back");
    play.world.apply(Event::Api { nth });
    play.end_without(second)
}

#[test]
fn a_late_lead_of_an_older_term_shows_nothing_that_others_lack() {
    assert_eq!(a_late_lead(None), None);
    assert_eq!(
        a_late_lead(Some(Mutant::LateLeadForgotten)),
        Some(Invariant::NoPhantomRead)
    );
}

/// A fence of its own term reaches the new master, which has written what nobody else holds.
fn a_repeated_fence(mutant: Option<Mutant>) -> Option<Invariant> {
    let (mut play, first) = Play::new(mutant);
    // The change does not come to its end.
    play.held = |request| matches!(request, Request::Patch { .. });
    play.down = vec![first];
    play.crash(first);
    let repeated = |world: &World| {
        let fence = |it: &&Wire| it.command.term == 2 && matches!(it.command.order, Order::Fence { .. });
        world.wires.iter().filter(fence).cloned().collect::<Vec<_>>()
    };
    play.until(|world| !repeated(world).is_empty());
    let late = repeated(&play.world);
    let second = play.leader(2);
    play.until(|world| world.api.service == (Some(second), 2));
    play.alone = true;
    play.world.apply(Event::Write { node: second });
    play.world
        .wires
        .extend(late.into_iter().filter(|it| it.node == second));
    let life = play.world.machines[second].server.as_ref().map(|it| it.life);
    if mutant.is_some() {
        play.until(|world| {
            world.machines[second]
                .server
                .as_ref()
                .is_some_and(|it| Some(it.life) != life)
        });
        assert_eq!(play.leader(2), second);
    } else {
        play.until(|world| world.wires.is_empty());
        assert!(
            leader(&play.world, 2) == Some(second),
            "a late fence of its own term does not end a master"
        );
    }
    play.end_without(second)
}

#[test]
fn a_repeated_fence_of_its_own_term_does_not_let_a_master_begin_anew() {
    assert_eq!(a_repeated_fence(None), None);
    assert_eq!(
        a_repeated_fence(Some(Mutant::PromotedTwice)),
        Some(Invariant::NoPhantomRead)
    );
}

/// Terms that two operators that both lead spend on one death of a master.
fn terms_beside_another() -> u64 {
    let (mut play, first) = Play::new(None);
    play.world.apply(Event::StartOperator { op: 1 });
    play.until(|world| {
        world
            .operators
            .iter()
            .all(|it| it.record.is_some() && it.links[..3].iter().all(|link| link.report.is_some()))
    });
    let before = play.world.api.record.term.0;
    play.down = vec![first];
    play.crash(first);
    play.until(|world| world.api.record.term.0 > before && world.api.record.master.is_some());
    assert_eq!(play.world.violation, None);
    play.world.api.record.term.0 - before
}

#[test]
fn operators_beside_each_other_leave_a_change_to_who_began_it() {
    assert_eq!(terms_beside_another(), 1);
}

/// A node is away that has received what a killed master loses, as its log is cut where it `holds`, else as it is copied
/// over. Then that master leads again and writes.
fn a_robbed_master_leads_again(holds: bool, mutant: Option<Mutant>) -> Option<Invariant> {
    let (mut play, first) = Play::of(5, holds, mutant);
    let away = (first + 1) % 5;
    let tail = play.write(first);
    play.world.apply(Event::Ship { node: away });
    assert!(play.world.machines[away].disk.holds().has(tail));
    play.down = vec![away, first];
    play.crash(first);
    play.crash(away);
    let second = play.leader(2);
    play.down = vec![away];
    let follows = |machine: &Machine| {
        machine
            .server
            .as_ref()
            .is_some_and(|it| it.connected && !it.offline)
    };
    play.until(|world| world.api.record.intent.is_none() && follows(&world.machines[first]));
    assert!(!play.world.machines[first].disk.log.has(tail), "it is gone");
    assert_ne!(second, first);
    play.hand_over(first, 3);
    let written = play.write(first);
    play.until(|world| world.ledger.acknowledged.has(written));
    play.down.clear();
    play.world.recover(&mut 0).err().map(|it| it.invariant)
}

#[test]
fn a_former_masters_next_writes_are_not_taken_for_those_that_it_lost() {
    for (holds, mutant) in [(true, Mutant::CutKeepsName), (false, Mutant::CloneKeepsName)] {
        assert_eq!(a_robbed_master_leads_again(holds, None), None);
        assert_eq!(
            a_robbed_master_leads_again(holds, Some(mutant)),
            Some(Invariant::ExactRejoin)
        );
    }
}
