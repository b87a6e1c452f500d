//! Points in time: Unix milliseconds. In JSON fields ending `_ms` as a number, elsewhere as RFC 3339 UTC
//! with milliseconds.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Malformed;

/// Milliseconds since 1970-01-01T00:00:00Z. As JSON: RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Last instant that has a date in every time zone: 9999-12-30T22:00:00Z.
    pub const MAX: Self = Self(253_402_207_200_000);

    /// Takes Unix milliseconds; anything after [`Timestamp::MAX`] becomes it.
    pub const fn from_ms(ms: u64) -> Self {
        if ms > Self::MAX.0 { Self::MAX } else { Self(ms) }
    }

    /// Unix milliseconds.
    pub const fn as_ms(self) -> u64 {
        self.0
    }

    /// Later by that many milliseconds.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self::from_ms(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this instant; zero when `earlier` is later.
    pub const fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Reads RFC 3339.
    ///
    /// # Errors
    /// When the text is not RFC 3339 or lies before 1970.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed::new("time", "must be RFC 3339 in UTC");
        let at: jiff::Timestamp = text.parse().map_err(|_| BAD)?;
        u64::try_from(at.as_millisecond()).map(Self::from_ms).map_err(|_| BAD)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = i64::try_from(self.0).map_err(|_| fmt::Error)?;
        let at = jiff::Timestamp::from_millisecond(ms).map_err(|_| fmt::Error)?;
        write!(f, "{at:.3}")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_has_milliseconds_and_comes_back() {
        let at = Timestamp::from_ms(1_795_305_600_037);
        assert_eq!(at.to_string(), "2026-11-22T00:00:00.037Z");
        assert_eq!(Timestamp::parse("2026-11-22T00:00:00.037Z").unwrap(), at);
        assert_eq!(Timestamp::from_ms(1_795_305_600_000).to_string(), "2026-11-22T00:00:00.000Z");
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-30T22:00:00.000Z");
    }
}
