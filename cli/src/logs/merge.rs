//! Lines of several parts in the order of their moments. Parts arrive at different speeds, so a line is held until
//! it has been here for a while; what comes later still is printed late rather than never.

use std::time::{Duration, Instant};

use super::line::Line;

/// Lines that are held.
#[derive(Default)]
pub struct Merge {
    held: Vec<(Instant, Line)>,
}

impl Merge {
    /// Takes in a line that arrived at `now`.
    pub fn push(&mut self, line: Line, now: Instant) {
        self.held.push((now, line));
    }

    /// Gives, in order, the lines up to the newest that has been held for `patience`.
    pub fn ripe(&mut self, now: Instant, patience: Duration) -> Vec<Line> {
        let newest = self
            .held
            .iter()
            .filter(|(arrived, _)| now.duration_since(*arrived) >= patience)
            .map(|(_, line)| line.at)
            .max();
        let Some(newest) = newest else { return Vec::new() };
        let (ripe, held) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|(_, line)| line.at <= newest);
        self.held = held;
        ordered(ripe)
    }

    /// Gives all lines, in order.
    pub fn all(self) -> Vec<Line> {
        ordered(self.held)
    }
}

/// Stable: lines of one part keep their order.
fn ordered(lines: Vec<(Instant, Line)>) -> Vec<Line> {
    let mut lines: Vec<Line> = lines.into_iter().map(|(_, line)| line).collect();
    lines.sort_by_key(|line| line.at);
    lines
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::clock;

    fn line(second: i64, text: &str) -> Line {
        Line {
            at: Timestamp::from_second(second).unwrap(),
            part: "p".to_owned(),
            text: text.to_owned(),
        }
    }

    fn texts(lines: Vec<Line>) -> Vec<String> {
        lines.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn lines_come_in_the_order_of_their_moments() {
        let mut merge = Merge::default();
        let now = clock::now();
        for (second, text) in [(3, "c"), (1, "a"), (2, "b"), (1, "a2")] {
            merge.push(line(second, text), now);
        }
        assert_eq!(texts(merge.all()), ["a", "a2", "b", "c"]);
    }

    #[test]
    fn a_line_is_held_until_slower_parts_had_their_time() {
        let mut merge = Merge::default();
        let (begun, patience) = (clock::now(), Duration::from_millis(500));
        merge.push(line(5, "late"), begun);
        assert!(merge.ripe(begun, patience).is_empty());
        let later = begun + patience;
        merge.push(line(4, "early"), later);
        merge.push(line(9, "next"), later);
        assert_eq!(texts(merge.ripe(later, patience)), ["early", "late"]);
        assert_eq!(texts(merge.all()), ["next"]);
    }
}
