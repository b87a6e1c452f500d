//! Currencies: ISO 4217, and regional ones that a registrar gives out.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Malformed;

/// Three capital letters (a regional one: `X` and two letters or digits) as they stand in JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CurrencyCode([u8; 3]);

impl CurrencyCode {
    /// Reads three characters.
    ///
    /// # Errors
    /// When it is neither three capital letters nor `X` and two of `A–Z 0–9`.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        const BAD: Malformed =
            Malformed::new("currency", "must be an ISO 4217 code or X and two of A-Z 0-9");
        let bytes: [u8; 3] = text.as_bytes().try_into().map_err(|_| BAD)?;
        let [first, rest @ ..] = bytes;
        let letters = bytes.iter().all(u8::is_ascii_uppercase);
        let regional =
            first == b'X' && rest.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        if letters || regional { Ok(Self(bytes)) } else { Err(BAD) }
    }

    /// The three characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("parse accepts ASCII only")
    }
}

impl fmt::Display for CurrencyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for CurrencyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for CurrencyCode {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for CurrencyCode {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// A currency with the number that binary layouts carry and the digits of its minor unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency {
    /// As in JSON.
    pub code: CurrencyCode,
    /// ISO 4217 number, or 1000–65535 for a regional currency.
    pub number: u16,
    /// Decimal digits of the minor unit: 0 for JPY, 2 for EUR.
    pub exponent: u8,
}

impl Currency {
    /// Finds an ISO 4217 currency by its letters.
    pub fn iso(code: CurrencyCode) -> Option<Self> {
        let iso = iso_currency::Currency::from_code(code.as_str())?;
        // Currencies without a minor unit in ISO's table (gold, testing) are not money that can be paid.
        let exponent = u8::try_from(iso.exponent()?).ok()?;
        Some(Self { code, number: iso.numeric(), exponent })
    }

    /// Makes a regional currency.
    ///
    /// # Errors
    /// When the code is ISO's or does not begin with `X`, the number is below 1000 or the exponent above 6.
    pub fn regional(code: CurrencyCode, number: u16, exponent: u8) -> Result<Self, Malformed> {
        if !code.as_str().starts_with('X')
            || iso_currency::Currency::from_code(code.as_str()).is_some()
        {
            return Err(Malformed::new(
                "currency",
                "a regional code is X and two of A-Z 0-9 that ISO does not use",
            ));
        }
        if number < 1000 {
            return Err(Malformed::new("currency", "a regional number lies in 1000-65535"));
        }
        if exponent > 6 {
            return Err(Malformed::new("currency", "an exponent lies in 0-6"));
        }
        Ok(Self { code, number, exponent })
    }

    /// Minor units as exact decimal text: 1250 of EUR is `12.50`.
    pub fn format(&self, minor: i128) -> String {
        let digits = usize::from(self.exponent);
        let sign = if minor < 0 { "-" } else { "" };
        let text = format!("{:0>width$}", minor.unsigned_abs(), width = digits.saturating_add(1));
        let (whole, part) = text.split_at(text.len().saturating_sub(digits));
        if part.is_empty() {
            format!("{sign}{whole} {}", self.code)
        } else {
            format!("{sign}{whole}.{part} {}", self.code)
        }
    }

    /// Reads exact decimal text in major units, as a person types it: `12.5` of EUR is 1250.
    ///
    /// # Errors
    /// When it is not a plain decimal number, has more digits than the minor unit, or is too large.
    pub fn parse_minor(&self, text: &str) -> Result<u64, Malformed> {
        const BAD: Malformed =
            Malformed::new("amount", "must be a plain decimal number such as 1200 or 12.50");
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let ends_in_dot = text.contains('.') && part.is_empty();
        if whole.is_empty()
            || ends_in_dot
            || !whole.bytes().chain(part.bytes()).all(|b| b.is_ascii_digit())
        {
            return Err(BAD);
        }
        if part.len() > usize::from(self.exponent) {
            return Err(Malformed::new("amount", "has more decimals than the currency"));
        }
        let padded = format!("{whole}{part:0<width$}", width = usize::from(self.exponent));
        padded
            .parse()
            .ok()
            .filter(|minor| *minor <= crate::limits::MINOR_MAX)
            .ok_or(Malformed::new("amount", "is too large"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iso(code: &str) -> Currency {
        Currency::iso(CurrencyCode::parse(code).unwrap()).unwrap()
    }

    #[test]
    fn decimal_text_is_exact_both_ways() {
        for (code, minor, text) in [
            ("JPY", 1200, "1200 JPY"),
            ("EUR", 5, "0.05 EUR"),
            ("KWD", 1_234, "1.234 KWD"),
            ("EUR", -1250, "-12.50 EUR"),
        ] {
            assert_eq!(iso(code).format(minor), text);
        }
        assert_eq!(iso("EUR").parse_minor("12.5"), Ok(1250));
        assert_eq!(iso("JPY").parse_minor("1200"), Ok(1200));
        for bad in [
            "",
            ".5",
            "1.",
            "1,2",
            "-1",
            "+1",
            "1e3",
            "0x1",
            "12.345",
            " 1",
            "99999999999999999999",
        ] {
            assert!(iso("EUR").parse_minor(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn regional_codes_keep_clear_of_iso() {
        let code = |text| CurrencyCode::parse(text).unwrap();
        assert!(Currency::regional(code("XK1"), 1000, 2).is_ok());
        assert!(Currency::regional(code("XAU"), 1000, 2).is_err());
        assert!(Currency::regional(code("XK1"), 999, 2).is_err());
        assert!(Currency::regional(code("EUR"), 1000, 2).is_err());
        assert_eq!(iso("JPY").number, 392);
        for bad in ["jpy", "JP", "JPYY", "1PY", "J1Y", "X-1"] {
            assert!(CurrencyCode::parse(bad).is_err(), "{bad}");
        }
    }
}
