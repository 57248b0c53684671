//! What people and programs see, in whole, for each state of a database.

use api::resource::Phase;
use kube::ResourceExt;

use super::model::Verdict;
use super::{View, changes, example, explain, history, list, status};
use crate::fetch::{Facts, Known, Operator};

fn text(facts: &Facts) -> String {
    status::text(&View::of(facts), facts.now)
}

fn verdict(facts: &Facts) -> (Verdict, String) {
    let view = View::of(facts);
    (view.verdict, view.sentence)
}

#[test]
fn the_status_of_a_healthy_database() {
    insta::assert_snapshot!(text(&example::healthy()));
}

#[test]
fn the_status_of_a_database_that_lacks_a_slave() {
    insta::assert_snapshot!(text(&example::degraded()));
}

#[test]
fn the_status_while_every_pod_and_the_operator_are_down() {
    insta::assert_snapshot!(text(&example::down()));
}

#[test]
fn the_status_during_a_failover() {
    insta::assert_snapshot!(text(&example::failing_over()));
}

#[test]
fn the_status_of_a_database_that_nobody_looked_at() {
    insta::assert_snapshot!(text(&example::empty()));
}

#[test]
fn the_status_where_too_few_nodes_answer() {
    insta::assert_snapshot!(text(&example::blocked()));
}

#[test]
fn a_paused_database_says_so_in_the_first_line() {
    let mut facts = example::healthy();
    facts.object.spec.paused = true;
    let status = facts.object.status.as_mut().unwrap();
    (status.phase, status.safe_to_lose) = (Phase::Paused, 0);
    let shown = text(&facts);
    assert!(shown.lines().next().unwrap().contains("PAUSED"), "{shown}");
    assert!(shown.contains("kubectl ddb resume shop -n default"), "{shown}");
}

#[test]
fn nodes_that_are_kept_closed_are_named_with_the_command_that_releases_them() {
    let mut facts = example::degraded();
    let annotations = facts.object.annotations_mut();
    annotations.insert(api::names::ANNOTATION_FENCE.to_owned(), "shop-2".to_owned());
    let warnings = View::of(&facts).warnings;
    assert!(
        warnings
            .iter()
            .any(|warning| warning.command == "kubectl ddb unfence shop shop-2 -n default"),
        "{warnings:?}"
    );
}

#[test]
fn the_status_while_no_operator_is_at_work() {
    insta::assert_snapshot!(text(&example::unattended()));
}

#[test]
fn the_status_after_a_switchover() {
    insta::assert_snapshot!(text(&example::switched_over()));
}

#[test]
fn what_was_given_up_is_shown_with_the_command_that_fetches_it() {
    let facts = example::keeping();
    let status = text(&facts);
    insta::assert_snapshot!(status);
    let explained = explain::text(&View::of(&facts), &facts);
    for command in status.lines().filter(|line| line.contains("kubectl exec")) {
        assert!(explained.contains(command), "{explained}");
    }
}

#[test]
fn the_status_as_json() {
    insta::assert_json_snapshot!(View::of(&example::degraded()));
}

#[test]
fn the_explanation_of_a_failover() {
    let facts = example::failing_over();
    insta::assert_snapshot!(explain::text(&View::of(&facts), &facts));
}

#[test]
fn the_explanation_while_no_operator_is_at_work() {
    let facts = example::down();
    insta::assert_snapshot!(explain::text(&View::of(&facts), &facts));
}

#[test]
fn the_history() {
    insta::assert_snapshot!(history::text(&View::of(&example::switched_over())));
}

#[test]
fn the_list_has_the_worst_first() {
    let views: Vec<View> = [example::healthy(), example::degraded(), example::down()]
        .iter()
        .map(View::of)
        .collect();
    insta::assert_snapshot!(list::text(&views, "here"));
}

#[test]
fn what_changed_between_two_looks() {
    let (before, after) = (View::of(&example::healthy()), View::of(&example::switched_over()));
    insta::assert_snapshot!(changes::between(&before, &after).join("\n"));
    assert!(changes::between(&before, &before).is_empty());
}

#[test]
fn a_large_database_without_one_slave_is_degraded_and_not_at_risk() {
    let mut facts = example::degraded();
    facts.object.status.as_mut().unwrap().safe_to_lose = 1;
    assert_eq!(
        verdict(&facts),
        (
            Verdict::Degraded,
            "shop-0 leads, but shop-2 does not serve.".to_owned()
        )
    );
}

#[test]
fn writes_that_wait_for_slaves_are_down() {
    let mut facts = example::degraded();
    let status = facts.object.status.as_mut().unwrap();
    status.conditions.retain(|one| one.type_ != "Available");
    let message = "Writes on shop-0 wait for slaves that must hold each one: 0 of 1 follow.";
    status
        .conditions
        .push(example::condition("Available", false, "WritesWait", message));
    assert_eq!(verdict(&facts), (Verdict::Down, message.to_owned()));
}

#[test]
fn a_service_that_leads_elsewhere_is_down_even_if_the_status_is_healthy() {
    let mut facts = example::healthy();
    facts.slices = example::switched_over().slices;
    let (verdict, sentence) = verdict(&facts);
    assert_eq!(verdict, Verdict::Down);
    assert!(sentence.contains("shop-master leads to shop-1"), "{sentence}");
}

#[test]
fn what_cannot_be_read_is_unknown_and_not_bad() {
    let mut facts = example::healthy();
    facts.pods = Known::Not("you may not list pods".to_owned());
    facts.slices = Known::Not("you may not list endpoint slices".to_owned());
    facts.operator = Operator::Unknown {
        why: "you may not look for the operator's lease".to_owned(),
    };
    let view = View::of(&facts);
    assert_eq!(view.verdict, Verdict::Healthy);
    assert_eq!(
        (view.unknown.len(), view.safe_to_lose, view.warnings.len()),
        (3, 1, 0)
    );
}

#[test]
fn a_refused_spec_degrades_and_names_the_problem() {
    let mut facts = example::healthy();
    let status = facts.object.status.as_mut().unwrap();
    status.phase = Phase::Invalid;
    status.conditions.retain(|one| one.type_ != "Valid");
    let problem = "spec.nodes: must be from 1 to 9";
    status
        .conditions
        .push(example::condition("Valid", false, "Refused", problem));
    let view = View::of(&facts);
    assert_eq!(view.verdict, Verdict::Degraded);
    assert_eq!(view.warnings[0].text, format!("The spec is refused: {problem}"));
    assert_eq!(view.warnings[0].command, "kubectl edit ddb shop -n default");
}

#[test]
fn without_automatic_failover_a_database_is_at_risk() {
    let mut facts = example::healthy();
    facts.object.spec.failover.automatic = false;
    facts.object.status.as_mut().unwrap().safe_to_lose = 0;
    let view = View::of(&facts);
    assert_eq!(view.verdict, Verdict::AtRisk);
    assert!(
        view.warnings[0]
            .command
            .starts_with("kubectl patch ddb shop -n default")
    );
}
