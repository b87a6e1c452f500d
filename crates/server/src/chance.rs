//! Randomness: the operating system's, by aws-lc. The only place that draws it.

use aws_lc_rs::rand;
use warifu_proto::id::{Id, Kind};
use warifu_proto::key::PrivateKey;
use warifu_proto::time::Timestamp;
use zeroize::Zeroizing;

/// Draws `N` random bytes.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut drawn = [0; N];
    // A process without randomness can make neither keys nor nonces: stopping is the only safe answer.
    rand::fill(&mut drawn).expect("the operating system gives random bytes");
    drawn
}

/// Makes a new private key (about 20 µs).
pub fn key() -> PrivateKey {
    loop {
        // One draw in 2^32 is not below the order of the curve and is drawn again.
        let scalar = Zeroizing::new(bytes::<32>());
        if let Ok(key) = PrivateKey::from_bytes(&scalar) {
            return key;
        }
    }
}

/// Makes a new id: time-ordered, ten random bytes.
pub fn id<K: Kind>(now: Timestamp) -> Id<K> {
    Id::new(now, bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use warifu_proto::id::PaymentKind;

    #[test]
    fn draws_differ_and_ids_follow_the_time() {
        assert_ne!(bytes::<16>(), bytes::<16>());
        assert_ne!(key().thumbprint(), key().thumbprint());
        let (early, late) = (Timestamp::from_ms(1_000_000), Timestamp::from_ms(1_000_001));
        assert!(id::<PaymentKind>(early) < id::<PaymentKind>(late));
        assert_ne!(id::<PaymentKind>(early), id::<PaymentKind>(early));
    }
}
