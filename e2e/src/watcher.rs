//! Watches a database's pods and its status without pause and keeps every change, in the API server's own order.
//!
//! It judges as it goes: two pods labelled master at the same moment, or a term that falls, are violations, whatever
//! else the test looks at.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Result, ensure};
use api::{DistributedDatabase, names};
use futures::{StreamExt, stream::BoxStream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    runtime::watcher::{self, Event},
};
use tokio::task::JoinHandle;

use crate::clock::Clock;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// When it was heard of here.
    pub at: Duration,
    /// What changed.
    pub what: What,
}

/// What can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A pod got another role label; `None`: it has none.
    Role { pod: String, role: Option<String> },
    /// A pod object is gone.
    Gone { pod: String },
    /// The resource's status names another term, master or phase.
    Status {
        term: u64,
        master: Option<String>,
        phase: String,
    },
    /// A change of master is complete.
    Completed(Completed),
}

/// What the status told of a completed change of master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completed {
    /// Its term.
    pub term: u64,
    /// The new master.
    pub master: String,
    /// Why, in a word.
    pub cause: String,
    /// Milliseconds from the first evidence to the end of each step, in the order of time.
    pub steps: Vec<(String, u64)>,
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:>8} ms  ", self.at.as_millis())?;
        match &self.what {
            What::Role { pod, role } => write!(out, "{pod} role={}", role.as_deref().unwrap_or("-")),
            What::Gone { pod } => write!(out, "{pod} gone"),
            What::Completed(change) => write!(
                out,
                "term {} complete: {} by {}",
                change.term, change.master, change.cause
            ),
            What::Status { term, master, phase } => {
                write!(
                    out,
                    "status term={term} master={} phase={phase}",
                    master.as_deref().unwrap_or("-")
                )
            }
        }
    }
}

/// What must never be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// These pods were labelled master at the same moment.
    TwoMasters(Vec<String>),
    /// The term fell.
    TermFell {
        /// From this.
        from: u64,
        /// To this.
        to: u64,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TwoMasters(names) => write!(out, "there were two masters: {}", names.join(" and ")),
            Self::TermFell { from, to } => write!(out, "the term fell from {from} to {to}"),
        }
    }
}

/// What is known now, and everything that led there. Pure, so that the judgement itself is tested.
#[derive(Debug, Default)]
pub struct History {
    changes: Vec<Change>,
    violations: Vec<(Duration, Violation)>,
    // By UID, because a pod and its replacement share a name but not a life.
    pods: BTreeMap<String, (String, Option<String>)>,
    status: Option<(u64, Option<String>, String)>,
}

impl History {
    fn pod(&mut self, at: Duration, uid: String, name: String, role: Option<String>) {
        let known = self.pods.insert(uid, (name.clone(), role.clone()));
        if known.is_none_or(|(_, before)| before != role) {
            self.changes.push(Change {
                at,
                what: What::Role { pod: name, role },
            });
        }
        self.judge_masters(at);
    }

    fn pod_gone(&mut self, at: Duration, uid: &str) {
        if let Some((pod, _)) = self.pods.remove(uid) {
            self.changes.push(Change {
                at,
                what: What::Gone { pod },
            });
        }
    }

    fn status(&mut self, at: Duration, term: u64, master: Option<String>, phase: String) {
        if let Some((before, _, _)) = &self.status
            && term < *before
        {
            let from = *before;
            self.violations.push((at, Violation::TermFell { from, to: term }));
        }
        let now = (term, master.clone(), phase.clone());
        if self.status.as_ref() != Some(&now) {
            self.status = Some(now);
            self.changes.push(Change {
                at,
                what: What::Status { term, master, phase },
            });
        }
    }

    fn completed(&mut self, at: Duration, completed: Completed) {
        let is_known =
            |change: &Change| matches!(&change.what, What::Completed(known) if known.term == completed.term);
        if !self.changes.iter().any(is_known) {
            self.changes.push(Change {
                at,
                what: What::Completed(completed),
            });
        }
    }

    fn judge_masters(&mut self, at: Duration) {
        let is_master = |entry: &&(String, Option<String>)| entry.1.as_deref() == Some(names::ROLE_MASTER);
        let masters: Vec<String> = self
            .pods
            .values()
            .filter(is_master)
            .map(|(name, _)| name.clone())
            .collect();
        if masters.len() > 1 {
            self.violations.push((at, Violation::TwoMasters(masters)));
        }
    }
}

/// A watch in progress; dropping it ends it.
pub struct Watcher {
    history: Arc<Mutex<History>>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Begins to watch the database `name`.
    pub fn start(client: &Client, namespace: &str, name: &str, clock: Clock) -> Self {
        let history = Arc::new(Mutex::new(History::default()));
        let task = tokio::spawn(watch(
            client.clone(),
            namespace.to_owned(),
            name.to_owned(),
            clock,
            history.clone(),
        ));
        Self { history, task }
    }

    /// Everything so far.
    pub fn changes(&self) -> Vec<Change> {
        self.history
            .lock()
            .map(|history| history.changes.clone())
            .unwrap_or_default()
    }

    /// The newest term that the status named; 0 before there was one.
    pub fn term(&self) -> u64 {
        let history = self.history.lock().ok();
        history
            .and_then(|history| history.status.as_ref().map(|status| status.0))
            .unwrap_or(0)
    }

    /// Everything so far that must never be.
    pub fn violations(&self) -> Vec<(Duration, Violation)> {
        self.history
            .lock()
            .map(|history| history.violations.clone())
            .unwrap_or_default()
    }

    /// Ends the watch; an error names the violations and the history that led to them.
    pub fn finish(self) -> Result<Vec<Change>> {
        let changes = self.changes();
        let violations: Vec<String> = self
            .violations()
            .iter()
            .map(|(at, what)| format!("at {} ms {what}", at.as_millis()))
            .collect();
        let story = changes
            .iter()
            .map(|change| format!("\n  {change}"))
            .collect::<Vec<_>>()
            .concat();
        ensure!(
            violations.is_empty(),
            "{}\nhistory:{story}",
            violations.join("\n")
        );
        ensure!(!changes.is_empty(), "the watch saw nothing, so it proves nothing");
        Ok(changes)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

enum Heard {
    Pod(Box<Event<Pod>>),
    Database(Box<Event<DistributedDatabase>>),
    Nothing,
}

async fn watch(client: Client, namespace: String, name: String, clock: Clock, history: Arc<Mutex<History>>) {
    let pods = Api::<Pod>::namespaced(client.clone(), &namespace);
    let databases = Api::<DistributedDatabase>::namespaced(client, &namespace);
    let of_database = watcher::Config::default().labels(&format!("{}={name}", names::LABEL_CLUSTER));
    let itself = watcher::Config::default().fields(&format!("metadata.name={name}"));
    // Errors are the watch's own business: it lists again and goes on.
    let pods: BoxStream<'_, Heard> = watcher::watcher(pods, of_database)
        .map(|event| event.map_or(Heard::Nothing, |event| Heard::Pod(Box::new(event))))
        .boxed();
    let databases: BoxStream<'_, Heard> = watcher::watcher(databases, itself)
        .map(|event| event.map_or(Heard::Nothing, |event| Heard::Database(Box::new(event))))
        .boxed();
    let mut heard = futures::stream::select(pods, databases);
    while let Some(event) = heard.next().await {
        let at = clock.at();
        let Ok(mut history) = history.lock() else { return };
        match event {
            Heard::Pod(event) => pod_event(&mut history, at, *event),
            Heard::Database(event) => database_event(&mut history, at, *event),
            Heard::Nothing => {}
        }
    }
}

fn pod_event(history: &mut History, at: Duration, event: Event<Pod>) {
    match event {
        // A new list begins: pods that went away meanwhile must not count as present.
        Event::Init => history.pods.clear(),
        Event::Apply(pod) | Event::InitApply(pod) => {
            let role = pod.metadata.labels.unwrap_or_default().remove(names::LABEL_ROLE);
            let uid = pod.metadata.uid.unwrap_or_default();
            history.pod(at, uid, pod.metadata.name.unwrap_or_default(), role);
        }
        Event::Delete(pod) => history.pod_gone(at, &pod.metadata.uid.unwrap_or_default()),
        Event::InitDone => {}
    }
}

fn database_event(history: &mut History, at: Duration, event: Event<DistributedDatabase>) {
    if let Event::Apply(database) | Event::InitApply(database) = event
        && let Some(status) = database.status
    {
        let master = status.record.master.map(|node| node.to_string());
        history.status(at, status.record.term.0, master, format!("{:?}", status.phase));
        // The status has the newest first.
        for failover in status.last_failovers.iter().rev() {
            history.completed(at, completed(&failover.change));
        }
    }
}

fn completed(change: &failover::record::Change) -> Completed {
    let steps = change.steps_in_order().into_iter();
    Completed {
        term: change.term.0,
        master: change.master.to_string(),
        cause: format!("{:?}", change.intent.cause),
        steps: steps.map(|(step, at)| (step.to_owned(), at)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(history: &mut History, uid: &str, role: Option<&str>) {
        history.pod(
            Duration::ZERO,
            uid.to_owned(),
            format!("pod-{uid}"),
            role.map(str::to_owned),
        );
    }

    #[test]
    fn two_masters_at_one_moment_are_seen_even_when_it_is_over_at_once() {
        let mut history = History::default();
        role(&mut history, "a", Some("master"));
        role(&mut history, "b", Some("slave"));
        role(&mut history, "b", Some("master"));
        role(&mut history, "a", None);
        assert_eq!(history.violations.len(), 1);
        assert!(history.violations[0].1.to_string().contains("pod-a and pod-b"));
    }

    #[test]
    fn handing_over_in_order_is_no_violation() {
        let mut history = History::default();
        role(&mut history, "a", Some("master"));
        role(&mut history, "b", Some("slave"));
        role(&mut history, "a", None);
        role(&mut history, "b", Some("master"));
        role(&mut history, "a", Some("slave"));
        assert!(history.violations.is_empty());
        assert_eq!(history.changes.len(), 5);
    }

    #[test]
    fn a_master_that_is_gone_does_not_count_any_more() {
        let mut history = History::default();
        role(&mut history, "a", Some("master"));
        history.pod_gone(Duration::ZERO, "a");
        role(&mut history, "b", Some("master"));
        assert!(history.violations.is_empty());
    }

    #[test]
    fn a_falling_term_is_a_violation() {
        let mut history = History::default();
        history.status(Duration::ZERO, 2, None, "Healthy".to_owned());
        history.status(Duration::ZERO, 1, None, "Healthy".to_owned());
        assert_eq!(history.violations.len(), 1);
    }
}
