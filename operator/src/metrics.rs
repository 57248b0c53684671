//! What the operator counts and measures, in the Prometheus text format.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Labels of completed changes of master.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ChangeLabels {
    /// `Failover`, `Switchover`, `Bootstrap`.
    pub kind: String,
    /// Why.
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
    /// `recorded`, `fenced`, `drained`, `promoted`, `routed`, `total`.
    pub step: String,
}

/// Label of a phase.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PhaseLabels {
    /// The phase of a database.
    pub phase: String,
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
    /// Completed changes of master.
    pub changes: Family<ChangeLabels, Counter>,
    /// Actions by how they ended.
    pub actions: Family<ActionLabels, Counter>,
    /// Seconds from the first evidence to the end of each step.
    pub steps: Family<StepLabels, Histogram, fn() -> Histogram>,
    /// Databases by phase.
    pub phases: Family<PhaseLabels, Gauge>,
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
            steps: Family::new_with_constructor(step_histogram),
            phases: Family::default(),
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
            "Completed changes of master by kind and cause",
            metrics.changes.clone(),
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
        registry.register("databases", "Databases by phase", metrics.phases.clone());
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
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => format!("# metrics cannot be written: {error}\n"),
        }
    }

    /// Counts a completed change of master and its steps.
    pub fn changed(&self, change: &failover::Change) {
        let labels = ChangeLabels {
            kind: format!("{:?}", change.intent.kind),
            cause: format!("{:?}", change.intent.cause),
        };
        self.changes.get_or_create(&labels).inc();
        for (step, millis) in change.steps.iter().map(|(step, millis)| (step.as_str(), *millis)) {
            self.observe(step, millis);
        }
        self.observe("total", change.total);
    }

    fn observe(&self, step: &str, millis: failover::Millis) {
        let seconds = std::time::Duration::from_millis(millis).as_secs_f64();
        self.steps
            .get_or_create(&StepLabels {
                step: step.to_owned(),
            })
            .observe(seconds);
    }

    /// Moves a database from one phase to another; `None` where it comes or goes.
    pub fn phase(&self, from: Option<api::resource::Phase>, to: Option<api::resource::Phase>) {
        if from == to {
            return;
        }
        let gauge = |phase| PhaseLabels {
            phase: format!("{phase:?}"),
        };
        if let Some(phase) = from {
            self.phases.get_or_create(&gauge(phase)).dec();
        }
        if let Some(phase) = to {
            self.phases.get_or_create(&gauge(phase)).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_the_operators_prefix() {
        let metrics = Metrics::default();
        metrics.phase(None, Some(api::resource::Phase::Healthy));
        let text = metrics.text();
        assert!(text.contains("ddb_operator_leader 0"), "{text}");
        assert!(
            text.contains(r#"ddb_operator_databases{phase="Healthy"} 1"#),
            "{text}"
        );
    }
}
