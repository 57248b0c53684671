//! The long run: clients of every sort, random faults alone and overlapping, the whole history in a file, and the
//! judgement of the crate `history`, which knows nothing of this one.

mod api;
mod clients;
mod directed;
mod kinds;
mod look;
mod recorder;
mod schedule;
mod shared;
mod statements;

pub use directed::Rule;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::BufReader,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use history::{Header, Line, Name, Verdict};
use kube::{Api, Client as Kube, api::PostParams};
use serde::Serialize;

use crate::{
    clock::Clock,
    database::Database,
    dump, install, machines,
    screen::Screen,
    settings::Target,
    sql::Address,
    tools::repository,
    wait::{self, Seen},
    watcher::{Completed, Violation, Watcher, What},
    world,
};
use api::ApiClients;
use clients::{Client, Clients, Common, Place, Work};
use kinds::{Field, KINDS, WITH_OPERATOR, WITH_OPERATOR_MS};
use recorder::Recorder;
use shared::{Current, Nodes};

const NAMESPACE: &str = "ddb-chaos";

impl Course {
    /// The database's name; a build that is broken on purpose breaks the rule that its database is called by.
    fn database(self) -> String {
        match self {
            Self::Random(_) => "chaos".to_owned(),
            Self::Directed(rule) => rule.word(),
        }
    }
}

/// Which faults.
#[derive(Debug, Clone, Copy)]
pub enum Course {
    /// Random ones, for so long.
    Random(Duration),
    /// Those that would show that this rule is broken.
    Directed(Rule),
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Which faults.
    pub course: Course,
    /// What chooses them.
    pub seed: u64,
    /// Of how many nodes the database is.
    pub nodes: i32,
    /// Only random faults of these kinds; all where none is named.
    pub only: Vec<String>,
    /// Keep the history also when it is good.
    pub keep: bool,
    /// Clients that leave no processor time over.
    pub busy: bool,
}

/// How much longer clients pause where they are to leave two processors some time over.
const CALMER: u64 = 3;
/// The same for those whose pauses are outages: the shorter they are, the more exactly an outage is known.
const CALMER_STEADY: u64 = 2;
/// When all is well, every client has done something within this.
const HEARD: Duration = Duration::from_secs(30);

/// The facts for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// The judgement.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What chose the faults.
    pub seed: u64,
    /// How long it took.
    pub seconds: u64,
    /// What broke the run off before its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken_off: Option<String>,
    /// Where the history was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<PathBuf>,
}

impl Facts {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.verdict.is_ok() && self.broken_off.is_none()
    }

    /// Whether something was found that is more than a run that did not come to its end.
    pub fn is_caught(&self) -> bool {
        let mut anomalies = self.verdict.details.iter();
        anomalies.any(|anomaly| !matches!(anomaly.name, Name::Incomplete | Name::NotHealed | Name::Undecided))
    }
}

/// Runs on a database of its own, which is removed afterwards unless something is wrong.
pub async fn run(target: &Target, plan: &Plan, screen: &Screen) -> Result<Facts> {
    let clock = Clock::start();
    let client = world::client(target).await?;
    machines::mend_all(target).await?;
    world::remove_namespace(&client, NAMESPACE).await?;
    install::install(&client, target, &[]).await?;
    let database = create(&client, &plan.course.database(), plan.nodes).await?;
    screen.heading(&match plan.course {
        Course::Random(length) => format!(
            "Chaos for {} s on {} nodes with seed {}",
            length.as_secs(),
            plan.nodes,
            plan.seed
        ),
        Course::Directed(rule) => format!("Faults that show whether {} is kept", rule.word()),
    });
    let (path, outcome) = storm(target, plan, screen, &database, clock).await?;
    let mended = machines::mend_all(target).await;
    let broken_off = outcome.and(mended).err().map(|error| format!("{error:#}"));
    let verdict = history::judge(&read(&path)?);
    let good = verdict.is_ok() && broken_off.is_none();
    if good {
        world::remove_namespace(&client, NAMESPACE).await?;
    } else {
        dump::dump(&client, NAMESPACE, "chaos").await;
    }
    let keep = plan.keep || !good;
    if !keep {
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
    }
    let facts = Facts {
        verdict,
        seed: plan.seed,
        seconds: clock.at().as_secs(),
        broken_off,
        history: keep.then_some(path),
    };
    screen.heading("What came of it");
    screen.line(&facts.verdict.to_string());
    if let Some(why) = &facts.broken_off {
        screen.line(&format!("the run was broken off: {why}"));
    }
    if let Some(path) = &facts.history {
        screen.line(&format!(
            "the history is kept; judge it again with: cargo xtask chaos --check {}",
            path.display()
        ));
    }
    Ok(facts)
}

fn read(path: &PathBuf) -> Result<Vec<Line>> {
    let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    history::read(BufReader::new(file)).map_err(|error| anyhow!(error).context(path.display().to_string()))
}

async fn create(client: &Kube, name: &str, nodes: i32) -> Result<Database> {
    let mut namespace = k8s_openapi::api::core::v1::Namespace::default();
    namespace.metadata.name = Some(NAMESPACE.to_owned());
    Api::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await?;
    let database = Database::new(client, NAMESPACE, name);
    let mut wanted = world::small(name, NAMESPACE);
    wanted.spec.nodes = nodes;
    database.apply(&wanted).await?;
    database.wait_healthy(Duration::from_mins(3)).await?;
    let mut connection = database.master_connection().await?;
    wait::until("tables", Duration::from_secs(30), async || {
        Ok(Seen::Done(statements::create_tables(&mut connection).await?))
    })
    .await?;
    Ok(database)
}

/// From the first client to the last look; the file is there whatever happens in between.
async fn storm(
    target: &Target,
    plan: &Plan,
    screen: &Screen,
    database: &Database,
    clock: Clock,
) -> Result<(PathBuf, Result<()>)> {
    let which = match plan.course {
        Course::Random(_) => plan.seed.to_string(),
        Course::Directed(rule) => rule.word(),
    };
    let path = repository().join(format!("target/chaos/history-{which}.jsonl"));
    let (recorder, recording) = Recorder::begin(&path, clock)?;
    recorder.line(Line::Begin(header(plan)));
    let watcher = Arc::new(Watcher::start(&database.client, NAMESPACE, &database.name, clock));
    let common = Common {
        recorder: recorder.clone(),
        watcher: Arc::clone(&watcher),
        registers: Arc::new(Current::default()),
        lists: Arc::new(Current::default()),
        stop: Arc::default(),
        seed: plan.seed,
    };
    let outcome = work(target, plan, screen, database, &common, clock).await;
    tell_changes(&watcher, &recorder);
    if outcome.is_ok() {
        recorder.line(Line::End { at: recorder.now() });
    }
    drop((common, recorder));
    Ok((recording.finish()?, outcome))
}

async fn work(
    target: &Target,
    plan: &Plan,
    screen: &Screen,
    database: &Database,
    common: &Common,
    clock: Clock,
) -> Result<()> {
    let nodes = Nodes::default();
    let master = database.master_address().await?;
    let following = tokio::spawn(nodes.clone().follow(database.clone(), master.clone()));
    let clients = cast(database, &master, &nodes, plan.busy).await?;
    let first = u32::try_from(clients.len())? + 1;
    let api = ApiClients::start(common, database, &nodes, first).await?;
    let clients = Clients::start(common, clients);
    let field = Field { target, database };
    let recorder = &common.recorder;
    let faults = match plan.course {
        Course::Random(length) => {
            let end = clock.at() + length;
            schedule::run(&field, recorder, screen, (clock, end), (plan.seed, &plan.only)).await
        }
        Course::Directed(rule) => directed::run(&field, recorder, screen, rule).await,
    };
    if faults.is_ok() {
        // In vain where the build is broken; the judgement names who was not heard.
        let _ = heard(database, recorder).await;
    }
    clients.finish().await?;
    api.finish().await?;
    following.abort();
    faults?;
    database.wait_healthy(Duration::from_mins(2)).await?;
    look::record(database, recorder).await
}

/// Waits until there is something to be judged of every client, which in a short run may come only now.
async fn heard(database: &Database, recorder: &Recorder) -> Result<()> {
    wait::until("operation of every client", HEARD, async || {
        let record = database.status().await?.record;
        let master = record.master.as_ref().map(failover::NodeId::as_str);
        let unheard = recorder.unheard().into_iter();
        let missing: Vec<String> = unheard
            .filter(|process| !process.may_be_idle(master))
            .map(|process| format!("{} through {}", process.work, process.through))
            .collect();
        Ok(Seen::once_empty(&missing))
    })
    .await
}

/// All clients of MySQL: writers and readers through the Services, and one writer that stays with each node.
async fn cast(database: &Database, master: &Address, nodes: &Nodes, busy: bool) -> Result<Vec<Client>> {
    let through_master = || Place::Service("master", master.clone());
    let slaves = database.slaves_address().await?;
    let through_slaves = || Place::Service("slaves", slaves.clone());
    let through_any = Place::Service("any", database.any_address().await?);
    let one = |work, place, every: u64, steady| Client {
        work,
        place,
        every: Duration::from_millis(match (busy, steady) {
            (true, _) => every,
            (false, true) => every * CALMER_STEADY,
            (false, false) => every * CALMER,
        }),
        steady,
    };
    let mut cast = vec![
        one(Work::Inserts, through_master(), 10, true),
        one(Work::Inserts, through_master(), 10, true),
        one(Work::Inserts, through_any, 30, false),
        one(Work::Tokens, through_master(), 50, false),
        one(Work::Pairs, through_master(), 30, false),
        one(Work::Counts, through_master(), 40, false),
        one(Work::Counts, through_master(), 40, false),
        one(Work::Lists, through_master(), 40, false),
        one(Work::Lists, through_master(), 40, false),
        one(Work::ListReads, through_slaves(), 50, false),
        one(Work::ListReads, through_slaves(), 50, false),
        one(Work::TokenReads, through_slaves(), 0, false),
        one(Work::TokenReads, through_slaves(), 0, false),
    ];
    cast.extend((0..4).map(|_| one(Work::Registers, through_master(), 30, false)));
    for node in database.pods().await? {
        cast.push(one(
            Work::Inserts,
            Place::Node(node.name, nodes.clone()),
            30,
            false,
        ));
    }
    Ok(cast)
}

fn header(plan: &Plan) -> Header {
    let mut budgets_ms: BTreeMap<String, u64> = KINDS
        .iter()
        .map(|kind| (kind.name.to_owned(), kind.budget_ms))
        .collect();
    for name in ["partition", "machine-freeze"] {
        budgets_ms.insert(format!("{name}{WITH_OPERATOR}"), WITH_OPERATOR_MS);
        let slaves = format!("slave-{name}");
        if let Some(budget) = budgets_ms.get(&slaves).copied() {
            budgets_ms.insert(format!("{slaves}{WITH_OPERATOR}"), budget);
        }
    }
    Header {
        format: history::FORMAT,
        seed: plan.seed,
        budgets_ms,
    }
}

fn tell_changes(watcher: &Watcher, recorder: &Recorder) {
    let micros = |at: Duration| u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
    for change in watcher.changes() {
        let at = micros(change.at);
        match change.what {
            What::Status { term, master, .. } => recorder.line(Line::Term { at, term, master }),
            What::Completed(Completed {
                term,
                master,
                cause,
                steps,
            }) => recorder.line(Line::Change {
                at,
                term,
                cause,
                master,
                steps,
            }),
            What::Role { .. } | What::Gone { .. } => {}
        }
    }
    for (at, violation) in watcher.violations() {
        // A term that fell stands among the terms already.
        if let Violation::TwoMasters(masters) = violation {
            recorder.line(Line::Seen {
                at: micros(at),
                masters,
            });
        }
    }
}
