fn main() {
    let mut args = std::env::args().skip(1);
    let from: u64 = args.next().unwrap().parse().unwrap();
    let to: u64 = args.next().unwrap().parse().unwrap();
    let began = std::time::Instant::now();
    let (mut events, mut blocked, mut terms, mut acked, mut bad) = (0, 0, 0, 0, 0);
    let mut kinds = std::collections::BTreeMap::new();
    for seed in from..to {
        let out = simulation::run::run(seed, None);
        events += out.events;
        blocked += u64::from(out.blocked);
        terms += out.terms;
        acked += out.acknowledged;
        if let Some(f) = out.failure {
            bad += 1;
            let n = kinds.entry(format!("{:?}", f.invariant)).or_insert(0);
            *n += 1;
            if *n <= 1 && std::env::var("SHRINK").is_ok_and(|w| w == format!("{:?}", f.invariant)) {
                let small = simulation::run::shrink(&f);
                if let Ok(to) = std::env::var("SAVE") {
                    std::fs::write(to, serde_json::to_string(&small).unwrap()).unwrap();
                }
                println!(
                    "{seed} {:?} {} {:?} {}",
                    small.beginning, 0, small.invariant, small.what
                );
                for e in &small.events {
                    println!("   {e:?}");
                }
            }
            if *n <= 2 {
                println!("{seed} {:?} {} ({})", f.invariant, f.what, f.events.len());
            }
        }
    }
    println!(
        "{events} events, {bad} bad {kinds:?}, blocked {blocked}, terms {terms}, acked {acked}, {} ev/s",
        (events as f64 / began.elapsed().as_secs_f64()) as u64
    );
}
