//! Carries a request to where it belongs, and tries again where that is proven to be safe.
//!
//! A change is tried again when it is certain that nothing was done, or when its key makes a repetition find what
//! was done. An unknown outcome without a key is answered as what it is, and so is one with a key where nobody could say
//! afterwards what was done. A request is forwarded once: the node that receives it answers for itself, also that it is
//! not the master.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures::{FutureExt as _, StreamExt as _};
use tokio::{
    sync::{SemaphorePermit, watch},
    time::{sleep, timeout},
};
use tracing::{Instrument as _, info_span};

use super::{
    admit::{self, Content, FORWARDED_FOR, Preferences, REQUEST_ID},
    freshness::{self, Freshness},
    peers::{Errand, other_master},
    place::Place,
    quota::Pass,
};
use crate::{
    access::Caller,
    audit::{Came, Refused},
    call::{Call, Peer},
    clock,
    engine::Engine,
    problem::{Kind, Outcome, Problem},
    view::{View, Way},
};

/// The pause before the same is tried again.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a request waits for its turn.
const TURN: Duration = Duration::from_secs(5);

struct Journey {
    engine: Arc<Engine>,
    parts: Parts,
    body: Content,
    call: Call,
    peer: Peer,
    preferences: Preferences,
    forwarded: bool,
    freshness: Freshness,
    begun: Instant,
    writes: bool,
    /// It is told for as long as the client listens.
    follows: bool,
    /// What another node forwards was counted there.
    pass: Option<Pass>,
}

/// Whether the client still waits, where its request goes on without it.
struct Client(Option<watch::Receiver<()>>);

impl Client {
    /// Ends when the client has gone away.
    async fn leaves(&mut self) {
        match &mut self.0 {
            Some(waits) => while waits.changed().await.is_ok() {},
            None => std::future::pending().await,
        }
    }
}

/// Lets the request in, carries it out where it belongs, and records it. What may change something is seen through and
/// recorded even when the client goes away; a read is then given up. A task of its own for each read would cost more than
/// many a read itself.
pub async fn carry(
    State((engine, place)): State<(Arc<Engine>, Place)>,
    request: Request,
    next: Next,
) -> Response {
    if !place.outlasts_its_client() {
        return carried(engine, place, request, next, Client(None)).await;
    }
    let (_waits, client) = watch::channel(());
    let task = carried(engine, place, request, next, Client(Some(client))).in_current_span();
    let ended = tokio::spawn(task).await;
    ended.unwrap_or_else(|error| failed(&error.to_string()))
}

async fn carried(
    engine: Arc<Engine>,
    place: Place,
    request: Request,
    next: Next,
    mut client: Client,
) -> Response {
    let begun = clock::now();
    let _under_way = engine.metrics.begin();
    let (parts, body) = request.into_parts();
    let method = parts.method.clone();
    let route = parts.extensions.get::<MatchedPath>().cloned();
    let mut role = None;
    let id = admit::id(&parts.headers);
    let what = format!("{} {}", parts.method, parts.uri.path());
    let peer = parts.extensions.get::<Peer>().copied();
    let from = peer
        .map(|peer| admit::from(&parts.headers, peer))
        .unwrap_or_default();
    let mut caller = None;
    let arrived = arrive(&engine, parts, body, place, &id, begun, &mut caller).await;
    let mut response = match arrived {
        Ok(journey) => {
            let call = journey.call.clone();
            role = Some(Arc::clone(&call.caller().named));
            let writes = journey.writes;
            let turn = match place {
                // They last long, or must be heard when nothing else is: they take no place from others.
                Place::Watch | Place::Steer | Place::Follow => Ok(None),
                _ => tokio::select! {
                    turn = turn(&engine) => turn.map(Some),
                    () = client.leaves() => Err(busy()),
                },
            };
            let span = info_span!("request", id = call.id(), trace = call.trace());
            let (mut response, here) = match turn {
                // What waits for its turn needs no room for the way.
                Ok(_place) if writes || matches!(place, Place::Here) => {
                    let travel = Box::pin(journey.travel(place, next, client));
                    travel.instrument(span).await
                }
                Ok(_place) => {
                    let travel = Box::pin(journey.travel(place, next, Client(None)));
                    tokio::select! {
                        came = travel.instrument(span) => came,
                        // Only its body said that it changes nothing.
                        () = client.leaves() => (given_up(), true),
                    }
                }
                Err(problem) => (problem.into_response(), true),
            };
            let refused = matches!(response.status().as_u16(), 401 | 403);
            let took = clock::since(begun);
            let changes = writes || call.note().wishes;
            if here && (changes || refused || engine.recorded.reads || engine.is_slow(took)) {
                let came = Came::to(&response);
                Box::pin(engine.record(&call, &what, &came, took)).await;
            }
            if let Some(standing) = journey.pass.as_ref().and_then(Pass::standing) {
                standing.say(response.headers_mut());
            }
            response
        }
        Err(problem) => {
            let refused = Refused {
                id: &id,
                caller: caller.as_deref(),
                from,
                took: clock::since(begun),
            };
            Box::pin(engine.record_refusal(refused, &what, &problem)).await;
            problem.into_response()
        }
    };
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    if !headers.contains_key("served-by") {
        let role = engine.view.borrow().role;
        if let Ok(node) = HeaderValue::from_str(&engine.node) {
            headers.insert("served-by", node);
        }
        let role = role.map_or("none", crate::view::NodeRole::name);
        headers.insert("served-role", HeaderValue::from_static(role));
    }
    let route = route.as_ref().map_or("", MatchedPath::as_str);
    let status = response.status().as_u16();
    let role = role.unwrap_or_else(|| "none".into());
    engine
        .metrics
        .end(&method, route, role, status, clock::since(begun));
    response
}

/// Reads who asks for what, and leaves in `who` who it is, also where the request is refused.
async fn arrive(
    engine: &Arc<Engine>,
    parts: Parts,
    body: Body,
    place: Place,
    id: &str,
    begun: Instant,
    who: &mut Option<Arc<Caller>>,
) -> Result<Journey, Problem> {
    let peer = parts.extensions.get::<Peer>().copied();
    let peer = peer.ok_or_else(|| Problem::new(Kind::Internal, "the connection is not known"))?;
    let caller = Arc::clone(who.insert(admit::caller(engine, &parts.headers).await?));
    let forwarded = admit::forwarded_by(&parts.headers, peer)?.is_some();
    let pass = if forwarded {
        None
    } else {
        Some(engine.quotas.enter(&caller.id)?)
    };
    let preferences = admit::preferences(&parts.headers)?;
    let freshness = match (freshness::of(&parts.headers)?, place) {
        (freshness, Place::Follow) => freshness.on_the_master(),
        (freshness, _) => freshness,
    };
    let comes = match place {
        Place::Import => true,
        Place::Master => admit::comes(engine, &parts.headers),
        Place::Here | Place::Any | Place::Watch | Place::Steer | Place::Follow | Place::ByBody(_) => false,
    };
    let body = if comes {
        Content::Coming(Mutex::new(Some(body)))
    } else {
        Content::Whole(admit::body(engine, body).await?)
    };
    let call = admit::call(id.to_owned(), &parts, caller, peer, body.bytes())?;
    let writes = place.writes(body.bytes());
    Ok(Journey {
        engine: Arc::clone(engine),
        parts,
        body,
        call,
        peer,
        preferences,
        forwarded,
        freshness,
        begun,
        writes,
        follows: matches!(place, Place::Follow),
        pass,
    })
}

/// Waits for a place among those that are carried out.
async fn turn(engine: &Engine) -> Result<SemaphorePermit<'_>, Problem> {
    if let Ok(place) = engine.running.try_acquire() {
        return Ok(place);
    }
    let _queued = engine.queued.try_acquire().map_err(|_| busy())?;
    let turn = timeout(TURN, engine.running.acquire()).await;
    turn.ok().and_then(Result::ok).ok_or_else(busy)
}

fn busy() -> Problem {
    Problem::new(
        Kind::Busy,
        "the node carries out as many requests as it can; try again",
    )
}

/// Waits before the next attempt: a moment where there was one, else until there is something new. False where the client
/// went away: nobody waits for the next attempt.
async fn pause(tried: bool, left: Duration, views: &mut watch::Receiver<View>, client: &mut Client) -> bool {
    let over = async {
        if tried {
            sleep(PAUSE.min(left)).await;
        } else {
            // An error would mean that the agent ends; the next look says what is left to say.
            let _ = timeout(left, views.changed()).await;
        }
    };
    tokio::select! {
        () = over => true,
        () = client.leaves() => false,
    }
}

/// What is noted of a read whose client went away; nobody gets it.
fn given_up() -> Response {
    StatusCode::from_u16(499)
        .unwrap_or(StatusCode::BAD_REQUEST)
        .into_response()
}

fn failed(error: &str) -> Response {
    tracing::error!(error, "a request failed");
    Problem::new(Kind::Internal, "the node failed while it carried out the request")
        .with_outcome(Outcome::Unknown)
        .into_response()
}

/// What an attempt came to.
enum Attempt {
    /// It is the answer; said with whether it was given here.
    Answer(Response, bool),
    /// It may be tried again; what is answered when there is no time left, and whether it is certain that nothing was
    /// done.
    Again(Response, bool),
}

impl Journey {
    async fn travel(&self, place: Place, next: Next, mut client: Client) -> (Response, bool) {
        if matches!(place, Place::Here | Place::Watch | Place::Steer) {
            return (self.here(next).await, true);
        }
        let deadline = self.begun + self.preferences.wait;
        let mut views = self.engine.view.clone();
        // An earlier attempt may have changed something, and only one that gets as far as the key can tell.
        let mut in_doubt = false;
        loop {
            let view = views.borrow_and_update().clone();
            let attempt = self.attempt(&view, &next).await;
            let last = match attempt {
                Some(Attempt::Answer(response, here)) => {
                    if in_doubt && says_nothing_of_the_key(&response) {
                        return (self.with_advice(in_doubt_still(), &view), true);
                    }
                    return (response, here);
                }
                Some(Attempt::Again(response, certain)) => {
                    in_doubt |= self.writes && !certain;
                    Some(response)
                }
                None => None,
            };
            let left = clock::left(deadline);
            let goes_on = !left.is_zero() && !self.forwarded;
            if !(goes_on && pause(last.is_some(), left, &mut views, &mut client).await) {
                let response = match last {
                    _ if in_doubt => in_doubt_still(),
                    Some(last) => last,
                    None => self.no_master().into_response(),
                };
                return (self.with_advice(response, &view), true);
            }
        }
    }

    /// One attempt, wherever it can be made now.
    async fn attempt(&self, view: &View, next: &Next) -> Option<Attempt> {
        let local = if self.writes || self.freshness.wants_master() {
            view.leads()
        } else {
            view.serving
        };
        if local {
            let reached = if self.freshness.wants_a_state() {
                Box::pin(freshness::reach(&self.engine, &self.call, &self.freshness, view)).await
            } else {
                Ok(true)
            };
            return Some(match reached {
                Ok(true) => {
                    // As of now: how long the reading takes is not the data's age.
                    let age = self.freshness.age(&self.engine);
                    let response = self.here(next.clone()).await;
                    self.judge(aged(response, age), true)
                }
                Ok(false) => self.without_the_state(view).await,
                Err(problem) => self.judge(problem.into_response(), true),
            });
        }
        if self.forwarded {
            return None;
        }
        match &view.master {
            Some(way) if self.preferences.redirect => Some(Attempt::Answer(self.redirect(way), true)),
            // Most requests stay here, and need not keep the room of those that travel.
            Some(way) => Some(Box::pin(self.there(way)).await),
            None => None,
        }
    }

    /// What this node, which lacks the state that is demanded, can answer. That it is lost can be said by the master only,
    /// and only once it is certain that it was the master when the request came: one that was replaced lacks what the
    /// next one acknowledged.
    async fn without_the_state(&self, view: &View) -> Attempt {
        if view.leads() {
            return match self.engine.beat().await {
                Ok(()) => self.judge(freshness::lost(view).into_response(), true),
                Err(_) => self.judge(self.no_master().into_response(), true),
            };
        }
        match &view.master {
            Some(way) if !self.forwarded => Box::pin(self.there(way)).await,
            _ => self.judge(self.no_master().into_response(), true),
        }
    }

    /// Carries it out on this node.
    async fn here(&self, next: Next) -> Response {
        let Some(body) = self.body.take() else {
            return admit::used_up().into_response();
        };
        let mut request = Request::from_parts(self.parts.clone(), body);
        request.extensions_mut().insert(self.call.clone());
        let ended = AssertUnwindSafe(next.run(request)).catch_unwind().await;
        ended.unwrap_or_else(|_| failed("it panicked"))
    }

    /// Has the master's node carry it out.
    async fn there(&self, way: &Way) -> Attempt {
        self.engine.metrics.forward();
        let mut parts = self.parts.clone();
        if let Ok(id) = HeaderValue::from_str(self.call.id()) {
            parts.headers.insert(REQUEST_ID, id);
        }
        if let Ok(from) = HeaderValue::from_str(&self.peer.address.ip().to_string()) {
            parts.headers.insert(FORWARDED_FOR, from);
        }
        let sent = self
            .engine
            .peers
            .send(&self.engine, way, parts, &self.body, self.errand())
            .await;
        match sent {
            Ok(response) if self.follows => self.judge(self.ending(response, way), false),
            Ok(response) => self.judge(response, false),
            Err(problem) => self.judge(problem.into_response(), true),
        }
    }

    fn errand(&self) -> Errand {
        match (self.writes, self.follows) {
            (true, _) => Errand::Change,
            (false, true) => Errand::Follow,
            (false, false) => Errand::Read,
        }
    }

    /// What is told without an end ends with this node, and when another one leads.
    fn ending(&self, response: Response, way: &Way) -> Response {
        let (mut views, mut stop) = (self.engine.view.clone(), self.engine.stop.subscribe());
        let way = way.clone();
        let over = async move {
            tokio::select! {
                () = other_master(&mut views, &way) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        };
        response.map(|body| Body::from_stream(body.into_data_stream().take_until(Box::pin(over))))
    }

    /// Whether an answer is final.
    fn judge(&self, response: Response, here: bool) -> Attempt {
        let Some(again) = response.headers().get(crate::problem::AGAIN) else {
            return Attempt::Answer(response, here);
        };
        if self.body.is_used_up() {
            return Attempt::Answer(response, here);
        }
        let certain = again == "yes";
        if !self.writes || certain || self.call.key().is_some() {
            return Attempt::Again(response, certain);
        }
        Attempt::Answer(response, here)
    }

    /// A client with a key may repeat what has an unknown outcome; and whoever was not served is told how far the database
    /// is, whichever attempt was the last.
    fn with_advice(&self, response: Response, view: &View) -> Response {
        let Some(problem) = response.extensions().get::<Arc<Problem>>() else {
            return response;
        };
        let mut problem = Problem::clone(problem);
        if problem.outcome == Outcome::Unknown && self.call.key().is_some() {
            problem = problem.retryable();
        }
        if matches!(
            problem.kind(),
            Kind::NoMaster | Kind::NotServing | Kind::OutcomeUnknown
        ) {
            problem.phase.get_or_insert_with(|| view.phase.to_owned());
            problem.term.get_or_insert(view.term);
        }
        problem.into_response()
    }

    fn no_master(&self) -> Problem {
        // The node that forwards knows how long it waited.
        let waited = if self.forwarded {
            String::new()
        } else {
            format!(" (waited {} ms)", clock::millis_since(self.begun))
        };
        Problem::new(
            Kind::NoMaster,
            format!(
                "no node accepts writes at the moment{waited}; try again, or wait longer with `Prefer: wait=10`"
            ),
        )
        .again()
    }

    fn redirect(&self, way: &Way) -> Response {
        let path = self.parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let place = format!("https://{}{path}", way.authority());
        let mut response = StatusCode::TEMPORARY_REDIRECT.into_response();
        if let Ok(place) = HeaderValue::from_str(&place) {
            response.headers_mut().insert(header::LOCATION, place);
        }
        response
    }
}

/// True where the request may not have got as far as the look for its key.
fn says_nothing_of_the_key(response: &Response) -> bool {
    response.status().is_server_error() || response.status() == StatusCode::TOO_MANY_REQUESTS
}

/// What became of a change is not known, and could not be found out in time.
fn in_doubt_still() -> Response {
    let problem = Problem::new(
        Kind::OutcomeUnknown,
        "the connection to the master broke while it carried out the change, and nobody could say since what became of \
         it; repeat the request with the same key",
    );
    problem.with_outcome(Outcome::Unknown).again().into_response()
}

/// Says how old the data was at most when it was read, where the request set a bound.
fn aged(mut response: Response, age: Option<Duration>) -> Response {
    if let Some(age) = age {
        let millis = clock::millis(age);
        response
            .headers_mut()
            .insert("data-age", HeaderValue::from(millis));
    }
    response
}
