//! A scenario on real mysqld processes, with the configuration that the product writes and no agent beside them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use api::names::REPLICATION_USER;
use failover::GtidSet;
use simulation::Statement;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Row,
    mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode},
    raw_sql,
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    scenario::{A, Node, Scenario, Setting, Step},
    support::{certificates, cluster::signal, free_port, now},
};

/// mysqld starts and ends within this, also on a busy machine.
const LONG: Duration = Duration::from_mins(1);
/// What is to be seen is seen within this.
const SOON: Duration = Duration::from_secs(15);
/// It still is after this.
const STAYS: Duration = Duration::from_millis(400);

/// Beside the product's own statements: a client without privileges over the whole server, and its table.
const CLIENT_SQL: &str = "CREATE DATABASE t;\n\
     CREATE TABLE t.r (n BIGINT AUTO_INCREMENT PRIMARY KEY);\n\
     CREATE USER client@localhost;\n\
     GRANT INSERT ON t.* TO client@localhost;\n";

/// What every scenario begins with: certificates, and a data directory that was made once.
pub struct Ground {
    root: PathBuf,
    mysqld: PathBuf,
}

impl Ground {
    pub fn make(mysqld: PathBuf) -> Self {
        let root = std::env::temp_dir().join(format!("ddb-conformance-{}", std::process::id()));
        certificates(&root.join("tls"));
        let ground = Self { root, mysqld };
        let directory = ground.root.join("template");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("my.cnf"), ground.config(&directory, 1, None)).unwrap();
        let init = directory.join("init.sql");
        fs::write(&init, format!("{}\n{CLIENT_SQL}", supervisor::INIT_SQL)).unwrap();
        let made = ground
            .mysqld(&directory)
            .args([
                "--initialize-insecure",
                "--super-read-only=OFF",
                "--read-only=OFF",
            ])
            .args(["--offline-mode=OFF", "--skip-log-bin"])
            .arg(format!("--init-file={}", init.display()))
            .status()
            .unwrap();
        let log = fs::read_to_string(directory.join("mysqld.log")).unwrap();
        assert!(made.success(), "no data directory could be made: {log}");
        fs::remove_file(directory.join("mysql/auto.cnf")).unwrap();
        ground
    }

    fn config(&self, directory: &Path, port: u16, setting: Option<Setting>) -> String {
        let place = |text: &str| directory.join(text).display().to_string();
        let config = api::mycnf::my_cnf(&BTreeMap::new(), Some(512 << 20))
            .replace("/var/lib/ddb/mysql", &place("mysql"))
            .replace("/run/ddb/", &format!("{}/", directory.display()))
            .replace("/etc/ddb/tls", &self.root.join("tls").display().to_string())
            .replace("port=3306", &format!("port={port}"))
            .replace("tmpdir=/tmp", &format!("tmpdir={}", directory.display()));
        let differs = match setting {
            None => "",
            Some(Setting::RelayLogRecovery) => "relay_log_recovery=ON\n",
            Some(Setting::ReplicaStartsAtBoot) => {
                "skip_replica_start=OFF\nloose_rpl_semi_sync_replica_enabled=ON\n"
            }
        };
        config + differs
    }

    fn mysqld(&self, directory: &Path) -> Command {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(directory.join("mysqld.log"))
            .unwrap();
        let mut command = Command::new(&self.mysqld);
        command
            .arg(format!("--defaults-file={}", directory.join("my.cnf").display()))
            .stdout(Stdio::null())
            .stderr(log);
        command
    }

    pub fn remove(self) {
        fs::remove_dir_all(self.root).unwrap();
    }
}

struct Server {
    directory: PathBuf,
    port: u16,
    process: Option<Child>,
    frozen: bool,
    /// `super_read_only = ON`, under way.
    closing: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

type Answer = Arc<Mutex<&'static str>>;

pub struct Real<'a> {
    ground: &'a Ground,
    servers: Vec<Server>,
    clients: Vec<Answer>,
    starts: u32,
}

impl<'a> Real<'a> {
    pub fn new(ground: &'a Ground, scenario: &Scenario) -> Self {
        let server = |node: Node| {
            let directory = ground.root.join(["a", "b", "c"][node]);
            fs::create_dir_all(&directory).unwrap();
            copy(&ground.root.join("template/mysql"), &directory.join("mysql"));
            let port = free_port();
            let config = ground.config(&directory, port, scenario.setting);
            fs::write(directory.join("my.cnf"), config).unwrap();
            Server {
                directory,
                port,
                process: None,
                frozen: false,
                closing: None,
            }
        };
        Self {
            ground,
            servers: (0..scenario.servers).map(server).collect(),
            clients: Vec::new(),
            starts: 0,
        }
    }

    /// Carries a step out; for a look, what is seen when it is as `wanted`, or at last.
    pub async fn step(&mut self, step: Step) -> Option<String> {
        match step {
            Step::Write => self.write().await,
            Step::Say(node, statement) => self.say(node, statement).await,
            Step::Kill(node) => self.end(node, "-KILL"),
            Step::Terminate(node) => self.end(node, "-TERM"),
            Step::Boot(node) => self.boot(node).await,
            Step::Freeze(node) | Step::Thaw(node) => {
                let freeze = matches!(step, Step::Freeze(_));
                let server = &mut self.servers[node];
                server.frozen = freeze;
                let pid = server.process.as_ref().unwrap().id();
                signal(pid, if freeze { "-STOP" } else { "-CONT" });
            }
            Step::Purge(node) => self.purge(node).await,
            Step::See(wanted) => return Some(self.see(wanted).await),
        }
        None
    }

    async fn boot(&mut self, node: Node) {
        // A server must not take events for its own that an earlier life of it made.
        self.starts += 1;
        let server = &mut self.servers[node];
        let mut command = self.ground.mysqld(&server.directory);
        let process = command.arg(format!("--server-id={}", 1000 + self.starts)).spawn();
        server.process = Some(process.unwrap());
        let deadline = now() + LONG;
        while self.try_connect(node, "root").await.is_err() {
            assert!(now() < deadline, "{}", self.log(node));
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn log(&self, node: Node) -> String {
        fs::read_to_string(self.servers[node].directory.join("mysqld.log")).unwrap()
    }

    /// Ends the server and waits until it has.
    fn end(&mut self, node: Node, how: &str) {
        let mut process = self.servers[node].process.take().expect("it runs");
        signal(process.id(), how);
        process.wait().unwrap();
    }

    async fn try_connect(&self, node: Node, user: &str) -> Result<MySqlConnection, sqlx::Error> {
        let options = MySqlConnectOptions::new()
            .socket(self.servers[node].directory.join("mysql.sock"))
            .username(user);
        options.ssl_mode(MySqlSslMode::Disabled).connect().await
    }

    async fn rows(&self, node: Node, sql: &str) -> Vec<Vec<String>> {
        let mut root = self.try_connect(node, "root").await.unwrap();
        let answer = timeout(LONG, raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(&mut root));
        let rows = answer
            .await
            .unwrap_or_else(|_| panic!("no answer to {sql}"))
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        let text = |row: &sqlx::mysql::MySqlRow, at| {
            row.try_get_unchecked::<Option<String>, _>(at)
                .unwrap()
                .unwrap_or_default()
        };
        rows.iter()
            .map(|row| (0..row.len()).map(|at| text(row, at)).collect())
            .collect()
    }

    /// Begins an insert, and returns when it has ended or waits.
    async fn write(&mut self) {
        let mut client = self.try_connect(A, "client").await.unwrap();
        let id: u64 = raw_sql("SELECT CONNECTION_ID()")
            .fetch_one(&mut client)
            .await
            .unwrap()
            .try_get_unchecked(0)
            .unwrap();
        let answer: Answer = Arc::new(Mutex::new("waits"));
        self.clients.push(Arc::clone(&answer));
        let told = Arc::clone(&answer);
        tokio::spawn(async move {
            let outcome = raw_sql("INSERT INTO t.r VALUES ()").execute(&mut client).await;
            *told.lock().unwrap() = if outcome.is_ok() { "ok" } else { "error" };
        });
        let sql =
            format!("SELECT PROCESSLIST_STATE FROM performance_schema.threads WHERE PROCESSLIST_ID = {id}");
        let deadline = now() + SOON;
        loop {
            if *answer.lock().unwrap() != "waits" {
                return;
            }
            let state = self.rows(A, &sql).await.concat().concat().to_lowercase();
            if state.starts_with("waiting for semi-sync ack")
                || state.starts_with("waiting for handler commit")
            {
                return;
            }
            assert!(now() < deadline, "the insert does not come to wait: {state:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn say(&mut self, node: Node, statement: Statement) {
        if statement == Statement::ReadOnlyOn {
            let mut root = self.try_connect(node, "root").await.unwrap();
            self.servers[node].closing = Some(tokio::spawn(async move {
                let _ = raw_sql("SET GLOBAL super_read_only = ON")
                    .execute(&mut root)
                    .await;
            }));
            return;
        }
        for sql in self.sql(node, statement).await {
            self.rows(node, &sql).await;
        }
    }

    async fn sql(&self, node: Node, statement: Statement) -> Vec<String> {
        let on = |on: bool| if on { "ON" } else { "OFF" };
        let one = match statement {
            Statement::OfflineOn => "SET GLOBAL offline_mode = ON".to_owned(),
            Statement::OfflineOff => "SET GLOBAL offline_mode = OFF".to_owned(),
            Statement::ReadOnlyOn => "SET GLOBAL super_read_only = ON".to_owned(),
            Statement::ReadOnlyOff => "SET GLOBAL read_only = OFF".to_owned(),
            Statement::SourceOn { acks } => format!(
                "SET GLOBAL rpl_semi_sync_source_wait_for_replica_count = {acks}, \
                 GLOBAL rpl_semi_sync_source_enabled = ON"
            ),
            Statement::SourceOff => "SET GLOBAL rpl_semi_sync_source_enabled = OFF".to_owned(),
            Statement::ReplicaEnabled(yes) => {
                format!("SET GLOBAL rpl_semi_sync_replica_enabled = {}", on(yes))
            }
            Statement::StopReceiver => "STOP REPLICA IO_THREAD".to_owned(),
            Statement::StartReceiver => "START REPLICA IO_THREAD".to_owned(),
            Statement::StopApplier => "STOP REPLICA SQL_THREAD".to_owned(),
            Statement::StartApplier => "START REPLICA SQL_THREAD".to_owned(),
            Statement::ChangeSource { source } => self.change_source(source),
            Statement::ResetReplica => "RESET REPLICA ALL".to_owned(),
            Statement::KillConnections => return self.kills(node, "KILL").await,
            Statement::KillQueries => return self.kills(node, "KILL QUERY").await,
        };
        vec![one]
    }

    fn change_source(&self, source: Node) -> String {
        let tls = |file: &str| self.ground.root.join("tls").join(file).display().to_string();
        format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {}, SOURCE_USER = '{REPLICATION_USER}', \
             SOURCE_PASSWORD = '', SOURCE_SSL = 1, SOURCE_SSL_CA = '{}', SOURCE_SSL_CERT = '{}', SOURCE_SSL_KEY = '{}', \
             SOURCE_HEARTBEAT_PERIOD = 0.25, SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = 1000000, SOURCE_AUTO_POSITION = 1",
            self.servers[source].port,
            tls("ca.crt"),
            tls("tls.crt"),
            tls("tls.key"),
        )
    }

    async fn kills(&self, node: Node, word: &str) -> Vec<String> {
        let waiting = "SELECT CAST(PROCESSLIST_ID AS CHAR) FROM performance_schema.threads \
                       WHERE TYPE = 'FOREGROUND' AND PROCESSLIST_STATE LIKE 'Waiting for semi-sync ACK%'";
        let found = self.rows(node, waiting).await.concat();
        assert!(!found.is_empty(), "nobody waits");
        found.into_iter().map(|id| format!("{word} {id}")).collect()
    }

    async fn purge(&self, node: Node) {
        self.rows(node, "FLUSH BINARY LOGS").await;
        let last = self.rows(node, "SHOW BINARY LOGS").await.pop().unwrap();
        self.rows(node, &format!("PURGE BINARY LOGS TO '{}'", last[0]))
            .await;
    }

    async fn see(&self, wanted: &str) -> String {
        let deadline = now() + SOON;
        let mut line = self.line().await;
        loop {
            if line == wanted {
                sleep(STAYS).await;
            }
            let before = std::mem::replace(&mut line, self.line().await);
            if (before == wanted && line == wanted) || now() > deadline {
                return line;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn line(&self) -> String {
        let clients: Vec<&str> = self.clients.iter().map(|it| *it.lock().unwrap()).collect();
        let mut line = clients.join(", ");
        for node in 0..self.servers.len() {
            line += &[" | ", ["a", "b", "c"][node], " ", &self.server(node).await].concat();
        }
        line
    }

    async fn server(&self, node: Node) -> String {
        let server = &self.servers[node];
        if server.process.is_none() {
            return "-".to_owned();
        }
        if server.frozen {
            return "~".to_owned();
        }
        let executed = set(&self.rows(node, "SELECT @@gtid_executed").await);
        if node == A {
            let closing = server.closing.as_ref().is_some_and(|it| !it.is_finished());
            return format!("{}{}", executed.count(), if closing { " closing" } else { "" });
        }
        let received =
            "SELECT RECEIVED_TRANSACTION_SET FROM performance_schema.replication_connection_status";
        let received = set(&self.rows(node, received).await);
        let link = "SELECT SERVICE_STATE, CAST(LAST_ERROR_NUMBER AS CHAR) FROM performance_schema.replication_connection_status";
        let link = self.rows(node, link).await.pop().unwrap_or_default();
        let link = match (link.first().map(String::as_str), link.get(1).map(String::as_str)) {
            (Some("ON"), _) => "",
            (Some("OFF"), Some(error)) if error != "0" => " stopped",
            _ => " apart",
        };
        format!(
            "{}+{}{link}",
            executed.count(),
            received.subtract(&executed).count()
        )
    }
}

fn set(rows: &[Vec<String>]) -> GtidSet {
    rows.concat().concat().replace('\n', "").parse().unwrap()
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}
