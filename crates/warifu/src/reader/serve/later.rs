//! Refunds, captures and releases of an order. Each runs to its answer by itself, whoever waits for it.

use std::sync::Arc;

use serde_json::{Value, json};
use warifu_proto::message::Payment;
use warifu_reader::change::{Change, Deed};
use warifu_reader::{Record, Standing};

use super::agent::Agent;
use super::errors::{Answer, Fault};
use super::wire::{self, CaptureBody, RefundBody, ReleaseBody};
use crate::fail::Failure;
use crate::reader::later::{refund_name, rest};
use crate::reader::say;

impl Agent {
    /// Gives back part or all of an order.
    pub(super) async fn refund(self: &Arc<Self>, body: RefundBody) -> Answer<Value> {
        body.check().map_err(|error| Fault::malformed(&error.to_string()))?;
        let (record, payment) = self.paid(&body.order_id)?;
        let name = refund_name(&body.refund_id);
        let known = self.till.journal.find_change(&name)?;
        let deed = match (body.amount, known) {
            // The till repeats one of "all that is left", which was worked out then.
            (None, Some(known)) if !known.is_refused() => known.deed,
            (amount, _) => {
                let amount = amount.or_else(|| rest(&payment)).ok_or_else(nothing_left)?;
                Deed::Refund { amount, reason: body.reason }
            }
        };
        let change = self.make(record, name, deed).await?;
        let mut answer = wire::change(&body.order_id, &change)?;
        if let Some(fields) = answer.as_object_mut() {
            let is_done = fields.remove("done").unwrap_or_default();
            fields.insert("refunded".to_owned(), is_done);
            fields.insert("refund_id".to_owned(), json!(body.refund_id));
        }
        Ok(answer)
    }

    /// Takes part or all of what is reserved for an order.
    pub(super) async fn capture(self: &Arc<Self>, body: CaptureBody) -> Answer<Value> {
        let (record, _) = self.paid(&body.order_id)?;
        let name = format!("capture:{}", record.request_id);
        let amount = body.amount.unwrap_or(record.amount);
        let change = self.make(record, name, Deed::Capture { amount }).await?;
        wire::change(&body.order_id, &change)
    }

    /// Gives back what is reserved for an order.
    pub(super) async fn release(self: &Arc<Self>, body: ReleaseBody) -> Answer<Value> {
        let (record, _) = self.paid(&body.order_id)?;
        let name = format!("release:{}", record.request_id);
        let change = self.make(record, name, Deed::Release).await?;
        wire::change(&body.order_id, &change)
    }

    /// In a task of its own: a till that goes away must not stop it half-way.
    async fn make(self: &Arc<Self>, record: Record, name: String, deed: Deed) -> Answer<Change> {
        let agent = Arc::clone(self);
        let made = tokio::spawn(async move {
            let turn = agent.turn(&name);
            let _mine = turn.lock().await;
            let changed = agent.till.change(&record, name.clone(), deed).await;
            // It may have left before the journal failed.
            if changed.is_err()
                && let Ok(Some(change)) = agent.till.journal.find_change(&name)
                && change.is_open()
            {
                agent.keep_change(change);
            }
            let change = changed?;
            count_change(&change);
            if change.is_open() {
                agent.keep_change(change.clone());
            }
            Ok(change)
        });
        made.await.map_err(|_| Fault::from(Failure::usage("the work was broken off")))?
    }

    /// The attempt by which the order was paid, whatever was given back since.
    fn paid(&self, order_id: &str) -> Answer<(Record, Payment)> {
        let attempts = self.till.journal.of_order(order_id)?;
        if attempts.is_empty() {
            return Err(Fault::no_order());
        }
        let claims = |it: &&Record| it.standing.claims_order();
        let last = attempts.iter().rev().find(claims).or(attempts.last());
        match last.map(|it| (it, &it.standing)) {
            Some((record, Standing::Decided { payment })) => {
                Ok((record.clone(), (**payment).clone()))
            }
            _ => Err(Fault::not_paid()),
        }
    }
}

/// Counts a change by how it ended.
pub(super) fn count_change(change: &Change) {
    let (what, outcome) = (say::deed(&change.deed), say::settled(&change.standing));
    metrics::counter!("warifu_reader_changes_total", "what" => what, "outcome" => outcome)
        .increment(1);
}

fn nothing_left() -> Fault {
    Fault::new(
        axum::http::StatusCode::UNPROCESSABLE_ENTITY,
        "amount_too_large",
        "Nothing is left of this payment to give back.",
        "see GET /orders/{order_id}",
    )
}
