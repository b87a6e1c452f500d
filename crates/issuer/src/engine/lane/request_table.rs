//! Which partition remembers a request id: ids are unique per merchant, whatever the partition.
//!
//! A hash table that grows moves all that it has. With half a million ids in one table the lane stood still for 50 ms at a
//! time, so there are many small ones, which grow one after another.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use warifu_proto::id::MerchantId;
use warifu_proto::request_id::RequestId;
use warifu_server::chance;

/// A caller, and what it calls its request.
pub(super) type Key = (MerchantId, RequestId);

/// How many tables there are: of half a million ids each has some thousands.
const TABLES: usize = 128;

/// See the module.
#[derive(Debug)]
pub(super) struct RequestTable(Vec<HashMap<Key, u8, FixedState>>);

impl RequestTable {
    pub(super) fn new() -> Self {
        // Callers choose request ids: they must not be able to choose ids that collide.
        let hasher = FixedState::with_seed(u64::from_ne_bytes(chance::bytes()));
        Self((0..TABLES).map(|_| HashMap::with_hasher(hasher.clone())).collect())
    }

    pub(super) fn get(&self, key: &Key) -> Option<u8> {
        self.0.get(table_of(key))?.get(key).copied()
    }

    /// Gives back the partition that remembered it before.
    pub(super) fn insert(&mut self, key: Key, partition: u8) -> Option<u8> {
        self.table(&key).insert(key, partition)
    }

    pub(super) fn insert_if_new(&mut self, key: Key, partition: u8) {
        self.table(&key).entry(key).or_insert(partition);
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.table(key).remove(key);
    }

    fn table(&mut self, key: &Key) -> &mut HashMap<Key, u8, FixedState> {
        let at = table_of(key);
        self.0.get_mut(at).expect("a table for every remainder")
    }
}

/// By the end of the id, where ids that are counted or made of a clock and chance differ. Whoever makes them all alike
/// there has one large table, as if there were no others.
fn table_of((_, request): &Key) -> usize {
    let end = request.as_str().bytes().rev().take(4);
    end.fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte))) % TABLES
}

#[cfg(test)]
mod tests {
    use super::*;
    use warifu_server::clock;

    #[test]
    fn what_was_put_in_is_found_by_caller_and_id_and_taken_out() {
        let (one, other): (MerchantId, MerchantId) =
            (chance::id(clock::now()), chance::id(clock::now()));
        let key = |caller, number: u32| (caller, RequestId::parse(&format!("o{number}")).unwrap());
        let mut table = RequestTable::new();
        for number in 0..2_000 {
            assert_eq!(table.insert(key(one, number), 1), None);
        }
        table.insert_if_new(key(one, 7), 3);
        assert_eq!((table.get(&key(one, 7)), table.get(&key(other, 7))), (Some(1), None));
        assert_eq!(table.insert(key(one, 7), 2), Some(1));
        table.remove(&key(one, 8));
        let found = (0..2_000).filter(|number| table.get(&key(one, *number)).is_some());
        assert_eq!(found.count(), 1_999);
    }

    #[test]
    fn counted_ids_and_ids_of_chance_are_spread_over_the_tables() {
        let of_chance =
            (0..4_096).map(|_| chance::id::<warifu_proto::id::PaymentKind>(clock::now()));
        let of_chance: Vec<_> = of_chance.map(|it| it.to_string()).collect();
        let counted = (0..4_096).map(|number| format!("till1-{number}")).collect();
        for ids in [of_chance, counted] {
            let mut counts = [0_usize; TABLES];
            for id in ids {
                counts[table_of(&(chance::id(clock::now()), RequestId::parse(&id).unwrap()))] += 1;
            }
            let most = counts.iter().max().copied().unwrap();
            assert!(most < 4 * 4_096 / TABLES, "{most}");
        }
    }
}
