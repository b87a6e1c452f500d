//! What `bench engine` says: no figure without what it rests on, and each beside the machine's limit.

use serde_json::{Value, json};

use super::EngineArgs;
use super::load::Run;
use crate::bench::batches::Batches;
use crate::bench::limits::{Appends, Limits};
use crate::bench::meter::{hardware, memory_mib};
use crate::out::Out;

/// A start without a clean stop before it.
pub(super) struct Restart {
    /// Entries that were applied after the snapshots.
    pub(super) entries: u64,
    /// Position that the snapshots had reached.
    pub(super) from: u64,
    /// Opening the files, loading snapshots, applying the tail with its chain checked.
    pub(super) fold_ms: u64,
    /// All of that once more, the index brought to the end, the lane started.
    pub(super) ready_ms: u64,
    /// The clean stop after it.
    pub(super) stop_ms: u64,
}

pub(super) struct Report<'a> {
    pub(super) args: &'a EngineArgs,
    pub(super) run: Run,
    pub(super) cpu_us: u64,
    pub(super) batches: Batches,
    /// How long the index took to get to the end after the load.
    pub(super) index_ms: u64,
    /// By how much the journal's file grew.
    pub(super) grown: u64,
    /// A clean stop, its last snapshots included.
    pub(super) stop_ms: u64,
    pub(super) restart: Option<Restart>,
    pub(super) limits: Option<Limits>,
    /// What the files lie on.
    pub(super) files: String,
}

impl Report<'_> {
    fn per_second(&self, count: u64) -> u64 {
        let us = u64::try_from(self.run.took.as_micros()).unwrap_or(u64::MAX).max(1);
        count.saturating_mul(1_000_000) / us
    }

    /// In hundredths.
    fn ratio(&self, of: u64) -> u64 {
        self.per_second(self.batches.commits()).saturating_mul(100) / of.max(1)
    }

    fn object(&self) -> Value {
        let Self { args, run, .. } = self;
        let (cores, model) = hardware();
        json!({
            "scenario": "engine",
            "payments": run.paid,
            "per_second": self.per_second(run.paid),
            "worst_second": run.worst,
            "measured_ms": u64::try_from(run.took.as_millis()).unwrap_or(u64::MAX),
            "commits_per_second": self.per_second(self.batches.commits()),
            "batch_max": args.batch,
            "batch_mean_hundredths": self.batches.mean_hundredths(),
            "batch_p99_at_most": self.batches.p99_at_most(),
            "cpu_us_each": self.cpu_each(),
            "index_behind_entries": run.behind,
            "index_caught_up_ms": self.index_ms,
            "entry_bytes": run.entry_bytes,
            "journal_file_grew_bytes": self.grown,
            "clean_stop_ms": self.stop_ms,
            "accounts": args.accounts,
            "merchants": args.merchants,
            "hot_share_percent": args.hot_share,
            "random_ids": args.random_ids,
            "one_partition": args.one_partition,
            "history": args.history,
            "in_flight": args.in_flight,
            "durability": args.store.durability(),
            "files_on": self.files,
            "store": if args.history > 0 { "with that history" } else { "new, made for this run" },
            "resident_mib": run.resident_mib,
            "restart": self.restart.as_ref().map(|it| json!({
                "entries": it.entries, "from_position": it.from, "fold_ms": it.fold_ms, "ready_ms": it.ready_ms,
            })),
            "limits": self.limits.as_ref().map(Limits::object),
            "commits_per_4k_append_hundredths": self.appends().map(|it| self.ratio(it.of_4k)),
            "commits_per_same_append_hundredths": self.appends().map(|it| self.ratio(it.of_batch)),
            "cores": cores,
            "cpu": model,
            "memory_mib": memory_mib(),
        })
    }

    /// Only beside a journal on a disk.
    fn appends(&self) -> Option<Appends> {
        self.limits.as_ref()?.appends
    }

    fn cpu_each(&self) -> u64 {
        self.cpu_us / self.run.paid.max(1)
    }

    pub(super) fn print(&self, out: &Out) {
        out.object(&self.object());
        let Self { args, run, .. } = self;
        let (cores, model) = hardware();
        let mean = self.batches.mean_hundredths().unwrap_or_default();
        let p99 = self.batches.p99_at_most();
        let hot = args.hot_share.map_or_else(|| "even".to_owned(), |it| format!("{it} % on one"));
        out.say(format_args!(
            "engine     {} payments and as many registrations in {} ms: {} payments/s, worst second {}/s",
            run.paid,
            run.took.as_millis(),
            self.per_second(run.paid),
            run.worst
        ));
        out.say(format_args!(
            "batch      at most {}; {}.{:02} entries a commit on average, p99 at most {}; {} commits/s",
            args.batch,
            mean / 100,
            mean % 100,
            p99.map_or_else(|| "–".to_owned(), |it| it.to_string()),
            self.per_second(self.batches.commits())
        ));
        out.say(format_args!(
            "load       {} commands under way; {} accounts{}; {} merchants, {hot}; request ids in {} order; history of {} payments",
            args.in_flight,
            args.accounts,
            if args.one_partition { " in one partition" } else { "" },
            args.merchants,
            if args.random_ids { "random" } else { "time's" },
            args.history
        ));
        out.say(format_args!("durability {}; files on {}", args.store.durability(), self.files));
        out.say(format_args!(
            "index      behind by {} entries when the load ended, at the end {} ms later",
            run.behind, self.index_ms
        ));
        out.say(format_args!(
            "bytes      {} of journal for an entry on average, {} in its file; {} MiB in memory, the generator's payers included",
            run.entry_bytes,
            self.grown / (2 * run.paid).max(1),
            run.resident_mib
        ));
        out.say(format_args!(
            "cpu        {} µs for a payment with its registration, this generator included",
            self.cpu_each()
        ));
        if let Some(it) = &self.restart {
            let each = it.entries.saturating_mul(1000) / it.fold_ms.max(1);
            out.say(format_args!(
                "restart    without a clean stop: {} entries after position {} applied in {} ms with the snapshots before them ({each}/s, chain checked); ready after {} ms",
                it.entries, it.from, it.fold_ms, it.ready_ms
            ));
        }
        out.say(format_args!("stop       clean, with a last snapshot, in {} ms", self.stop_ms));
        if let Some(limits) = &self.limits {
            limits.lines().into_iter().for_each(|it| out.say(it));
        }
        if let Some(appends) = self.appends() {
            out.say(format_args!(
                "ratio      commits are {} % of durable appends of 4 KiB, {} % of those of the same bytes",
                self.ratio(appends.of_4k),
                self.ratio(appends.of_batch)
            ));
        }
        out.say(format_args!(
            "hardware   {cores} cores, {model}, {} MiB of memory; generator and engine share them",
            memory_mib()
        ));
    }
}
