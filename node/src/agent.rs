//! Puts the parts together and runs them; what every command needs is in [`Agent`].

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use api::wire::Picture;
use supervisor::claim::Claim;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Mutex, watch},
    time::sleep,
};
use tracing::warn;

use crate::{
    asks::Asks,
    beats::Beats,
    board::Board,
    caretaker, data_api, executor, guard, http, kept,
    mysql::{Mysql, status::Status},
    passage,
    probe::{self, Asker},
    session,
    settings::Settings,
    shutdown, standstill, storage,
    store::{self, Store},
    supervision::Supervision,
};

/// How often a beginning agent looks whether its server is known.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// How often it is looked whether another agent has left the volume.
const CLAIM_AGAIN: Duration = Duration::from_millis(50);

/// The parts that commands work with.
#[derive(Debug)]
pub struct Agent {
    /// How it was started.
    pub settings: Settings,
    /// What it remembers.
    pub store: Store,
    /// What it sees.
    pub board: Arc<Board>,
    /// The server.
    pub mysql: Arc<Mysql>,
    /// The server's process.
    pub supervision: Supervision,
    /// Looks at the server now.
    pub probe: Asker,
    /// Held by whoever works on the data directory's files, or starts mysqld on them.
    pub files: Arc<Mutex<()>>,
    /// The database as an operator sees it; decides nothing.
    pub picture: watch::Sender<Arc<Picture>>,
    /// Heartbeat rows that somebody waits for.
    pub beats: Beats,
    /// What is asked of the operator.
    pub asks: Asks,
    /// What the data API counts.
    pub api_metrics: data::Metrics,
    /// Held by whoever settles the application's account.
    pub accounts: Mutex<()>,
}

impl Agent {
    /// The server's state as of now, if it is up.
    pub async fn look(&self, deadline: Duration) -> Option<Box<Status>> {
        self.probe.refresh(deadline).await;
        self.board.status()
    }

    /// An operator told how it sees the database. One of an older term knows less.
    pub fn picture(&self, picture: Picture) {
        self.picture.send_if_modified(|known| {
            let news = picture.term >= known.term && **known != picture;
            if news {
                *known = Arc::new(picture);
            }
            news
        });
    }

    /// Host and port of another node's MySQL server.
    pub fn endpoint(&self, address: &str) -> (String, u16) {
        match (address.parse::<IpAddr>(), address.parse::<SocketAddr>()) {
            (Err(_), Ok(whole)) => (whole.ip().to_string(), whole.port()),
            _ => (address.to_owned(), self.settings.mysql_port),
        }
    }
}

/// Runs the agent until it is told to stop and may go.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let slot = http::Slot::default();
    let probes = http::listen(settings.probe_listen, Arc::clone(&slot))
        .await
        .context("listen for probes")?;
    // Held until the last thread has ended: a write that hangs on the volume may outlive this function.
    std::mem::forget(claim(&settings.agent_dir).await?);
    let memory = store::open(&settings.agent_dir).context("the agent's state")?;
    let board = Arc::new(Board::new(memory.clone()));
    let mysql = Arc::new(Mysql::new(&settings.mysql_socket));
    let supervision = Supervision::new(
        settings.supervisor_socket.clone(),
        settings.mysql_data_dir.clone(),
    );
    let (asker, asks) = Asker::new();
    let (life_sender, life) = watch::channel(None);
    let agent = Arc::new(Agent {
        store: Store::new(&settings.agent_dir, memory, Arc::clone(&board)),
        board: Arc::clone(&board),
        mysql: Arc::clone(&mysql),
        supervision: supervision.clone(),
        probe: asker,
        files: Arc::default(),
        picture: watch::Sender::new(Arc::default()),
        beats: Beats::new(&settings.mysql_socket),
        asks: Asks::default(),
        api_metrics: data::Metrics::default(),
        accounts: Mutex::default(),
        settings,
    });
    tokio::spawn(supervision.follow(Arc::clone(&board), life_sender));
    tokio::spawn(probe::run(board, mysql, life, asks));
    tokio::spawn(storage::run(Arc::clone(&agent)));
    tokio::spawn(standstill::run(Arc::clone(&agent)));
    tokio::spawn(kept::tell(Arc::clone(&agent)));
    slot.get_or_init(|| Arc::clone(&agent));
    // As long as the server is not known, it answers that it is not ready.
    let data_api = data_api::Api::start(&agent)
        .await
        .context("listen for the data API")?;
    tokio::select! {
        result = serve(&agent) => result?,
        ended = data_api.ended() => ended.context("the data API's listener")?,
        ended = probes => ended.context("the probe listener")?.context("the probe listener")?,
        result = shutdown::wait(&agent) => result.context("wait for a signal")?,
    }
    data_api.finish().await;
    Ok(())
}

/// Waits until no other agent works on the volume, such as that of a pod that was deleted by force. Each goes by what it
/// has in memory, and would overwrite what the other has promised since.
async fn claim(directory: &Path) -> anyhow::Result<Claim> {
    let place = directory.join("claim");
    let mut end = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut said = false;
    loop {
        let claim = Claim::take(&place).with_context(|| format!("lock {}", place.display()))?;
        if let Some(claim) = claim {
            return Ok(claim);
        }
        if !said {
            warn!("another agent still works on this volume, of a pod that is ending; it is waited for");
            said = true;
        }
        tokio::select! {
            () = sleep(CLAIM_AGAIN) => {}
            _ = end.recv() => bail!("told to end before another agent has left the volume"),
        }
    }
}

/// Reports and obeys, once it is known what there is to report of: a restarted agent that took its silence about a
/// master for the master's death would have it replaced, or confirm a fence that nobody set.
async fn serve(agent: &Arc<Agent>) -> anyhow::Result<()> {
    while !agent.board.knows_the_server() {
        sleep(LOOK_AGAIN).await;
    }
    let executor = executor::start(agent);
    tokio::spawn(caretaker::run(Arc::clone(agent), executor.clone()));
    tokio::spawn(guard::run(Arc::clone(agent), executor.clone()));
    let sessions = session::listen(Arc::clone(agent), executor)
        .await
        .context("listen for sessions")?;
    let passages = passage::listen(agent)
        .await
        .context("listen for clients of the master")?;
    tokio::select! {
        ended = passages => ended.context("the passage to the master"),
        ended = sessions => ended.context("the session listener"),
    }
}
