//! How notices, times and codes read for people and for programs.

use serde_json::{Value, json};
use warifu_proto::currency::{Currency, CurrencyCode};
use warifu_proto::limits::CODE_DIGITS;
use warifu_proto::message::NoticeText;
use warifu_proto::time::Timestamp;
use warifu_terminal::Link;

/// The time of day, as the clock on the wall shows it.
pub(crate) fn time_of_day(at: Timestamp) -> String {
    let instant = i64::try_from(at.as_ms()).ok();
    instant.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).map_or_else(
        || at.to_string(),
        |it| it.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S").to_string(),
    )
}

/// An amount as people write it. Of a currency that is neither the account's nor ISO's the minor units are left.
pub(crate) fn amount(minor: i128, code: CurrencyCode, own: Option<Currency>) -> String {
    own.filter(|it| it.code == code)
        .or_else(|| Currency::iso(code))
        .map_or_else(|| format!("{minor} minor units of {code}"), |it| it.format(minor))
}

/// A code's digits in groups of four.
pub(super) fn grouped(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() / 4 * 5);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && place % 4 == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Whether these are a long code's digits.
pub(super) fn is_long(digits: &str) -> bool {
    digits.len() > CODE_DIGITS
}

/// A notice in one line.
pub(super) fn notice_line(notice: &NoticeText, link: &Link) -> String {
    let own = Some(link.currency());
    let paid = amount(i128::from(notice.amount.minor()), notice.amount.currency(), own);
    let what = &notice.kind;
    let mut line = format!("{}  {what} {paid}, {}", time_of_day(notice.at), notice.merchant.name);
    if let Some(reason) = &notice.reason {
        line.push_str(": ");
        line.push_str(reason);
    }
    if let Some(balance) = notice.balance {
        let balance = amount(i128::from(balance.minor), balance.currency, own);
        line.push_str(&format!("; balance {balance}"));
    }
    line
}

/// A notice for a program.
pub(super) fn notice_object(number: u64, notice: &NoticeText) -> Value {
    json!({ "event": "notice", "number": number, "notice": notice })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_and_amounts_are_exact() {
        assert_eq!(grouped("710000010728"), "7100 0001 0728");
        let code = |text| CurrencyCode::parse(text).unwrap();
        assert_eq!(amount(1250, code("EUR"), None), "12.50 EUR");
        assert_eq!(amount(7, code("XK1"), None), "7 minor units of XK1");
        let own = Currency::regional(code("XK1"), 1000, 1).unwrap();
        assert_eq!(amount(-15, code("XK1"), Some(own)), "-1.5 XK1");
    }
}
