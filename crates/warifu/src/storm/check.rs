//! What must hold after the storm, as a function over two lists: what tills were told, and what issuers have booked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

/// What an agent says of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// In a word: approved, declined, reversed, reversing, refused, not_taken.
    pub(super) result: String,
    /// Whether the goods may be handed over.
    pub(super) is_paid: bool,
    /// Which attempt it speaks of.
    pub(super) request_id: Option<String>,
}

/// An order, and everything that its till was ever told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) id: String,
    pub(super) amount_minor: u64,
    /// In the order in which it came; the last one is from after the storm, when there was one.
    pub(super) said: Vec<Said>,
}

/// A payment in an issuer's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Booked {
    pub(super) issuer: String,
    pub(super) payment_id: String,
    pub(super) request_id: String,
    pub(super) order_id: Option<String>,
    pub(super) status: String,
    /// What is with the merchant now.
    pub(super) net_minor: u64,
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Breach {
    /// More than one payment of an order has money.
    PaidTwice { order: String, payments: Vec<String> },
    /// The till handed out goods, and there is no such money.
    PaidWithoutMoney { order: String, said: String },
    /// The till was told another outcome, and the payer's money is gone.
    MoneyWithoutPaid { order: String, said: String, payment: String },
    /// The till was told so and then the contrary.
    Unsaid { order: String, before: String, after: String },
    /// Money for an order that no till knows of.
    Orphan { payment: String, issuer: String },
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PaidTwice { order, payments } => {
                write!(f, "{order} was paid more than once: {}", payments.join(", "))
            }
            Self::PaidWithoutMoney { order, said } => {
                write!(f, "{order}: the till was told {said}, and no issuer has that money")
            }
            Self::MoneyWithoutPaid { order, said, payment } => {
                write!(f, "{order}: the till was told {said}, and {payment} has taken money")
            }
            Self::Unsaid { order, before, after } => {
                write!(f, "{order}: the till was told {before} and then {after} of one attempt")
            }
            Self::Orphan { payment, issuer } => {
                write!(f, "{payment} at {issuer} took money for an order that no till knows")
            }
        }
    }
}

impl Said {
    /// Reads an agent's answer; none when it is not about an outcome.
    pub(super) fn read(answer: &Value) -> Option<Self> {
        let result = answer.get("result")?.as_str()?.to_owned();
        let is_paid = answer.get("paid").and_then(Value::as_bool)?;
        let request_id = answer.get("request_id").and_then(Value::as_str).map(str::to_owned);
        Some(Self { result, is_paid, request_id })
    }
}

impl Booked {
    /// Reads a row of the operator's list.
    pub(super) fn read(issuer: &str, row: &Value) -> Option<Self> {
        let text = |name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
        let minor = |name: &str| row.get(name).and_then(Value::as_u64);
        let status = text("status")?;
        let amount = row.get("amount")?.get("minor")?.as_u64()?;
        let net_minor = if status == "approved" {
            let refunded = minor("refunded_minor").unwrap_or_default();
            minor("captured_minor").unwrap_or(amount).saturating_sub(refunded)
        } else {
            0
        };
        Some(Self {
            issuer: issuer.to_owned(),
            payment_id: text("payment_id")?,
            request_id: text("request_id")?,
            order_id: text("order_id"),
            status,
            net_minor,
        })
    }
}

/// Compares all orders with all books. Nothing found means that every law held.
pub(super) fn check(orders: &[Order], booked: &[Booked]) -> Vec<Breach> {
    let mut by_request: BTreeMap<&str, &str> = BTreeMap::new();
    for order in orders {
        for said in &order.said {
            by_request.extend(said.request_id.as_deref().map(|it| (it, order.id.as_str())));
        }
    }
    let known: BTreeSet<&str> = orders.iter().map(|it| it.id.as_str()).collect();
    let mut breaches = Vec::new();
    let mut money: BTreeMap<&str, Vec<&Booked>> = BTreeMap::new();
    for payment in booked.iter().filter(|it| it.net_minor > 0) {
        let by_order = payment.order_id.as_deref().filter(|it| known.contains(it));
        match by_order.or_else(|| by_request.get(payment.request_id.as_str()).copied()) {
            Some(order) => money.entry(order).or_default().push(payment),
            None => breaches.push(Breach::Orphan {
                payment: payment.payment_id.clone(),
                issuer: payment.issuer.clone(),
            }),
        }
    }
    for order in orders {
        let paid = money.get(order.id.as_str()).map(Vec::as_slice).unwrap_or_default();
        breaches.extend(check_order(order, paid));
        breaches.extend(unsaid(order));
    }
    breaches
}

fn check_order(order: &Order, money: &[&Booked]) -> Option<Breach> {
    let id = order.id.clone();
    let last = order.said.last();
    let said = last.map_or_else(|| "nothing".to_owned(), |it| it.result.clone());
    match (last.is_some_and(|it| it.is_paid), money) {
        (_, [_, _, ..]) => {
            let payments = money.iter().map(|it| it.payment_id.clone()).collect();
            Some(Breach::PaidTwice { order: id, payments })
        }
        (true, [payment]) => {
            let is_it = payment.net_minor == order.amount_minor
                && last
                    .and_then(|it| it.request_id.as_deref())
                    .is_none_or(|it| it == payment.request_id);
            (!is_it).then_some(Breach::PaidWithoutMoney { order: id, said })
        }
        (true, []) => Some(Breach::PaidWithoutMoney { order: id, said }),
        (false, [payment]) => {
            let payment = payment.payment_id.clone();
            Some(Breach::MoneyWithoutPaid { order: id, said, payment })
        }
        (false, []) => None,
    }
}

/// An outcome that was told is never told otherwise. A later attempt may end otherwise, but not after one that paid.
fn unsaid(order: &Order) -> Option<Breach> {
    let is_later_attempt = |before: &Said, after: &Said| {
        let ids = before.request_id.as_ref().zip(after.request_id.as_ref());
        ids.is_some_and(|(before, after)| before != after)
    };
    let mut pairs = order.said.iter().zip(order.said.iter().skip(1));
    let (before, after) = pairs.find(|(before, after)| match (before.is_paid, after.is_paid) {
        (true, false) => true,
        (false, true) => !is_later_attempt(before, after),
        (true, true) | (false, false) => false,
    })?;
    Some(Breach::Unsaid {
        order: order.id.clone(),
        before: before.result.clone(),
        after: after.result.clone(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(result: &str, request: &str) -> Said {
        let is_paid = result == "approved";
        Said { result: result.to_owned(), is_paid, request_id: Some(request.to_owned()) }
    }

    fn order(id: &str, said: &[Said]) -> Order {
        Order { id: id.to_owned(), amount_minor: 100, said: said.to_vec() }
    }

    fn booked(request: &str, status: &str) -> Booked {
        let row = json!({
            "payment_id": format!("pay_{request}"), "request_id": request, "status": status,
            "amount": { "minor": 100, "currency": "JPY" },
        });
        Booked::read("Aoba Pay", &row).unwrap()
    }

    #[track_caller]
    fn finds(orders: &[Order], booked: &[Booked], want: &[&str]) {
        let found: Vec<_> = check(orders, booked).iter().map(ToString::to_string).collect();
        assert_eq!(found, want);
    }

    #[test]
    fn answers_that_agree_with_the_books_are_fine() {
        let orders = [
            order("1", &[said("approved", "a"), said("approved", "a")]),
            order("2", &[said("reversing", "b"), said("reversed", "b")]),
            order("3", &[said("declined", "c")]),
            order("4", &[said("not_taken", "d"), said("approved", "e")]),
            order("5", &[]),
        ];
        let books = [
            booked("a", "approved"),
            booked("b", "reversed"),
            booked("c", "declined"),
            booked("e", "approved"),
            booked("never-told", "declined"),
        ];
        finds(&orders, &books, &[]);
    }

    #[test]
    fn an_order_is_paid_once_at_most() {
        let orders = [order("1", &[said("reversed", "a"), said("approved", "b")])];
        let books = [booked("a", "approved"), booked("b", "approved")];
        finds(&orders, &books, &["1 was paid more than once: pay_a, pay_b"]);
    }

    #[test]
    fn what_the_till_was_told_is_what_the_books_say() {
        let nothing = "1: the till was told approved, and no issuer has that money";
        finds(&[order("1", &[said("approved", "a")])], &[], &[nothing]);
        finds(&[order("1", &[said("approved", "a")])], &[booked("a", "reversed")], &[nothing]);
        let gone = "1: the till was told reversing, and pay_a has taken money";
        finds(&[order("1", &[said("reversing", "a")])], &[booked("a", "approved")], &[gone]);
        let other = Booked { net_minor: 99, ..booked("a", "approved") };
        finds(&[order("1", &[said("approved", "a")])], &[other], &[nothing]);
    }

    #[test]
    fn nothing_is_unsaid() {
        let orders = [order("1", &[said("approved", "a"), said("reversed", "a")])];
        let unsaid = "1: the till was told approved and then reversed of one attempt";
        finds(&orders, &[booked("a", "reversed")], &[unsaid]);
        let orders = [order("1", &[said("reversed", "a"), said("approved", "a")])];
        let unsaid = "1: the till was told reversed and then approved of one attempt";
        finds(&orders, &[booked("a", "approved")], &[unsaid]);
        let nameless = Said { request_id: None, ..said("approved", "") };
        let orders = [order("1", &[said("reversed", "a"), nameless])];
        finds(
            &orders,
            &[Booked { order_id: Some("1".to_owned()), ..booked("b", "approved") }],
            &[unsaid],
        );
    }

    #[test]
    fn no_money_moves_that_no_till_knows_of() {
        let orphan = "pay_a at Aoba Pay took money for an order that no till knows";
        finds(&[], &[booked("a", "approved")], &[orphan]);
        let of_order = Booked { order_id: Some("1".to_owned()), ..booked("a", "approved") };
        let gone = "1: the till was told nothing, and pay_a has taken money";
        finds(&[order("1", &[])], &[of_order], &[gone]);
    }

    #[test]
    fn refunds_count_and_answers_without_an_outcome_do_not() {
        let row = json!({
            "payment_id": "pay_a", "request_id": "a", "order_id": "1", "status": "approved",
            "amount": { "minor": 100 }, "captured_minor": 100, "refunded_minor": 100,
        });
        assert_eq!(Booked::read("x", &row).unwrap().net_minor, 0);
        assert_eq!(Said::read(&json!({ "error": { "message": "busy" } })), None);
        let answer = json!({ "result": "approved", "paid": true, "request_id": "a" });
        assert_eq!(Said::read(&answer), Some(said("approved", "a")));
    }
}
