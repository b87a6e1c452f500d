//! What is done with an item, call by call. A call that is refused for want of room is repeated alone, as a good client
//! does: what was answered before it is never sent, or counted, again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::IgnoredAny;
use warifu_proto::message::PaymentStatus;

use super::line::{Fault, Line, NotDone, Target};
use super::phones::Item;
use super::sample::{Part, Sample};

/// How long a call that is refused is repeated.
const REFUSED_MAX: Duration = Duration::from_secs(60);

/// What is done with an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Register at the hub, as a terminal does.
    RegisterAtHub,
    /// Register at the issuer, as the hub does.
    RegisterAtIssuer,
    /// Pay with what was registered.
    Pay,
    /// Register at the issuer, then pay.
    RegisterAndPay,
    /// Give a payment back.
    Refund,
    /// Register and pay; then, of a hundred, look 20 up, refund 5 and reverse 2.
    Mixed,
}

/// Of a hundred payments of [`Work::Mixed`]: those below are looked up …
pub(super) const LOOKED_UP: u64 = 20;
/// … the next ones up to here refunded …
pub(super) const REFUNDED: u64 = 25;
/// … and up to here reversed.
pub(super) const REVERSED: u64 = 27;

impl Work {
    /// The calls that an item needs.
    pub(super) fn steps(self) -> &'static [Step] {
        match self {
            Self::RegisterAtHub => &[Step::RegisterAtHub],
            Self::RegisterAtIssuer => &[Step::RegisterAtIssuer],
            Self::Pay => &[Step::Pay],
            Self::RegisterAndPay | Self::Mixed => &[Step::RegisterAtIssuer, Step::Pay],
            Self::Refund => &[Step::Refund],
        }
    }

    /// What a payment's life goes on with, by its number among all.
    pub(super) fn after(self, number: u64) -> Option<Step> {
        match (self, number % 100) {
            (Self::Mixed, ..LOOKED_UP) => Some(Step::LookUp),
            (Self::Mixed, LOOKED_UP..REFUNDED) => Some(Step::Refund),
            (Self::Mixed, REFUNDED..REVERSED) => Some(Step::Reverse),
            _ => None,
        }
    }
}

/// One call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    RegisterAtHub,
    RegisterAtIssuer,
    Pay,
    LookUp,
    Refund,
    Reverse,
}

impl Step {
    pub(super) fn part(self) -> Part {
        match self {
            Self::RegisterAtHub | Self::RegisterAtIssuer => Part::Register,
            Self::Pay => Part::Pay,
            Self::LookUp => Part::LookUp,
            Self::Refund => Part::Refund,
            Self::Reverse => Part::Reverse,
        }
    }
}

/// What follows a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnRefusal {
    /// The same again when the server says; its time goes on counting.
    Repeat,
    /// The schedule goes on without it.
    GiveUp,
}

/// Whom the workers call.
pub(super) struct Targets {
    pub(super) hub: Target,
    /// The issuer, by the merchant who signs.
    pub(super) tills: Vec<Arc<Target>>,
}

/// A connection to each server.
pub(super) struct Caller {
    targets: Arc<Targets>,
    hub: Line,
    issuer: Line,
}

impl Caller {
    pub(super) fn new(targets: &Arc<Targets>) -> Self {
        let targets = Arc::clone(targets);
        Self { targets, hub: Line::default(), issuer: Line::default() }
    }

    /// Takes a step to its final answer and notes the payment that it made. Says whether it was done; why not is counted.
    pub(super) async fn step(
        &mut self,
        step: Step,
        item: &Item,
        payment: &mut Option<String>,
        on_refusal: OnRefusal,
        sample: &mut Sample,
    ) -> bool {
        let start = Instant::now();
        loop {
            match self.call(step, item, payment).await {
                Ok(()) => return true,
                Err(NotDone::Fault(fault)) => {
                    sample.fault(fault);
                    return false;
                }
                Err(NotDone::Refused(after)) => {
                    sample.refused += 1;
                    if on_refusal == OnRefusal::GiveUp {
                        return false;
                    }
                    if start.elapsed() + after > REFUSED_MAX {
                        sample.fault("refused for a minute".to_owned());
                        return false;
                    }
                    tokio::time::sleep(after).await;
                }
            }
        }
    }

    async fn call(
        &mut self,
        step: Step,
        item: &Item,
        payment: &mut Option<String>,
    ) -> Result<(), NotDone> {
        let targets = Arc::clone(&self.targets);
        let till = targets.tills.get(item.till).ok_or_else(|| "no such till".to_owned())?;
        let paid = || payment.as_deref().ok_or_else(|| "not paid".to_owned());
        let line = &mut self.issuer;
        match step {
            Step::RegisterAtHub => register(&mut self.hub, &targets.hub, item).await,
            Step::RegisterAtIssuer => register(line, till, item).await,
            Step::Pay => {
                *payment = Some(pay(line, till, item).await?);
                Ok(())
            }
            Step::LookUp => {
                let path = format!("/v1/payments/{}", paid()?);
                line.look::<IgnoredAny>(till, &path).await.map(|_| ())
            }
            Step::Refund => {
                let path = format!("/v1/payments/{}/refunds", paid()?);
                line.ask::<IgnoredAny>(till, &path, &item.refund).await.map(|_| ())
            }
            Step::Reverse => {
                line.ask::<IgnoredAny>(till, "/v1/reversals", &item.reversal).await.map(|_| ())
            }
        }
    }
}

async fn register(line: &mut Line, target: &Target, item: &Item) -> Result<(), NotDone> {
    line.ask::<IgnoredAny>(target, "/v1/codes", &item.registration).await.map(|_| ())
}

/// Pays, and says by which payment; anything but an approval is a fault, for the bench gave everybody enough.
async fn pay(line: &mut Line, till: &Target, item: &Item) -> Result<String, NotDone> {
    #[derive(Deserialize)]
    struct Paid {
        payment_id: String,
        status: PaymentStatus,
        rejection: Option<Rejected>,
    }
    #[derive(Deserialize)]
    struct Rejected {
        code: String,
    }
    let paid: Paid = line.ask(till, "/v1/payments", &item.payment).await?;
    match (paid.status, paid.rejection) {
        (PaymentStatus::Approved, None) => Ok(paid.payment_id),
        (_, Some(rejected)) => Err(Fault::from(format!("declined {}", rejected.code)).into()),
        (_, None) => Err(Fault::from("not approved").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_hundred_payments_of_a_mix_each_has_its_share() {
        let count =
            |wanted| (400..500).filter(|number| Work::Mixed.after(*number) == Some(wanted)).count();
        assert_eq!([Step::LookUp, Step::Refund, Step::Reverse].map(count), [20, 5, 2]);
        assert_eq!(Work::RegisterAndPay.after(0), None);
    }
}
