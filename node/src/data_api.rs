//! The data API inside the agent: tells it what the node knows of itself and of the master, and nothing else.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use api::wire::{API_PORT, Picture, PicturedChange, PicturedFailover, PicturedNode};
use data::{
    Limits, Recorded, Serving,
    view::{Failover, NodeFacts, NodeRole, Request, View, Way, Whole},
};
use failover::{Intent, NodeReport, Role, Server, Term};
use tokio::{
    sync::{Mutex, broadcast::error::RecvError, watch},
    time::timeout,
};

use crate::{agent::Agent, api_host::ApiHost, master};

/// How long requests that run may take to finish when the agent ends.
const FINISH: Duration = Duration::from_secs(3);

/// The API while it is served, or nothing where it is switched off.
pub struct Api(Option<Mutex<Serving>>);

impl Api {
    /// Starts to serve.
    pub async fn start(agent: &Arc<Agent>) -> io::Result<Self> {
        if agent.settings.api_off {
            return Ok(Self(None));
        }
        let (sender, views) = watch::channel(view(agent, &agent.board.report(), &Told::by(agent)));
        let settings = settings(agent);
        let known = Arc::clone(agent);
        tokio::spawn(async move { follow(&known, sender).await });
        let host = Arc::new(ApiHost(Arc::clone(agent)));
        let serving = data::listen(settings, views, host, agent.api_metrics.clone()).await?;
        Ok(Self(Some(Mutex::new(serving))))
    }

    /// Returns when the listener ends by itself, which it does not while all is well.
    pub async fn ended(&self) -> io::Result<()> {
        match &self.0 {
            Some(serving) => match (&mut serving.lock().await.task).await {
                Ok(ended) => ended,
                Err(stopped) => Err(io::Error::other(stopped)),
            },
            None => std::future::pending().await,
        }
    }

    /// Takes no further requests and lets those that run finish.
    pub async fn finish(&self) {
        if let Some(serving) = &self.0 {
            let mut serving = serving.lock().await;
            serving.stop();
            // What is not finished by then is cut off with the agent.
            let _ = timeout(FINISH, &mut serving.task).await;
        }
    }
}

fn settings(agent: &Agent) -> data::Settings {
    let settings = &agent.settings;
    data::Settings {
        node: settings.node.as_str().to_owned(),
        listen: settings.api_listen,
        tls: settings.tls_dir.clone(),
        users_tls: settings.api_tls_dir.clone(),
        tokens: settings.tokens_dir.clone(),
        accounts: settings.api_accounts_dir.clone(),
        roles: settings.api_roles.clone(),
        mysql_socket: settings.mysql_socket.clone(),
        audit: settings.audit_dir.clone(),
        recorded: Recorded {
            reads: settings.api_audit_reads,
            values: settings.api_audit_values,
            slow: (settings.api_audit_slow > 0).then(|| Duration::from_millis(settings.api_audit_slow)),
        },
        limits: Limits {
            body: settings.api_body,
            most_rows: settings.api_rows,
            statement: Duration::from_secs(settings.api_statement_seconds.max(1)),
            requests: settings.api_requests,
            queue: settings.api_queue,
            token_rate: settings.api_token_rate,
            token_requests: settings.api_token_requests,
            ..Limits::default()
        },
        origins: settings
            .api_cors_origins
            .split(',')
            .map(str::trim)
            .filter(|origin| !origin.is_empty())
            .map(str::to_owned)
            .collect(),
    }
}

async fn follow(agent: &Agent, views: watch::Sender<View>) {
    let mut reports = agent.board.watch();
    let mut pictures = agent.picture.subscribe();
    let mut told = Told::by(agent);
    loop {
        let now = view(agent, &agent.board.report(), &told);
        views.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
        tokio::select! {
            report = reports.recv() => match report {
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            picture = pictures.changed() => {
                if picture.is_err() {
                    return;
                }
                told = Told::by(agent);
            }
        }
    }
}

/// What the operator told, as the API shows it. It changes seldom, and the node reports many times a second.
struct Told {
    picture: Arc<Picture>,
    whole: Arc<Whole>,
    ways: Arc<[Way]>,
    nodes: Arc<[NodeFacts]>,
}

impl Told {
    fn by(agent: &Agent) -> Self {
        let picture = Arc::clone(&agent.picture.borrow());
        Self {
            whole: Arc::new(whole(&picture)),
            ways: ways(agent, &picture.nodes),
            nodes: picture.nodes.iter().map(facts).collect(),
            picture,
        }
    }
}

fn view(agent: &Agent, report: &NodeReport, told: &Told) -> View {
    let (mut role, mut serving) = (None, false);
    if let Server::Up(state) = &report.server {
        serving = state.open && report.cloning.is_none();
        role = match &state.role {
            Role::Master { .. } => Some(NodeRole::Master),
            Role::Slave { .. } => Some(NodeRole::Slave),
            Role::Idle => None,
        };
    }
    let master = master::elsewhere(&agent.settings.node, report, &told.picture);
    View {
        role,
        serving,
        term: report.term.0,
        master: master.map(|(name, address)| way(agent, name.as_str(), address)),
        phase: phase(report),
        whole: Arc::clone(&told.whole),
        ways: Arc::clone(&told.ways),
        nodes: Arc::clone(&told.nodes),
    }
}

fn whole(picture: &Picture) -> Whole {
    Whole {
        state: (!picture.nodes.is_empty()).then(|| format!("{:?}", picture.phase)),
        change: picture.change.as_ref().map(under_way),
        failovers: picture.changes.iter().map(complete).collect(),
        request: picture.last_request.as_ref().map(|request| Request {
            at: request.at.clone(),
            done: request.done,
            message: request.message.clone(),
        }),
    }
}

fn under_way(change: &PicturedChange) -> Failover {
    let PicturedChange {
        term,
        intent,
        steps,
        candidate,
        kept,
        waiting_for,
    } = change;
    Failover {
        to: candidate.as_ref().map(ToString::to_string),
        steps: steps.clone(),
        kept: kept.to_string(),
        waiting_for: waiting_for.clone(),
        ..begun(*term, intent)
    }
}

fn complete(failover: &PicturedFailover) -> Failover {
    let PicturedFailover { at, change } = failover;
    Failover {
        at: Some(at.clone()),
        to: Some(change.master.to_string()),
        steps: change.steps.clone(),
        total: Some(change.total),
        kept: change.kept.to_string(),
        may_be_lost: change.may_be_lost.clone(),
        ..begun(change.term, &change.intent)
    }
}

fn begun(term: Term, intent: &Intent) -> Failover {
    Failover {
        term: term.0,
        at: None,
        kind: format!("{:?}", intent.kind),
        cause: intent.cause.sentence().to_owned(),
        from: intent.from.as_ref().map(ToString::to_string),
        to: None,
        steps: BTreeMap::new(),
        total: None,
        kept: String::new(),
        may_be_lost: None,
        waiting_for: Vec::new(),
    }
}

/// The ways to the other nodes.
fn ways(agent: &Agent, nodes: &[PicturedNode]) -> Arc<[Way]> {
    let others = nodes.iter().filter(|node| node.name != agent.settings.node);
    others
        .filter_map(|node| Some(way(agent, node.name.as_str(), node.address.as_ref()?)))
        .collect()
}

fn way(agent: &Agent, node: &str, address: &str) -> Way {
    let named = agent.settings.api_named.iter().find(|(name, _)| name == node);
    let (host, port) = match named {
        Some((_, place)) => place.clone(),
        None => (agent.endpoint(address).0, API_PORT),
    };
    Way {
        node: node.to_owned(),
        host,
        port,
    }
}

fn facts(node: &PicturedNode) -> NodeFacts {
    NodeFacts {
        name: node.name.as_str().to_owned(),
        address: node.address.clone(),
        role: match node.role {
            api::resource::NodeRole::Master => Some(NodeRole::Master),
            api::resource::NodeRole::Slave => Some(NodeRole::Slave),
            _ => None,
        },
        alive: node.ready,
        lag: node.behind.and_then(|behind| u64::try_from(behind).ok()),
        message: node.message.clone(),
    }
}

fn phase(report: &NodeReport) -> &'static str {
    match &report.server {
        _ if report.cloning.is_some() => "cloning",
        Server::Down { .. } => "server-down",
        Server::Starting => "server-starting",
        Server::Hung { .. } => "server-hung",
        Server::Up(_) if report.fenced.is_some() => "failing-over",
        Server::Up(state) if state.role == Role::Idle => "no-master",
        Server::Up(_) => "serving",
    }
}
