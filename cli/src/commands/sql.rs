//! `kubectl ddb sql NAME`: the `mysql` client of the MySQL container, by `kubectl exec`, with the application's
//! account.
//!
//! The password is in no argument and no environment: it goes through stdin into a file that only the server's user
//! may read, and the file is removed before the client starts, which has it open by then.

use std::io::{IsTerminal, Write};
use std::process::{Command, ExitCode, Stdio};

use api::names;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use crate::arguments::{Place, Sql};
use crate::connect::Cluster;
use crate::fetch::{self, ask};
use crate::view::View;
use crate::view::model::NodeView;

/// What the first command answers where the image has no client.
const NO_CLIENT: i32 = 69;
/// Keeps the options in a new file and prints its name.
const KEEP: &str = "command -v mysql >/dev/null || exit 69; umask 077; file=$(mktemp /tmp/ddb-sql.XXXXXX) || exit 70; \
                    cat >\"$file\"; echo \"$file\"";
/// Starts the client with that file, removed but open.
const START: &str = "file=$1; shift; exec 3<\"$file\"; rm -f \"$file\"; \
                     exec mysql --defaults-extra-file=/proc/self/fd/3 \"$@\"";

/// Why there is no shell.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No node to run it on.
    #[error("{database} has no {role} that serves now; look at: kubectl ddb status {database}")]
    NoNode {
        /// The database.
        database: String,
        /// What was looked for.
        role: &'static str,
    },
    /// The secret lacks something.
    #[error("the Secret {secret} has no {key}; the operator makes it: look at kubectl ddb logs")]
    NoAccount {
        /// The Secret.
        secret: String,
        /// The key.
        key: &'static str,
    },
    /// No kubectl.
    #[error("kubectl cannot be started, and it carries the shell; put it into PATH")]
    NoKubectl(#[source] std::io::Error),
    /// The image has none.
    #[error(
        "the image of {pod} has no mysql client; run one elsewhere against the Service {service}, with the account in \
         the Secret {secret}"
    )]
    NoClient {
        /// The pod.
        pod: String,
        /// The Service.
        service: String,
        /// The Secret.
        secret: String,
    },
    /// The first command failed; kubectl said why.
    #[error("the shell cannot be prepared on {pod}; what kubectl said stands above")]
    NotPrepared {
        /// The pod.
        pod: String,
    },
}

/// Opens the shell; its exit code is ours.
pub async fn run(cluster: &Cluster, place: &Place, arguments: &Sql) -> Result<ExitCode, super::Error> {
    let name = &arguments.name;
    let facts = fetch::facts(cluster, name, place.operator_namespace.as_deref()).await?;
    let view = View::of(&facts);
    let pod = node(&view, arguments.slave)?.name.clone();
    let options = options(cluster, name).await?;
    let kubectl = Kubectl {
        place,
        namespace: &cluster.namespace,
        pod: &pod,
    };
    let file = kubectl.keep(&options, name, arguments.slave)?;
    let status = kubectl.start(&file, &arguments.mysql)?;
    Ok(status)
}

fn node(view: &View, slave: bool) -> Result<&NodeView, Error> {
    let leads = |node: &&NodeView| view.master.as_ref() == Some(&node.name);
    let found = if slave {
        view.nodes.iter().find(|node| node.ready && !leads(node))
    } else {
        view.nodes.iter().find(leads).filter(|node| node.ready)
    };
    found.ok_or_else(|| Error::NoNode {
        database: view.name.clone(),
        role: if slave { "slave" } else { "master" },
    })
}

/// The client's options, as a file.
async fn options(cluster: &Cluster, name: &str) -> Result<String, super::Error> {
    let secret = names::account_secret(name);
    let api: Api<Secret> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let account = ask(cluster, "read the account's Secret", api.get(&secret)).await?;
    let value = |key: &'static str| {
        account
            .data
            .as_ref()
            .and_then(|data| data.get(key))
            .and_then(|bytes| std::str::from_utf8(&bytes.0).ok())
            .map(str::to_owned)
            .ok_or_else(|| Error::NoAccount {
                secret: secret.clone(),
                key,
            })
    };
    Ok(option_file(&value("username")?, &value("password")?))
}

fn option_file(user: &str, password: &str) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "[client]\nuser=\"{}\"\npassword=\"{}\"\nsocket={}\n",
        quoted(user),
        quoted(password),
        names::MYSQL_SOCKET
    )
}

/// `kubectl exec` into the MySQL container of a pod.
struct Kubectl<'a> {
    place: &'a Place,
    namespace: &'a str,
    pod: &'a str,
}

impl Kubectl<'_> {
    fn exec(&self, flags: &str, script: &str) -> Command {
        let mut command = Command::new("kubectl");
        if let Some(file) = &self.place.kubeconfig {
            command.arg("--kubeconfig").arg(file);
        }
        if let Some(context) = &self.place.context {
            command.args(["--context", context]);
        }
        command.args(["--namespace", self.namespace, "exec", flags, self.pod]);
        command.args([
            "--container",
            names::CONTAINER_MYSQL,
            "--",
            "sh",
            "-c",
            script,
            "sh",
        ]);
        command
    }

    /// Puts the options into a file in the container and gives its name.
    fn keep(&self, options: &str, name: &str, slave: bool) -> Result<String, Error> {
        let mut child = self
            .exec("-i", KEEP)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Error::NoKubectl)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A command that ended early is judged by its exit code.
            let _ = stdin.write_all(options.as_bytes());
        }
        let output = child.wait_with_output().map_err(Error::NoKubectl)?;
        let file = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        match output.status.code() {
            Some(0) if !file.is_empty() => Ok(file),
            Some(NO_CLIENT) => Err(Error::NoClient {
                pod: self.pod.to_owned(),
                service: if slave {
                    names::slaves_service(name)
                } else {
                    names::master_service(name)
                },
                secret: names::account_secret(name),
            }),
            _ => Err(Error::NotPrepared {
                pod: self.pod.to_owned(),
            }),
        }
    }

    fn start(&self, file: &str, arguments: &[String]) -> Result<ExitCode, Error> {
        let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let status = self
            .exec(if terminal { "-it" } else { "-i" }, START)
            .arg(file)
            .args(arguments)
            .status()
            .map_err(Error::NoKubectl)?;
        Ok(status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .map_or(ExitCode::FAILURE, ExitCode::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_of_any_signs_is_quoted() {
        let file = option_file("app", r#"a"b\c #d"#);
        assert!(file.contains(r#"password="a\"b\\c #d""#), "{file}");
    }
}
