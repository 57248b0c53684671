//! Good histories to spoil.

use std::collections::BTreeMap;

use history::{Did, Episode, Fault, Header, Holds, Line, Op, Outcome, Process};

/// One made by hand, so that its figures are known, and one recorded on a cluster under 31 faults, of which every
/// twelfth row, list and register was kept.
pub fn all() -> Vec<(&'static str, Vec<Line>)> {
    let recorded = history::read(include_str!("recorded.jsonl").as_bytes()).expect("it is a history");
    vec![("made by hand", by_hand()), ("recorded", recorded)]
}

/// What the nodes hold.
pub fn holds(lines: &mut [Line]) -> Vec<&mut Holds> {
    let of_node = |line| match line {
        &mut Line::Holds(ref mut holds) => Some(holds),
        _ => None,
    };
    lines.iter_mut().filter_map(of_node).collect()
}

/// Changes every operation.
pub fn ops(lines: &mut [Line], change: impl Fn(&mut Op)) {
    for line in lines {
        if let Line::Op(op) = line {
            change(op);
        }
    }
}

/// Two terms of 50 rounds, with 300 ms between them in which the master `a-0` is killed and `a-1` takes over.
fn by_hand() -> Vec<Line> {
    let term = |at, term, master: Option<&str>| Line::Term {
        at,
        term,
        master: master.map(str::to_owned),
    };
    let mut lines = vec![
        Line::Begin(Header {
            format: 1,
            seed: 1,
            budgets_ms: BTreeMap::from([("mysqld-kill".to_owned(), 400)]),
        }),
        Line::Process(Process {
            process: 1,
            work: "inserts".to_owned(),
            through: "master".to_owned(),
            steady: true,
        }),
        term(0, 1, Some("a-0")),
    ];
    let mut end = Holds::default();
    for (step, round) in (0_u64..100).zip(0_i64..) {
        let (node, epoch) = if round < 50 { ("a-0", 1) } else { ("a-1", 2) };
        let begun = 1_000_000 + step * 10_000 + (epoch - 1) * 290_000;
        if round == 50 {
            lines.push(term(begun - 200_000, 2, None));
            lines.push(term(begun + 5_000, 2, Some("a-1")));
        }
        let (list, register) = (round / 20, round / 25);
        end.inserts.push(round);
        end.first_halves.push(round);
        end.second_halves.push(round);
        *end.counters.entry("c0".to_owned()).or_default() += 1;
        end.lists.entry(list).or_default().push(round);
        end.registers.insert(register, round);
        let elements = end.lists[&list].clone();
        for did in [
            Did::Insert { id: round },
            Did::Pair { id: round },
            Did::Count {
                counter: "c0".to_owned(),
            },
            Did::Append { list, element: round },
            Did::Read { list, elements },
            Did::Set {
                register,
                value: round,
            },
            Did::Get {
                register,
                value: Some(round),
            },
            Did::Token { id: round, found: 1 },
        ] {
            let process = if matches!(did, Did::Insert { .. }) { 1 } else { 2 };
            lines.push(Line::Op(Op {
                process,
                begun: begun + if matches!(did, Did::Set { .. }) { 100 } else { 200 },
                ended: begun + if matches!(did, Did::Set { .. }) { 150 } else { 900 },
                node: node.to_owned(),
                term: epoch,
                outcome: Outcome::Ok,
                did,
            }));
        }
    }
    lines.push(Line::Episode(Episode {
        faults: vec![Fault {
            kind: "mysqld-kill".to_owned(),
            on: "a-0".to_owned(),
            at: 1_491_000,
            mended: 1_491_000,
        }],
        ended: 2_000_000,
        unhealed: None,
        soon: false,
    }));
    for node in ["a-0", "a-1", "a-2"] {
        let node = node.to_owned();
        let checksums = BTreeMap::from([("chaos.singles".to_owned(), 77)]);
        lines.push(Line::Holds(Holds {
            node,
            checksums,
            ..end.clone()
        }));
    }
    lines.push(Line::End { at: 3_000_000 });
    lines
}
