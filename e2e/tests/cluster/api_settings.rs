//! What a user sets for the data API in the resource, as curl sees it: a certificate of the user's own, and what the
//! audit records beside changes.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use e2e::{
    curl::{self, Curl},
    database::{Database, Node},
    wait::{Seen, until},
    world::{on_cluster, small},
};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

const HEALTHY: Duration = Duration::from_mins(3);
/// The kubelet brings a changed Secret into a pod within a minute or so.
const RENEWED: Duration = Duration::from_mins(3);
/// A name that only the user's certificate has.
const HOST: &str = "db.example.test";

/// An authority of the user's own, and a Secret with a certificate by it.
fn users_certificate() -> Result<(String, Secret)> {
    let key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = authority.self_signed(&key)?.pem();
    let own_key = KeyPair::generate()?;
    let mut own = CertificateParams::new(vec![HOST.to_owned()])?;
    // With the authority's name, which is the default, it would pass for self-signed.
    own.distinguished_name.push(DnType::CommonName, HOST);
    let certificate = own.signed_by(&own_key, &Issuer::new(authority, key))?;
    let mut secret = Secret {
        type_: Some("kubernetes.io/tls".to_owned()),
        string_data: Some(BTreeMap::from([
            ("tls.crt".to_owned(), certificate.pem()),
            ("tls.key".to_owned(), own_key.serialize_pem()),
        ])),
        ..Secret::default()
    };
    secret.metadata.name = Some("users-tls".to_owned());
    Ok((pem, secret))
}

/// The client where the node shows a certificate by this authority.
async fn trusts(client: &Curl, authority: &str) -> Result<Curl> {
    let client = client.through(HOST, authority).await?;
    until("be shown the user's certificate", RENEWED, async || {
        Ok(match client.get("/is-master", &[], &[]).await {
            Ok(answer) if answer.status == 200 => Seen::Done(()),
            Ok(answer) => Seen::NotYet(format!("{answer:?}")),
            Err(error) => Seen::NotYet(format!("{error:#}")),
        })
    })
    .await?;
    Ok(client)
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn clients_are_shown_the_users_certificate_and_what_is_slow_is_recorded() {
    on_cluster(async |world| {
        let namespace = world.namespace("tls").await?;
        let database = Database::new(&world.client, &namespace, "tls");
        let mut wanted = small("tls", &namespace);
        wanted.spec.nodes = 1;
        wanted.spec.api.certificate_secret = Some("users-tls".to_owned());
        wanted.spec.api.audit.slow_milliseconds = 1;
        wanted.spec.api.audit.reads = true;
        database.apply(&wanted).await?;
        until("say that the Secret is missing", HEALTHY, async || {
            let told = database.status().await?.explanation.join("; ");
            Ok(
                if told.contains("users-tls, which spec.api.certificateSecret names, does not exist") {
                    Seen::Done(())
                } else {
                    Seen::NotYet(told)
                },
            )
        })
        .await?;
        let secrets = Api::<Secret>::namespaced(world.client.clone(), &namespace);
        let (authority, secret) = users_certificate()?;
        secrets.create(&PostParams::default(), &secret).await?;
        database.wait_healthy(HEALTHY).await?;
        let node = Node::from(&database.master_pod().await?);
        let token = curl::make_token(&database, "admin").await?;
        let address = node.ip.as_deref().context("the node has no address")?;
        let client = Curl::of(&database, &token, &node.name, address).await?;
        let users = trusts(&client, &authority).await?;

        let (other, renewed) = users_certificate()?;
        let apply = PatchParams::apply("e2e").force();
        secrets
            .patch("users-tls", &apply, &Patch::Apply(&renewed))
            .await?;
        let client = trusts(&client, &other).await?;
        ensure!(
            users.get("/is-master", &[], &[]).await.is_err(),
            "the former is still shown"
        );
        let pods = database.pods().await?;
        ensure!(
            pods.iter().all(|pod| pod.uid == node.uid),
            "the pod was made anew: {pods:?}"
        );

        audit(&client).await?;
        world.remove_namespace(&namespace).await
    });
}

async fn audit(client: &Curl) -> Result<()> {
    client
        .get("/createdb", &[("name", "e2e_slow")], &[])
        .await?
        .must(200)?;
    for _ in 0..20 {
        client.get("/databases", &[], &[]).await?.must(200)?;
    }
    let records = async |slow: &str| -> Result<Vec<String>> {
        let found = client.get("/v1/audit", &[("slow", slow)], &[]).await?.must(200)?;
        let records = found["records"].as_array().context("no records")?;
        let named = records.iter().map(|record| record["operation"].to_string());
        Ok(named.collect())
    };
    let slow = records("true").await?;
    ensure!(
        slow.iter().any(|it| it.contains("/createdb")),
        "not recorded as slow: {slow:?}"
    );
    let (slow, quick) = (slow.len(), records("false").await?);
    eprintln!(
        "    {slow} records of what took a millisecond or more, {} of what was quicker",
        quick.len()
    );
    // One that was slow would be there without `audit.reads`.
    ensure!(
        quick.iter().any(|it| it.contains("/databases")),
        "no read is recorded: {quick:?}"
    );
    Ok(())
}
