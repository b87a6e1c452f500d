//! Runs the machine of an attempt over somebody's journal, network and clock.
//!
//! Law: what can't be stored is not followed by what should come after it. If the journal fails, nothing more leaves
//! and nothing is told as an outcome: the record stays in the journal as it was, and is ended from there.

use std::future::Future;

use warifu_proto::directory::Directory;
use warifu_proto::time::Timestamp;

use crate::attempt::Attempt;
use crate::call::Send;
use crate::outcome::{BeginError, Input, Outcome, Output, Progress};
use crate::record::{Order, Record};

/// What a reader needs of the world around it.
pub trait Driver {
    /// Why the journal can't be written.
    type Error;

    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// Puts the record into the journal under its request id, durable when this is ready.
    ///
    /// # Errors
    /// When it is not in the journal.
    fn store(
        &mut self,
        record: &Record,
    ) -> impl Future<Output = Result<(), Self::Error>> + core::marker::Send;

    /// Makes a call, signed, for at most its time: [`Input::Answered`]. [`Input::Cancel`] if the cashier wishes so
    /// before the answer is there.
    fn call(&mut self, send: &Send) -> impl Future<Output = Input> + core::marker::Send;

    /// Waits until then: [`Input::Tick`]. [`Input::Cancel`] if the cashier wishes so before.
    fn wait(&mut self, until: Timestamp) -> impl Future<Output = Input> + core::marker::Send;

    /// Shows what goes on.
    fn progress(&mut self, _progress: Progress) {}
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// As it is in the journal.
    pub record: Record,
    /// What to tell the till.
    pub outcome: Outcome,
}

/// Why a payment has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum PayError<E> {
    /// It did not begin: nobody was asked.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The journal can't be written. Nothing was told; what is in the journal is to be ended from there.
    #[error("the journal can't be written")]
    Journal(#[source] E),
}

/// Asks for a payment, and returns when it is approved, held, declined, reversed or being reversed: at the order's
/// deadline and [`crate::timing::REVERSAL_GRACE_MS`] at the latest, however the network behaves.
///
/// # Errors
/// In the order of [`PayError`].
pub async fn pay<D: Driver>(
    order: &Order,
    directory: &Directory,
    driver: &mut D,
) -> Result<Ended, PayError<D::Error>> {
    let attempt = Attempt::begin(order, directory, driver.now())?;
    drive(attempt, driver).await.map_err(PayError::Journal)
}

/// Drives an attempt to its outcome.
///
/// # Errors
/// When the journal can't be written.
pub async fn drive<D: Driver>(mut attempt: Attempt, driver: &mut D) -> Result<Ended, D::Error> {
    loop {
        let (mut input, mut wake) = (None, driver.now());
        while let Some(output) = attempt.poll() {
            match output {
                Output::Store(record) => {
                    driver.store(&record).await?;
                    input = Some(Input::Stored);
                }
                Output::Send(send) => input = Some(driver.call(&send).await),
                Output::Progress(progress) => driver.progress(progress),
                Output::Outcome(outcome) => {
                    return Ok(Ended { record: attempt.record().clone(), outcome: *outcome });
                }
                Output::WakeAt(at) => wake = at,
            }
        }
        let input = match input {
            Some(input) => input,
            None => driver.wait(wake).await,
        };
        attempt.handle(input, driver.now());
    }
}
