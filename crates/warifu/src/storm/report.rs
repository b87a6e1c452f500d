//! What the storm says at the end: what is wrong first, then what was done and how it went.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::check::{Booked, Breach, Order};
use crate::out::Out;
use crate::{paths, wire};

/// How many wrong orders are named to people; a program gets all.
const NAMED_MAX: usize = 20;

/// A storm that is over.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) seconds: u64,
    pub(super) seed: u64,
    pub(super) orders: Vec<Order>,
    pub(super) booked: Vec<Booked>,
    pub(super) breaches: Vec<Breach>,
    /// What `warifu verify` says of journals that are not right.
    pub(super) unverified: Vec<String>,
    /// Attempts that still have no outcome.
    pub(super) unresolved: u64,
    /// After how long of good weather there were none.
    pub(super) settled_after: Duration,
    /// Whether a till was never served.
    pub(super) tills_stuck: bool,
    /// The longest time that an attempt was seen without an outcome, in whole seconds.
    pub(super) oldest_s: u64,
    /// The longest time that a payer stood at a till.
    pub(super) longest_ms: u64,
    pub(super) repeats: u64,
    pub(super) without_code: u64,
    pub(super) kills_of_issuers: u64,
    pub(super) kills_of_readers: u64,
    pub(super) kills_of_hub: u64,
    pub(super) faults: wire::Report,
    /// Where the files are, when they are kept.
    pub(super) dir: Option<PathBuf>,
}

impl Report {
    /// Whether everything held, and there was something to hold.
    pub(super) fn is_good(&self) -> bool {
        self.wrong().is_empty()
    }

    /// All that is wrong, a line each.
    fn wrong(&self) -> Vec<String> {
        let mut wrong: Vec<String> = self.breaches.iter().map(ToString::to_string).collect();
        wrong.extend(self.unverified.iter().cloned());
        if self.unresolved > 0 {
            wrong.push(format!("{} attempts still have no outcome", self.unresolved));
        }
        if self.tills_stuck {
            wrong.push("a till still waits for its reader".to_owned());
        }
        if self.outcomes().keys().all(|it| *it != "approved") {
            wrong.push("nothing was paid, so nothing was checked".to_owned());
        }
        wrong
    }

    /// What tills were told last, counted.
    fn outcomes(&self) -> BTreeMap<&str, usize> {
        let mut outcomes = BTreeMap::new();
        for order in &self.orders {
            let last = order.said.last().map_or("no_answer", |it| it.result.as_str());
            *outcomes.entry(last).or_default() += 1;
        }
        outcomes
    }

    pub(super) fn print(&self, out: &Out) {
        out.object(&self.object());
        let wrong = self.wrong();
        for line in wrong.iter().take(NAMED_MAX) {
            out.say(format_args!("WRONG      {line}"));
        }
        if wrong.len() > NAMED_MAX {
            out.say(format_args!("WRONG      … and {} more", wrong.len() - NAMED_MAX));
        }
        let outcomes: Vec<_> =
            self.outcomes().iter().map(|(it, count)| format!("{count} {it}")).collect();
        let (orders, seconds) = (self.orders.len(), self.seconds);
        out.say(format_args!("orders     {orders} in {seconds} s: {}", outcomes.join(", ")));
        out.say(format_args!("booked     {} payments at the issuers", self.booked.len()));
        out.say(format_args!("faults     {} (seed {})", self.faults.line(), self.seed));
        out.say(format_args!(
            "kills      {} of issuers, {} of readers, {} of the hub; tills repeated {} calls",
            self.kills_of_issuers, self.kills_of_readers, self.kills_of_hub, self.repeats
        ));
        out.say(format_args!(
            "longest    {} s without an outcome; {} ms at a till; {} terminals showed no code",
            self.oldest_s, self.longest_ms, self.without_code
        ));
        out.say(format_args!(
            "after it   nothing was without an outcome {} ms after the network healed",
            self.settled_after.as_millis()
        ));
        if let Some(dir) = &self.dir {
            out.say(format_args!("files      {}", paths::shown(dir)));
        }
        if wrong.is_empty() {
            out.say("\nNo order was paid twice, every till was told what is booked, every journal is right.");
        }
    }

    fn object(&self) -> Value {
        json!({
            "good": self.is_good(),
            "wrong": self.wrong(),
            "seconds": self.seconds,
            "seed": self.seed,
            "orders": self.orders.len(),
            "outcomes": self.outcomes(),
            "booked": self.booked.len(),
            "unresolved": self.unresolved,
            "settled_after_ms": u64::try_from(self.settled_after.as_millis()).unwrap_or(u64::MAX),
            "longest_unknown_s": self.oldest_s,
            "longest_at_till_ms": self.longest_ms,
            "calls_repeated": self.repeats,
            "terminals_without_code": self.without_code,
            "kills": { "issuers": self.kills_of_issuers, "readers": self.kills_of_readers, "hub": self.kills_of_hub },
            "faults": self.faults.object(),
            "dir": self.dir,
        })
    }
}
