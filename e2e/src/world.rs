//! What every test stands on: a client, an installed operator, a namespace of its own, and a dump when it fails.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{
        LazyLock, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, anyhow};
use api::{DistributedDatabase, DistributedDatabaseSpec};
use futures::FutureExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
    config::KubeConfigOptions,
};
use tokio::{
    runtime::Runtime,
    sync::{Mutex, OnceCell},
};

use crate::{
    clock::{Clock, millis},
    database::Database,
    dump, install,
    settings::Target,
    wait::{self, Seen},
};

/// Marks the namespaces of tests, so that the next run removes what a failed one left.
pub const TEST_LABEL: &str = "ddb-operator.io/e2e";

/// How long earlier tests' namespaces are waited for.
const GONE: Duration = Duration::from_mins(1);

/// A client of the cluster that `target` names.
pub async fn client(target: &Target) -> Result<Client> {
    let config = match &target.context {
        None => Config::infer()
            .await
            .context("no cluster is configured (KUBECONFIG)")?,
        Some(context) => {
            let options = KubeConfigOptions {
                context: Some(context.clone()),
                ..KubeConfigOptions::default()
            };
            Config::from_kubeconfig(&options)
                .await
                .with_context(|| format!("context {context} cannot be used"))?
        }
    };
    let address = config.cluster_url.clone();
    let client = Client::try_from(config)?;
    let version = tokio::time::timeout(Duration::from_secs(15), client.apiserver_version()).await;
    version
        .map_err(anyhow::Error::from)
        .and_then(|answer| answer.map_err(anyhow::Error::from))
        .with_context(|| {
            format!("the API server {address} does not answer; is the cluster up, and reachable from here?")
        })?;
    Ok(client)
}

/// One test's view of the cluster.
pub struct World {
    /// The API server.
    pub client: Client,
    /// Context and images.
    pub target: Target,
    /// Shared by everything that notes times in this test.
    pub clock: Clock,
    shared: &'static Mutex<Option<Database>>,
}

// One runtime for all tests of the process, because connections must not outlive the runtime they were made on.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Runtime::new().expect("a runtime needs only threads, without which nothing works"));
static SHARED: OnceLock<Mutex<Option<Database>>> = OnceLock::new();
static INSTALLED: AtomicBool = AtomicBool::new(false);
static TURN: Mutex<()> = Mutex::const_new(());
static PREPARED: OnceCell<()> = OnceCell::const_new();

/// Runs one test on the cluster: prepares it, runs, and where it fails dumps what there is to know and panics.
pub fn on_cluster<T: AsyncFnOnce(&World) -> Result<()>>(test: T) {
    // The closure's type is named after the test's function; the thread is not, when tests run one by one.
    let title = std::any::type_name::<T>().trim_end_matches("::{{closure}}");
    let title = title.rsplit("::").next().unwrap_or(title);
    RUNTIME.block_on(async {
        // Faults of one test must not be seen by another, whatever number of threads the test runner was given.
        let _turn = TURN.lock().await;
        let outcome = run(title, test).await;
        if let Err(error) = outcome {
            panic!("{title}: {error:#}");
        }
    });
}

async fn run(title: &str, test: impl AsyncFnOnce(&World) -> Result<()>) -> Result<()> {
    let target = Target::from_environment()?;
    let client = client(&target).await?;
    PREPARED.get_or_try_init(|| remove_namespaces(&client)).await?;
    let world = World::new(client, target);
    let attempt = AssertUnwindSafe(async {
        world.ensure_operator().await?;
        test(&world).await
    });
    let outcome = attempt
        .catch_unwind()
        .await
        .unwrap_or_else(|panic| Err(panic_text(panic.as_ref())));
    eprintln!("    {title}: {:.1} s", world.clock.at().as_secs_f64());
    if outcome.is_err() {
        world.clean_after_failure(title).await;
    }
    outcome
}

/// What a panic said.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> anyhow::Error {
    let text = panic.downcast_ref::<String>().cloned();
    anyhow!(
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default()
    )
}

/// Removes what earlier tests left behind, and waits for its end where that comes soon: the network's changes of a
/// namespace that goes hold back those of a failover beside it.
pub async fn remove_namespaces(client: &Client) -> Result<()> {
    let namespaces = Api::<Namespace>::all(client.clone());
    let ours = ListParams::default().labels(TEST_LABEL);
    for namespace in namespaces.list(&ours).await? {
        namespaces
            .delete(&namespace.name_any(), &DeleteParams::default())
            .await?;
    }
    let gone = wait::until("end of earlier tests' namespaces", GONE, async || {
        let left = namespaces.list_metadata(&ours).await?.items.len();
        Ok(if left == 0 {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{left} left"))
        })
    });
    if let Err(error) = gone.await {
        eprintln!("    {error:#}; going on");
    }
    Ok(())
}

impl World {
    /// A view that shares its database with all others of this process.
    pub fn new(client: Client, target: Target) -> Self {
        Self {
            client,
            target,
            clock: Clock::start(),
            shared: SHARED.get_or_init(Mutex::default),
        }
    }

    /// The operator of the images under test, installed and ready.
    pub async fn ensure_operator(&self) -> Result<()> {
        // What an earlier program installed may be of another chart and other images.
        let first = !INSTALLED.swap(true, Ordering::Relaxed);
        if first || install::operator_pods(&self.client).await?.is_empty() {
            return install::install(&self.client, &self.target, &[]).await;
        }
        install::wait_ready(&self.client).await
    }

    /// A new namespace with a temporary name.
    pub async fn namespace(&self, purpose: &str) -> Result<String> {
        let mut namespace = Namespace::default();
        // Not `generateName`: its random names differ from run to run only, not from test to test in order.
        let stamp = seconds_since_epoch() % 1_000_000;
        namespace.metadata.name = Some(format!("e2e-{purpose}-{stamp}"));
        namespace.metadata.labels = Some(BTreeMap::from([(TEST_LABEL.to_owned(), "true".to_owned())]));
        let made = Api::<Namespace>::all(self.client.clone())
            .create(&PostParams::default(), &namespace)
            .await?;
        Ok(made.name_any())
    }

    /// The healthy three-node database that tests share; made by the first one that asks and again after a test
    /// failed on it.
    pub async fn database(&self) -> Result<Database> {
        let mut shared = self.shared.lock().await;
        if let Some(database) = shared.as_ref() {
            database
                .wait_healthy(Duration::from_secs(90))
                .await
                .context("before the test")?;
            return Ok(database.clone());
        }
        let namespace = self.namespace("shop").await?;
        let database = Database::new(&self.client, &namespace, "shop");
        *shared = Some(database.clone());
        let clock = Clock::start();
        database.apply(&small("shop", &namespace)).await?;
        database.wait_healthy(Duration::from_mins(3)).await?;
        eprintln!("    three nodes Ready {} ms after apply", millis(clock.at()));
        Ok(database)
    }

    /// Dumps what there is to know of every namespace of the tests, and begins to remove them.
    pub async fn clean_after_failure(&self, title: &str) {
        let list = ListParams::default().labels(TEST_LABEL);
        let namespaces = Api::<Namespace>::all(self.client.clone());
        let found = namespaces
            .list(&list)
            .await
            .map(|list| list.items)
            .unwrap_or_default();
        for namespace in found
            .iter()
            .filter(|namespace| namespace.metadata.deletion_timestamp.is_none())
        {
            let name = namespace.name_any();
            dump::dump(&self.client, &name, &format!("{title} {name}")).await;
            // The next test must not inherit the mess, nor run beside it.
            let _ = namespaces.delete(&name, &DeleteParams::default()).await;
        }
        *self.shared.lock().await = None;
    }

    /// Removes the namespaces of a test, but for the shared database's, and waits for their end.
    pub async fn remove_own(&self) -> Result<()> {
        let shared = self
            .shared
            .lock()
            .await
            .as_ref()
            .map(|database| database.namespace.clone());
        let ours = ListParams::default().labels(TEST_LABEL);
        for namespace in Api::<Namespace>::all(self.client.clone()).list(&ours).await? {
            if Some(namespace.name_any()) != shared {
                self.remove_namespace(&namespace.name_any()).await?;
            }
        }
        Ok(())
    }

    /// Deletes a namespace and waits for its end.
    pub async fn remove_namespace(&self, name: &str) -> Result<()> {
        remove_namespace(&self.client, name).await
    }
}

/// Deletes a namespace and waits for its end.
pub async fn remove_namespace(client: &Client, name: &str) -> Result<()> {
    let namespaces = Api::<Namespace>::all(client.clone());
    if namespaces.get_opt(name).await?.is_none() {
        return Ok(());
    }
    namespaces.delete(name, &DeleteParams::default()).await?;
    wait::until(
        &format!("end of namespace {name}"),
        Duration::from_mins(2),
        async || {
            let left = namespaces.get_opt(name).await?;
            let conditions = left
                .and_then(|namespace| namespace.status)
                .map(|status| status.conditions);
            Ok(match conditions {
                None => Seen::Done(()),
                Some(conditions) => {
                    let why: Vec<String> = conditions
                        .into_iter()
                        .flatten()
                        .filter_map(|it| it.message)
                        .collect();
                    Seen::NotYet(why.join("; "))
                }
            })
        },
    )
    .await
}

/// A database that fits a small machine, with volumes that go away with it.
pub fn small(name: &str, namespace: &str) -> DistributedDatabase {
    let mut spec = DistributedDatabaseSpec {
        nodes: 3,
        ..DistributedDatabaseSpec::default()
    };
    spec.storage.size = k8s_openapi::apimachinery::pkg::api::resource::Quantity("1Gi".to_owned());
    spec.storage.when_deleted = api::resource::WhenDeleted::Delete;
    let mut database = DistributedDatabase::new(name, spec);
    database.metadata.namespace = Some(namespace.to_owned());
    database
}

#[expect(
    clippy::disallowed_methods,
    reason = "only to tell the names of two runs apart"
)]
fn seconds_since_epoch() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |span| span.as_secs())
}
