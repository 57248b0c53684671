//! Sessions with the nodes: one task per node keeps a mutually authenticated connection to its agent open, turns
//! what comes in into events with the moment of arrival, and breaks the news at once when the link breaks.
//!
//! It decides nothing: what a silence or a break means is the business of the crate `failover`.

mod link;

use std::sync::Arc;
use std::time::Duration;

use api::kept::Kept;
use api::wire::{Command, Picture, Question, Refusal, ToNode};
use failover::{Millis, NodeId, NodeReport, Term};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use crate::clock;
use crate::metrics::Metrics;

const BACK_OFF_MIN: Duration = Duration::from_millis(50);
const BACK_OFF_MAX: Duration = Duration::from_millis(500);
const OUTBOX: usize = 64;

/// Whom a session is with.
#[derive(Clone)]
pub struct Target {
    /// The node.
    pub node: NodeId,
    /// The resource's UID.
    pub cluster: String,
    /// Where the agent listens: address and port.
    pub address: String,
    /// The name that the node's certificate must be valid for.
    pub host: String,
    /// The operator's identity.
    pub identity: Arc<rustls::ClientConfig>,
    /// How often the node reports when nothing changes.
    pub heartbeat: Millis,
    /// Silence after which the link counts as broken and is made anew.
    pub idle_limit: Millis,
    /// The database as this operator sees it, told to the node whenever it changes.
    pub pictures: watch::Receiver<Arc<Picture>>,
}

/// What goes to a node.
#[derive(Debug)]
pub enum Outgoing {
    /// A command, whose outcome is awaited.
    Order(Order),
    /// A word that nothing answers.
    Word(ToNode),
}

/// A command on its way.
#[derive(Debug)]
pub struct Order {
    /// The term that asks.
    pub term: Term,
    /// What to do.
    pub command: Command,
    /// Where the outcome goes; dropped when the link breaks first.
    pub reply: oneshot::Sender<Ended>,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Milliseconds that the node spent on it.
    pub took_ms: Millis,
    /// Why it was not carried out.
    pub refusal: Option<Refusal>,
}

/// What happens to a session.
#[derive(Debug)]
pub enum Happened {
    /// The link is made; orders go through here until it breaks. The first report follows.
    Opened {
        /// The orders' way.
        orders: mpsc::Sender<Outgoing>,
    },
    /// The node reported.
    Reported {
        /// What.
        report: Box<NodeReport>,
        /// The transactions that it keeps as files, where that is news.
        kept: Option<Box<Kept>>,
        /// When it arrived.
        heard: Millis,
    },
    /// The node asks something on behalf of somebody at its data API.
    Asked {
        /// The question's number, which the answer repeats.
        id: u64,
        /// The question.
        question: Question,
    },
    /// The link broke.
    Broke {
        /// When.
        since: Millis,
        /// Why, in a sentence.
        why: String,
    },
    /// No link could be made, for a reason other than last time's.
    Unreachable {
        /// Why, in a sentence.
        why: String,
    },
}

/// What a node says by itself.
enum Said {
    Report(Box<NodeReport>, Option<Box<Kept>>),
    Question { id: u64, question: Question },
}

/// A running session; dropping it ends the session.
pub struct Running(AbortHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Counts an open link for as long as it lives.
struct Counted(Arc<Metrics>);

impl Counted {
    fn new(metrics: Arc<Metrics>) -> Self {
        metrics.sessions.inc();
        Self(metrics)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.sessions.dec();
    }
}

/// Starts the session; `tell` gets everything that happens to it.
pub fn start<F>(target: Target, metrics: Arc<Metrics>, tell: F) -> Running
where
    F: Fn(Happened) + Send + Sync + 'static,
{
    Running(tokio::spawn(keep(target, metrics, tell)).abort_handle())
}

/// Keeps the session for ever: links, and links again.
async fn keep<F: Fn(Happened) + Send + Sync>(target: Target, metrics: Arc<Metrics>, tell: F) {
    let mut pause = BACK_OFF_MIN;
    let mut last_trouble = String::new();
    loop {
        match link::connect(&target).await {
            Ok(stream) => {
                let _counted = Counted::new(Arc::clone(&metrics));
                let (orders, outbox) = mpsc::channel(OUTBOX);
                tell(Happened::Opened { orders });
                let mut heard_anything = false;
                let ended = link::serve(stream, &target, outbox, |said| {
                    heard_anything = true;
                    tell(match said {
                        Said::Report(report, kept) => Happened::Reported {
                            report,
                            kept,
                            heard: clock::now(),
                        },
                        Said::Question { id, question } => Happened::Asked { id, question },
                    });
                })
                .await;
                let why = crate::lease::chain(&ended);
                tell(Happened::Broke {
                    since: clock::now(),
                    why,
                });
                if heard_anything {
                    pause = BACK_OFF_MIN;
                    last_trouble.clear();
                    continue;
                }
            }
            Err(error) => {
                let why = crate::lease::chain(&error);
                if why != last_trouble {
                    last_trouble.clone_from(&why);
                    tell(Happened::Unreachable { why });
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(BACK_OFF_MAX);
    }
}

#[cfg(test)]
mod tests;
