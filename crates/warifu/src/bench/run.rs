//! A run: what every round needs is made ready, the round is worked off, and what it took is added up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::args::{BenchArgs, Scenario};
use super::load::Crew;
use super::meter::Reading;
use super::network::Site;
use super::phones::{Item, Phones};
use super::report::ms;
use super::sample::Sample;
use super::steps::Work;
use crate::fail::Failure;
use crate::out::Out;

/// Length of a round.
const ROUND: Duration = Duration::from_secs(1);
/// Below this, ends of rounds are a part of the figures worth mentioning.
const ROUND_SHORT: Duration = Duration::from_millis(300);
/// Payments of `lone`.
const LONE: u32 = 500;
/// How long the system rests before each of them.
const REST: Duration = Duration::from_millis(10);
/// How long `register` waits for the hub's rate rule between rounds.
const SHARE: Duration = Duration::from_secs(2);
/// Payments of a history that are made at once.
const HISTORY_ROUND: usize = 20_000;
/// Items of the round that warms up, for each connection.
const WARM_UP: usize = 20;

/// A run under way.
pub(super) struct Run<'a> {
    pub(super) args: &'a BenchArgs,
    pub(super) out: &'a Out,
    pub(super) site: &'a Site,
    pub(super) phones: Phones,
    pub(super) crew: Crew,
    pub(super) sample: Sample,
    /// Refusals while history was made, codes were made ready and the first round warmed up.
    pub(super) refused_before: u64,
    pub(super) reading: Reading,
    pub(super) measured: Duration,
    pub(super) notes: Vec<String>,
}

impl Run<'_> {
    /// Round after round, until enough was measured.
    pub(super) async fn rounds(&mut self) -> Result<(), Failure> {
        let wanted = Duration::from_secs(self.args.seconds.into());
        let patience = Instant::now() + wanted * 10 + Duration::from_secs(30);
        let mut size = WARM_UP * usize::from(self.args.connections);
        let (mut is_warm, mut rounds, mut told) = (false, 0_u32, Instant::now());
        while self.measured < wanted {
            if Instant::now() > patience {
                self.notes
                    .push("stopped early: preparing took too long, give more accounts".to_owned());
                break;
            }
            let Some(items) = self.prepare(size).await? else { continue };
            let before = Reading::before(self.site).await;
            let work = self.args.scenario.work();
            let (took, mut round) = self.crew.work(&items, work, self.args.rate).await?;
            let after = Reading::after(self.site).await;
            if self.args.scenario == Scenario::Register {
                self.phones.used(items.iter().map(|it| it.phone));
            }
            let us = took.as_micros().max(1);
            let per_second = u128::from(round.done) * 1_000_000 / us;
            if round.done == 0 {
                self.sample.add_faults(&round);
                self.sample.refused += round.refused;
                self.notes.push("stopped early: nothing succeeds".to_owned());
                break;
            }
            if is_warm {
                self.measured += took;
                self.reading.add(&before, &after);
                rounds += 1;
                if told.elapsed() >= ROUND {
                    told = Instant::now();
                    self.out.progress(format_args!(
                        "{:>4} s  {per_second} a second, p99 {}",
                        self.measured.as_secs(),
                        ms(round.quantile(0.99))
                    ));
                }
                // Which they were matters to the round alone.
                round.which.clear();
                self.sample.add(round);
            } else {
                is_warm = true;
                self.before_the_clock(&round);
            }
            let rate = self.args.rate.map_or(per_second, u128::from);
            let next = ROUND.min(wanted.saturating_sub(self.measured));
            size = usize::try_from(rate * next.as_micros() / 1_000_000).unwrap_or(1).max(64);
        }
        if self.measured / rounds.max(1) < ROUND_SHORT && self.args.scenario == Scenario::PayOnly {
            let note = "rounds were short, so their ends weigh in: give more --accounts";
            self.notes.push(note.to_owned());
        }
        if self.sample.waited > 0 {
            self.notes.push(format!(
                "{} payments waited for the one before of their terminal: give more --accounts",
                self.sample.waited
            ));
        }
        Ok(())
    }

    /// Errors count whenever they happen; a refusal belongs to the load under which it came.
    fn before_the_clock(&mut self, done: &Sample) {
        self.sample.add_faults(done);
        self.refused_before += done.refused;
    }

    /// What the next round needs; nothing when it has to be asked for again.
    async fn prepare(&mut self, size: usize) -> Result<Option<Arc<Vec<Item>>>, Failure> {
        match self.args.scenario {
            Scenario::Pay | Scenario::Mixed | Scenario::Lone => {
                Ok(Some(Arc::new(self.phones.codes(size))))
            }
            Scenario::Register => {
                let enough = (size / 4).min(self.phones.count() * 2);
                let items = self.phones.codes_within_the_rule(size);
                if items.len() >= enough.max(1) {
                    return Ok(Some(Arc::new(items)));
                }
                // These were never sent: the shares are saved up for a longer round.
                tokio::time::sleep(SHARE).await;
                Ok(None)
            }
            // One code a terminal: a payment ends all codes of its terminal.
            Scenario::PayOnly => {
                let items = self.phones.codes(size.min(self.phones.count()));
                Ok(Some(Arc::new(self.ready(items, Work::RegisterAtIssuer).await?)))
            }
            Scenario::Refund => {
                let items = self.phones.codes(size.min(self.phones.count()));
                Ok(Some(Arc::new(self.ready(items, Work::RegisterAndPay).await?)))
            }
        }
    }

    /// Those of the items with which that could be done, unmeasured.
    async fn ready(&mut self, items: Vec<Item>, work: Work) -> Result<Vec<Item>, Failure> {
        let items = Arc::new(items);
        let (_, done) = self.crew.work(&items, work, None).await?;
        self.before_the_clock(&done);
        let mut which = done.which.into_iter().peekable();
        let items = Arc::into_inner(items).unwrap_or_default().into_iter().enumerate();
        let ready = items.filter_map(|(number, item)| {
            let (_, payment_id) = which.next_if(|(done, _)| *done == number)?;
            Some(Item { payment_id, ..item })
        });
        Ok(ready.collect())
    }

    /// Payments that are there before the clock starts.
    pub(super) async fn history(&mut self) -> Result<(), Failure> {
        let mut made = 0;
        let wanted = self.args.history;
        while made < wanted {
            let left = usize::try_from(wanted - made).unwrap_or(usize::MAX);
            let items = self.phones.codes(left.min(self.phones.count()).min(HISTORY_ROUND));
            let ready = self.ready(items, Work::RegisterAndPay).await?.len();
            if ready == 0 {
                return Err(Failure::refused("no payment of the history succeeds")
                    .next("run the bench without --history to see why"));
            }
            made += u64::try_from(ready).unwrap_or(u64::MAX);
            self.out.progress(format_args!("{made} of {wanted} payments of the history made"));
        }
        Ok(())
    }

    pub(super) async fn lone(&mut self) {
        let began = Instant::now();
        for _ in 0..LONE {
            for item in self.phones.codes(1) {
                self.crew.alone(&item, REST, &mut self.sample).await;
            }
        }
        self.measured = began.elapsed();
        self.notes.push(format!(
            "the time holds the registrations and {} of rest before each payment; the latencies do not",
            ms(u64::try_from(REST.as_micros()).unwrap_or_default())
        ));
    }
}
