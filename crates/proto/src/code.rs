//! What the payer shows: 24 digits, or 333 for a terminal without network.
//!
//! ```text
//! code        issuer prefix (4–8) · partition (2) · random (the rest)
//! locator     the partition and the first 4 random digits: finds the registration
//! secret      the remaining digits, at least 10: only the tag of the registration knows them
//! long code   the code, then the 128 bytes of its registration as one integer of exactly 309 digits
//! ```
//!
//! Digits only, so that no keyboard layout of a HID scanner breaks them.

use std::fmt;

use zeroize::Zeroize;

use crate::Malformed;
use crate::limits::{CODE_DIGITS, LONG_CODE_DIGITS, PREFIX_DIGITS_MAX, PREFIX_DIGITS_MIN};
use crate::registration::{REGISTRATION_BYTES, Registration};

/// The 4 to 8 digits that name an issuer. Prefixes of a network are prefix-free. Leading zeros count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    number: u32,
    digits: u8,
}

impl Prefix {
    /// Reads 4 to 8 digits.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed::new("prefix", "must be 4 to 8 digits");
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BAD);
        }
        let digits = u8::try_from(text.len()).map_err(|_| BAD)?;
        Self::from_number(text.parse().map_err(|_| BAD)?, digits).ok_or(BAD)
    }

    /// Takes the number and how many digits it is written with, as a statement carries them.
    pub fn from_number(number: u32, digits: u8) -> Option<Self> {
        let length = usize::from(digits);
        let fits = 10_u64.checked_pow(u32::from(digits)).is_some_and(|end| u64::from(number) < end);
        ((PREFIX_DIGITS_MIN..=PREFIX_DIGITS_MAX).contains(&length) && fits)
            .then_some(Self { number, digits })
    }

    /// The number, without its leading zeros.
    pub fn number(self) -> u32 {
        self.number
    }

    /// How many digits it is written with.
    pub fn digits(self) -> usize {
        usize::from(self.digits)
    }

    /// Whether digits (of a code, a route, another prefix) begin with this prefix.
    pub fn begins(self, digits: &str) -> bool {
        digits.starts_with(self.to_string().as_str())
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0width$}", self.number, width = self.digits())
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Prefix {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Prefix {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Where an issuer looks for a code: partition × 10^4 + the first four random digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locator(u32);

impl Locator {
    /// Takes the number as a statement carries it; below 10^6.
    pub fn from_number(number: u32) -> Option<Self> {
        (number < 1_000_000).then_some(Self(number))
    }

    /// The number, 0–999 999.
    pub fn number(self) -> u32 {
        self.0
    }

    /// The partition, 0–99.
    pub fn partition(self) -> u8 {
        u8::try_from(self.0 / 10_000).expect("a locator is below 10^6")
    }

    /// The place within the partition, 0–9 999.
    pub fn slot(self) -> usize {
        usize::try_from(self.0 % 10_000).expect("below 10^4")
    }
}

/// 24 digits. They are a secret until they are spent: never printed by `Debug`, wiped on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct Code([u8; CODE_DIGITS]);

impl Code {
    /// Reads exactly 24 ASCII digits.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let digits = <[u8; CODE_DIGITS]>::try_from(text.as_bytes())
            .ok()
            .filter(|digits| digits.iter().all(u8::is_ascii_digit))
            .ok_or(Malformed::new("code", "must be 24 digits"))?;
        Ok(Self(digits))
    }

    /// Makes the code of a partition from random bytes, one digit of each.
    ///
    /// Bytes from 250 on are skipped so that every digit is equally likely; with 64 bytes it fails less
    /// often than once in 10^70.
    ///
    /// # Errors
    /// When too few bytes were usable: call again with fresh ones.
    pub fn make(prefix: Prefix, partition: u8, random: &[u8; 64]) -> Result<Self, Malformed> {
        let mut text = format!("{prefix}{partition:02}");
        let digits = random
            .iter()
            .filter(|byte| **byte < 250)
            .map(|byte| char::from(b'0'.saturating_add(byte % 10)));
        let missing = CODE_DIGITS.saturating_sub(text.len());
        text.extend(digits.take(missing));
        let code = Self::parse(&text);
        text.zeroize();
        code
    }

    /// The digits, for a picture or a request.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("parse accepts ASCII only")
    }

    /// Where an issuer with this prefix finds the registration.
    pub fn locator(&self, prefix: Prefix) -> Locator {
        let from = prefix.digits();
        let digits = self.as_str().get(from..from.saturating_add(6)).unwrap_or_default();
        Locator(digits.parse().expect("a code has six digits after its prefix"))
    }

    /// The prefix and partition digits: what a reader keeps to ask about a payment later.
    pub fn route(&self, prefix: Prefix) -> Route {
        Route { prefix, partition: self.locator(prefix).partition() }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Code").finish()
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::ops::Deref for Code {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

/// The prefix and partition of a code: says which issuer and which partition know a request id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// The issuer's prefix.
    pub prefix: Prefix,
    /// The partition, 0–99.
    pub partition: u8,
}

impl Route {
    /// Reads 6 to 10 digits: a prefix and two more.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        const BAD: Malformed =
            Malformed::new("route", "must be the prefix and the two partition digits of the code");
        let cut = text.len().checked_sub(2).filter(|cut| text.is_char_boundary(*cut)).ok_or(BAD)?;
        let (prefix, partition) = text.split_at(cut);
        if !partition.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BAD);
        }
        Ok(Self {
            prefix: Prefix::parse(prefix).map_err(|_| BAD)?,
            partition: partition.parse().map_err(|_| BAD)?,
        })
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:02}", self.prefix, self.partition)
    }
}

impl serde::Serialize for Route {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Route {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// What a reader has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// The 24 digits.
    pub code: Code,
    /// The registration that a long code carries.
    pub registration: Option<Box<Registration>>,
}

impl Scanned {
    /// Reads what a scanner gave: ASCII white space around it is trimmed, then exactly 24 or 333 digits.
    ///
    /// # Errors
    /// `code_malformed` for everything else; nobody need be asked.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed::new("code", "must be 24 or 333 digits");
        let digits = text.trim_matches(|c: char| c.is_ascii_whitespace());
        if digits.len() == CODE_DIGITS {
            return Ok(Self { code: Code::parse(digits).map_err(|_| BAD)?, registration: None });
        }
        if digits.len() != LONG_CODE_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BAD);
        }
        let (code, number) = digits.split_at(CODE_DIGITS);
        let bytes = from_decimal(number.as_bytes())
            .ok_or(Malformed::new("code", "its number does not fit in 128 bytes"))?;
        let registration = Registration::decode(&bytes)?;
        Ok(Self { code: Code::parse(code)?, registration: Some(Box::new(registration)) })
    }

    /// The digits again: 24 or 333 of them.
    pub fn to_digits(&self) -> String {
        match &self.registration {
            None => self.code.as_str().to_owned(),
            Some(registration) => {
                format!("{}{}", self.code.as_str(), to_decimal(&registration.encode()))
            }
        }
    }
}

const NUMBER_DIGITS: usize = LONG_CODE_DIGITS - CODE_DIGITS;

/// The integer of 128 bytes in exactly 309 digits (2^1024 has 309).
fn to_decimal(bytes: &[u8; REGISTRATION_BYTES]) -> String {
    let mut number = *bytes;
    let mut digits = [b'0'; NUMBER_DIGITS];
    for digit in digits.iter_mut().rev() {
        // Long division by ten; the remainder is the next digit from the right.
        let rest = number.iter_mut().fold(0_u16, |rest, byte| {
            let value = u16::from_be_bytes([u8::try_from(rest).unwrap_or_default(), *byte]);
            *byte = u8::try_from(value / 10).unwrap_or_default();
            value % 10
        });
        *digit = b'0'.saturating_add(u8::try_from(rest).unwrap_or_default());
    }
    String::from_utf8(digits.to_vec()).expect("digits are ASCII")
}

/// The 128 bytes of a decimal number, or nothing when it is too large.
fn from_decimal(digits: &[u8]) -> Option<[u8; REGISTRATION_BYTES]> {
    let mut number = [0_u8; REGISTRATION_BYTES];
    for digit in digits {
        let carry =
            number.iter_mut().rev().fold(u16::from(digit.checked_sub(b'0')?), |carry, byte| {
                let [high, low] =
                    u16::from(*byte).saturating_mul(10).saturating_add(carry).to_be_bytes();
                *byte = low;
                u16::from(high)
            });
        if carry != 0 {
            return None;
        }
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn made_codes_have_even_digits_and_their_prefix() {
        let prefix = Prefix::parse("71000001").unwrap();
        let mut random = [0; 64];
        (0_u8..).zip(&mut random).for_each(|(i, byte)| *byte = 255 - i);
        let code = Code::make(prefix, 7, &random).unwrap();
        // 255 down to 250 are skipped; 249 is the first digit, 9.
        assert_eq!(code.as_str(), "710000010798765432109876");
        assert!(Code::make(prefix, 7, &[250; 64]).is_err());
        assert_eq!(format!("{code:?}"), "Code");
    }

    #[test]
    fn routes_are_prefix_and_partition() {
        let route = Route::parse("7100000107").unwrap();
        assert_eq!((route.prefix.number(), route.partition), (71_000_001, 7));
        assert_eq!(route.to_string(), "7100000107");
        for bad in ["", "1", "71007", "710000010777", "7100000a07", "71000001é", "710000010é"] {
            assert!(Route::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn numbers_come_back(bytes in proptest::array::uniform32(any::<u8>())) {
            let mut number = [0; REGISTRATION_BYTES];
            number.iter_mut().zip(bytes.iter().cycle()).for_each(|(to, from)| *to = *from);
            prop_assert_eq!(from_decimal(to_decimal(&number).as_bytes()), Some(number));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,400}", digits in "[0-9]{333}") {
            let _read = Scanned::parse(&text);
            let _read = Scanned::parse(&digits);
            let _read = Route::parse(&text);
            let _read = Prefix::parse(&text);
        }

        #[test]
        fn a_codes_parts_are_its_digits(partition in 0_u8..100, random: [u8; 32], length in 4_usize..=8) {
            let mut bytes = [0; 64];
            bytes.iter_mut().zip(random.iter().cycle()).for_each(|(to, from)| *to = from % 250);
            let prefix = Prefix::parse(&"70123456"[..length]).unwrap();
            let code = Code::make(prefix, partition, &bytes).unwrap();
            prop_assert!(prefix.begins(&code));
            prop_assert_eq!(code.locator(prefix).partition(), partition);
            prop_assert_eq!(&code.as_str()[length..length + 6], format!("{:06}", code.locator(prefix).number()));
            prop_assert_eq!(Route::parse(&code.as_str()[..length + 2]).unwrap(), code.route(prefix));
        }
    }
}
