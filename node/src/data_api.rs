//! The data API inside the agent: tells it what the node knows of itself and of the master, and nothing else.

use std::{io, sync::Arc, time::Duration};

use api::wire::{API_PORT, PicturedNode};
use data::{
    Limits, Serving,
    view::{NodeFacts, NodeRole, View, Way},
};
use failover::{NodeReport, Role, Server};
use tokio::{
    sync::{Mutex, broadcast::error::RecvError, watch},
    time::timeout,
};

use crate::agent::Agent;

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
        let (sender, views) = watch::channel(view(agent, &agent.board.report()));
        let settings = settings(agent);
        let known = Arc::clone(agent);
        tokio::spawn(async move { follow(&known, sender).await });
        let serving = data::listen(settings, views, agent.api_metrics.clone()).await?;
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
        tokens: settings.tokens_dir.clone(),
        accounts: settings.api_accounts_dir.clone(),
        mysql_socket: settings.mysql_socket.clone(),
        audit: settings.audit_dir.clone(),
        limits: Limits {
            body: settings.api_body,
            most_rows: settings.api_rows,
            statement: Duration::from_secs(settings.api_statement_seconds.max(1)),
            requests: settings.api_requests,
            ..Limits::default()
        },
    }
}

async fn follow(agent: &Agent, views: watch::Sender<View>) {
    let mut reports = agent.board.watch();
    let mut pictures = agent.picture.subscribe();
    loop {
        let now = view(agent, &agent.board.report());
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
            picture = pictures.changed() => if picture.is_err() {
                return;
            },
        }
    }
}

fn view(agent: &Agent, report: &NodeReport) -> View {
    let picture = Arc::clone(&agent.picture.borrow());
    let (mut role, mut master, mut serving) = (None, None, false);
    let mut told_in = failover::Term(0);
    if let Server::Up(state) = &report.server {
        serving = state.open && report.cloning.is_none();
        match &state.role {
            Role::Master { .. } => role = Some(NodeRole::Master),
            Role::Slave {
                source,
                address,
                term,
                ..
            } => {
                role = Some(NodeRole::Slave);
                told_in = *term;
                master = Some(way(agent, source.as_str(), address));
            }
            Role::Idle => {}
        }
    }
    // A node that follows nobody yet, or a former master, finds the master by the operator's word.
    if role != Some(NodeRole::Master) && picture.term > told_in {
        let named = picture
            .master
            .as_ref()
            .filter(|name| **name != agent.settings.node);
        let pictured = picture.nodes.iter().find(|node| Some(&node.name) == named);
        if let Some((node, address)) = pictured.and_then(|node| Some((node, node.address.as_ref()?))) {
            master = Some(way(agent, node.name.as_str(), address));
        }
    }
    View {
        role,
        serving,
        term: report.term.0,
        master,
        phase: phase(report),
        nodes: picture.nodes.iter().map(facts).collect(),
    }
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
