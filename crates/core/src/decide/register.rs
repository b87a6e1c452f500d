//! Registers a code, or withdraws all of a credential.

use warifu_proto::limits::{ISSUED_SKEW_MAX_MS, LIFETIME_MAX_S};
use warifu_proto::mac;
use warifu_proto::registration::Statement;
use warifu_proto::time::Timestamp;

use super::{Decision, Refusal};
use crate::entry::{Digest, Fact, Registered, Withdrawn};
use crate::partition::Partition;

/// A registration whose signature holds. The same statement again gets the same answer for as long as its code is
/// remembered; of withdrawals, the last one does.
#[derive(Debug, Clone)]
pub struct Register {
    /// What was signed. Its prefix is this issuer's and its locator lies in this partition: the shell routed by them.
    pub statement: Statement,
    /// Of the statement; the first 16 bytes tell a repeat.
    pub digest: [u8; 32],
    /// The key, x ‖ y, that the signature was checked with.
    pub signed_by: [u8; 64],
}

impl Partition {
    pub(super) fn decide_register(
        &self,
        it: &Register,
        now: Timestamp,
    ) -> Result<Decision, Refusal> {
        let statement = &it.statement;
        let digest: Digest = mac::first_16(it.digest);
        let (credential_number, credential) = self
            .credential_by_id(statement.credential)
            .filter(|(_, it)| !it.usage.is_unlinked)
            .ok_or(Refusal::CredentialUnknown)?;
        let account = self.account(credential.account_number).ok_or(Refusal::CredentialUnknown)?;
        if statement.locator.partition() != self.number()
            || statement.currency_number != account.currency.number
        {
            return Err(Refusal::RegistrationMismatch);
        }
        if it.signed_by != credential.key {
            return Err(Refusal::SignatureInvalid);
        }
        let slot = statement.locator.slot();
        if let Some(before) =
            self.codes.find_registration(slot, credential_number, statement.sequence)
            && before.digest == digest
        {
            let (registered_at, expires_at) = (before.registered_at, before.expires_at);
            return Ok(Decision::RegisteredBefore { credential_number, registered_at, expires_at });
        }
        // A withdrawal lies in no slot. The last one is remembered by its sequence: nothing else in it matters.
        let mut usage = credential.usage;
        let is_withdrawal = statement.lifetime_s == 0;
        if is_withdrawal && usage.was_withdrawn_by(statement.sequence) {
            let (registered_at, expires_at) = (usage.withdrawn_at, usage.withdrawn_at);
            return Ok(Decision::RegisteredBefore { credential_number, registered_at, expires_at });
        }
        usage.take_sequence(statement.sequence).map_err(|_| Refusal::SequenceUsed)?;
        if statement.lifetime_s > LIFETIME_MAX_S {
            return Err(Refusal::LifetimeTooLong);
        }
        if now.since_ms(statement.issued_at).max(statement.issued_at.since_ms(now))
            > ISSUED_SKEW_MAX_MS
        {
            return Err(Refusal::ClockSkew);
        }
        let code_sequence = statement.sequence;
        if is_withdrawal {
            return Ok(Decision::commit(Fact::Withdrawn(Withdrawn {
                credential_number,
                code_sequence,
                digest,
            })));
        }
        Ok(Decision::commit(Fact::Registered(Registered {
            credential_number,
            locator: statement.locator,
            code_sequence,
            tag: statement.tag,
            digest,
            expires_at: now.plus_ms(u64::from(statement.lifetime_s).saturating_mul(1000)),
            cap_minor: statement.cap_minor,
        })))
    }
}
