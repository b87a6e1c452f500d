//! Tells payers what became of their codes: follows the journal, seals a notice for each payment that matched a code, and
//! gives it to the hub until the hub has acknowledged it.
//!
//! The cursor moves only past entries whose notices were acknowledged, so a notice is sent at least once; its number and
//! id are facts of the journal, so a repeat is recognised. The hub sees a credential, a number and a size.
//!
//! Notices go up to 64 in a call, and a few calls at a time: a lone one waits for nobody, and under load one signature and
//! one write of the hub serve many. Those of one credential go in the order of the journal, in calls that follow each
//! other. A hub that is away stops all of them, for as long as it is away; a hub that refuses one notice stops nobody.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::http::{HeaderMap, Method};
use futures_util::future::join_all;
use rusqlite::Connection;
use warifu_core::entry::{Entry, Fact};
use warifu_core::life::Change;
use warifu_core::payment::Payment;
use warifu_core::place::id_in;
use warifu_proto::code::Prefix;
use warifu_proto::currency::CurrencyCode;
use warifu_proto::directory::Directory;
use warifu_proto::id::{CredentialId, NoticeId};
use warifu_proto::limits::{BODY_MAX_BYTES, NOTICES_MAX};
use warifu_proto::message::{
    MerchantAbout, NoticeRequest, NoticeResult, NoticeText, NoticesAnswer, NoticesRequest,
    PaymentStatus,
};
use warifu_proto::money::{Money, Sum};
use warifu_proto::notice::seal;
use warifu_proto::rejection::Language;
use warifu_proto::time::Timestamp;
use warifu_server::client::{Client, Peer};
use warifu_server::db::{self, Durability};
use warifu_server::follow::DirectoryFollower;
use warifu_server::{chance, clock};
use zeroize::Zeroizing;

pub use self::questions::Questions;
use crate::engine::{Answer, Ask, Engine};

mod questions;

const TABLES: &[&str] = &["
    CREATE TABLE cursor (id INTEGER PRIMARY KEY CHECK (id = 1), position INTEGER NOT NULL) STRICT;
    INSERT INTO cursor VALUES (1, 0);
    CREATE TABLE question (payment BLOB PRIMARY KEY, text BLOB NOT NULL, until_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE INDEX question_by_end ON question (until_ms);
"];
/// How much of the journal is looked through at once, in bytes.
const READ_BYTES: usize = 256 << 10;
/// How long the hub may take for one call.
const DEADLINE: Duration = Duration::from_secs(5);
/// From looking into the journal to looking again, at least: a call and a write of the hub cost the same for one notice
/// and for many.
const TOGETHER: Duration = Duration::from_millis(10);
/// Pause after the hub could not be reached, doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How many calls are under way at most. One at a time could not follow a full load: most of a call is waiting.
const CALLS_MAX: usize = 4;
/// What a notice takes in a body beside its sealed text, at most: two ids, a number, names and marks.
const BYTES_BESIDE_SEAL: usize = 160;
/// Credentials whose seal keys are kept; beyond that all are dropped and asked for again.
const ADDRESSEES_MAX: usize = 100_000;

/// The sender of notices, running.
#[derive(Debug)]
pub struct Notices {
    task: tokio::task::JoinHandle<()>,
    questions: Arc<Questions>,
}

/// Where names of merchants and the hub are looked up, each time anew.
#[derive(Clone)]
pub struct Sources {
    /// The network's directory.
    pub directory: Arc<dyn Fn() -> Arc<Directory> + Send + Sync>,
    /// The hub that takes notices, if there is one.
    pub hub: Arc<dyn Fn() -> Option<Peer> + Send + Sync>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources")
    }
}

impl Sources {
    /// From the copy of the directory: the first active hub in it.
    pub fn following(directory: Arc<DirectoryFollower>) -> Self {
        let of_hub = Arc::clone(&directory);
        Self {
            directory: Arc::new(move || directory.current()),
            hub: Arc::new(move || hub_of(&of_hub.current())),
        }
    }
}

struct Sender {
    engine: Arc<Engine>,
    client: Arc<Client>,
    sources: Sources,
    prefix: Prefix,
    questions: Arc<Questions>,
    /// By partition and number. What is kept of a credential never changes.
    addressees: Mutex<HashMap<(u8, u32), Arc<Addressee>>>,
}

/// Whom a notice is for.
struct Addressee {
    credential: CredentialId,
    seal_key: Zeroizing<[u8; 32]>,
    currency: CurrencyCode,
}

/// A notice to be sent.
struct Due {
    entry: Entry,
    /// The payment as the entry left it.
    payment: Payment,
    credential_number: u32,
    number: u64,
    balance_minor: i64,
}

impl Due {
    /// The notice that an entry asks for.
    fn of(entry: Entry) -> Option<Self> {
        let payment = Payment::left_by(&entry)?;
        let credential_number = payment.credential_number?;
        let (number, balance_minor) = match &entry.fact {
            Fact::Decided(it) => {
                let matched = it.matched?;
                (matched.notice_number, matched.balance_minor)
            }
            Fact::Changed(it) => (it.notice_number, it.balance_minor),
            _ => return None,
        };
        (number != 0).then_some(Self { entry, payment, credential_number, number, balance_minor })
    }

    /// What happened, and how much it is about.
    fn kind(&self) -> (&'static str, u64) {
        let whole = self.payment.amount_minor;
        match &self.entry.fact {
            Fact::Changed(it) => match it.change {
                Change::Captured | Change::Refunded => (it.change.name(), it.amount_minor),
                Change::Reversed if it.amount_minor > 0 => (it.change.name(), it.amount_minor),
                Change::Released | Change::Expired | Change::Reversed => (it.change.name(), whole),
                Change::Confirmed | Change::Stopped(_) | Change::Refused | Change::TimedOut => {
                    (outcome(self.payment.status), whole)
                }
            },
            _ => (outcome(self.payment.status), whole),
        }
    }
}

/// What a decision is called.
fn outcome(status: PaymentStatus) -> &'static str {
    match status {
        PaymentStatus::Approved => "paid",
        PaymentStatus::Held => "held",
        PaymentStatus::AwaitingPayer => "confirm",
        PaymentStatus::Declined
        | PaymentStatus::Reversed
        | PaymentStatus::Released
        | PaymentStatus::Expired
        | PaymentStatus::Unknown => "declined",
    }
}

/// A part of the journal with what is to be sent of it.
struct Part {
    /// Position of its last entry.
    reached: u64,
    /// Queues that are sent side by side. A credential's notices are in one of them, in the order of their numbers.
    queues: Vec<VecDeque<Due>>,
}

impl Part {
    /// Takes what is due in the order of the journal.
    fn new(reached: u64, due: Vec<Due>) -> Self {
        let count = due.len().div_ceil(NOTICES_MAX).clamp(1, CALLS_MAX);
        let mut queues: Vec<_> = (0..count).map(|_| VecDeque::new()).collect();
        for due in due {
            let turn = usize::try_from(due.credential_number).unwrap_or_default() % count;
            queues[turn].push_back(due);
        }
        Self { reached, queues }
    }

    /// Since when the first of it waits.
    fn oldest(&self) -> Option<Timestamp> {
        self.queues.iter().filter_map(|it| it.front()).map(|it| it.entry.at).min()
    }
}

impl Notices {
    /// Opens the cursor in the data folder and begins to send to the hub of the directory.
    ///
    /// # Errors
    /// When the file can't be used.
    pub fn spawn(
        engine: Arc<Engine>,
        data: &Path,
        prefix: Prefix,
        client: Arc<Client>,
        directory: Arc<DirectoryFollower>,
    ) -> anyhow::Result<Self> {
        Self::spawn_from(engine, data, prefix, client, Sources::following(directory))
    }

    /// The same with other sources.
    ///
    /// # Errors
    /// When the file can't be used.
    pub fn spawn_from(
        engine: Arc<Engine>,
        data: &Path,
        prefix: Prefix,
        client: Arc<Client>,
        sources: Sources,
    ) -> anyhow::Result<Self> {
        let path = data.join("notices.db");
        let cursor = db::open(&path, Durability::Normal)
            .with_context(|| format!("cannot open {}", path.display()))?;
        db::migrate(&cursor, TABLES)?;
        let mut position: u64 =
            cursor.query_row("SELECT position FROM cursor", [], |row| row.get(0))?;
        let end = *engine.committed().borrow();
        if position > end {
            tracing::warn!(
                position,
                end,
                "the notices' cursor is ahead of the journal, which was replaced: going on from its end"
            );
            position = end;
        }
        let questions = Arc::new(Questions::open(&path)?);
        let sender = Arc::new(Sender {
            engine,
            client,
            sources,
            prefix,
            questions: Arc::clone(&questions),
            addressees: Mutex::default(),
        });
        Ok(Self { task: tokio::spawn(run(sender, cursor, position)), questions })
    }

    /// What payers were asked.
    pub fn questions(&self) -> Arc<Questions> {
        Arc::clone(&self.questions)
    }

    /// Ends the sending; what was not acknowledged is sent again at the next start.
    pub async fn stop(self) {
        self.task.abort();
        // The task was cancelled: that is what it says.
        drop(self.task.await);
    }
}

async fn run(sender: Arc<Sender>, cursor: Connection, mut position: u64) {
    let mut committed = sender.engine.committed();
    loop {
        if committed.wait_for(|committed| *committed > position).await.is_err() {
            return;
        }
        // A lone notice waits for nobody; after it, what comes within moments goes together.
        let began = Instant::now();
        let mut part = match sender.read_after(position).await {
            Ok(part) => part,
            Err(error) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "notices wait: the journal can't be read"
                );
                tokio::time::sleep(PAUSE_MAX).await;
                continue;
            }
        };
        let behind = committed.borrow().saturating_sub(position);
        metrics::gauge!("warifu_notice_lag_entries").set(u32::try_from(behind).unwrap_or(u32::MAX));
        let mut pause = PAUSE_MIN;
        while let Err(error) = sender.send_all(&mut part).await {
            tell_age(part.oldest());
            tracing::warn!(error = format!("{error:#}"), "notices wait: the hub did not take them");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        tell_age(None);
        position = part.reached;
        if let Err(error) = cursor.execute("UPDATE cursor SET position = ?1", [position]) {
            tracing::error!(%error, "the notices' cursor could not be kept: some will be sent again after a restart");
        }
        let behind = committed.borrow().saturating_sub(position);
        metrics::gauge!("warifu_notice_lag_entries").set(u32::try_from(behind).unwrap_or(u32::MAX));
        tokio::time::sleep(TOGETHER.saturating_sub(began.elapsed())).await;
    }
}

/// How long the oldest notice has been waiting for the hub.
fn tell_age(oldest: Option<Timestamp>) {
    let age_s = oldest.map_or(0, |at| clock::now().since_ms(at) / 1000);
    metrics::gauge!("warifu_notice_oldest_unacknowledged_age_seconds")
        .set(u32::try_from(age_s).unwrap_or(u32::MAX));
}

impl Sender {
    /// Reads the next part of the journal.
    async fn read_after(&self, position: u64) -> anyhow::Result<Part> {
        let store = self.engine.store();
        let read = move || store.read(position + 1, READ_BYTES);
        let frames =
            tokio::task::spawn_blocking(read).await.context("reading the journal panicked")??;
        let reached = frames.last().context("the journal has lost its end")?.last_position();
        let mut due = Vec::new();
        for bytes in frames.iter().flat_map(|it| &it.entries) {
            due.extend(Due::of(Entry::decode(&bytes.bytes)?));
        }
        Ok(Part::new(reached, due))
    }

    /// Sends a part, many notices a call. After a failure what was acknowledged is no longer in it.
    async fn send_all(&self, part: &mut Part) -> anyhow::Result<()> {
        let sending = part.queues.iter_mut().map(|queue| self.send_queue(queue));
        join_all(sending).await.into_iter().collect()
    }

    async fn send_queue(&self, queue: &mut VecDeque<Due>) -> anyhow::Result<()> {
        while !queue.is_empty() {
            let sent = self.send_some(queue).await?;
            queue.drain(..sent);
        }
        Ok(())
    }

    async fn addressee(&self, partition: u8, number: u32) -> anyhow::Result<Arc<Addressee>> {
        let key = (partition, number);
        if let Some(found) = lock(&self.addressees).get(&key) {
            return Ok(Arc::clone(found));
        }
        let ask = Ask::CredentialByNumber(number);
        let Answer::Credential(credential) = self.engine.ask(partition, ask, DEADLINE).await?
        else {
            anyhow::bail!("the lane answered something else");
        };
        let addressee = Arc::new(Addressee {
            credential: credential.id,
            seal_key: Zeroizing::new(credential.keys.seal_key),
            currency: credential.account.currency.code,
        });
        let mut addressees = lock(&self.addressees);
        if addressees.len() >= ADDRESSEES_MAX {
            addressees.clear();
        }
        addressees.insert(key, Arc::clone(&addressee));
        Ok(addressee)
    }

    /// Sends as many as fit in one call, and says how many of them are done. A call that the hub finds wrong is made
    /// again with one notice; if that is wrong too, the notice is left out: it must not stop everybody's.
    async fn send_some(&self, due: &VecDeque<Due>) -> anyhow::Result<usize> {
        for most in [NOTICES_MAX, 1] {
            let notices = self.seal_some(due, most).await?;
            let count = notices.len();
            match self.leave(notices).await? {
                Ok(results) => {
                    anyhow::ensure!(results.len() == count, "the hub answered for other notices");
                    tell(&results);
                    return Ok(count);
                }
                Err(status) => tracing::warn!(status, count, "the hub refused notices"),
            }
        }
        tell(&[NoticeResult::CredentialUnknown]);
        Ok(1)
    }

    /// As many as fit in one body.
    async fn seal_some(
        &self,
        due: &VecDeque<Due>,
        most: usize,
    ) -> anyhow::Result<Vec<NoticeRequest>> {
        let directory = (self.sources.directory)();
        // All at once: the lane answers with its next commit, and one after the other would wait for as many commits.
        let asked = due.iter().take(most);
        let asked = asked.map(|it| self.addressee(it.entry.partition, it.credential_number));
        let addressees = join_all(asked).await;
        let (mut notices, mut bytes) = (Vec::new(), BYTES_BESIDE_SEAL);
        for (due, addressee) in due.iter().zip(addressees) {
            let notice = self.seal(due, &*addressee?, &directory)?;
            bytes += BYTES_BESIDE_SEAL + (notice.sealed.len() * 4).div_ceil(3);
            if bytes > BODY_MAX_BYTES && !notices.is_empty() {
                break;
            }
            notices.push(notice);
        }
        Ok(notices)
    }

    /// Gives notices to the hub: what became of each, or the status by which the hub says that the call is wrong.
    async fn leave(
        &self,
        notices: Vec<NoticeRequest>,
    ) -> anyhow::Result<Result<Vec<NoticeResult>, u16>> {
        let hub = (self.sources.hub)().context("no active hub is in the directory")?;
        let body = serde_json::to_vec(&NoticesRequest { notices })?;
        let path = "/v1/notices/batch";
        let answer = self
            .client
            .call(&hub, Method::POST, path, Some(body), DEADLINE, HeaderMap::new())
            .await?;
        match answer.status.as_u16() {
            200..=299 => Ok(Ok(serde_json::from_slice::<NoticesAnswer>(&answer.body)?.results)),
            // Only these can be about a notice. Anything else, such as a hub without this call, is about the hub.
            status @ (400 | 409 | 413 | 422) => Ok(Err(status)),
            status => anyhow::bail!("the hub answered {status}"),
        }
    }

    fn seal(
        &self,
        due: &Due,
        addressee: &Addressee,
        directory: &Directory,
    ) -> anyhow::Result<NoticeRequest> {
        let partition = due.entry.partition;
        let text = self.text(due, addressee, directory)?;
        let mut plain = serde_json::to_vec(&text)?;
        if let (PaymentStatus::AwaitingPayer, Some(until)) = (text.status, text.expires_at) {
            plain = self.questions.keep(text.payment_id, &plain, until, clock::now())?;
        }
        let (credential_id, number) = (addressee.credential, due.number);
        let sealed = seal(&addressee.seal_key, credential_id, number, chance::bytes(), &plain);
        let notice_id: NoticeId = id_in(partition, due.entry.at, due.entry.sequence.to_be_bytes());
        Ok(NoticeRequest { credential_id, notice_id, number, sealed })
    }

    /// What the payer is told. Made of facts only, so that a repeat says the same.
    fn text(
        &self,
        due: &Due,
        addressee: &Addressee,
        directory: &Directory,
    ) -> anyhow::Result<NoticeText> {
        let payment = &due.payment;
        let merchant = directory
            .merchant(payment.merchant)
            .map_or_else(|| payment.merchant.to_string(), |it| it.name.clone());
        let (kind, amount_minor) = due.kind();
        Ok(NoticeText {
            kind: kind.to_owned(),
            payment_id: payment.id(self.prefix, due.entry.partition),
            merchant: MerchantAbout { id: payment.merchant, name: merchant },
            amount: Money::new(amount_minor, payment.currency)?,
            status: payment.status,
            reason: payment.rejection.map(|it| it.payer(Language::English).to_owned()),
            balance: Some(Sum { minor: due.balance_minor, currency: addressee.currency }),
            expires_at: payment.expires_at,
            at: due.entry.at,
        })
    }
}

fn tell(results: &[NoticeResult]) {
    // A conflict: the number is taken by an earlier try of this very notice, sealed with another nonce.
    let is_refused = |it: &&NoticeResult| **it == NoticeResult::CredentialUnknown;
    let refused = results.iter().filter(is_refused).count();
    metrics::counter!("warifu_notices_sent_total").increment((results.len() - refused) as u64);
    if refused > 0 {
        metrics::counter!("warifu_notices_refused_total").increment(refused as u64);
        tracing::warn!(refused, "the hub does not take some notices; they are left out");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The hub that takes notices: the first one that is active.
fn hub_of(directory: &Directory) -> Option<Peer> {
    let now = clock::now();
    directory
        .hubs()
        .find(|it| it.common.is_active(now))
        .map(|it| Peer { url: it.url.clone(), key: it.key.clone() })
}

#[cfg(test)]
mod tests;
