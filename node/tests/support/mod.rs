//! Real supervisors, agents and MySQL servers on 127.0.0.1, and an operator's end of the session.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, dead_code)]

pub mod cluster;
pub mod https;

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command as Process, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use api::kept::{Kept, KeptTransactions};
use api::wire::{Answer, Command, Question, Refusal, ToNode, ToOperator};
use failover::{NodeReport, Role, Server, ServerState, Term};
use futures::{SinkExt as _, StreamExt as _};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use sqlx::{
    ConnectOptions,
    mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode},
    raw_sql,
};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::sleep,
};
use tokio_util::codec::{Framed, LinesCodec};

pub const PASSWORD: &str = "pa'ss\\word";

#[expect(clippy::disallowed_methods, reason = "a test measures real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// mysqld and the supervisor's program, or why they cannot be used.
#[expect(
    clippy::disallowed_methods,
    reason = "the place of mysqld differs from machine to machine"
)]
pub fn programs() -> Result<(PathBuf, PathBuf), String> {
    let agent = PathBuf::from(env!("CARGO_BIN_EXE_ddb-node"));
    let supervisor = agent.with_file_name("ddb-supervisor");
    if !supervisor.exists() {
        return Err("there is no ddb-supervisor: `cargo build -p supervisor` first".to_owned());
    }
    let named = std::env::var_os("DDB_TEST_MYSQLD").map(PathBuf::from);
    let found = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path)
            .map(|dir| dir.join("mysqld"))
            .find(|file| file.exists())
    });
    let mysqld = named
        .or(found)
        .ok_or("there is no mysqld: put one in PATH or name it in DDB_TEST_MYSQLD")?;
    Ok((mysqld, supervisor))
}

/// What `mysqlbinlog -v` shows of a file; `None` where there is no such program next to mysqld.
pub fn mysqlbinlog(file: &Path) -> Option<String> {
    let (mysqld, _) = programs().ok()?;
    let beside = mysqld.with_file_name("mysqlbinlog");
    // An image that was unpacked: its programs need its own loader and libraries.
    let image = mysqld.with_file_name("root/usr");
    let unpacked = image.join("bin/mysqlbinlog");
    let mut process = if beside.exists() {
        Process::new(beside)
    } else if unpacked.exists() {
        let libraries = image.join("lib/x86_64-linux-gnu");
        let mut process = Process::new(libraries.join("ld-linux-x86-64.so.2"));
        let more = image.join("lib/mysql/private");
        process
            .arg("--library-path")
            .arg(format!("{}:{}", libraries.display(), more.display()))
            .arg(unpacked);
        process
    } else {
        return None;
    };
    let shown = process.args(["--no-defaults", "-v"]).arg(file).output().unwrap();
    Some(String::from_utf8_lossy(&shown.stdout).into_owned())
}

/// A certificate authority with the certificates of nodes and operator in `directory`.
pub fn certificates(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "test authority");
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    fs::write(directory.join("ca.crt"), ca_certificate.pem()).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    for (file, name) in [
        ("tls", "node"),
        ("operator", "ddb-operator"),
        ("stranger", "somebody"),
    ] {
        let key = KeyPair::generate().unwrap();
        let mut params =
            CertificateParams::new(vec!["node.test".to_owned(), "localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        fs::write(
            directory.join(format!("{file}.crt")),
            params.signed_by(&key, &issuer).unwrap().pem(),
        )
        .unwrap();
        fs::write(directory.join(format!("{file}.key")), key.serialize_pem()).unwrap();
    }
}

/// A port that nobody listens on. Below those that the kernel gives to outgoing connections, and each only once: a server
/// binds it a while later.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + u16::try_from(std::process::id() % 200).unwrap() * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// One pod's worth of processes.
pub struct Node {
    pub name: String,
    pub directory: PathBuf,
    pub mysql_port: u16,
    pub session_port: u16,
    pub probe_port: u16,
    pub api: Vec<(String, u16)>,
    pub tls: PathBuf,
    /// Further arguments of the agent from its next start on.
    pub agent_arguments: Vec<String>,
    mysqld: PathBuf,
    supervisor_program: PathBuf,
    pub supervisor: Child,
    pub agent: Child,
}

impl Node {
    /// `api`: every node's name with the port of its data API.
    pub fn start(
        root: &Path,
        name: &str,
        tls: &Path,
        mysqld: &Path,
        supervisor_program: &Path,
        api: &[(String, u16)],
    ) -> Self {
        let directory = root.join(name);
        for role in data::access::Role::ALL {
            let accounts = directory.join("api-accounts");
            fs::create_dir_all(&accounts).unwrap();
            fs::write(accounts.join(role.name()), format!("{} password", role.name())).unwrap();
        }
        https::write_tokens(&directory.join("tokens"));
        for sub in ["run", "account", "tmp"] {
            fs::create_dir_all(directory.join(sub)).unwrap();
        }
        fs::write(directory.join("account/username"), "app").unwrap();
        fs::write(directory.join("account/password"), PASSWORD).unwrap();
        let mysql_port = free_port();
        let place = |text: &str| directory.join(text).display().to_string();
        let config = api::mycnf::my_cnf(&BTreeMap::new(), Some(512 << 20))
            .replace("/var/lib/ddb/mysql", &place("mysql"))
            .replace("/run/ddb/", &format!("{}/", place("run")))
            .replace("/etc/ddb/tls", &tls.display().to_string())
            .replace("port=3306", &format!("port={mysql_port}"))
            .replace("tmpdir=/tmp", &format!("tmpdir={}", place("tmp")));
        fs::write(directory.join("my.cnf"), config).unwrap();
        let supervisor = run_supervisor(&directory, name, mysqld, supervisor_program);
        let (session_port, probe_port) = (free_port(), free_port());
        let agent = run_agent(&directory, name, tls, session_port, probe_port, api, &[]);
        Self {
            api: api.to_vec(),
            name: name.to_owned(),
            directory,
            mysql_port,
            session_port,
            probe_port,
            tls: tls.to_owned(),
            agent_arguments: Vec::new(),
            mysqld: mysqld.to_owned(),
            supervisor_program: supervisor_program.to_owned(),
            supervisor,
            agent,
        }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.mysql_port)
    }

    pub fn restart_supervisor(&mut self) {
        self.supervisor = run_supervisor(
            &self.directory,
            &self.name,
            &self.mysqld,
            &self.supervisor_program,
        );
    }

    pub fn restart_agent(&mut self) {
        self.agent = self.another_agent();
    }

    pub fn another_agent(&self) -> Child {
        run_agent(
            &self.directory,
            &self.name,
            &self.tls,
            self.session_port,
            self.probe_port,
            &self.api,
            &self.agent_arguments,
        )
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.join("run/mysql.sock")
    }

    pub async fn root(&self) -> MySqlConnection {
        let options = MySqlConnectOptions::new().socket(self.socket()).username("root");
        options.ssl_mode(MySqlSslMode::Disabled).connect().await.unwrap()
    }

    /// Waits until the server finds a row.
    pub async fn finds(&self, sql: &'static str, patience: Duration) {
        let mut root = self.root().await;
        let begun = now();
        while raw_sql(sql).fetch_optional(&mut root).await.unwrap().is_none() {
            assert!(
                begun.elapsed() < patience,
                "{} does not come to this: {sql}",
                self.name
            );
            sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn app(&self) -> Result<MySqlConnection, sqlx::Error> {
        let options = MySqlConnectOptions::new()
            .socket(self.socket())
            .username("app")
            .password(PASSWORD);
        options.ssl_mode(MySqlSslMode::Required).connect().await
    }

    pub fn mysqld_pid(&self) -> i32 {
        fs::read_to_string(self.directory.join("run/mysqld.pid"))
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }

    /// Kilobytes resident.
    pub fn agent_rss(&self) -> u64 {
        self.agent_memory("VmRSS")
    }

    /// The most kilobytes that were resident since [`Node::forget_agent_peak`].
    pub fn agent_peak(&self) -> u64 {
        self.agent_memory("VmHWM")
    }

    /// The peak begins anew with what is resident now.
    pub fn forget_agent_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.agent.id()), "5").unwrap();
    }

    fn agent_memory(&self, what: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.agent.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(what)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub async fn ready(&self) -> bool {
        self.get("/readyz").await.starts_with("HTTP/1.1 200")
    }

    pub async fn get(&self, path: &str) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = TcpStream::connect(("127.0.0.1", self.probe_port)).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

impl Node {
    /// What the node remembers that it has to execute to have caught up.
    pub fn remembered_until(&self) -> failover::GtidSet {
        let stored = fs::read_to_string(self.directory.join("agent/state.json")).unwrap();
        let stored: serde_json::Value = serde_json::from_str(&stored).unwrap();
        serde_json::from_value(stored["followed"]["until"].clone()).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for process in [&mut self.agent, &mut self.supervisor] {
            let _ = Process::new("kill")
                .args(["-TERM", &process.id().to_string()])
                .status();
        }
        let _ = self.supervisor.wait();
        let _ = self.agent.kill();
        let _ = self.agent.wait();
        if std::thread::panicking() {
            // Logs tell what went wrong; several tests' data would fill a disk.
            let _ = fs::remove_dir_all(self.directory.join("mysql"));
        }
    }
}

/// A client that trusts the test's authority.
fn trusting(tls: &Path) -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(data::tls::roots(tls).unwrap())
}

fn run_supervisor(directory: &Path, name: &str, mysqld: &Path, program: &Path) -> Child {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(directory.join("mysql.log"))
        .unwrap();
    Process::new(program)
        .arg("run")
        .args(["--node", name])
        .arg("--mysqld")
        .arg(mysqld)
        .arg("--config")
        .arg(directory.join("my.cnf"))
        .arg("--datadir")
        .arg(directory.join("mysql"))
        .arg("--template")
        .arg(directory.join("no-template"))
        .arg("--scratch")
        .arg(directory.join("tmp"))
        .arg("--socket")
        .arg(directory.join("run/supervisor.sock"))
        .arg("--mysql-socket-lock")
        .arg(directory.join("run/mysql.sock.lock"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn run_agent(
    directory: &Path,
    name: &str,
    tls: &Path,
    session: u16,
    probe: u16,
    api: &[(String, u16)],
    more: &[String],
) -> Child {
    let (_, own) = api.iter().find(|(node, _)| node == name).unwrap();
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(directory.join("agent.log"))
        .unwrap();
    Process::new(env!("CARGO_BIN_EXE_ddb-node"))
        .args([
            "--node",
            name,
            "--cluster",
            "test",
            "--passage-listen",
            "127.0.0.1:0",
        ])
        .args([
            "--session-listen",
            &format!("127.0.0.1:{session}"),
            "--probe-listen",
            &format!("127.0.0.1:{probe}"),
        ])
        .arg("--agent-dir")
        .arg(directory.join("agent"))
        .arg("--mysql-data-dir")
        .arg(directory.join("mysql"))
        .arg("--mysql-socket")
        .arg(directory.join("run/mysql.sock"))
        .arg("--supervisor-socket")
        .arg(directory.join("run/supervisor.sock"))
        .arg("--tls-dir")
        .arg(tls)
        .arg("--mysql-tls-dir")
        .arg(tls)
        .arg("--account-dir")
        .arg(directory.join("account"))
        .env("DDB_API_ROLES", https::ROLES)
        .args(["--api-listen", &format!("127.0.0.1:{own}")])
        .args(["--api-statement-seconds", "5"])
        .arg("--api-tls-dir")
        .arg(directory.join("api-tls"))
        .arg("--tokens-dir")
        .arg(directory.join("tokens"))
        .arg("--api-accounts-dir")
        .arg(directory.join("api-accounts"))
        .arg("--audit-dir")
        .arg(directory.join("audit"))
        .args(
            api.iter()
                .map(|(node, port)| format!("--api-named={node}=127.0.0.1:{port}")),
        )
        .args(more)
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

type Waiters = Arc<Mutex<BTreeMap<u64, oneshot::Sender<(u64, Option<Refusal>)>>>>;

type Answering = Box<dyn Fn(&Question) -> Option<Answer> + Send>;
type Answers = Arc<Mutex<Option<Answering>>>;

/// An operator's session with one node.
pub struct Operator {
    pub reports: Arc<Mutex<Vec<(Instant, NodeReport)>>>,
    waiters: Waiters,
    out: mpsc::UnboundedSender<ToNode>,
    next: u64,
    /// What a leading operator says again and again; `None` for one that does not lead.
    pub word: Arc<Mutex<Option<ToNode>>>,
    /// What the node asked.
    pub questions: Arc<Mutex<Vec<Question>>>,
    /// How it is answered; one that does not lead answers nothing.
    pub answers: Answers,
    /// The transactions that the node keeps as files, as it said last.
    pub kept: Arc<Mutex<Kept>>,
}

/// The word of an operator that leads and names nobody, which is enough to keep a master open.
pub fn word(names: Option<u64>, peers: Vec<String>) -> ToNode {
    ToNode::Leads {
        names: names.map(Term),
        age_ms: 0,
        peers,
    }
}

impl Operator {
    pub async fn connect(node: &Node, tls: &Path, identity: &str) -> Result<Self, String> {
        let mut last = String::new();
        for _ in 0..100 {
            match Self::try_connect(node, tls, identity).await {
                Ok(operator) => return Ok(operator),
                Err(error) => last = error,
            }
            sleep(Duration::from_millis(50)).await;
        }
        Err(last)
    }

    pub async fn try_connect(node: &Node, tls: &Path, identity: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(("127.0.0.1", node.session_port))
            .await
            .map_err(|e| e.to_string())?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let config = trusting(tls)
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_file(tls.join(format!("{identity}.crt"))).unwrap()],
                PrivateKeyDer::from_pem_file(tls.join(format!("{identity}.key"))).unwrap(),
            )
            .unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector
            .connect(ServerName::try_from("node.test").unwrap(), stream)
            .await
            .map_err(|error| error.to_string())?;
        let mut lines = Framed::new(stream, LinesCodec::new());
        let hello = ToNode::Hello {
            node: node.name.as_str().into(),
            cluster: "test".to_owned(),
            heartbeat_ms: 100,
            takes_asks: true,
        };
        lines
            .send(serde_json::to_string(&hello).unwrap())
            .await
            .map_err(|e| e.to_string())?;
        let first = lines.next().await.ok_or("closed")?.map_err(|e| e.to_string())?;
        let Ok(ToOperator::Report { report, kept, .. }) = serde_json::from_str(&first) else {
            return Err(first);
        };
        let kept = Arc::new(Mutex::new(kept.map(|kept| *kept).unwrap_or_default()));
        let keeps = Arc::clone(&kept);
        let reports = Arc::new(Mutex::new(vec![(now(), *report)]));
        let waiters = Waiters::default();
        let (out, mut outgoing) = mpsc::unbounded_channel::<ToNode>();
        let (seen, waiting) = (Arc::clone(&reports), Arc::clone(&waiters));
        let word = Arc::new(Mutex::new(Some(word(None, Vec::new()))));
        let says = Arc::clone(&word);
        let (questions, answers) = (Arc::new(Mutex::new(Vec::new())), Answers::default());
        let (asked, answering) = (Arc::clone(&questions), Arc::clone(&answers));
        tokio::spawn(async move {
            let mut again = tokio::time::interval(Duration::from_millis(200));
            loop {
                tokio::select! {
                    _ = again.tick() => {
                        let word = says.lock().unwrap().clone();
                        if let Some(word) = word
                            && lines.send(serde_json::to_string(&word).unwrap()).await.is_err()
                        {
                            return;
                        }
                    }
                    line = lines.next() => match line {
                        Some(Ok(line)) => match serde_json::from_str(&line).unwrap() {
                            ToOperator::Report { report, kept, .. } => {
                                if let Some(kept) = kept {
                                    *keeps.lock().unwrap() = *kept;
                                }
                                seen.lock().unwrap().push((now(), *report));
                            }
                            ToOperator::Outcome { id, took_ms, refusal } => {
                                if let Some(waiter) = waiting.lock().unwrap().remove(&id) {
                                    let _ = waiter.send((took_ms, refusal));
                                }
                            }
                            ToOperator::Ask { id, question } => {
                                let answer = answering.lock().unwrap().as_ref().and_then(|answer| answer(&question));
                                asked.lock().unwrap().push(question);
                                if let Some(answer) = answer {
                                    let answer = ToNode::Answer { id, answer };
                                    lines.send(serde_json::to_string(&answer).unwrap()).await.unwrap();
                                }
                            }
                        },
                        _ => return,
                    },
                    message = outgoing.recv() => match message {
                        Some(message) => lines.send(serde_json::to_string(&message).unwrap()).await.unwrap(),
                        None => return,
                    },
                }
            }
        });
        Ok(Self {
            reports,
            waiters,
            out,
            next: 0,
            word,
            questions,
            answers,
            kept,
        })
    }

    /// The transactions that the node keeps as files, newest first.
    pub fn kept(&self) -> Vec<KeptTransactions> {
        self.kept.lock().unwrap().newest.clone()
    }

    pub fn report(&self) -> NodeReport {
        self.reports.lock().unwrap().last().unwrap().1.clone()
    }

    pub fn state(&self) -> ServerState {
        match self.report().server {
            Server::Up(state) => *state,
            other => panic!("not up: {other:?}"),
        }
    }

    /// Sends a command and returns its outcome and the milliseconds until it was here.
    pub async fn tell(&mut self, term: u64, command: Command) -> (u64, Option<Refusal>) {
        let begun = now();
        let (_, refusal) = self.send(term, command).await.unwrap();
        (u64::try_from(begun.elapsed().as_millis()).unwrap(), refusal)
    }

    /// Tells the node what the database looks like.
    pub fn show(&self, picture: api::wire::Picture) {
        let picture = Box::new(picture);
        self.out.send(ToNode::Picture { picture }).unwrap();
    }

    pub fn send(&mut self, term: u64, command: Command) -> oneshot::Receiver<(u64, Option<Refusal>)> {
        self.next += 1;
        let (done, outcome) = oneshot::channel();
        self.waiters.lock().unwrap().insert(self.next, done);
        self.out
            .send(ToNode::Command {
                id: self.next,
                term: Term(term),
                command,
            })
            .unwrap();
        outcome
    }

    /// Tells, demands success, prints and returns the milliseconds.
    pub async fn done(&mut self, what: &str, term: u64, command: Command) -> u64 {
        let (took, refusal) = self.tell(term, command).await;
        assert_eq!(refusal, None, "{what}: report {:?}", self.report());
        println!("{what}: {took} ms");
        took
    }

    /// Waits until a report satisfies `wanted`; returns when it came.
    pub async fn until(&self, what: &str, wanted: impl Fn(&NodeReport) -> bool) -> Instant {
        let from = self.reports.lock().unwrap().len().saturating_sub(1);
        let give_up = now() + Duration::from_mins(1);
        loop {
            let found = self.reports.lock().unwrap()[from..]
                .iter()
                .find(|(_, report)| wanted(report))
                .map(|(at, _)| *at);
            if let Some(at) = found {
                return at;
            }
            assert!(
                now() < give_up,
                "{what} never came; last report {:?}",
                self.report()
            );
            sleep(Duration::from_millis(2)).await;
        }
    }
}

pub fn up(report: &NodeReport) -> Option<&ServerState> {
    match &report.server {
        Server::Up(state) => Some(state),
        _ => None,
    }
}

pub fn is_caught_up(report: &NodeReport) -> bool {
    up(report).is_some_and(|state| state.open && matches!(state.role, Role::Slave { caught_up: true, .. }))
}
