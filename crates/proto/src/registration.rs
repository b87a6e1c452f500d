//! A registration: what a terminal sends so that its code can be paid with. 64 bytes of statement, 64 of signature.
//!
//! ```text
//!  0 u8  version = 1                        16 [16] credential id
//!  1 u8  prefix length (low nibble)         32 [16] tag
//!  2 u16 lifetime in seconds, 0 = withdraw  48 u64  issued at, Unix ms
//!  4 u32 issuer prefix as a number          56 u16  currency number
//!  8 u32 locator                            58 u48  cap in minor units, 0 = none
//! 12 u32 sequence                           64 [64] ECDSA over "warifu/registration/v1\n" ‖ statement
//! ```
//!
//! The code's secret digits are only inside the tag, so whoever forwards a registration can't learn the code.

use crate::Malformed;
use crate::code::{Code, Locator, Prefix};
use crate::id::CredentialId;
use crate::key::{PrivateKey, PublicKey, Signature};
use crate::mac;
use crate::time::Timestamp;

/// Length of a statement.
pub const STATEMENT_BYTES: usize = 64;
/// Length of a registration: a statement and its signature.
pub const REGISTRATION_BYTES: usize = 128;
/// Largest cap: six bytes hold it.
pub const CAP_MAX: u64 = (1 << 48) - 1;

/// Hides a code: 16 bytes that only the holder of the code key can make of the 24 digits.
pub type Tag = [u8; 16];

/// The tag of a code.
pub fn tag(code_key: &[u8; 32], code: &Code) -> Tag {
    mac::first_16(mac::hmac_sha256(code_key, &[b"warifu/code/v1\n", code.as_str().as_bytes()]))
}

/// What a terminal says about a code, before signing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Which issuer.
    pub prefix: Prefix,
    /// Where the issuer keeps it.
    pub locator: Locator,
    /// How long the code can be paid with, in seconds from arrival. 0 registers nothing and retires all older codes.
    pub lifetime_s: u16,
    /// Grows with every registration of the credential.
    pub sequence: u32,
    /// Whose account.
    pub credential: CredentialId,
    /// Hides the digits.
    pub tag: Tag,
    /// By the terminal's clock.
    pub issued_at: Timestamp,
    /// The account's currency, as its number.
    pub currency_number: u16,
    /// Most that a payment by this code may be, in minor units; 0 for none. At most [`CAP_MAX`].
    pub cap_minor: u64,
}

impl Statement {
    /// The 64 bytes. A cap above [`CAP_MAX`] is written as [`CAP_MAX`].
    pub fn encode(&self) -> [u8; STATEMENT_BYTES] {
        let cap = self.cap_minor.min(CAP_MAX).to_be_bytes();
        let digits = u8::try_from(self.prefix.digits()).expect("a prefix has at most 8 digits");
        let fields: [&[u8]; 10] = [
            &[1, digits],
            &self.lifetime_s.to_be_bytes(),
            &self.prefix.number().to_be_bytes(),
            &self.locator.number().to_be_bytes(),
            &self.sequence.to_be_bytes(),
            &self.credential.raw(),
            &self.tag,
            &self.issued_at.as_ms().to_be_bytes(),
            &self.currency_number.to_be_bytes(),
            cap.last_chunk::<6>().expect("8 bytes hold 6"),
        ];
        let mut bytes = [0; STATEMENT_BYTES];
        bytes
            .iter_mut()
            .zip(fields.iter().flat_map(|field| field.iter()))
            .for_each(|(to, from)| *to = *from);
        bytes
    }

    /// Reads 64 bytes. Only layout is judged: a lifetime of 3 600 reads, and an issuer refuses it.
    ///
    /// # Errors
    /// In this order: version, prefix, locator, time.
    pub fn decode(bytes: &[u8; STATEMENT_BYTES]) -> Result<Self, Malformed> {
        let bad = |why| Malformed::new("statement", why);
        let mut rest = bytes.as_slice();
        let [version, nibbles] = take(&mut rest)?;
        if version != 1 {
            return Err(bad("its version is not 1"));
        }
        if nibbles & 0xf0 != 0 {
            return Err(bad("the high nibble of byte 1 is not 0"));
        }
        let lifetime_s = u16::from_be_bytes(take(&mut rest)?);
        let prefix = Prefix::from_number(u32::from_be_bytes(take(&mut rest)?), nibbles)
            .ok_or(bad("its prefix is not 4 to 8 digits"))?;
        let locator = Locator::from_number(u32::from_be_bytes(take(&mut rest)?))
            .ok_or(bad("its locator is not six digits"))?;
        let sequence = u32::from_be_bytes(take(&mut rest)?);
        let credential = CredentialId::from_raw(take(&mut rest)?);
        let tag = take(&mut rest)?;
        let issued_ms = u64::from_be_bytes(take(&mut rest)?);
        let issued_at = Timestamp::from_ms(issued_ms);
        if issued_at.as_ms() != issued_ms {
            return Err(bad("its time lies after the year 9999"));
        }
        let currency_number = u16::from_be_bytes(take(&mut rest)?);
        let cap: [u8; 6] = take(&mut rest)?;
        let cap_minor = cap.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        Ok(Self {
            prefix,
            locator,
            lifetime_s,
            sequence,
            credential,
            tag,
            issued_at,
            currency_number,
            cap_minor,
        })
    }

    /// Signs it with the terminal's key.
    pub fn sign(&self, key: &PrivateKey) -> Registration {
        Registration { statement: self.clone(), signature: key.sign(&signed_bytes(&self.encode())) }
    }

    /// Names the statement in acknowledgements, and tells a repeat from another.
    pub fn digest(&self) -> [u8; 32] {
        mac::sha256(&[&self.encode()])
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (head, tail) =
        rest.split_first_chunk::<N>().ok_or(Malformed::new("statement", "is too short"))?;
    *rest = tail;
    Ok(*head)
}

fn signed_bytes(statement: &[u8; STATEMENT_BYTES]) -> Vec<u8> {
    [b"warifu/registration/v1\n".as_slice(), statement].concat()
}

/// A signed statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// What is said.
    pub statement: Statement,
    /// By whom; unchecked until [`Registration::is_signed_by`] says so.
    pub signature: Signature,
}

impl Registration {
    /// The 128 bytes.
    pub fn encode(&self) -> [u8; REGISTRATION_BYTES] {
        let mut bytes = [0; REGISTRATION_BYTES];
        let parts = self.statement.encode().into_iter().chain(self.signature);
        bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        bytes
    }

    /// Reads 128 bytes.
    ///
    /// # Errors
    /// As [`Statement::decode`].
    pub fn decode(bytes: &[u8; REGISTRATION_BYTES]) -> Result<Self, Malformed> {
        let mut rest = bytes.as_slice();
        let statement = Statement::decode(&take(&mut rest)?)?;
        Ok(Self { statement, signature: take(&mut rest)? })
    }

    /// Whether the signature is this key's (about 60 µs).
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        key.verifies(&signed_bytes(&self.statement.encode()), &self.signature)
    }
}

/// Proves to the terminal that the issuer itself stored the statement, past the hub.
pub fn registered_ack(
    link_key: &[u8; 32],
    statement_digest: &[u8; 32],
    expires_at: Timestamp,
    now: Timestamp,
) -> [u8; 16] {
    let (expires, now) = (expires_at.as_ms().to_be_bytes(), now.as_ms().to_be_bytes());
    mac::first_16(mac::hmac_sha256(
        link_key,
        &[b"warifu/registered/v1\n", statement_digest, &expires, &now],
    ))
}

/// Proves to the terminal that the issuer itself says its clock is wrong.
pub fn clock_ack(link_key: &[u8; 32], statement_digest: &[u8; 32], now: Timestamp) -> [u8; 16] {
    mac::first_16(mac::hmac_sha256(
        link_key,
        &[b"warifu/clock/v1\n", statement_digest, &now.as_ms().to_be_bytes()],
    ))
}
