//! The lane: one thread that owns the state of all partitions of one journal.
//!
//! ```text
//! take what has arrived → for each: decide, apply in memory, next → one durable commit → every answer
//! ```
//!
//! A lone payment waits for nobody; under load hundreds share a commit. The idempotency record, the code's consumption
//! and the money are one entry, so they can't come apart.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use warifu_core::decide::{Command, Decision, Pay, Refusal, Reverse};
use warifu_core::entry::{Entry, Fact};
use warifu_core::layout::Writer;
use warifu_core::partition::{Answered, Partition, WINDOW};
use warifu_core::payment::PaymentPlace;
use warifu_core::undo::UndoLog;
use warifu_core::vault::Vault;
use warifu_proto::id::MerchantId;
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;
use warifu_server::clock;

use self::answers::{
    account_state, credential_state, payment, refused, registered, rule, unchanged, written,
};
use self::commit::{Answers, Claim, Committer, Flight};
use self::known::Known;
use self::request_table::RequestTable;
use super::parking::{Parked, Parking};
use super::recover::{Folded, Recovered};
use super::{Answer, Ask, EngineConfig, Job, Refused, Shared, chain};
use crate::store::{Batch, EntryBytes, Head, Store};

mod answers;
mod commit;
mod known;
mod request_table;

pub(crate) use answers::request_of;

/// How far the wall clock may step against the monotonic one before the lane stops, in milliseconds.
const CLOCK_STEP_MAX_MS: u64 = 5 * 60_000;
/// How long an idle lane sleeps at most, to look whether it shall stop.
const IDLE: Duration = Duration::from_millis(50);
/// Most payments that time ends in one commit.
const DUE_MAX: usize = 1_000;
/// How long after a refused commit what is due is tried again: a full disk is not filled with tries, and questions that
/// need no commit are answered meanwhile.
const END_AGAIN: Duration = Duration::from_secs(1);
/// How often the age of what is unresolved is told, at most.
const TELL_AGE: Duration = Duration::from_secs(1);

type Reply = oneshot::Sender<Result<Answer, Refused>>;

/// Who waits for one answer: nearly always one.
#[derive(Debug)]
pub(super) struct Replies {
    first: Reply,
    more: Vec<Reply>,
}

impl From<Reply> for Replies {
    fn from(first: Reply) -> Self {
        Self { first, more: Vec::new() }
    }
}

impl Replies {
    fn refuse(self, why: &'static str) {
        std::iter::once(self.first).chain(self.more).for_each(|reply| refuse(reply, why));
    }
}

/// The lane's thread.
#[derive(Debug)]
pub struct Lane {
    config: EngineConfig,
    store: Arc<dyn Store>,
    vault: Arc<Vault>,
    shared: Arc<Shared>,
    partitions: BTreeMap<u8, Hot>,
    requests: RequestTable,
    /// Per caller, the greatest request id that any partition has forgotten.
    forgotten: HashMap<MerchantId, RequestId>,
    parked: Parking,
    /// Request ids of the batch.
    claimed: Vec<Claim>,
    batch: Batch,
    answers: Answers,
    committer: Committer,
    /// The batch before, while it is being committed.
    flight: Option<Flight>,
    bytes: Writer,
    began: (Instant, Timestamp),
    /// After a commit of unknown outcome: memory may hold what the journal does not, so nothing is said any more.
    is_unsure: bool,
    /// Whether what is due could not be ended now, so that it need not be tried at once again.
    is_blocked: bool,
    /// When the last commit was refused.
    refused_at: Option<Instant>,
    has_stopped: std::cell::Cell<bool>,
    told_age_at: Instant,
}

/// A partition with what a batch changes about it.
#[derive(Debug)]
struct Hot {
    state: Partition,
    head: Head,
    /// Head before the batch, if that has entries of this partition.
    before: Option<Head>,
    undo: UndoLog,
    /// Of the batch before, while that is being committed.
    undo_in_flight: UndoLog,
}

impl Hot {
    fn new(state: Partition, head: Head) -> Self {
        let (undo, undo_in_flight) = (UndoLog::default(), UndoLog::default());
        Self { state, head, before: None, undo, undo_in_flight }
    }
}

impl Lane {
    pub(crate) fn new(
        config: EngineConfig,
        store: Arc<dyn Store>,
        vault: Arc<Vault>,
        shared: Arc<Shared>,
        recovered: Recovered,
    ) -> std::io::Result<Self> {
        let mut requests = RequestTable::new();
        let mut forgotten = HashMap::new();
        let mut partitions = BTreeMap::new();
        for (number, Folded { state, head, .. }) in recovered.partitions {
            for (caller, request) in state.requests() {
                let answered = state.remembered(caller, request).map(|it| it.answered);
                // A tombstone and its payment may lie in two partitions: the payment is what the id stands for.
                // That one may even have left memory before the tombstone: then the index names it.
                if answered == Some(Answered::Tombstone) {
                    let indexed = store.find_request(caller, request).ok().flatten();
                    if indexed.is_some_and(|row| row.partition != number) {
                        continue;
                    }
                    requests.insert_if_new((caller, request.clone()), number);
                } else {
                    requests.insert((caller, request.clone()), number);
                }
            }
            for (caller, request) in state.greatest_forgotten() {
                forget(&mut forgotten, caller, request);
            }
            partitions.insert(number, Hot::new(state, head));
        }
        let began = (Instant::now(), clock::now());
        let committer = Committer::start(Arc::clone(&store), Arc::clone(&shared))?;
        Ok(Self {
            config,
            store,
            vault,
            shared,
            partitions,
            requests,
            forgotten,
            parked: Parking::default(),
            claimed: Vec::new(),
            batch: Batch::default(),
            answers: Vec::new(),
            committer,
            flight: None,
            bytes: Writer::default(),
            began,
            is_unsure: false,
            is_blocked: false,
            refused_at: None,
            has_stopped: std::cell::Cell::new(false),
            told_age_at: Instant::now(),
        })
    }

    pub(crate) fn run(mut self, inbox: &Receiver<Job>) {
        loop {
            // While a batch is being committed, what has arrived meanwhile is decided; otherwise it is waited for.
            let patience = if self.flight.is_some() { Duration::ZERO } else { self.patience() };
            let mut taken = 0;
            match inbox.recv_timeout(patience) {
                Ok(job) => {
                    let (now, instant) = (clock::now(), Instant::now());
                    self.watch_clock(now);
                    let more = inbox.try_iter().take(self.config.batch_max - 1);
                    for job in std::iter::once(job).chain(more) {
                        self.take(job, now, instant);
                        taken += 1;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = clock::now();
            self.watch_clock(now);
            self.end_waits(now);
            self.end_due(now);
            self.land();
            self.commit(taken == self.config.batch_max && taken >= self.config.hand_over_min);
            self.tell_age(now);
            if self.shared.stopping.load(Ordering::Acquire) {
                // What was taken is answered; what still waits for a registration gets its last word.
                inbox.try_iter().for_each(|job| refuse(job.reply, "the issuer is stopping"));
                break;
            }
        }
        self.land();
        for parked in self.parked.take_all() {
            parked.replies.refuse("the issuer is stopping");
        }
    }

    /// Until when to wait for the next job: the next payment whose wait or time is over.
    fn patience(&self) -> Duration {
        let due = self.partitions.values().filter_map(|it| it.state.next_due());
        let due = due.filter(|_| !self.is_blocked).min();
        let Some(next) = self.parked.next_end().into_iter().chain(due).min() else { return IDLE };
        Duration::from_millis(next.since_ms(clock::now())).min(IDLE)
    }

    fn take(&mut self, job: Job, now: Timestamp, instant: Instant) {
        if job.deadline <= instant {
            return refuse(job.reply, "it waited too long; try again in a moment");
        }
        if self.is_unsure {
            return refuse(job.reply, "the outcome of a commit is unknown: restart the issuer");
        }
        match job.ask {
            Ask::Decide(command) => self.decide(job.partition, *command, job.reply, now),
            ask => {
                let answer = self.look(job.partition, &ask);
                self.answers.push((job.reply, answer));
            }
        }
    }

    fn look(&self, partition: u8, ask: &Ask) -> Result<Answer, Refused> {
        let state = self.state(partition)?;
        match ask {
            Ask::Decide(_) => Err(Refused::NotFound),
            Ask::Payment(place, old) => {
                payment(state, place.first_sequence, old.as_deref()).map(Answer::Payment)
            }
            Ask::PaymentOf(merchant, request) => match self.find_request(*merchant, request) {
                Known::New => Err(Refused::NotFound),
                Known::Recent(partition, it) => match it.answered {
                    Answered::Payment => {
                        payment(self.state(partition)?, it.sequence, None).map(Answer::Payment)
                    }
                    Answered::Operator | Answered::Change { .. } | Answered::Tombstone => {
                        Err(Refused::NotFound)
                    }
                },
                // Whether it is a payment says the journal, which is not read here.
                Known::Old(place) => {
                    payment(self.state(place.partition)?, place.first_sequence, None)
                        .map(Answer::Payment)
                }
            },
            Ask::Credential(id) => {
                let (number, _) = state.credential_by_id(*id).ok_or(Refused::NotFound)?;
                credential_state(state, number)
            }
            Ask::CredentialByNumber(number) => credential_state(state, *number),
            Ask::Account(id) => {
                let (number, _) = state.account_by_id(*id).ok_or(Refused::NotFound)?;
                account_state(state, number)
            }
        }
    }

    fn state(&self, partition: u8) -> Result<&Partition, Refused> {
        Ok(&self.partitions.get(&partition).ok_or(Refused::NotFound)?.state)
    }

    fn decide(&mut self, partition: u8, command: Command, reply: Reply, now: Timestamp) {
        if let Some(trouble) = self.trouble().or_else(|| self.index_trouble(partition)) {
            return refuse(reply, trouble);
        }
        match command {
            Command::Reverse(wish) => self.reverse(partition, wish, reply, now),
            Command::Pay(pay) => self.pay(partition, pay, reply, now),
            command => {
                if let Some((caller, request, digest)) = command.request() {
                    if self.parked.of_request(caller, request).is_some() {
                        // A payment that waits for its code has the id, in whatever partition.
                        let conflict = rule(Refusal::RequestIdConflict, now);
                        return self.answers.push((reply, Err(conflict)));
                    }
                    let mut known = self.find_request(caller, request);
                    if matches!(known, Known::Recent(_, it) if it.answered == Answered::Operator) {
                        // Its entry is read, which may be on its way to the journal.
                        self.land();
                        known = self.find_request(caller, request);
                    }
                    let old = command.old();
                    if let Some(answer) = self.repeat(known, digest, old, now).transpose() {
                        return self.answers.push((reply, answer));
                    }
                }
                self.decide_new(partition, command, reply.into(), now);
            }
        }
    }

    fn pay(&mut self, partition: u8, mut pay: Box<Pay>, reply: Reply, now: Timestamp) {
        if let Some(parked) = self.parked.of_request(pay.merchant, &pay.request) {
            // The same attempt again joins the first; another under the same id is refused.
            if parked.pay.digest == pay.digest {
                parked.replies.more.push(reply);
            } else {
                self.answers.push((reply, Err(rule(Refusal::RequestIdConflict, now))));
            }
            return;
        }
        let known = self.find_request(pay.merchant, &pay.request);
        match self.is_tombstone(known) {
            // Wherever and whenever it was reversed: it is declined where it has arrived.
            Ok(true) => pay.is_reversed = true,
            Ok(false) => {
                if let Some(answer) = self.repeat(known, &pay.digest, None, now).transpose() {
                    return self.answers.push((reply, answer));
                }
            }
            Err(refused) => return self.answers.push((reply, Err(refused))),
        }
        if self.parked.is_full_for(&pay) {
            // Before anything is compared: whoever is refused has learned nothing about the code.
            return refuse(reply, "too many payments wait for their codes; try again in a moment");
        }
        self.decide_new(partition, Command::Pay(pay), reply.into(), now);
    }

    fn reverse(&mut self, partition: u8, mut wish: Reverse, reply: Reply, now: Timestamp) {
        let waits = self.parked.of_request(wish.merchant, &wish.request);
        if waits.is_some_and(|it| it.pay.reader != wish.reader && !wish.may_reverse_any) {
            return self.answers.push((reply, Err(rule(Refusal::NotYours, now))));
        }
        if let Some(parked) = self.parked.take_request(wish.merchant, &wish.request) {
            // It has arrived and waits for its code: its wait is over now, and it is answered like any unknown code.
            let Parked { partition, mut pay, replies } = parked;
            pay.wait_until = now;
            self.decide_new(partition, Command::Pay(pay), replies, now);
        }
        let partition = match self.find_request(wish.merchant, &wish.request) {
            Known::New => partition,
            Known::Recent(found, _) => found,
            Known::Old(place) => match self.entry(place).map(|it| it.fact) {
                Ok(Fact::Decided(_)) => {
                    wish.first_sequence = Some(place.first_sequence);
                    place.partition
                }
                Ok(Fact::Tombstone(_)) => {
                    return self.answers.push((reply, Ok(Answer::Reversed(None))));
                }
                Ok(_) => {
                    let conflict = rule(Refusal::RequestIdConflict, now);
                    return self.answers.push((reply, Err(conflict)));
                }
                Err(refused) => return self.answers.push((reply, Err(refused))),
            },
        };
        self.decide_new(partition, Command::Reverse(wish), reply.into(), now);
    }

    /// Decides what was never asked before.
    fn decide_new(&mut self, partition: u8, command: Command, replies: Replies, now: Timestamp) {
        // Also for what waited, and for what was found in another partition than it was sent to.
        if let Some(trouble) = self.trouble().or_else(|| self.index_trouble(partition)) {
            return replies.refuse(trouble);
        }
        let Some(hot) = self.partitions.get_mut(&partition) else {
            return self.answer_all(replies, Err(Refused::NotFound));
        };
        let decision = hot.state.decide(&command, true, now, &self.vault);
        let answer = match decision {
            Ok(Decision::Commit(fact)) => self.write(partition, *fact, now),
            Ok(Decision::Wait) => match command {
                Command::Pay(pay) => return self.parked.park(Parked { partition, pay, replies }),
                _ => Err(Refused::NotAccepted("only payments wait")),
            },
            Ok(Decision::Repeat { sequence }) => {
                payment(&hot.state, sequence, None).map(Answer::Payment)
            }
            Ok(Decision::Unchanged { payment }) => Ok(unchanged(&hot.state, &command, *payment)),
            Ok(Decision::AccountUnchanged { account_number }) => {
                account_state(&hot.state, account_number)
            }
            Ok(Decision::CredentialUnchanged { credential_number }) => {
                credential_state(&hot.state, credential_number)
            }
            Ok(Decision::ReversedBefore) => Ok(Answer::Reversed(None)),
            Ok(Decision::NotInMemory) => {
                let first_sequence = command.first_sequence().unwrap_or_default();
                Err(Refused::NotInMemory(PaymentPlace { partition, first_sequence }))
            }
            Ok(Decision::RegisteredBefore { credential_number, registered_at, expires_at }) => {
                registered(&hot.state, credential_number, registered_at, expires_at)
            }
            Ok(Decision::LinkedBefore { credential_number }) => {
                credential_state(&hot.state, credential_number)
            }
            Ok(Decision::UnlinkedBefore) => Ok(Answer::Unlinked),
            Ok(Decision::LookUp) => Err(Refused::NotAccepted("the index was not asked")),
            Err(refusal) => Err(refused(&hot.state, refusal, &command, now)),
        };
        self.answer_all(replies, answer);
    }

    fn answer_all(&mut self, replies: Replies, answer: Result<Answer, Refused>) {
        self.answers.extend(replies.more.into_iter().map(|reply| (reply, answer.clone())));
        self.answers.push((replies.first, answer));
    }

    /// Makes the entry, applies it in memory, and puts it into the batch.
    fn write(&mut self, partition: u8, fact: Fact, now: Timestamp) -> Result<Answer, Refused> {
        let hot = self.partitions.get_mut(&partition).ok_or(Refused::NotFound)?;
        let entry = Entry {
            partition,
            sequence: hot.state.sequence() + 1,
            at: hot.state.time_of_entry(now),
            fact,
        };
        if let Err(corrupt) = hot.state.apply(&entry, &self.vault, &mut hot.undo) {
            // A decision that does not fit its own state is a fault of the program: write nothing more.
            self.stop("a decision did not fit the state; restart, and report the log", &corrupt);
            return Err(Refused::NotAccepted("a decision did not fit the state"));
        }
        self.bytes.0.clear();
        entry.encode(&mut self.bytes);
        hot.before.get_or_insert(hot.head);
        hot.head = Head {
            partition,
            sequence: entry.sequence,
            chain: chain::next(&hot.head.chain, &self.bytes.0),
        };
        self.batch.entries.push(EntryBytes {
            partition,
            sequence: entry.sequence,
            bytes: self.bytes.0.clone(),
        });
        if let Some((caller, request)) = request_of(&entry.fact) {
            let key = (caller, request.clone());
            let before = self.requests.insert(key.clone(), partition);
            self.claimed.push((key, before));
        }
        let answer = written(&hot.state, &entry);
        if let Fact::Registered(registered) = &entry.fact
            && !self.parked.is_empty()
        {
            self.wake(partition, registered.locator.slot(), now);
        }
        answer
    }

    /// A registration arrived: payments that waited at its locator are decided again.
    fn wake(&mut self, partition: u8, slot: usize, now: Timestamp) {
        for Parked { partition, pay, replies } in self.parked.take_at(partition, slot) {
            self.decide_new(partition, Command::Pay(pay), replies, now);
        }
    }

    /// Payments that waited long enough are decided for good.
    fn end_waits(&mut self, now: Timestamp) {
        for Parked { partition, pay, replies } in self.parked.take_over(now) {
            self.decide_new(partition, Command::Pay(pay), replies, now);
        }
    }

    /// Holds and questions whose time is over end by the clock, not by anybody's request.
    fn end_due(&mut self, now: Timestamp) {
        if self.refused_at.is_some_and(|at| at.elapsed() < END_AGAIN) {
            return self.is_blocked = true;
        }
        let is_due = |it: &Hot| it.state.next_due().is_some_and(|at| at <= now);
        let due: Vec<u8> = self
            .partitions
            .iter()
            .filter(|(_, it)| is_due(it))
            .map(|(number, _)| *number)
            .collect();
        self.is_blocked = false;
        let mut left = DUE_MAX;
        for partition in due {
            while left > 0 {
                if self.trouble().or_else(|| self.index_trouble(partition)).is_some() {
                    self.is_blocked = true;
                    break;
                }
                let Some(hot) = self.partitions.get(&partition) else { break };
                match hot.state.decide_due(now) {
                    Ok(Some(Decision::Commit(fact))) => {
                        if self.write(partition, *fact, now).is_err() {
                            return self.is_blocked = true;
                        }
                        left -= 1;
                    }
                    Ok(_) => break,
                    Err(refusal) => {
                        self.stop("what is due can't be ended; report the log", &refusal);
                        return self.is_blocked = true;
                    }
                }
            }
        }
    }

    /// How long the oldest payment has been waiting for its code, its payer, or the end of its hold.
    fn tell_age(&mut self, now: Timestamp) {
        if self.told_age_at.elapsed() < TELL_AGE {
            return;
        }
        self.told_age_at = Instant::now();
        let open = self.partitions.values().filter_map(|it| it.state.unresolved_since(now));
        let oldest = open.chain(self.parked.oldest()).min();
        let age_s = oldest.map_or(0, |since| now.since_ms(since) / 1000);
        metrics::gauge!("warifu_payment_oldest_unresolved_age_seconds")
            .set(u32::try_from(age_s).unwrap_or(u32::MAX));
    }

    /// Memory forgets only what the index has: when that lags by a whole window, nothing more may be added.
    fn index_trouble(&self, partition: u8) -> Option<&'static str> {
        let sequence = self.partitions.get(&partition)?.state.sequence();
        let lag = sequence.saturating_sub(self.shared.indexed_sequence(partition));
        (lag + 1 >= WINDOW).then_some("the index is behind; try again in a moment")
    }

    /// Why nothing may be decided.
    fn trouble(&self) -> Option<&'static str> {
        if self.has_stopped.get() {
            return *self.shared.stopped.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        None
    }

    /// Stops when the wall clock and the monotonic one have come apart. Looked at once a batch: it is decided by one
    /// time.
    fn watch_clock(&self, now: Timestamp) {
        let (began, at) = self.began;
        let elapsed = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let expected = at.plus_ms(elapsed);
        if now.since_ms(expected).max(expected.since_ms(now)) > CLOCK_STEP_MAX_MS {
            self.stop(
                "the clock stepped by more than five minutes: check it and restart the issuer",
                &now,
            );
        }
    }

    fn stop(&self, why: &'static str, cause: &dyn std::fmt::Display) {
        let mut stopped =
            self.shared.stopped.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if stopped.is_none() {
            tracing::error!(%cause, why, "the lane has stopped: nothing more is decided");
            *stopped = Some(why);
        }
        self.has_stopped.set(true);
    }
}

fn refuse(reply: Reply, why: &'static str) {
    drop(reply.send(Err(Refused::NotAccepted(why))));
}

fn forget(forgotten: &mut HashMap<MerchantId, RequestId>, caller: MerchantId, request: &RequestId) {
    match forgotten.get_mut(&caller) {
        Some(greatest) if *greatest >= *request => {}
        Some(greatest) => *greatest = request.clone(),
        None => drop(forgotten.insert(caller, request.clone())),
    }
}
