//! What happens to a payment after it was told as paid: a refund, a capture, a release of a hold.
//!
//! Law: a change has its own id, made and stored before it leaves, and the same one is repeated until it is answered:
//! so it is never done twice and never lost, whatever crashes in between. A refusal is believed only when no earlier
//! message of the same change can be taken any more.

use std::future::Future;

use serde::{Deserialize, Serialize};
use warifu_proto::code::Route;
use warifu_proto::directory::Directory;
use warifu_proto::id::PaymentId;
use warifu_proto::message::{CaptureAnswer, CaptureRequest, Payment, RefundAnswer, RefundRequest};
use warifu_proto::money::Money;
use warifu_proto::problem::{Problem, ProblemCode};
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;

use crate::answer::{self, Reply};
use crate::call::{Call, Send};
use crate::drive::Driver;
use crate::outcome::Input;
use crate::record::{Record, Standing};
use crate::route::{IssuerAt, RouteError};
use crate::steady::Steady;
use crate::timing::{CALL_MAX_MS, REPEAT_PAUSE_MAX_MS, REPEAT_PAUSE_MIN_MS};

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Deed {
    /// Give back part or all of what was taken.
    Refund {
        /// How much.
        amount: Money,
        /// For people.
        reason: Option<String>,
    },
    /// Take part or all of a hold; the rest is released.
    Capture {
        /// How much.
        amount: Money,
    },
    /// Give a hold back.
    Release,
}

/// One change in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The name of this change, for ever; it shares its space with payments.
    pub request_id: RequestId,
    /// The till's own name of it, unique among the order's changes.
    pub till_id: String,
    /// The attempt that it changes.
    pub attempt: RequestId,
    /// The payment that it changes.
    pub payment_id: PaymentId,
    /// Where the payment lives.
    pub route: Route,
    /// What is to be done.
    pub deed: Deed,
    /// When it was wished for.
    pub created_at: Timestamp,
    /// Where it stands.
    pub standing: Settled,
}

/// Where a change stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Settled {
    /// The request may have left. Somebody repeats it until it is answered.
    Open,
    /// The issuer did it.
    Done {
        /// The issuer's id of it: `rfd_…` or `cap_…`; none of a release.
        id: Option<String>,
        /// The payment as it stood afterwards.
        payment: Box<Payment>,
    },
    /// The issuer refused it. Nothing was done.
    Refused {
        /// Why.
        problem: Box<Problem>,
    },
}

impl Change {
    /// A new change of a payment that was told as paid.
    pub fn new(
        record: &Record,
        request_id: RequestId,
        till_id: String,
        deed: Deed,
        now: Timestamp,
    ) -> Option<Self> {
        let Standing::Decided { payment } = &record.standing else { return None };
        Some(Self {
            request_id,
            till_id,
            attempt: record.request_id.clone(),
            payment_id: payment.payment_id,
            route: record.route,
            deed,
            created_at: now,
            standing: Settled::Open,
        })
    }

    /// Whether somebody still has to bring it to its end.
    pub fn is_open(&self) -> bool {
        self.standing == Settled::Open
    }

    /// Whether the issuer refused it: nothing was done and its id is not bound, so it may be tried again.
    pub fn is_refused(&self) -> bool {
        matches!(self.standing, Settled::Refused { .. })
    }

    fn call(&self) -> Call {
        let request_id = self.request_id.clone();
        match &self.deed {
            Deed::Refund { amount, reason } => {
                let reason = reason.clone();
                let request = RefundRequest { request_id, amount: *amount, reason };
                Call::Refund(self.payment_id, Box::new(request))
            }
            Deed::Capture { amount } => {
                let request = CaptureRequest { request_id, amount: *amount };
                Call::Capture(self.payment_id, Box::new(request))
            }
            Deed::Release => Call::Release(self.payment_id),
        }
    }

    /// What a 2xx proves, if it is about this change.
    fn done(&self, body: &[u8]) -> Option<Settled> {
        let (id, payment) = match &self.deed {
            Deed::Refund { .. } => {
                let answer: RefundAnswer = serde_json::from_slice(body).ok()?;
                (Some(answer.refund_id.to_string()), answer.payment)
            }
            Deed::Capture { .. } => {
                let answer: CaptureAnswer = serde_json::from_slice(body).ok()?;
                (Some(answer.capture_id.to_string()), answer.payment)
            }
            Deed::Release => (None, serde_json::from_slice(body).ok()?),
        };
        let payment = Box::new(payment);
        (payment.payment_id == self.payment_id).then_some(Settled::Done { id, payment })
    }
}

/// A driver that keeps changes in its journal too.
pub trait ChangeDriver: Driver {
    /// Puts the change into the journal under its request id, durable when this is ready.
    ///
    /// # Errors
    /// When it is not in the journal.
    fn store_change(
        &mut self,
        change: &Change,
    ) -> impl Future<Output = Result<(), Self::Error>> + core::marker::Send;
}

/// Whether a change may have left before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// It has just been made.
    First,
    /// It comes out of the journal.
    Again,
}

/// Why a change has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError<E> {
    /// Nobody answers for the payment; nobody was asked.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The journal can't be written.
    #[error("the journal can't be written")]
    Journal(#[source] E),
}

/// Repeats a change until it is answered, for at most so long; the change as it stands then. One that is still open is
/// to be gone on with later, for ever.
///
/// # Errors
/// In the order of [`ChangeError`].
pub async fn settle<D: ChangeDriver>(
    mut change: Change,
    trial: Trial,
    wait_ms: u64,
    directory: &Directory,
    driver: &mut D,
) -> Result<Change, ChangeError<D::Error>> {
    let issuer = IssuerAt::of_route(directory, change.route)?;
    let mut steady = Steady::default();
    steady.advance(driver.now());
    let mut is_in_doubt = trial == Trial::Again;
    driver.store_change(&change).await.map_err(ChangeError::Journal)?;
    let (mut number, mut pause_ms) = (0_u32, REPEAT_PAUSE_MIN_MS);
    while change.is_open() && steady.lived_ms() < wait_ms {
        number = number.saturating_add(1);
        let left_ms = wait_ms.saturating_sub(steady.lived_ms());
        let send = Send {
            number,
            url: issuer.url.clone(),
            key: issuer.key.clone(),
            route: change.route,
            call: change.call(),
            timeout_ms: left_ms.min(CALL_MAX_MS),
        };
        let reply = match driver.call(&send).await {
            Input::Answered { reply, .. } => reply,
            // A change can't be called off: it may have been done.
            Input::Cancel | Input::Stored | Input::Tick => Reply::Nothing,
        };
        if let Some(standing) = judge(&change, reply, &mut is_in_doubt) {
            change.standing = standing;
            driver.store_change(&change).await.map_err(ChangeError::Journal)?;
            break;
        }
        steady.advance(driver.now());
        let until_ms = steady.lived_ms().saturating_add(pause_ms).min(wait_ms);
        driver.wait(steady.wall_at(until_ms)).await;
        steady.advance(driver.now());
        pause_ms = pause_ms.saturating_mul(2).min(REPEAT_PAUSE_MAX_MS);
    }
    Ok(change)
}

/// What a reply proves; nothing if it has to be repeated.
fn judge(change: &Change, reply: Reply, is_in_doubt: &mut bool) -> Option<Settled> {
    let (status, body) = match reply {
        Reply::Signed { status, body, .. } => (status, body),
        Reply::NotSent => return None,
        Reply::Nothing => {
            *is_in_doubt = true;
            return None;
        }
    };
    let done = if (200..=299).contains(&status) { change.done(&body) } else { None };
    if done.is_some() {
        return done;
    }
    let problem = answer::problem(status, &body);
    let code = ProblemCode::from_name(&problem.code);
    if (400..=499).contains(&status) && (!*is_in_doubt || is_lasting(code)) && !is_passing(code) {
        return Some(Settled::Refused { problem: Box::new(problem) });
    }
    // `not_accepted` speaks of one copy of the message; a network may have made another, which was.
    *is_in_doubt |= !(400..=499).contains(&status);
    None
}

/// Refusals that hold for every copy of the message: what is left of a payment only shrinks.
fn is_lasting(code: Option<ProblemCode>) -> bool {
    matches!(
        code,
        Some(
            ProblemCode::Malformed
                | ProblemCode::RequestIdConflict
                | ProblemCode::PaymentState
                | ProblemCode::AmountTooLarge
                | ProblemCode::AccountClosed
        )
    )
}

/// Refusals that speak of this moment only.
fn is_passing(code: Option<ProblemCode>) -> bool {
    matches!(
        code,
        Some(ProblemCode::ClockSkew | ProblemCode::SessionUnknown | ProblemCode::TooManyRequests)
    )
}
