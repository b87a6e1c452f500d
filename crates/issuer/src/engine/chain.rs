//! The hash chain of a partition: `chain[n] = SHA-256(chain[n−1] ‖ entry[n])`, the first link bound to the journal and the
//! partition. Whoever holds one head can tell whether anything before it was changed.

use warifu_proto::mac::sha256;

/// What stands before the first entry of a partition.
pub fn start(journal_id: &[u8; 16], partition: u8) -> [u8; 32] {
    sha256(&[b"warifu/chain/v1\n", journal_id, &[partition]])
}

/// The link after an entry.
pub fn next(before: &[u8; 32], entry: &[u8]) -> [u8; 32] {
    sha256(&[before, entry])
}
