//! Sessions over real TLS on the loopback.

use std::sync::Mutex;

use api::wire::{PicturedNode, ToNode, ToOperator};
use failover::Server;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::*;

const HOST: &str = "db-0.db-nodes.ns.svc";

type Reader = Lines<BufReader<ReadHalf<TlsStream<TcpStream>>>>;
type Writer = WriteHalf<TlsStream<TcpStream>>;

fn identities() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let leaf = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        (
            vec![cert.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
    };
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let roots = Arc::new(roots);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
        .build()
        .unwrap();
    let (chain, key) = leaf(HOST);
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    let (chain, key) = leaf("ddb-operator");
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    (Arc::new(server), Arc::new(client))
}

struct Stage {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    events: mpsc::UnboundedReceiver<Happened>,
    pictures: watch::Sender<Arc<Picture>>,
    _running: Running,
}

async fn stage(host: &str, idle_limit: Millis) -> Stage {
    let (server, client) = identities();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pictures = watch::Sender::new(Arc::default());
    let target = Target {
        node: "db-0".into(),
        cluster: "uid".to_owned(),
        address: listener.local_addr().unwrap().to_string(),
        host: host.to_owned(),
        identity: client,
        heartbeat: 100,
        idle_limit,
        pictures: pictures.subscribe(),
    };
    let (told, events) = mpsc::unbounded_channel();
    let told = Mutex::new(told);
    let running = start(target, Arc::default(), move |happened| {
        let _ = told.lock().unwrap().send(happened);
    });
    Stage {
        listener,
        acceptor: TlsAcceptor::from(server),
        events,
        pictures,
        _running: running,
    }
}

impl Stage {
    async fn accept(&self) -> (Reader, Writer) {
        let (tcp, _) = self.listener.accept().await.unwrap();
        let (reader, writer) = tokio::io::split(self.acceptor.accept(tcp).await.unwrap());
        let mut lines = BufReader::new(reader).lines();
        let hello: ToNode = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
        assert!(matches!(hello, ToNode::Hello { cluster, .. } if cluster == "uid"));
        (lines, writer)
    }

    async fn next(&mut self) -> Happened {
        tokio::time::timeout(Duration::from_secs(5), self.events.recv())
            .await
            .unwrap()
            .unwrap()
    }

    async fn opened(&mut self) -> mpsc::Sender<Outgoing> {
        match self.next().await {
            Happened::Opened { orders } => orders,
            other => panic!("{other:?}"),
        }
    }
}

async fn say(writer: &mut Writer, message: &ToOperator) {
    let line = format!("{}\n", serde_json::to_string(message).unwrap());
    writer.write_all(line.as_bytes()).await.unwrap();
    writer.flush().await.unwrap();
}

fn report() -> ToOperator {
    report_of(false)
}

fn report_of(takes_pictures: bool) -> ToOperator {
    let report = NodeReport {
        term: Term(1),
        ..NodeReport::new("v".into(), Server::Starting)
    };
    ToOperator::Report {
        report: Box::new(report),
        takes_pictures,
        kept: None,
    }
}

#[tokio::test]
async fn an_order_is_carried_to_the_node_and_its_outcome_back() {
    let mut stage = stage(HOST, 5000).await;
    let (mut lines, mut writer) = stage.accept().await;
    let orders = stage.opened().await;
    say(&mut writer, &report()).await;
    assert!(matches!(stage.next().await, Happened::Reported { .. }));
    let (reply, outcome) = oneshot::channel();
    orders
        .send(Outgoing::Order(Order {
            term: Term(2),
            command: Command::Drain { deadline_ms: 10 },
            reply,
        }))
        .await
        .unwrap();
    let line = lines.next_line().await.unwrap().unwrap();
    let ToNode::Command {
        id, term: Term(2), ..
    } = serde_json::from_str(&line).unwrap()
    else {
        panic!("{line}")
    };
    say(
        &mut writer,
        &ToOperator::Outcome {
            id,
            took_ms: 3,
            refusal: None,
        },
    )
    .await;
    assert_eq!(
        outcome.await.unwrap(),
        Ended {
            took_ms: 3,
            refusal: None
        }
    );
}

#[tokio::test]
async fn a_broken_link_is_told_at_once_drops_what_is_pending_and_is_made_again() {
    let mut stage = stage(HOST, 5000).await;
    let (lines, mut writer) = stage.accept().await;
    let orders = stage.opened().await;
    say(&mut writer, &report()).await;
    assert!(matches!(stage.next().await, Happened::Reported { .. }));
    let (reply, outcome) = oneshot::channel();
    orders
        .send(Outgoing::Order(Order {
            term: Term(2),
            command: Command::Drain { deadline_ms: 10 },
            reply,
        }))
        .await
        .unwrap();
    drop((lines, writer));
    assert!(matches!(stage.next().await, Happened::Broke { .. }));
    assert!(outcome.await.is_err());
    let (_lines, _writer) = stage.accept().await;
    stage.opened().await;
}

fn picture(term: u64) -> Picture {
    Picture {
        term: Term(term),
        nodes: vec![PicturedNode {
            name: "db-0".into(),
            address: None,
            role: api::resource::NodeRole::Slave,
            ready: true,
            behind: None,
            message: String::new(),
        }],
        ..Picture::default()
    }
}

async fn heard(lines: &mut Reader) -> ToNode {
    let line = tokio::time::timeout(Duration::from_secs(5), lines.next_line())
        .await
        .unwrap();
    serde_json::from_str(&line.unwrap().unwrap()).unwrap()
}

#[tokio::test]
async fn a_node_that_takes_pictures_is_told_the_newest_and_every_change() {
    let mut stage = stage(HOST, 5000).await;
    stage.pictures.send_replace(Arc::new(picture(1)));
    let (mut lines, mut writer) = stage.accept().await;
    let _orders = stage.opened().await;
    say(&mut writer, &report_of(true)).await;
    assert_eq!(
        heard(&mut lines).await,
        ToNode::Picture {
            picture: Box::new(picture(1))
        }
    );
    stage.pictures.send_replace(Arc::new(picture(2)));
    assert_eq!(
        heard(&mut lines).await,
        ToNode::Picture {
            picture: Box::new(picture(2))
        }
    );
}

#[tokio::test]
async fn an_older_node_is_sent_no_picture_which_would_end_its_session() {
    let mut stage = stage(HOST, 5000).await;
    stage.pictures.send_replace(Arc::new(picture(1)));
    let (mut lines, mut writer) = stage.accept().await;
    let orders = stage.opened().await;
    say(&mut writer, &report()).await;
    assert!(matches!(stage.next().await, Happened::Reported { .. }));
    stage.pictures.send_replace(Arc::new(picture(2)));
    let (reply, _outcome) = oneshot::channel();
    orders
        .send(Outgoing::Order(Order {
            term: Term(2),
            command: Command::Drain { deadline_ms: 10 },
            reply,
        }))
        .await
        .unwrap();
    // Whatever was to be sent before is sent by now.
    say(&mut writer, &report()).await;
    assert!(matches!(stage.next().await, Happened::Reported { .. }));
    assert!(matches!(heard(&mut lines).await, ToNode::Command { .. }));
}

#[tokio::test]
async fn a_link_on_which_nothing_comes_is_given_up() {
    let mut stage = stage(HOST, 600).await;
    let (_lines, _writer) = stage.accept().await;
    let _orders = stage.opened().await;
    let happened = stage.next().await;
    let Happened::Broke { why, .. } = &happened else {
        panic!("{happened:?}")
    };
    assert_eq!(why, "the node sent no report for 600 ms");
}

#[tokio::test]
async fn a_node_whose_certificate_is_for_another_name_is_not_spoken_to() {
    let mut stage = stage("db-1.db-nodes.ns.svc", 5000).await;
    let (tcp, _) = stage.listener.accept().await.unwrap();
    assert!(stage.acceptor.accept(tcp).await.is_err());
    let Happened::Unreachable { why } = stage.next().await else {
        panic!()
    };
    assert!(why.contains("certificate"), "{why}");
}
