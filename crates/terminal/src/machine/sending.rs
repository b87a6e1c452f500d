//! One registration on its way to the issuer: sent as soon as its sequence is stored, and again until the issuer has
//! acknowledged it, refused it for good, or it has no use any more.

use warifu_proto::key::PrivateKey;
use warifu_proto::mac;
use warifu_proto::message::{CodeAnswer, CodeRequest};
use warifu_proto::registration::{Registration, Statement, clock_ack, registered_ack};
use warifu_proto::time::Timestamp;

use super::Output;
use super::repeats::Repeats;

#[derive(Debug)]
pub(super) struct Sending {
    pub(super) registration: Registration,
    digest: [u8; 32],
    pub(super) repeats: Repeats,
}

impl Sending {
    pub(super) fn new(
        statement: &Statement,
        key: &PrivateKey,
        needs_revision: u64,
        until_ms: u64,
    ) -> Self {
        Self {
            registration: statement.sign(key),
            digest: statement.digest(),
            repeats: Repeats::new(needs_revision, until_ms),
        }
    }

    pub(super) fn sequence(&self) -> u32 {
        self.registration.statement.sequence
    }

    pub(super) fn is_stored(&self, durable_revision: u64) -> bool {
        self.repeats.is_stored(durable_revision)
    }

    /// The send that is due.
    pub(super) fn due(&mut self, durable_revision: u64, now_ms: u64) -> Option<Output> {
        self.repeats.is_due(durable_revision, now_ms).then(|| {
            let request = Box::new(CodeRequest { registration: self.registration.encode() });
            Output::Send { sequence: self.sequence(), request }
        })
    }

    /// Whether the issuer itself says that it has this statement.
    pub(super) fn is_acked_by(&self, link_key: &[u8; 32], answer: &CodeAnswer) -> bool {
        let (expires, now) =
            (Timestamp::from_ms(answer.expires_ms), Timestamp::from_ms(answer.now_ms));
        let expected = registered_ack(link_key, &self.digest, expires, now);
        mac::equal_in_constant_time(&expected, &answer.ack)
    }

    /// Whether the issuer itself says that its clock shows `now`.
    pub(super) fn is_clock_of(&self, link_key: &[u8; 32], now: Timestamp, ack: &[u8]) -> bool {
        mac::equal_in_constant_time(&clock_ack(link_key, &self.digest, now), ack)
    }
}
