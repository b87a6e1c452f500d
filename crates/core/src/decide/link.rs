//! Links a terminal: its key becomes a credential of the invitation's account.

use warifu_proto::code::Prefix;
use warifu_proto::id::{CredentialId, InvitationId};
use warifu_proto::key::PublicKey;
use warifu_proto::link::LinkKeys;
use warifu_proto::mac;
use warifu_proto::time::Timestamp;

use super::{Decision, Refusal};
use crate::credential::InvitationState;
use crate::entry::{Fact, Linked, SealedKeys};
use crate::partition::Partition;
use crate::vault::Vault;

/// Wish of a terminal to be linked. Repeating it, with the same key and proof, gets the same credential for as long as
/// the invitation would have lasted.
#[derive(Debug, Clone)]
pub struct Link {
    /// The issuer's own prefix, which the proof names.
    pub prefix: Prefix,
    /// By which invitation.
    pub invitation: InvitationId,
    /// The terminal's key.
    pub key: PublicKey,
    /// That it holds the invitation's secret.
    pub proof: [u8; 32],
    /// The id that the credential gets.
    pub credential: CredentialId,
}

impl Partition {
    pub(super) fn decide_link(
        &self,
        it: &Link,
        now: Timestamp,
        vault: &Vault,
    ) -> Result<Decision, Refusal> {
        let invitation = self
            .invitation(it.invitation)
            .filter(|found| now < found.expires_at)
            .ok_or(Refusal::InvitationUnknown)?;
        let thumbprint = it.key.thumbprint();
        let proves = |keys: &LinkKeys| {
            mac::equal_in_constant_time(
                &keys.proof(it.prefix, it.invitation, thumbprint),
                &it.proof,
            )
        };
        match &invitation.state {
            InvitationState::Open(secret) => {
                let keys = LinkKeys::derive(secret, thumbprint);
                if !proves(&keys) {
                    return Err(Refusal::ProofInvalid);
                }
                if self.credential_by_id(it.credential).is_some() {
                    // An id never gets a second secret: see the vault.
                    return Err(Refusal::InvitationUnknown);
                }
                let sealed = vault.seal(it.credential, keys.to_bytes().as_slice());
                Ok(Decision::commit(Fact::Linked(Linked {
                    invitation: it.invitation,
                    credential: it.credential,
                    key: it.key.xy(),
                    keys: SealedKeys::try_from(sealed).expect("128 bytes seal to 144"),
                })))
            }
            InvitationState::Used { credential_number } => {
                let credential =
                    self.credential(*credential_number).ok_or(Refusal::InvitationUnknown)?;
                // Another terminal is told the same as with any used invitation.
                if credential.key == it.key.xy()
                    && credential.keys.as_ref().is_some_and(proves)
                    && !credential.usage.is_unlinked
                {
                    Ok(Decision::LinkedBefore { credential_number: *credential_number })
                } else {
                    Err(Refusal::InvitationUnknown)
                }
            }
        }
    }
}
