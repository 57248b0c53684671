//! Sets of MySQL global transaction identifiers and their algebra.
//!
//! A set maps each source (a server UUID, with its tag where it has one) to sorted, disjoint, inclusive
//! intervals of transaction numbers. It is the only measure of "how much a node holds" in this project; log
//! file positions are never compared.

use std::{collections::BTreeMap, fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An inclusive range of transaction numbers, both ends at least 1.
type Interval = (u64, u64);

/// The origin of transactions: the UUID of the server that committed them and, since MySQL 8.4, a tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    uuid: String,
    tag: Option<String>,
}

/// A set of transactions, in MySQL's text form on the wire: `uuid:1-5:7,uuid:tag:1-3`.
///
/// The empty set is the empty string. Parsing accepts every form that MySQL prints, with line breaks and in any
/// order; printing is canonical, so that equal sets print alike.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct GtidSet {
    origins: BTreeMap<Origin, Vec<Interval>>,
}

/// A text that is no GTID set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a GTID set at {part:?}: {why}")]
pub struct ParseError {
    part: String,
    why: &'static str,
}

impl GtidSet {
    /// The set without transactions.
    pub fn new() -> Self {
        Self::default()
    }

    /// True when the set holds no transaction at all.
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    /// How many transactions the set holds.
    pub fn count(&self) -> u64 {
        self.origins
            .values()
            .flatten()
            .map(|(from, to)| to - from + 1)
            .sum()
    }

    /// Adds the transactions `from..=to` of `uuid`; for building sets in code and tests.
    #[must_use]
    pub fn with(mut self, uuid: &str, from: u64, to: u64) -> Self {
        let origin = Origin {
            uuid: uuid.to_ascii_lowercase(),
            tag: None,
        };
        insert(self.origins.entry(origin).or_default(), (from, to));
        self
    }

    /// True when every transaction of `other` is in this set.
    pub fn contains(&self, other: &Self) -> bool {
        other.origins.iter().all(|(origin, theirs)| {
            let ours = self.origins.get(origin).map_or(&[][..], Vec::as_slice);
            theirs
                .iter()
                .all(|(from, to)| ours.iter().any(|(a, b)| a <= from && to <= b))
        })
    }

    /// All transactions of either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        for (origin, intervals) in &other.origins {
            let ours = all.origins.entry(origin.clone()).or_default();
            for interval in intervals {
                insert(ours, *interval);
            }
        }
        all
    }

    /// The transactions of this set that `other` lacks.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        let mut rest = BTreeMap::new();
        for (origin, ours) in &self.origins {
            let theirs = other.origins.get(origin).map_or(&[][..], Vec::as_slice);
            let left: Vec<Interval> = ours.iter().flatten_difference(theirs);
            if !left.is_empty() {
                rest.insert(origin.clone(), left);
            }
        }
        Self { origins: rest }
    }

    /// The set with its first intervals only, so many at most.
    #[must_use]
    pub fn first(mut self, mut intervals: usize) -> Self {
        for ours in self.origins.values_mut() {
            ours.truncate(intervals);
            intervals -= ours.len();
        }
        self.origins.retain(|_, ours| !ours.is_empty());
        self
    }

    /// The set without anything that the server `uuid` committed, under whatever tag.
    #[must_use]
    pub fn without_server(&self, uuid: &str) -> Self {
        let mut rest = self.clone();
        rest.origins
            .retain(|origin, _| !origin.uuid.eq_ignore_ascii_case(uuid));
        rest
    }
}

trait FlattenDifference {
    fn flatten_difference(self, holes: &[Interval]) -> Vec<Interval>;
}

impl<'a, I: Iterator<Item = &'a Interval>> FlattenDifference for I {
    fn flatten_difference(self, holes: &[Interval]) -> Vec<Interval> {
        self.flat_map(|whole| difference(*whole, holes)).collect()
    }
}

/// What is left of one interval after sorted, disjoint `holes` are cut out of it.
fn difference((mut from, to): Interval, holes: &[Interval]) -> Vec<Interval> {
    let mut left = Vec::new();
    let whole = from;
    for &(a, b) in holes.iter().filter(|(a, b)| *b >= whole && *a <= to) {
        if a > from {
            left.push((from, a - 1));
        }
        from = b.saturating_add(1);
    }
    if from <= to {
        left.push((from, to));
    }
    left
}

/// Adds an interval to a sorted, disjoint list and joins what touches.
fn insert(intervals: &mut Vec<Interval>, (mut from, mut to): Interval) {
    intervals.retain(|&(a, b)| {
        let apart = b.saturating_add(1) < from || to.saturating_add(1) < a;
        if !apart {
            from = from.min(a);
            to = to.max(b);
        }
        apart
    });
    let at = intervals.partition_point(|(a, _)| *a < from);
    intervals.insert(at, (from, to));
}

impl FromStr for GtidSet {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut set = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let fail = |why| ParseError {
                part: part.to_owned(),
                why,
            };
            let mut fields = part.split(':').map(str::trim);
            let uuid = fields
                .next()
                .filter(|uuid| is_uuid(uuid))
                .ok_or(fail("a server UUID must come first"))?;
            let mut origin = Origin {
                uuid: uuid.to_ascii_lowercase(),
                tag: None,
            };
            let mut intervals = 0;
            for field in fields {
                if field.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                    origin.tag = Some(field.to_ascii_lowercase());
                    continue;
                }
                let interval =
                    parse_interval(field).ok_or(fail("an interval is N or N-M with 1 <= N <= M"))?;
                insert(set.origins.entry(origin.clone()).or_default(), interval);
                intervals += 1;
            }
            if intervals == 0 {
                return Err(fail("no interval follows the UUID"));
            }
        }
        Ok(set)
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn parse_interval(field: &str) -> Option<Interval> {
    let (from, to) = field.split_once('-').unwrap_or((field, field));
    let interval = (from.trim().parse().ok()?, to.trim().parse().ok()?);
    (1 <= interval.0 && interval.0 <= interval.1).then_some(interval)
}

impl fmt::Display for GtidSet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (origin, intervals)) in self.origins.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(out, "{comma}{}", origin.uuid)?;
            if let Some(tag) = &origin.tag {
                write!(out, ":{tag}")?;
            }
            for (from, to) in intervals {
                if from == to {
                    write!(out, ":{from}")?;
                } else {
                    write!(out, ":{from}-{to}")?;
                }
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for GtidSet {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<GtidSet> for String {
    fn from(set: GtidSet) -> Self {
        set.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(text: &str) -> GtidSet {
        text.parse().unwrap()
    }

    #[test]
    fn prints_what_mysql_prints_in_canonical_form() {
        let text = format!("{}:7:1-5,\n{B}:2", A.to_uppercase());
        assert_eq!(set(&text).to_string(), format!("{A}:1-5:7,{B}:2"));
        assert_eq!(set(&format!("{A}:1-5:6-9")).to_string(), format!("{A}:1-9"));
        assert_eq!(set("").to_string(), "");
    }

    #[test]
    fn tagged_transactions_are_kept_apart_from_untagged_ones() {
        let tagged = set(&format!("{A}:1-3:backup:1-2"));
        assert_eq!(tagged.to_string(), format!("{A}:1-3,{A}:backup:1-2"));
        assert!(!set(&format!("{A}:1-9")).contains(&tagged));
        assert_eq!(tagged.without_server(A), GtidSet::new());
    }

    #[test]
    fn the_first_intervals_are_those_of_the_first_origins() {
        let all = set(&format!("{A}:1-3:5-6,{B}:2:4"));
        assert_eq!(all.clone().first(3), set(&format!("{A}:1-3:5-6,{B}:2")));
        assert_eq!(all.clone().first(1), set(&format!("{A}:1-3")));
        assert_eq!(all.clone().first(9), all);
        assert!(all.first(0).is_empty());
    }

    #[test]
    fn refuses_what_is_no_set() {
        for text in [
            "nonsense",
            A,
            "3e11fa47:1",
            &format!("{A}:0"),
            &format!("{A}:5-3"),
            &format!("{A}:1-x"),
        ] {
            assert!(text.parse::<GtidSet>().is_err(), "{text}");
        }
    }

    #[test]
    fn travels_as_text() {
        let whole = set(&format!("{A}:1-5"));
        let json = serde_json::to_string(&whole).unwrap();
        assert_eq!(json, format!("\"{A}:1-5\""));
        assert_eq!(serde_json::from_str::<GtidSet>(&json).unwrap(), whole);
    }

    fn numbers() -> impl Strategy<Value = BTreeSet<u64>> {
        prop::collection::btree_set(1_u64..40, 0..25)
    }

    fn of(numbers: &BTreeSet<u64>) -> GtidSet {
        numbers.iter().fold(GtidSet::new(), |set, n| set.with(A, *n, *n))
    }

    proptest! {
        #[test]
        fn the_algebra_is_that_of_plain_sets(a in numbers(), b in numbers()) {
            let (x, y) = (of(&a), of(&b));
            prop_assert_eq!(x.union(&y), of(&(&a | &b)));
            prop_assert_eq!(x.subtract(&y), of(&(&a - &b)));
            prop_assert_eq!(x.contains(&y), a.is_superset(&b));
            prop_assert_eq!(x.count(), a.len() as u64);
            prop_assert_eq!(x.to_string().parse::<GtidSet>().unwrap(), x);
        }
    }
}
