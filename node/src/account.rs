//! Keeps the application's account on a master, without ever locking the slaves out for good.
//!
//! A statement about accounts holds the list of accounts while it waits for an acknowledgement, and meanwhile nobody
//! can log in, no slave either: measured, without a connected slave it hangs for ever. So each is begun only while
//! enough slaves are connected; and should they all be lost in that very moment, the node says that it does not
//! serve, and the operator replaces it. It must not kill its own server: what waits inside is for the operator to
//! judge.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use data::access::{Grants, Role};
use tokio::{fs, time::sleep};
use tracing::{info, warn};

use crate::{
    agent::Agent,
    clock,
    mysql::{Error, Lane},
    settings::Settings,
};

/// MySQL's answer to a wrong password.
const ACCESS_DENIED: u16 = 1045;
/// A statement about accounts that waits longer than this is not going to end.
const STUCK_MS: u64 = 3000;
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How often it is looked whether a password was changed.
const LOOK_AT_SECRETS: Duration = Duration::from_secs(2);

/// The pause before the next try, which doubles: each may write to the binary log.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Why the account is not as it should be.
#[derive(Debug, thiserror::Error)]
enum AccountError {
    #[error("the account's Secret cannot be read: {0}")]
    Secret(#[from] std::io::Error),
    #[error("the Secret of the data API's accounts has no password for {0}")]
    NoPassword(&'static str),
    #[error(transparent)]
    Mysql(#[from] Error),
}

/// Keeps the accounts as their Secrets say for as long as it runs.
pub async fn follow(agent: &Arc<Agent>) {
    loop {
        // Before they are read: what changes meanwhile is seen afterwards.
        let seen = changed(&agent.settings);
        keep(agent).await;
        while changed(&agent.settings) == seen {
            sleep(LOOK_AT_SECRETS).await;
        }
        info!("a Secret with passwords changed");
    }
}

/// The kubelet swaps a symbolic link; whoever writes files changes a file.
fn changed(settings: &Settings) -> [Option<SystemTime>; 3] {
    let of = |directory: &Path, file: &str| clock::changed_at(&directory.join(file));
    [
        of(&settings.account_dir, "..data"),
        of(&settings.account_dir, "password"),
        of(&settings.api_accounts_dir, "..data"),
    ]
}

/// Settles the account; returns when it is as the Secret says. What has begun is seen through even when the caller
/// goes away, so that it is known for how long it waits.
async fn keep(agent: &Arc<Agent>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let this = Arc::clone(agent);
        let settled = tokio::spawn(async move {
            let _one = this.accounts.lock().await;
            Box::pin(settle(&this)).await
        });
        match settled.await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => warn!(%error, "the accounts are not settled yet"),
            Err(stopped) => warn!(error = %stopped, "the accounts are not settled yet"),
        }
        sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

async fn settle(agent: &Agent) -> Result<(), AccountError> {
    let directory = &agent.settings.account_dir;
    let user = fs::read_to_string(directory.join("username")).await?;
    let password = fs::read_to_string(directory.join("password")).await?;
    let (user, password) = (user.trim(), password.trim());
    let mut lane = Lane::root(&agent.settings.mysql_socket);
    if !lane.account_exists(user).await? {
        watched(agent, Box::pin(lane.create_account(user, password))).await?;
        watched(agent, Box::pin(lane.grant_use(user))).await?;
        for schema in ["mysql", "sys", "ddb"] {
            watched(agent, Box::pin(lane.revoke_system(user, schema))).await?;
        }
        watched(agent, Box::pin(lane.grant_list(user))).await?;
        info!(user, "the application account is made");
    }
    if is_refused(agent, user, password).await {
        watched(agent, Box::pin(lane.set_password(user, password))).await?;
        info!(user, "the application account has its new password");
    }
    if !lane.is_copied_closed().await? {
        watched(agent, Box::pin(lane.grant_copy_closed())).await?;
    }
    if !agent.settings.api_off {
        if !lane.changes_account_exists().await? {
            watched(agent, Box::pin(lane.create_changes_account())).await?;
            watched(agent, Box::pin(lane.grant_changes())).await?;
            info!("the account of change feeds is made");
        }
        let roles = &agent.settings.api_roles;
        let mut failed = Ok(());
        for role in roles.all() {
            let settled = Box::pin(settle_role(agent, &mut lane, role)).await;
            if role.is_built_in() {
                settled?;
            } else if let Err(error) = settled {
                // It must not keep others from being as they should.
                warn!(role = &*role.name, %error, "a role of the resource is not settled");
                failed = Err(error);
            }
        }
        for former in lane.former_roles(roles).await? {
            watched(agent, Box::pin(lane.drop_role(&former))).await?;
            info!(
                account = former,
                "the account of a role that is no more is dropped"
            );
        }
        failed?;
    }
    lane.close().await;
    Ok(())
}

/// The account of a role of the data API: for the node's own socket only, with just the role's privileges.
async fn settle_role(agent: &Agent, lane: &mut Lane, role: &Grants) -> Result<(), AccountError> {
    let secret = fs::read_to_string(agent.settings.api_accounts_dir.join(role.like.name())).await?;
    let password = role.password(&secret);
    if password.is_empty() {
        return Err(AccountError::NoPassword(role.like.name()));
    }
    if !lane.role_exists(role).await? {
        if !role.is_built_in() {
            // It may have had other grants.
            watched(agent, Box::pin(lane.drop_role(&role.account))).await?;
        }
        // The roles' rights on it are part of what makes an account complete.
        watched(agent, Box::pin(lane.create_keys())).await?;
        watched(agent, Box::pin(lane.create_role(role, &password))).await?;
        if let Some(databases) = &role.databases {
            for database in databases {
                watched(agent, Box::pin(lane.grant_role(role, Some(database)))).await?;
            }
        } else {
            watched(agent, Box::pin(lane.grant_role(role, None))).await?;
            // Nothing can be taken away there from an account that may not read.
            let readable = role.reads.then_some("performance_schema");
            for schema in ["mysql", "sys", "ddb"].into_iter().chain(readable) {
                watched(agent, Box::pin(lane.revoke_role(role, schema))).await?;
            }
        }
        if role.like != Role::Reader {
            watched(agent, Box::pin(lane.grant_keys(role))).await?;
        }
        watched(agent, Box::pin(lane.complete_role(role))).await?;
        info!(role = &*role.name, "the role's account is made");
    }
    if is_refused(agent, &role.account, &password).await {
        watched(agent, Box::pin(lane.set_role_password(role, &password))).await?;
        info!(role = &*role.name, "the role's account has its new password");
    }
    Ok(())
}

/// True where MySQL lets the account in with another password only.
async fn is_refused(agent: &Agent, user: &str, password: &str) -> bool {
    let mut lane = Lane::new(&agent.settings.mysql_socket, user, Some(password));
    let answer = lane.ping().await;
    lane.close().await;
    answer.is_err_and(|error| error.code() == Some(ACCESS_DENIED))
}

/// Carries out a statement about accounts once enough slaves are connected, and tells the board while it hangs.
async fn watched(agent: &Agent, statement: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    await_acknowledgers(agent).await;
    let begun = clock::now();
    tokio::pin!(statement);
    loop {
        tokio::select! {
            result = &mut statement => {
                agent.board.locked_out(None);
                return result;
            }
            () = sleep(LOOK) => {
                if clock::millis_since(begun) >= STUCK_MS {
                    agent.board.locked_out(Some(begun));
                }
            }
        }
    }
}

/// Returns when as many slaves are connected as must acknowledge.
async fn await_acknowledgers(agent: &Agent) {
    loop {
        let wanted = agent
            .board
            .status()
            .map_or(1, |status| if status.source_on { status.acks } else { 0 });
        let there = agent.mysql.side().await.acknowledgers().await;
        match there {
            Ok(there) if there >= wanted => return,
            _ => sleep(Duration::from_millis(50)).await,
        }
    }
}
