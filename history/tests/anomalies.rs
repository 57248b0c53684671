//! The checker itself is checked: every anomaly, put by hand into a good history, is found under its name.

mod good;

use std::collections::BTreeMap;

use good::{holds, ops};
use history::{Did, Line, Name, Op, Outcome, Process, Verdict, judge};

/// Does something to each good history and expects this anomaly.
fn expect(name: Name, spoil: impl Fn(&mut Vec<Line>)) -> Vec<Verdict> {
    let spoilt = |(which, mut lines): (&str, Vec<Line>)| {
        spoil(&mut lines);
        let verdict = judge(&lines);
        assert!(
            verdict.has(name),
            "{which}: {name:?} was not found: {:?}",
            verdict.details
        );
        assert_eq!(verdict.verdict, "violated");
        assert!(verdict.anomalies[&name.word()] > 0);
        verdict
    };
    good::all().into_iter().map(spoilt).collect()
}

/// Does something to each good history that leaves it good.
fn expect_good(change: impl Fn(&mut Vec<Line>)) {
    for (which, mut lines) in good::all() {
        change(&mut lines);
        let verdict = judge(&lines);
        assert!(verdict.is_ok(), "{which}: {:?}", verdict.details);
    }
}

/// An acknowledged operation from the middle of the history.
fn some_op(lines: &[Line], wanted: impl Fn(&Did) -> bool) -> Op {
    let all: Vec<&Op> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Op(op) if op.outcome == Outcome::Ok && wanted(&op.did) => Some(op),
            _ => None,
        })
        .collect();
    all[all.len() / 2].clone()
}

#[test]
fn a_good_history_is_good() {
    for (which, lines) in good::all() {
        let verdict = judge(&lines);
        assert!(verdict.is_ok(), "{which}: {:?}", verdict.details);
        assert_eq!(
            (verdict.verdict, verdict.lost, verdict.doubled, verdict.stale),
            ("ok", 0, 0, 0)
        );
        assert!(
            verdict.acknowledged > 0 && verdict.registers > 0 && verdict.token_reads > 0 && verdict.terms > 1
        );
        assert!(verdict.faults > 0);
    }
}

#[test]
fn a_row_that_one_node_lacks_is_lost() {
    let verdicts = expect(Name::LostWrite, |lines| {
        let Did::Insert { id } = some_op(lines, |did| matches!(did, Did::Insert { .. })).did else {
            return;
        };
        holds(lines)[1].inserts.retain(|other| *other != id);
    });
    assert!(verdicts.iter().all(|verdict| verdict.lost == 1));
}

#[test]
fn a_row_that_every_node_lacks_is_lost_once() {
    let verdicts = expect(Name::LostWrite, |lines| {
        let Did::Insert { id } = some_op(lines, |did| matches!(did, Did::Insert { .. })).did else {
            return;
        };
        for node in holds(lines) {
            node.inserts.retain(|other| *other != id);
        }
    });
    assert!(verdicts.iter().all(|verdict| verdict.lost == 1));
}

#[test]
fn a_row_that_is_there_twice_is_doubled() {
    let verdicts = expect(Name::DoubledWrite, |lines| {
        for node in holds(lines) {
            let id = node.inserts[node.inserts.len() / 2];
            node.inserts.push(id);
        }
    });
    assert!(verdicts.iter().all(|verdict| verdict.doubled == 1));
}

#[test]
fn a_refused_row_must_not_be_there() {
    expect(Name::RefusedWriteFound, |lines| {
        let id = 1 << 50;
        let did = Did::Insert { id };
        let like = some_op(lines, |did| matches!(did, Did::Insert { .. }));
        let outcome = Outcome::Fail;
        lines.push(Line::Op(Op { outcome, did, ..like }));
        for node in holds(lines) {
            node.inserts.push(id);
        }
    });
}

#[test]
fn a_write_of_unknown_outcome_may_be_there_or_not_but_a_row_of_nobody_may_not() {
    for (which, mut lines) in good::all() {
        let like = some_op(&lines, |did| matches!(did, Did::Insert { .. }));
        for id in [1 << 50, (1 << 50) + 1] {
            let (outcome, did) = (Outcome::Unknown, Did::Insert { id });
            lines.push(Line::Op(Op {
                outcome,
                did,
                ..like.clone()
            }));
        }
        for node in holds(&mut lines) {
            node.inserts.push(1 << 50);
        }
        assert!(judge(&lines).is_ok(), "{which}");
        for node in holds(&mut lines) {
            node.inserts.push(1 << 51);
        }
        assert!(judge(&lines).has(Name::UnknownRow), "{which}");
    }
}

#[test]
fn half_a_transaction_is_found_even_if_its_outcome_is_unknown() {
    expect(Name::HalfTransaction, |lines| {
        let like = some_op(lines, |did| matches!(did, Did::Pair { .. }));
        let (outcome, did) = (Outcome::Unknown, Did::Pair { id: 1 << 50 });
        lines.push(Line::Op(Op { outcome, did, ..like }));
        for node in holds(lines) {
            node.first_halves.push(1 << 50);
        }
    });
}

#[test]
fn a_counter_shows_lost_and_doubled_increments() {
    let verdicts = expect(Name::LostIncrement, |lines| {
        for node in holds(lines) {
            let value = node.counters.values_mut().next().unwrap();
            *value = 0;
        }
    });
    assert!(verdicts.iter().all(|verdict| verdict.lost > 0));
    expect(Name::DoubledIncrement, |lines| {
        for node in holds(lines) {
            *node.counters.values_mut().next().unwrap() += 1 << 40;
        }
    });
}

#[test]
fn an_append_that_is_missing_is_lost() {
    let verdicts = expect(Name::LostAppend, |lines| {
        let Did::Append { list, element } = some_op(lines, |did| matches!(did, Did::Append { .. })).did
        else {
            return;
        };
        let nodes = holds(lines);
        nodes
            .into_iter()
            .last()
            .unwrap()
            .lists
            .get_mut(&list)
            .unwrap()
            .retain(|other| *other != element);
    });
    assert!(verdicts.iter().all(|verdict| verdict.lost == 1));
}

#[test]
fn an_append_that_is_there_twice_is_doubled() {
    expect(Name::DoubledAppend, |lines| {
        for node in holds(lines) {
            let list = node.lists.values_mut().next().unwrap();
            let first = list[0];
            list.push(first);
        }
    });
}

#[test]
fn appends_stand_in_the_order_in_which_they_were_acknowledged() {
    expect(Name::AppendOrder, |lines| {
        for node in holds(lines) {
            for list in node.lists.values_mut() {
                list.reverse();
            }
        }
    });
}

#[test]
fn a_read_of_what_was_taken_back_is_a_phantom() {
    expect(Name::PhantomRead, |lines| {
        let mut op = some_op(
            lines,
            |did| matches!(did, Did::Read { elements, .. } if !elements.is_empty()),
        );
        if let Did::Read { elements, .. } = &mut op.did {
            elements.push(1 << 50);
        }
        lines.push(Line::Op(op));
    });
}

#[test]
fn a_read_older_than_its_token_is_stale() {
    let verdicts = expect(Name::StaleTokenRead, |lines| {
        let mut op = some_op(lines, |did| matches!(did, Did::Token { .. }));
        if let Did::Token { found, .. } = &mut op.did {
            *found = 0;
        }
        lines.push(Line::Op(op));
    });
    assert!(verdicts.iter().all(|verdict| verdict.stale == 1));
}

#[test]
fn a_master_that_lacks_the_state_of_an_acknowledged_row_has_lost_it() {
    let verdicts = expect(Name::LostState, |lines| {
        let Did::Insert { id } = some_op(lines, |did| matches!(did, Did::Insert { .. })).did else {
            return;
        };
        let read = some_op(lines, |did| matches!(did, Did::Token { .. }));
        let ended = lines.iter().filter_map(|line| match line {
            Line::Op(op) => Some(op.ended),
            _ => None,
        });
        let ended = ended.max().unwrap() + 1_000;
        let did = Did::TokenLost { id };
        lines.push(Line::Op(Op { ended, did, ..read }));
    });
    assert!(verdicts.iter().all(|verdict| verdict.lost_states == 1));
}

#[test]
fn the_token_of_a_row_that_was_not_acknowledged_may_be_lost() {
    for (which, mut lines) in good::all() {
        let read = some_op(&lines, |did| matches!(did, Did::Token { .. }));
        let did = Did::TokenLost { id: 1 << 50 };
        lines.push(Line::Op(Op { did, ..read }));
        assert!(judge(&lines).is_ok(), "{which}");
    }
}

/// First and last acknowledgement of single rows, which different masters gave.
fn of_first_and_last_master(lines: &[Line]) -> (Op, Op) {
    let acknowledged = |line: &Line| match line {
        Line::Op(op) if op.outcome == Outcome::Ok && matches!(op.did, Did::Insert { .. }) => Some(op.clone()),
        _ => None,
    };
    let all: Vec<Op> = lines.iter().filter_map(acknowledged).collect();
    let (first, last) = (all[0].clone(), all[all.len() - 1].clone());
    assert_ne!(first.node, last.node, "nothing changed hands in this history");
    (first, last)
}

/// One more acknowledged row, which every node holds.
fn acknowledged(lines: &mut Vec<Line>, like: Op, id: i64) {
    lines.push(Line::Op(Op {
        did: Did::Insert { id },
        ..like
    }));
    for node in holds(lines) {
        node.inserts.push(id);
    }
}

#[test]
fn an_old_master_that_acknowledges_after_the_new_one_is_found_though_nothing_is_lost() {
    expect(Name::TwoMasters, |lines| {
        let (first, last) = of_first_and_last_master(lines);
        let (begun, ended) = (last.ended + 1_000, last.ended + 2_000);
        acknowledged(
            lines,
            Op {
                begun,
                ended,
                ..first
            },
            1 << 50,
        );
    });
}

#[test]
fn an_acknowledgement_of_an_old_master_that_only_arrives_late_is_no_second_master() {
    for (which, mut lines) in good::all() {
        let (first, last) = of_first_and_last_master(&lines);
        acknowledged(
            &mut lines,
            Op {
                ended: last.ended + 2_000,
                ..first
            },
            1 << 50,
        );
        let verdict = judge(&lines);
        assert!(verdict.is_ok(), "{which}: {:?}", verdict.details);
    }
}

/// Two rows after everything else, in a term whose master the status never named.
fn in_a_term_without_a_name(lines: &mut Vec<Line>, nodes: [&str; 2]) {
    let (_, last) = of_first_and_last_master(lines);
    let term = lines.iter().filter_map(|line| match line {
        Line::Term { term, .. } => Some(*term),
        _ => None,
    });
    let term = term.max().unwrap_or_default() + 1;
    lines.push(Line::Term {
        at: last.ended,
        term,
        master: None,
    });
    for (at, node) in (1_u32..).zip(nodes) {
        let (begun, ended) = (
            last.ended + u64::from(at) * 2_000,
            last.ended + u64::from(at) * 2_000 + 1_000,
        );
        let node = node.to_owned();
        let like = Op {
            begun,
            ended,
            node,
            ..last.clone()
        };
        acknowledged(lines, like, (1 << 50) + i64::from(at));
    }
}

#[test]
fn a_master_that_went_before_its_name_was_heard_may_have_acknowledged() {
    expect_good(|lines| {
        in_a_term_without_a_name(lines, ["brief-1", "brief-1"]);
    });
}

#[test]
fn two_that_acknowledged_in_the_term_of_a_master_without_a_name_are_found() {
    expect(Name::TwoMasters, |lines| {
        in_a_term_without_a_name(lines, ["brief-1", "brief-2"]);
    });
}

#[test]
fn an_acknowledgement_of_a_node_that_never_led_is_found() {
    expect(Name::TwoMasters, |lines| {
        let (first, _) = of_first_and_last_master(lines);
        let node = "nobody-9".to_owned();
        acknowledged(lines, Op { node, ..first }, 1 << 50);
    });
}

#[test]
fn two_labels_and_terms_that_fall_or_are_shared_are_found() {
    expect(Name::TwoLabels, |lines| {
        let masters = vec!["a-0".to_owned(), "a-1".to_owned()];
        lines.push(Line::Seen { at: 5, masters });
    });
    let last_term = |lines: &[Line]| {
        lines.iter().rev().find_map(|line| match line {
            Line::Term {
                at,
                term,
                master: Some(_),
            } => Some((*at, *term)),
            _ => None,
        })
    };
    expect(Name::TermFell, |lines| {
        let (at, term) = last_term(lines).unwrap();
        let term = term - 1;
        lines.push(Line::Term {
            at,
            term,
            master: None,
        });
    });
    expect(Name::TermShared, |lines| {
        let (at, term) = last_term(lines).unwrap();
        let master = Some("nobody-9".to_owned());
        lines.push(Line::Term { at, term, master });
    });
}

#[test]
fn a_read_of_a_register_that_goes_back_in_time_is_not_linearizable() {
    expect(Name::NotLinearizable, |lines| {
        let set = some_op(lines, |did| matches!(did, Did::Set { .. }));
        let Did::Set { register, .. } = set.did else {
            return;
        };
        let end = lines.iter().filter_map(|line| match line {
            Line::Op(op) => Some(op.ended),
            _ => None,
        });
        let end = end.max().unwrap();
        let (begun, ended, value) = (end + 10, end + 20, None);
        let did = Did::Get { register, value };
        lines.push(Line::Op(Op {
            begun,
            ended,
            did,
            ..set
        }));
    });
}

/// Every node holds this value of a register at the end.
fn register_ends_with(lines: &mut [Line], register: i64, value: i64) {
    for node in holds(lines) {
        node.registers.insert(register, value);
    }
}

/// Values of a register in the order in which their writes were acknowledged, of the register with most of them.
fn acknowledged_values(lines: &[Line]) -> (i64, Vec<i64>) {
    let mut values: BTreeMap<i64, Vec<(u64, i64)>> = BTreeMap::new();
    for line in lines {
        if let Line::Op(Op {
            outcome: Outcome::Ok,
            ended,
            did: Did::Set { register, value },
            ..
        }) = line
        {
            values.entry(*register).or_default().push((*ended, *value));
        }
    }
    let (register, mut values) = values
        .into_iter()
        .max_by_key(|(_, values)| values.len())
        .expect("it has registers");
    values.sort_unstable();
    assert!(values.len() > 1, "register {register} was written once");
    (register, values.into_iter().map(|(_, value)| value).collect())
}

#[test]
fn a_register_that_ends_with_an_older_value_or_none_on_one_node_is_not_linearizable() {
    expect(Name::NotLinearizable, |lines| {
        let (register, values) = acknowledged_values(lines);
        holds(lines)[1].registers.insert(register, values[0]);
    });
    expect(Name::NotLinearizable, |lines| {
        let (register, _) = acknowledged_values(lines);
        holds(lines)[2].registers.remove(&register);
    });
}

#[test]
fn a_register_that_every_node_ends_with_as_nobody_wrote_it_is_not_linearizable() {
    expect(Name::NotLinearizable, |lines| {
        let (register, _) = acknowledged_values(lines);
        register_ends_with(lines, register, 1 << 50);
    });
    expect(Name::NotLinearizable, |lines| {
        register_ends_with(lines, 1 << 40, 1);
    });
    expect(Name::NotLinearizable, |lines| {
        let like = some_op(lines, |did| matches!(did, Did::Set { .. }));
        let (register, value) = (1 << 40, 1);
        let (outcome, did) = (Outcome::Fail, Did::Set { register, value });
        lines.push(Line::Op(Op { outcome, did, ..like }));
        register_ends_with(lines, register, value);
    });
}

#[test]
fn a_register_may_end_with_a_write_of_unknown_outcome_or_without_it() {
    for end in [1, 2] {
        for (which, mut lines) in good::all() {
            let (like, _) = of_first_and_last_master(&lines);
            let register = 1 << 40;
            for (begun, outcome, value) in [(1, Outcome::Ok, 1), (3, Outcome::Unknown, 2)] {
                let begun = like.begun + begun;
                lines.push(Line::Op(Op {
                    begun,
                    ended: begun + 1,
                    outcome,
                    did: Did::Set { register, value },
                    ..like.clone()
                }));
            }
            register_ends_with(&mut lines, register, end);
            let verdict = judge(&lines);
            assert!(verdict.is_ok(), "{which}, {end}: {:?}", verdict.details);
        }
    }
}

#[test]
fn a_lost_update_of_a_register_is_not_linearizable() {
    expect(Name::NotLinearizable, |lines| {
        let like = some_op(lines, |did| matches!(did, Did::Set { .. }));
        let register = 1 << 40;
        for (begun, ended, did) in [
            (1, 2, Did::Set { register, value: 1 }),
            (3, 4, Did::Set { register, value: 2 }),
            (
                5,
                6,
                Did::Get {
                    register,
                    value: Some(1),
                },
            ),
        ] {
            lines.push(Line::Op(Op {
                begun,
                ended,
                did,
                ..like.clone()
            }));
        }
        // The end is right, so that only the read can be found.
        register_ends_with(lines, register, 2);
    });
}

#[test]
fn a_register_whose_write_has_an_unknown_outcome_may_show_it_or_not() {
    for seen in [Some(1), Some(2)] {
        for (which, mut lines) in good::all() {
            let (like, _) = of_first_and_last_master(&lines);
            let register = 1 << 40;
            for (begun, ended, outcome, did) in [
                (1, 2, Outcome::Ok, Did::Set { register, value: 1 }),
                (3, 4, Outcome::Unknown, Did::Set { register, value: 2 }),
                (
                    5,
                    6,
                    Outcome::Ok,
                    Did::Get {
                        register,
                        value: seen,
                    },
                ),
                (
                    7,
                    8,
                    Outcome::Ok,
                    Did::Get {
                        register,
                        value: Some(2),
                    },
                ),
            ] {
                let (begun, ended) = (like.begun + begun, like.begun + ended);
                lines.push(Line::Op(Op {
                    begun,
                    ended,
                    outcome,
                    did,
                    ..like.clone()
                }));
            }
            register_ends_with(&mut lines, register, 2);
            assert!(judge(&lines).is_ok(), "{which}, {seen:?}");
        }
    }
}

#[test]
fn nodes_that_differ_are_found_though_every_acknowledged_write_is_there() {
    expect(Name::NodesDiffer, |lines| {
        *holds(lines)[0].checksums.values_mut().next().unwrap() += 1;
    });
}

#[test]
fn what_did_not_heal_and_what_is_missing_from_the_history_is_no_success() {
    expect(Name::NotHealed, |lines| {
        for line in lines {
            if let Line::Episode(episode) = line {
                episode.unhealed = Some("phase Degraded".to_owned());
            }
        }
    });
    expect(Name::Incomplete, |lines| {
        lines.retain(|line| !matches!(line, Line::End { .. }));
    });
    expect(Name::Incomplete, |lines| {
        lines.retain(|line| !matches!(line, Line::Holds(_)));
    });
    expect(Name::Incomplete, |lines| {
        ops(lines, |op| op.outcome = Outcome::Unknown);
    });
    assert!(judge(&[]).has(Name::Incomplete));
}

#[test]
fn a_run_in_which_nothing_was_broken_is_no_success() {
    expect(Name::Incomplete, |lines| {
        lines.retain(|line| !matches!(line, Line::Episode(_)));
    });
    expect(Name::Incomplete, |lines| {
        for line in lines {
            if let Line::Episode(episode) = line {
                episode.faults.clear();
            }
        }
    });
}

/// One more client, whose only operation, if there is one, has this outcome.
fn client(lines: &mut Vec<Line>, work: &str, through: &str, outcome: Option<Outcome>) {
    let process = 99;
    lines.push(Line::Process(Process {
        process,
        work: work.to_owned(),
        through: through.to_owned(),
        steady: false,
    }));
    let Some(outcome) = outcome else { return };
    let like = some_op(lines, |did| matches!(did, Did::Insert { .. }));
    let id = 1 << 50;
    if outcome == Outcome::Ok {
        let (_, last) = of_first_and_last_master(lines);
        return acknowledged(lines, Op { process, ..last }, id);
    }
    let did = Did::Insert { id };
    lines.push(Line::Op(Op {
        process,
        outcome,
        did,
        ..like
    }));
}

fn last_master(lines: &[Line]) -> String {
    let master = lines.iter().rev().find_map(|line| match line {
        Line::Term { master, .. } => master.clone(),
        _ => None,
    });
    master.expect("somebody led")
}

#[test]
fn a_client_of_a_service_that_never_succeeded_is_no_success() {
    for (through, outcome) in [
        ("master", None),
        ("slaves", Some(Outcome::Unknown)),
        ("any", Some(Outcome::Fail)),
    ] {
        expect(Name::Incomplete, |lines| {
            client(lines, "inserts", through, outcome);
        });
    }
    expect_good(|lines| {
        client(lines, "inserts", "any", Some(Outcome::Ok));
    });
}

#[test]
fn a_client_that_stays_with_a_node_needs_an_answer_of_any_kind() {
    for outcome in [None, Some(Outcome::Unknown)] {
        expect(Name::Incomplete, |lines| client(lines, "inserts", "a-2", outcome));
    }
    expect_good(|lines| {
        client(lines, "inserts", "a-2", Some(Outcome::Fail));
    });
}

#[test]
fn only_on_the_node_that_leads_at_the_end_there_may_be_nothing_to_read_of_others() {
    expect(Name::Incomplete, |lines| {
        client(lines, "apitokenreads", "nobody-9", None);
    });
    expect_good(|lines| {
        let master = last_master(lines);
        client(lines, "apitokenreads", &master, None);
    });
}

#[test]
fn the_unluckiest_steady_writer_tells_the_outage_of_a_fault_and_three_budgets_are_too_late() {
    let (_, mut lines) = good::all().remove(0);
    let verdict = judge(&lines);
    let kind = &verdict.kinds["mysqld-kill"];
    assert_eq!(
        (kind.faults, kind.alone, kind.median_ms, kind.max_ms, kind.late),
        (1, 1, 300, 300, 0)
    );
    for line in &mut lines {
        if let Line::Begin(header) = line {
            header.budgets_ms.insert("mysqld-kill".to_owned(), 99);
        }
    }
    let Some(at) = lines.iter().find_map(|line| match line {
        Line::Episode(episode) => Some(episode.faults[0].at),
        _ => None,
    }) else {
        panic!("no fault in a good history");
    };
    for (at, term) in [(at - 1, 1), (at + 1, 2)] {
        lines.push(Line::Change {
            at,
            term,
            cause: "ServerDied".to_owned(),
            master: "a-1".to_owned(),
            steps: vec![("recorded".to_owned(), 20), ("routed".to_owned(), 290)],
        });
    }
    let verdict = judge(&lines);
    assert_eq!((verdict.late, verdict.verdict), (1, "ok"));
    let late = &verdict.late_outages[0];
    assert_eq!((late.kind.as_str(), late.outage_ms), ("mysqld-kill", 300));
    assert!(late.from_ms <= late.at_ms);
    for line in &mut lines {
        if let Line::Episode(episode) = line {
            episode.soon = true;
        }
    }
    assert_eq!(judge(&lines).late, 0, "kube-proxy's second is not the system's");
    assert_eq!(late.changes.len(), 1, "{late:?}");
    assert!(late.changes[0].contains("term 2") && late.changes[0].contains("recorded 20, routed 290 ms"));
}

#[test]
fn a_search_without_end_is_undecided_and_never_good() {
    let (_, mut lines) = good::all().remove(0);
    let (like, _) = of_first_and_last_master(&lines);
    let register = 1 << 40;
    let mut push = |begun, ended, did| {
        let (begun, ended) = (like.begun + begun, like.begun + ended);
        lines.push(Line::Op(Op {
            begun,
            ended,
            did,
            ..like.clone()
        }));
    };
    // Twenty writes at the same time can be ordered in 20! ways, and none lets two later reads disagree.
    for value in 0..20 {
        push(1, 100, Did::Set { register, value });
    }
    for (begun, value) in [(200, 1), (300, 2)] {
        let value = Some(value);
        push(begun, begun + 10, Did::Get { register, value });
    }
    register_ends_with(&mut lines, register, 2);
    let verdict = judge(&lines);
    assert!(verdict.has(Name::Undecided), "{:?}", verdict.details);
    assert_eq!(verdict.verdict, "violated");
}
