//! Calls to a node without the right to, and a server whose connections are all taken.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use api::{
    names,
    wire::{Command, Refusal, SESSION_PORT, ToNode, ToOperator},
};
use failover::{NodeId, Term};
use futures::FutureExt;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, ResourceExt};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use sqlx::mysql::MySqlConnection;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{Case, Finding, UNHURT, master::same_master, place};
use crate::{
    curl,
    database::Database,
    inside,
    ordeal::Ordeal,
    sql::{self, Address},
    storm::HEALED,
    world::World,
};

pub const CASES: &[Case] = &[
    Case {
        row: 32,
        part: "a",
        fault: "sessions with the master's agent: no certificate, a stranger's, a node's own; an old term",
        expects: "refused; the old term with the current one",
        limit: Some(UNHURT),
        run: |world| knock(world).boxed_local(),
    },
    Case {
        row: 32,
        part: "b",
        fault: "data API calls without token, with a wrong one, with one that lacks the right",
        expects: "401 and 403",
        limit: None,
        run: |world| call_without_right(world).boxed_local(),
    },
    Case {
        row: 33,
        part: "",
        fault: "every connection of the master taken by clients, then a switchover",
        expects: "the agent still controls the server",
        limit: Some(Duration::from_secs(7)),
        run: |world| take_all_connections(world).boxed_local(),
    },
];

const DEADLINE: Duration = Duration::from_secs(5);

/// Nothing but the liveness of a node is told to whoever has no right to it.
async fn call_without_right(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let (_, reader) = curl::client(&database, "reader").await?;
    let drop = [("name", "row_right")];
    let answers = [
        ("without a token", reader.with_token(""), 401),
        (
            "with a token that nobody made",
            reader.with_token("ddb_stranger"),
            401,
        ),
        ("with a token that may only read", reader.clone(), 403),
    ];
    for (who, client, status) in answers {
        let answer = client.get("/dropdb", &drop, &[]).await?;
        let of_kind = answer
            .header("content-type")
            .is_some_and(|it| it.starts_with("application/problem+json"));
        ensure!(answer.status == status && of_kind, "{who}: {answer:?}");
    }
    let ping = reader.with_token("").get("/ping", &[], &[]).await?;
    ensure!(ping.status == 200, "a ping needs no token: {ping:?}");
    Ok(Finding::default())
}

/// Certificates and keys as PEM.
struct Identity {
    chain: String,
    key: String,
}

async fn secret(database: &Database, name: &str, keys: [&str; 2]) -> Result<Identity> {
    let secrets: Api<Secret> = Api::namespaced(database.client.clone(), &database.namespace);
    let secret = secrets.get(name).await?;
    let field = |key: &str| -> Result<String> {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key));
        let bytes = bytes.with_context(|| format!("{name} has no {key}"))?;
        Ok(String::from_utf8(bytes.0.clone())?)
    };
    Ok(Identity {
        chain: field(keys[0])?,
        key: field(keys[1])?,
    })
}

/// A client's certificate of this name, signed by `authority`, or by itself.
fn client(name: &str, authority: Option<&Identity>) -> Result<Identity> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    let certificate = match authority {
        Some(authority) => {
            let issuer = Issuer::from_ca_cert_pem(&authority.chain, KeyPair::from_pem(&authority.key)?)?;
            params.signed_by(&key, &issuer)?
        }
        None => params.self_signed(&key)?,
    };
    Ok(Identity {
        chain: certificate.pem(),
        key: key.serialize_pem(),
    })
}

/// Certificate and key of the nodes, expired years ago, as PEM.
pub async fn expired(database: &Database) -> Result<(String, String)> {
    let authority = secret(database, &names::ca_secret(&database.name), ["ca.crt", "ca.key"]).await?;
    let issuer = Issuer::from_ca_cert_pem(&authority.chain, KeyPair::from_pem(&authority.key)?)?;
    let host = names::node_host(&database.name, &database.namespace, "*");
    let mut params = CertificateParams::new([host])?;
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Opens a session as `who`, sends the lines, and gives the first outcome.
async fn session(
    database: &Database,
    pod: &Pod,
    authority: &Identity,
    who: Option<&Identity>,
    lines: &[ToNode],
) -> Result<Option<Refusal>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.chain.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let config = match who {
        None => config.with_no_client_auth(),
        Some(who) => config.with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(who.chain.as_bytes())?],
            PrivateKeyDer::from_pem_slice(who.key.as_bytes())?,
        )?,
    };
    let host = names::node_host(&database.name, &database.namespace, &pod.name_any());
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    let address = address.context("the pod has no address")?;
    let stream = TcpStream::connect((address, SESSION_PORT)).await?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from(host)?, stream)
        .await?;
    let (reading, mut writing) = tokio::io::split(stream);
    for line in lines {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        writing.write_all(text.as_bytes()).await?;
    }
    let mut answers = BufReader::new(reading).lines();
    while let Some(answer) = answers.next_line().await? {
        if let ToOperator::Outcome { refusal, .. } = serde_json::from_str(&answer)? {
            return Ok(refusal);
        }
    }
    bail!("the node closed the session")
}

async fn knock(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "knock").await?;
    let at = ordeal.now();
    // A term of the past needs one to have passed.
    let heir = database.slave_pod().await?.name_any();
    if ordeal.term < 2 {
        place::switch_to(&database, &heir).await?;
    }
    let (master, term) = (database.master_pod().await?, database.status().await?.record.term);
    let authority = secret(&database, &names::ca_secret(&database.name), ["ca.crt", "ca.key"]).await?;
    let own = secret(
        &database,
        &names::node_tls_secret(&database.name),
        ["tls.crt", "tls.key"],
    )
    .await?;
    let lines = [
        ToNode::Hello {
            takes_asks: false,
            node: NodeId::from(master.name_any()),
            cluster: database.get().await?.uid().unwrap_or_default(),
            heartbeat_ms: 100,
        },
        ToNode::Command {
            id: 1,
            term: Term(term.0 - 1),
            command: Command::Fence {
                orderly: false,
                deadline_ms: 1000,
            },
        },
    ];
    let stranger = client(names::OPERATOR_COMMON_NAME, None)?;
    for (who, identity) in [
        ("without a certificate", None),
        ("with a stranger's certificate", Some(&stranger)),
        ("with the nodes' own certificate", Some(&own)),
    ] {
        let outcome = timeout(
            DEADLINE,
            session(&database, &master, &authority, identity, &lines),
        )
        .await;
        ensure!(
            !matches!(outcome, Ok(Ok(_))),
            "the agent carried out or answered a command of a client {who}: {outcome:?}"
        );
    }
    let operator = client(names::OPERATOR_COMMON_NAME, Some(&authority))?;
    let outcome = timeout(
        DEADLINE,
        session(&database, &master, &authority, Some(&operator), &lines),
    )
    .await;
    let refusal = outcome.context("no answer to an old term")??;
    let expected = Refusal::StaleTerm { current: term };
    ensure!(
        refusal.as_ref() == Some(&expected),
        "an old term was answered with {refusal:?} instead of {expected:?}"
    );
    let end = ordeal.end(at, HEALED).await?;
    same_master(&database, &master, term.0).await?;
    Ok(end.finding())
}

/// MySQL's word that it has no connection left for anybody.
const TOO_MANY: u16 = 1040;
/// Its words that it has none left for this account.
const TOO_MANY_OF_ONE: [u16; 2] = [1203, 1226];
/// Of 300, some are the product's own.
const LEAST: usize = 200;
/// On a busy machine a login may take longer than it is given.
const MISSED: u32 = 10;

async fn take_all_connections(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "full").await?;
    let heir = database.slave_pod().await?.name_any();
    let address = database.master_address().await?;
    // No account can take all connections, so the rest is taken by another one.
    let other = Address {
        user: "row_full".to_owned(),
        password: "the-other-account-of-a-test".to_owned(),
        ..address.clone()
    };
    let master = database.master_pod().await?;
    let mut administrator = inside::administrator(&master).await?;
    sql::create_account(&mut administrator, &other.user, &other.password).await?;
    drop(administrator);
    let mut taken = Vec::new();
    let mut said = 0;
    for account in [&address, &other] {
        said = take(&mut taken, account).await?;
        if said == TOO_MANY {
            break;
        }
    }
    ensure!(
        said == TOO_MANY && taken.len() > LEAST,
        "the connections are not exhausted: MySQL gave {} and refused one more with error {said}",
        taken.len()
    );
    let at = ordeal.now();
    place::switch_to(&database, &heir).await?;
    let count = taken.len();
    drop(taken);
    let end = ordeal.end(at, HEALED).await?;
    let led = end.master().context("no master")?;
    ensure!(led.name == heir, "{} leads instead of {heir}", led.name);
    let mut administrator = inside::administrator(&database.master_pod().await?).await?;
    sql::drop_account(&mut administrator, &other.user).await?;
    Ok(end.finding().note(format!("{count} connections taken")))
}

/// Takes connections until MySQL refuses one more for want of them; gives the number of its error.
async fn take(taken: &mut Vec<MySqlConnection>, account: &Address) -> Result<u16> {
    let mut missed = 0;
    loop {
        ensure!(taken.len() < 1000, "there is no limit of connections to exhaust");
        let error = match sql::connect(account, Duration::from_secs(2)).await {
            Ok(connection) => {
                taken.push(connection);
                continue;
            }
            Err(error) => error,
        };
        match sql::refusal(&error) {
            Some(number) if number == TOO_MANY || TOO_MANY_OF_ONE.contains(&number) => return Ok(number),
            Some(_) => return Err(error),
            None => missed += 1,
        }
        if missed > MISSED {
            return Err(error.context(format!("after {} connections", taken.len())));
        }
    }
}
