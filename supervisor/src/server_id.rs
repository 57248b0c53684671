//! The id under which the servers of a node replicate.
//!
//! A master counts acknowledgements by it and keeps those of servers that are gone. So a node has one for good, whatever
//! becomes of its process and its volume: under a second one it would acknowledge the same transaction twice.

/// Of no server but those of this node; never zero.
///
/// The nodes of a database differ in the number at the end of their names, which is kept as it is. The rest is drawn from
/// the name, so that servers outside of the database, which may replicate from it, are not likely to have the same.
pub fn of(node: &str) -> u32 {
    let (database, number) = node
        .rsplit_once('-')
        .and_then(|(database, number)| Some((database, number.parse::<u32>().ok()?)))
        .unwrap_or((node, 0));
    (fnv1a(database) & !NUMBERS) | (number + 1) & NUMBERS
}

/// The bits for the number. A database has nine nodes at most.
const NUMBERS: u32 = 0xF;

/// The hash of Fowler, Noll and Vo, which stays the same with every release.
fn fnv1a(text: &str) -> u32 {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    text.bytes().fold(0x811C_9DC5, step)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_node_has_an_id_of_its_own_that_stays() {
        assert_eq!(fnv1a("foobar"), 0xBF9C_F968, "as published");
        let ids: BTreeSet<u32> = (0..9).map(|number| of(&format!("shop-{number}"))).collect();
        assert_eq!(ids.len(), 9);
        assert!(!ids.contains(&0) && !ids.contains(&of("shop-b-0")));
        assert_ne!(of("a"), of("b"));
    }
}
