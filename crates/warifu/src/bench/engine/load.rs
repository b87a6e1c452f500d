//! The load: a registration and a payment by it, again and again, from one thread with many commands under way.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::oneshot;
use warifu_core::decide::{Command, Pay, Register, Standing};
use warifu_core::limits::Limits;
use warifu_issuer::engine::{Answer, Ask, Engine, Refused};
use warifu_proto::code::{Code, Prefix};
use warifu_proto::id::{Id, MerchantId, PaymentKind, ReaderId};
use warifu_proto::mac;
use warifu_proto::message::Capture;
use warifu_proto::money::Money;
use warifu_proto::registration::{Statement, tag};
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;
use warifu_server::clock;

use super::payers::{Payer, Payers};
use super::{EngineArgs, Stop, lag, let_index_follow};
use crate::bench::meter::resident_mib;
use crate::out::Out;

const PATIENCE: Duration = Duration::from_secs(60);
/// Payments between two looks at the clocks.
const CHUNK: u64 = 256;
/// Steps from payer to payer: a prime, so that all have their turn and neighbours do not follow each other.
const STRIDE: usize = 7919;
const DEPTH_BUILD: usize = 8192;
const DAY_MS: u64 = 24 * 3_600_000;
/// Frames of which the mean size of an entry is taken.
const FRAMES_READ: u64 = 256;
const PRIMES: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9];

/// Keeps a number of commands under way at once, from one thread.
pub(super) struct Pipe<'a> {
    engine: &'a Engine,
    depth: usize,
    stop: Stop,
    waiting: VecDeque<oneshot::Receiver<Result<Answer, Refused>>>,
}

impl<'a> Pipe<'a> {
    pub(super) fn new(engine: &'a Engine, depth: usize, stop: &Stop) -> Self {
        Self { engine, depth, stop: stop.clone(), waiting: VecDeque::with_capacity(depth) }
    }

    /// Sends a command, after the oldest one's answer if too many are under way.
    pub(super) fn send(&mut self, partition: u8, command: Command) -> anyhow::Result<()> {
        self.stop.check()?;
        if self.waiting.len() >= self.depth {
            self.take()?;
        }
        let ask = Ask::Decide(Box::new(command));
        self.waiting.push_back(self.engine.send_later(partition, ask, PATIENCE)?);
        Ok(())
    }

    /// Everything has to succeed: a refusal or a declined payment ends the bench.
    fn take(&mut self) -> anyhow::Result<()> {
        let next = self.waiting.pop_front().context("nothing is under way")?;
        match next.blocking_recv().context("the lane ended")?? {
            Answer::Payment(it) if it.payment.rejection.is_some() => {
                anyhow::bail!("a payment was declined: {:?}", it.payment.rejection)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn drain(&mut self) -> anyhow::Result<()> {
        while !self.waiting.is_empty() {
            self.take()?;
        }
        Ok(())
    }
}

/// What came of the measured time.
pub(super) struct Run {
    pub(super) paid: u64,
    pub(super) took: Duration,
    /// Payments of the worst whole second.
    pub(super) worst: u64,
    /// How many entries the index was behind at the end.
    pub(super) behind: u64,
    /// Bytes of an entry in the journal: of registration and payment, on average over the run.
    pub(super) entry_bytes: u64,
    /// What the process held at the end, the payers of this generator included.
    pub(super) resident_mib: u64,
}

/// What the payments are like.
pub(in crate::bench) struct Mix {
    pub(in crate::bench) merchants: u32,
    /// Percent of the payments that go to one of them.
    pub(in crate::bench) hot_share: Option<u32>,
    /// Request ids in random order instead of in that of time.
    pub(in crate::bench) random_ids: bool,
}

pub(in crate::bench) struct Load {
    merchants: Vec<MerchantId>,
    hot_share: Option<u64>,
    random_ids: bool,
    stop: Stop,
    at: usize,
    random: u64,
    made: u64,
    business_day: u32,
}

impl Load {
    pub(in crate::bench) fn new(mix: &Mix, stop: &Stop) -> Self {
        let merchant = |number: u32| MerchantId::from_raw((u128::from(number) + 1).to_be_bytes());
        let today = clock::now().as_ms() / DAY_MS;
        Self {
            merchants: (0..mix.merchants).map(merchant).collect(),
            hot_share: mix.hot_share.map(u64::from),
            random_ids: mix.random_ids,
            stop: stop.clone(),
            at: 0,
            random: PRIMES[1],
            made: 0,
            business_day: u32::try_from(today).unwrap_or_default(),
        }
    }

    /// Makes payments before the clock starts.
    pub(in crate::bench) fn history(
        &mut self,
        engine: &Engine,
        payers: &mut Payers,
        count: u64,
        out: &Out,
    ) -> anyhow::Result<()> {
        let mut pipe = Pipe::new(engine, DEPTH_BUILD, &self.stop);
        let mut told = Instant::now();
        let mut made = 0;
        while made < count {
            let_index_follow(engine);
            let now = clock::now();
            for _ in 0..CHUNK.min(count - made) {
                self.one(&mut pipe, payers, now)?;
                made += 1;
            }
            if told.elapsed() > Duration::from_secs(5) {
                told = Instant::now();
                out.progress(format_args!("{made} of {count} payments of the history made"));
            }
        }
        pipe.drain()
    }

    pub(super) fn measure(
        &mut self,
        engine: &Engine,
        payers: &mut Payers,
        args: &EngineArgs,
        out: &Out,
    ) -> anyhow::Result<Run> {
        let (depth, seconds) = (args.in_flight, u64::from(args.seconds));
        let mut pipe = Pipe::new(engine, depth as usize, &self.stop);
        let first = *engine.committed().borrow() + 1;
        let (start, mut second) = (Instant::now(), Instant::now());
        let (mut paid, mut in_second, mut worst) = (0, 0, u64::MAX);
        while start.elapsed().as_secs() < seconds {
            let_index_follow(engine);
            let now = clock::now();
            let chunk = CHUNK.min(u64::from(depth));
            for _ in 0..chunk {
                self.one(&mut pipe, payers, now)?;
            }
            paid += chunk;
            in_second += chunk;
            if second.elapsed() >= Duration::from_secs(1) {
                let ms = u64::try_from(second.elapsed().as_millis())?.max(1);
                let rate = in_second * 1000 / ms;
                worst = worst.min(rate);
                let (at, behind) = (start.elapsed().as_secs(), lag(engine));
                out.progress(format_args!(
                    "{at:>4} s  {rate:>7} payments/s, index behind by {behind} entries"
                ));
                (second, in_second) = (Instant::now(), 0);
            }
        }
        let behind = lag(engine);
        pipe.drain()?;
        let took = start.elapsed();
        let (worst, entry_bytes) = (worst.min(paid), entry_bytes(engine, first)?);
        Ok(Run { paid, took, worst, behind, entry_bytes, resident_mib: resident_mib() })
    }

    fn one(
        &mut self,
        pipe: &mut Pipe<'_>,
        payers: &mut Payers,
        now: Timestamp,
    ) -> anyhow::Result<()> {
        let &mut Payers { signed_by, prefix, currency, .. } = payers;
        let count = payers.all.len();
        let stride = if count.is_multiple_of(STRIDE) { 1 } else { STRIDE };
        self.at = (self.at + stride) % count;
        let payer = payers.all.get_mut(self.at).context("there are payers")?;
        let code = Code::make(prefix, payer.partition, &self.digits())?;
        let statement = statement(payer, &code, prefix, currency.number, now);
        let digest = statement.digest();
        let partition = payer.partition;
        pipe.send(partition, Command::Register(Register { statement, digest, signed_by }))?;
        let pay = Pay {
            merchant: self.merchant()?,
            merchant_standing: Standing::Active,
            reader: ReaderId::from_raw([9; 16]),
            reader_standing: Standing::Active,
            request: self.request(now)?,
            digest: mac::first_16(digest),
            locator: code.locator(prefix),
            code,
            amount: Money::new(1, currency.code)?,
            deadline_at: now.plus_ms(60_000),
            wait_until: now.plus_ms(1_500),
            long_code: None,
            capture: Capture::Now,
            hold_until: now.plus_ms(60_000),
            limits: Limits::default(),
            is_reversed: false,
            business_day: self.business_day,
        };
        pipe.send(partition, Command::Pay(Box::new(pay)))
    }

    fn merchant(&mut self) -> anyhow::Result<MerchantId> {
        let random = self.random();
        let count = u64::try_from(self.merchants.len())?;
        let any = random >> 32;
        let number = match (count - 1, self.hot_share) {
            (0, _) => 0,
            (_, None) => any % count,
            (_, Some(share)) if random % 100 < share => 0,
            (others, Some(_)) => 1 + any % others,
        };
        self.merchants.get(usize::try_from(number)?).copied().context("there are merchants")
    }

    /// As our reader makes them: the time, then chance; or without the time.
    fn request(&mut self, now: Timestamp) -> anyhow::Result<RequestId> {
        self.made += 1;
        let mut tail = [0; 10];
        tail[..8].copy_from_slice(&self.random().to_be_bytes());
        let at = if self.random_ids { Timestamp::from_ms(self.random() >> 20) } else { now };
        let id = Id::<PaymentKind>::new(at, tail).to_string();
        Ok(RequestId::parse(id.rsplit('_').next().unwrap_or(&id))?)
    }

    fn digits(&mut self) -> [u8; 64] {
        let mut bytes = [0; 64];
        // Ten digits are drawn of 64 bytes: two words give enough below 250.
        for part in bytes.chunks_exact_mut(8).take(3) {
            part.copy_from_slice(&self.random().to_be_bytes());
        }
        bytes
    }

    /// splitmix64.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(PRIMES[0]);
        let mut it = self.random;
        it = (it ^ (it >> 30)).wrapping_mul(PRIMES[1]);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        it ^ (it >> 31)
    }
}

fn statement(
    payer: &mut Payer,
    code: &Code,
    prefix: Prefix,
    currency_number: u16,
    now: Timestamp,
) -> Statement {
    payer.sequence += 1;
    Statement {
        prefix,
        locator: code.locator(prefix),
        lifetime_s: 60,
        sequence: payer.sequence,
        credential: payer.credential,
        tag: tag(&payer.code_key, code),
        issued_at: now,
        currency_number,
        cap_minor: 0,
    }
}

/// The mean over all entries since a position, by the frames of so many that lie evenly: reading a long run's journal whole
/// would take as long as the run.
fn entry_bytes(engine: &Engine, first: u64) -> anyhow::Result<u64> {
    let (last, store) = (*engine.committed().borrow(), engine.store());
    let step = ((last + 1).saturating_sub(first) / FRAMES_READ).max(1);
    let (mut count, mut sum_thousandths) = (0, 0);
    let mut at = first;
    while at <= last {
        // The frame that holds it. A large one is met more often, and so counts for as many entries as it has.
        let frames = store.read(at, 1)?;
        let frame = frames.first().context("there is a frame")?;
        sum_thousandths +=
            1000 * u64::try_from(frame.bytes())? / u64::try_from(frame.entries.len())?.max(1);
        count += 1;
        at += step;
    }
    Ok(sum_thousandths / (1000 * count).max(1))
}
