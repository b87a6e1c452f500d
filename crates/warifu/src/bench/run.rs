//! A run: what every round needs is made ready, the round is worked off, and what it took is added up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use warifu_proto::limits::ISSUED_SKEW_MAX_MS;

use super::args::{BenchArgs, Scenario};
use super::load::{Crew, Progress};
use super::meter::Reading;
use super::network::Site;
use super::phones::{Item, Phones};
use super::report::ms;
use super::sample::Sample;
use super::steps::Work;
use crate::fail::Failure;
use crate::out::Out;

/// Length of a round in a closed loop.
const ROUND: Duration = Duration::from_secs(1);
/// Longest round of an open loop: its codes are signed before it begins, and an issuer believes their time for two minutes.
pub(super) const STRETCH: Duration = Duration::from_secs(90);
const _: () = assert!(STRETCH.as_millis() < ISSUED_SKEW_MAX_MS as u128);
/// Most items of one: they take some 150 MiB.
pub(super) const ITEMS_MAX: u64 = 100_000;
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
    pub(super) rounds: u32,
    pub(super) notes: Vec<String>,
}

/// How large the next round is.
struct Plan {
    rate: Option<u32>,
    wanted: Duration,
    /// What an open loop has not sent yet.
    left: u64,
    size: usize,
}

impl Plan {
    /// The round that warms up comes first.
    fn new(args: &BenchArgs) -> Self {
        let wanted = Duration::from_secs(args.seconds.into());
        let of_rate = |rate: u32| usize::try_from(rate).unwrap_or(usize::MAX);
        let size = WARM_UP * usize::from(args.connections);
        Self {
            rate: args.rate,
            wanted,
            left: args.rate.map_or(u64::MAX, |rate| u64::from(rate) * u64::from(args.seconds)),
            size: args.rate.map_or(size, |rate| size.min(of_rate(rate))),
        }
    }

    fn is_over(&self, measured: Duration) -> bool {
        measured >= self.wanted || self.left == 0
    }

    fn sent(&mut self, items: usize) {
        self.left = self.left.saturating_sub(items as u64);
    }

    /// A second's worth in a closed loop. In an open one all that is left, so that no backlog is forgiven by a new round.
    /// Says how much a second was done.
    fn next(&mut self, measured: Duration, took: Duration, done: u64) -> u64 {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let per_second = done.saturating_mul(1_000_000) / us;
        let size = match self.rate {
            Some(rate) => self.left.min(ITEMS_MAX).min(u64::from(rate) * STRETCH.as_secs()),
            None => {
                let next = ROUND.min(self.wanted.saturating_sub(measured)).as_millis();
                (per_second.saturating_mul(u64::try_from(next).unwrap_or(1000)) / 1000).max(64)
            }
        };
        self.size = usize::try_from(size).unwrap_or(usize::MAX);
        per_second
    }
}

impl Run<'_> {
    /// Round after round, until enough was measured.
    pub(super) async fn rounds(&mut self) -> Result<(), Failure> {
        let mut plan = Plan::new(self.args);
        let patience = Instant::now() + plan.wanted * 10 + Duration::from_secs(30);
        let (mut is_warm, mut told) = (false, Instant::now());
        while !plan.is_over(self.measured) {
            if Instant::now() > patience {
                self.notes
                    .push("stopped early: preparing took too long, give more accounts".to_owned());
                break;
            }
            let Some(items) = self.prepare(plan.size).await? else { continue };
            let before = Reading::before(self.site).await;
            let (out, at, work) = (self.out, self.measured, self.args.scenario.work());
            let tell = |it: Progress| {
                // A round of a second speaks for itself at its end.
                if it.late.is_some() || it.elapsed > 2 * ROUND {
                    out.progress(it.since(at));
                }
            };
            let (took, mut round) = self.crew.work(&items, work, self.args.rate, tell).await?;
            let after = Reading::after(self.site).await;
            if self.args.scenario == Scenario::Register {
                self.phones.used(items.iter().map(|it| it.phone));
            }
            if is_warm {
                self.measured += took;
                self.rounds += 1;
                self.reading.add(&before, &after);
                plan.sent(items.len());
            } else {
                self.before_the_clock(&round);
            }
            let (done, p99) = (round.done, round.quantile(0.99));
            let per_second = plan.next(self.measured, took, done);
            if is_warm {
                // Which they were matters to the round alone.
                round.which.clear();
                self.sample.add(round);
            }
            if done == 0 {
                self.notes.push("stopped early: nothing succeeds".to_owned());
                break;
            }
            if is_warm && told.elapsed() >= ROUND {
                told = Instant::now();
                let (s, p99) = (self.measured.as_secs(), ms(p99));
                self.out.progress(format_args!("{s:>4} s  {per_second} a second, p99 {p99}"));
            }
            is_warm = true;
        }
        self.remarks();
        Ok(())
    }

    fn remarks(&mut self) {
        let is_short = self.measured / self.rounds.max(1) < ROUND_SHORT;
        if is_short && self.args.scenario == Scenario::PayOnly {
            let note = "rounds were short, so their ends weigh in: give more --accounts";
            self.notes.push(note.to_owned());
        }
        if self.sample.waited > 0 {
            self.notes.push(format!(
                "{} payments waited for the one before of their terminal: give more --accounts",
                self.sample.waited
            ));
        }
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
        let (items, out, mut ready) = (Arc::new(items), self.out, 0);
        let tell = |it: Progress| {
            ready += it.done;
            out.progress(format_args!("       {ready} of {} codes made ready", items.len()));
        };
        let (_, done) = self.crew.work(&items, work, None, tell).await?;
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
        (self.measured, self.rounds) = (began.elapsed(), 1);
        self.notes.push(format!(
            "the time holds the registrations and {} of rest before each payment; the latencies do not",
            ms(u64::try_from(REST.as_micros()).unwrap_or_default())
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::args::typed;

    /// The sizes of all rounds, if each takes as long as it should; the first warms up.
    fn sizes(line: &str, per_second: u64, most: usize) -> Vec<usize> {
        let args = typed(line);
        let (mut plan, mut measured, mut sizes) = (Plan::new(&args), Duration::ZERO, Vec::new());
        while !plan.is_over(measured) {
            let size = plan.size.min(most);
            let took = Duration::from_micros(size as u64 * 1_000_000 / per_second);
            if !sizes.is_empty() {
                measured += took;
                plan.sent(size);
            }
            sizes.push(size);
            plan.next(measured, took, size as u64);
        }
        sizes
    }

    #[test]
    fn an_open_loop_is_one_schedule_if_the_accounts_allow_it() {
        assert_eq!(sizes("bench pay --rate 500 --seconds 20", 500, 10_000), [500, 10_000]);
        assert_eq!(sizes("bench pay --rate 500 --seconds 2", 500, 400), [400, 400, 400, 200]);
        assert_eq!(
            sizes("bench pay --rate 9000 --seconds 12", 9000, 200_000)[1..],
            [100_000, 8000]
        );
        // What is signed ahead is believed for two minutes.
        assert_eq!(sizes("bench pay --rate 10 --seconds 100", 10, 2000), [10, 900, 100]);
        // An overload ends when enough was measured.
        assert_eq!(sizes("bench pay --rate 1000 --seconds 4", 100, 200), [200, 200, 200]);
    }

    #[test]
    fn a_closed_loop_goes_by_the_second() {
        let sizes = sizes("bench pay --seconds 3 --connections 8", 1000, 5000);
        assert_eq!(sizes, [160, 1000, 1000, 1000]);
    }
}
