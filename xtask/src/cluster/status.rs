//! `cluster status`: what runs, what does not, and which faults are in force. Changes nothing.

use anyhow::{Result, bail};

use super::{Cluster, fault, plan::Folders, plan::text, up};

/// Prints the state; an error when the cluster is not healthy, so that scripts can ask by the exit status.
pub fn run(folders: Folders) -> Result<()> {
    let cluster = Cluster::existing(folders)?;
    for daemon in up::daemons(&cluster.folders, &cluster.tools, cluster.state.nodes) {
        let process = cluster.state.process(&daemon.name);
        let state = process.map_or("ended".to_owned(), |process| {
            format!("running, process {}", process.pid)
        });
        println!("{:<20} {state}", daemon.name);
    }
    match cluster.ask(&["get", "nodes", "-o", "wide"]) {
        Ok(nodes) => println!("\n{nodes}"),
        Err(error) => println!("\nthe API server does not answer: {error:#}"),
    }
    let faults = fault::in_force(&cluster)?;
    println!(
        "\nfaults in force: {}",
        if faults.is_empty() {
            "none".to_owned()
        } else {
            faults.join(", ")
        }
    );
    println!("kubeconfig: {}", text(&cluster.folders.admin()));
    if cluster.is_healthy() {
        println!("healthy");
        return Ok(());
    }
    bail!("the cluster is not healthy; `cargo xtask cluster up` mends it")
}
