//! A code that carries its own registration, for a terminal without network: verified and stored by the very payment
//! that scanned it.

use warifu_proto::code::Code;
use warifu_proto::limits::{ISSUED_SKEW_MAX_MS, LIFETIME_MAX_S, RETIRE_GRACE_MS};
use warifu_proto::link::LinkKeys;
use warifu_proto::mac;
use warifu_proto::registration::{Statement, tag};
use warifu_proto::rejection::Rejection;
use warifu_proto::time::Timestamp;

use crate::code_book::BookedCode;
use crate::entry::Offline;
use crate::partition::Partition;

/// The registration inside of a long code. Its prefix is this issuer's: the shell routed by it.
#[derive(Debug, Clone)]
pub struct LongCode {
    /// What was signed.
    pub statement: Statement,
    /// Of the statement; the first 16 bytes tell a repeat.
    pub digest: [u8; 32],
    /// The key, x ‖ y, that the signature was checked with; nothing when it did not hold.
    pub signed_by: Option<[u8; 64]>,
}

impl Partition {
    /// Reads the registration that a scanned code carries, as it would lie in the book.
    ///
    /// # Errors
    /// With the rejection that applies, in their order.
    pub(super) fn carried(
        &self,
        it: &LongCode,
        code: &Code,
        now: Timestamp,
    ) -> Result<(BookedCode, Offline), Rejection> {
        let statement = &it.statement;
        let lifetime_ms = u64::from(statement.lifetime_s).saturating_mul(1000);
        let expires_at =
            statement.issued_at.plus_ms(lifetime_ms.saturating_add(ISSUED_SKEW_MAX_MS));
        if now > expires_at {
            return Err(Rejection::CodeExpired);
        }
        let (credential_number, credential) = self
            .credential_by_id(statement.credential)
            .filter(|(_, it)| !it.usage.is_unlinked)
            .ok_or(Rejection::RegistrationInvalid)?;
        let mut usage = credential.usage;
        let is_overtaken = usage.codes().any(|newer| {
            let number = newer.code_sequence;
            let booked =
                self.codes.find_registration(usize::from(newer.slot), credential_number, number);
            let grace_ends = booked.map(|it| it.registered_at.plus_ms(RETIRE_GRACE_MS));
            number > statement.sequence && grace_ends.is_none_or(|ends| ends <= now)
        });
        if statement.sequence <= usage.ended_to || is_overtaken {
            return Err(Rejection::CodeRetired);
        }
        let currency = self.account(credential.account_number).map(|it| it.currency.number);
        let is_tagged = |keys: &LinkKeys| {
            mac::equal_in_constant_time(&tag(&keys.code_key, code), &statement.tag)
        };
        let holds = it.signed_by == Some(credential.key)
            && (1..=LIFETIME_MAX_S).contains(&statement.lifetime_s)
            && statement.issued_at.since_ms(now) <= ISSUED_SKEW_MAX_MS
            && statement.locator.partition() == self.number()
            && currency == Some(statement.currency_number)
            && credential.keys.as_ref().is_some_and(is_tagged)
            && usage.take_sequence(statement.sequence).is_ok();
        if !holds {
            return Err(Rejection::RegistrationInvalid);
        }
        let digest = mac::first_16(it.digest);
        let offline =
            Offline { tag: statement.tag, digest, expires_at, cap_minor: statement.cap_minor };
        let booked = BookedCode {
            credential_number,
            code_sequence: statement.sequence,
            tag: statement.tag,
            digest,
            registered_at: now,
            expires_at,
            retires_at: Timestamp::MAX,
            cap_minor: statement.cap_minor,
            wrong_secrets: 0,
            is_used: false,
        };
        Ok((booked, offline))
    }
}
