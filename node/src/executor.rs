//! Takes commands from all sessions and carries them out one after the other.
//!
//! The term is stored durably before a command acts; an older one is refused. Only a fence acts at once and stores
//! its term together with its confirmation: before that nobody relies on it, and what it did is the node's safe
//! state. A fence cancels what is running
//! (except a clone, beside which it runs) and empties the queue; so does a newer term. Equal commands that wait or
//! run share one outcome.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use api::wire::{Command, Refusal, ToOperator};
use failover::Term;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Duration, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info, info_span, warn};

use crate::{
    agent::Agent,
    clock,
    commands::{self, Job},
};

/// How long a cancelled command may take to reach the end of its current statement.
const YIELD: Duration = Duration::from_millis(400);

/// Where outcomes go: the session that asked.
pub type Answers = mpsc::Sender<ToOperator>;

/// Something to carry out.
#[derive(Debug)]
pub enum Order {
    /// A command of an operator.
    Command {
        /// Its number.
        id: u64,
        /// Its term.
        term: Term,
        /// What to do.
        command: Command,
        /// Where the outcome goes.
        answers: Answers,
    },
    /// Do what follows from the role and nobody waits for; asked for by the caretaker.
    Settle,
    /// Start mysqld that is kept down, because nobody said what to do with it; asked for by the caretaker.
    StartUncut,
    /// Let clients in again; asked for by the guard.
    Reopen {
        /// The term in which the node leads.
        term: Term,
    },
}

#[derive(Debug)]
struct Asked {
    id: u64,
    answers: Answers,
    since: Instant,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Work {
    Command(Term, Command),
    Settle,
    StartUncut,
    Reopen(Term),
}

struct Running {
    work: Work,
    asked: Vec<Asked>,
    cancel: CancellationToken,
    task: JoinHandle<Result<(), Refusal>>,
}

struct Executor {
    agent: Arc<Agent>,
    /// The highest term of any command so far, stored or not yet.
    term: Term,
    queue: VecDeque<(Work, Vec<Asked>)>,
    running: Option<Running>,
    /// A clone runs beside the queue, because a fence must not wait for it and must not end it half-way.
    cloning: Option<Running>,
}

/// Starts the executor and returns the way to it.
pub fn start(agent: &Arc<Agent>) -> mpsc::Sender<Order> {
    let (sender, orders) = mpsc::channel(256);
    let executor = Executor {
        agent: Arc::clone(agent),
        term: Term::default(),
        queue: VecDeque::new(),
        running: None,
        cloning: None,
    };
    tokio::spawn(executor.run(orders));
    sender
}

impl Executor {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.take(order).await,
                    None => return,
                },
                result = ended(&mut self.running) => self.finish_running(result),
                result = ended(&mut self.cloning) => {
                    if let Some(done) = self.cloning.take() {
                        Self::answer(done.asked, result);
                    }
                }
            }
            self.start_next();
        }
    }

    async fn take(&mut self, order: Order) {
        let (id, term, command, answers) = match order {
            Order::Command {
                id,
                term,
                command,
                answers,
            } => (id, term, command, answers),
            Order::Settle => return self.enqueue_own(Work::Settle),
            Order::StartUncut => return self.enqueue_own(Work::StartUncut),
            Order::Reopen { term } if self.term <= term => return self.enqueue_own(Work::Reopen(term)),
            // A command of a newer term has arrived, whether it has been carried out or not.
            Order::Reopen { .. } => return,
        };
        let asked = Asked {
            id,
            answers,
            since: clock::now(),
        };
        let known = self.agent.store.get().await.term.max(self.term);
        if term < known {
            warn!(%term, %known, ?command, "refused: stale term");
            return Self::answer(vec![asked], Err(Refusal::StaleTerm { current: known }));
        }
        self.term = term;
        let work = Work::Command(term, command);
        if (is_fence(&work) || term > known)
            && self.running.as_ref().is_none_or(|running| running.work != work)
        {
            for (_, asked) in std::mem::take(&mut self.queue) {
                Self::answer(asked, Err(Refusal::Superseded));
            }
            if self.overtakes(&work) {
                self.cancel_running().await;
            }
        }
        if term > known
            && let Some(cloning) = &self.cloning
        {
            // One that has given the node's data up goes on all the same.
            cloning.cancel.cancel();
        }
        if !is_fence(&work)
            && let Err(error) = self
                .agent
                .store
                .change(|memory| memory.term = memory.term.max(term))
                .await
        {
            return Self::answer(vec![asked], Err(commands::failed(&error)));
        }
        self.enqueue(work, asked);
    }

    fn enqueue_own(&mut self, work: Work) {
        let runs = self.running.as_ref().is_some_and(|running| running.work == work);
        if !runs && !self.queue.iter().any(|(queued, _)| *queued == work) {
            self.queue.push_back((work, Vec::new()));
        }
    }

    /// What overtakes cancels everything but a fence that is as good: one broken off would end in a kill.
    fn overtakes(&self, new: &Work) -> bool {
        let orderly = |work: &Work| match work {
            Work::Command(_, Command::Fence { orderly, .. }) => Some(*orderly),
            _ => None,
        };
        match self.running.as_ref().map(|running| orderly(&running.work)) {
            Some(Some(patient)) => patient && orderly(new) == Some(false),
            Some(None) => true,
            None => false,
        }
    }

    async fn cancel_running(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.cancel.cancel();
            if timeout(YIELD, &mut running.task).await.is_err() {
                // Its lane notices the abandoned statement and kills it before the lane is used again.
                running.task.abort();
                let _ = running.task.await;
            }
            Self::answer(running.asked, Err(Refusal::Superseded));
        }
    }

    fn enqueue(&mut self, work: Work, asked: Asked) {
        for running in [&mut self.running, &mut self.cloning].into_iter().flatten() {
            if running.work == work {
                return running.asked.push(asked);
            }
        }
        match self.queue.iter_mut().find(|(queued, _)| *queued == work) {
            Some((_, askers)) => askers.push(asked),
            None => self.queue.push_back((work, vec![asked])),
        }
    }

    fn start_next(&mut self) {
        while self.running.is_none() {
            let Some((work, asked)) = self.queue.pop_front() else {
                return;
            };
            let is_clone = matches!(work, Work::Command(_, Command::Clone { .. }));
            let beside_clone = self.cloning.is_some();
            let running = self.spawn(work, asked, beside_clone);
            if is_clone && !beside_clone {
                self.cloning = Some(running);
            } else {
                self.running = Some(running);
            }
        }
    }

    fn spawn(&self, work: Work, asked: Vec<Asked>, beside_clone: bool) -> Running {
        let cancel = CancellationToken::new();
        let (term, name) = match &work {
            Work::Command(term, command) => (*term, commands::name(command)),
            Work::Settle => (Term::default(), "settle"),
            Work::StartUncut => (Term::default(), "start uncut"),
            Work::Reopen(term) => (*term, "reopen"),
        };
        let job = Job::new(Arc::clone(&self.agent), term, cancel.clone(), beside_clone);
        let todo = work.clone();
        let task = async move {
            match todo {
                Work::Command(_, command) => commands::carry_out(&job, command).await,
                Work::Settle => commands::settle::settle(&job).await,
                Work::StartUncut => commands::cut::start_uncut(&job).await,
                Work::Reopen(_) => commands::settle::reopen(&job).await,
            }
        };
        let task = tokio::spawn(task.instrument(info_span!("command", command = name, %term)));
        Running {
            work,
            asked,
            cancel,
            task,
        }
    }

    fn finish_running(&mut self, result: Result<(), Refusal>) {
        let Some(done) = self.running.take() else { return };
        if let (Work::Command(term, command), Some(asked)) = (&done.work, done.asked.first()) {
            let took_ms = clock::millis_since(asked.since);
            match &result {
                Ok(()) => info!(command = commands::name(command), %term, took_ms, "done"),
                Err(refusal) => {
                    warn!(command = commands::name(command), %term, took_ms, ?refusal, "not done");
                }
            }
        }
        Self::answer(done.asked, result);
    }

    /// Tells everybody who asked, after the board shows the effect.
    fn answer(asked: Vec<Asked>, result: Result<(), Refusal>) {
        let refusal = result.err();
        for Asked { id, answers, since } in asked {
            let took_ms = clock::millis_since(since);
            // A session that ended, or does not read, has given up its answer; the report says the same.
            let _ = answers.try_send(ToOperator::Outcome {
                id,
                took_ms,
                refusal: refusal.clone(),
            });
        }
    }
}

fn is_fence(work: &Work) -> bool {
    matches!(work, Work::Command(_, Command::Fence { .. }))
}

/// Waits for the end of what runs; for ever where nothing runs.
async fn ended(running: &mut Option<Running>) -> Result<(), Refusal> {
    match running {
        Some(running) => (&mut running.task).await.unwrap_or_else(|stopped| {
            Err(Refusal::Failed {
                message: format!("the command broke off: {stopped}"),
            })
        }),
        None => std::future::pending().await,
    }
}
