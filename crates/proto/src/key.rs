//! Keys: ECDSA P-256. Public keys travel as JWK and are named by their RFC 7638 thumbprint; signatures are
//! raw r ‖ s, 64 bytes.
//!
//! Signature bytes identify nothing (both values of s verify), so nobody may use them as a key of a table.

use std::fmt;
use std::hash::{Hash, Hasher};

use aws_lc_rs::{agreement, rand::SystemRandom, signature as ecdsa};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::{Malformed, base64url, mac};

/// A raw ECDSA P-256 signature, r ‖ s.
pub type Signature = [u8; 64];

/// The RFC 7638 SHA-256 name of a public key. As text: 43 characters of base64url.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Thumbprint(pub [u8; 32]);

impl Thumbprint {
    /// Reads the text form.
    ///
    /// # Errors
    /// When it is not base64url of 32 bytes.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        base64url::decode_array(text)
            .map(Self)
            .map_err(|_| Malformed::new("thumbprint", "must be 43 characters of base64url"))
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64url::encode(self.0))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thumbprint({self})")
    }
}

impl Serialize for Thumbprint {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Thumbprint {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// A public key whose point is known to lie on the curve, ready to verify (about 60 µs a signature).
#[derive(Clone)]
pub struct PublicKey {
    point: [u8; 65],
    thumbprint: Thumbprint,
    parsed: ecdsa::ParsedPublicKey,
}

impl PublicKey {
    /// Takes the affine coordinates, x ‖ y.
    ///
    /// # Errors
    /// When the point is not on the curve.
    pub fn from_xy(xy: &[u8; 64]) -> Result<Self, Malformed> {
        let mut point = [4; 65];
        point.iter_mut().skip(1).zip(xy).for_each(|(to, from)| *to = *from);
        let parsed = ecdsa::ParsedPublicKey::new(&ecdsa::ECDSA_P256_SHA256_FIXED, point)
            .map_err(|_| Malformed::new("key", "is not a point of P-256"))?;
        let [x, y] = coordinates(xy);
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        Ok(Self { point, thumbprint: Thumbprint(mac::sha256(&[canonical.as_bytes()])), parsed })
    }

    /// The affine coordinates, x ‖ y: the form that is stored.
    pub fn xy(&self) -> [u8; 64] {
        let mut xy = [0; 64];
        xy.iter_mut().zip(self.point.iter().skip(1)).for_each(|(to, from)| *to = *from);
        xy
    }

    /// The key's name.
    pub fn thumbprint(&self) -> Thumbprint {
        self.thumbprint
    }

    /// Whether the signature over the message is this key's.
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }
}

fn coordinates(xy: &[u8; 64]) -> [String; 2] {
    let (x, y) = xy.split_at(32);
    [base64url::encode(x), base64url::encode(y)]
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.thumbprint)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.point == other.point
    }
}

impl Eq for PublicKey {}

impl Hash for PublicKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.point.hash(state);
    }
}

/// A JWK as it is read: other members are ignored, a private one is refused.
#[derive(Deserialize)]
struct ReadJwk<'a> {
    #[serde(borrow)]
    kty: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    crv: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    x: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    y: std::borrow::Cow<'a, str>,
    d: Option<IgnoredAny>,
}

impl TryFrom<ReadJwk<'_>> for PublicKey {
    type Error = Malformed;

    fn try_from(jwk: ReadJwk<'_>) -> Result<Self, Malformed> {
        if jwk.d.is_some() {
            return Err(Malformed::new("key", "carries its private member d: send x and y only"));
        }
        if jwk.kty != "EC" || jwk.crv != "P-256" {
            return Err(Malformed::new("key", "must have kty EC and crv P-256"));
        }
        let x: [u8; 32] = base64url::decode_array(&jwk.x)
            .map_err(|_| Malformed::new("key", "x must be 32 bytes of base64url"))?;
        let y: [u8; 32] = base64url::decode_array(&jwk.y)
            .map_err(|_| Malformed::new("key", "y must be 32 bytes of base64url"))?;
        let mut xy = [0; 64];
        xy.iter_mut().zip(x.iter().chain(&y)).for_each(|(to, from)| *to = *from);
        Self::from_xy(&xy)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let jwk = ReadJwk::deserialize(from)?;
        Self::try_from(jwk).map_err(serde::de::Error::custom)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Jwk<'a> {
            kty: &'a str,
            crv: &'a str,
            x: String,
            y: String,
        }
        let [x, y] = coordinates(&self.xy());
        Jwk { kty: "EC", crv: "P-256", x, y }.serialize(to)
    }
}

/// A private key. Its bytes leave it only by [`PrivateKey::to_bytes`], which says so, and are wiped on drop.
pub struct PrivateKey {
    scalar: Zeroizing<[u8; 32]>,
    pair: ecdsa::EcdsaKeyPair,
    public: PublicKey,
}

impl PrivateKey {
    /// Takes a big-endian scalar: 32 random bytes are one with overwhelming probability.
    ///
    /// # Errors
    /// When the number is zero or not below the order of the curve: draw again.
    pub fn from_bytes(scalar: &[u8; 32]) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed::new("private key", "is not a scalar of P-256");
        let own = agreement::PrivateKey::from_private_key(&agreement::ECDH_P256, scalar)
            .map_err(|_| BAD)?;
        let point = own.compute_public_key().map_err(|_| BAD)?;
        let xy: &[u8; 64] = point.as_ref().last_chunk().ok_or(BAD)?;
        let pair = ecdsa::EcdsaKeyPair::from_private_key_and_public_key(
            &ecdsa::ECDSA_P256_SHA256_FIXED_SIGNING,
            scalar,
            point.as_ref(),
        )
        .map_err(|_| BAD)?;
        Ok(Self { scalar: Zeroizing::new(*scalar), pair, public: PublicKey::from_xy(xy)? })
    }

    /// The secret scalar, for a key file.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.scalar.clone()
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The name of the public half.
    pub fn thumbprint(&self) -> Thumbprint {
        self.public.thumbprint
    }

    /// Signs a message (about 20 µs). Two signatures of one message differ.
    pub fn sign(&self, message: &[u8]) -> Signature {
        let signed =
            self.pair.sign(&SystemRandom::new(), message).expect("a valid key signs any message");
        signed.as_ref().try_into().expect("a fixed P-256 signature has 64 bytes")
    }

    /// The ECDH x-coordinate with somebody's public key.
    ///
    /// # Errors
    /// When the library refuses the pair; a checked [`PublicKey`] never is.
    pub fn agree(&self, with: &PublicKey) -> Result<Zeroizing<[u8; 32]>, Malformed> {
        const BAD: Malformed = Malformed::new("key", "cannot be agreed with");
        let own =
            agreement::PrivateKey::from_private_key(&agreement::ECDH_P256, self.scalar.as_slice())
                .map_err(|_| BAD)?;
        let peer = agreement::UnparsedPublicKey::new(&agreement::ECDH_P256, with.point);
        agreement::agree(&own, peer, BAD, |x| x.try_into().map(Zeroizing::new).map_err(|_| BAD))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {})", self.public.thumbprint)
    }
}
