//! The command line, as clap reads it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// See and steer replicated MySQL databases (kind `DistributedDatabase`, short name `ddb`).
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-ddb",
    bin_name = "kubectl ddb",
    version,
    about,
    max_term_width = 100
)]
pub struct Arguments {
    #[command(flatten)]
    pub place: Place,
    #[command(subcommand)]
    pub command: Command,
}

/// Which cluster and namespace, with kubectl's own names.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// The kubeconfig to use, instead of KUBECONFIG or ~/.kube/config
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig to use
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// The namespace, instead of the context's
    #[arg(long, short, global = true)]
    pub namespace: Option<String>,
    /// Where the operator runs; looked for in all namespaces when left out
    #[arg(long, global = true, value_name = "NAMESPACE", env = "DDB_OPERATOR_NAMESPACE")]
    pub operator_namespace: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// How a database is: a verdict, nodes, routing, last changes of master, and what to do
    Status(Status),
    /// What the failover engine decided, why, and what it waits for
    Explain(Named),
    /// Make another node the master, in order, and follow it live
    Switchover(Switchover),
    /// Make any other node the master now, also where the present one does not answer, and follow it live
    Failover(Failover),
    /// Make a node the master though too few nodes answer: what only the missing hold is given up
    ForcePromote(ForcePromote),
    /// Keep nodes closed and out of the Services; a master hands over first
    Fence(Nodes),
    /// Let nodes that were fenced come back
    Unfence(Nodes),
    /// Throw a slave's data away and copy another node's
    Resync(Resync),
    /// Maintenance: no failover, no change of master, no clone, no rollout
    Pause(Named),
    /// End the maintenance
    Resume(Named),
    /// The last changes of master, with the milliseconds of each step
    History(History),
    /// The logs of operator, agents and MySQL servers, merged by time
    Logs(Logs),
    /// A MySQL shell on the master or a slave
    Sql(Sql),
    /// Who may use the HTTP data API
    #[command(subcommand)]
    Token(Token),
}

#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make a token and print it, this once
    Create(TokenCreate),
    /// The tokens there are, without their secrets
    List(Named),
    /// Make a token worthless
    Revoke {
        /// The database
        name: String,
        /// The token's id, as `list` shows it: the part between the two `_`
        id: String,
    },
}

#[derive(Debug, Args)]
pub struct TokenCreate {
    /// The database
    pub name: String,
    /// What the token allows: reader, writer, admin, or a role of the resource's spec.api.roles
    #[arg(long)]
    pub role: String,
    /// The only databases that it reaches, with commas; all when left out
    #[arg(long, value_delimiter = ',')]
    pub databases: Vec<String>,
    /// For how long it is valid, such as 24h; for ever when left out
    #[arg(long, value_parser = duration)]
    pub expires: Option<Duration>,
    /// A word on whom it is for
    #[arg(long)]
    pub note: Option<String>,
}

#[derive(Debug, Args)]
pub struct Status {
    /// The database; all of the namespace when left out
    pub name: Option<String>,
    /// All databases of all namespaces
    #[arg(long, short = 'A', conflicts_with = "name")]
    pub all_namespaces: bool,
    /// Go on looking: redraws on a terminal, else prints what changes
    #[arg(long, short)]
    pub watch: bool,
    /// How to print
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs; the schema is in docs/kubectl-ddb.md.
    Json,
}

#[derive(Debug, Args)]
pub struct Named {
    /// The database
    pub name: String,
}

#[derive(Debug, Args)]
pub struct History {
    /// The database
    pub name: String,
    /// How to print
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Switchover {
    /// The database
    pub name: String,
    /// The node to lead; the healthy slave with the smallest gap when left out
    #[arg(long, value_name = "POD")]
    pub to: Option<String>,
    /// How long to wait before the request is withdrawn
    #[arg(long, value_parser = duration, default_value = "60s")]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
pub struct Failover {
    /// The database
    pub name: String,
    /// How long to wait before the request is withdrawn
    #[arg(long, value_parser = duration, default_value = "60s")]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
pub struct ForcePromote {
    /// The database
    pub name: String,
    /// The node and, as confirmation, the current term; `status` and `explain` print both
    #[arg(value_name = "POD@TERM", value_parser = typed)]
    pub typed: String,
    /// How long to wait before the request is withdrawn
    #[arg(long, value_parser = duration, default_value = "60s")]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
pub struct Nodes {
    /// The database
    pub name: String,
    /// The nodes
    #[arg(value_name = "POD", required = true)]
    pub pods: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Resync {
    /// The database
    pub name: String,
    /// The slave
    pub pod: String,
    /// How long to wait before the request is withdrawn
    #[arg(long, value_parser = duration, default_value = "60s")]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
pub struct Logs {
    /// The database
    pub name: String,
    /// Only what is newer than this, such as 90s, 10m or 2h
    #[arg(long, value_parser = duration, default_value = "10m")]
    pub since: Duration,
    /// Go on with what comes
    #[arg(long, short)]
    pub follow: bool,
    /// Lines as they were written, JSON included
    #[arg(long)]
    pub raw: bool,
}

#[derive(Debug, Args)]
pub struct Sql {
    /// The database
    pub name: String,
    /// On a slave instead of the master
    #[arg(long)]
    pub slave: bool,
    /// Further arguments of the `mysql` client
    #[arg(last = true)]
    pub mysql: Vec<String>,
}

/// Reads `<pod>@<term>`.
fn typed(text: &str) -> Result<String, String> {
    let right = text
        .split_once('@')
        .is_some_and(|(pod, term)| !pod.is_empty() && term.parse::<u64>().is_ok());
    right
        .then(|| text.to_owned())
        .ok_or_else(|| "write the node and the current term, such as shop-1@5".to_owned())
}

/// Reads `90`, `90s`, `10m` or `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let (digits, unit) = text.split_at(
        text.find(|sign: char| !sign.is_ascii_digit())
            .unwrap_or(text.len()),
    );
    let factor = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("write a number with s, m or h, such as 90s".to_owned()),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .filter(|seconds| *seconds > 0 && *seconds < 100 * 365 * 24 * 3600)
        .map(Duration::from_secs)
        .ok_or_else(|| "write a number above zero with s, m or h, such as 90s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_of_kubectl_may_stand_after_the_command() {
        let read = Arguments::try_parse_from(["kubectl-ddb", "status", "shop", "-n", "x", "--context", "c"]);
        let place = read.unwrap().place;
        assert_eq!(
            (place.namespace.as_deref(), place.context.as_deref()),
            (Some("x"), Some("c"))
        );
    }

    #[test]
    fn force_wants_a_node_and_a_term() {
        assert_eq!(typed("shop-1@5"), Ok("shop-1@5".to_owned()));
        for wrong in ["shop-1", "shop-1@", "@5", "shop-1@five"] {
            assert!(typed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_have_a_unit_or_are_seconds() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2h"), Ok(Duration::from_hours(2)));
        for wrong in ["", "m", "0s", "1d", "99999999999999999999", "-1s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
