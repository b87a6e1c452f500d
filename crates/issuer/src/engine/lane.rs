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
use warifu_core::decide::{Command, Decision, Refusal};
use warifu_core::entry::{Entry, Fact};
use warifu_core::layout::Writer;
use warifu_core::partition::{Partition, WINDOW};
use warifu_core::payment::{Payment, PaymentPlace};
use warifu_core::undo::UndoLog;
use warifu_core::vault::Vault;
use warifu_proto::id::MerchantId;
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;
use warifu_server::clock;

use super::parking::{Parked, Parking};
use super::recover::{Folded, Recovered};
use super::{
    AccountState, Answer, Ask, CredentialState, EngineConfig, Job, PaymentState, Refused, Shared,
    chain,
};
use crate::store::{AppendError, Batch, EntryBytes, Head, Store};

/// How far the wall clock may step against the monotonic one before the lane stops, in milliseconds.
const CLOCK_STEP_MAX_MS: u64 = 5 * 60_000;
/// How long an idle lane sleeps at most, to look whether it shall stop.
const IDLE: Duration = Duration::from_millis(50);

type Reply = oneshot::Sender<Result<Answer, Refused>>;

/// The lane's thread.
#[derive(Debug)]
pub struct Lane {
    config: EngineConfig,
    store: Arc<dyn Store>,
    vault: Arc<Vault>,
    shared: Arc<Shared>,
    partitions: BTreeMap<u8, Hot>,
    /// Which partition remembers a request id: ids are unique per merchant, whatever the partition.
    requests: HashMap<(MerchantId, RequestId), u8>,
    /// Per caller, the greatest request id that any partition has forgotten.
    forgotten: HashMap<MerchantId, RequestId>,
    parked: Parking,
    batch: Batch,
    answers: Vec<(Reply, Result<Answer, Refused>)>,
    bytes: Writer,
    began: (Instant, Timestamp),
    /// After a commit of unknown outcome: memory may hold what the journal does not, so nothing is said any more.
    is_unsure: bool,
}

/// A partition with what a batch changes about it.
#[derive(Debug)]
struct Hot {
    state: Partition,
    head: Head,
    /// Head at the last commit, if the batch has entries of this partition.
    before: Option<Head>,
    undo: UndoLog,
}

impl Lane {
    pub(crate) fn new(
        config: EngineConfig,
        store: Arc<dyn Store>,
        vault: Arc<Vault>,
        shared: Arc<Shared>,
        recovered: Recovered,
    ) -> Self {
        let mut requests = HashMap::new();
        let mut forgotten = HashMap::new();
        let mut partitions = BTreeMap::new();
        for (number, Folded { state, head, .. }) in recovered.partitions {
            requests.extend(
                state.requests().map(|(caller, request)| ((caller, request.clone()), number)),
            );
            for (caller, request) in state.greatest_forgotten() {
                forget(&mut forgotten, caller, request);
            }
            partitions.insert(number, Hot { state, head, before: None, undo: UndoLog::default() });
        }
        let began = (Instant::now(), clock::now());
        let (parked, batch, answers, bytes) =
            (Parking::default(), Batch::default(), Vec::new(), Writer::default());
        Self {
            config,
            store,
            vault,
            shared,
            partitions,
            requests,
            forgotten,
            parked,
            batch,
            answers,
            bytes,
            began,
            is_unsure: false,
        }
    }

    pub(crate) fn run(mut self, inbox: &Receiver<Job>) {
        loop {
            match inbox.recv_timeout(self.patience()) {
                Ok(job) => {
                    let now = clock::now();
                    self.take(job, now);
                    let more = inbox.try_iter().take(self.config.batch_max - 1);
                    more.for_each(|job| self.take(job, now));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.end_waits(clock::now());
            self.commit();
            if self.shared.stopping.load(Ordering::Acquire) {
                // What was taken is answered; what still waits for a registration gets its last word.
                inbox.try_iter().for_each(|job| refuse(job.reply, "the issuer is stopping"));
                break;
            }
        }
        for parked in self.parked.take_all() {
            parked.replies.into_iter().for_each(|reply| refuse(reply, "the issuer is stopping"));
        }
    }

    /// Until when to wait for the next job: the next payment whose wait is over.
    fn patience(&self) -> Duration {
        let Some(next) = self.parked.next_end() else { return IDLE };
        Duration::from_millis(next.since_ms(clock::now())).min(IDLE)
    }

    fn take(&mut self, job: Job, now: Timestamp) {
        if job.deadline <= Instant::now() {
            return refuse(job.reply, "it waited too long; try again in a moment");
        }
        if self.is_unsure {
            return refuse(job.reply, "the outcome of a commit is unknown: restart the issuer");
        }
        match job.ask {
            Ask::Decide(command) => self.decide(job.partition, command, job.reply, now),
            ask => {
                let answer = self.look(job.partition, &ask);
                self.answers.push((job.reply, answer));
            }
        }
    }

    fn look(&self, partition: u8, ask: &Ask) -> Result<Answer, Refused> {
        let state = &self.partitions.get(&partition).ok_or(Refused::NotFound)?.state;
        match ask {
            Ask::Decide(_) => Err(Refused::NotFound),
            Ask::Payment(place) => self.payment(*place),
            Ask::PaymentOf(merchant, request) => match self.find_request(*merchant, request) {
                Some(place) => self.payment(place),
                None => Err(Refused::NotFound),
            },
            Ask::Credential(id) => {
                let (number, _) = state.credential_by_id(*id).ok_or(Refused::NotFound)?;
                credential_state(state, number)
            }
            Ask::CredentialByNumber(number) => credential_state(state, *number),
            Ask::Account(id) => {
                let (_, account) = state.account_by_id(*id).ok_or(Refused::NotFound)?;
                Ok(Answer::Account(AccountState { account: *account, partition }))
            }
        }
    }

    fn payment(&self, place: PaymentPlace) -> Result<Answer, Refused> {
        let state = &self.partitions.get(&place.partition).ok_or(Refused::NotFound)?.state;
        let payment = match state.payment(place.first_sequence) {
            Some(payment) => payment.clone(),
            None if place.first_sequence > state.sequence() => return Err(Refused::NotFound),
            None => old_payment(self.store.as_ref(), place)
                .map_err(|error| broken(&error))?
                .ok_or(Refused::NotFound)?,
        };
        let account = payment
            .credential_number
            .and_then(|it| state.credential(it))
            .and_then(|it| state.account(it.account_number));
        Ok(Answer::Payment(PaymentState {
            account: account.map(|it| it.id),
            payment,
            partition: place.partition,
        }))
    }

    /// Where a request was answered, whatever its partition and age.
    fn find_request(&self, caller: MerchantId, request: &RequestId) -> Option<PaymentPlace> {
        // A tuple of references can't be looked up in a map of tuples; cloning an id shares its text.
        if let Some(partition) = self.requests.get(&(caller, request.clone())) {
            let found = self.partitions.get(partition)?.state.remembered(caller, request)?;
            return Some(PaymentPlace { partition: *partition, first_sequence: found.sequence });
        }
        if self.forgotten.get(&caller).is_none_or(|greatest| request > greatest) {
            return None;
        }
        match self.store.find_request(caller, request) {
            Ok(row) => row
                .map(|row| PaymentPlace { partition: row.partition, first_sequence: row.sequence }),
            Err(error) => {
                // Not knowing whether a request was answered, nothing more may be decided.
                self.stop("the index can't be read: restart when the disk is well", &error);
                None
            }
        }
    }

    fn decide(&mut self, partition: u8, command: Box<Command>, reply: Reply, now: Timestamp) {
        if let Some(trouble) = self.trouble(now).or_else(|| self.index_trouble(partition)) {
            return refuse(reply, trouble);
        }
        if let Some((caller, request, digest)) = command.request() {
            if let Some(parked) = self.parked.of_request(caller, request) {
                // The same attempt again joins the first; another under the same id is refused.
                if parked.pay.digest == *digest {
                    parked.replies.push(reply);
                } else {
                    self.answers.push((reply, Err(rule(Refusal::RequestIdConflict, now))));
                }
                return;
            }
            if let Some(place) = self.find_request(caller, request) {
                let answer = self.repeat(place, *digest, now);
                self.answers.push((reply, answer));
                return;
            }
            if self.trouble(now).is_some() {
                return refuse(reply, "the index can't be read");
            }
        }
        self.decide_new(partition, command, vec![reply], now);
    }

    /// Decides what was never asked before.
    fn decide_new(
        &mut self,
        partition: u8,
        command: Box<Command>,
        replies: Vec<Reply>,
        now: Timestamp,
    ) {
        let Some(hot) = self.partitions.get_mut(&partition) else {
            return self.answer_all(replies, &Err(Refused::NotFound));
        };
        let decision = hot.state.decide(&command, true, now, &self.vault);
        let answer = match decision {
            Ok(Decision::Commit(fact)) => self.write(partition, *fact, now),
            Ok(Decision::Wait) if !self.parked.is_full() => match *command {
                Command::Pay(pay) => return self.parked.park(Parked { partition, pay, replies }),
                _ => Err(Refused::NotAccepted("only payments wait")),
            },
            Ok(Decision::Wait) => Err(Refused::NotAccepted(
                "too many payments wait for their codes; try again in a moment",
            )),
            Ok(Decision::Repeat { sequence }) => {
                self.payment(PaymentPlace { partition, first_sequence: sequence })
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
        self.answer_all(replies, &answer);
    }

    fn answer_all(&mut self, replies: Vec<Reply>, answer: &Result<Answer, Refused>) {
        self.answers.extend(replies.into_iter().map(|reply| (reply, answer.clone())));
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
            self.requests.insert((caller, request.clone()), partition);
        }
        let answer = written(&hot.state, &entry, partition);
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
            self.decide_new(partition, Box::new(Command::Pay(pay)), replies, now);
        }
    }

    /// Payments that waited long enough are decided for good.
    fn end_waits(&mut self, now: Timestamp) {
        for Parked { partition, pay, replies } in self.parked.take_over(now) {
            match self.trouble(now) {
                Some(trouble) => replies.into_iter().for_each(|reply| refuse(reply, trouble)),
                None => self.decide_new(partition, Box::new(Command::Pay(pay)), replies, now),
            }
        }
    }

    /// What stands under a request id that was answered before.
    fn repeat(
        &self,
        place: PaymentPlace,
        digest: [u8; 16],
        now: Timestamp,
    ) -> Result<Answer, Refused> {
        let state = &self.partitions.get(&place.partition).ok_or(Refused::NotFound)?.state;
        let conflict = || rule(Refusal::RequestIdConflict, now);
        if let Some(payment) = state.payment(place.first_sequence) {
            return if payment.digest == digest { self.payment(place) } else { Err(conflict()) };
        }
        // Older than memory, or the operator's: the entry itself says what it was.
        let entry = self.entry(place)?;
        let (before, account_number) = match &entry.fact {
            Fact::Decided(it) => (it.digest, None),
            Fact::AccountOpened(it) => {
                (it.digest, state.account_by_id(it.account).map(|(number, _)| number))
            }
            Fact::ToppedUp(it) => (it.digest, Some(it.account_number)),
            Fact::Invited(_)
            | Fact::Linked(_)
            | Fact::Unlinked(_)
            | Fact::Registered(_)
            | Fact::Withdrawn(_) => return Err(Refused::NotFound),
        };
        if before != digest {
            return Err(conflict());
        }
        match account_number {
            Some(number) => account_state(state, number),
            None => self.payment(place),
        }
    }

    /// An entry by its place: of this very batch, or of the journal.
    fn entry(&self, place: PaymentPlace) -> Result<Entry, Refused> {
        let in_batch = self
            .batch
            .entries
            .iter()
            .find(|it| it.partition == place.partition && it.sequence == place.first_sequence);
        let bytes = match in_batch {
            Some(entry) => entry.bytes.clone(),
            None => entry_bytes(self.store.as_ref(), place)
                .map_err(|error| broken(&error))?
                .ok_or(Refused::NotFound)?,
        };
        Entry::decode(&bytes).map_err(|error| broken(&error.into()))
    }

    /// One durable commit of everything that the batch decided; then every answer.
    fn commit(&mut self) {
        if !self.batch.entries.is_empty() {
            for hot in self.partitions.values_mut().filter(|it| it.before.is_some()) {
                self.batch.before.extend(hot.before.take());
                self.batch.after.push(hot.head);
            }
            metrics::histogram!("warifu_batch_entries")
                .record(u32::try_from(self.batch.entries.len()).unwrap_or(u32::MAX));
            match self.store.append(&self.batch) {
                Ok(position) => self.committed(position),
                Err(AppendError::NotCommitted(why)) => self.not_committed(&why),
                Err(AppendError::Unknown(why)) => {
                    // Answer nothing: only the journal can say, and only a restart reads it.
                    self.stop("the outcome of a commit is unknown: restart the issuer", &why);
                    self.is_unsure = true;
                    self.answers.clear();
                    return self.batch = Batch::default();
                }
            }
        }
        for (reply, answer) in self.answers.drain(..) {
            // Whoever has gone away does not hear it; repeating the request tells them.
            drop(reply.send(answer));
        }
    }

    fn committed(&mut self, position: u64) {
        for head in &self.batch.after {
            let Some(hot) = self.partitions.get_mut(&head.partition) else { continue };
            hot.undo.committed();
            hot.state.forget_with(|caller, request| {
                self.requests.remove(&(caller, request.clone()));
                forget(&mut self.forgotten, caller, request);
            });
        }
        self.batch.entries.clear();
        self.batch.before.clear();
        self.batch.after.clear();
        self.shared.committed.send_replace(position);
    }

    /// Nothing was written, for certain: the state goes back, and everybody in the batch is told so.
    fn not_committed(&mut self, why: &str) {
        tracing::error!(
            why,
            entries = self.batch.entries.len(),
            "a commit was refused; nothing was written and nobody was paid"
        );
        for entry in &self.batch.entries {
            if let Ok(Entry { fact, .. }) = Entry::decode(&entry.bytes)
                && let Some((caller, request)) = request_of(&fact)
            {
                self.requests.remove(&(caller, request.clone()));
            }
        }
        for before in &self.batch.before {
            let Some(hot) = self.partitions.get_mut(&before.partition) else { continue };
            hot.undo.undo(&mut hot.state, 0);
            hot.head = *before;
        }
        self.batch = Batch::default();
        for (_, answer) in &mut self.answers {
            *answer =
                Err(Refused::NotAccepted("the journal can't be written now; see the issuer's log"));
        }
    }

    /// Memory forgets only what the index has: when that lags by a whole window, nothing more may be added.
    fn index_trouble(&self, partition: u8) -> Option<&'static str> {
        let sequence = self.partitions.get(&partition)?.state.sequence();
        let lag = sequence.saturating_sub(self.shared.indexed_sequence(partition));
        (lag + 1 >= WINDOW).then_some("the index is behind; try again in a moment")
    }

    /// Why nothing may be decided at that time.
    fn trouble(&self, now: Timestamp) -> Option<&'static str> {
        let stopped =
            *self.shared.stopped.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if stopped.is_some() {
            return stopped;
        }
        let (began, at) = self.began;
        let elapsed = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let expected = at.plus_ms(elapsed);
        if now.since_ms(expected).max(expected.since_ms(now)) > CLOCK_STEP_MAX_MS {
            self.stop(
                "the clock stepped by more than five minutes: check it and restart the issuer",
                &now,
            );
            return Some("the clock stepped");
        }
        None
    }

    fn stop(&self, why: &'static str, cause: &dyn std::fmt::Display) {
        let mut stopped =
            self.shared.stopped.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if stopped.is_none() {
            tracing::error!(%cause, why, "the lane has stopped: nothing more is decided");
            *stopped = Some(why);
        }
    }
}

fn refuse(reply: Reply, why: &'static str) {
    drop(reply.send(Err(Refused::NotAccepted(why))));
}

fn rule(refusal: Refusal, now: Timestamp) -> Refused {
    Refused::Rule { refusal, now, link_key: None }
}

fn broken(error: &anyhow::Error) -> Refused {
    tracing::error!(error = format!("{error:#}"), "the journal can't be read");
    Refused::Unknown
}

fn refused(state: &Partition, refusal: Refusal, command: &Command, now: Timestamp) -> Refused {
    // A terminal with a wrong clock may believe ours only if it is authenticated.
    let link_key = match (refusal, command) {
        (Refusal::ClockSkew, Command::Register(it)) => state
            .credential_by_id(it.statement.credential)
            .map(|(_, it)| zeroize::Zeroizing::new(it.keys.link_key)),
        _ => None,
    };
    Refused::Rule { refusal, now, link_key }
}

fn forget(forgotten: &mut HashMap<MerchantId, RequestId>, caller: MerchantId, request: &RequestId) {
    match forgotten.get_mut(&caller) {
        Some(greatest) if *greatest >= *request => {}
        Some(greatest) => *greatest = request.clone(),
        None => drop(forgotten.insert(caller, request.clone())),
    }
}

fn request_of(fact: &Fact) -> Option<(MerchantId, &RequestId)> {
    match fact {
        Fact::AccountOpened(it) => Some((warifu_core::partition::OPERATOR, &it.request)),
        Fact::ToppedUp(it) => Some((warifu_core::partition::OPERATOR, &it.request)),
        Fact::Decided(it) => Some((it.merchant, &it.request)),
        Fact::Invited(_)
        | Fact::Linked(_)
        | Fact::Unlinked(_)
        | Fact::Registered(_)
        | Fact::Withdrawn(_) => None,
    }
}

/// The answer to what was just applied.
fn written(state: &Partition, entry: &Entry, partition: u8) -> Result<Answer, Refused> {
    match &entry.fact {
        Fact::AccountOpened(it) => {
            account_state(state, state.account_by_id(it.account).ok_or(Refused::NotFound)?.0)
        }
        Fact::ToppedUp(it) => account_state(state, it.account_number),
        Fact::Invited(it) => {
            Ok(Answer::Invited { invitation: it.invitation, expires_at: it.expires_at })
        }
        Fact::Linked(it) => credential_state(
            state,
            state.credential_by_id(it.credential).ok_or(Refused::NotFound)?.0,
        ),
        Fact::Unlinked(_) => Ok(Answer::Unlinked),
        Fact::Registered(it) => registered(state, it.credential_number, entry.at, it.expires_at),
        Fact::Withdrawn(it) => registered(state, it.credential_number, entry.at, entry.at),
        Fact::Decided(_) => {
            let payment = state.payment(entry.sequence).ok_or(Refused::NotFound)?.clone();
            let account = payment
                .credential_number
                .and_then(|it| state.credential(it))
                .and_then(|it| state.account(it.account_number));
            Ok(Answer::Payment(PaymentState {
                account: account.map(|it| it.id),
                payment,
                partition,
            }))
        }
    }
}

fn account_state(state: &Partition, number: u32) -> Result<Answer, Refused> {
    let account = *state.account(number).ok_or(Refused::NotFound)?;
    Ok(Answer::Account(AccountState { account, partition: state.number() }))
}

fn credential_state(state: &Partition, number: u32) -> Result<Answer, Refused> {
    let credential = state.credential(number).ok_or(Refused::NotFound)?;
    let account = *state.account(credential.account_number).ok_or(Refused::NotFound)?;
    Ok(Answer::Credential(Box::new(CredentialState {
        id: credential.id,
        key: credential.key,
        keys: credential.keys.clone(),
        is_unlinked: credential.usage.is_unlinked,
        account,
        partition: state.number(),
    })))
}

fn registered(
    state: &Partition,
    credential_number: u32,
    registered_at: Timestamp,
    expires_at: Timestamp,
) -> Result<Answer, Refused> {
    let credential = state.credential(credential_number).ok_or(Refused::NotFound)?;
    Ok(Answer::Registered {
        registered_at,
        expires_at,
        link_key: zeroize::Zeroizing::new(credential.keys.link_key),
    })
}

/// The bytes of an entry. One that was committed a moment ago may not be in the index yet: then it is near the end.
fn entry_bytes(store: &dyn Store, place: PaymentPlace) -> anyhow::Result<Option<Vec<u8>>> {
    // In this order: the index may get there between the two questions.
    let mut next = store.indexed()? + 1;
    if let Some(bytes) = store.entry(place.partition, place.first_sequence)? {
        return Ok(Some(bytes));
    }
    loop {
        let frames = store.read(next, 1 << 20)?;
        let Some(last) = frames.last() else { return Ok(None) };
        next = last.last_position() + 1;
        let found = frames
            .into_iter()
            .flat_map(|it| it.entries)
            .find(|it| it.partition == place.partition && it.sequence == place.first_sequence);
        if let Some(entry) = found {
            return Ok(Some(entry.bytes));
        }
    }
}

/// A payment out of the journal.
pub(crate) fn old_payment(
    store: &dyn Store,
    place: PaymentPlace,
) -> anyhow::Result<Option<Payment>> {
    let Some(bytes) = entry_bytes(store, place)? else { return Ok(None) };
    Ok(Payment::begun_by(&Entry::decode(&bytes)?))
}
