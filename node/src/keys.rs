//! Forgets the data API's old keys on a master, so that their table does not grow for ever.
//!
//! A key is kept for a day at least: a request that is repeated within that time finds its reply.

use std::time::Duration;

use tokio::time::sleep;
use tracing::{debug, info};

use crate::{agent::Agent, mysql::Lane};

/// A new master has more urgent things to do.
const FIRST: Duration = Duration::from_secs(10);
/// Then as often as this.
const EVERY: Duration = Duration::from_mins(10);
/// Between two parts: the clients' own changes wait for the same slaves.
const BREATH: Duration = Duration::from_millis(100);

/// Forgets for as long as the node leads.
pub async fn keep_few(agent: &Agent) {
    if agent.settings.api_off {
        return;
    }
    let mut pause = FIRST;
    loop {
        sleep(pause).await;
        pause = EVERY;
        // A connection of its own, made now: it would be unused nearly all the time.
        let mut lane = Lane::root(&agent.settings.mysql_socket);
        loop {
            match lane.forget_keys().await {
                Ok(0) => break,
                Ok(count) => debug!(count, "old keys of the data API are forgotten"),
                Err(error) => {
                    info!(%error, "old keys of the data API stay until the next time");
                    break;
                }
            }
            sleep(BREATH).await;
        }
        lane.close().await;
    }
}
