//! One load of many rows: directly in one transaction, and as one request of the data API.

use std::{fmt::Write as _, sync::Arc};

use anyhow::Result;
use rustls::ClientConfig;

use crate::{
    client::Client,
    direct,
    facts::{Bulk, line, middle},
    support::{Node, now},
};

/// How many rows.
const ROWS: i64 = 100_000;
/// Rows of one of the direct client's statements.
const EACH: i64 = 1000;

/// Compares the two in turns.
pub async fn measure(node: &Node, trust: &Arc<ClientConfig>, turns: u32) -> Result<Bulk> {
    let mut body = String::from("[");
    for id in 1..=ROWS {
        let comma = if id > 1 { "," } else { "" };
        write!(
            body,
            r#"{comma}{{"id":{id},"name":"somebody number {id}","age":{}}}"#,
            id % 100
        )?;
    }
    body.push(']');
    let mut turned = Vec::new();
    for turn in 1..=turns {
        let (mut one, mut two) = (0.0, 0.0);
        for half in 0..2 {
            direct::empty_bulk(node).await?;
            if (turn + half) % 2 == 1 {
                // Over TCP the driver's large packets would wait for acknowledgements.
                let mut connection = node.app().await?;
                let begun = now();
                direct::bulk(&mut connection, ROWS, EACH).await?;
                one = begun.elapsed().as_secs_f64();
            } else {
                let mut client = Client::connect(node, trust).await?;
                let begun = now();
                let path = "/v1/databases/bench/tables/bulk/rows";
                let more = "content-type: application/json\r\n";
                client.must("POST", path, more, &body).await?;
                two = begun.elapsed().as_secs_f64();
            }
        }
        line(&format!(
            "  turn {turn:>2}  {one:>6.2} s directly   {two:>6.2} s through the API"
        ));
        turned.push((one, two));
    }
    let of = |value: fn(&(f64, f64)) -> f64| middle(turned.iter().map(value).collect());
    Ok(Bulk {
        ratio: of(|(one, two)| one / two),
        rows: ROWS,
        seconds: (of(|(one, _)| *one), of(|(_, two)| *two)),
    })
}
