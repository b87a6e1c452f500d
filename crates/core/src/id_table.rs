//! Finds things by id fast: a hash table of their numbers. A look-up touches the table once and the thing itself once,
//! however many there are, where the sorted list of [`ById`](crate::by_id::ById) touches a dozen other things on the way;
//! it takes 6 to 12 bytes of memory for each thing instead of 4. Credentials are looked up by every registration.

use hashbrown::HashTable;

/// Numbers of things, found by the things' ids. The issuer makes these ids, so nobody can choose them to collide.
#[derive(Debug, Clone, Default)]
pub(crate) struct IdTable(HashTable<u32>);

impl IdTable {
    /// Of so many things that are numbered from 0.
    pub(crate) fn of(count: usize, id_of: impl Fn(u32) -> Option<[u8; 16]>) -> Self {
        let mut table = Self(HashTable::with_capacity(count));
        for number in (0..).take(count) {
            if let Some(id) = id_of(number) {
                table.insert(number, id, &id_of);
            }
        }
        table
    }

    pub(crate) fn find(
        &self,
        id: [u8; 16],
        id_of: impl Fn(u32) -> Option<[u8; 16]>,
    ) -> Option<u32> {
        self.0.find(hash(id), |number| id_of(*number) == Some(id)).copied()
    }

    /// The thing of that number has this id, which no other has.
    pub(crate) fn insert(
        &mut self,
        number: u32,
        id: [u8; 16],
        id_of: impl Fn(u32) -> Option<[u8; 16]>,
    ) {
        let hash_of = |number: &u32| id_of(*number).map_or(0, hash);
        self.0.insert_unique(hash(id), number, hash_of);
    }

    pub(crate) fn remove(&mut self, number: u32, id: [u8; 16]) {
        if let Ok(found) = self.0.find_entry(hash(id), |it| *it == number) {
            found.remove();
        }
    }
}

/// The last eight bytes of an id are random but for two bits; the product spreads them over the whole word.
fn hash(id: [u8; 16]) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = id;
    u64::from_be_bytes([a, b, c, d, e, f, g, h]).wrapping_mul(0x9e37_79b9_7f4a_7c15).swap_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_any_order_are_found_and_taken_out() {
        proptest::proptest!(|(ids in proptest::collection::hash_set(0_u16..1000, 1..60), stays in 0_usize..60)| {
            let ids: Vec<[u8; 16]> = ids.into_iter().map(|it| u128::from(it).to_be_bytes()).collect();
            let id_of = |number: u32| ids.get(usize::try_from(number).unwrap()).copied();
            let mut index = IdTable::default();
            for (number, id) in (0..).zip(&ids) {
                index.insert(number, *id, id_of);
            }
            let stays = stays.min(ids.len());
            for number in (stays..ids.len()).rev() {
                index.remove(u32::try_from(number).unwrap(), ids[number]);
            }
            let again = IdTable::of(stays, id_of);
            for (number, id) in (0_u32..).zip(&ids) {
                let expected = (usize::try_from(number).unwrap() < stays).then_some(number);
                proptest::prop_assert_eq!(index.find(*id, id_of), expected);
                proptest::prop_assert_eq!(again.find(*id, id_of), expected);
            }
        });
    }
}
