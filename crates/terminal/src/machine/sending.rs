//! One registration on its way to the issuer: sent as soon as its sequence is stored, and again 0.2, 0.4, 0.8 … 5 s
//! apart until the issuer has acknowledged it, refused it for good, or it has no use any more.

use warifu_proto::key::PrivateKey;
use warifu_proto::mac;
use warifu_proto::message::{CodeAnswer, CodeRequest};
use warifu_proto::registration::{Registration, Statement, clock_ack, registered_ack};
use warifu_proto::time::Timestamp;

use super::Output;

/// First pause before a repeat.
const PAUSE_MIN_MS: u64 = 200;
/// Longest pause before a repeat.
const PAUSE_MAX_MS: u64 = 5_000;

#[derive(Debug)]
pub(super) struct Sending {
    pub(super) registration: Registration,
    digest: [u8; 32],
    /// It may leave when this revision is stored.
    needs_revision: u64,
    /// Until when sending it makes sense, in milliseconds of life.
    pub(super) until_ms: u64,
    /// When it was first sent.
    pub(super) started_ms: Option<u64>,
    next_ms: u64,
    pause_ms: u64,
    /// Acknowledged, or refused for good.
    pub(super) is_done: bool,
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
            needs_revision,
            until_ms,
            started_ms: None,
            next_ms: 0,
            pause_ms: PAUSE_MIN_MS,
            is_done: false,
        }
    }

    pub(super) fn sequence(&self) -> u32 {
        self.registration.statement.sequence
    }

    pub(super) fn is_stored(&self, durable_revision: u64) -> bool {
        durable_revision >= self.needs_revision
    }

    /// The send that is due.
    pub(super) fn due(&mut self, durable_revision: u64, now_ms: u64) -> Option<Output> {
        let is_due = !self.is_done
            && self.is_stored(durable_revision)
            && now_ms >= self.next_ms
            && now_ms < self.until_ms;
        if !is_due {
            return None;
        }
        if self.started_ms.is_none() {
            self.started_ms = Some(now_ms);
        }
        self.next_ms = now_ms.saturating_add(self.pause_ms);
        self.pause_ms = self.pause_ms.saturating_mul(2).min(PAUSE_MAX_MS);
        let request = Box::new(CodeRequest { registration: self.registration.encode() });
        Some(Output::Send { sequence: self.sequence(), request })
    }

    pub(super) fn next_deadline(&self, durable_revision: u64) -> Option<u64> {
        let waits =
            !self.is_done && self.is_stored(durable_revision) && self.next_ms < self.until_ms;
        waits.then_some(self.next_ms)
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
