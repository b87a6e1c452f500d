//! Ids of things that live in a partition carry it, so that a call which has only the id finds its lane.
//!
//! They are UUIDs version 7 whose twelve bits after the version begin with the partition in seven.

use warifu_proto::id::{Id, Kind};
use warifu_proto::time::Timestamp;

/// Makes an id of a thing in a partition (0–99).
pub fn id_in<K: Kind>(partition: u8, at: Timestamp, random: [u8; 8]) -> Id<K> {
    let [a, b] = u16::from(partition).checked_shl(5).unwrap_or_default().to_be_bytes();
    let [r0, r1, r2, r3, r4, r5, r6, r7] = random;
    Id::new(at, [a, b, r0, r1, r2, r3, r4, r5, r6, r7])
}

/// Reads the partition; nothing when no issuer made the id.
pub fn partition_of<K: Kind>(id: Id<K>) -> Option<u8> {
    let [_, _, _, _, _, _, a, b, ..] = id.raw();
    let partition = u8::try_from(u16::from_be_bytes([a & 0x0f, b]).checked_shr(5)?).ok()?;
    (partition < 100).then_some(partition)
}

#[cfg(test)]
mod tests {
    use super::*;
    use warifu_proto::id::AccountId;

    #[test]
    fn every_partition_comes_back() {
        for partition in 0..100 {
            let id: AccountId = id_in(partition, Timestamp::from_ms(1_795_305_600_000), [255; 8]);
            assert_eq!(partition_of(id), Some(partition));
            assert_eq!(partition_of(AccountId::parse(&id.to_string()).unwrap()), Some(partition));
        }
        assert_eq!(partition_of(AccountId::from_raw([255; 16])), None);
    }
}
