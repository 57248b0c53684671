//! The life of a token, with the plugin of kubectl as a person uses it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{
    curl::{self, Curl},
    wait::{Seen, until},
    world::on_cluster,
};

/// The kubelets bring a changed Secret to the nodes one after the other.
const KNOWN: Duration = Duration::from_mins(3);

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn a_token_reaches_its_databases_and_nothing_else_until_it_is_revoked() {
    on_cluster(async |world| {
        let database = world.database().await?;
        let (_, admin) = curl::client(&database, "admin").await?;
        for name in ["e2e_mine", "e2e_theirs"] {
            admin.get("/createdb", &[("name", name)], &[]).await?.must(200)?;
        }
        let limits = [
            "--role",
            "writer",
            "--databases",
            "e2e_mine",
            "--expires",
            "2h",
            "--note",
            "e2e",
        ];
        let token = curl::tokens(&database, "create", &limits).await?;
        let id = token.split('_').nth(1).context("a token without an id")?;
        let line = listed(&curl::tokens(&database, "list", &[]).await?, id).context("it is not listed")?;
        ensure!(
            line.contains("writer") && line.contains("e2e_mine") && line.contains("e2e"),
            "{line}"
        );
        ensure!(!line.contains("never") && !line.contains(&token), "{line}");

        let client = admin.with_token(&token);
        let drop = [("name", "e2e_mine")];
        // The master carries it out, which may hear of a token later than the node that was asked.
        becomes(&client, "/dropdb", &drop, 403).await?;
        becomes(&client, "/databases", &[], 200).await?;
        let tables = async |name: &str| client.get("/tables", &[("dbname", name)], &[]).await;
        tables("e2e_mine").await?.must(200)?;
        tables("e2e_theirs").await?.must(403)?;

        curl::tokens(&database, "revoke", &[id]).await?;
        let list = curl::tokens(&database, "list", &[]).await?;
        ensure!(listed(&list, id).is_none(), "{list}");
        becomes(&client, "/databases", &[], 401).await?;
        for name in ["e2e_mine", "e2e_theirs"] {
            admin.get("/dropdb", &[("name", name)], &[]).await?.must(200)?;
        }
        Ok(())
    });
}

/// The line of a token.
fn listed(list: &str, id: &str) -> Option<String> {
    list.lines().find(|line| line.starts_with(id)).map(str::to_owned)
}

/// Waits until this is answered so.
async fn becomes(client: &Curl, path: &str, parameters: &[(&str, &str)], status: u16) -> Result<()> {
    until("know of the token", KNOWN, async || {
        let answer = client.get(path, parameters, &[]).await?;
        Ok(if answer.status == status {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{answer:?}"))
        })
    })
    .await
}
