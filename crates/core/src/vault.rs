//! Keeps link keys and invitation secrets out of the journal's plain bytes.
//!
//! Every id seals exactly one plaintext, under a key of its own (HMAC of the vault's key and the id), so the nonce can
//! be zero and the sealed bytes are the same every time: snapshots of one state hash the same. Decision 0003.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use warifu_proto::id::{CredentialId, Id, Kind};
use warifu_proto::link::LinkKeys;
use warifu_proto::mac;
use zeroize::Zeroizing;

use crate::entry::SealedKeys;
use crate::layout::LayoutError;

/// What sealing adds to a plaintext, in bytes.
pub const SEAL_BYTES: usize = 16;

/// Holds the issuer's vault key. Wiped on drop, never printed.
pub struct Vault {
    key: Zeroizing<[u8; 32]>,
    table_secret: u64,
    opens_link_keys: bool,
}

impl Vault {
    /// Takes the key.
    pub fn new(key: [u8; 32]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = mac::hmac_sha256(&key, &[b"warifu/table/v1\n"]);
        let table_secret = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        Self { key: Zeroizing::new(key), table_secret, opens_link_keys: true }
    }

    /// The same vault for a fold that only makes snapshots: link keys stay sealed, as nobody is going to use them.
    /// Opening and sealing those of every credential would be a good part of the work.
    pub fn that_leaves_link_keys_sealed(&self) -> Self {
        Self { key: self.key.clone(), table_secret: self.table_secret, opens_link_keys: false }
    }

    /// Opens link keys, or leaves them sealed.
    ///
    /// # Errors
    /// When they were not sealed by this vault for this id.
    pub(crate) fn open_link_keys(
        &self,
        id: CredentialId,
        sealed: &SealedKeys,
    ) -> Result<Option<LinkKeys>, LayoutError> {
        if !self.opens_link_keys {
            return Ok(None);
        }
        let open =
            self.open(id, sealed).ok_or(LayoutError("link keys that this vault does not open"))?;
        Ok(Some(LinkKeys::from_bytes(&open)))
    }

    /// What nobody outside knows of the tables that look-ups by foreign ids go through.
    pub(crate) fn table_secret(&self) -> u64 {
        self.table_secret
    }

    fn key_of<K: Kind>(&self, id: Id<K>) -> LessSafeKey {
        let label = K::PREFIX.as_bytes();
        let key = Zeroizing::new(mac::hmac_sha256(
            self.key.as_slice(),
            &[b"warifu/vault/v1\n", label, b"\n", &id.raw()],
        ));
        LessSafeKey::new(
            UnboundKey::new(&AES_256_GCM, key.as_slice()).expect("AES-256 takes 32 bytes"),
        )
    }

    /// Seals the one secret that belongs to an id.
    pub fn seal<K: Kind>(&self, id: Id<K>, secret: &[u8]) -> Vec<u8> {
        // Room for the seal at once: growing would leave a copy behind.
        let mut text = Vec::with_capacity(secret.len().saturating_add(SEAL_BYTES));
        text.extend_from_slice(secret);
        self.key_of(id)
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key([0; NONCE_LEN]),
                Aad::empty(),
                &mut text,
            )
            .expect("a secret is far below the limit of AES-GCM");
        text
    }

    /// Opens it again; nothing when it was not sealed by this vault for this id.
    pub fn open<K: Kind, const N: usize>(
        &self,
        id: Id<K>,
        sealed: &[u8],
    ) -> Option<Zeroizing<[u8; N]>> {
        let mut text = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let plain = self.key_of(id).open_in_place(nonce, Aad::empty(), &mut text).ok()?;
        <[u8; N]>::try_from(&*plain).ok().map(Zeroizing::new)
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warifu_proto::id::InvitationId;

    #[test]
    fn only_the_same_vault_and_id_open_what_was_sealed() {
        let vault = Vault::new([7; 32]);
        let id = CredentialId::from_raw([1; 16]);
        let sealed = vault.seal(id, &[9; 32]);
        assert_eq!(sealed.len(), 32 + SEAL_BYTES);
        assert_eq!(*vault.open::<_, 32>(id, &sealed).unwrap(), [9; 32]);
        assert!(vault.open::<_, 32>(CredentialId::from_raw([2; 16]), &sealed).is_none());
        assert!(vault.open::<_, 32>(InvitationId::from_raw([1; 16]), &sealed).is_none());
        assert!(Vault::new([8; 32]).open::<_, 32>(id, &sealed).is_none());
        assert!(vault.open::<_, 31>(id, &sealed).is_none());
    }
}
