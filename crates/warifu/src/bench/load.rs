//! One round of load: so many connections work through items that were made ahead, as fast as answers come (closed loop)
//! or at given moments (open loop).
//!
//! In an open loop an item's latency counts from the moment it should have been sent, so time spent waiting for a free
//! connection is in it: a server that stalls can't make the bench ask less (coordinated omission).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use warifu_proto::message::PaymentStatus;

use super::line::{Fault, Line, NotDone, Target};
use super::phones::Item;
use super::sample::{Part, Sample};
use crate::fail::Failure;

/// How long a worker repeats what is refused.
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
pub(super) const LOOKED_UP: usize = 20;
/// … the next ones up to here refunded …
pub(super) const REFUNDED: usize = 25;
/// … and up to here reversed.
pub(super) const REVERSED: usize = 27;

/// The moments at which an open loop sends.
struct Pace {
    began: Instant,
    every: Duration,
    due: Semaphore,
    workers: usize,
}

struct Round {
    items: Arc<Vec<Item>>,
    work: Work,
    next: AtomicUsize,
    pace: Option<Pace>,
}

impl Round {
    /// The next item, with the moment from which it counts.
    async fn take(&self) -> Option<(usize, &Item, Instant)> {
        if let Some(pace) = &self.pace {
            pace.due.acquire().await.ok()?.forget();
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let item = self.items.get(number)?;
        let start = self.pace.as_ref().map_or_else(Instant::now, |pace| {
            pace.began + pace.every * u32::try_from(number).unwrap_or(u32::MAX)
        });
        Some((number, item, start))
    }

    /// Lets items go when they are due. A thread of its own: the runtime's timer knows milliseconds only.
    fn pace(&self) {
        let Some(pace) = &self.pace else { return };
        let mut due = pace.began;
        for _ in 0..self.items.len() {
            let early = due.saturating_duration_since(Instant::now());
            if !early.is_zero() {
                std::thread::sleep(early);
            }
            pace.due.add_permits(1);
            due += pace.every;
        }
        // Whoever still waits looks once more and finds that there are no items left.
        pace.due.add_permits(pace.workers);
    }
}

/// Whom the workers call.
pub(super) struct Targets {
    pub(super) hub: Target,
    /// The issuer, by the merchant who signs.
    pub(super) tills: Vec<Arc<Target>>,
}

impl Targets {
    fn till(&self, number: usize) -> Result<&Target, Fault> {
        self.tills.get(number).map(|it| &**it).ok_or_else(|| "no such till".to_owned())
    }
}

/// A connection's work.
pub(super) struct Worker {
    targets: Arc<Targets>,
    hub: Line,
    issuer: Line,
}

impl Worker {
    async fn toil(mut self, round: Arc<Round>) -> (Self, Sample) {
        let mut sample = Sample::default();
        while let Some((number, item, start)) = round.take().await {
            let done = loop {
                match self.one(number, item, round.work, &mut sample).await {
                    Err(NotDone::Refused(_)) if start.elapsed() > REFUSED_MAX => {
                        sample.fault("refused for a minute".to_owned());
                        break None;
                    }
                    Err(NotDone::Refused(after)) => {
                        sample.refused += 1;
                        if round.pace.is_some() {
                            break None;
                        }
                        // As a good client does: the same again when the server says. Its time goes on counting.
                        tokio::time::sleep(after).await;
                    }
                    Err(NotDone::Fault(fault)) => {
                        sample.fault(fault);
                        break None;
                    }
                    Ok(payment) => break Some(payment),
                }
            };
            if let Some(payment) = done {
                sample.record(Part::Whole, start);
                sample.done += 1;
                sample.which.push((number, payment));
            }
        }
        (self, sample)
    }

    async fn one(
        &mut self,
        number: usize,
        item: &Item,
        work: Work,
        sample: &mut Sample,
    ) -> Result<Option<String>, NotDone> {
        let targets = Arc::clone(&self.targets);
        let till = targets.till(item.till)?;
        match work {
            Work::RegisterAtHub => register(&mut self.hub, &targets.hub, item).await?,
            Work::RegisterAtIssuer => register(&mut self.issuer, till, item).await?,
            Work::Pay => return pay(&mut self.issuer, till, item).await.map(Some),
            Work::RegisterAndPay | Work::Mixed => {
                let start = Instant::now();
                register(&mut self.issuer, till, item).await?;
                sample.record(Part::Register, start);
                let start = Instant::now();
                let payment = pay(&mut self.issuer, till, item).await?;
                sample.record(Part::Pay, start);
                if work == Work::Mixed {
                    self.after(number % 100, item, till, &payment, sample).await?;
                }
                return Ok(Some(payment));
            }
            Work::Refund => {
                let payment = item.payment_id.as_deref().ok_or_else(|| "not paid".to_owned())?;
                refund(&mut self.issuer, till, item, payment).await?;
            }
        }
        Ok(None)
    }

    /// What a payment's life goes on with.
    async fn after(
        &mut self,
        turn: usize,
        item: &Item,
        till: &Target,
        payment: &str,
        sample: &mut Sample,
    ) -> Result<(), NotDone> {
        let start = Instant::now();
        let part = match turn {
            ..LOOKED_UP => {
                let path = format!("/v1/payments/{payment}");
                self.issuer.look::<IgnoredAny>(till, &path).await?;
                Part::LookUp
            }
            LOOKED_UP..REFUNDED => {
                refund(&mut self.issuer, till, item, payment).await?;
                Part::Refund
            }
            REFUNDED..REVERSED => {
                self.issuer.ask::<IgnoredAny>(till, "/v1/reversals", &item.reversal).await?;
                Part::Reverse
            }
            _ => return Ok(()),
        };
        sample.record(part, start);
        Ok(())
    }
}

async fn register(line: &mut Line, target: &Target, item: &Item) -> Result<(), NotDone> {
    line.ask::<IgnoredAny>(target, "/v1/codes", &item.registration).await.map(|_| ())
}

async fn refund(line: &mut Line, till: &Target, item: &Item, payment: &str) -> Result<(), NotDone> {
    let path = format!("/v1/payments/{payment}/refunds");
    line.ask::<IgnoredAny>(till, &path, &item.refund).await.map(|_| ())
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
        (_, Some(rejected)) => Err(format!("declined {}", rejected.code).into()),
        (_, None) => Err("not approved".to_owned().into()),
    }
}

/// Connections to both servers, kept from round to round.
pub(super) struct Crew(Vec<Worker>);

impl Crew {
    pub(super) fn new(count: usize, targets: &Arc<Targets>) -> Self {
        let worker = || Worker {
            targets: Arc::clone(targets),
            hub: Line::default(),
            issuer: Line::default(),
        };
        Self((0..count).map(|_| worker()).collect())
    }

    /// Works through the items, `rate` a second if given. Says how long it took.
    pub(super) async fn work(
        &mut self,
        items: &Arc<Vec<Item>>,
        work: Work,
        rate: Option<u32>,
    ) -> Result<(Duration, Sample), Failure> {
        let began = Instant::now();
        let every = |rate: u32| Duration::from_secs(1) / rate.max(1);
        let pace = rate.map(|rate| Pace {
            began,
            every: every(rate),
            due: Semaphore::new(0),
            workers: self.0.len(),
        });
        let (items, next) = (Arc::clone(items), AtomicUsize::new(0));
        let round = Arc::new(Round { items, work, next, pace });
        let mut toiling = JoinSet::new();
        for worker in self.0.drain(..) {
            toiling.spawn(worker.toil(Arc::clone(&round)));
        }
        let pacer = {
            let round = Arc::clone(&round);
            std::thread::spawn(move || round.pace())
        };
        let mut all = Sample::default();
        while let Some(toiled) = toiling.join_next().await {
            let (worker, sample) =
                toiled.map_err(|error| Failure::refused("a worker fell").because(&error))?;
            self.0.push(worker);
            all.add(sample);
        }
        let took = began.elapsed();
        if pacer.join().is_err() {
            return Err(Failure::refused("the pacer fell"));
        }
        all.which.sort_unstable_by_key(|(number, _)| *number);
        Ok((took, all))
    }

    /// One item on one connection: registered, and after a pause paid.
    pub(super) async fn alone(&mut self, item: &Item, pause: Duration, sample: &mut Sample) {
        let Some(worker) = self.0.first_mut() else { return };
        let done = async {
            worker.one(0, item, Work::RegisterAtIssuer, sample).await?;
            tokio::time::sleep(pause).await;
            let start = Instant::now();
            worker.one(0, item, Work::Pay, sample).await?;
            Ok::<_, NotDone>(start)
        };
        match done.await {
            Ok(start) => {
                sample.record(Part::Whole, start);
                sample.done += 1;
            }
            Err(not_done) => sample.fault(not_done.to_string()),
        }
    }
}
