//! How notices, times and codes read for people and for programs.

use serde_json::{Value, json};
use warifu_proto::currency::{Currency, CurrencyCode};
use warifu_proto::limits::CODE_DIGITS;
use warifu_proto::message::NoticeText;
use warifu_proto::problem::ProblemCode;
use warifu_proto::time::Timestamp;
use warifu_terminal::{Link, Question};

use crate::fail::Failure;
use crate::paths::day;

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
    let amount = |minor: i128, currency| amount(minor, currency, own);
    let of = amount(i128::from(notice.amount.minor()), notice.amount.currency());
    let merchant = &notice.merchant.name;
    let what = match notice.kind.as_str() {
        "held" => match notice.expires_at {
            Some(at) => format!("reserved {of} for {merchant} until {}", day(at)),
            None => format!("reserved {of} for {merchant}"),
        },
        "captured" => format!("paid {of} of what was reserved, {merchant}"),
        "released" => format!("released {of} that was reserved, {merchant}"),
        "expired" => format!("released {of} whose reservation has ended, {merchant}"),
        "refunded" => format!("got back {of}, {merchant}"),
        "reversed" => format!("undone: {of}, {merchant}"),
        "confirm" => format!("asked too late to pay {of}, {merchant}"),
        kind => format!("{kind} {of}, {merchant}"),
    };
    let mut line = format!("{}  {what}", time_of_day(notice.at));
    if let Some(reason) = &notice.reason {
        line.push_str(": ");
        line.push_str(reason);
    }
    if let Some(balance) = notice.balance {
        let balance = amount(i128::from(balance.minor), balance.currency);
        line.push_str(&format!("; balance {balance}"));
    }
    line
}

/// Who wants how much, as the payer has to judge it.
pub(super) fn wanted(notice: &NoticeText, link: &Link) -> String {
    let own = Some(link.currency());
    let of = amount(i128::from(notice.amount.minor()), notice.amount.currency(), own);
    format!("{} to {}", with_commas(&of), notice.merchant.name)
}

/// A question in one line.
pub(super) fn question_line(question: &Question, link: &Link) -> String {
    let until = time_of_day(question.expires_at());
    format!("until {until}  Pay {}?", wanted(&question.notice, link))
}

/// A question for a program.
pub(super) fn question_object(question: &Question) -> Value {
    json!({ "event": "question", "number": question.number, "notice": question.notice })
}

/// An amount's whole part in groups of three: a large one has to be read right before it is paid.
fn with_commas(amount: &str) -> String {
    let whole = amount.find(|it: char| !it.is_ascii_digit()).unwrap_or(amount.len());
    let (whole, rest) = amount.split_at(whole);
    let mut text = String::with_capacity(amount.len() + whole.len() / 3);
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

/// Says of a refusal what it means when the hub does not know the terminal: nobody vouches for a terminal's key but the
/// link, which has ended. Other refusals stay as they are.
pub(super) fn or_link_ended(failure: Failure, code: &str, link: &Link) -> Failure {
    let ended = [ProblemCode::KeyUnknown, ProblemCode::CredentialUnknown];
    if ended.iter().all(|it| it.name() != code) {
        return failure;
    }
    let issuer = &link.issuer.name;
    let mut failure =
        failure.next(format_args!("ask {issuer} for a new invitation, and link another folder"));
    "the link of this terminal has ended: the hub does not know it any more"
        .clone_into(&mut failure.message);
    failure
}

/// The hub refuses to hand out notices.
pub(super) fn no_notices(problem: Value, link: &Link) -> Failure {
    let code = problem.get("code").and_then(Value::as_str).unwrap_or_default().to_owned();
    let failure = Failure::problem(problem).during("the hub gives no notices");
    or_link_ended(failure, &code, link)
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
        for (plain, read) in [
            ("7 JPY", "7 JPY"),
            ("120 JPY", "120 JPY"),
            ("12000 JPY", "12,000 JPY"),
            ("1234567.50 EUR", "1,234,567.50 EUR"),
        ] {
            assert_eq!(with_commas(plain), read);
        }
        let code = |text| CurrencyCode::parse(text).unwrap();
        assert_eq!(amount(1250, code("EUR"), None), "12.50 EUR");
        assert_eq!(amount(7, code("XK1"), None), "7 minor units of XK1");
        let own = Currency::regional(code("XK1"), 1000, 1).unwrap();
        assert_eq!(amount(-15, code("XK1"), Some(own)), "-1.5 XK1");
    }
}
