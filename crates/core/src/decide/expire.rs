//! What time alone does: a hold runs out, a payer did not answer. The lane's clock asks, nobody's request does.

use warifu_proto::message::PaymentStatus;
use warifu_proto::time::Timestamp;

use super::change::Wish;
use super::{Decision, Refusal};
use crate::life::Change;
use crate::partition::Partition;

impl Partition {
    /// Decides the end of the open payment whose time was over first; nothing when none is.
    ///
    /// # Errors
    /// Never, unless state and rules have come apart.
    pub fn decide_due(&self, now: Timestamp) -> Result<Option<Decision>, Refusal> {
        let now = self.time_of_entry(now);
        let Some(payment) = self.payments.due(now) else { return Ok(None) };
        let change = if payment.status == PaymentStatus::AwaitingPayer {
            Change::TimedOut
        } else {
            Change::Expired
        };
        self.change_payment(payment, Wish::plain(change, None)).map(Some)
    }
}
