//! One round of load: so many connections work through items that were made ahead, as fast as answers come (closed loop)
//! or at given moments (open loop).
//!
//! In an open loop an item's latency counts from the moment it should have been sent, so time spent waiting for a free
//! connection is in it: a server that stalls can't make the bench ask less (coordinated omission).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use warifu_proto::message::PaymentStatus;

use super::line::{Body, Fault, Line, Target};
use super::phones::Item;
use crate::fail::Failure;

/// Longest latency that is told apart, in microseconds.
const LATENCY_MAX_US: u64 = 60_000_000;

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
}

/// Latencies in microseconds.
pub(super) type Latencies = Histogram<u64>;

fn latencies() -> Latencies {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("the bounds are in order")
}

/// What came of it.
pub(super) struct Sample {
    /// Of all that an item needs.
    pub(super) whole: Latencies,
    /// Of the registration alone, where it was not all.
    pub(super) register: Latencies,
    /// Of the payment alone, where it was not all.
    pub(super) pay: Latencies,
    pub(super) done: u64,
    pub(super) faults: BTreeMap<Fault, u64>,
    /// Which items were done.
    pub(super) which: Vec<usize>,
}

impl Sample {
    pub(super) fn new() -> Self {
        Self {
            whole: latencies(),
            register: latencies(),
            pay: latencies(),
            done: 0,
            faults: BTreeMap::new(),
            which: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (into, from) in [
            (&mut self.whole, &other.whole),
            (&mut self.register, &other.register),
            (&mut self.pay, &other.pay),
        ] {
            into.add(from).expect("all have the same bounds");
        }
        self.done += other.done;
        self.add_faults(other);
        self.which.extend(&other.which);
    }

    pub(super) fn add_faults(&mut self, other: &Self) {
        for (fault, count) in &other.faults {
            *self.faults.entry(fault.clone()).or_default() += count;
        }
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }
}

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

/// A connection's work.
pub(super) struct Worker {
    hub: Line,
    issuer: Line,
}

impl Worker {
    async fn toil(mut self, round: Arc<Round>) -> (Self, Sample) {
        let mut sample = Sample::new();
        while let Some((number, item, start)) = round.take().await {
            match self.one(item, round.work, start, &mut sample).await {
                Ok(()) => {
                    sample.whole.saturating_record(us_since(start));
                    sample.done += 1;
                    sample.which.push(number);
                }
                Err(fault) => sample.fault(fault),
            }
        }
        (self, sample)
    }

    async fn one(
        &mut self,
        item: &Item,
        work: Work,
        start: Instant,
        sample: &mut Sample,
    ) -> Result<(), Fault> {
        match work {
            Work::RegisterAtHub => register(&mut self.hub, &item.registration).await,
            Work::RegisterAtIssuer => register(&mut self.issuer, &item.registration).await,
            Work::Pay => pay(&mut self.issuer, &item.payment).await,
            Work::RegisterAndPay => {
                register(&mut self.issuer, &item.registration).await?;
                sample.register.saturating_record(us_since(start));
                let paying = Instant::now();
                pay(&mut self.issuer, &item.payment).await?;
                sample.pay.saturating_record(us_since(paying));
                Ok(())
            }
        }
    }
}

async fn register(line: &mut Line, registration: &Body) -> Result<(), Fault> {
    line.ask::<IgnoredAny>("/v1/codes", registration).await.map(|_| ())
}

/// Pays; anything but an approval is a fault, for the bench gave everybody enough.
async fn pay(line: &mut Line, payment: &Body) -> Result<(), Fault> {
    #[derive(Deserialize)]
    struct Paid {
        status: PaymentStatus,
        rejection: Option<Rejected>,
    }
    #[derive(Deserialize)]
    struct Rejected {
        code: String,
    }
    let paid: Paid = line.ask("/v1/payments", payment).await?;
    match (paid.status, paid.rejection) {
        (PaymentStatus::Approved, None) => Ok(()),
        (_, Some(rejected)) => Err(format!("declined {}", rejected.code)),
        (_, None) => Err("not approved".to_owned()),
    }
}

/// Connections to both servers, kept from round to round.
pub(super) struct Crew(Vec<Worker>);

impl Crew {
    pub(super) fn new(count: usize, hub: &Arc<Target>, issuer: &Arc<Target>) -> Self {
        let worker =
            || Worker { hub: Line::to(Arc::clone(hub)), issuer: Line::to(Arc::clone(issuer)) };
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
        let mut all = Sample::new();
        while let Some(toiled) = toiling.join_next().await {
            let (worker, sample) =
                toiled.map_err(|error| Failure::refused("a worker fell").because(&error))?;
            self.0.push(worker);
            all.add(&sample);
        }
        let took = began.elapsed();
        if pacer.join().is_err() {
            return Err(Failure::refused("the pacer fell"));
        }
        all.which.sort_unstable();
        Ok((took, all))
    }

    /// One item on one connection: registered, and after a pause paid.
    pub(super) async fn alone(&mut self, item: &Item, pause: Duration, sample: &mut Sample) {
        let Some(worker) = self.0.first_mut() else { return };
        let done = match register(&mut worker.issuer, &item.registration).await {
            Ok(()) => {
                tokio::time::sleep(pause).await;
                let start = Instant::now();
                let paid = pay(&mut worker.issuer, &item.payment).await;
                paid.map(|()| us_since(start))
            }
            Err(fault) => Err(fault),
        };
        match done {
            Ok(us) => {
                sample.whole.saturating_record(us);
                sample.done += 1;
            }
            Err(fault) => sample.fault(fault),
        }
    }
}

fn us_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}
