//! Linking a terminal to an account: an invitation's secret, handed over out of band, becomes four keys that
//! the terminal and the issuer share and that the hub, which carries the messages, can't make.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::code::Prefix;
use crate::id::{CredentialId, InvitationId};
use crate::key::Thumbprint;
use crate::time::Timestamp;
use crate::{Malformed, base64url, mac};

/// The secret of an invitation.
pub type InvitationSecret = [u8; 32];

/// What terminal and issuer share after linking. Wiped on drop, never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct LinkKeys {
    /// Makes tags of codes.
    pub code_key: [u8; 32],
    /// Authenticates what the issuer says to the terminal through the hub.
    pub link_key: [u8; 32],
    /// Seals notices.
    pub seal_key: [u8; 32],
    /// Kept for a later re-keying; no use in version 1.
    pub next_key: [u8; 32],
}

impl LinkKeys {
    /// Derives them of the invitation's secret and the terminal's key.
    pub fn derive(secret: &InvitationSecret, key: Thumbprint) -> Self {
        let derive = |info: &str| mac::hkdf_sha256(secret, &key.0, &[info.as_bytes()]);
        Self {
            code_key: derive("warifu/code-key/v1"),
            link_key: derive("warifu/link-key/v1"),
            seal_key: derive("warifu/seal-key/v1"),
            next_key: derive("warifu/next-key/v1"),
        }
    }

    /// All four in order, for storage under another key.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 128]> {
        let mut bytes = Zeroizing::new([0; 128]);
        let all =
            self.code_key.iter().chain(&self.link_key).chain(&self.seal_key).chain(&self.next_key);
        bytes.iter_mut().zip(all).for_each(|(to, from)| *to = *from);
        bytes
    }

    /// The inverse of [`LinkKeys::to_bytes`].
    pub fn from_bytes(bytes: &[u8; 128]) -> Self {
        let part = |at: usize| {
            let mut key = [0; 32];
            key.iter_mut().zip(bytes.iter().skip(at)).for_each(|(to, from)| *to = *from);
            key
        };
        Self { code_key: part(0), link_key: part(32), seal_key: part(64), next_key: part(96) }
    }

    /// The terminal's proof that it holds the invitation.
    pub fn proof(&self, prefix: Prefix, invitation: InvitationId, key: Thumbprint) -> [u8; 32] {
        let prefix = prefix.to_string();
        mac::hmac_sha256(
            &self.link_key,
            &[b"warifu/link/v1\n", prefix.as_bytes(), b"\n", &invitation.raw(), &key.0],
        )
    }

    /// The issuer's proof that the answer is its own.
    pub fn confirmation(&self, credential: CredentialId, answer: &[u8]) -> [u8; 32] {
        mac::hmac_sha256(
            &self.link_key,
            &[b"warifu/linked/v1\n", &credential.raw(), &mac::sha256(&[answer])],
        )
    }
}

impl fmt::Debug for LinkKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkKeys")
    }
}

/// What a terminal signs to end a link.
pub fn unlink_message(credential: CredentialId, at: Timestamp) -> Vec<u8> {
    [b"warifu/unlink/v1\n".as_slice(), &credential.raw(), &at.as_ms().to_be_bytes()].concat()
}

/// An invitation as it reaches the payer: `<wallet page>#link=<prefix>.<inv_… id>.<secret>.<registrar thumbprint>`.
///
/// Everything is in the fragment, which a browser never sends, so it does not pass the hub.
#[derive(Clone, PartialEq, Eq)]
pub struct InvitationLink {
    /// The wallet page; its origin is the hub's address.
    pub page: String,
    /// Which issuer.
    pub prefix: Prefix,
    /// Which invitation.
    pub invitation: InvitationId,
    /// Its secret.
    pub secret: Zeroizing<InvitationSecret>,
    /// Who vouches for everybody in the network.
    pub registrar: Thumbprint,
}

impl InvitationLink {
    /// Reads a link.
    ///
    /// # Errors
    /// When it has no `#link=` part or one of its four values is malformed.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed::new(
            "invitation link",
            "must look like https://hub/wallet#link=PREFIX.inv_ID.SECRET.REGISTRAR",
        );
        let (page, values) = text.trim().split_once("#link=").ok_or(BAD)?;
        let mut values = values.split('.');
        let mut next = || values.next().ok_or(BAD);
        let link = Self {
            page: page.to_owned(),
            prefix: Prefix::parse(next()?)?,
            invitation: InvitationId::parse(next()?)?,
            secret: Zeroizing::new(base64url::decode_array(next()?).map_err(|_| BAD)?),
            registrar: Thumbprint::parse(next()?)?,
        };
        if values.next().is_some() { Err(BAD) } else { Ok(link) }
    }
}

impl fmt::Display for InvitationLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = Zeroizing::new(base64url::encode(self.secret.as_slice()));
        write!(
            f,
            "{}#link={}.{}.{}.{}",
            self.page, self.prefix, self.invitation, *secret, self.registrar
        )
    }
}

impl fmt::Debug for InvitationLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InvitationLink({})", self.invitation)
    }
}
