//! What the operator counts and measures, in the Prometheus text format. Each metric is explained in
//! `docs/monitoring.md`.
//!
//! What is said about databases is said by their leader only: it is kept in one table, from which a database is taken
//! when this operator no longer leads it, and made into gauges when somebody asks.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use api::DistributedDatabaseStatus;
use api::resource::Phase;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::snapshot::Key;

/// Labels of changes of master.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ChangeLabels {
    /// `Failover`, `Switchover`, `Bootstrap`.
    pub kind: String,
    /// Why.
    pub cause: String,
    /// `done`, or `begun-anew` where a further term was needed.
    pub result: &'static str,
}

/// Label of what is told by cause.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CauseLabels {
    /// Why the master was replaced.
    pub cause: String,
}

/// Labels of actions that ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ActionLabels {
    /// The action's kind.
    pub action: &'static str,
    /// `done` or `failed`.
    pub result: &'static str,
}

/// Label of a step of a change.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StepLabels {
    /// `recorded`, `fenced`, `drained`, `promoted`, `led`, `routed`, `total`.
    pub step: String,
}

/// Label of a phase.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    phase: String,
}

/// Labels of one database.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DatabaseLabels {
    namespace: String,
    database: String,
}

/// Labels of one database in a phase.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DatabasePhaseLabels {
    namespace: String,
    database: String,
    phase: String,
}

/// Labels of a database's nodes with one role.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RoleLabels {
    namespace: String,
    database: String,
    role: String,
}

/// What is shown of one database.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    phase: Phase,
    safe_to_lose: i32,
    ready_nodes: i32,
    /// Nodes by what they do.
    roles: BTreeMap<String, i64>,
}

/// Label of what the guards of masters did.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct GuardLabels {
    /// `closed`: a master closed itself; `ended`: it was opened again or replaced.
    pub action: &'static str,
}

/// Label of a reconciliation's result.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReconcileLabels {
    /// `done`, `invalid`, `failed`.
    pub result: &'static str,
}

/// All metrics; cheap to share.
pub struct Metrics {
    registry: Registry,
    /// 1 while this operator leads.
    pub leader: Gauge,
    /// Open sessions with nodes.
    pub sessions: Gauge,
    /// Changes of master, by how they ended.
    pub changes: Family<ChangeLabels, Counter>,
    /// Seconds from the last sign that a master led to the decision to replace it.
    pub detection: Family<CauseLabels, Histogram, fn() -> Histogram>,
    /// Actions by how they ended.
    pub actions: Family<ActionLabels, Counter>,
    /// Seconds from the first evidence to the end of each step.
    pub steps: Family<StepLabels, Histogram, fn() -> Histogram>,
    /// Seconds that each step took after the one before it.
    pub phases: Family<StepLabels, Histogram, fn() -> Histogram>,
    /// The databases that this operator leads.
    databases: Mutex<BTreeMap<Key, Shown>>,
    /// Databases handed over by the reconcile side.
    pub reconciles: Family<ReconcileLabels, Counter>,
    /// What the guards of masters did, as far as this operator was told.
    pub guard_actions: Family<GuardLabels, Counter>,
    /// Writes of status.
    pub status_writes: Counter,
}

fn step_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.002, 2.0, 14))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("ddb_operator"),
            leader: Gauge::default(),
            sessions: Gauge::default(),
            changes: Family::default(),
            actions: Family::default(),
            detection: Family::new_with_constructor(step_histogram),
            steps: Family::new_with_constructor(step_histogram),
            phases: Family::new_with_constructor(step_histogram),
            databases: Mutex::default(),
            reconciles: Family::default(),
            guard_actions: Family::default(),
            status_writes: Counter::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("leader", "1 while this operator leads", metrics.leader.clone());
        registry.register(
            "node_sessions_open",
            "Open sessions with nodes",
            metrics.sessions.clone(),
        );
        registry.register(
            "failovers",
            "Changes of master by kind, cause and result",
            metrics.changes.clone(),
        );
        registry.register(
            "detection_seconds",
            "Seconds from the last sign that a master led to the decision to replace it",
            metrics.detection.clone(),
        );
        registry.register(
            "actions",
            "Actions of failover plans by result",
            metrics.actions.clone(),
        );
        registry.register(
            "failover_step_seconds",
            "Seconds from the first evidence to the end of each step of a change of master",
            metrics.steps.clone(),
        );
        registry.register(
            "failover_phase_seconds",
            "Seconds that each step of a change of master took after the one before it",
            metrics.phases.clone(),
        );
        registry.register(
            "reconciles",
            "Databases handed over after applying, by result",
            metrics.reconciles.clone(),
        );
        registry.register(
            "guard_actions",
            "Masters that closed themselves, and ends of that",
            metrics.guard_actions.clone(),
        );
        registry.register(
            "status_writes",
            "Writes of a database's status",
            metrics.status_writes.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// The metrics as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let written = encode_registry(&mut text, &self.registry)
            .and_then(|()| encode_registry(&mut text, &self.of_databases()))
            .and_then(|()| encode_eof(&mut text));
        match written {
            Ok(()) => text,
            Err(error) => format!("# metrics cannot be written: {error}\n"),
        }
    }

    /// Counts a completed change of master and its steps.
    pub fn changed(&self, change: &failover::Change) {
        self.count(&change.intent, "done");
        let mut before = 0;
        for (step, millis) in change.steps_in_order() {
            observe(&self.steps, step, millis);
            observe(&self.phases, step, millis - before);
            before = millis;
        }
        observe(&self.steps, "total", change.total);
    }

    /// Counts a change of master that came to nothing, so that another term was taken.
    pub fn begun_anew(&self, intent: &failover::Intent) {
        self.count(intent, "begun-anew");
    }

    fn count(&self, intent: &failover::Intent, result: &'static str) {
        let labels = ChangeLabels {
            kind: format!("{:?}", intent.kind),
            cause: format!("{:?}", intent.cause),
            result,
        };
        self.changes.get_or_create(&labels).inc();
    }

    /// A master that was last known to lead so long ago is replaced.
    pub fn detected(&self, cause: failover::Cause, millis: failover::Millis) {
        let labels = CauseLabels {
            cause: format!("{cause:?}"),
        };
        self.detection.get_or_create(&labels).observe(seconds(millis));
    }

    /// Shows how a database is; `None` where this operator does not lead it, or it is gone.
    pub fn show(&self, key: &Key, status: Option<&DistributedDatabaseStatus>) {
        let mut databases = self.databases.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(status) = status else {
            databases.remove(key);
            return;
        };
        let mut roles = BTreeMap::new();
        for node in &status.nodes {
            *roles.entry(format!("{:?}", node.role)).or_insert(0) += 1;
        }
        let shown = Shown {
            phase: status.phase,
            safe_to_lose: status.safe_to_lose,
            ready_nodes: status.ready_nodes,
            roles,
        };
        databases.insert(key.clone(), shown);
    }

    fn of_databases(&self) -> Registry {
        let phases = Family::<PhaseLabels, Gauge>::default();
        let phase_of = Family::<DatabasePhaseLabels, Gauge>::default();
        let safe = Family::<DatabaseLabels, Gauge>::default();
        let ready = Family::<DatabaseLabels, Gauge>::default();
        let nodes = Family::<RoleLabels, Gauge>::default();
        let databases = self.databases.lock().unwrap_or_else(PoisonError::into_inner);
        for ((namespace, database), shown) in databases.iter() {
            let (namespace, database, phase) =
                (namespace.clone(), database.clone(), format!("{:?}", shown.phase));
            let of = DatabaseLabels {
                namespace: namespace.clone(),
                database: database.clone(),
            };
            safe.get_or_create(&of).set(shown.safe_to_lose.into());
            ready.get_or_create(&of).set(shown.ready_nodes.into());
            for (role, count) in &shown.roles {
                let labels = RoleLabels {
                    namespace: namespace.clone(),
                    database: database.clone(),
                    role: role.clone(),
                };
                nodes.get_or_create(&labels).set(*count);
            }
            phases.get_or_create(&PhaseLabels { phase: phase.clone() }).inc();
            let labels = DatabasePhaseLabels {
                namespace,
                database,
                phase,
            };
            phase_of.get_or_create(&labels).set(1);
        }
        let mut registry = Registry::with_prefix("ddb_operator");
        registry.register(
            "databases",
            "Databases that this operator leads, by phase",
            phases,
        );
        registry.register(
            "database_phase",
            "1 for the phase that a database is in",
            phase_of,
        );
        registry.register(
            "database_safe_to_lose",
            "How many nodes may fail now without losing writes or acknowledged data",
            safe,
        );
        registry.register("database_ready_nodes", "Nodes that serve their role", ready);
        registry.register("database_nodes", "Nodes by what they do", nodes);
        registry
    }
}

fn seconds(millis: failover::Millis) -> f64 {
    std::time::Duration::from_millis(millis).as_secs_f64()
}

fn observe(family: &Family<StepLabels, Histogram, fn() -> Histogram>, step: &str, millis: failover::Millis) {
    let labels = StepLabels {
        step: step.to_owned(),
    };
    family.get_or_create(&labels).observe(seconds(millis));
}

#[cfg(test)]
mod tests {
    use api::resource::{NodeRole, NodeStatus};
    use failover::{Cause, Change, Intent, Kind, Term};

    use super::*;

    fn failed_over() -> Change {
        let steps = [
            ("recorded", 10),
            ("fenced", 60),
            ("promoted", 100),
            ("routed", 130),
        ];
        Change {
            term: Term(2),
            intent: Intent {
                kind: Kind::Failover,
                cause: Cause::ServerDied,
                from: None,
                to: None,
            },
            master: "shop-1".into(),
            steps: steps.map(|(step, at)| (step.to_owned(), at)).into(),
            total: 130,
            may_be_lost: None,
            kept: failover::GtidSet::default(),
        }
    }

    /// One of everything.
    fn full() -> Metrics {
        let metrics = Metrics::default();
        let change = failed_over();
        metrics.changed(&change);
        metrics.begun_anew(&change.intent);
        metrics.detected(Cause::Unreachable, 1100);
        metrics
            .actions
            .get_or_create(&ActionLabels {
                action: "fence",
                result: "done",
            })
            .inc();
        metrics
            .reconciles
            .get_or_create(&ReconcileLabels { result: "done" })
            .inc();
        metrics
            .guard_actions
            .get_or_create(&GuardLabels { action: "closed" })
            .inc();
        let node = NodeStatus {
            name: "shop-0".into(),
            role: NodeRole::Master,
            ..NodeStatus::default()
        };
        let status = DistributedDatabaseStatus {
            phase: Phase::Healthy,
            nodes: vec![node],
            ..DistributedDatabaseStatus::default()
        };
        metrics.show(&("default".to_owned(), "shop".to_owned()), Some(&status));
        metrics
    }

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|it| it == line), "no line {line} in\n{text}");
    }

    #[test]
    fn a_failover_is_told_by_cause_result_and_the_time_of_each_phase() {
        let text = full().text();
        for result in ["done", "begun-anew"] {
            has(
                &text,
                &format!(
                    r#"ddb_operator_failovers_total{{kind="Failover",cause="ServerDied",result="{result}"}} 1"#
                ),
            );
        }
        has(
            &text,
            r#"ddb_operator_failover_step_seconds_sum{step="promoted"} 0.1"#,
        );
        has(
            &text,
            r#"ddb_operator_failover_phase_seconds_sum{step="promoted"} 0.04"#,
        );
        has(
            &text,
            r#"ddb_operator_detection_seconds_sum{cause="Unreachable"} 1.1"#,
        );
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn a_database_is_shown_while_this_operator_leads_it_and_no_longer() {
        let metrics = full();
        let shown = r#"ddb_operator_database_phase{namespace="default",database="shop",phase="Healthy"} 1"#;
        has(&metrics.text(), shown);
        has(&metrics.text(), r#"ddb_operator_databases{phase="Healthy"} 1"#);
        metrics.show(&("default".to_owned(), "shop".to_owned()), None);
        assert!(!metrics.text().contains("shop"), "{}", metrics.text());
        assert!(!metrics.text().contains("Healthy"), "{}", metrics.text());
    }

    /// The names of metrics that stand in a text.
    fn named(text: &str) -> std::collections::BTreeSet<&str> {
        text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_')
            .filter(|word| word.starts_with("ddb_operator_"))
            .map(|word| {
                let ends = ["_total", "_bucket", "_sum", "_count"];
                ends.iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word)
            })
            .collect()
    }

    #[test]
    fn every_metric_is_documented_and_rules_and_dashboard_name_no_other() {
        let text = full().text();
        let known = named(&text);
        assert_eq!(named(include_str!("../../docs/monitoring.md")), known);
        let rules = include_str!("../../charts/ddb-operator/files/rules.yaml");
        let dashboard = include_str!("../../charts/ddb-operator/files/dashboard.json");
        for text in [rules, dashboard] {
            let used = named(text);
            assert!(!used.is_empty() && used.is_subset(&known), "{used:?}");
        }
    }
}
