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
        self.lines().into_iter().for_each(|it| out.say(it));
    }

    /// For people: errors first, then the result, then on what it rests.
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let errors = self.errors();
        if errors > 0 {
            let kinds: Vec<_> = self
                .sample
                .faults
                .iter()
                .map(|(fault, count)| format!("{count} × {fault}"))
                .collect();
            lines.push(format!("{errors} ERRORS: {}", kinds.join("; ")));
        }
        let name = self.args.scenario.name();
        let unit = self.unit();
        lines.push(format!(
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
            lines.push(format!("{what:<10} {}  max {}", all.join("  "), ms(latencies.max())));
        }
        self.conditions(&mut lines);
        self.costs(&mut lines);
        for note in &self.notes {
            lines.push(format!("note       {note}"));
        }
        lines
    }

    fn conditions(&self, lines: &mut Vec<String>) {
        let checked = if self.args.no_check_answers { "not checked" } else { "checked" };
        lines.push(format!("load       {}", self.load()));
        if self.sample.refused > 0 {
            let then = if self.args.rate.is_some() { "given up" } else { "repeated" };
            lines.push(format!(
                "refused    {} times for want of room, and {then}",
                self.sample.refused
            ));
        }
        if self.refused_before > 0 {
            lines
                .push(format!("refused    {} times before the clock started", self.refused_before));
        }
        lines.push(format!(
            "accounts   {} with a terminal each; {}; history of {} payments",
            self.accounts,
            self.merchants(),
            self.args.history
        ));
        if self.args.scenario == Scenario::Mixed {
            let [looked_up, refunded, reversed] =
                [LOOKED_UP, REFUNDED - LOOKED_UP, REVERSED - REFUNDED];
            lines.push(format!(
                "mix        each registers and pays; of a hundred payments {looked_up} are looked up, {refunded} refunded, {reversed} reversed"
            ));
        }
        lines.push(format!("signed     {}; signatures of answers {checked}", self.signed_by()));
        lines.push(format!("codes      {}", self.args.scenario.about_codes()));
        lines.push(format!("store      {DURABILITY}; files on {}; {}", self.files, self.store));
    }

    fn costs(&self, lines: &mut Vec<String>) {
        let (cores, model) = hardware();
        if let Some(hundredths) = self.mean_batch() {
            let (whole, rest) = (hundredths / 100, hundredths % 100);
            let p99 = self.p99_batch().map_or_else(|| "–".to_owned(), |it| it.to_string());
            lines.push(format!(
                "batch      {whole}.{rest:02} entries a commit on average, p99 at most {p99}"
            ));
        }
        if let (Some(server), Some(own), Some(reading)) =
            (self.each(|it| it.server_cpu_us), self.each(|it| it.own_cpu_us), &self.reading)
        {
            lines.push(format!(
                "cpu        {server} µs each in the servers (hub and issuers, one process), {own} µs in this generator"
            ));
            lines.push(format!(
                "behind     {} entries not yet told to payers, {} not yet in the views, when the load ended: that work is not in the CPU time",
                reading.notice_lag, reading.view_lag
            ));
        }
        if let Some(limits) = &self.limits {
            lines.extend(limits.lines());
        }
        if let Some((of, hundredths)) = self.ratio() {
            let unit = self.unit();
            lines.push(format!("ratio      {unit} are {hundredths} % of {of}"));
        }
        let where_ =
            if self.is_here { "generator and servers share them" } else { "the generator's" };
        lines.push(format!(
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::bench::args::typed;
    use crate::bench::sample::Part;

    fn report(args: &BenchArgs) -> Report<'_> {
        let mut sample = Sample::default();
        sample.record(Part::Whole, Instant::now());
        sample.done = 1000;
        Report {
            args,
            accounts: 500,
            store: "new",
            files: "an unknown disk".to_owned(),
            is_here: true,
            measured: Duration::from_secs(2),
            rounds: 1,
            sample,
            refused_before: 0,
            reading: None,
            limits: Some(Limits {
                appends: None,
                echoes: 5000,
                checks_one: 1000,
                checks_all: 2000,
            }),
            notes: Vec::new(),
        }
    }

    /// The line that begins with this word.
    fn line(report: &Report<'_>, word: &str) -> Option<String> {
        report.lines().into_iter().find(|it| it.split(' ').next() == Some(word))
    }

    #[test]
    fn a_run_that_had_errors_says_so_first() {
        let args = typed("bench pay");
        let mut report = report(&args);
        assert!(
            report.lines()[0].starts_with("pay        1000 payments in 2000 ms: 500 payments/s")
        );
        report.sample.faults.insert("503 issuer_unavailable".to_owned(), 2);
        report.sample.faults.insert("declined code_used".to_owned(), 1);
        assert_eq!(
            report.lines()[0],
            "3 ERRORS: 2 × 503 issuer_unavailable; 1 × declined code_used"
        );
        assert_eq!(report.object()["errors"], 3);
    }

    #[test]
    fn refusals_are_told_by_loop_and_by_time() {
        let (closed, open) = (typed("bench pay"), typed("bench pay --rate 500"));
        for (args, word) in [(&closed, "repeated"), (&open, "given up")] {
            let mut report = report(args);
            assert_eq!(line(&report, "refused"), None);
            report.sample.refused = 7;
            assert!(line(&report, "refused").unwrap().ends_with(word));
            report.refused_before = 9;
            let object = report.object();
            assert_eq!((&object["refused"], &object["refused_before"]), (&7.into(), &9.into()));
        }
    }

    #[test]
    fn the_schedule_says_what_would_make_it_one() {
        let args = typed("bench pay-only --rate 400 --seconds 2 --accounts 500");
        let mut report = report(&args);
        assert!(line(&report, "load").unwrap().contains("in one schedule"));
        report.rounds = 2;
        let told = line(&report, "load").unwrap();
        assert!(told.contains("2 rounds") && told.contains("--accounts 800"), "{told}");
    }

    #[test]
    fn a_ratio_is_printed_where_it_means_something() {
        let ratio = |typed_: &str| report(&typed(typed_)).ratio();
        assert_eq!(ratio("bench pay-only"), Some(("HTTP echoes", 10)));
        assert_eq!(ratio("bench pay-only --ecdsa"), Some(("P-256 checks on all cores", 25)));
        assert_eq!(ratio("bench register"), Some(("P-256 checks on all cores", 25)));
        assert_eq!(ratio("bench pay"), None);
        assert_eq!(ratio("bench pay-only --rate 5"), None);
    }
}
