//! `kubectl ddb logs NAME`: the containers of the database's pods and of the operator's, merged by time.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use api::names;
use futures::{AsyncBufReadExt, StreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc;

use super::say;
use crate::arguments::{Logs, Place};
use crate::clock;
use crate::connect::Cluster;
use crate::fetch::{self, ask};
use crate::logs::line::{Line, concerns};
use crate::logs::merge::Merge;

/// New pods and restarted containers are looked for so often.
const SCAN_EVERY: Duration = Duration::from_secs(2);
const FLUSH_EVERY: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_millis(600);
const QUEUE: usize = 4096;

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing runs.
    #[error(
        "neither {database} nor the operator has a pod, so there is nothing to read; look at: kubectl ddb status \
         {database}"
    )]
    Nothing {
        /// The database.
        database: String,
    },
}

/// One container whose log is read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Source {
    namespace: String,
    pod: String,
    uid: String,
    container: String,
    /// `shop-0/mysql`, `operator/x7k2p`.
    part: String,
    is_operator: bool,
}

/// A line, or that a source ended.
enum Told {
    Line(Source, Line),
    Ended(Source),
}

/// A source while following.
#[derive(Default)]
struct Reading {
    runs: bool,
    last: Option<Timestamp>,
}

/// Prints the logs.
pub async fn run(cluster: &Cluster, place: &Place, arguments: &Logs) -> Result<ExitCode, super::Error> {
    let name = &arguments.name;
    fetch::database(cluster, name).await?;
    let operators = fetch::operator_namespace(cluster, place.operator_namespace.as_deref()).await;
    if operators.is_none() {
        eprintln!(
            "note: the operator's logs are left out, it cannot be found; name its place with --operator-namespace"
        );
    }
    let sources = sources(cluster, name, operators.as_deref()).await?;
    if sources.is_empty() && !arguments.follow {
        let database = name.clone();
        return Err(Error::Nothing { database }.into());
    }
    let since =
        clock::wall() - SignedDuration::try_from(arguments.since).unwrap_or(SignedDuration::from_hours(1));
    let printer = Printer {
        raw: arguments.raw,
        width: sources.keys().map(|source| source.part.len()).max().unwrap_or(0),
        namespace: cluster.namespace.clone(),
        name: name.clone(),
    };
    if arguments.follow {
        follow(cluster, name, operators.as_deref(), since, &printer).await
    } else {
        once(cluster, sources, since, &printer).await
    }
}

struct Printer {
    raw: bool,
    width: usize,
    namespace: String,
    name: String,
}

impl Printer {
    fn wants(&self, source: &Source, line: &Line) -> bool {
        !source.is_operator || concerns(&line.text, &self.namespace, &self.name)
    }

    fn print(&self, lines: &[Line]) -> std::io::Result<()> {
        let text: String = lines
            .iter()
            .map(|line| {
                if self.raw {
                    line.raw(self.width)
                } else {
                    line.pretty(self.width)
                }
            })
            .collect();
        say(&text)
    }
}

/// All containers there are, with how often each was started again.
async fn sources(
    cluster: &Cluster,
    name: &str,
    operators: Option<&str>,
) -> Result<BTreeMap<Source, i32>, fetch::Error> {
    let mut all = BTreeMap::new();
    for pod in fetch::pods(cluster, name).await?.values() {
        for container in [names::CONTAINER_MYSQL, names::CONTAINER_NODE] {
            let part = format!("{}/{container}", pod.name_any());
            all.extend(source(pod, container, part, false));
        }
    }
    if let Some(namespace) = operators {
        let api: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
        let wanted = ListParams::default().labels(fetch::OPERATOR_LABEL);
        match ask(cluster, "list the operator's pods", api.list(&wanted)).await {
            Ok(pods) => {
                for pod in pods {
                    let name = pod.name_any();
                    let short = name.rsplit('-').next().unwrap_or(&name);
                    all.extend(source(&pod, "operator", format!("operator/{short}"), true));
                }
            }
            Err(error) => eprintln!("note: the operator's logs are left out: {error}"),
        }
    }
    Ok(all)
}

/// The container as a source, once it was started.
fn source(pod: &Pod, container: &str, part: String, is_operator: bool) -> Option<(Source, i32)> {
    let status = pod.status.as_ref()?;
    let init = status.init_container_statuses.iter().flatten();
    let state = init
        .chain(status.container_statuses.iter().flatten())
        .find(|state| state.name == container)?;
    let started = state.restart_count > 0
        || state
            .state
            .as_ref()
            .is_some_and(|state| state.running.is_some() || state.terminated.is_some());
    started.then(|| {
        let source = Source {
            namespace: pod.namespace().unwrap_or_default(),
            pod: pod.name_any(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            container: container.to_owned(),
            part,
            is_operator,
        };
        (source, state.restart_count)
    })
}

/// Sends a container's lines. `previous`: those of the container before its last restart.
async fn read(
    client: Client,
    source: Source,
    since: Timestamp,
    follow: bool,
    previous: bool,
    told: mpsc::Sender<Told>,
) {
    let api: Api<Pod> = Api::namespaced(client, &source.namespace);
    let how = LogParams {
        container: Some(source.container.clone()),
        follow: follow && !previous,
        previous,
        since_time: Some(since),
        timestamps: true,
        ..LogParams::default()
    };
    match api.log_stream(&source.pod, &how).await {
        Ok(stream) => {
            let mut lines = stream.lines();
            while let Some(Ok(raw)) = lines.next().await {
                if let Some(line) = Line::read(&source.part, &raw)
                    && told.send(Told::Line(source.clone(), line)).await.is_err()
                {
                    return;
                }
            }
        }
        // The former container's log may be gone, and a pod may go while it is read; in a follow it is tried again.
        Err(error) if !previous && !follow => {
            eprintln!("note: {} cannot be read: {error}", source.part);
        }
        Err(_) => {}
    }
    if !previous {
        let _ = told.send(Told::Ended(source)).await;
    }
}

fn start(
    cluster: &Cluster,
    source: &Source,
    since: Timestamp,
    follow: bool,
    restarts: i32,
    told: &mpsc::Sender<Told>,
) {
    let begin = |previous| {
        let reading = read(
            cluster.client.clone(),
            source.clone(),
            since,
            follow,
            previous,
            told.clone(),
        );
        tokio::spawn(reading);
    };
    if restarts > 0 {
        begin(true);
    }
    begin(false);
}

async fn once(
    cluster: &Cluster,
    sources: BTreeMap<Source, i32>,
    since: Timestamp,
    printer: &Printer,
) -> Result<ExitCode, super::Error> {
    let (told, mut inbox) = mpsc::channel(QUEUE);
    for (source, restarts) in &sources {
        start(cluster, source, since, false, *restarts, &told);
    }
    drop(told);
    let mut merge = Merge::default();
    while let Some(told) = inbox.recv().await {
        if let Told::Line(source, line) = told
            && printer.wants(&source, &line)
        {
            merge.push(line, clock::now());
        }
    }
    printer.print(&merge.all())?;
    Ok(ExitCode::SUCCESS)
}

async fn follow(
    cluster: &Cluster,
    name: &str,
    operators: Option<&str>,
    since: Timestamp,
    printer: &Printer,
) -> Result<ExitCode, super::Error> {
    let (told, mut inbox) = mpsc::channel(QUEUE);
    let mut readings: BTreeMap<Source, Reading> = BTreeMap::new();
    let mut merge = Merge::default();
    let mut scan = tokio::time::interval(SCAN_EVERY);
    let mut flush = tokio::time::interval(FLUSH_EVERY);
    loop {
        tokio::select! {
            _ = scan.tick() => {
                // A look that fails is tried again; what is being read goes on.
                for (source, restarts) in sources(cluster, name, operators).await.unwrap_or_default() {
                    let reading = readings.entry(source.clone()).or_default();
                    if !reading.runs {
                        reading.runs = true;
                        let first = if reading.last.is_none() { restarts } else { 0 };
                        start(cluster, &source, reading.last.unwrap_or(since), true, first, &told);
                    }
                }
            }
            _ = flush.tick() => printer.print(&merge.ripe(clock::now(), PATIENCE))?,
            Some(told) = inbox.recv() => match told {
                Told::Line(source, line) => {
                    let reading = readings.entry(source.clone()).or_default();
                    if reading.last.is_some_and(|last| line.at <= last) {
                        continue;
                    }
                    reading.last = Some(line.at);
                    if printer.wants(&source, &line) {
                        merge.push(line, clock::now());
                    }
                }
                Told::Ended(source) => readings.entry(source).or_default().runs = false,
            },
            _ = tokio::signal::ctrl_c() => {
                printer.print(&merge.all())?;
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}
