//! Kubernetes Events: what people see with `kubectl describe`. Published by one task from a bounded queue, so that
//! nothing ever waits for them; the same text about the same object is said at most once a minute.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};

use failover::Millis;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;

use crate::{clock, lease};

const QUEUE: usize = 256;
const QUIET: Millis = 60_000;

/// One thing to tell.
#[derive(Debug, Clone)]
pub struct Told {
    /// Whether it needs attention.
    pub warning: bool,
    /// One word in upper camel case.
    pub reason: &'static str,
    /// What was done.
    pub action: String,
    /// The sentence.
    pub note: String,
}

/// The sending side, cheap to clone.
#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<(ObjectReference, Told)>,
}

impl Events {
    /// Starts the publisher.
    pub fn start(client: Client, identity: &str) -> Self {
        let (queue, inbox) = mpsc::channel(QUEUE);
        let reporter = Reporter {
            controller: api::names::FIELD_MANAGER.to_owned(),
            instance: Some(identity.to_owned()),
        };
        tokio::spawn(publish(Recorder::new(client, reporter), inbox));
        Self { queue }
    }

    /// Queues an event; drops it when the queue is full.
    pub fn tell(&self, about: &ObjectReference, told: Told) {
        if let Err(error) = self.queue.try_send((about.clone(), told)) {
            tracing::debug!(%error, "an event was dropped");
        }
    }
}

async fn publish(recorder: Recorder, mut inbox: mpsc::Receiver<(ObjectReference, Told)>) {
    let mut said = Said::default();
    while let Some((about, told)) = inbox.recv().await {
        let key = (about.uid.clone().unwrap_or_default(), told.note.clone());
        if !said.is_news(key, clock::now()) {
            continue;
        }
        let event = Event {
            type_: if told.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: told.reason.to_owned(),
            note: Some(told.note.chars().take(1000).collect()),
            action: action(&told),
            secondary: None,
        };
        if let Err(error) = recorder.publish(&event, &about).await {
            tracing::warn!(error = %lease::chain(&error), reason = told.reason, "an event could not be published");
        }
    }
}

/// Kubernetes joins events of the same action and keeps the first sentence, so another sentence is another action.
fn action(told: &Told) -> String {
    let mut hasher = DefaultHasher::new();
    told.note.hash(&mut hasher);
    format!("{}-{:08x}", told.action, hasher.finish() >> 32)
}

/// What was said lately.
#[derive(Debug, Default)]
struct Said {
    at: HashMap<(String, String), Millis>,
}

impl Said {
    fn is_news(&mut self, key: (String, String), now: Millis) -> bool {
        self.at.retain(|_, at| *at + QUIET > now);
        match self.at.entry(key) {
            std::collections::hash_map::Entry::Occupied(_) => false,
            std::collections::hash_map::Entry::Vacant(empty) => {
                empty.insert(now);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_sentence_is_another_event() {
        let told = |note: &str| Told {
            warning: false,
            reason: "Cloned",
            action: "clone".to_owned(),
            note: note.to_owned(),
        };
        assert_eq!(action(&told("a")), action(&told("a")));
        assert_ne!(action(&told("a")), action(&told("b")));
        assert!(action(&told("a")).starts_with("clone-"));
    }

    #[test]
    fn the_same_sentence_is_said_once_a_minute() {
        let mut said = Said::default();
        let key = || ("uid".to_owned(), "fenced".to_owned());
        assert!(said.is_news(key(), 0));
        assert!(!said.is_news(key(), 59_999));
        assert!(said.is_news(key(), 60_000));
        assert!(said.is_news(("other".to_owned(), "fenced".to_owned()), 60_000));
    }
}
