//! `warifu bench engine`: the same decisions without HTTP and signatures, through lane, journal, chain, index and
//! snapshots; and beside them, in the same run, what this machine can do at most.
//!
//! Every payment has a registration of its own, so every payment is two commands and two entries. Accounts are opened,
//! filled and linked by the same commands as in life. Digits and ids come from a fast generator that nobody should use
//! for anything else: drawing them from the system would cost as much as a payment.

pub(super) mod load;
pub(super) mod payers;
mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, ValueEnum, value_parser};
use warifu_core::partition::WINDOW;
use warifu_core::vault::Vault;
use warifu_issuer::engine::recover::recover;
use warifu_issuer::engine::{Engine, EngineConfig, open_store};
use warifu_issuer::store::Store;
use warifu_issuer::store::model::ModelStore;
use warifu_proto::code::Prefix;
use warifu_proto::currency::{Currency, CurrencyCode};
use warifu_server::{chance, telemetry};

use self::load::{Load, Mix};
use self::payers::{Opening, Payers};
use self::report::{Report, Restart};
use super::batches::Batches;
use super::limits::{Appends, Limits};
use super::meter::{cpu_us, file_system};
use crate::fail::Failure;
use crate::out::Out;

/// Accounts are spread over them, as a new issuer does.
const PARTITIONS: u8 = 16;
/// Most commands in a commit while accounts and history are made.
pub(super) const BATCH_BUILD: usize = 4096;
/// Most commands that wait for the lane.
pub(super) const QUEUE_MAX: usize = 65_536;
/// How long the load may take to end when it is stopped: it may be writing snapshots.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// Measure the engine alone: decisions, journal, index and snapshots, without HTTP and signatures.
///
/// Prints the machine's own limits beside it: durable appends, HTTP echo of bodies as a payment has them, signature checks.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  warifu bench engine --seconds 300 --accounts 500000
  warifu bench engine --batch 1 --in-flight 4
  warifu bench engine --accounts 1000000 --history 20000000 --restart")]
pub(crate) struct EngineArgs {
    /// How long to measure
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Accounts, with a credential each
    #[arg(long, default_value_t = 10_000, value_parser = value_parser!(u32).range(1..=10_000_000))]
    accounts: u32,
    /// Most commands in one commit
    #[arg(long, default_value_t = 128, value_parser = value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Commands under way at one time
    #[arg(long, default_value_t = 512, value_parser = value_parser!(u32).range(1..=32_768))]
    in_flight: u32,
    /// Where the journal lies
    #[arg(long, value_enum, default_value = "sqlite")]
    store: StoreKind,
    /// Merchants that are paid
    #[arg(long, default_value_t = 100, value_parser = value_parser!(u32).range(1..=100_000))]
    merchants: u32,
    /// Percent of all payments that go to one of the merchants
    #[arg(long, value_parser = value_parser!(u32).range(0..=100))]
    hot_share: Option<u32>,
    /// Request ids in random order instead of in that of time
    #[arg(long)]
    random_ids: bool,
    /// All payers in one partition
    #[arg(long)]
    one_partition: bool,
    /// Payments made before the clock starts, in large commits
    #[arg(long, default_value_t = 0, value_parser = value_parser!(u64).range(0..=1_000_000_000))]
    history: u64,
    /// Afterwards, start again as after kill -9 and say how long that takes; the clean stop is measured after that
    #[arg(long)]
    restart: bool,
    /// How long to measure each of the machine's limits; 0 leaves them out
    #[arg(long, default_value_t = 2, value_parser = value_parser!(u32).range(0..=60))]
    limits_seconds: u32,
    /// Folder to work in, which must be on the disk in question [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl EngineArgs {
    fn opening(&self) -> anyhow::Result<Opening> {
        Ok(Opening {
            accounts: self.accounts,
            partitions: if self.one_partition { 1 } else { PARTITIONS },
            prefix: prefix(),
            currency: Currency::iso(CurrencyCode::parse("JPY")?).context("JPY is a currency")?,
        })
    }

    fn mix(&self) -> Mix {
        let &Self { merchants, hot_share, random_ids, .. } = self;
        Mix { merchants, hot_share, random_ids }
    }
}

/// Where the journal lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StoreKind {
    /// In SQLite, every commit synced before its answer
    Sqlite,
    /// In memory: what the disk costs is the difference
    Memory,
}

impl StoreKind {
    fn durability(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite WAL synchronous=FULL, every commit synced before its answer",
            Self::Memory => "NONE: the journal is in memory only",
        }
    }
}

/// The wish to stop, which the load looks at before each command.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.0.load(Ordering::Relaxed), "stopped before there was a result");
        Ok(())
    }
}

/// The folder belongs to this side, which outlives the load: so it is gone at the end, whatever the load is doing when
/// somebody stops it.
pub(super) async fn run(
    args: EngineArgs,
    out: &Out,
    stopped: impl Future<Output = ()>,
) -> Result<(), Failure> {
    if args.restart && args.store == StoreKind::Memory {
        return Err(Failure::usage("memory does not survive: --restart needs --store sqlite"));
    }
    let folder = args.dir.as_ref().map_or_else(tempfile::tempdir, tempfile::tempdir_in);
    let folder = folder.map_err(|error| Failure::usage("no folder to work in").because(&error))?;
    let (told, path) = (out.clone(), folder.path().to_owned());
    let done = until(stopped, move |stop| bench(&args, &path, stop, &told)).await?;
    done.map_err(|error| Failure::refused("the engine could not be measured").because(&*error))
}

/// Works on a thread of its own, to the end or until somebody stops it.
pub(super) async fn until(
    stopped: impl Future<Output = ()>,
    work: impl FnOnce(&Stop) -> anyhow::Result<()> + Send + 'static,
) -> Result<anyhow::Result<()>, Failure> {
    let stop = Stop::default();
    let told = stop.clone();
    let mut working = tokio::task::spawn_blocking(move || work(&told));
    tokio::select! {
        done = &mut working => {
            done.map_err(|error| Failure::refused("the bench fell").because(&error))
        }
        () = stopped => {
            stop.0.store(true, Ordering::Relaxed);
            // What is not at its end by then loses its files.
            drop(tokio::time::timeout(STOP_PATIENCE, &mut working).await);
            Err(Failure::refused("stopped before there was a result"))
        }
    }
}

fn bench(args: &EngineArgs, folder: &Path, stop: &Stop, out: &Out) -> anyhow::Result<()> {
    telemetry::metrics_handle();
    let vault = Arc::new(Vault::new(chance::bytes()));
    let store = open(args, folder)?;
    let engine = start(BATCH_BUILD, &store, &vault)?;
    let mut payers = Payers::open(&engine, &args.opening()?, stop, out)?;
    let mut load = Load::new(&args.mix(), stop);
    load.history(&engine, &mut payers, args.history, out)?;
    // With the batch size that was asked for; the engine that built is stopped as a crash would, which costs no snapshots.
    drop(engine);
    let engine = start(args.batch as usize, &store, &vault)?;

    let (cpu, batches) = (cpu_us("self"), Batches::of_this_process());
    let bytes = journal_bytes(folder);
    let run = load.measure(&engine, &mut payers, args, out)?;
    let cpu_us = cpu_us("self") - cpu;
    let batches = Batches::of_this_process().since(&batches);
    let behind = Instant::now();
    while lag(&engine) > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let index_ms = u64::try_from(behind.elapsed().as_millis())?;
    let stopping = Instant::now();
    if !args.restart {
        engine.stop();
    }
    let mut stop_ms = u64::try_from(stopping.elapsed().as_millis())?;
    drop(engine);
    drop(store);
    let grown = journal_bytes(folder).saturating_sub(bytes);
    let restart = args.restart.then(|| restart(args, folder, &vault)).transpose()?;
    if let Some(it) = &restart {
        stop_ms = it.stop_ms;
    }
    stop.check()?;
    let limits = match args.limits_seconds {
        0 => None,
        seconds => {
            let batch_bytes = batches.mean_hundredths().unwrap_or(100) * run.entry_bytes / 100;
            let mut limits = Limits::of_calls(seconds, out)?;
            if args.store == StoreKind::Sqlite {
                limits.appends = Some(Appends::measure(folder, batch_bytes, seconds, out)?);
            }
            Some(limits)
        }
    };
    let files = file_system(folder);
    let report =
        Report { args, run, cpu_us, batches, index_ms, grown, stop_ms, restart, limits, files };
    report.print(out);
    Ok(())
}

fn open(args: &EngineArgs, folder: &Path) -> anyhow::Result<Arc<dyn Store>> {
    Ok(match args.store {
        StoreKind::Sqlite => open_store(folder, prefix())?,
        StoreKind::Memory => Arc::new(ModelStore::new([1; 16])),
    })
}

fn start(batch_max: usize, store: &Arc<dyn Store>, vault: &Arc<Vault>) -> anyhow::Result<Engine> {
    let config = EngineConfig { batch_max, queue_max: QUEUE_MAX, ..EngineConfig::new(prefix()) };
    Engine::start(config, Arc::clone(store), Arc::clone(vault))
}

/// Starts on what the last run left behind: nothing was stopped cleanly, so the tail of the journal is applied.
fn restart(args: &EngineArgs, folder: &Path, vault: &Arc<Vault>) -> anyhow::Result<Restart> {
    let began = Instant::now();
    let store = open(args, folder)?;
    let recovered = recover(store.as_ref(), vault, None)?;
    let folded = began.elapsed();
    let (entries, from) = (recovered.applied, recovered.from);
    drop(recovered);
    let again = Instant::now();
    let engine = start(args.batch as usize, &store, vault)?;
    let ready = again.elapsed();
    let stopping = Instant::now();
    engine.stop();
    let stopped = stopping.elapsed();
    Ok(Restart {
        entries,
        from,
        fold_ms: u64::try_from(folded.as_millis())?,
        ready_ms: u64::try_from(ready.as_millis())?,
        stop_ms: u64::try_from(stopped.as_millis())?,
    })
}

fn prefix() -> Prefix {
    Prefix::parse("71000001").expect("eight digits are a prefix")
}

fn lag(engine: &Engine) -> u64 {
    engine.committed().borrow().saturating_sub(engine.indexed())
}

/// Waits while the index is so far behind that the lane would soon refuse work.
fn let_index_follow(engine: &Engine) {
    while engine.index_lag() > WINDOW - 2 * QUEUE_MAX.min(8192) as u64 {
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn journal_bytes(folder: &Path) -> u64 {
    std::fs::metadata(folder.join("journal.db")).map_or(0, |it| it.len())
}
