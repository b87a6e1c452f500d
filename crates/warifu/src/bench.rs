//! `warifu bench`: load on a network in another process, with real signatures over real HTTP.
//!
//! A run is a chain of rounds of about a second. What a round needs (codes, ids, signatures of terminals; for `pay-only`
//! the registrations too) is made before its clock starts; rates, latencies and CPU time are of the rounds alone. The
//! first round warms up and is not counted, but for its errors.

mod batches;
mod engine;
mod limits;
mod line;
mod load;
mod meter;
mod network;
mod phones;
mod report;
mod tills;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum, value_parser};

use self::engine::EngineArgs;
use self::line::{Signer, Target};
use self::load::{Crew, Sample, Targets, Work};
use self::meter::Reading;
use self::network::Site;
use self::phones::{Item, Phones, Tills};
use self::report::{Report, ms};
use crate::fail::{Exit, Failure};
use crate::out::Out;
use crate::stop;

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

/// Measure a network: payments a second, latencies, CPU time.
///
/// Starts a demo network of its own in another process, links terminals to accounts by the real calls, and loads it. The
/// figures hold for the machine they were measured on, where generator and servers share the cores.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Example:
  warifu bench pay --seconds 10
  warifu bench pay-only --accounts 5000 --rate 2000
  warifu bench lone --json
  warifu bench engine --seconds 60 --accounts 100000
  warifu bench register --network my-network   (of a running `warifu demo --dir my-network`)")]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    alone: Option<Alone>,
    /// What is done again and again
    #[arg(value_enum, default_value = "pay")]
    scenario: Scenario,
    /// Accounts to prepare, with a linked terminal each
    #[arg(long, default_value_t = 1000, value_parser = value_parser!(u32).range(1..=1_000_000))]
    accounts: u32,
    /// Merchants that are paid, with a reader each
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..=10_000))]
    merchants: u32,
    /// Percent of the payments that go to one of them [default: all even]
    #[arg(long, value_parser = value_parser!(u32).range(0..=100))]
    hot_share: Option<u32>,
    /// Payments made before the clock starts
    #[arg(long, default_value_t = 0, value_parser = value_parser!(u64).range(0..=100_000_000))]
    history: u64,
    /// Connections that are kept open
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u16).range(1..=4096))]
    connections: u16,
    /// Open loop: start so many a second, whatever the answers do [default: closed loop]
    #[arg(long, value_parser = value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// How long to measure
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Sign every request by ECDSA instead of by HMAC in a session
    #[arg(long)]
    ecdsa: bool,
    /// Do not check the signatures of answers, to see what that costs
    #[arg(long)]
    no_check_answers: bool,
    /// Folder of a running `warifu demo --dir DIR` to load instead
    #[arg(long, value_name = "DIR")]
    network: Option<PathBuf>,
    #[command(flatten)]
    existing: Option<Existing>,
}

/// A network that is up, by its addresses.
#[derive(Debug, Clone, Args)]
#[group(requires_all = ["hub", "issuer", "operator_key", "reader"], conflicts_with = "network")]
struct Existing {
    /// An existing network: its hub's address
    #[arg(long, value_name = "URL", required = false)]
    hub: String,
    /// The issuer's address
    #[arg(long, value_name = "URL", required = false)]
    issuer: String,
    /// The issuer's operator's key, which opens accounts
    #[arg(long, value_name = "FILE", required = false)]
    operator_key: PathBuf,
    /// Folder of a paired reader, which is paid
    #[arg(long, value_name = "DIR", required = false)]
    reader: PathBuf,
}

/// What is measured without a network.
#[derive(Debug, Subcommand)]
enum Alone {
    Engine(EngineArgs),
}

/// What is done again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Pay with codes that were registered before the clock started
    PayOnly,
    /// Register codes at the hub, which hands them to the issuer
    Register,
    /// Register a code at the issuer, then pay with it
    Pay,
    /// Give back payments that were made before the clock started
    Refund,
    /// Register and pay; of a hundred payments 20 are looked up, 5 refunded, 2 reversed
    Mixed,
    /// Pay 500 times, one at a time, on the idle system
    Lone,
}

impl Scenario {
    fn name(self) -> &'static str {
        match self {
            Self::PayOnly => "pay-only",
            Self::Register => "register",
            Self::Pay => "pay",
            Self::Refund => "refund",
            Self::Mixed => "mixed",
            Self::Lone => "lone",
        }
    }

    /// How codes got to the issuer.
    fn about_codes(self) -> &'static str {
        match self {
            Self::PayOnly | Self::Refund | Self::Lone => {
                "registered at the issuer directly, before the clock started; terminals' signatures checked"
            }
            Self::Register => {
                "signed ahead, registered through the hub within its rule (5 at once, then one in 2 s for each terminal)"
            }
            Self::Pay | Self::Mixed => {
                "signed ahead, registered at the issuer directly while the clock runs; terminals' signatures checked"
            }
        }
    }

    fn work(self) -> Work {
        match self {
            Self::PayOnly | Self::Lone => Work::Pay,
            Self::Register => Work::RegisterAtHub,
            Self::Pay => Work::RegisterAndPay,
            Self::Refund => Work::Refund,
            Self::Mixed => Work::Mixed,
        }
    }
}

pub(crate) async fn run(args: BenchArgs, out: &Out) -> Result<(), Failure> {
    let stopped = stop::wished();
    if let Some(Alone::Engine(args)) = args.alone {
        return tokio::select! {
            done = engine::run(args, out) => done,
            () = stopped => Err(Failure::refused("stopped before there was a result")),
        };
    }
    // Dropping the network, which Ctrl-C does too, ends its process.
    tokio::select! {
        done = bench(&args, out) => done,
        () = stopped => Err(Failure::refused("stopped before there was a result")),
    }
}

async fn bench(args: &BenchArgs, out: &Out) -> Result<(), Failure> {
    if matches!(args.scenario, Scenario::Pay | Scenario::Mixed)
        && args.accounts < 2 * u32::from(args.connections)
    {
        return Err(Failure::usage(
            "a payment ends all codes of its terminal: this needs two accounts for each connection",
        )
        .next("give more --accounts or fewer --connections"));
    }
    let site = match &args.existing {
        Some(it) => Site::existing(it).await?,
        None => Site::open(args.network.as_deref(), out).await?,
    };
    out.progress(format_args!("linking {} accounts", args.accounts));
    let drawn = Tills { count: args.merchants as usize, hot_share: args.hot_share };
    let phones = Phones::link(&site, args.accounts, drawn, out).await?;
    let is_checked = !args.no_check_answers;
    let tills = tills::open(&site, args.merchants, args.ecdsa, is_checked).await?;
    let hub = Target::new(&site.hub, Signer::Nobody, is_checked)?;
    let crew = Crew::new(usize::from(args.connections), &Arc::new(Targets { hub, tills }));
    let accounts = phones.count();
    let mut run = Run {
        args,
        out,
        site: &site,
        phones,
        crew,
        sample: Sample::default(),
        reading: Reading::default(),
        measured: Duration::ZERO,
        notes: Vec::new(),
    };
    run.history().await?;
    let reading = if args.scenario == Scenario::Lone {
        run.lone().await;
        None
    } else {
        run.rounds().await?;
        Some(run.reading)
    };
    let Run { sample, measured, notes, .. } = run;
    let files = site.dir.as_deref().map(meter::file_system);
    let (store, is_here) = (&*site.store, site.pid.is_some());
    let report = Report { args, accounts, store, files, is_here, measured, sample, reading, notes };
    report.print(out);
    if report.errors() > 0 { Err(Failure::told(Exit::Refused)) } else { Ok(()) }
}

/// A run under way.
struct Run<'a> {
    args: &'a BenchArgs,
    out: &'a Out,
    site: &'a Site,
    phones: Phones,
    crew: Crew,
    sample: Sample,
    reading: Reading,
    measured: Duration,
    notes: Vec<String>,
}

impl Run<'_> {
    /// Round after round, until enough was measured.
    async fn rounds(&mut self) -> Result<(), Failure> {
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
                self.sample.add_faults(&round);
            }
            let rate = self.args.rate.map_or(per_second, u128::from);
            let next = ROUND.min(wanted.saturating_sub(self.measured));
            size = usize::try_from(rate * next.as_micros() / 1_000_000).unwrap_or(1).max(64);
        }
        if self.measured / rounds.max(1) < ROUND_SHORT && self.args.scenario == Scenario::PayOnly {
            let note = "rounds were short, so their ends weigh in: give more --accounts";
            self.notes.push(note.to_owned());
        }
        Ok(())
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
        self.sample.add_faults(&done);
        let mut which = done.which.into_iter().peekable();
        let items = Arc::into_inner(items).unwrap_or_default().into_iter().enumerate();
        let ready = items.filter_map(|(number, item)| {
            let (_, payment_id) = which.next_if(|(done, _)| *done == number)?;
            Some(Item { payment_id, ..item })
        });
        Ok(ready.collect())
    }

    /// Payments that are there before the clock starts.
    async fn history(&mut self) -> Result<(), Failure> {
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

    async fn lone(&mut self) {
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
