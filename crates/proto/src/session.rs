//! Sessions: two ephemeral keys, one agreement, and the hot path is signed by HMAC instead of ECDSA.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::Malformed;
use crate::id::SessionId;
use crate::key::{PrivateKey, PublicKey, Thumbprint};
use crate::mac;

/// The two secrets of a session. Wiped on drop, never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SessionKeys {
    /// Signs requests.
    pub caller_to_server: [u8; 32],
    /// Signs answers.
    pub server_to_caller: [u8; 32],
}

/// Who the two sides are.
#[derive(Debug, Clone, Copy)]
pub struct SessionParties {
    /// The session's id, chosen by the server.
    pub session: SessionId,
    /// The identity key of the caller.
    pub caller: Thumbprint,
    /// The identity key of the server.
    pub server: Thumbprint,
}

impl SessionKeys {
    /// What the caller derives, with its own ephemeral key and the server's public one.
    ///
    /// # Errors
    /// As [`PrivateKey::agree`].
    pub fn for_caller(
        parties: SessionParties,
        own: &PrivateKey,
        server: &PublicKey,
    ) -> Result<Self, Malformed> {
        let x = own.agree(server)?;
        Ok(Self::derive(parties, &x, own.thumbprint(), server.thumbprint()))
    }

    /// What the server derives, with its own ephemeral key and the caller's public one.
    ///
    /// # Errors
    /// As [`PrivateKey::agree`].
    pub fn for_server(
        parties: SessionParties,
        own: &PrivateKey,
        caller: &PublicKey,
    ) -> Result<Self, Malformed> {
        let x = own.agree(caller)?;
        Ok(Self::derive(parties, &x, caller.thumbprint(), own.thumbprint()))
    }

    fn derive(
        parties: SessionParties,
        x: &[u8; 32],
        caller_ephemeral: Thumbprint,
        server_ephemeral: Thumbprint,
    ) -> Self {
        let info: [&[u8]; 5] = [
            b"warifu/session/v1\n",
            &parties.caller.0,
            &parties.server.0,
            &caller_ephemeral.0,
            &server_ephemeral.0,
        ];
        let mut okm: [u8; 64] = mac::hkdf_sha256(x, &parties.session.raw(), &info);
        let mut keys = Self { caller_to_server: [0; 32], server_to_caller: [0; 32] };
        let both = keys.caller_to_server.iter_mut().chain(&mut keys.server_to_caller);
        both.zip(okm).for_each(|(to, from)| *to = from);
        okm.zeroize();
        keys
    }
}

impl fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKeys")
    }
}
