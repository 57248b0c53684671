//! `kubectl ddb status [NAME]`, once or again and again.

use std::fmt::Write;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::{Error, say};
use crate::arguments::{Output, Place, Status};
use crate::connect::Cluster;
use crate::view::{View, changes, list, status};
use crate::{clock, fetch};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// To the upper left corner, and everything below it cleared.
const REDRAW: &str = "\x1b[H\x1b[2J";

/// What one look gave.
struct Look {
    now: Timestamp,
    views: Vec<View>,
}

#[derive(Serialize)]
struct Databases<'a> {
    databases: &'a [View],
}

/// Prints how databases are.
pub async fn run(cluster: &Cluster, place: &Place, arguments: &Status) -> Result<ExitCode, Error> {
    if arguments.watch {
        return watch(cluster, place, arguments).await;
    }
    let look = look(cluster, place, arguments).await?;
    say(&rendered(&look, cluster, arguments)?)?;
    Ok(ExitCode::SUCCESS)
}

async fn look(cluster: &Cluster, place: &Place, arguments: &Status) -> Result<Look, fetch::Error> {
    let operators = place.operator_namespace.as_deref();
    let facts = match &arguments.name {
        Some(name) => vec![fetch::facts(cluster, name, operators).await?],
        None => fetch::all_facts(cluster, arguments.all_namespaces, operators).await?,
    };
    Ok(Look {
        now: clock::wall(),
        views: facts.iter().map(View::of).collect(),
    })
}

fn rendered(look: &Look, cluster: &Cluster, arguments: &Status) -> Result<String, Error> {
    let one = arguments.name.as_ref().and(look.views.first());
    Ok(match (arguments.output, one) {
        (Output::Json, Some(view)) => serde_json::to_string_pretty(view)? + "\n",
        (Output::Json, None) => {
            let databases = Databases {
                databases: &look.views,
            };
            serde_json::to_string_pretty(&databases)? + "\n"
        }
        (Output::Text, Some(view)) => status::text(view, look.now),
        (Output::Text, None) if arguments.all_namespaces => list::text(&look.views, "in this cluster"),
        (Output::Text, None) => list::text(&look.views, &format!("in the namespace {}", cluster.namespace)),
    })
}

/// Ends only when it is interrupted. A look that fails is told and tried again.
async fn watch(cluster: &Cluster, place: &Place, arguments: &Status) -> Result<ExitCode, Error> {
    let redraws = std::io::stdout().is_terminal() && arguments.output == Output::Text;
    let mut before: Option<Look> = None;
    let mut complained = false;
    loop {
        match look(cluster, place, arguments).await {
            Ok(look) => {
                let text = if redraws {
                    format!("{REDRAW}{}", rendered(&look, cluster, arguments)?)
                } else {
                    news(before.as_ref(), &look, cluster, arguments)?
                };
                say(&text)?;
                before = Some(look);
                complained = false;
            }
            // Nothing was ever seen: the name may be wrong.
            Err(error) if before.is_none() => return Err(error.into()),
            Err(error) => {
                if !std::mem::replace(&mut complained, true) {
                    say(&format!("{}  {error}; trying on\n", time(clock::wall())))?;
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
        }
    }
}

/// What to append: everything at first, then what changed.
fn news(before: Option<&Look>, now: &Look, cluster: &Cluster, arguments: &Status) -> Result<String, Error> {
    if arguments.output == Output::Json {
        return json_news(before, now);
    }
    let Some(before) = before else {
        return rendered(now, cluster, arguments);
    };
    let mut text = String::new();
    let at = time(now.now);
    for view in &now.views {
        let whose = if arguments.name.is_some() {
            String::new()
        } else {
            format!("{}/{}: ", view.namespace, view.name)
        };
        match before.views.iter().find(|known| is_same(known, view)) {
            Some(known) => {
                for line in changes::between(known, view) {
                    let _ = writeln!(text, "{at}  {whose}{line}");
                }
            }
            None => {
                let _ = writeln!(text, "{at}  {whose}{}  {}", view.verdict.word(), view.sentence);
            }
        }
    }
    for gone in &before.views {
        if !now.views.iter().any(|view| is_same(gone, view)) {
            let _ = writeln!(text, "{at}  {}/{}: deleted", gone.namespace, gone.name);
        }
    }
    Ok(text)
}

/// One line of JSON for each database that changed.
fn json_news(before: Option<&Look>, now: &Look) -> Result<String, Error> {
    let mut text = String::new();
    for view in &now.views {
        let known = before.and_then(|look| look.views.iter().find(|known| is_same(known, view)));
        if known != Some(view) {
            text.push_str(&serde_json::to_string(view)?);
            text.push('\n');
        }
    }
    Ok(text)
}

fn is_same(one: &View, other: &View) -> bool {
    (&one.namespace, &one.name) == (&other.namespace, &other.name)
}

fn time(at: Timestamp) -> String {
    at.strftime("%H:%M:%S").to_string()
}
