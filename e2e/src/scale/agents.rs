//! Simulated nodes: agents that speak the real protocol over TLS with the databases' own certificates, and obey at
//! once, as an agent with an idle MySQL server would. All of them listen on one port of this network namespace; the
//! address that the operator called tells which one is meant.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use api::{
    names,
    wire::{Command, MAX_LINE, Refusal, SESSION_PORT, ToNode, ToOperator},
};
use failover::{Applier, Followed, GtidSet, NodeReport, Receiver, Role, Server, ServerState, Term};
use futures::{SinkExt, StreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::codec::{Framed, LinesCodec};

use super::{NAMESPACE, NODES, name_of};

/// A killed mysqld answers again after this, with the data it had.
const RESTART: Duration = Duration::from_millis(1500);
/// So many addresses of each 256 are used.
const PER_RANGE: usize = 250;

/// All nodes of all databases.
pub struct Agents {
    client: Client,
    nodes: Vec<watch::Sender<NodeReport>>,
    identities: Mutex<HashMap<usize, TlsAcceptor>>,
}

/// The address of a node.
pub fn address_of(database: usize, node: usize) -> Ipv4Addr {
    let at = database * NODES + node;
    let part = |value: usize| u8::try_from(value).unwrap_or(u8::MAX);
    Ipv4Addr::new(10, 245, part(at / PER_RANGE), part(at % PER_RANGE + 1))
}

fn at_address(address: IpAddr) -> Option<usize> {
    let IpAddr::V4(address) = address else { return None };
    let [_, _, range, last] = address.octets();
    Some(usize::from(range) * PER_RANGE + usize::from(last).checked_sub(1)?)
}

fn empty_report(at: usize) -> NodeReport {
    let state = ServerState {
        uuid: format!("00000000-0000-4000-8000-{at:012x}"),
        version: "9.7.0".to_owned(),
        role: Role::Idle,
        executed: GtidSet::new(),
        received: GtidSet::new(),
        purged: GtidSet::new(),
        open: false,
        stuck: None,
    };
    NodeReport::new(format!("volume-{at}").into(), Server::Up(Box::new(state)))
}

impl Agents {
    /// New nodes of so many databases, listening.
    pub async fn listen(client: &Client, databases: usize) -> Result<Arc<Self>> {
        let nodes = (0..databases * NODES)
            .map(|at| watch::Sender::new(empty_report(at)))
            .collect();
        let agents = Arc::new(Self {
            client: client.clone(),
            nodes,
            identities: Mutex::default(),
        });
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, SESSION_PORT)).await?;
        let all = Arc::clone(&agents);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let all = Arc::clone(&all);
                // A session that ends is the operator's to make anew.
                tokio::spawn(async move { all.serve(stream).await });
            }
        });
        Ok(agents)
    }

    /// The node that leads the database, by its own word, and in which term.
    pub fn master(&self, database: usize) -> Option<(usize, Term)> {
        (0..NODES).find_map(
            |node| match &self.nodes[database * NODES + node].borrow().server {
                Server::Up(state) => match state.role {
                    Role::Master { term, .. } => Some((node, term)),
                    _ => None,
                },
                _ => None,
            },
        )
    }

    /// mysqld of this node dies, its slaves notice, and some time later it is back.
    pub fn kill(self: &Arc<Self>, database: usize, node: usize) {
        let at = database * NODES + node;
        let mut last = None;
        self.nodes[at].send_modify(|report| {
            let cause = "killed".to_owned();
            if let Server::Up(state) = std::mem::replace(&mut report.server, Server::Down { cause }) {
                last = Some(state);
            }
        });
        for slave in (0..NODES).filter(|slave| *slave != node) {
            self.nodes[database * NODES + slave].send_modify(|report| {
                if let Server::Up(state) = &mut report.server
                    && let Role::Slave { receiver, .. } = &mut state.role
                {
                    let error = "lost connection".to_owned();
                    *receiver = Receiver::Connecting { error };
                }
            });
        }
        let all = Arc::clone(self);
        tokio::spawn(async move {
            sleep(RESTART).await;
            if let Some(mut state) = last {
                (state.role, state.open) = (Role::Idle, false);
                all.nodes[at].send_modify(|report| report.server = Server::Up(state));
            }
        });
    }

    /// What the nodes of this database present to the operator, from the Secret that the operator made.
    async fn identity(&self, database: usize) -> Result<TlsAcceptor> {
        if let Some(known) = self.known_identities().get(&database) {
            return Ok(known.clone());
        }
        let secrets = Api::<Secret>::namespaced(self.client.clone(), NAMESPACE);
        let secret = secrets.get(&names::node_tls_secret(&name_of(database))).await?;
        let data = secret.data.unwrap_or_default();
        let file = |name: &str| {
            data.get(name)
                .map(|bytes| bytes.0.as_slice())
                .context("an incomplete Secret")
        };
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(file("ca.crt")?)?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(file("tls.crt")?)?],
                PrivateKeyDer::from_pem_slice(file("tls.key")?)?,
            )?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        self.known_identities().insert(database, acceptor.clone());
        Ok(acceptor)
    }

    fn known_identities(&self) -> MutexGuard<'_, HashMap<usize, TlsAcceptor>> {
        self.identities.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, stream: TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        let at = at_address(stream.local_addr()?.ip()).context("an odd address")?;
        let node = self.nodes.get(at).context("no such node")?;
        let stream = self.identity(at / NODES).await?.accept(stream).await?;
        let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(MAX_LINE));
        let hello = lines.next().await.context("closed")??;
        let ToNode::Hello { heartbeat_ms, .. } = serde_json::from_str(&hello)? else {
            anyhow::bail!("no hello");
        };
        let mut reports = node.subscribe();
        let mut beat = interval(Duration::from_millis(heartbeat_ms));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beat.tick() => lines.send(report(&reports)?).await?,
                changed = reports.changed() => {
                    changed?;
                    reports.mark_unchanged();
                    beat.reset();
                    lines.send(report(&reports)?).await?;
                }
                line = lines.next() => {
                    let ToNode::Command { id, term, command } = serde_json::from_str(&line.context("closed")??)? else {
                        continue;
                    };
                    let mut refusal = None;
                    node.send_modify(|report| refusal = obey(report, term, command).err());
                    reports.mark_unchanged();
                    lines.send(report(&reports)?).await?;
                    let outcome = ToOperator::Outcome { id, took_ms: 0, refusal };
                    lines.send(serde_json::to_string(&outcome)?).await?;
                }
            }
        }
    }
}

fn report(of: &watch::Receiver<NodeReport>) -> Result<String> {
    let report = Box::new(of.borrow().clone());
    Ok(serde_json::to_string(&ToOperator::Report {
        report,
        takes_pictures: false,
        kept: None,
    })?)
}

fn obey(report: &mut NodeReport, term: Term, command: Command) -> Result<(), Refusal> {
    if term < report.term {
        let current = report.term;
        return Err(Refusal::StaleTerm { current });
    }
    report.term = term;
    let missing = |message: &str| Refusal::Precondition {
        message: message.to_owned(),
    };
    let Server::Up(state) = &mut report.server else {
        return match command {
            Command::Fence { .. } => {
                report.fenced = Some(term);
                Ok(())
            }
            _ => Err(missing("mysqld does not run")),
        };
    };
    match command {
        Command::Fence { .. } => {
            (state.role, report.fenced) = (Role::Idle, Some(term));
            Ok(())
        }
        Command::Promote { acks, .. } => {
            if report.fenced != Some(term) {
                return Err(missing("not fenced in this term"));
            }
            state.role = Role::Master {
                term,
                acks,
                waiting: 0,
            };
            state.executed = std::mem::take(&mut state.executed).with(&state.uuid, 1, term.0);
            (state.received, state.open) = (GtidSet::new(), true);
            (report.fenced, report.followed) = (None, None);
            Ok(())
        }
        Command::Follow {
            source,
            address,
            until,
            whole: _,
        } => {
            state.executed = state.executed.union(&until);
            state.role = Role::Slave {
                term,
                source: source.clone(),
                address,
                receiver: Receiver::Receiving { age_ms: 50 },
                applier: Applier::Running,
                caught_up: true,
            };
            state.open = true;
            (report.fenced, report.followed) = (None, Some(Followed { term, source }));
            Ok(())
        }
        Command::Drain { .. } | Command::Leave => Ok(()),
        Command::Cut { .. } | Command::Clone { .. } | Command::Discard => {
            Err(missing("nothing to cut, to clone or to discard here"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_an_address_of_its_own() {
        for at in 0..3000 {
            let address = address_of(at / NODES, at % NODES);
            assert_eq!(at_address(address.into()), Some(at));
        }
    }

    #[test]
    fn a_node_leads_only_after_its_fence_in_that_term() {
        let mut report = empty_report(0);
        let promote = || Command::Promote {
            acks: 1,
            requires: GtidSet::new(),
        };
        let fence = Command::Fence {
            orderly: false,
            deadline_ms: 1,
        };
        assert!(obey(&mut report, Term(1), promote()).is_err());
        assert_eq!(obey(&mut report, Term(2), fence), Ok(()));
        assert_eq!(obey(&mut report, Term(2), promote()), Ok(()));
        assert!(matches!(
            obey(&mut report, Term(1), promote()),
            Err(Refusal::StaleTerm { .. })
        ));
    }
}
