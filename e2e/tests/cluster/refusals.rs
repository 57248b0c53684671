//! A good resource is accepted. Bad input has a row of the catalogue: field and mend are named at apply.

use anyhow::ensure;
use e2e::{catalogue::specs, world::on_cluster};
use serde_json::json;

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn a_good_resource_is_accepted() {
    on_cluster(async |world| {
        let answer = specs::answer(
            &world.client,
            "good",
            &json!({"nodes": 3, "storage": {"size": "1Gi"}}),
        )
        .await?;
        ensure!(answer == "accepted", "refused: {answer}");
        Ok(())
    });
}
