//! Every number by which a reader waits, in one place. `docs/reader.md` has the same table for till makers.
//!
//! | Number | Value | What for |
//! | --- | --- | --- |
//! | the till's deadline | 1–60 s, 10 s unless given | how long a payment is asked for |
//! | [`CALL_MAX_MS`] | 4 s | one call, the issuer's 1.5 s for a late registration in it |
//! | [`REPEAT_PAUSE_MIN_MS`], [`REPEAT_PAUSE_MAX_MS`] | 0.2 s, doubled to 1 s | between two calls while somebody waits |
//! | [`AWAITING_GRACE_MS`] | 2 s | how much longer than its question to the payer a payment is waited for |
//! | [`AWAITING_MAX_MS`] | 90 s | longest wait for the payer, whatever the issuer says |
//! | [`LAST_ASK_MS`] | 1 s | the one question after the deadline |
//! | [`REVERSAL_GRACE_MS`] | 3 s | from the deadline to the last word, the question in it |
//! | [`RESUME_MS`] | 5 s | one try to end a payment that nobody waits for, or to have a refund answered |
//! | [`BACKOFF_MIN_MS`], [`BACKOFF_MAX_MS`] | 1 s, doubled to 60 s | between two such tries |
//!
//! So a till has its answer at its deadline + [`REVERSAL_GRACE_MS`] at the latest; when the payer was asked, at the end
//! of that question + [`AWAITING_GRACE_MS`] + [`REVERSAL_GRACE_MS`].

use warifu_proto::limits::CONFIRM_GRACE_MS;

/// How long one call may take: the 1.5 s that an issuer waits for a registration, and a slow network's share.
pub const CALL_MAX_MS: u64 = 4_000;
/// First pause before a repeat while somebody waits.
pub const REPEAT_PAUSE_MIN_MS: u64 = 200;
/// Longest pause before a repeat while somebody waits.
pub const REPEAT_PAUSE_MAX_MS: u64 = 1_000;
/// How much longer than its question to the payer a payment is waited for.
pub const AWAITING_GRACE_MS: u64 = CONFIRM_GRACE_MS;
/// Longest time that a payer is waited for, whatever the issuer says.
pub const AWAITING_MAX_MS: u64 = 90_000;
/// How long the question after the deadline may take, before the payment is reversed.
pub const LAST_ASK_MS: u64 = 1_000;
/// From the deadline to the last word: for the last question and the reversal.
pub const REVERSAL_GRACE_MS: u64 = 3_000;
/// How long one try takes to end a record that nobody waits for, or to have a change answered.
pub const RESUME_MS: u64 = 5_000;
/// First pause between two such tries.
pub const BACKOFF_MIN_MS: u64 = 1_000;
/// Longest pause between two such tries.
pub const BACKOFF_MAX_MS: u64 = 60_000;

/// The pause after so many tries that did not end it.
pub fn backoff_ms(tries: u32) -> u64 {
    let doubled = 1_u64.checked_shl(tries).unwrap_or(u64::MAX);
    BACKOFF_MIN_MS.saturating_mul(doubled).min(BACKOFF_MAX_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_doubles_up_to_its_cap() {
        assert_eq!(
            [0, 1, 5, 6, 63, 64, u32::MAX].map(backoff_ms),
            [1_000, 2_000, 32_000, 60_000, 60_000, 60_000, 60_000]
        );
    }

    #[test]
    fn till_makers_read_the_same_table() {
        let theirs = include_str!("../../../docs/reader.md");
        let ours = include_str!("timing.rs").lines().filter_map(|it| it.strip_prefix("//! | "));
        let mut rows = 0;
        for row in ours {
            let row = format!("| {}", row.replace("[`", "`").replace("`]", "`"));
            assert!(theirs.contains(&row), "docs/reader.md has not: {row}");
            rows += 1;
        }
        assert_eq!(rows, 11);
        for (name, ms) in [
            ("CALL_MAX_MS", CALL_MAX_MS),
            ("AWAITING_GRACE_MS", AWAITING_GRACE_MS),
            ("AWAITING_MAX_MS", AWAITING_MAX_MS),
            ("LAST_ASK_MS", LAST_ASK_MS),
            ("REVERSAL_GRACE_MS", REVERSAL_GRACE_MS),
            ("RESUME_MS", RESUME_MS),
        ] {
            assert!(theirs.contains(&format!("| `{name}` | {} s |", ms / 1000)), "{name}");
        }
    }
}
