//! Money on the wire: an amount in minor units with its currency. There is no arithmetic here: sums are made
//! inside one account, which has one currency, by checked integer operations.

use serde::{Deserialize, Serialize};

use crate::Malformed;
use crate::currency::CurrencyCode;
use crate::limits::MINOR_MAX;

/// `{"minor": 1200, "currency": "JPY"}`, with `minor` in 1 to 10^15 − 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "ReadMoney")]
pub struct Money {
    #[schema(value_type = u64, minimum = 1, maximum = 999_999_999_999_999u64)]
    minor: u64,
    #[schema(value_type = String, example = "JPY")]
    currency: CurrencyCode,
}

impl Money {
    /// Takes an amount that is known to be payable.
    ///
    /// # Errors
    /// When it is zero or above [`MINOR_MAX`].
    pub fn new(minor: u64, currency: CurrencyCode) -> Result<Self, Malformed> {
        if (1..=MINOR_MAX).contains(&minor) {
            Ok(Self { minor, currency })
        } else {
            Err(Malformed::new("amount", "minor must lie in 1 to 999999999999999"))
        }
    }

    /// Minor units.
    pub fn minor(self) -> u64 {
        self.minor
    }

    /// The currency's letters.
    pub fn currency(self) -> CurrencyCode {
        self.currency
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadMoney {
    minor: u64,
    currency: CurrencyCode,
}

impl TryFrom<ReadMoney> for Money {
    type Error = Malformed;

    fn try_from(read: ReadMoney) -> Result<Self, Malformed> {
        Self::new(read.minor, read.currency)
    }
}

/// Money that may be nothing, as answers carry it (`captured`, `refunded`, balances). May be below zero in a
/// pay-later balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Sum {
    /// Minor units, with a sign.
    pub minor: i64,
    /// The currency's letters.
    #[schema(value_type = String, example = "JPY")]
    pub currency: CurrencyCode,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_positive_amounts_are_read() {
        let read = |minor: &str| {
            serde_json::from_str::<Money>(&format!(r#"{{"minor":{minor},"currency":"JPY"}}"#))
        };
        assert_eq!(read("1").unwrap().minor(), 1);
        assert_eq!(read("999999999999999").unwrap().minor(), MINOR_MAX);
        for bad in [
            "0",
            "-1",
            "-0",
            "1.0",
            "1e3",
            "1E0",
            "1000000000000000",
            "18446744073709551616",
            "\"1\"",
            "null",
            "[]",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(
            serde_json::from_str::<Money>(r#"{"minor":1,"minor":2,"currency":"JPY"}"#).is_err()
        );
        assert!(serde_json::from_str::<Money>(r#"{"minor":1,"currency":"JPY","x":0}"#).is_err());
    }
}
