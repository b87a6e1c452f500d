//! Finds things by id without keeping the ids twice: their numbers, in the order of their ids. Ids are time-ordered, so
//! nearly every new one goes to the end. Small, and fast enough for accounts, which only operators name by id.

/// Numbers of things, in the order of the things' ids.
#[derive(Debug, Clone, Default)]
pub(crate) struct ById(Vec<u32>);

impl ById {
    /// Of so many things that are numbered from 0.
    pub(crate) fn of<K: Ord>(count: usize, id_of: impl Fn(u32) -> Option<K>) -> Self {
        let mut numbers: Vec<u32> = (0..).take(count).collect();
        numbers.sort_by_key(|number| id_of(*number));
        Self(numbers)
    }

    pub(crate) fn find<K: Ord>(&self, id: &K, id_of: impl Fn(u32) -> Option<K>) -> Option<u32> {
        let place = self.place(id, id_of).ok()?;
        self.0.get(place).copied()
    }

    pub(crate) fn insert<K: Ord>(&mut self, number: u32, id: &K, id_of: impl Fn(u32) -> Option<K>) {
        if let Err(place) = self.place(id, id_of) {
            self.0.insert(place, number);
        }
    }

    /// Takes a number out again. It was the last one to come, so it is looked for from the end.
    pub(crate) fn remove(&mut self, number: u32) {
        if let Some(place) = self.0.iter().rposition(|it| *it == number) {
            self.0.remove(place);
        }
    }

    fn place<K: Ord>(&self, id: &K, id_of: impl Fn(u32) -> Option<K>) -> Result<usize, usize> {
        self.0.binary_search_by(|number| id_of(*number).as_ref().cmp(&Some(id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_any_order_are_found_and_taken_out() {
        proptest::proptest!(|(ids in proptest::collection::hash_set(0_u16..1000, 1..60), stays in 0_usize..60)| {
            let ids: Vec<u16> = ids.into_iter().collect();
            let id_of = |number: u32| ids.get(usize::try_from(number).unwrap()).copied();
            let mut index = ById::default();
            for (number, id) in (0..).zip(&ids) {
                index.insert(number, id, id_of);
            }
            let stays = stays.min(ids.len());
            for number in (stays..ids.len()).rev() {
                index.remove(u32::try_from(number).unwrap());
            }
            for (number, id) in (0_u32..).zip(&ids) {
                let found = index.find(id, id_of);
                let expected = (usize::try_from(number).unwrap() < stays).then_some(number);
                proptest::prop_assert_eq!(found, expected);
            }
            proptest::prop_assert_eq!(&index.0, &ById::of(stays, id_of).0);
        });
    }
}
