//! Which rule catches which mutant, and after how many events.
fn main() {
    for mutant in simulation::Mutant::ALL {
        let mut events = 0;
        let mut found = None;
        for seed in 0..20000 {
            let out = simulation::run::run(seed, Some(mutant));
            events += out.events;
            if let Some(f) = out.failure.filter(|f| {
                !matches!(
                    f.invariant,
                    simulation::Invariant::WritableAgain | simulation::Invariant::AllReadyAndEqual
                )
            }) {
                found = Some((seed, f.invariant, f.what));
                break;
            }
        }
        match found {
            Some((seed, i, w)) => println!(
                "{mutant:?}: {i:?} seed {seed} events {events}: {}",
                w.chars().take(100).collect::<String>()
            ),
            None => println!("{mutant:?}: NOT CAUGHT in {events}"),
        }
    }
}
