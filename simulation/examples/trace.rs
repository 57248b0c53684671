//! Prints what happens in a replay, event by event.
use simulation::{World, run::Replay};
fn main() {
    let text = std::fs::read_to_string(std::env::args().nth(1).unwrap()).unwrap();
    let from: usize = std::env::args().nth(2).unwrap().parse().unwrap();
    let replay: Replay = serde_json::from_str(&text).unwrap();
    let mut world = World::new(replay.beginning, replay.mutant);
    for (at, event) in replay.events.iter().enumerate() {
        world.apply(*event);
        if at >= from {
            println!(
                "{at} {event:?} acked {} wires {:?}",
                world.ledger.acknowledged.iter().count(),
                world
                    .wires
                    .iter()
                    .map(|w| (w.node, w.command.term, &w.command.order))
                    .collect::<Vec<_>>()
            );
            println!("      {}", world.picture());
        }
    }
    let mut n = 0;
    println!("{:?}", world.recover(&mut n));
    println!("{}", world.picture());
}
