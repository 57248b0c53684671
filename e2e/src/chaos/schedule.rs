//! Which fault comes when: episodes of one to three faults, each from calm to calm, until the time is over.

use std::{collections::BTreeSet, ops::Range, time::Duration};

use anyhow::{Context, Result};
use history::{Episode, Fault, Line};
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use tokio::time::sleep;

use super::{
    kinds::{Done, Field, KINDS, Kind},
    recorder::Recorder,
};
use crate::{
    clock::Clock,
    install, machines,
    screen::{Screen, Tone},
};

/// How long after the last fault is mended everything must be Ready again. The kubelet's back-off for a program that
/// was killed again and again is part of it.
const HEALED: Duration = Duration::from_mins(4);
/// How long the status may still call all well after a fault that nobody has noticed yet.
pub const NOTICED: Duration = Duration::from_millis(1500);
/// How likely one more fault comes before the former is over.
const ANOTHER: f64 = 0.35;
const MOST: usize = 3;
/// Between two faults of one episode.
const BETWEEN_MS: u64 = 2000;
/// Between two episodes: calm is also that kube-proxy, which works once a second, has carried out what changed last.
const REST_MS: Range<u64> = 1100..1900;
/// How likely the next episode does not wait for that, and begins so soon.
const SOON: f64 = 0.25;
const SOON_MS: Range<u64> = 0..800;

/// Makes faults until `end`.
pub async fn run(
    field: &Field<'_>,
    recorder: &Recorder,
    screen: &Screen,
    (clock, end): (Clock, Duration),
    (seed, only): (u64, &[String]),
) -> Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let kinds = wanted(only)?;
    let mut faults = 0;
    let mut soon = false;
    while clock.at() < end {
        let episode = episode(field, recorder, screen, (&mut random, &kinds), soon).await?;
        faults += episode.faults.len();
        tell(screen, clock, recorder, &episode, faults);
        let unhealed = episode.unhealed.is_some();
        if !episode.faults.is_empty() {
            recorder.line(Line::Episode(episode));
        }
        if unhealed {
            // What follows would only be the same fault again.
            break;
        }
        soon = random.random_bool(SOON);
        let rest = random.random_range(if soon { SOON_MS } else { REST_MS });
        sleep(Duration::from_millis(rest)).await;
    }
    Ok(())
}

async fn episode(
    field: &Field<'_>,
    recorder: &Recorder,
    screen: &Screen,
    (random, kinds): (&mut ChaCha8Rng, &[&'static Kind]),
    soon: bool,
) -> Result<Episode> {
    let mut count = 1;
    while count < MOST.min(kinds.len()) && random.random_bool(ANOTHER) {
        count += 1;
    }
    let mut faults: Vec<Fault> = Vec::new();
    let mut open: Vec<(usize, u64, Done)> = Vec::new();
    let mut chosen = BTreeSet::new();
    for number in 0..count {
        if number > 0 {
            sleep(Duration::from_millis(random.random_range(0..BETWEEN_MS))).await;
        }
        let kind = choose(random, kinds, &chosen);
        chosen.insert(kind.name);
        let at = recorder.now();
        let done = match field.inflict(kind, random).await {
            Ok(done) => done,
            // Mostly there is nobody it could be done to, because of the faults before it.
            Err(error) => {
                let text = format!("          {} is left out: {error:#}", kind.name);
                screen.line(&screen.paint(Tone::Dim, &text));
                continue;
            }
        };
        faults.push(Fault {
            kind: done.kind.clone(),
            on: done.on.clone(),
            at,
            mended: at,
        });
        let due = recorder.now() + u64::try_from(done.lasts.as_micros()).unwrap_or(0);
        open.push((faults.len() - 1, due, done));
    }
    open.sort_by_key(|(_, due, _)| *due);
    for (fault, due, done) in open {
        if due > recorder.now() {
            sleep(Duration::from_micros(due - recorder.now())).await;
        }
        if field.mend(&done.remedy).await.is_err() {
            // A pod that is gone cannot be mended one by one.
            machines::mend_all(field.target).await?;
        }
        faults[fault].mended = faults[fault].mended.max(recorder.now());
    }
    if !faults.is_empty() {
        sleep(NOTICED).await;
    }
    let unhealed = healed(field, recorder, HEALED)
        .await
        .err()
        .map(|error| format!("{error:#}"));
    Ok(Episode {
        faults,
        ended: recorder.now(),
        unhealed,
        soon,
    })
}

/// Every node Ready, an operator leading, and writes acknowledged.
pub async fn healed(field: &Field<'_>, recorder: &Recorder, bound: Duration) -> Result<()> {
    // While no operator leads, the status still tells what was before.
    install::wait_ready_after_kills(&field.database.client).await?;
    // A pod that is to be deleted may still be among those that the status counts.
    field.database.wait_pods_ready(bound).await?;
    field.database.wait_healthy(bound).await?;
    let goal = recorder.acknowledged() + 50;
    crate::wait::until("acknowledged writes", Duration::from_secs(30), async || {
        let now = recorder.acknowledged();
        Ok(if now >= goal {
            crate::wait::Seen::Done(())
        } else {
            crate::wait::Seen::NotYet(format!("{now} of {goal}"))
        })
    })
    .await
}

/// The kinds of these names; all where none is named.
fn wanted(names: &[String]) -> Result<Vec<&'static Kind>> {
    if names.is_empty() {
        return Ok(KINDS.iter().collect());
    }
    let of_name = |name: &String| {
        KINDS.iter().find(|kind| kind.name == name).with_context(|| {
            let all: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
            format!("there is no kind of fault {name}; there are {}", all.join(", "))
        })
    };
    names.iter().map(of_name).collect()
}

fn choose(random: &mut ChaCha8Rng, kinds: &[&'static Kind], without: &BTreeSet<&str>) -> &'static Kind {
    let left: Vec<&'static Kind> = kinds
        .iter()
        .copied()
        .filter(|kind| !without.contains(kind.name))
        .collect();
    left.choose_weighted(random, |kind| kind.weight)
        .expect("an episode has fewer faults than there are kinds, and every weight is above zero")
}

fn tell(screen: &Screen, clock: Clock, recorder: &Recorder, episode: &Episode, faults: usize) {
    let names: Vec<String> = episode
        .faults
        .iter()
        .map(|fault| format!("{} ({})", fault.kind, fault.on))
        .collect();
    let from = episode.faults.first().map_or(episode.ended, |fault| fault.at);
    let text = format!(
        "  {:>5} s  {faults:>4} faults {:>8} writes  {}: calm after {:.1} s",
        clock.at().as_secs(),
        recorder.acknowledged(),
        names.join(" + "),
        Duration::from_micros(episode.ended - from).as_secs_f64(),
    );
    match &episode.unhealed {
        None => screen.line(&text),
        Some(what) => screen.line(&screen.paint(Tone::Bad, &format!("{text}\n         not healed: {what}"))),
    }
}
