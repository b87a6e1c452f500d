//! `warifu bench`: load on a network in another process, with real signatures over real HTTP.
//!
//! A run is a chain of rounds: of about a second in a closed loop, as long as possible in an open one. What a round needs
//! (codes, ids, signatures of terminals; for `pay-only` the registrations too) is made before its clock starts; rates,
//! latencies and CPU time are of the rounds alone. The first round warms up and is not counted, but for its errors.

mod args;
mod batches;
mod engine;
mod fill;
mod limits;
mod line;
mod load;
mod meter;
mod network;
mod phones;
mod report;
mod run;
mod sample;
mod steps;
mod tills;

use std::sync::Arc;
use std::time::Duration;

use self::args::{Alone, Scenario};
use self::limits::Limits;
use self::line::{Signer, Target};
use self::load::Crew;
use self::meter::Reading;
use self::network::Site;
use self::phones::{Phones, Tills};
use self::report::Report;
use self::run::Run;
use self::sample::Sample;
use self::steps::Targets;
use crate::fail::{Exit, Failure};
use crate::out::Out;
use crate::stop;

pub(crate) use self::args::BenchArgs;

pub(crate) async fn run(args: BenchArgs, out: &Out) -> Result<(), Failure> {
    let stopped = stop::wished();
    match args.alone {
        Some(Alone::Engine(args)) => return engine::run(args, out, stopped).await,
        Some(Alone::Fill(args)) => return fill::run(args, out, stopped).await,
        None => {}
    }
    // Dropping the network, which Ctrl-C does too, ends its process.
    tokio::select! {
        done = bench(&args, out) => done,
        () = stopped => Err(Failure::refused("stopped before there was a result")),
    }
}

async fn bench(args: &BenchArgs, out: &Out) -> Result<(), Failure> {
    args.check()?;
    let limits = limits(args.limits_seconds, out).await?;
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
    let accounts = phones.count();
    let targets = Arc::new(Targets { hub, tills });
    let crew = Crew::new(usize::from(args.connections), accounts, &targets);
    let mut run = Run {
        args,
        out,
        site: &site,
        phones,
        crew,
        sample: Sample::default(),
        refused_before: 0,
        reading: Reading::default(),
        measured: Duration::ZERO,
        rounds: 0,
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
    let Run { sample, refused_before, measured, rounds, notes, .. } = run;
    let (store, is_here) = (&*site.store, site.is_here());
    let files = match &site.dir {
        Some(dir) => meter::file_system(dir),
        None if is_here => "an unknown disk".to_owned(),
        None => "a disk of another machine".to_owned(),
    };
    let report = Report {
        args,
        accounts,
        store,
        files,
        is_here,
        measured,
        rounds,
        sample,
        refused_before,
        reading,
        limits,
        notes,
    };
    report.print(out);
    if report.errors() > 0 || report.sample.done == 0 {
        Err(Failure::told(Exit::Refused))
    } else {
        Ok(())
    }
}

/// Before anything else runs on these cores.
async fn limits(seconds: u32, out: &Out) -> Result<Option<Limits>, Failure> {
    if seconds == 0 {
        return Ok(None);
    }
    let out = out.clone();
    let measured = tokio::task::spawn_blocking(move || Limits::of_calls(seconds, &out)).await;
    let cannot = || Failure::refused("the machine's limits can't be measured");
    match measured {
        Ok(limits) => limits.map(Some).map_err(|error| cannot().because(&*error)),
        Err(error) => Err(cannot().because(&error)),
    }
}
