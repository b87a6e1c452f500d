//! `warifu storm`: many tills and terminals on a network that loses, delays and repeats messages, while servers and
//! readers are killed; then peace, and a count whether anybody was paid twice, or told what is not so.
//!
//! Every server and every reader is a process of its own, killed as by a power cut. What is checked afterwards is a pure
//! function over what tills were told and what issuers have booked (`check`).

mod agent;
mod check;
mod report;
mod town;
mod trade;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::{Args, value_parser};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use self::agent::{Agent, Health};
use self::check::{Booked, Breach, Order, check};
use self::report::Report;
use self::town::Town;
use self::trade::Trade;
use crate::fail::{Exit, Failure};
use crate::out::Out;
use crate::wire::{Faults, GRAMMAR, Plan};
use crate::{paths, stop};

/// How long those at the tills may take when the storm is over: a till's own patience and a reader's start.
const LAST_PAYERS: Duration = Duration::from_secs(90);
/// How long readers may take to end what has no outcome.
const SETTLE: Duration = Duration::from_secs(30);
/// How long the issuers' lists may lag behind their journals.
const VIEWS_LAG: Duration = Duration::from_secs(10);
/// How often is looked.
const LOOK: Duration = Duration::from_millis(500);

const EXAMPLE: &str = "Example:
  warifu storm
  warifu storm --seconds 60 --readers 5 --terminals 50 --json
  warifu storm --faults '*:drop=0.3,reader-issuer:kill=0.02,seed=7' --dir after-the-storm";

/// Check the network in a storm: lost, late and doubled messages, killed servers and readers.
///
/// Starts a hub, issuers and readers, each a process of its own, and lets terminals pay at tills while faults are injected
/// on every hop and processes are killed and started again. Then the network heals, and it is checked that no order was
/// paid twice, that every till was told what the issuers have booked, that nothing is left without an outcome, and that
/// every journal can be recomputed. Exit code 0: all of it holds; 1: it does not.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE, after_long_help = format!("{EXAMPLE}\n\n{GRAMMAR}"))]
pub(crate) struct StormArgs {
    /// How long it lasts
    #[arg(long, default_value_t = 300, value_parser = value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Issuers, each a process
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u8).range(1..=20))]
    issuers: u8,
    /// Readers with a till each, each a process
    #[arg(long, default_value_t = 20, value_parser = value_parser!(u16).range(1..=500))]
    readers: u16,
    /// Terminals that pay in turn
    #[arg(long, default_value_t = 200, value_parser = value_parser!(u16).range(1..=10_000))]
    terminals: u16,
    /// What is done to the network; the grammar is at the end of --help
    #[arg(
        long,
        value_name = "SPEC",
        default_value = "*:drop=0.1,*:duplicate=0.1,*:delay=0.3@2000"
    )]
    faults: Plan,
    /// An issuer and a reader are killed, in turn, so often; 0 for never
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    kill_every: u16,
    /// Keep the files in this new folder [default: a temporary one, deleted at the end]
    #[arg(long)]
    dir: Option<PathBuf>,
}

pub(crate) async fn run(args: StormArgs, out: &Out) -> Result<(), Failure> {
    let stopped = stop::wished();
    let temporary = tempfile::tempdir()
        .map_err(|error| Failure::usage("no temporary folder can be made").because(&error))?;
    let dir = match &args.dir {
        Some(dir) => std::path::absolute(dir).map_err(|it| paths::cannot("used", dir, &it))?,
        None => temporary.path().join("storm"),
    };
    // Dropping the town, which Ctrl-C does too, ends all of its processes.
    let report = tokio::select! {
        report = storm(&args, &dir, out) => report,
        () = stopped => Err(Failure::refused("stopped before there was a result")),
    };
    paths::clear(temporary).await;
    let report = report?;
    report.print(out);
    if report.is_good() { Ok(()) } else { Err(Failure::told(Exit::Refused)) }
}

async fn storm(args: &StormArgs, dir: &Path, out: &Out) -> Result<Report, Failure> {
    // Nobody looks at single faults here: they are counted.
    let (faults, _) = Faults::new(args.faults.clone());
    let town = Town::build(args, dir, &faults, out).await?;
    let trade = Arc::new(Trade::open(town.terminals.iter().cloned()));
    let began = Instant::now();
    faults.begin();
    let mut tills = JoinSet::new();
    for (number, agent) in town.agents.iter().enumerate() {
        tills.spawn(trade::serve(Arc::clone(&trade), Arc::clone(agent), number));
    }
    let worst = blow(args, &town, &trade, &faults, out).await;

    faults.heal();
    trade.close();
    out.progress("the storm is over: serving the last payers");
    let all_served = timeout(LAST_PAYERS, async { while tills.join_next().await.is_some() {} });
    let tills_stuck = all_served.await.is_err();
    tills.shutdown().await;
    out.progress("waiting until nothing is without an outcome");
    let healed = Instant::now();
    let (unresolved, settled_after) = settle(&town.agents, healed).await;
    ask_again(&town.agents, &trade).await;
    let (orders, booked, breaches) = compare(&town, &trade).await?;

    let kills_of_issuers = town.issuers().map(|it| it.kills()).sum();
    let kills_of_readers = town.agents.iter().map(|it| it.kept.kills()).sum();
    let kills_of_hub = town.network.hub.kept().map_or(0, |it| it.kills());
    out.progress("recomputing every journal");
    let unverified = town.end_and_verify().await?;
    Ok(Report {
        seconds: began.elapsed().as_secs(),
        seed: faults.seed(),
        orders,
        booked,
        breaches,
        unverified,
        unresolved,
        settled_after,
        tills_stuck,
        oldest_s: worst.oldest_s,
        longest_ms: trade.longest_ms(),
        repeats: trade.repeats.load(Ordering::Relaxed),
        without_code: trade.without_code.load(Ordering::Relaxed),
        kills_of_issuers,
        kills_of_readers,
        kills_of_hub,
        faults: faults.report(),
        dir: args.dir.is_some().then(|| dir.to_owned()),
    })
}

/// Lets it blow for its time: kills, looks, tells how it goes. The worst health of any reader on the way.
async fn blow(args: &StormArgs, town: &Town, trade: &Trade, faults: &Faults, out: &Out) -> Health {
    let until = Instant::now() + Duration::from_secs(args.seconds.into());
    let mut every = interval(Duration::from_secs(1));
    let mut worst = Health::default();
    let issuers: Vec<_> = town.issuers().collect();
    for second in 0_usize.. {
        every.tick().await;
        let now = Instant::now();
        if now >= until {
            break;
        }
        let kill_every = usize::from(args.kill_every);
        if let Some(round) = second.checked_div(kill_every)
            && second > 0
            && second % kill_every == 0
        {
            // One after the other, so that everybody has a turn.
            if let Some(issuer) = issuers.get(round % issuers.len().max(1)) {
                issuer.kill();
            }
            if let Some(agent) = town.agents.get(round % town.agents.len().max(1)) {
                agent.kept.kill();
            }
        }
        for agent in &town.agents {
            let health = agent.health().await.unwrap_or_default();
            worst.oldest_s = worst.oldest_s.max(health.oldest_s);
            worst.unresolved = worst.unresolved.max(health.unresolved);
        }
        if second % 10 == 0 {
            out.progress(format_args!(
                "{:>4} s left, {} orders; {}",
                (until - now).as_secs(),
                trade.count(),
                faults.report().line()
            ));
        }
    }
    worst
}

/// Waits until no reader has anything without an outcome: how many there are, and how long it took.
async fn settle(agents: &[Arc<Agent>], since: Instant) -> (u64, Duration) {
    loop {
        let mut unresolved = 0;
        for agent in agents {
            // One that does not answer counts as one that has not ended its work.
            unresolved += agent.health().await.map_or(1, |it| it.unresolved);
        }
        if unresolved == 0 || since.elapsed() > SETTLE {
            return (unresolved, since.elapsed());
        }
        sleep(LOOK).await;
    }
}

/// Asks every agent once more about its orders: what it says now must agree with what it said, and with the books.
async fn ask_again(agents: &[Arc<Agent>], trade: &Trade) {
    for order in trade.orders() {
        let till = order.id.split('-').nth(1).and_then(|it| it.parse::<usize>().ok());
        let Some(agent) = till.and_then(|it| agents.get(it)) else { continue };
        if let Some(said) = agent.order(&order.id).await {
            trade.said(&order.id, said);
        }
    }
}

/// Compares until it agrees: the issuers' lists may lag for a moment.
async fn compare(
    town: &Town,
    trade: &Trade,
) -> Result<(Vec<Order>, Vec<Booked>, Vec<Breach>), Failure> {
    let began = Instant::now();
    let orders = trade.orders();
    loop {
        let booked = town.books().await?;
        let breaches = check(&orders, &booked);
        if breaches.is_empty() || began.elapsed() > VIEWS_LAG {
            return Ok((orders, booked, breaches));
        }
        sleep(LOOK).await;
    }
}
