//! The demonstration: install, create, load, kill the master, prove. What a newcomer sees first.

pub mod dataset;
mod show;

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use api::names;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};

use crate::{
    clock::{Clock, millis},
    database::{Database, Node},
    facts::{DemoFacts, FailoverFacts},
    faults::{self, Deletion},
    install,
    screen::{Screen, thousands},
    settings::Target,
    sql,
    storm::{Aftermath, Storm},
    tools::{kubectl, repository},
    wait::{self, Seen},
    watcher::Watcher,
    world,
    writer::Habits,
};

const NAMESPACE: &str = "shop";
const NAME: &str = "shop";
const SCHEMA: &str = "demo";
const WRITES: &str = "demo.orders";
/// On the namespace: the demonstration made it and may remove it.
const LABEL: &str = "ddb-operator.io/demo";

/// Runs it; the facts are complete even where they show a defect, which is then an error after they were printed.
pub async fn run(target: &Target, screen: &Screen) -> Result<DemoFacts> {
    let client = world::client(target).await?;
    screen.heading("1  Install the operator with Helm");
    prepare_namespace(&client, screen).await?;
    install_operator(&client, target, screen).await?;
    let database = Database::new(&client, NAMESPACE, NAME);
    let created = create(&database, target, screen).await?;
    let rows_loaded = load(&database, screen).await?;
    let (aftermath, failover) = kill_master(&database, screen).await?;
    let proof = &aftermath.proof;
    show::proof(screen, &aftermath);
    let facts = DemoFacts {
        acknowledged: proof.acknowledged,
        lost: proof.lost(),
        checksums_equal: proof.checksums_equal(),
        apply_to_ready_ms: millis(created.ready),
        apply_to_first_write_ms: millis(created.first_write),
        rows_loaded,
        failover,
        nodes: proof.nodes.clone(),
    };
    show::next(screen, target.context.as_deref());
    Ok(facts)
}

async fn install_operator(client: &Client, target: &Target, screen: &Screen) -> Result<()> {
    let clock = Clock::start();
    install::install(client, target, &[]).await?;
    screen.fact("operator ready", &show::ms(clock.at()));
    Ok(())
}

/// An empty namespace: what an earlier demonstration left goes, what somebody else made stays.
async fn prepare_namespace(client: &Client, screen: &Screen) -> Result<()> {
    let namespaces = Api::<Namespace>::all(client.clone());
    if let Some(found) = namespaces.get_opt(NAMESPACE).await? {
        let ours = found.metadata.labels.unwrap_or_default().contains_key(LABEL);
        ensure!(
            ours,
            "there is a namespace `{NAMESPACE}` that this demonstration did not make, so it is left alone; \
             remove it or run on another cluster"
        );
        screen.fact("earlier demonstration", "removed");
        world::remove_namespace(client, NAMESPACE).await?;
    }
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(NAMESPACE.to_owned());
    namespace.metadata.labels = Some(BTreeMap::from([(LABEL.to_owned(), "true".to_owned())]));
    namespaces
        .patch(
            NAMESPACE,
            &PatchParams::apply("ddb-demo"),
            &Patch::Apply(&namespace),
        )
        .await?;
    Ok(())
}

struct Created {
    first_write: Duration,
    ready: Duration,
}

async fn create(database: &Database, target: &Target, screen: &Screen) -> Result<Created> {
    screen.heading("2  kubectl apply -f examples/shop.yaml");
    let file = repository().join("examples/shop.yaml");
    let file = file.to_str().context("the repository's path is not UTF-8")?;
    let clock = Clock::start();
    let watcher = Watcher::start(&database.client, &database.namespace, &database.name, clock);
    kubectl(
        target.context.as_deref(),
        &["apply", "--namespace", NAMESPACE, "-f", file],
    )
    .await?;
    let first_write = async {
        let at = first_write(database, clock).await?;
        screen.fact("first write accepted", &show::ms(at));
        anyhow::Ok(at)
    };
    let ready = async {
        database.wait_healthy(Duration::from_mins(3)).await?;
        let at = clock.at();
        screen.fact("every node ready", &show::ms(at));
        anyhow::Ok(at)
    };
    let (first_write, ready) = tokio::select! {
        both = async { futures::try_join!(first_write, ready) } => both?,
        () = show::follow(screen, &watcher) => unreachable!("following a watch has no end"),
    };
    watcher.finish()?;
    Ok(Created { first_write, ready })
}

async fn first_write(database: &Database, clock: Clock) -> Result<Duration> {
    wait::until("first write", Duration::from_mins(3), async || {
        let address = database.master_address().await?;
        let mut connection = sql::connect(&address, Duration::from_millis(500)).await?;
        sql::create_writes(&mut connection, WRITES).await?;
        Ok(Seen::Done(clock.at()))
    })
    .await
}

async fn load(database: &Database, screen: &Screen) -> Result<usize> {
    screen.heading("3  Load the ISO tables through the master's Service");
    let tables = dataset::read(Path::new(dataset::FOLDER))?;
    let mut connection = database.master_connection().await?;
    let clock = Clock::start();
    for table in &tables {
        dataset::load(&mut connection, table).await?;
        screen.fact(&table.name, &format!("{:>7} rows", thousands(table.len())));
    }
    let rows = tables.iter().map(dataset::Table::len).sum();
    let total = format!("{:>7} rows in {}", thousands(rows), show::ms(clock.at()));
    screen.fact("together", &total);
    Ok(rows)
}

async fn kill_master(database: &Database, screen: &Screen) -> Result<(Aftermath, FailoverFacts)> {
    screen.heading("4  Kill the master while a client writes");
    let storm = Storm::begin(database, &Habits::of(1, WRITES)).await?;
    storm.writers.wait_for_more(200, Duration::from_secs(30)).await?;
    let master = database.master_pod().await?;
    let from = Node::from(&master).name;
    let acknowledged = usize::try_from(storm.writers.acknowledged()).unwrap_or(usize::MAX);
    screen.fact("writes acknowledged so far", &thousands(acknowledged));
    screen.line(&format!("  kubectl delete pod {from} --force --grace-period=0"));
    let fault = storm.clock.at();
    faults::delete_pod(&database.pod_api(), &master, Deletion::Forced).await?;
    let aftermath = storm.after_new_master(&[dataset::SCHEMA, SCHEMA]).await?;
    let (total_ms, steps) = database.account_of_change_after(aftermath.term).await?;
    let to = aftermath
        .after
        .iter()
        .find(|node| node.role.as_deref() == Some(names::ROLE_MASTER));
    let facts = FailoverFacts {
        outage_ms: millis(aftermath.ledger.outage(fault)),
        total_ms,
        steps: steps.iter().cloned().collect(),
        from,
        to: to.map(|node| node.name.clone()).unwrap_or_default(),
    };
    show::timeline(screen, &facts, &steps, aftermath.healed.saturating_sub(fault));
    Ok((aftermath, facts))
}
