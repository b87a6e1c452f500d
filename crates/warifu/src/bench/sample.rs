//! What came of a load: latencies by part, what was done, and what went wrong.

use std::collections::BTreeMap;
use std::time::Instant;

use hdrhistogram::Histogram;

use super::line::Fault;

/// Longest latency that is told apart, in microseconds.
const LATENCY_MAX_US: u64 = 60_000_000;

/// Latencies in microseconds.
pub(super) type Latencies = Histogram<u64>;

fn latencies() -> Latencies {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("the bounds are in order")
}

/// What is told apart in an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// All that an item needs.
    Whole,
    Register,
    Pay,
    LookUp,
    Refund,
    Reverse,
}

impl Part {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Register => "register",
            Self::Pay => "pay",
            Self::LookUp => "look_up",
            Self::Refund => "refund",
            Self::Reverse => "reverse",
        }
    }
}

/// What came of it.
#[derive(Default)]
pub(super) struct Sample {
    pub(super) latencies: BTreeMap<Part, Latencies>,
    pub(super) done: u64,
    pub(super) faults: BTreeMap<Fault, u64>,
    /// Answers of a server that has too much to do: repeated in a closed loop, given up in an open one.
    pub(super) refused: u64,
    /// Items that waited until an earlier one of their terminal was done.
    pub(super) waited: u64,
    /// Which items were done, and the payments that came of them.
    pub(super) which: Vec<(usize, Option<String>)>,
}

impl Sample {
    pub(super) fn record(&mut self, part: Part, since: Instant) {
        self.latencies.entry(part).or_insert_with(latencies).saturating_record(us_since(since));
    }

    pub(super) fn add(&mut self, other: Self) {
        for (part, from) in &other.latencies {
            let into = self.latencies.entry(*part).or_insert_with(latencies);
            into.add(from).expect("all have the same bounds");
        }
        self.done += other.done;
        self.waited += other.waited;
        self.refused += other.refused;
        self.add_faults(&other);
        self.which.extend(other.which);
    }

    pub(super) fn add_faults(&mut self, other: &Self) {
        for (fault, count) in &other.faults {
            *self.faults.entry(fault.clone()).or_default() += count;
        }
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// The latency below which that share of items was done, in microseconds.
    pub(super) fn quantile(&self, quantile: f64) -> u64 {
        self.latencies.get(&Part::Whole).map_or(0, |it| it.value_at_quantile(quantile))
    }
}

fn us_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}
