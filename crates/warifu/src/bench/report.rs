//! What the bench says at the end: the errors first, and no figure without what it rests on.

use std::time::Duration;

use serde_json::{Value, json};

use super::args::{BenchArgs, Scenario};
use super::limits::Limits;
use super::meter::{Reading, hardware, memory_mib};
use super::run::{ITEMS_MAX, STRETCH};
use super::sample::{Latencies, Sample};
use super::steps::{LOOKED_UP, REFUNDED, REVERSED};
use crate::out::Out;

/// What every answer rests on.
const DURABILITY: &str = "SQLite WAL synchronous=FULL, every commit synced before its answer";
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// A finished run.
pub(super) struct Report<'a> {
    pub(super) args: &'a BenchArgs,
    pub(super) accounts: usize,
    pub(super) store: &'a str,
    /// What its files lie on, as far as is known.
    pub(super) files: String,
    /// Whether the servers are processes of this machine.
    pub(super) is_here: bool,
    /// Of load, without what was prepared between the rounds.
    pub(super) measured: Duration,
    /// In how many rounds that was; each begins the schedule of an open loop anew.
    pub(super) rounds: u32,
    pub(super) sample: Sample,
    /// Refusals before the clock started.
    pub(super) refused_before: u64,
    /// Over the measured time; missing where it would say nothing.
    pub(super) reading: Option<Reading>,
    /// Of this machine, measured before.
    pub(super) limits: Option<Limits>,
    /// What the reader of the figures should know.
    pub(super) notes: Vec<String>,
}

impl Report<'_> {
    pub(super) fn errors(&self) -> u64 {
        self.sample.faults.values().sum()
    }

    fn per_second(&self) -> u64 {
        let us = u64::try_from(self.measured.as_micros()).unwrap_or(u64::MAX).max(1);
        self.sample.done.saturating_mul(1_000_000) / us
    }

    /// What is counted.
    fn unit(&self) -> &'static str {
        match self.args.scenario {
            Scenario::Register => "registrations",
            Scenario::Refund => "refunds",
            Scenario::Pay | Scenario::PayOnly | Scenario::Mixed | Scenario::Lone => "payments",
        }
    }

    /// In a fixed order, the whole first. A scenario of one part has that part as its whole.
    fn parts(&self) -> impl Iterator<Item = (&'static str, &Latencies)> {
        self.sample.latencies.iter().map(|(part, latencies)| (part.name(), latencies))
    }

    fn signed_by(&self) -> &'static str {
        match (self.args.scenario, self.args.ecdsa) {
            (Scenario::Register, _) => {
                "by the terminals, inside; the calls are not, so answers are by ECDSA"
            }
            (_, true) => "ECDSA, every request",
            (_, false) => "HMAC in a session",
        }
    }

    /// In hundredths.
    fn mean_batch(&self) -> Option<u64> {
        self.reading.as_ref()?.batches.mean_hundredths()
    }

    fn p99_batch(&self) -> Option<u64> {
        self.reading.as_ref()?.batches.p99_at_most()
    }

    fn merchants(&self) -> String {
        let BenchArgs { merchants, hot_share, .. } = self.args;
        match (merchants, hot_share) {
            (1, _) => "one merchant has all of it, one reader key".to_owned(),
            (_, Some(percent)) => {
                format!("{merchants} merchants with a reader each, {percent} % go to one of them")
            }
            (_, None) => format!("{merchants} merchants with a reader each, all even"),
        }
    }

    /// Nothing where it was not read.
    fn each(&self, us: impl Fn(&Reading) -> u64) -> Option<u64> {
        us(self.reading.as_ref()?).checked_div(self.sample.done).filter(|it| *it > 0)
    }

    pub(super) fn print(&self, out: &Out) {
        out.object(&self.object());
        let errors = self.errors();
        if errors > 0 {
            let kinds: Vec<_> = self
                .sample
                .faults
                .iter()
                .map(|(fault, count)| format!("{count} × {fault}"))
                .collect();
            out.say(format_args!("{errors} ERRORS: {}", kinds.join("; ")));
        }
        let name = self.args.scenario.name();
        let unit = self.unit();
        out.say(format_args!(
            "{name:<10} {} {unit} in {}: {} {unit}/s",
            self.sample.done,
            ms(u64::try_from(self.measured.as_micros()).unwrap_or(u64::MAX)),
            self.per_second()
        ));
        for (part, latencies) in self.parts() {
            let at = |it| ms(latencies.value_at_quantile(it));
            let all: Vec<_> =
                QUANTILES.iter().map(|(name, it)| format!("{name} {}", at(*it))).collect();
            let what = if part == "whole" { "latency" } else { part };
            out.say(format_args!("{what:<10} {}  max {}", all.join("  "), ms(latencies.max())));
        }
        self.print_conditions(out);
        self.print_costs(out);
        for note in &self.notes {
            out.say(format_args!("note       {note}"));
        }
    }

    fn print_conditions(&self, out: &Out) {
        let checked = if self.args.no_check_answers { "not checked" } else { "checked" };
        out.say(format_args!("load       {}", self.load()));
        if self.sample.refused > 0 {
            let then = if self.args.rate.is_some() { "given up" } else { "repeated" };
            out.say(format_args!(
                "refused    {} times for want of room, and {then}",
                self.sample.refused
            ));
        }
        if self.refused_before > 0 {
            out.say(format_args!(
                "refused    {} times before the clock started",
                self.refused_before
            ));
        }
        out.say(format_args!(
            "accounts   {} with a terminal each; {}; history of {} payments",
            self.accounts,
            self.merchants(),
            self.args.history
        ));
        if self.args.scenario == Scenario::Mixed {
            let [looked_up, refunded, reversed] =
                [LOOKED_UP, REFUNDED - LOOKED_UP, REVERSED - REFUNDED];
            out.say(format_args!(
                "mix        each registers and pays; of a hundred payments {looked_up} are looked up, {refunded} refunded, {reversed} reversed"
            ));
        }
        out.say(format_args!("signed     {}; signatures of answers {checked}", self.signed_by()));
        out.say(format_args!("codes      {}", self.args.scenario.about_codes()));
        out.say(format_args!("store      {DURABILITY}; files on {}; {}", self.files, self.store));
    }

    fn print_costs(&self, out: &Out) {
        let (cores, model) = hardware();
        if let Some(hundredths) = self.mean_batch() {
            let (whole, rest) = (hundredths / 100, hundredths % 100);
            let p99 = self.p99_batch().map_or_else(|| "–".to_owned(), |it| it.to_string());
            out.say(format_args!(
                "batch      {whole}.{rest:02} entries a commit on average, p99 at most {p99}"
            ));
        }
        if let (Some(server), Some(own), Some(reading)) =
            (self.each(|it| it.server_cpu_us), self.each(|it| it.own_cpu_us), &self.reading)
        {
            out.say(format_args!(
                "cpu        {server} µs each in the servers (hub and issuers, one process), {own} µs in this generator"
            ));
            out.say(format_args!(
                "behind     {} entries not yet told to payers, {} not yet in the views, when the load ended: that work is not in the CPU time",
                reading.notice_lag, reading.view_lag
            ));
        }
        if let Some(limits) = &self.limits {
            limits.lines().into_iter().for_each(|it| out.say(it));
        }
        if let Some((of, hundredths)) = self.ratio() {
            let unit = self.unit();
            out.say(format_args!("ratio      {unit} are {hundredths} % of {of}"));
        }
        let where_ =
            if self.is_here { "generator and servers share them" } else { "the generator's" };
        out.say(format_args!(
            "hardware   {cores} cores, {model}, {} MiB of memory; {where_}",
            memory_mib()
        ));
    }

    fn load(&self) -> String {
        let connections = self.args.connections;
        match (self.args.scenario, self.args.rate) {
            (Scenario::Lone, _) => "one payment at a time on the idle system".to_owned(),
            (_, Some(rate)) => format!(
                "open loop, {rate} a second on {connections} connections in {}; latency from the intended start",
                self.schedule(rate)
            ),
            (_, None) => format!("closed loop on {connections} connections, HTTP/1.1 keep-alive"),
        }
    }

    /// How much of the machine's limit was reached, in hundredths. Only where an item is one call, on the limit's own
    /// machine, and nothing held the load back.
    fn ratio(&self) -> Option<(&'static str, u64)> {
        let limits = self.limits.as_ref().filter(|_| self.is_here && self.args.rate.is_none())?;
        let (of, limit) = match (self.args.scenario, self.args.ecdsa) {
            (Scenario::PayOnly | Scenario::Refund, false) => ("HTTP echoes", limits.echoes),
            (Scenario::PayOnly | Scenario::Refund, true) | (Scenario::Register, _) => {
                ("P-256 checks on all cores", limits.checks_all)
            }
            (Scenario::Pay | Scenario::Mixed | Scenario::Lone, _) => return None,
        };
        Some((of, self.per_second().saturating_mul(100).checked_div(limit)?))
    }

    fn schedule(&self, rate: u32) -> String {
        if self.rounds <= 1 {
            return "one schedule".to_owned();
        }
        let items = u64::from(rate) * u64::from(self.args.seconds);
        let is_limited = matches!(self.args.scenario, Scenario::PayOnly | Scenario::Refund)
            && (self.accounts as u64) < items.min(ITEMS_MAX);
        let why = if is_limited {
            format!("for one give --accounts {}", items.min(ITEMS_MAX))
        } else {
            format!(
                "one holds at most {ITEMS_MAX} items, {} s, or what terminals may register",
                STRETCH.as_secs()
            )
        };
        format!("{} rounds, each of which begins a new schedule ({why})", self.rounds)
    }

    fn object(&self) -> Value {
        let latency = self.parts().map(|(part, latencies)| {
            let mut all: serde_json::Map<String, Value> = QUANTILES
                .iter()
                .map(|(name, it)| ((*name).to_owned(), json!(latencies.value_at_quantile(*it))))
                .collect();
            all.insert("max".to_owned(), json!(latencies.max()));
            (part.to_owned(), Value::Object(all))
        });
        let latency: serde_json::Map<_, _> = latency.collect();
        let (cores, model) = hardware();
        json!({
            "errors": self.errors(),
            "faults": self.sample.faults,
            "scenario": self.args.scenario.name(),
            "loop": if self.args.rate.is_some() { "open" } else { "closed" },
            "rate": self.args.rate,
            "connections": self.args.connections,
            "accounts": self.accounts,
            "done": self.sample.done,
            "rounds": self.rounds,
            "measured_ms": u64::try_from(self.measured.as_millis()).unwrap_or(u64::MAX),
            "per_second": self.per_second(),
            "latency_us": latency,
            "signed": self.signed_by(),
            "answers_checked": !self.args.no_check_answers,
            "codes": self.args.scenario.about_codes(),
            "durability": DURABILITY,
            "store": self.store,
            "files_on": self.files,
            "batch_mean_hundredths": self.mean_batch(),
            "server_cpu_us_each": self.each(|it| it.server_cpu_us),
            "generator_cpu_us_each": self.each(|it| it.own_cpu_us),
            "limits": self.limits.as_ref().map(Limits::object),
            "ratio": self.ratio().map(|(of, hundredths)| json!({ "of": of, "hundredths": hundredths })),
            "mix_percent": (self.args.scenario == Scenario::Mixed).then(|| json!({
                "look_up": LOOKED_UP, "refund": REFUNDED - LOOKED_UP, "reverse": REVERSED - REFUNDED,
            })),
            "refused": self.sample.refused,
            "refused_before": self.refused_before,
            "notice_lag_entries": self.reading.as_ref().map(|it| it.notice_lag),
            "view_lag_entries": self.reading.as_ref().map(|it| it.view_lag),
            "merchants": self.args.merchants,
            "hot_share_percent": self.args.hot_share,
            "history": self.args.history,
            "batch_p99_at_most": self.p99_batch(),
            "memory_mib": memory_mib(),
            "cores": cores,
            "cpu": model,
            "notes": self.notes,
        })
    }
}

/// Microseconds as people read them.
pub(super) fn ms(us: u64) -> String {
    match us {
        0..100_000 => format!("{}.{:02} ms", us / 1000, us % 1000 / 10),
        100_000..10_000_000 => format!("{} ms", us / 1000),
        _ => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}
