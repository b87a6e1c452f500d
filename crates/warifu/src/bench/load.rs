//! One round of load: so many connections work through items that were made ahead, as fast as answers come (closed loop)
//! or at given moments (open loop).
//!
//! In an open loop an item's latency counts from the moment it should have been sent, so time spent waiting for a free
//! connection is in it: a server that stalls can't make the bench ask less (coordinated omission).
//!
//! A payment ends all codes of its terminal, so a terminal's items are worked on one after the other. Otherwise a payment
//! that is late, or repeated after a refusal, would find its code ended by the terminal's next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard, Semaphore};
use tokio::task::JoinSet;
use tokio::time::interval;

use super::phones::Item;
use super::sample::{Part, Sample};
use super::steps::{Caller, OnRefusal, Step, Targets, Work};
use crate::fail::Failure;

/// How often a long round says how it goes.
const TICK: Duration = Duration::from_secs(1);

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
    /// Its first item's number among all of the run.
    first: u64,
    next: AtomicUsize,
    done: AtomicU64,
    pace: Option<Pace>,
    phones: Arc<Vec<Mutex<()>>>,
}

/// How a long round goes.
pub(super) struct Progress {
    pub(super) elapsed: Duration,
    /// In the last second.
    pub(super) done: u64,
    /// How many items of an open loop are due and not begun.
    pub(super) late: Option<u64>,
}

impl Progress {
    /// In words, after so much was measured before.
    pub(super) fn since(&self, measured: Duration) -> String {
        let (s, done) = ((measured + self.elapsed).as_secs(), self.done);
        match self.late {
            Some(late) => format!("{s:>4} s  {done} a second, {late} behind the schedule"),
            None => format!("{s:>4} s  {done} a second"),
        }
    }
}

impl Round {
    /// The next item; in an open loop with the moment from which it counts.
    async fn take(&self) -> Option<(usize, &Item, Option<Instant>)> {
        if let Some(pace) = &self.pace {
            pace.due.acquire().await.ok()?.forget();
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let item = self.items.get(number)?;
        let due = self
            .pace
            .as_ref()
            .map(|pace| pace.began + pace.every * u32::try_from(number).unwrap_or(u32::MAX));
        Some((number, item, due))
    }

    /// The terminal to itself, where it is about to pay by a code of several in this round.
    async fn alone(&self, phone: usize, sample: &mut Sample) -> Option<MutexGuard<'_, ()>> {
        let phone = self.phones.get(phone).filter(|_| self.work.steps().len() > 1)?;
        if let Ok(free) = phone.try_lock() {
            return Some(free);
        }
        sample.waited += 1;
        Some(phone.lock().await)
    }

    fn progress(&self, elapsed: Duration, done_before: u64) -> Progress {
        let begun = self.next.load(Ordering::Relaxed).min(self.items.len());
        let late = self.pace.as_ref().map(|pace| {
            let due = elapsed.as_nanos() / pace.every.as_nanos().max(1);
            let due = usize::try_from(due).unwrap_or(usize::MAX).min(self.items.len());
            due.saturating_sub(begun) as u64
        });
        let done = self.done.load(Ordering::Relaxed) - done_before;
        Progress { elapsed, done, late }
    }

    fn on_refusal(&self) -> OnRefusal {
        if self.pace.is_some() { OnRefusal::GiveUp } else { OnRefusal::Repeat }
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
struct Worker(Caller);

impl Worker {
    async fn toil(mut self, round: Arc<Round>) -> (Self, Sample) {
        let mut sample = Sample::default();
        while let Some((number, item, due)) = round.take().await {
            let alone = round.alone(item.phone, &mut sample).await;
            let start = due.unwrap_or_else(Instant::now);
            let mut payment = item.payment_id.clone();
            let mut is_done = true;
            for step in round.work.steps() {
                is_done =
                    is_done && self.step(*step, item, &mut payment, &round, &mut sample).await;
            }
            drop(alone);
            if !is_done {
                continue;
            }
            // What follows a payment fails alone: the payment stands, and counts.
            if let Some(step) = round.work.after(round.first + number as u64) {
                self.step(step, item, &mut payment, &round, &mut sample).await;
            }
            sample.record(Part::Whole, start);
            sample.done += 1;
            sample.which.push((number, payment));
            round.done.fetch_add(1, Ordering::Relaxed);
        }
        (self, sample)
    }

    /// A step is told apart where an item has several; where it has one, that is the whole.
    async fn step(
        &mut self,
        step: Step,
        item: &Item,
        payment: &mut Option<String>,
        round: &Round,
        sample: &mut Sample,
    ) -> bool {
        let start = Instant::now();
        let is_done = self.0.step(step, item, payment, round.on_refusal(), sample).await;
        if is_done && round.work.steps().len() > 1 {
            sample.record(step.part(), start);
        }
        is_done
    }
}

/// Connections to both servers, kept from round to round.
pub(super) struct Crew {
    workers: Vec<Worker>,
    /// Held by who works on an item of that terminal.
    phones: Arc<Vec<Mutex<()>>>,
    /// Items of [`Work::Mixed`] so far: whose turn it is goes on from round to round.
    mixed: u64,
}

impl Crew {
    pub(super) fn new(count: usize, phones: usize, targets: &Arc<Targets>) -> Self {
        Self {
            workers: (0..count).map(|_| Worker(Caller::new(targets))).collect(),
            phones: Arc::new((0..phones).map(|_| Mutex::new(())).collect()),
            mixed: 0,
        }
    }

    /// Works through the items, `rate` a second if given. Says how long it took.
    pub(super) async fn work(
        &mut self,
        items: &Arc<Vec<Item>>,
        work: Work,
        rate: Option<u32>,
        mut tell: impl FnMut(Progress),
    ) -> Result<(Duration, Sample), Failure> {
        let began = Instant::now();
        let every = |rate: u32| Duration::from_secs(1) / rate.max(1);
        let pace = rate.map(|rate| Pace {
            began,
            every: every(rate),
            due: Semaphore::new(0),
            workers: self.workers.len(),
        });
        let round = Arc::new(Round {
            items: Arc::clone(items),
            work,
            first: self.mixed,
            next: AtomicUsize::new(0),
            done: AtomicU64::new(0),
            pace,
            phones: Arc::clone(&self.phones),
        });
        if work == Work::Mixed {
            self.mixed += items.len() as u64;
        }
        let mut toiling = JoinSet::new();
        for worker in self.workers.drain(..) {
            toiling.spawn(worker.toil(Arc::clone(&round)));
        }
        let pacer = {
            let round = Arc::clone(&round);
            std::thread::spawn(move || round.pace())
        };
        let mut all = Sample::default();
        let (mut ticks, mut before) = (interval(TICK), 0);
        ticks.tick().await;
        loop {
            let toiled = tokio::select! {
                toiled = toiling.join_next() => toiled,
                _ = ticks.tick() => {
                    let progress = round.progress(began.elapsed(), before);
                    before += progress.done;
                    tell(progress);
                    continue;
                }
            };
            let Some(toiled) = toiled else { break };
            let (worker, sample) =
                toiled.map_err(|error| Failure::refused("a worker fell").because(&error))?;
            self.workers.push(worker);
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
        let Some(Worker(caller)) = self.workers.first_mut() else { return };
        let (mut payment, again) = (None, OnRefusal::Repeat);
        if !caller.step(Step::RegisterAtIssuer, item, &mut payment, again, sample).await {
            return;
        }
        tokio::time::sleep(pause).await;
        let start = Instant::now();
        if caller.step(Step::Pay, item, &mut payment, again, sample).await {
            sample.record(Part::Whole, start);
            sample.done += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use axum::response::{IntoResponse as _, Response};
    use axum::routing::{get, post};
    use serde_json::{Value, json};
    use warifu_server::chance;
    use warifu_server::client::Peer;

    use super::*;
    use crate::bench::line::{Body, Signer, Target};

    /// How often each call came.
    #[derive(Default)]
    struct Calls {
        register: AtomicU64,
        pay: AtomicU64,
        look_up: AtomicU64,
    }

    fn no_room() -> Response {
        let problem = json!({ "code": "not_accepted" }).to_string();
        (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")], problem).into_response()
    }

    fn yes(body: &Value) -> Response {
        body.to_string().into_response()
    }

    /// Works off one item of a mix, which is to be looked up, at a server that refuses its first payment or first look.
    async fn mixed(refused: &'static str, rate: Option<u32>) -> (Sample, [u64; 3]) {
        let calls = Arc::new(Calls::default());
        let [first, second, third] = [(); 3].map(|()| Arc::clone(&calls));
        let is_first = |count: &AtomicU64| count.fetch_add(1, Ordering::Relaxed) == 0;
        let register = post(async move || {
            first.register.fetch_add(1, Ordering::Relaxed);
            yes(&json!({}))
        });
        let pay = post(async move || {
            let is_refused = is_first(&second.pay) && refused == "pay";
            let paid = json!({ "payment_id": "pay_1", "status": "approved" });
            if is_refused { no_room() } else { yes(&paid) }
        });
        let look_up = get(async move || {
            let is_refused = is_first(&third.look_up) && refused == "look_up";
            if is_refused { no_room() } else { yes(&json!({})) }
        });
        let routes = Router::new()
            .route("/v1/codes", register)
            .route("/v1/payments", pay)
            .route("/v1/payments/{id}", look_up);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let peer = Peer { url, key: chance::key().public().clone() };
        let target = || Target::new(&peer, Signer::Nobody, false).unwrap();
        let targets = Targets { hub: target(), tills: vec![Arc::new(target())] };
        let mut crew = Crew::new(2, 1, &Arc::new(targets));
        let body = || Body::of(&json!({}));
        let item = Item {
            phone: 0,
            till: 0,
            registration: body(),
            payment: body(),
            reversal: body(),
            refund: body(),
            payment_id: None,
        };
        let (_, sample) =
            crew.work(&Arc::new(vec![item]), Work::Mixed, rate, |_| ()).await.unwrap();
        let counts = [&calls.register, &calls.pay, &calls.look_up];
        (sample, counts.map(|it| it.load(Ordering::Relaxed)))
    }

    /// Of each part that was counted, how often.
    fn parts(sample: &Sample) -> Vec<(&'static str, u64)> {
        sample.latencies.iter().map(|(part, it)| (part.name(), it.len())).collect()
    }

    #[tokio::test]
    async fn in_a_closed_loop_only_what_was_refused_is_repeated() {
        let (sample, calls) = mixed("pay", None).await;
        assert_eq!((calls, sample.done, sample.refused), ([1, 2, 1], 1, 1));
        let all = [("whole", 1), ("register", 1), ("pay", 1), ("look_up", 1)];
        assert_eq!(parts(&sample), all);
        let (sample, calls) = mixed("look_up", None).await;
        assert_eq!((calls, sample.done, sample.refused), ([1, 1, 2], 1, 1));
        assert_eq!(parts(&sample), all);
    }

    #[tokio::test]
    async fn in_an_open_loop_it_is_given_up_and_what_was_paid_counts() {
        let (sample, calls) = mixed("pay", Some(100)).await;
        assert_eq!((calls, sample.done, sample.refused), ([1, 1, 0], 0, 1));
        assert_eq!(parts(&sample), [("register", 1)]);
        let (sample, calls) = mixed("look_up", Some(100)).await;
        assert_eq!((calls, sample.done, sample.refused), ([1, 1, 1], 1, 1));
        assert_eq!(parts(&sample), [("whole", 1), ("register", 1), ("pay", 1)]);
        assert!(sample.faults.is_empty());
    }

    #[tokio::test]
    async fn a_terminal_makes_one_payment_at_a_time() {
        let phones = Arc::new(vec![Mutex::new(())]);
        let (items, next) = (Arc::new(Vec::new()), AtomicUsize::new(0));
        let round = Round {
            items,
            work: Work::RegisterAndPay,
            first: 0,
            next,
            done: AtomicU64::new(0),
            pace: None,
            phones,
        };
        let mut sample = Sample::default();
        let first = round.alone(0, &mut sample).await;
        let second = tokio::time::timeout(Duration::from_millis(20), round.alone(0, &mut sample));
        assert!(first.is_some() && second.await.is_err());
        drop(first);
        assert!(round.alone(0, &mut sample).await.is_some());
        assert_eq!(sample.waited, 1);
    }
}
