//! Ids: TypeID text, `pay_01jd…`: the kind, an underscore, 26 characters of Crockford base32. Each kind is its
//! own type and none converts into another.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Malformed;
use crate::time::Timestamp;

/// A kind of thing that has ids.
pub trait Kind: Clone + Copy + PartialEq + Eq + fmt::Debug + 'static {
    /// What stands before the underscore.
    const PREFIX: &'static str;
}

/// 128 bits that name one thing of kind `K`.
pub struct Id<K> {
    raw: [u8; 16],
    kind: PhantomData<fn() -> K>,
}

const ALPHABET: [u8; 32] = *b"0123456789abcdefghjkmnpqrstvwxyz";
const DIGITS: usize = 26;

impl<K: Kind> Id<K> {
    /// Takes the 16 bytes as they lie in a binary layout or a database.
    pub const fn from_raw(raw: [u8; 16]) -> Self {
        Self { raw, kind: PhantomData }
    }

    /// Makes a UUID version 7 of a time and ten random bytes.
    pub fn new(at: Timestamp, random: [u8; 10]) -> Self {
        let mut raw = [0; 16];
        let time = at.as_ms().to_be_bytes();
        raw.iter_mut().zip(time.iter().skip(2).chain(&random)).for_each(|(to, from)| *to = *from);
        let [_, _, _, _, _, _, version, _, variant, ..] = &mut raw;
        *version = (*version & 0x0f) | 0x70;
        *variant = (*variant & 0x3f) | 0x80;
        Self::from_raw(raw)
    }

    /// The 16 bytes.
    pub const fn raw(&self) -> [u8; 16] {
        self.raw
    }

    /// Reads the text form: the right kind, lower case, first character `0`–`7`.
    ///
    /// # Errors
    /// When any of that does not hold.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let bad = |why| Malformed::new("id", why);
        let digits = text
            .strip_prefix(K::PREFIX)
            .and_then(|rest| rest.strip_prefix('_'))
            .ok_or(bad("is of another kind"))?;
        if digits.len() != DIGITS {
            return Err(bad("must have 26 characters after the underscore"));
        }
        let mut value = 0_u128;
        for (place, byte) in digits.bytes().enumerate() {
            let digit = ALPHABET
                .iter()
                .position(|known| *known == byte)
                .ok_or(bad("has a character outside of lower-case Crockford base32"))?;
            if place == 0 && digit > 7 {
                return Err(bad("does not fit in 128 bits"));
            }
            value = (value << 5) | u128::try_from(digit).unwrap_or_default();
        }
        Ok(Self::from_raw(value.to_be_bytes()))
    }
}

impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = u128::from_be_bytes(self.raw);
        let mut text = [b'0'; DIGITS];
        for (shift, to) in (0..DIGITS).rev().zip(&mut text) {
            let digit =
                usize::try_from((value >> shift.saturating_mul(5)) & 31).unwrap_or_default();
            *to = *ALPHABET.get(digit).unwrap_or(&b'0');
        }
        write!(f, "{}_{}", K::PREFIX, std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// Derives would ask the same of `K`, which is never a value.
impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Id<K> {}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.raw.cmp(&other.raw)
    }
}
impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.raw.hash(state);
    }
}

impl<K: Kind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de, K: Kind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $id:ident $prefix:literal;)*) => {$(
        #[doc = concat!("Kind of [`", stringify!($id), "`].")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $kind {}
        impl Kind for $kind {
            const PREFIX: &'static str = $prefix;
        }
        $(#[$doc])*
        pub type $id = Id<$kind>;
    )*};
}

kinds! {
    /// A network: what a registrar signs for.
    NetworkKind NetworkId "net";
    /// An issuer.
    IssuerKind IssuerId "iss";
    /// A merchant.
    MerchantKind MerchantId "mer";
    /// A reader of a merchant.
    ReaderKind ReaderId "rdr";
    /// An account at an issuer.
    AccountKind AccountId "acc";
    /// A terminal's key bound to an account.
    CredentialKind CredentialId "crd";
    /// An invitation to link a terminal.
    InvitationKind InvitationId "inv";
    /// A pairing of a reader.
    PairingKind PairingId "par";
    /// A session between two servers, or a reader and a server.
    SessionKind SessionId "ses";
    /// A payment.
    PaymentKind PaymentId "pay";
    /// A refund.
    RefundKind RefundId "rfd";
    /// A capture.
    CaptureKind CaptureId "cap";
    /// A notice to a terminal.
    NoticeKind NoticeId "ntc";
    /// A hub.
    HubKind HubId "hub";
    /// A regional currency.
    CurrencyKind CurrencyId "cur";
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_text_form_is_typeid() {
        // The specification's own example: prefix_01h455vb4pex5vsknk084sn02q is 01890a5d-ac96-774b-bcce-b302099a8057.
        let raw = 0x0189_0a5d_ac96_774b_bcce_b302_099a_8057_u128.to_be_bytes();
        assert_eq!(PaymentId::from_raw(raw).to_string(), "pay_01h455vb4pex5vsknk084sn02q");
        assert_eq!(PaymentId::from_raw([255; 16]).to_string(), "pay_7zzzzzzzzzzzzzzzzzzzzzzzzz");
        let id = PaymentId::new(Timestamp::from_ms(0x0189_0a5d_ac96), [255; 10]);
        assert!(id.to_string().starts_with("pay_01h455vb4p"));
    }

    #[test]
    fn anything_else_is_refused() {
        let good = "pay_01h455vb4pex5vsknk084sn02q";
        assert!(PaymentId::parse(good).is_ok());
        assert!(RefundId::parse(good).is_err());
        for bad in [
            "",
            "pay",
            "pay_",
            "pay_01h455vb4pex5vsknk084sn02",
            "pay_81h455vb4pex5vsknk084sn02q",
            "pay_01H455vb4pex5vsknk084sn02q",
            "pay_01h455vb4pex5vsknk084sn0iq",
            "pay_01h455vb4pex5vsknk084sn02qq",
            "pay-01h455vb4pex5vsknk084sn02q",
        ] {
            assert!(PaymentId::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn text_comes_back(raw: [u8; 16]) {
            let id = AccountId::from_raw(raw);
            prop_assert_eq!(AccountId::parse(&id.to_string()).unwrap(), id);
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _read = AccountId::parse(&text);
        }
    }
}
