//! What was done to a network, counted.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value, json};

use super::Injected;
use super::hop::{Direction, Hop};
use super::plan::Fault;

type OfHop<T> = [[T; Fault::ALL.len()]; Direction::ALL.len()];

/// Counters of all wires of a network.
#[derive(Debug, Default)]
pub(super) struct Counts {
    calls: [AtomicU64; Hop::ALL.len()],
    faults: [OfHop<AtomicU64>; Hop::ALL.len()],
}

impl Counts {
    pub(super) fn call(&self, hop: Hop) {
        self.calls[hop.index()].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add(&self, it: Injected) {
        let [hop, direction, fault] = [it.hop.index(), it.direction.index(), it.fault.index()];
        self.faults[hop][direction][fault].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn report(&self) -> Report {
        let read = |it: &AtomicU64| it.load(Ordering::Relaxed);
        Report {
            calls: self.calls.each_ref().map(read),
            faults: self
                .faults
                .each_ref()
                .map(|hop| hop.each_ref().map(|faults| faults.each_ref().map(read))),
        }
    }
}

/// What was done to a network so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    calls: [u64; Hop::ALL.len()],
    faults: [OfHop<u64>; Hop::ALL.len()],
}

impl Report {
    /// How often this was done there.
    pub(crate) fn of(&self, hop: Hop, direction: Direction, fault: Fault) -> u64 {
        self.faults[hop.index()][direction.index()][fault.index()]
    }

    /// How many calls there were while faults were on.
    pub(crate) fn calls(&self, hop: Hop) -> u64 {
        self.calls[hop.index()]
    }

    /// How often this was done anywhere.
    pub(crate) fn total(&self, fault: Fault) -> u64 {
        let places = Hop::ALL.into_iter().flat_map(|hop| Direction::ALL.map(|it| (hop, it)));
        places.map(|(hop, direction)| self.of(hop, direction, fault)).sum()
    }

    /// In a line for people.
    pub(crate) fn line(&self) -> String {
        let totals = Fault::ALL.map(|fault| format!("{fault} {}", self.total(fault)));
        let calls: u64 = self.calls.iter().sum();
        format!("{} in {calls} calls", totals.join(", "))
    }

    /// For programs.
    pub(crate) fn object(&self) -> Value {
        let of = |hop, direction| -> Map<String, Value> {
            let faults = Fault::ALL.into_iter();
            faults.map(|it| (it.name().to_owned(), json!(self.of(hop, direction, it)))).collect()
        };
        let hops = Hop::ALL.into_iter().map(|hop| {
            let it = json!({
                "calls": self.calls(hop),
                "request": of(hop, Direction::Request),
                "answer": of(hop, Direction::Answer),
            });
            (hop.name().to_owned(), it)
        });
        Value::Object(hops.collect())
    }
}
