//! Marks: hashes of what the books don't keep whole. A hundred million payments have to fit in memory.

use warifu_proto::id::{MerchantId, PaymentId, ReaderId};
use warifu_proto::mac;
use warifu_proto::time::Timestamp;

/// A request id of a merchant, in 16 bytes.
pub(super) type RequestKey = [u8; 16];

/// Names a request id. It has 16 bytes, as callers choose what is hashed.
pub(super) fn request_key(caller: MerchantId, request: &str) -> RequestKey {
    mac::first_16(mac::sha256(&[&caller.raw(), request.as_bytes()]))
}

/// A mark of what is not kept whole, in 8 bytes: chance makes two of them the same once in 10^19.
pub(super) fn mark(parts: &[&[u8]]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = mac::sha256(parts);
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Marks what never changes about a payment and is shown of it.
pub(super) fn payment_mark(
    merchant: MerchantId,
    reader: ReaderId,
    request: &str,
    currency: &str,
    decided_at: Timestamp,
) -> u64 {
    let at = decided_at.as_ms().to_be_bytes();
    mark(&[&merchant.raw(), &reader.raw(), &at, currency.as_bytes(), b"\n", request.as_bytes()])
}

/// Marks what a merchant's feed says of a change.
pub(super) fn change_mark(merchant: MerchantId, payment: PaymentId) -> u64 {
    mark(&[&merchant.raw(), &payment.raw()])
}
