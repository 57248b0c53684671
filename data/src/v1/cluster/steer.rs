//! `POST /v1/cluster/switchover` and `POST /v1/cluster/nodes/{node}/resync`: wishes that are handed to the operator, which
//! treats them as the annotations of the same meaning.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::State,
    http::{StatusCode, header},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::ToSchema;

use crate::{
    access::Role,
    call::Call,
    engine::Engine,
    host::Wish,
    input::Path,
    problem::{Problem, Problems},
    reply::Reply,
};

/// Where it is seen what becomes of it.
const WATCH: &str = "/v1/cluster/events";
/// The target that leaves the choice to the operator.
const ANY: &str = "any";

/// Another master.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Switchover {
    /// The node that is to lead; `any` or nothing leaves the choice to the operator.
    target: Option<String>,
    /// The term in which this is asked; in another one it is refused.
    expected_term: Option<u64>,
}

/// A new copy.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Resync {
    /// The term in which this is asked; in another one it is refused.
    expected_term: Option<u64>,
}

/// It will be judged and, where it is safe, carried out.
#[derive(Serialize, ToSchema)]
pub struct Asked {
    /// Always true.
    accepted: bool,
    /// The term in which it was asked.
    term: u64,
    /// Where it is seen what becomes of it: the event `request`; `lastRequest` of /v1/cluster says the same.
    watch: &'static str,
}

/// Asks for another master
///
/// The reply is 202 as soon as the operator has written the wish down; what comes of it, done or refused with the
/// reason, is told by /v1/cluster/events.
#[utoipa::path(post, path = "/v1/cluster/switchover", tag = "cluster",
    extensions(("x-role" = json!("admin"))), request_body = Option<Switchover>,
    responses((status = 202, body = inline(Asked)), Problems))]
pub async fn switchover(
    State(engine): State<Arc<Engine>>,
    call: Call,
    body: Bytes,
) -> Result<Reply, Problem> {
    call.require_whole()?;
    let Switchover {
        target,
        expected_term,
    } = read(&body)?;
    let target = target.filter(|target| target != ANY);
    call.note().object = format!("switchover to {}", target.as_deref().unwrap_or(ANY));
    if let Some(target) = &target {
        engine.require_node(target)?;
    }
    hand_on(&engine, &call, Wish::Switchover { target }, expected_term).await
}

/// Asks for a node to be copied anew from another one
///
/// Its data is thrown away, so it is refused for the master and where it could be the last copy of anything.
#[utoipa::path(post, path = "/v1/cluster/nodes/{node}/resync", tag = "cluster",
    extensions(("x-role" = json!("admin"))), params(("node" = String, Path)),
    request_body = Option<Resync>, responses((status = 202, body = inline(Asked)), Problems))]
pub async fn resync(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Path(node): Path<String>,
    body: Bytes,
) -> Result<Reply, Problem> {
    call.require_whole()?;
    let Resync { expected_term } = read(&body)?;
    copy_anew(&engine, &call, node, expected_term).await
}

/// Has the operator copy a node anew.
pub async fn copy_anew(
    engine: &Engine,
    call: &Call,
    node: String,
    expected_term: Option<u64>,
) -> Result<Reply, Problem> {
    call.note().object = format!("resync of {node}");
    engine.require_node(&node)?;
    hand_on(engine, call, Wish::Resync { node }, expected_term).await
}

async fn hand_on(
    engine: &Engine,
    call: &Call,
    wish: Wish,
    expected_term: Option<u64>,
) -> Result<Reply, Problem> {
    call.note().wishes = true;
    let term = engine.view.borrow().term;
    engine.host.wish(wish, expected_term).await?;
    let accepted = Asked {
        accepted: true,
        term,
        watch: WATCH,
    };
    Ok(Reply::with(StatusCode::ACCEPTED, &accepted)?.header(header::LOCATION, WATCH))
}

/// A body may be left out.
fn read<T: DeserializeOwned + Default>(body: &Bytes) -> Result<T, Problem> {
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|error| Problem::bad_request(format!("body: {error}")))
}

impl Call {
    /// Refuses whoever may not direct the database as a whole.
    pub fn require_whole(&self) -> Result<(), Problem> {
        self.require(Role::Admin)?;
        if self.caller().databases.is_none() {
            return Ok(());
        }
        Err(Problem::new(
            crate::problem::Kind::Forbidden,
            "the token is limited to databases; this concerns all of them",
        ))
    }
}

impl Engine {
    /// Refuses a node that there is none of.
    fn require_node(&self, name: &str) -> Result<(), Problem> {
        if self.nodes().iter().any(|node| node.name == name) {
            return Ok(());
        }
        Err(Problem::not_found(format!(
            "there is no node {name}; /v1/cluster names all of them"
        )))
    }
}
