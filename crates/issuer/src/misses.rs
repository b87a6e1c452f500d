//! Counts codes that do not exist, against guessing: 20 in 60 s per reader, 100 per merchant, then a pause until the
//! minute is over. Lives in memory: a restart forgives.

use std::collections::HashMap;

use warifu_proto::id::{MerchantId, ReaderId};
use warifu_proto::time::Timestamp;

const WINDOW_MS: u64 = 60_000;
pub(crate) const PER_READER_MAX: u32 = 20;
pub(crate) const PER_MERCHANT_MAX: u32 = 100;
/// Counters that are kept; old ones are dropped when there are more.
const KEPT_MAX: usize = 100_000;

#[derive(Debug, Clone, Copy)]
struct Count {
    since: Timestamp,
    misses: u32,
}

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct Misses {
    readers: HashMap<ReaderId, Count>,
    merchants: HashMap<MerchantId, Count>,
}

impl Misses {
    /// Counts one.
    pub(crate) fn count(&mut self, reader: ReaderId, merchant: MerchantId, now: Timestamp) {
        count(&mut self.readers, reader, now);
        count(&mut self.merchants, merchant, now);
    }

    /// How long this reader has to wait; nothing when it may go on.
    pub(crate) fn blocked_for_ms(
        &self,
        reader: ReaderId,
        merchant: MerchantId,
        now: Timestamp,
    ) -> Option<u64> {
        let reader = self.readers.get(&reader).filter(|it| it.misses >= PER_READER_MAX);
        let merchant = self.merchants.get(&merchant).filter(|it| it.misses >= PER_MERCHANT_MAX);
        let until =
            [reader, merchant].into_iter().flatten().map(|it| it.since.plus_ms(WINDOW_MS)).max()?;
        (now < until).then(|| until.since_ms(now))
    }
}

fn count<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, Count>, key: K, now: Timestamp) {
    if counts.len() >= KEPT_MAX {
        counts.retain(|_, it| now.since_ms(it.since) < WINDOW_MS);
    }
    let count = counts.entry(key).or_insert(Count { since: now, misses: 0 });
    if now.since_ms(count.since) >= WINDOW_MS {
        *count = Count { since: now, misses: 0 };
    }
    count.misses = count.misses.saturating_add(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_twentieth_miss_of_a_reader_blocks_it_until_the_minute_is_over() {
        let (reader, other) = (ReaderId::from_raw([1; 16]), ReaderId::from_raw([2; 16]));
        let merchant = MerchantId::from_raw([3; 16]);
        let at = |ms: u64| Timestamp::from_ms(1_000_000 + ms);
        let mut misses = Misses::default();
        for _ in 0..20 {
            assert_eq!(misses.blocked_for_ms(reader, merchant, at(0)), None);
            misses.count(reader, merchant, at(0));
        }
        assert_eq!(misses.blocked_for_ms(reader, merchant, at(1)), Some(59_999));
        assert_eq!(misses.blocked_for_ms(other, merchant, at(1)), None);
        assert_eq!(misses.blocked_for_ms(reader, merchant, at(60_000)), None);
        for it in 0..80_u8 {
            misses.count(ReaderId::from_raw([it; 16]), merchant, at(2));
        }
        assert_eq!(
            misses.blocked_for_ms(other, merchant, at(2)),
            Some(59_998),
            "the merchant's hundredth"
        );
    }
}
