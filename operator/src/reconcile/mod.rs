//! The resource side: observe → validate → build → apply → report.
//!
//! ```text
//!   DistributedDatabase ─► observe ─► validate ─► build ─► apply ─► report (handoff)
//!                          reads      pure        pure     writes   the engine writes the status
//! ```
//!
//! It never touches a role label, an endpoint slice or the status: those are the engine's. A failure here is
//! reported and retried, and never keeps the engine from leading what runs. A standby only reads, so that the
//! engine's sessions stay warm.

mod apply;
mod build;
mod database;
mod error;
mod memory;
mod observe;
mod rollout;
mod secrets;
mod watch;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use api::{DistributedDatabase, names};
use futures::StreamExt;
use kube::runtime::controller::{self, Action};
use kube::runtime::reflector::ObjectRef;
use kube::{Client, ResourceExt};

use crate::clock;
use crate::handoff::{Applied, Clusters, Desired, Leadership};
use crate::pki::Pair;
use database::Database;
use error::Error;
use memory::Memory;
use writer::Writer;

/// Everything is looked at again after this long, whether or not an event said so.
const PERIOD: Duration = Duration::from_mins(1);
/// How soon a leader that lost its lease in the middle of a reconcile looks again.
const NOT_LEADER: Duration = Duration::from_secs(1);
/// A burst of events, as a new pod or a failover makes one, costs one reconcile after this long.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// How many databases are reconciled at the same time.
const CONCURRENCY: u16 = 16;

/// What the operator was told about images and scope.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Image of the node agent and the supervisor.
    pub node_image: String,
    /// Image with mysqld where a resource names none.
    pub mysql_image: String,
    /// The only namespace that is watched; all where there is none.
    pub watch_namespace: Option<String>,
}

/// What every reconcile needs.
pub struct Context {
    client: Client,
    settings: Settings,
    clusters: Arc<dyn Clusters>,
    leadership: Arc<dyn Leadership>,
    memory: Memory,
}

impl Context {
    /// The parts put together.
    pub fn new(
        client: Client,
        settings: Settings,
        clusters: Arc<dyn Clusters>,
        leadership: Arc<dyn Leadership>,
    ) -> Self {
        Self {
            client,
            settings,
            clusters,
            leadership,
            memory: Memory::default(),
        }
    }

    fn forget(&self, (namespace, name): &(String, String)) {
        self.clusters.forget(namespace, name);
        self.memory.forget(&ObjectRef::new(name).within(namespace));
    }
}

/// Reconciles until `shutdown`.
pub async fn run(context: Context, shutdown: impl Future<Output = ()> + Send + Sync + 'static) {
    let context = Arc::new(context);
    watch::controller(&context)
        .with_config(
            controller::Config::default()
                .concurrency(CONCURRENCY)
                .debounce(DEBOUNCE),
        )
        .graceful_shutdown_on(shutdown)
        .run(reconcile, |_, error, _| match *error {}, context)
        .for_each(|result| async move {
            // Failures of a database are reported in its status and a watch reports its own; what arrives here is an
            // event of an object whose database is gone.
            match result {
                Ok(_) | Err(controller::Error::ObjectNotFound(_)) => {}
                Err(error) => tracing::warn!(error = %error, "a change could not be queued"),
            }
        })
        .await;
}

/// One look at one database. It cannot fail: what goes wrong is handed over as a sentence and tried again.
#[tracing::instrument(skip_all, fields(namespace = object.namespace(), database = object.name_any()))]
async fn reconcile(
    object: Arc<DistributedDatabase>,
    context: Arc<Context>,
) -> Result<Action, std::convert::Infallible> {
    let key = ObjectRef::from_obj(object.as_ref());
    if object.metadata.deletion_timestamp.is_some() {
        context.forget(&(object.namespace().unwrap_or_default(), object.name_any()));
        return Ok(Action::await_change());
    }
    let round = Round {
        context: &context,
        object: &object,
        key: &key,
        writer: context.writer(&object),
    };
    let result = if context.leadership.is_leader() {
        Box::pin(round.lead()).await
    } else {
        round.follow().await
    };
    let applied = match result {
        Ok(applied) => applied,
        Err(error) if error.iter().any(|error| matches!(error, Error::NotLeader)) => {
            return Ok(Action::requeue(NOT_LEADER));
        }
        Err(errors) => Applied::Failed {
            message: errors.iter().map(Error::sentence).collect::<Vec<_>>().join("; "),
        },
    };
    if let Applied::Failed { message } = &applied
        && context.memory.applied(&key) != applied
    {
        tracing::warn!(
            error = message,
            "not everything could be applied; it is tried again"
        );
    }
    let usual = if context.memory.rests(&key, clock::now()) {
        rollout::REST
    } else {
        PERIOD
    };
    let wait = context.memory.note(&key, &applied).unwrap_or(usual);
    round.report(context.memory.last_identity(&key), applied);
    Ok(Action::requeue(wait))
}

impl Context {
    fn writer(&self, object: &DistributedDatabase) -> Writer {
        let namespace = object.namespace().unwrap_or_default();
        Writer::new(
            self.client.clone(),
            Arc::clone(&self.leadership),
            namespace,
            object.name_any(),
        )
    }
}

/// One reconcile of one database.
struct Round<'a> {
    context: &'a Context,
    object: &'a Arc<DistributedDatabase>,
    key: &'a ObjectRef<DistributedDatabase>,
    writer: Writer,
}

impl Round<'_> {
    /// The leader's way: everything is made as the spec says.
    async fn lead(&self) -> Result<Applied, Vec<Error>> {
        let database = match Database::validate(self.object, &self.context.settings) {
            Ok(database) => database,
            Err(problems) => {
                self.follow().await?;
                return Ok(Applied::Invalid { problems });
            }
        };
        let observed = observe::secrets(&self.writer, &database.name)
            .await
            .map_err(alone)?;
        let now = clock::wall();
        let authority = secrets::authority(&self.writer, &database, observed.authority.clone(), now);
        let authority = authority.await.map_err(alone)?;
        self.introduce(&authority)?;
        // Certificates and accounts that cannot be made keep no node from being replaced.
        let secrets = Box::pin(secrets::rest(&self.writer, &database, &authority, &observed, now)).await;
        let observed = observe::objects(&self.writer, &database.name)
            .await
            .map_err(alone)?;
        let status = self.object.status.clone().unwrap_or_default();
        let indices = rollout::indices(database.nodes, &status.record);
        let prepared = build::all(&database, &observed, &indices);
        let rested = |condition| self.context.memory.is_rested(self.key, condition, clock::now());
        let applied = apply::all(&self.writer, &database, prepared, &observed, &status, rested).await;
        match (secrets, applied) {
            (Ok(()), Ok(apply::Applied { .. })) => Ok(Applied::Done),
            (secrets, applied) => Err(secrets
                .err()
                .into_iter()
                .chain(applied.err().into_iter().flatten())
                .collect()),
        }
    }

    /// The standby's way, and the way of a refused spec: only the identity is read.
    async fn follow(&self) -> Result<Applied, Vec<Error>> {
        let name = names::ca_secret(&self.object.name_any());
        match observe::secret(&self.writer, name.clone()).await.map_err(alone)? {
            Some(secret) => self.introduce(&secrets::read_authority(&secret, &name).map_err(alone)?)?,
            None => self.report(None, self.context.memory.applied(self.key)),
        }
        Ok(self.context.memory.applied(self.key))
    }

    /// Hands the identity over before anything is applied, so that sessions begin as soon as a node listens.
    fn introduce(&self, authority: &Pair) -> Result<(), Vec<Error>> {
        let name = names::ca_secret(&self.object.name_any());
        let identity = self.context.memory.identity(self.key, authority, clock::wall());
        let identity = identity.map_err(|source| vec![Error::Authority { name, source }])?;
        self.report(Some(identity), self.context.memory.applied(self.key));
        Ok(())
    }

    fn report(&self, identity: Option<Arc<rustls::ClientConfig>>, applied: Applied) {
        self.context.clusters.put(Desired {
            object: Arc::clone(self.object),
            applied,
            identity,
        });
    }
}

fn alone(error: Error) -> Vec<Error> {
    vec![error]
}
