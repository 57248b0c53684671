//! From what the watches tell to lines and an ending: pure. The status tells less than the pods do, because the
//! operator writes it only at the beginning and the end; so the labels and the endpoint slice are followed too.

use std::collections::BTreeMap;
use std::time::Duration;

use api::resource::RequestStatus;
use api::{DistributedDatabase, names};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;

use crate::commands::request::Ask;
use crate::view::model::ChangeView;
use crate::view::routing;

/// The operator's answer stands in the status at most a second after the annotation is gone; longer than that.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// Something that was seen.
pub enum Seen {
    /// The resource.
    Object(Box<DistributedDatabase>),
    /// One of its pods.
    Pod(Box<Pod>),
    /// The master's endpoint slice.
    Slice(Box<EndpointSlice>),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Carried out, in the operator's words.
    Done(String),
    /// Refused, in the operator's words.
    Refused(String),
    /// The annotation went without an answer.
    Withdrawn,
    /// No answer in time.
    TimedOut,
    /// The user stopped waiting.
    Interrupted,
}

/// What is remembered between two sights.
pub struct Tracker {
    wish: Ask,
    from: Option<String>,
    told_term: u64,
    told_change: u64,
    answered_before: Option<RequestStatus>,
    answer: Option<RequestStatus>,
    master: Option<String>,
    led: Option<(u64, String)>,
    gone_at: Option<Duration>,
    labels: BTreeMap<String, Option<String>>,
    routed: Option<Vec<String>>,
}

impl Tracker {
    /// Begins with the resource as it was before the request.
    pub fn new(before: &DistributedDatabase, wish: &Ask) -> Self {
        let status = before.status.clone().unwrap_or_default();
        let term = status.record.term.0;
        Self {
            wish: wish.clone(),
            from: status.record.master.as_ref().map(ToString::to_string),
            told_term: term,
            told_change: term,
            answered_before: status.last_request,
            answer: None,
            master: None,
            led: None,
            gone_at: None,
            labels: BTreeMap::new(),
            routed: None,
        }
    }

    /// Takes in what was seen `at` after the beginning; gives the lines to print.
    pub fn see(&mut self, seen: &Seen, at: Duration) -> Vec<String> {
        match seen {
            Seen::Object(object) => self.object(object, at),
            Seen::Pod(pod) => self.pod(pod).into_iter().collect(),
            Seen::Slice(slice) => self.slice(slice).into_iter().collect(),
        }
    }

    /// How it ended, once that is known.
    pub fn ending(&self, at: Duration) -> Option<Ending> {
        if let Some(answer) = &self.answer {
            return Some(if answer.done {
                Ending::Done(answer.message.clone())
            } else {
                Ending::Refused(answer.message.clone())
            });
        }
        let gone_at = self.gone_at?;
        // The change is complete and the wish taken away: the words in the status only follow.
        if let Some((term, master)) = &self.led
            && self.is_meant(master)
        {
            return Some(Ending::Done(format!("{master} leads in term {term}")));
        }
        if at < gone_at + PATIENCE {
            return None;
        }
        let leads = self.master.as_ref().filter(|master| self.is_meant(master));
        Some(leads.map_or(Ending::Withdrawn, |master| {
            Ending::Done(format!("{master} leads"))
        }))
    }

    /// True where this master is what was asked for.
    fn is_meant(&self, master: &str) -> bool {
        match &self.wish.to {
            Some(to) => to == master,
            None => self.wish.annotation == names::ANNOTATION_PROMOTE && self.from.as_deref() != Some(master),
        }
    }

    fn object(&mut self, object: &DistributedDatabase, at: Duration) -> Vec<String> {
        let mut lines = Vec::new();
        let Some(status) = &object.status else {
            return lines;
        };
        let term = status.record.term.0;
        if let Some(intent) = &status.record.intent
            && term > self.told_term
        {
            self.told_term = term;
            lines.push(format!(
                "term {term} is taken, because {}",
                intent.cause.sentence()
            ));
        }
        for recorded in status.last_failovers.iter().rev() {
            let change = ChangeView::of(recorded);
            if change.term > self.told_change {
                self.told_change = change.term;
                self.led = Some((change.term, change.to.clone()));
                self.told_term = self.told_term.max(change.term);
                lines.push(format!(
                    "term {}: {} leads; by the operator's clock {} ms = {}",
                    change.term,
                    change.to,
                    change.total_ms,
                    change.sum()
                ));
            }
        }
        self.master = status.record.master.as_ref().map(ToString::to_string);
        if status.last_request != self.answered_before && self.answer.is_none() {
            self.answer.clone_from(&status.last_request);
        }
        if self.wish.of(object) == Some(&self.wish.value) {
            self.gone_at = None;
        } else {
            self.gone_at.get_or_insert(at);
        }
        lines
    }

    fn pod(&mut self, pod: &Pod) -> Option<String> {
        let label = pod.labels().get(names::LABEL_ROLE).cloned();
        let name = pod.name_any();
        let before = self.labels.insert(name.clone(), label.clone())?;
        if before == label {
            return None;
        }
        Some(match label {
            Some(role) => format!("{name} is labelled {role}"),
            None => format!("{name} is no {} any more", before.as_deref().unwrap_or("node")),
        })
    }

    fn slice(&mut self, slice: &EndpointSlice) -> Option<String> {
        let service = slice.labels().get(crate::fetch::SERVICE_NAME)?;
        let to = routing::targets(std::slice::from_ref(slice), service);
        let before = self.routed.replace(to.clone())?;
        (before != to).then(|| {
            let to = if to.is_empty() {
                "nowhere".to_owned()
            } else {
                format!("to {}", to.join(", "))
            };
            format!("{service} leads {to}")
        })
    }
}

#[cfg(test)]
mod tests {
    use failover::{Cause, Intent, Kind, Term};
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::view::example;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn wishing() -> DistributedDatabase {
        let mut object = example::healthy().object;
        object
            .annotations_mut()
            .insert(names::ANNOTATION_PROMOTE.to_owned(), "shop-1".to_owned());
        object
    }

    fn seen(object: &DistributedDatabase) -> Seen {
        Seen::Object(Box::new(object.clone()))
    }

    fn answer(object: &mut DistributedDatabase, done: bool, message: &str) {
        object.annotations_mut().remove(names::ANNOTATION_PROMOTE);
        object.status.as_mut().unwrap().last_request = Some(RequestStatus {
            at: Time(Timestamp::from_second(1_700_000_100).unwrap()),
            done,
            message: message.to_owned(),
        });
    }

    #[test]
    fn a_switchover_is_told_from_its_term_to_its_answer() {
        let mut object = wishing();
        let mut tracker = Tracker::new(&object, &Ask::promote("shop-1"));
        assert!(tracker.see(&seen(&object), MS(5)).is_empty());
        let record = &mut object.status.as_mut().unwrap().record;
        record.term = Term(4);
        record.master = None;
        record.intent = Some(Intent {
            kind: Kind::Switchover,
            cause: Cause::Requested,
            from: Some("shop-0".into()),
            to: Some("shop-1".into()),
        });
        let lines = tracker.see(&seen(&object), MS(10));
        assert_eq!(lines, ["term 4 is taken, because it was asked for"]);
        assert_eq!(tracker.ending(MS(10)), None);
        object.status = example::switched_over().object.status;
        let lines = tracker.see(&seen(&object), MS(100));
        assert_eq!(
            lines,
            [
                "term 4: shop-1 leads; by the operator's clock 95 ms = recorded 5 + fenced 35 + drained 0 + promoted 20 + routed 35"
            ]
        );
        assert_eq!(tracker.ending(MS(100)), None);
        object.annotations_mut().remove(names::ANNOTATION_PROMOTE);
        tracker.see(&seen(&object), MS(120));
        assert_eq!(
            tracker.ending(MS(120)),
            Some(Ending::Done("shop-1 leads in term 4".to_owned()))
        );
    }

    #[test]
    fn a_switchover_that_returned_to_the_old_master_waits_for_the_answer() {
        let mut object = wishing();
        let mut tracker = Tracker::new(&object, &Ask::promote("shop-2"));
        object.status = example::switched_over().object.status;
        object.annotations_mut().remove(names::ANNOTATION_PROMOTE);
        tracker.see(&seen(&object), MS(100));
        assert_eq!(tracker.ending(MS(100)), None);
        answer(&mut object, false, "shop-2 could not take over in time");
        tracker.see(&seen(&object), MS(900));
        let ending = tracker.ending(MS(900));
        assert_eq!(
            ending,
            Some(Ending::Refused("shop-2 could not take over in time".to_owned()))
        );
    }

    #[test]
    fn a_refusal_is_an_ending() {
        let mut object = wishing();
        let mut tracker = Tracker::new(&object, &Ask::promote("shop-1"));
        answer(&mut object, false, "shop-1 cannot lead: it is silent");
        tracker.see(&seen(&object), MS(20));
        let ending = tracker.ending(MS(20));
        assert_eq!(
            ending,
            Some(Ending::Refused("shop-1 cannot lead: it is silent".to_owned()))
        );
    }

    #[test]
    fn a_wish_that_goes_without_an_answer_was_withdrawn() {
        let mut object = wishing();
        let mut tracker = Tracker::new(&object, &Ask::promote("shop-1"));
        object.annotations_mut().remove(names::ANNOTATION_PROMOTE);
        tracker.see(&seen(&object), MS(20));
        assert_eq!(tracker.ending(MS(2000)), None);
        assert_eq!(tracker.ending(MS(4000)), Some(Ending::Withdrawn));
    }

    #[test]
    fn labels_and_routes_are_told_when_they_change() {
        let facts = example::healthy();
        let pods = facts.pods.get().unwrap();
        let mut tracker = Tracker::new(&facts.object, &Ask::promote("shop-1"));
        let pod = |pod: &Pod| Seen::Pod(Box::new(pod.clone()));
        assert!(tracker.see(&pod(&pods["shop-0"]), MS(1)).is_empty());
        let mut bare = pods["shop-0"].clone();
        bare.labels_mut().remove(names::LABEL_ROLE);
        assert_eq!(tracker.see(&pod(&bare), MS(2)), ["shop-0 is no master any more"]);
        bare.labels_mut()
            .insert(names::LABEL_ROLE.to_owned(), "slave".to_owned());
        assert_eq!(tracker.see(&pod(&bare), MS(3)), ["shop-0 is labelled slave"]);
        let slice =
            |facts: &crate::fetch::Facts| Seen::Slice(Box::new(facts.slices.get().unwrap()[0].clone()));
        assert!(tracker.see(&slice(&facts), MS(4)).is_empty());
        let lines = tracker.see(&slice(&example::switched_over()), MS(5));
        assert_eq!(lines, ["shop-master leads to shop-1"]);
    }
}
