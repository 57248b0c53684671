//! What every node holds when all is over, asked of each at its own pod's address.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use history::{Holds, Line};
use sqlx::MySqlConnection;

use super::{
    recorder::Recorder,
    statements::{self, FIRST, SCHEMA, SECOND, SINGLES},
};
use crate::{
    database::Database,
    sql,
    wait::{self, Seen},
};

const CATCH_UP: Duration = Duration::from_mins(1);

/// Waits until every node has executed what the master has, and writes down what each holds.
pub async fn record(database: &Database, recorder: &Recorder) -> Result<()> {
    let set = sql::executed(&mut database.master_connection().await?).await?;
    let nodes = database.pods().await?;
    ensure!(
        i32::try_from(nodes.len()) == Ok(database.get().await?.spec.nodes),
        "there are {} pods",
        nodes.len()
    );
    for node in nodes {
        let address = database
            .at(node.ip.as_deref().context("a node without address")?)
            .await?;
        let login = wait::until("login at a node", CATCH_UP, async || {
            sql::connect(&address, Duration::from_secs(2))
                .await
                .map(Seen::Done)
        });
        let mut connection = login.await.with_context(|| node.name.clone())?;
        ensure!(
            sql::wait_executed(&mut connection, &set, 50).await?,
            "{} did not execute the master's transactions within 50 s",
            node.name
        );
        let holds = holds(&mut connection, node.name).await?;
        recorder.line(Line::Holds(holds));
    }
    Ok(())
}

async fn holds(connection: &mut MySqlConnection, node: String) -> Result<Holds> {
    let mut checksums = BTreeMap::new();
    for table in sql::tables(connection, &[SCHEMA]).await? {
        let sum = sql::checksum(connection, &table).await?;
        checksums.insert(table, sum);
    }
    Ok(Holds {
        node,
        inserts: statements::ids(connection, SINGLES).await?,
        first_halves: statements::ids(connection, FIRST).await?,
        second_halves: statements::ids(connection, SECOND).await?,
        counters: statements::counters(connection).await?,
        lists: statements::lists(connection).await?,
        registers: statements::registers(connection).await?,
        checksums,
    })
}
