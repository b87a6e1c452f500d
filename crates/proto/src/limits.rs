//! Every bound of the protocol, each with its reason. Passing one is a named refusal, never a truncation.

/// Largest amount in minor units: 10^15 − 1, so that it is exact in a JSON number of any language (below 2^53), and
/// nine thousand of them fit in an `i64`.
pub const MINOR_MAX: u64 = 999_999_999_999_999;

/// Digits of a code on the screen.
pub const CODE_DIGITS: usize = 24;
/// Digits of a long code: the code and a 128-byte registration as a decimal number of 309 digits.
pub const LONG_CODE_DIGITS: usize = 333;
/// Shortest issuer prefix, in digits.
pub const PREFIX_DIGITS_MIN: usize = 4;
/// Longest issuer prefix, in digits; leaves 10 secret digits: 24 − 8 − 2 − 4.
pub const PREFIX_DIGITS_MAX: usize = 8;
/// Partitions of an issuer, numbered 00–99 by two digits of the code.
pub const PARTITIONS: u8 = 100;

/// Lifetime of a code when the terminal has no wish of its own, in seconds.
pub const LIFETIME_DEFAULT_S: u16 = 60;
/// Longest lifetime an issuer accepts, in seconds: five minutes are enough for any queue.
pub const LIFETIME_MAX_S: u16 = 300;
/// How far a registration's issue time may be from the issuer's clock, in milliseconds.
pub const ISSUED_SKEW_MAX_MS: u64 = 120_000;
/// How far below the highest sequence seen an unseen one may lie: registrations may overtake each other.
pub const SEQUENCE_WINDOW: u32 = 16;
/// How long an older code of a credential stays payable after a newer one arrived, in milliseconds:
/// the cashier may be scanning while the screen turns.
pub const RETIRE_GRACE_MS: u64 = 5_000;
/// Wrong secrets against one registration before it is retired.
pub const WRONG_SECRETS_MAX: u8 = 10;

/// Longest wait for a registration that has not arrived yet, in milliseconds.
pub const REGISTRATION_WAIT_MAX_MS: u64 = 1_500;
/// Shortest, longest and default `deadline_ms` of a payment.
pub const DEADLINE_MIN_MS: u64 = 1_000;
/// Longest `deadline_ms` of a payment.
pub const DEADLINE_MAX_MS: u64 = 60_000;
/// `deadline_ms` of a payment that names none.
pub const DEADLINE_DEFAULT_MS: u64 = 10_000;

/// How long a payer may think about a question, in milliseconds.
pub const CONFIRM_LIFETIME_MS: u64 = 60_000;
/// How much longer than its question a reader waits for a payment, in milliseconds.
pub const CONFIRM_GRACE_MS: u64 = 2_000;
/// How long a hold lasts when the issuer has no wish of its own, in seconds: seven days.
pub const HOLD_DEFAULT_S: u64 = 7 * 86_400;

/// How long an invitation can be used, in milliseconds.
pub const INVITATION_LIFETIME_MS: u64 = 15 * 60_000;
/// How long a pairing link can be used, in milliseconds.
pub const PAIRING_LIFETIME_MS: u64 = 10 * 60_000;
/// Longest life of a session, in milliseconds.
pub const SESSION_LIFETIME_MAX_MS: u64 = 24 * 3_600_000;
/// Sessions one key may hold at one server.
pub const SESSIONS_PER_KEY_MAX: usize = 4;
/// How far a signature's `created` may be from the server's clock, in seconds.
pub const SIGNATURE_SKEW_MAX_S: u64 = 60;

/// Longest request id, in characters.
pub const REQUEST_ID_MAX: usize = 64;
/// Longest order id, in characters.
pub const ORDER_ID_MAX: usize = 64;
/// Longest description of a payment, in characters.
pub const DESCRIPTION_MAX: usize = 140;
/// Longest name or label of anything, in characters.
pub const NAME_MAX: usize = 80;

/// Largest body of a request, in bytes: the largest legal message (a directory entry) is under 8 KiB.
pub const BODY_MAX_BYTES: usize = 64 * 1024;
/// Longest `wait_ms` of a long poll.
pub const WAIT_MAX_MS: u64 = 60_000;
/// Most entries in one page of a feed or of the directory.
pub const PAGE_MAX: usize = 500;

const _: () =
    assert!(CODE_DIGITS - PREFIX_DIGITS_MAX - 2 - 4 >= 10, "a secret has at least ten digits");
const _: () = assert!(MINOR_MAX < 1 << 53, "exact in JSON");
/// Most notices that an issuer leaves in one call: with texts of ordinary length they fit in a body.
pub const NOTICES_MAX: usize = 64;
