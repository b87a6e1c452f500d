//! Ends the link of a terminal: its codes end at once, and it can register no more.

use warifu_proto::id::CredentialId;

use super::{Decision, Refusal};
use crate::entry::{Fact, Unlinked};
use crate::partition::Partition;

/// Wish of the terminal (or the operator) to end a link.
#[derive(Debug, Clone)]
pub struct Unlink {
    /// Which.
    pub credential: CredentialId,
    /// The key, x ‖ y, that the wish was signed with; nothing when the operator asks.
    pub signed_by: Option<[u8; 64]>,
}

impl Partition {
    pub(super) fn decide_unlink(&self, it: &Unlink) -> Result<Decision, Refusal> {
        let (credential_number, credential) =
            self.credential_by_id(it.credential).ok_or(Refusal::CredentialUnknown)?;
        if it.signed_by.is_some_and(|key| key != credential.key) {
            return Err(Refusal::SignatureInvalid);
        }
        if credential.usage.is_unlinked {
            return Ok(Decision::UnlinkedBefore);
        }
        Ok(Decision::commit(Fact::Unlinked(Unlinked { credential_number })))
    }
}
