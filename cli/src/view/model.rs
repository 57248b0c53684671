//! The whole answer of `status` as data. It is the JSON output too, documented in `docs/kubectl-ddb.md`: fields may
//! be added, none renamed or removed.

use api::kept::Kept;
use api::resource::{FailoverStatus, Phase};
use failover::{Cause, Kind, Millis};
use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use super::{nodes, routing, verdict, warnings};
use crate::fetch::{Facts, Operator};

/// One database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The judgement in one word.
    pub verdict: Verdict,
    /// The judgement in a sentence.
    pub sentence: String,
    /// How many nodes may fail now without stopping writes or losing acknowledged data; 0 where no operator is at
    /// work to replace a master, and where writes do not work.
    pub safe_to_lose: i32,
    /// The operator's own word, as last written.
    pub phase: Phase,
    /// The newest term.
    pub term: u64,
    /// The node that leads, as last written; null while there is none.
    pub master: Option<String>,
    /// How many nodes are asked for.
    pub wanted: i32,
    /// Who looks after it.
    pub operator: OperatorView,
    /// When the status was last written; null where that cannot be read.
    pub status_written_at: Option<Timestamp>,
    /// Nobody keeps the status up to date any more.
    pub status_is_stale: bool,
    /// `spec.paused`: a failed master is not replaced.
    pub paused: bool,
    /// Nodes that are kept closed by annotation.
    pub fenced: Vec<String>,
    /// Only where a master is needed and too few nodes answer: who is missing, and what could be forced.
    pub last_resort: Option<LastResortView>,
    /// Its nodes.
    pub nodes: Vec<NodeView>,
    /// Where its Services lead; null where that cannot be read.
    pub routing: Option<RoutingView>,
    /// The change of master that is under way.
    pub change_under_way: Option<Intended>,
    /// The last changes of master, newest first.
    pub last_changes: Vec<ChangeView>,
    /// A switchover that was asked for and not answered yet: its target.
    pub requested: Option<String>,
    /// The answer to the last switchover that was asked for.
    pub last_request: Option<AnswerView>,
    /// What is wrong, each with the command that mends it or shows more.
    pub warnings: Vec<Warning>,
    /// What could not be read.
    pub unknown: Vec<String>,
}

/// The judgement in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Verdict {
    /// All is as it should be.
    #[serde(rename = "HEALTHY")]
    Healthy,
    /// Writes and safety are there, something is missing.
    #[serde(rename = "DEGRADED")]
    Degraded,
    /// Writes work; one more failure stops them.
    #[serde(rename = "AT RISK")]
    AtRisk,
    /// Writes do not work.
    #[serde(rename = "DOWN")]
    Down,
}

impl Verdict {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Healthy => "HEALTHY",
            Self::Degraded => "DEGRADED",
            Self::AtRisk => "AT RISK",
            Self::Down => "DOWN",
        }
    }
}

/// Who looks after the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OperatorView {
    /// `Alive`, `Silent`, `Absent` or `Unknown`.
    pub state: &'static str,
    /// The pod that leads.
    pub holder: Option<String>,
    /// Its namespace.
    pub namespace: Option<String>,
    /// The last sign of life of one that is silent.
    pub silent_since: Option<Timestamp>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    /// Its name, which is its pod's.
    pub name: String,
    /// What it does, as last written.
    pub role: api::resource::NodeRole,
    /// Whether it serves that role.
    pub ready: bool,
    /// `ok`, or what is wrong.
    pub health: String,
    /// How many of the master's transactions it has not executed, as last written.
    pub behind: Option<i64>,
    /// The pod's address.
    pub address: Option<String>,
    /// The machine it runs on.
    pub machine: Option<String>,
    /// `mysqld`'s version.
    pub version: Option<String>,
    /// When the operator last heard of it, as last written.
    pub last_contact: Option<Timestamp>,
    /// What Kubernetes has of it; null where that cannot be read.
    pub pod: Option<PodView>,
    /// Transactions that it gave up and keeps as files, as last written; null where there are none.
    pub kept: Option<Kept>,
}

/// A node's pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodView {
    /// There is one.
    pub exists: bool,
    /// Kubernetes calls it ready.
    pub ready: bool,
    /// It is being deleted.
    pub deleting: bool,
    /// The value of its role label.
    pub label: Option<String>,
    /// How often its containers were started again.
    pub restarts: i32,
    /// Why it does not run; null where it does.
    pub trouble: Option<String>,
}

/// Where the Services lead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RoutingView {
    /// The Service for writes.
    pub master_service: String,
    /// The pods or addresses it leads to.
    pub master_leads_to: Vec<String>,
    /// It leads to the master and nowhere else.
    pub master_is_right: bool,
    /// The Service for reads.
    pub slaves_service: String,
    /// The ready pods or addresses it leads to.
    pub slaves_lead_to: Vec<String>,
}

/// A change of master that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Intended {
    /// What kind.
    pub kind: Kind,
    /// Why.
    pub cause: Cause,
    /// The master before.
    pub from: Option<String>,
    /// The node that was asked for.
    pub to: Option<String>,
}

/// A change of master that is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeView {
    /// The term.
    pub term: u64,
    /// When it was complete.
    pub at: Timestamp,
    /// What kind.
    pub kind: Kind,
    /// Why.
    pub cause: Cause,
    /// The master before.
    pub from: Option<String>,
    /// The master since.
    pub to: String,
    /// Milliseconds from the first evidence to the end.
    pub total_ms: Millis,
    /// Its steps, in their order.
    pub steps: Vec<StepView>,
    /// After a forced promotion: what it may have given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub may_be_lost: Option<String>,
}

/// What a person can do where nothing can be done safely.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastResortView {
    /// Who is missing, each with the reason.
    pub missing: Vec<String>,
    /// The command that gives up what only they hold; null where no node that answers could lead.
    pub command: Option<String>,
}

/// A step of a change of master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepView {
    /// What was done: `recorded`, `fenced`, `drained`, `promoted`, `led` (clients, by the Service), `routed`.
    pub step: String,
    /// Milliseconds from the first evidence to its end.
    pub at_ms: Millis,
    /// Milliseconds since the step before.
    pub took_ms: Millis,
}

/// The answer to a switchover that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AnswerView {
    /// When.
    pub at: Timestamp,
    /// It was carried out.
    pub done: bool,
    /// The operator's words.
    pub message: String,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Warning {
    /// What.
    pub text: String,
    /// The command that mends it or shows more.
    pub command: String,
}

impl View {
    /// Everything that is shown of these facts.
    pub fn of(facts: &Facts) -> Self {
        let object = &facts.object;
        let status = object.status.clone().unwrap_or_default();
        let mut view = Self {
            name: object.name_any(),
            namespace: object.namespace().unwrap_or_default(),
            verdict: Verdict::Healthy,
            sentence: String::new(),
            safe_to_lose: if facts.operator.is_gone() {
                0
            } else {
                status.safe_to_lose
            },
            phase: status.phase,
            term: status.record.term.0,
            master: status.record.master.as_ref().map(ToString::to_string),
            wanted: object.spec.nodes,
            operator: operator_view(&facts.operator),
            status_written_at: written_at(facts),
            status_is_stale: facts.operator.is_gone(),
            paused: object.spec.paused,
            fenced: fenced(object),
            last_resort: status.last_resort.as_ref().map(|last| LastResortView {
                missing: last.missing.clone(),
                command: last.command.clone(),
            }),
            nodes: nodes::of(facts),
            routing: routing::of(facts),
            change_under_way: status.record.intent.as_ref().map(|intent| Intended {
                kind: intent.kind,
                cause: intent.cause,
                from: intent.from.as_ref().map(ToString::to_string),
                to: intent.to.as_ref().map(ToString::to_string),
            }),
            last_changes: status.last_failovers.iter().map(ChangeView::of).collect(),
            requested: object.annotations().get(api::names::ANNOTATION_PROMOTE).cloned(),
            last_request: status.last_request.as_ref().map(|answer| AnswerView {
                at: answer.at.0,
                done: answer.done,
                message: answer.message.clone(),
            }),
            warnings: Vec::new(),
            unknown: unknown(facts),
        };
        let (verdict, sentence) = verdict::of(&view, facts);
        view.verdict = verdict;
        view.sentence = sentence;
        if verdict == Verdict::Down {
            // The pods may be worse than the status that was last written.
            view.safe_to_lose = 0;
        }
        view.warnings = warnings::of(&view, facts);
        view
    }
}

impl ChangeView {
    /// A change as the operator recorded it.
    pub fn of(recorded: &FailoverStatus) -> Self {
        let FailoverStatus { at, change } = recorded;
        let mut before = 0;
        let steps = change
            .steps_in_order()
            .into_iter()
            .map(|(step, at_ms)| StepView {
                step: step.to_owned(),
                at_ms,
                took_ms: at_ms - std::mem::replace(&mut before, at_ms),
            })
            .collect();
        Self {
            term: change.term.0,
            at: at.0,
            kind: change.intent.kind,
            cause: change.intent.cause,
            from: change.intent.from.as_ref().map(ToString::to_string),
            to: change.master.to_string(),
            total_ms: change.total,
            steps,
            may_be_lost: change.may_be_lost.clone(),
        }
    }

    /// The steps with what each took: `recorded 5 + fenced 35 + …`.
    pub fn sum(&self) -> String {
        let mut parts: Vec<String> = self
            .steps
            .iter()
            .map(|step| format!("{} {}", step.step, step.took_ms))
            .collect();
        let rest = self.total_ms - self.steps.last().map_or(0, |last| last.at_ms.min(self.total_ms));
        if rest > 0 && !parts.is_empty() {
            parts.push(format!("rest {rest}"));
        }
        parts.join(" + ")
    }
}

fn operator_view(operator: &Operator) -> OperatorView {
    let (state, holder, namespace, silent_since) = match operator {
        Operator::Alive { holder, namespace } => ("Alive", Some(holder), Some(namespace), None),
        Operator::Silent { since, namespace, .. } => ("Silent", None, Some(namespace), *since),
        Operator::Absent => ("Absent", None, None, None),
        Operator::Unknown { .. } => ("Unknown", None, None, None),
    };
    OperatorView {
        state,
        holder: holder.cloned(),
        namespace: namespace.cloned(),
        silent_since,
    }
}

/// The API server keeps who wrote the status and when.
fn written_at(facts: &Facts) -> Option<Timestamp> {
    let writes = facts.object.metadata.managed_fields.as_ref()?;
    writes
        .iter()
        .filter(|write| write.subresource.as_deref() == Some("status"))
        .filter_map(|write| write.time.as_ref().map(|time| time.0))
        .max()
}

fn fenced(object: &api::DistributedDatabase) -> Vec<String> {
    let listed = object.annotations().get(api::names::ANNOTATION_FENCE);
    let nodes = listed.into_iter().flat_map(|list| list.split(','));
    nodes
        .map(str::trim)
        .filter(|node| !node.is_empty())
        .map(str::to_owned)
        .collect()
}

fn unknown(facts: &Facts) -> Vec<String> {
    use crate::fetch::Known;
    let mut all = Vec::new();
    if let Known::Not(why) = &facts.pods {
        all.push(format!("pods: {why}"));
    }
    if let Known::Not(why) = &facts.slices {
        all.push(format!("routing: {why}"));
    }
    if let Operator::Unknown { why } = &facts.operator {
        all.push(format!("operator: {why}"));
    }
    all
}
