//! `status` without a name: one line for each database, the worst first.

use super::model::View;
use super::table::table;

/// The lines.
pub fn text(views: &[View], place: &str) -> String {
    if views.is_empty() {
        return format!("There is no database {place}. Make one: kubectl apply -f examples/shop.yaml\n");
    }
    let mut sorted: Vec<&View> = views.iter().collect();
    sorted.sort_by(|one, other| {
        let key = |view: &View| (view.namespace.clone(), view.name.clone());
        other.verdict.cmp(&one.verdict).then(key(one).cmp(&key(other)))
    });
    let rows: Vec<[String; 6]> = sorted
        .into_iter()
        .map(|view| {
            [
                view.verdict.word().to_owned(),
                format!("{}/{}", view.namespace, view.name),
                view.master.clone().unwrap_or_else(|| "-".to_owned()),
                format!(
                    "{}/{}",
                    view.nodes.iter().filter(|node| node.ready).count(),
                    view.wanted
                ),
                view.safe_to_lose.to_string(),
                view.sentence.clone(),
            ]
        })
        .collect();
    let text = table(
        ["VERDICT", "DATABASE", "MASTER", "READY", "SAFE TO LOSE", "WHY"],
        &rows,
    );
    // Nothing stands before a list: it is the only thing on the screen.
    text.lines().fold(String::new(), |all, line| {
        all + line.strip_prefix("  ").unwrap_or(line) + "\n"
    })
}
