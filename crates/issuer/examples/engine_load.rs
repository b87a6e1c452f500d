//! Load on the engine alone: registrations and payments of many accounts through lane, journal, chain, index and
//! snapshots, without HTTP and signatures. Prints one line a second and a summary.
//!
//! ```text
//! cargo run --release -p warifu-issuer --example engine_load -- --seconds 300 --accounts 1000000 --batch 128
//! ```
#![expect(clippy::float_arithmetic, clippy::too_many_lines, reason = "a program that prints rates")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::sync::oneshot;
use warifu_core::decide::{Command, Invite, Link, OpenAccount, Pay, Register, Standing, TopUp};
use warifu_core::limits::Limits;
use warifu_core::partition::WINDOW;
use warifu_core::place::id_in;
use warifu_core::vault::Vault;
use warifu_issuer::engine::{Answer, Ask, Engine, EngineConfig, Refused, open_store};
use warifu_issuer::store::Store;
use warifu_issuer::store::model::ModelStore;
use warifu_proto::code::{Code, Prefix};
use warifu_proto::currency::{Currency, CurrencyCode};
use warifu_proto::id::{AccountId, CredentialId, InvitationId, MerchantId, ReaderId};
use warifu_proto::link::LinkKeys;
use warifu_proto::mac;
use warifu_proto::message::{AccountKind, Capture};
use warifu_proto::money::Money;
use warifu_proto::registration::{Statement, tag};
use warifu_proto::request_id::RequestId;
use warifu_server::{chance, clock};
use zeroize::Zeroizing;

const PARTITIONS: u8 = 16;
const PATIENCE: Duration = Duration::from_secs(30);

struct Args {
    seconds: u64,
    accounts: u32,
    batch: usize,
    in_flight: usize,
    merchants: u8,
    model: bool,
}

struct Payer {
    credential: CredentialId,
    partition: u8,
    keys: LinkKeys,
    sequence: u32,
}

fn args() -> anyhow::Result<Args> {
    let mut args = Args {
        seconds: 10,
        accounts: 10_000,
        batch: 128,
        in_flight: 512,
        merchants: 100,
        model: false,
    };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        if name == "--model" {
            args.model = true;
            continue;
        }
        let value = given.next().context("every option takes a value")?;
        match name.as_str() {
            "--seconds" => args.seconds = value.parse()?,
            "--accounts" => args.accounts = value.parse()?,
            "--batch" => args.batch = value.parse()?,
            "--in-flight" => args.in_flight = value.parse()?,
            "--merchants" => args.merchants = value.parse()?,
            _ => bail!("no such option: {name}"),
        }
    }
    Ok(args)
}

/// Keeps a number of commands under way at once, from one thread.
struct Pipe<'a> {
    engine: &'a Engine,
    depth: usize,
    waiting: VecDeque<oneshot::Receiver<Result<Answer, Refused>>>,
}

impl Pipe<'_> {
    fn send(&mut self, partition: u8, command: Command) -> anyhow::Result<Option<Answer>> {
        let done = if self.waiting.len() >= self.depth { Some(self.take()?) } else { None };
        self.waiting.push_back(self.engine.send_later(
            partition,
            Ask::Decide(Box::new(command)),
            PATIENCE,
        )?);
        Ok(done)
    }

    fn take(&mut self) -> anyhow::Result<Answer> {
        let next = self.waiting.pop_front().context("nothing is under way")?;
        Ok(next.blocking_recv().context("the lane ended")??)
    }

    fn drain(&mut self) -> anyhow::Result<Vec<Answer>> {
        (0..self.waiting.len()).map(|_| self.take()).collect()
    }
}

fn main() -> anyhow::Result<()> {
    let args = args()?;
    let folder = tempfile::tempdir_in(".")?;
    let prefix = Prefix::parse("71000001")?;
    let store: Arc<dyn Store> = if args.model {
        Arc::new(ModelStore::new([1; 16]))
    } else {
        open_store(folder.path(), prefix)?
    };
    let vault = Arc::new(Vault::new(chance::bytes()));
    let config =
        EngineConfig { batch_max: args.batch, queue_max: 65_536, ..EngineConfig::new(prefix) };
    let engine = Engine::start(config, store, vault)?;
    let currency = Currency::iso(CurrencyCode::parse("JPY")?).context("JPY is a currency")?;
    let began = Instant::now();
    let (mut payers, signed_by) = open(&engine, &args, currency, prefix)?;
    println!(
        "opened {} accounts with one credential each in {:.1} s",
        payers.len(),
        began.elapsed().as_secs_f64()
    );

    let merchants: Vec<MerchantId> =
        (0..args.merchants).map(|it| MerchantId::from_raw([it.wrapping_add(1); 16])).collect();
    let mut pipe = Pipe { engine: &engine, depth: args.in_flight, waiting: VecDeque::new() };
    let start = Instant::now();
    let (mut paid, mut second, mut worst) = (0_u64, Instant::now(), f64::MAX);
    let mut in_second = 0_u64;
    let mut at = 0_usize;
    while start.elapsed().as_secs() < args.seconds {
        while lag(&engine) > WINDOW {
            std::thread::sleep(Duration::from_millis(1));
        }
        for _ in 0..256 {
            let payer = payers.get_mut(at).context("there are payers")?;
            at = (at + 7919) % args.accounts as usize;
            payer.sequence += 1;
            let now = clock::now();
            let code = Code::make(prefix, payer.partition, &random())?;
            let locator = code.locator(prefix);
            let statement = Statement {
                prefix,
                locator,
                lifetime_s: 60,
                sequence: payer.sequence,
                credential: payer.credential,
                tag: tag(&payer.keys.code_key, &code),
                issued_at: now,
                currency_number: currency.number,
                cap_minor: 0,
            };
            let digest = statement.digest();
            pipe.send(
                payer.partition,
                Command::Register(Register { statement, digest, signed_by }),
            )?;
            let merchant = *merchants.get(at % merchants.len()).context("there are merchants")?;
            let pay = Pay {
                merchant,
                merchant_standing: Standing::Active,
                reader: ReaderId::from_raw([9; 16]),
                reader_standing: Standing::Active,
                request: RequestId::parse(
                    &chance::id::<warifu_proto::id::PaymentKind>(now).to_string(),
                )?,
                digest: mac::first_16(mac::sha256(&[code.as_str().as_bytes()])),
                code,
                locator,
                amount: Money::new(1, currency.code)?,
                deadline_at: now.plus_ms(10_000),
                wait_until: now.plus_ms(1_500),
                long_code: None,
                capture: Capture::Now,
                hold_until: now.plus_ms(60_000),
                limits: Limits::default(),
                is_reversed: false,
                business_day: 20_000,
            };
            pipe.send(payer.partition, Command::Pay(Box::new(pay)))?;
            paid += 1;
            in_second += 1;
        }
        if second.elapsed() >= Duration::from_secs(1) {
            let rate = in_second as f64 / second.elapsed().as_secs_f64();
            worst = worst.min(rate);
            println!(
                "{:>4} s  {rate:>9.0} payments/s  index behind by {} entries",
                start.elapsed().as_secs(),
                lag(&engine)
            );
            (second, in_second) = (Instant::now(), 0);
        }
    }
    let declined = pipe
        .drain()?
        .iter()
        .filter(|it| matches!(it, Answer::Payment(it) if it.payment.rejection.is_some()))
        .count();
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{paid} payments and as many registrations in {seconds:.1} s: {:.0} payments/s, worst second {worst:.0}/s, declined among the last: {declined}",
        paid as f64 / seconds
    );
    let behind = Instant::now();
    while lag(&engine) > 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    println!(
        "the index caught up {:.2} s later; journal of {} bytes an entry",
        behind.elapsed().as_secs_f64(),
        journal_bytes(folder.path()) / (2 * paid).max(1)
    );
    let stop = Instant::now();
    engine.stop();
    println!("stopped, with snapshots, in {:.1} s", stop.elapsed().as_secs_f64());
    Ok(())
}

fn random() -> [u8; 64] {
    // Codes need not be secret here, and drawing from the system costs as much as a payment.
    use std::cell::Cell;
    thread_local!(static STATE: Cell<u64> = const { Cell::new(0x9e37_79b9_7f4a_7c15) });
    std::array::from_fn(|_| {
        STATE.with(|state| {
            let mut it = state.get();
            it ^= it << 13;
            it ^= it >> 7;
            it ^= it << 17;
            state.set(it);
            u8::try_from((it >> 24) % 250).unwrap_or_default()
        })
    })
}

fn lag(engine: &Engine) -> u64 {
    engine.committed().borrow().saturating_sub(engine.indexed())
}

fn journal_bytes(folder: &std::path::Path) -> u64 {
    ["journal.db", "journal.db-wal"]
        .iter()
        .filter_map(|it| std::fs::metadata(folder.join(it)).ok())
        .map(|it| it.len())
        .sum()
}

fn open(
    engine: &Engine,
    args: &Args,
    currency: Currency,
    prefix: Prefix,
) -> anyhow::Result<(Vec<Payer>, [u8; 64])> {
    // One terminal key for all: the engine never parses it, and making a million would take a minute.
    let key = chance::key();
    let mut payers = Vec::new();
    let mut pipe = Pipe { engine, depth: args.in_flight, waiting: VecDeque::new() };
    for number in 0..args.accounts {
        let partition = u8::try_from(number % u32::from(PARTITIONS))?;
        let now = clock::now();
        let account: AccountId = id_in(partition, now, chance::bytes());
        let request = |what: &str| RequestId::parse(&format!("{what}-{number:08}"));
        let (kind, digest) = (AccountKind::Prepaid, [0; 16]);
        pipe.send(
            partition,
            Command::OpenAccount(OpenAccount {
                request: request("open")?,
                digest,
                account,
                kind,
                currency,
                credit_limit_minor: 0,
            }),
        )?;
        pipe.send(
            partition,
            Command::TopUp(TopUp {
                request: request("top")?,
                digest,
                account,
                amount: Money::new(1_000_000, currency.code)?,
            }),
        )?;
        let (secret, invitation): (_, InvitationId) =
            (Zeroizing::new(chance::bytes()), id_in(partition, now, chance::bytes()));
        pipe.send(
            partition,
            Command::Invite(Invite { account, invitation, secret: secret.clone() }),
        )?;
        let keys = LinkKeys::derive(&secret, key.thumbprint());
        let proof = keys.proof(prefix, invitation, key.thumbprint());
        let credential: CredentialId = id_in(partition, now, chance::bytes());
        pipe.send(
            partition,
            Command::Link(Link {
                prefix,
                invitation,
                key: key.public().clone(),
                proof,
                credential,
            }),
        )?;
        while lag(engine) > WINDOW {
            std::thread::sleep(Duration::from_millis(1));
        }
        payers.push(Payer { credential, partition, keys, sequence: 0 });
    }
    pipe.drain()?;
    Ok((payers, key.public().xy()))
}
