//! Bad input is refused at apply, with a message that names the field and the mend.

use anyhow::{Result, ensure};
use api::DistributedDatabase;
use e2e::world::{World, on_cluster};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

/// What the API server says to a new database; nothing is made.
async fn answer(world: &World, name: &str, spec: &Value) -> Result<String> {
    let databases = Api::<DistributedDatabase>::namespaced(world.client.clone(), "default");
    let object = json!({
        "apiVersion": "ddb-operator.io/v1alpha1",
        "kind": "DistributedDatabase",
        "metadata": {"name": name},
        "spec": spec,
    });
    let how = PatchParams {
        dry_run: true,
        ..PatchParams::apply("e2e").force()
    };
    Ok(match databases.patch(name, &how, &Patch::Apply(&object)).await {
        Ok(_) => "accepted".to_owned(),
        Err(kube::Error::Api(refusal)) => refusal.message.clone(),
        Err(error) => return Err(error.into()),
    })
}

async fn refused(world: &World, name: &str, spec: Value, words: &[&str]) -> Result<()> {
    let answer = answer(world, name, &spec).await?;
    for word in words {
        ensure!(
            answer.contains(word),
            "{spec} should be refused with `{word}`, but the answer is: {answer}"
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn a_good_resource_is_accepted() {
    on_cluster(async |world| {
        let answer = answer(world, "good", &json!({"nodes": 3, "storage": {"size": "1Gi"}})).await?;
        ensure!(answer == "accepted", "refused: {answer}");
        Ok(())
    });
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn a_wrong_number_of_nodes_is_refused_with_the_numbers_that_are_right() {
    on_cluster(async |world| {
        for nodes in [0, -1, 10] {
            refused(
                world,
                "bad",
                json!({"nodes": nodes}),
                &["spec.nodes: must be from 1 to 9"],
            )
            .await?;
        }
        refused(world, "bad", json!({"nodes": "three"}), &["spec.nodes"]).await
    });
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn an_unknown_durability_is_refused_with_those_there_are() {
    on_cluster(async |world| {
        let spec = json!({"nodes": 3, "durability": "Sometimes"});
        refused(world, "bad", spec, &["spec.durability", "Strict", "Available"]).await
    });
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn a_name_that_is_too_long_is_refused_with_the_limit() {
    on_cluster(async |world| {
        let name = "n".repeat(41);
        refused(
            world,
            &name,
            json!({"nodes": 3}),
            &["metadata.name: at most 40 characters"],
        )
        .await
    });
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn a_bad_quantity_is_refused_by_its_field() {
    on_cluster(async |world| {
        for size in ["ten", "-1Gi", "0", "10 Gi", ""] {
            refused(
                world,
                "bad",
                json!({"storage": {"size": size}}),
                &["spec.storage.size"],
            )
            .await?;
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn settings_that_safety_rests_on_are_refused_in_any_spelling() {
    on_cluster(async |world| {
        for setting in [
            "sync_binlog",
            "sync-binlog",
            "rpl_semi_sync_source_timeout",
            "GTID_MODE",
            "super_read_only",
        ] {
            let spec = json!({"mysql": {"config": {setting: "0"}}});
            refused(
                world,
                "bad",
                spec,
                &["spec.mysql.config", setting, "cannot be set"],
            )
            .await?;
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn an_unknown_field_is_refused_by_its_name() {
    on_cluster(async |world| refused(world, "bad", json!({"replicas": 3}), &["replicas"]).await);
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn edits_of_what_cannot_change_are_refused_and_leave_the_database_alone() {
    on_cluster(async |world| {
        let database = world.database().await?;
        let before = database.pods().await?;
        for (patch, words) in [
            (
                json!({"spec": {"storage": {"size": "1Mi"}}}),
                "spec.storage.size: a volume cannot shrink",
            ),
            (
                json!({"spec": {"storage": {"storageClassName": "other"}}}),
                "storageClassName: cannot be changed",
            ),
            (json!({"spec": {"nodes": 0}}), "spec.nodes: must be from 1 to 9"),
        ] {
            match database.patch(patch.clone()).await {
                Ok(_) => anyhow::bail!("{patch} was accepted"),
                Err(error) => ensure!(
                    error.to_string().contains(words),
                    "{patch}: expected `{words}`, got: {error}"
                ),
            }
        }
        ensure!(
            database.pods().await? == before,
            "a refused edit touched the pods"
        );
        Ok(())
    });
}
