//! The data API as somebody with nothing but curl uses it: tokens made by `kubectl ddb token`, one program a request.
//!
//! curl reads what it is to do from its standard input, so that no token stands among its arguments.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use api::{names, wire};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdout, Command},
    sync::Mutex,
};

use crate::{
    database::{Database, Node},
    settings,
    wait::{Seen, until},
};

/// Longer than the longest wait that a client may ask for; what is streamed ends then too.
const PATIENCE: Duration = Duration::from_secs(25);
/// The kubelets bring a changed Secret to the nodes one after the other.
const KNOWN: Duration = Duration::from_mins(3);

/// Tokens that every node of their database knows, by its namespace and name.
static KNOWN_TOKENS: Mutex<BTreeMap<(String, String), String>> = Mutex::const_new(BTreeMap::new());
/// Counts the files of authorities that this program writes.
static AUTHORITIES: AtomicU32 = AtomicU32::new(0);

/// A client of one node's port. One whose token is empty sends none.
#[derive(Debug, Clone)]
pub struct Curl {
    authority: PathBuf,
    token: String,
    host: String,
    address: String,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers, one a line.
    pub headers: String,
    /// The body, `null` where it is no JSON.
    pub body: Value,
}

impl Answer {
    /// The body of a reply with this status.
    pub fn must(self, status: u16) -> Result<Value> {
        ensure!(self.status == status, "wanted {status}: {self:?}");
        Ok(self.body)
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// Makes a token with the plugin of kubectl, as a person does.
pub async fn make_token(database: &Database, role: &str) -> Result<String> {
    tokens(database, "create", &["--role", role]).await
}

/// What `kubectl ddb token ACTION` says of this database.
pub async fn tokens(database: &Database, action: &str, more: &[&str]) -> Result<String> {
    let plugin = settings::plugin()?;
    let Database { namespace, name, .. } = database;
    let words = ["token", action, name, "--namespace", namespace];
    let output = Command::new(plugin)
        .args(words)
        .args(more)
        .kill_on_drop(true)
        .output();
    let output = output.await.context("kubectl-ddb cannot be started")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "kubectl ddb token: {}", said.trim());
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// A token for writers that every node of the database knows, made with the first call for it.
pub async fn known_token(database: &Database) -> Result<String> {
    let key = (database.namespace.clone(), database.name.clone());
    let mut known = KNOWN_TOKENS.lock().await;
    if let Some(token) = known.get(&key) {
        return Ok(token.clone());
    }
    let token = make_token(database, "writer").await?;
    wait_known(database, &token).await?;
    known.insert(key, token.clone());
    Ok(token)
}

/// A client with a new token for a slave's own port, once every node knows the token: any may come to lead.
pub async fn client(database: &Database, role: &str) -> Result<(Node, Curl)> {
    let token = make_token(database, role).await?;
    wait_known(database, &token).await?;
    let slave = Node::from(&database.slave_pod().await?);
    let address = slave.ip.clone().context("the slave has no address")?;
    let client = Curl::of(database, &token, &slave.name, &address).await?;
    Ok((slave, client))
}

async fn wait_known(database: &Database, token: &str) -> Result<()> {
    for node in database.pods().await? {
        let address = node.ip.clone().context("the node has no address")?;
        let client = Curl::of(database, token, &node.name, &address).await?;
        until("answer to the new token", KNOWN, async || {
            let answer = client.get("/is-master", &[], &[]).await?;
            Ok(if answer.status == 200 {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("{}: {answer:?}", node.name))
            })
        })
        .await?;
    }
    Ok(())
}

impl Curl {
    /// The same node under another name, whose certificate is by this authority.
    pub async fn through(&self, host: &str, authority: &str) -> Result<Self> {
        // Each authority has a file of its own: an older client goes on with its own.
        let number = AUTHORITIES.fetch_add(1, Ordering::Relaxed);
        let file = format!("{host}-{}-{number}-ca.crt", std::process::id());
        let path = std::env::temp_dir().join(file);
        tokio::fs::write(&path, authority).await?;
        Ok(Self {
            authority: path,
            host: host.to_owned(),
            ..self.clone()
        })
    }

    /// The token, for a program's environment.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The file with the authority's certificate.
    pub fn authority(&self) -> &std::path::Path {
        &self.authority
    }

    /// The same with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: token.to_owned(),
            ..self.clone()
        }
    }

    /// A client with this token of the node `node` at its pod's address, whose certificate is checked.
    pub async fn of(database: &Database, token: &str, node: &str, address: &str) -> Result<Self> {
        let Database {
            client,
            namespace,
            name,
        } = database;
        let secret = Api::<Secret>::namespaced(client.clone(), namespace)
            .get(&names::ca_secret(name))
            .await?;
        let certificate = secret.data.as_ref().and_then(|data| data.get("ca.crt"));
        let certificate = certificate.context("the authority's Secret has no `ca.crt`")?;
        let authority = std::env::temp_dir().join(format!("{namespace}-{name}-ca.crt"));
        tokio::fs::write(&authority, &certificate.0).await?;
        Ok(Self {
            authority,
            token: token.to_owned(),
            host: names::node_host(name, namespace, node),
            address: address.to_owned(),
        })
    }

    /// `GET path` with these parameters.
    pub async fn get(&self, path: &str, parameters: &[(&str, &str)], headers: &[&str]) -> Result<Answer> {
        self.ask(path, headers, query(parameters)).await
    }

    /// `POST path` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value, headers: &[&str]) -> Result<Answer> {
        let lines = vec![
            option("header", "Content-Type: application/json"),
            option("data-raw", &body.to_string()),
        ];
        self.ask(path, headers, lines).await
    }

    /// What `GET path` with these parameters answers without an end. Any status but a good one ends it at once.
    pub async fn stream(&self, path: &str, parameters: &[(&str, &str)], headers: &[&str]) -> Result<Lines> {
        let mut lines = query(parameters);
        lines.extend(["no-buffer".to_owned(), "fail".to_owned()]);
        let mut curl = self.start(path, headers, lines).await?;
        let said = curl.stdout.take().context("curl has no standard output")?;
        Ok(Lines {
            _curl: curl,
            said: BufReader::new(said).lines(),
            block: String::new(),
        })
    }

    async fn ask(&self, path: &str, headers: &[&str], mut lines: Vec<String>) -> Result<Answer> {
        lines.push("include".to_owned());
        let curl = self.start(path, headers, lines).await?;
        let output = curl.wait_with_output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{path} at {}: {}",
            self.host,
            said.trim()
        );
        parse(&String::from_utf8_lossy(&output.stdout))
    }

    async fn start(&self, path: &str, headers: &[&str], mut lines: Vec<String>) -> Result<Child> {
        let port = wire::API_PORT;
        let authority = self
            .authority
            .to_str()
            .context("the temporary folder's path is not UTF-8")?;
        lines.extend([
            option("url", &format!("https://{}:{port}{path}", self.host)),
            option("resolve", &format!("{}:{port}:{}", self.host, self.address)),
            option("cacert", authority),
        ]);
        if !self.token.is_empty() {
            lines.push(option("header", &format!("Authorization: Bearer {}", self.token)));
        }
        lines.extend(headers.iter().map(|header| option("header", header)));
        let seconds = PATIENCE.as_secs().to_string();
        let mut curl = Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--max-time",
                &seconds,
                "--config",
                "-",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("`curl` cannot be started")?;
        let mut orders = curl.stdin.take().context("curl has no standard input")?;
        orders.write_all(lines.join("\n").as_bytes()).await?;
        drop(orders);
        Ok(curl)
    }
}

/// The lines of an answer, as they come.
#[derive(Debug)]
pub struct Lines {
    /// Ends with this.
    _curl: Child,
    said: tokio::io::Lines<BufReader<ChildStdout>>,
    block: String,
}

impl Lines {
    /// The next lines up to an empty one, which is left out; `None` at the end. Cancelled, it goes on where it was.
    pub async fn next_block(&mut self) -> Result<Option<String>> {
        while let Some(line) = self.said.next_line().await? {
            if line.is_empty() {
                return Ok(Some(std::mem::take(&mut self.block)));
            }
            self.block.push_str(&line);
            self.block.push('\n');
        }
        Ok(None)
    }
}

/// `GET` with these parameters, in lines of curl's own configuration.
fn query(parameters: &[(&str, &str)]) -> Vec<String> {
    let each = parameters
        .iter()
        .map(|(name, value)| option("data-urlencode", &format!("{name}={value}")));
    std::iter::once("get".to_owned()).chain(each).collect()
}

/// A line of curl's own configuration.
fn option(name: &str, value: &str) -> String {
    format!(
        "{name} = \"{}\"",
        value.replace('\\', "\\\\").replace('"', "\\\"")
    )
}

fn parse(text: &str) -> Result<Answer> {
    let (head, body) = text.split_once("\r\n\r\n").context("no head")?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    Ok(Answer {
        status: status.with_context(|| format!("no status in {head}"))?,
        headers: head.to_owned(),
        body: serde_json::from_str(body).unwrap_or(Value::Null),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_cut_into_its_parts() {
        let answer = parse("HTTP/2 200 \r\nserved-by: db-0\r\n\r\n{\"ok\":true}").unwrap();
        assert_eq!(answer.header("Served-By"), Some("db-0"));
        assert_eq!(answer.must(200).unwrap()["ok"], true);
    }

    #[test]
    fn quotes_and_backslashes_reach_curl_whole() {
        assert_eq!(
            option("data-raw", r#"{"a":"\n"}"#),
            r#"data-raw = "{\"a\":\"\\n\"}""#
        );
    }
}
