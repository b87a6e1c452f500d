//! How often a credential may register, or answer a question: one statement in two seconds, bursts of five. The very
//! same statement again does not count, because a terminal repeats it until it holds the issuer's answer; `under_way`
//! bounds how many of those go on at a time.
//!
//! Law: only credentials whose signature was checked get here, so nobody uses up another's share. In memory
//! and bounded; what is forgotten is forgotten in favour of the payer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use warifu_proto::id::CredentialId;

/// One statement in this time.
const PERIOD: Duration = Duration::from_secs(2);
/// How many may come at once.
const BURST: u32 = 5;
/// Statements remembered per credential: more than can be live at once (a burst of five and their repeats).
const RECENT: usize = 8;
/// Credentials remembered: about 200 bytes each, and a credential matters for ten seconds only.
const CREDENTIALS_MAX: usize = 1 << 17;

#[derive(Debug)]
struct Share {
    /// When the share will be whole again; the whole of a token bucket in one number.
    whole_at: Instant,
    recent: [Option<[u8; 16]>; RECENT],
    next: usize,
}

/// The shares of all credentials.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    shares: HashMap<CredentialId, Share>,
}

impl Rates {
    /// Takes a token for a statement, unless it was seen just now.
    ///
    /// # Errors
    /// How long to wait.
    pub(crate) fn take(
        &mut self,
        credential: CredentialId,
        statement_digest: &[u8; 32],
        now: Instant,
    ) -> Result<(), Duration> {
        let [digest, _] = halves(statement_digest);
        if self.shares.len() >= CREDENTIALS_MAX && !self.shares.contains_key(&credential) {
            self.forget(now);
        }
        let share = match self.shares.entry(credential) {
            Entry::Occupied(share) => share.into_mut(),
            Entry::Vacant(place) => {
                place.insert(Share { whole_at: now, recent: [None; RECENT], next: 0 })
            }
        };
        if share.recent.contains(&Some(digest)) {
            return Ok(());
        }
        let taken = share.whole_at.saturating_duration_since(now);
        let most = PERIOD * (BURST - 1);
        if taken > most {
            return Err(taken - most);
        }
        share.whole_at = now + taken + PERIOD;
        if let Some(place) = share.recent.get_mut(share.next) {
            *place = Some(digest);
        }
        share.next = (share.next + 1) % RECENT;
        Ok(())
    }

    /// Drops whole shares; all of them if that does not help.
    fn forget(&mut self, now: Instant) {
        self.shares.retain(|_, share| share.whole_at > now);
        if self.shares.len() >= CREDENTIALS_MAX {
            self.shares.clear();
        }
    }
}

fn halves(digest: &[u8; 32]) -> [[u8; 16]; 2] {
    let mut both = [[0; 16]; 2];
    both.iter_mut().flatten().zip(digest).for_each(|(to, from)| *to = *from);
    both
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: CredentialId = CredentialId::from_raw([1; 16]);

    fn statement(number: u8) -> [u8; 32] {
        [number; 32]
    }

    #[test]
    fn five_at_once_then_one_in_two_seconds() {
        let start = Instant::now();
        let mut rates = Rates::default();
        for number in 0..5 {
            assert_eq!(rates.take(ONE, &statement(number), start), Ok(()));
        }
        assert_eq!(rates.take(ONE, &statement(5), start), Err(Duration::from_secs(2)));
        let later = start + Duration::from_millis(1999);
        assert_eq!(rates.take(ONE, &statement(5), later), Err(Duration::from_millis(1)));
        let later = start + Duration::from_secs(2);
        assert_eq!(rates.take(ONE, &statement(5), later), Ok(()));
        assert!(rates.take(ONE, &statement(6), later).is_err());
        let much_later = start + Duration::from_secs(60);
        for number in 10..15 {
            assert_eq!(rates.take(ONE, &statement(number), much_later), Ok(()));
        }
        assert!(rates.take(ONE, &statement(15), much_later).is_err());
    }

    #[test]
    fn the_same_statement_does_not_count_even_when_the_share_is_used_up() {
        let now = Instant::now();
        let mut rates = Rates::default();
        for number in 0..5 {
            for _ in 0..20 {
                assert_eq!(rates.take(ONE, &statement(number), now), Ok(()));
            }
        }
        assert!(rates.take(ONE, &statement(5), now).is_err());
        assert_eq!(rates.take(ONE, &statement(4), now), Ok(()));
    }

    #[test]
    fn credentials_do_not_share() {
        let now = Instant::now();
        let mut rates = Rates::default();
        for number in 0..5 {
            assert_eq!(rates.take(ONE, &statement(number), now), Ok(()));
        }
        assert_eq!(rates.take(CredentialId::from_raw([2; 16]), &statement(9), now), Ok(()));
    }

    #[test]
    fn memory_is_bounded() {
        let now = Instant::now();
        let mut rates = Rates::default();
        for number in 0..u32::try_from(CREDENTIALS_MAX).unwrap() + 10 {
            let mut raw = [0; 16];
            raw[..4].copy_from_slice(&number.to_be_bytes());
            assert_eq!(rates.take(CredentialId::from_raw(raw), &statement(1), now), Ok(()));
        }
        assert!(rates.shares.len() <= CREDENTIALS_MAX);
    }
}
