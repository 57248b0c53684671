//! `GET /v1/cluster/events`

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::stream;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::read::Cluster;
use crate::{
    engine::Engine,
    problem::{Kind, Problem, Problems},
    view::{Failover, Request, View},
};

/// A comment this often, so that nobody in between takes the connection for dead.
const ALIVE: Duration = Duration::from_secs(10);

/// One event as it stands in the stream.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "only the document tells of it")]
struct Told {
    /// `cluster`, `change`, `failover` or `request`.
    event: String,
    /// JSON: a Cluster, a Failover or a Request.
    data: String,
}

/// What was told last.
struct Watcher {
    engine: Arc<Engine>,
    views: watch::Receiver<View>,
    stop: watch::Receiver<bool>,
    cluster: Option<Cluster>,
    change: Option<Failover>,
    complete: Option<u64>,
    request: Option<Request>,
    due: VecDeque<Event>,
    _place: OwnedSemaphorePermit,
}

/// Tells live what becomes of the database (server-sent events)
///
/// `cluster` is the whole, at the beginning and whenever anything but the lag changes. `change` is the change of master
/// under way, at each step. `failover` is a complete one, with the proof of what was kept. `request` is what came of a
/// switchover or a new copy that somebody asked for. Whoever comes back is told the whole again.
#[utoipa::path(get, path = "/v1/cluster/events", tag = "cluster",
    responses((status = 200, body = Told, content_type = "text/event-stream"), Problems))]
pub async fn events(State(engine): State<Arc<Engine>>) -> Result<Response, Problem> {
    let Ok(place) = Arc::clone(&engine.watchers).try_acquire_owned() else {
        return Err(Problem::new(
            Kind::Busy,
            "as many watch this node as may; watch another one",
        ));
    };
    let views = engine.view.clone();
    let (complete, request) = {
        let whole = &views.borrow().whole;
        (whole.failovers.first().map(|one| one.term), whole.request.clone())
    };
    let watcher = Watcher {
        views,
        stop: engine.stop.subscribe(),
        engine,
        cluster: None,
        change: None,
        complete,
        request,
        due: VecDeque::new(),
        _place: place,
    };
    let events = stream::unfold(watcher, |mut watcher| async {
        let event = watcher.next().await?;
        Some((Ok::<_, Infallible>(event), watcher))
    });
    let alive = KeepAlive::new().interval(ALIVE);
    Ok(Sse::new(events).keep_alive(alive).into_response())
}

impl Watcher {
    /// The next event; `None` when the node ends.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.due.pop_front() {
                return Some(event);
            }
            if self.cluster.is_some() {
                tokio::select! {
                    changed = self.views.changed() => changed.ok()?,
                    _ = self.stop.wait_for(|stop| *stop) => return None,
                }
            }
            self.look();
        }
    }

    fn look(&mut self) {
        let whole = Arc::clone(&self.views.borrow_and_update().whole);
        let mut cluster = Cluster::of(&self.engine);
        // It changes all the time under load; /v1/cluster says it.
        for node in &mut cluster.nodes {
            node.lag = None;
        }
        if whole.change != self.change {
            if let Some(change) = &whole.change {
                self.tell("change", change);
            }
            self.change.clone_from(&whole.change);
        }
        let newest = whole.failovers.first();
        if let Some(failover) = newest.filter(|one| Some(one.term) != self.complete) {
            self.complete = Some(failover.term);
            self.tell("failover", failover);
        }
        if whole.request != self.request {
            if let Some(request) = &whole.request {
                self.tell("request", request);
            }
            self.request.clone_from(&whole.request);
        }
        if self.cluster.as_ref() != Some(&cluster) {
            self.tell("cluster", &cluster);
            self.cluster = Some(cluster);
        }
    }

    fn tell(&mut self, name: &'static str, what: &impl Serialize) {
        if let Ok(event) = Event::default().event(name).json_data(what) {
            self.due.push_back(event);
        }
    }
}
