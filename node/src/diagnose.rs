//! Connects to the database as an application would that was given the account's Secret: by its host name, over TLS,
//! with its password. Each step is timed and says what to do where it fails.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use data::host::Step;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use sqlx::{
    ConnectOptions as _, Connection as _, Row as _,
    mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode},
    raw_sql,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{agent::Agent, clock};

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// MySQL's greeting is not longer than this.
const LONGEST_GREETING: usize = 4096;
/// What a client says that wants TLS: protocol 4.1, TLS, secure passwords.
const WANTS_TLS: u32 = 0x0000_0200 | 0x0000_0800 | 0x0000_8000;

/// What the Secret says.
struct Account {
    host: String,
    port: u16,
    user: String,
    password: String,
}

/// The steps, those that could not be tried included.
pub async fn check(agent: &Agent) -> Vec<Step> {
    let mut steps = Steps::default();
    // Whatever ends it early is in the steps.
    let _ = connect(agent, &mut steps).await;
    steps.whole()
}

#[derive(Default)]
struct Steps(Vec<Step>);

const NAMES: [&str; 6] = ["secret", "dns", "tcp", "tls", "login", "role"];

impl Steps {
    /// Tries the next step; what fails ends the check.
    async fn attempt<T>(
        &mut self,
        mend: &str,
        work: impl Future<Output = Result<(T, String), String>>,
    ) -> Result<T, ()> {
        let begun: Instant = clock::now();
        let ended = timeout(PATIENCE, work).await;
        let ended = ended.unwrap_or_else(|_| Err(format!("no answer within {} ms", PATIENCE.as_millis())));
        let (came, ok, detail) = match ended {
            Ok((value, detail)) => (Ok(value), true, detail),
            Err(why) => (Err(()), false, why),
        };
        self.0.push(Step {
            step: NAMES.get(self.0.len()).copied().unwrap_or_default(),
            ok: Some(ok),
            milliseconds: clock::millis_since(begun),
            detail,
            mend: (!ok).then(|| mend.to_owned()),
        });
        came
    }

    fn whole(mut self) -> Vec<Step> {
        for step in NAMES.iter().skip(self.0.len()) {
            self.0.push(Step {
                step,
                ok: None,
                milliseconds: 0,
                detail: "not tried, because an earlier step failed".to_owned(),
                mend: None,
            });
        }
        self.0
    }
}

async fn connect(agent: &Agent, steps: &mut Steps) -> Result<(), ()> {
    let account = steps
        .attempt(
            "look whether the Secret <database>-app is there, with host, port, username and password; the operator \
             makes it anew where it is gone",
            async {
                let account = read(&agent.settings.account_dir)?;
                let told = format!("{} at {}:{}", account.user, account.host, account.port);
                Ok((account, told))
            },
        )
        .await?;
    let addresses = steps
        .attempt(
            "the cluster's DNS does not know the Service: look whether it exists (kubectl get service) and whether \
             the pods of the cluster's DNS run",
            resolve(&account),
        )
        .await?;
    steps
        .attempt(
            "nothing answers there: while a master changes, try again; otherwise look at kubectl ddb status, and for \
             a network policy between the client and port 3306",
            async {
                let (_, address) = open(&addresses).await?;
                Ok(((), format!("{address} accepts connections")))
            },
        )
        .await?;
    steps
        .attempt(
            "trust the authority in ca.crt of the Secret <database>-app, and use the Service's host name as it is \
             there: the certificate is valid for it",
            secure(&addresses, &account.host, &agent.settings.tls_dir),
        )
        .await?;
    let mut connection = steps
        .attempt(
            "use the password that is in the Secret <database>-app now; a password that was changed there is in \
             force after about a minute",
            login(&account, &agent.settings.tls_dir),
        )
        .await?;
    steps
        .attempt(
            "the server there is no master that takes writes: while the master changes, try again; otherwise look at \
             kubectl ddb explain",
            role(&mut connection),
        )
        .await?;
    let _ = timeout(PATIENCE, connection.close()).await;
    Ok(())
}

fn read(directory: &Path) -> Result<Account, String> {
    let file = |name: &str| {
        std::fs::read_to_string(directory.join(name))
            .map(|text| text.trim().to_owned())
            .map_err(|error| format!("its key {name} cannot be read: {error}"))
    };
    Ok(Account {
        host: file("host")?,
        port: file("port")?.parse().map_err(|_| "its port is no number")?,
        user: file("username")?,
        password: file("password")?,
    })
}

async fn resolve(account: &Account) -> Result<(Vec<SocketAddr>, String), String> {
    let found = lookup_host((account.host.as_str(), account.port)).await;
    let found: Vec<SocketAddr> = found.map_err(|error| error.to_string())?.collect();
    if found.is_empty() {
        return Err(format!("{} has no address", account.host));
    }
    let told: Vec<String> = found.iter().map(|one| one.ip().to_string()).collect();
    Ok((found, told.join(", ")))
}

async fn open(addresses: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), String> {
    let mut last = String::new();
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok((stream, *address)),
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Err(last)
}

/// MySQL's own way into TLS: it greets, the client says that it wants TLS, then the handshake.
async fn secure(addresses: &[SocketAddr], host: &str, tls: &Path) -> Result<((), String), String> {
    let (mut stream, _) = open(addresses).await?;
    greeting(&mut stream)
        .await
        .map_err(|error| format!("no greeting of MySQL: {error}"))?;
    let mut wish = [0_u8; 36];
    (wish[0], wish[3]) = (32, 1);
    wish[4..8].copy_from_slice(&WANTS_TLS.to_le_bytes());
    wish[8..12].copy_from_slice(&(1_u32 << 24).to_le_bytes());
    // utf8mb4_general_ci
    wish[12] = 45;
    stream.write_all(&wish).await.map_err(|error| error.to_string())?;
    let roots = data::tls::roots(tls).map_err(|error| error.to_string())?;
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| error.to_string())?;
    let version = stream.get_ref().1.protocol_version();
    let told = version.and_then(|version| version.as_str()).unwrap_or("TLS");
    Ok(((), format!("{told}, the certificate is valid for {host}")))
}

async fn greeting(stream: &mut TcpStream) -> io::Result<()> {
    let mut head = [0_u8; 4];
    stream.read_exact(&mut head).await?;
    let length = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
    if length == 0 || length > LONGEST_GREETING {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0_u8; length];
    stream.read_exact(&mut body).await?;
    // An error takes the greeting's place where the server lets nobody in.
    match body.first() {
        Some(10) => Ok(()),
        _ => Err(io::Error::other("the server lets no more clients in")),
    }
}

async fn login(account: &Account, tls: &Path) -> Result<(MySqlConnection, String), String> {
    let options = MySqlConnectOptions::new()
        .host(&account.host)
        .port(account.port)
        .username(&account.user)
        .password(&account.password)
        .ssl_mode(MySqlSslMode::VerifyIdentity)
        .ssl_ca(tls.join("ca.crt"))
        .disable_statement_logging();
    match options.connect().await {
        Ok(connection) => Ok((connection, format!("as {}", account.user))),
        Err(error) => Err(match error.as_database_error() {
            Some(refused) => refused.message().to_owned(),
            None => "the connection broke".to_owned(),
        }),
    }
}

async fn role(connection: &mut MySqlConnection) -> Result<((), String), String> {
    let row = raw_sql("SELECT CAST(@@global.super_read_only AS CHAR), CAST(@@global.server_uuid AS CHAR)")
        .fetch_one(connection)
        .await
        .map_err(|error| error.to_string())?;
    let text = |at: usize| row.try_get_unchecked::<String, _>(at);
    let (closed, uuid) = (text(0).unwrap_or_default(), text(1).unwrap_or_default());
    if closed == "0" {
        Ok(((), format!("the server {uuid} is a master that takes writes")))
    } else {
        Err(format!("the server {uuid} takes no writes"))
    }
}
