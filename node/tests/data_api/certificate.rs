//! A certificate of the user's own: clients are shown it, other nodes are not, and it changes without a restart.

use std::{fs, path::Path, time::Duration};

use serde_json::json;
use tokio::time::sleep;

use crate::support::{
    certificates,
    cluster::Cluster,
    https::{WRITER, is_trusted},
    now,
};

pub async fn users_certificate(cluster: &Cluster) {
    let master = &cluster.nodes[0];
    let port = master.api_port();
    let (own, users) = (cluster.tls.as_path(), cluster.root.join("users"));
    let shown = master.directory.join("api-tls");
    fs::create_dir_all(&shown).unwrap();
    assert!(is_trusted(own, port, "node.test").await);

    install(&users, &shown);
    until(&users, port, "node.test").await;
    assert!(!is_trusted(own, port, "node.test").await);
    assert!(is_trusted(own, port, "localhost").await, "as nodes ask");
    let body = json!({"dbname":"t","table":"r","values":"990001"});
    let written = cluster.nodes[1].send(WRITER, "/insert", &body).await;
    assert_eq!(written.header("served-by"), Some("a"), "{written:?}");
    written.must(200);

    fs::write(shown.join("tls.crt"), "no certificate").unwrap();
    sleep(Duration::from_secs(6)).await;
    assert!(
        is_trusted(&users, port, "node.test").await,
        "the one before stays"
    );
    assert!(is_trusted(own, port, "localhost").await);

    let renewed = cluster.root.join("renewed");
    install(&renewed, &shown);
    until(&renewed, port, "node.test").await;
    fs::remove_dir_all(&shown).unwrap();
    until(own, port, "node.test").await;
    println!("a user's certificate came, was spoilt, renewed and taken away without a restart");
}

/// Makes an authority and a certificate by it, and puts the certificate where the node looks.
fn install(made: &Path, shown: &Path) {
    certificates(made);
    // The key first: the agent looks at the certificate's time.
    for file in ["tls.key", "tls.crt"] {
        fs::copy(made.join(file), shown.join(file)).unwrap();
    }
}

async fn until(roots: &Path, port: u16, name: &str) {
    let begun = now();
    while !is_trusted(roots, port, name).await {
        assert!(begun.elapsed() < Duration::from_secs(20), "not within 20 s");
        sleep(Duration::from_millis(100)).await;
    }
}
