//! Pairing a reader with its merchant: a secret on a slip of paper proves to the merchant's side which key is
//! the reader's; the hub only carries the messages.

use std::fmt;

use zeroize::Zeroizing;

use crate::id::PairingId;
use crate::key::Thumbprint;
use crate::{Malformed, base64url, mac};

/// The reader's proof that it holds the pairing link.
pub fn proof(secret: &[u8; 16], pairing: PairingId, key: Thumbprint) -> [u8; 32] {
    let pair_key = Zeroizing::new(mac::hkdf_sha256::<32>(secret, &key.0, &[b"warifu/pair-key/v1"]));
    mac::hmac_sha256(pair_key.as_slice(), &[b"warifu/pair/v1\n", &pairing.raw(), &key.0])
}

/// A pairing link: `<page>#pair=<hub url>.<par_… id>.<secret>.<registrar thumbprint>`, the hub's address
/// percent-encoded. It is taken apart from the right at the last three dots.
#[derive(Clone, PartialEq, Eq)]
pub struct PairingLink {
    /// The till page that the link opens; may be empty.
    pub page: String,
    /// Where the reader finds the hub.
    pub hub_url: String,
    /// Which pairing.
    pub pairing: PairingId,
    /// Its secret.
    pub secret: Zeroizing<[u8; 16]>,
    /// Who vouches for everybody in the network.
    pub registrar: Thumbprint,
}

impl PairingLink {
    /// Reads a link; what stands before `#pair=` does not matter.
    ///
    /// # Errors
    /// When it has no `#pair=` part or one of its four values is malformed.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        const BAD: Malformed =
            Malformed::new("pairing link", "must look like #pair=HUB_URL.par_ID.SECRET.REGISTRAR");
        let (page, values) = text.trim().split_once("#pair=").ok_or(BAD)?;
        let mut values = values.rsplitn(4, '.');
        let mut next = || values.next().ok_or(BAD);
        let registrar = Thumbprint::parse(next()?)?;
        let secret = Zeroizing::new(base64url::decode_array(next()?).map_err(|_| BAD)?);
        let pairing = PairingId::parse(next()?)?;
        let hub_url =
            percent_encoding::percent_decode_str(next()?).decode_utf8().map_err(|_| BAD)?;
        Ok(Self {
            page: page.to_owned(),
            hub_url: hub_url.into_owned(),
            pairing,
            secret,
            registrar,
        })
    }
}

impl fmt::Display for PairingLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hub = percent_encoding::utf8_percent_encode(
            &self.hub_url,
            percent_encoding::NON_ALPHANUMERIC,
        );
        let secret = Zeroizing::new(base64url::encode(self.secret.as_slice()));
        write!(f, "{}#pair={hub}.{}.{}.{}", self.page, self.pairing, *secret, self.registrar)
    }
}

impl fmt::Debug for PairingLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PairingLink({})", self.pairing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_comes_back_whatever_the_hub_is_called() {
        for hub_url in
            ["http://127.0.0.1:8080", "https://hub.example.org", "https://[::1]:8443/a.b"]
        {
            let link = PairingLink {
                page: "https://x/till".to_owned(),
                hub_url: hub_url.to_owned(),
                pairing: PairingId::from_raw([7; 16]),
                secret: Zeroizing::new([9; 16]),
                registrar: Thumbprint([3; 32]),
            };
            assert_eq!(PairingLink::parse(&link.to_string()).unwrap(), link);
        }
        assert!(PairingLink::parse("#pair=a.b.c").is_err());
        assert!(PairingLink::parse("http://x").is_err());
    }
}
