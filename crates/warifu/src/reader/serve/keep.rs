//! Going on with what nobody waits for: a record that is not ended, or a refund without an answer, until it is.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use warifu_proto::request_id::RequestId;
use warifu_reader::change::{Change, Trial};
use warifu_reader::timing::{RESUME_MS, backoff_ms};

use super::agent::{Agent, count};
use super::later::count_change;

impl Agent {
    /// Goes on with an attempt until it has ended.
    pub(super) fn keep(self: &Arc<Self>, id: RequestId) {
        if !self.kept().insert(id.clone()) {
            return;
        }
        let agent = Arc::clone(self);
        tokio::spawn(async move {
            let mut tries = 0_u32;
            while agent.try_to_end(&id).await.is_continue() {
                sleep(Duration::from_millis(backoff_ms(tries))).await;
                tries = tries.saturating_add(1);
            }
            agent.kept().remove(&id);
        });
    }

    async fn try_to_end(&self, id: &RequestId) -> ControlFlow<()> {
        use ControlFlow::{Break, Continue};
        let ended = match self.till.journal.find(id) {
            Ok(Some(record)) if record.standing.is_open() => self.till.end(record, RESUME_MS).await,
            Ok(_) => return Break(()),
            Err(failure) => Err(failure),
        };
        match ended {
            Ok(ended) if !ended.record.standing.is_open() => {
                count(&ended.record);
                tracing::info!(request_id = %id, "a payment without an answer has ended");
                Break(())
            }
            Ok(_) => {
                tracing::warn!(request_id = %id, "a reversal is not acknowledged yet");
                Continue(())
            }
            Err(failure) => {
                tracing::warn!(request_id = %id, error = %failure, "a payment can't be ended yet");
                Continue(())
            }
        }
    }

    /// Goes on with a refund, capture or release until it is answered.
    pub(super) fn keep_change(self: &Arc<Self>, change: Change) {
        if !self.kept().insert(change.request_id.clone()) {
            return;
        }
        let agent = Arc::clone(self);
        tokio::spawn(async move {
            let (id, mut tries) = (change.request_id, 0_u32);
            while agent.try_to_settle(&id, &change.till_id).await.is_continue() {
                sleep(Duration::from_millis(backoff_ms(tries))).await;
                tries = tries.saturating_add(1);
            }
            agent.kept().remove(&id);
        });
    }

    /// As the journal has it now: the till may have repeated it meanwhile and been told a refusal, which stays true
    /// only if nobody sends it again.
    async fn try_to_settle(&self, id: &RequestId, till_id: &str) -> ControlFlow<()> {
        let turn = self.turn(till_id);
        let _mine = turn.lock().await;
        let settled = match self.till.journal.find_change(till_id) {
            Ok(Some(change)) if change.is_open() => self.till.settle(change, Trial::Again).await,
            Ok(_) => return ControlFlow::Break(()),
            Err(failure) => Err(failure),
        };
        match settled {
            Ok(settled) if !settled.is_open() => {
                count_change(&settled);
                ControlFlow::Break(())
            }
            Ok(_) => ControlFlow::Continue(()),
            Err(failure) => {
                tracing::warn!(request_id = %id, error = %failure, "a refund can't be repeated yet");
                ControlFlow::Continue(())
            }
        }
    }
}
