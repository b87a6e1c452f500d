//! The issuer's engine: memory first, journal fenced.
//!
//! One thread, the [lane], owns the state of all partitions. It takes what has arrived, decides and applies in
//! memory, writes **one durable commit**, and then answers. What it says, "not found" included, waits for the commit
//! that covers what it saw. Everything else here ([`recover`], [`follow`]) reads the journal that the lane writes.

pub mod chain;
pub mod follow;
pub mod lane;
mod parking;
pub mod recover;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use warifu_core::account::Account;
use warifu_core::decide::{Command, OldPayment, Refusal};
use warifu_core::entry::Entry;
use warifu_core::limits::Limits;
use warifu_core::payment::{Payment, PaymentPlace};
use warifu_core::vault::Vault;
use warifu_proto::code::Prefix;
use warifu_proto::id::{AccountId, CredentialId, InvitationId, MerchantId};
use warifu_proto::link::LinkKeys;
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;
use zeroize::Zeroizing;

use crate::store::{Head, Store};

/// How often a payment that has left memory is read for one question.
const READ_AGAIN_MAX: usize = 3;

/// What is asked of the lane.
#[derive(Debug)]
pub enum Ask {
    /// To decide something.
    Decide(Box<Command>),
    /// For a payment, by its place; with what was read of it from the journal, if memory did not have it.
    Payment(PaymentPlace, Option<Box<OldPayment>>),
    /// For a payment, by whose request it was.
    PaymentOf(MerchantId, RequestId),
    /// For a credential and its keys.
    Credential(CredentialId),
    /// For a credential by its number, as entries name it.
    CredentialByNumber(u32),
    /// For an account.
    Account(AccountId),
}

/// What the lane says, after the commit that covers it.
#[derive(Debug, Clone)]
pub enum Answer {
    /// An account as it stands: opened, topped up, or asked for.
    Account(AccountState),
    /// A terminal may link itself.
    Invited {
        /// By this invitation.
        invitation: InvitationId,
        /// Until then.
        expires_at: Timestamp,
    },
    /// A credential: linked, or asked for.
    Credential(Box<CredentialState>),
    /// The link has ended.
    Unlinked,
    /// A code was registered, or all were withdrawn.
    Registered {
        /// When.
        registered_at: Timestamp,
        /// Until when it can be paid with.
        expires_at: Timestamp,
        /// Authenticates the acknowledgement.
        link_key: Zeroizing<[u8; 32]>,
    },
    /// A payment as it stands.
    Payment(PaymentState),
    /// A capture or refund.
    Changed {
        /// The payment as it stands now.
        payment: PaymentState,
        /// The entry that made the change.
        sequence: u64,
    },
    /// A payment has no effect and never will; nothing when it has not arrived before the reversal.
    Reversed(Option<Box<PaymentState>>),
}

/// An account, with what only its partition knows.
#[derive(Debug, Clone, Copy)]
pub struct AccountState {
    /// The account.
    pub account: Account,
    /// Where it lives.
    pub partition: u8,
    /// The limits that it has of its own.
    pub limits: Option<Limits>,
}

/// A credential, with what only its partition knows.
#[derive(Debug, Clone)]
pub struct CredentialState {
    /// Its id.
    pub id: CredentialId,
    /// The terminal's key, x ‖ y.
    pub key: [u8; 64],
    /// What terminal and issuer share.
    pub keys: LinkKeys,
    /// Whether it was unlinked.
    pub is_unlinked: bool,
    /// Whether it can't pay now.
    pub is_suspended: bool,
    /// Whose money.
    pub account: Account,
    /// The limits that the account has of its own.
    pub limits: Option<Limits>,
    /// Where it lives.
    pub partition: u8,
}

/// A payment, with what only its partition knows.
#[derive(Debug, Clone)]
pub struct PaymentState {
    /// The payment.
    pub payment: Payment,
    /// Where it lives.
    pub partition: u8,
    /// Whose money; nothing when no registration matched.
    pub account: Option<AccountId>,
}

/// Why the lane does not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refused {
    /// A rule says no; nothing was written.
    #[error("{refusal}")]
    Rule {
        /// Which.
        refusal: Refusal,
        /// The issuer's time.
        now: Timestamp,
        /// With a terminal's wrong clock: what authenticates telling it.
        link_key: Option<Zeroizing<[u8; 32]>>,
    },
    /// There is nothing of that name.
    #[error("there is no such thing")]
    NotFound,
    /// The payment at this place is not in memory: read it ([`Engine::read_payment`]) and ask again with it.
    #[error("the payment has left memory")]
    NotInMemory(PaymentPlace),
    /// This message changed nothing and never will: the queue is full, the disk is, or the lane has stopped.
    #[error("not accepted: {0}")]
    NotAccepted(&'static str),
    /// The lane ended before it answered: the outcome is unknown.
    #[error("the outcome is unknown")]
    Unknown,
}

/// A question with a way back.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) partition: u8,
    pub(crate) ask: Ask,
    /// Past that it is dropped undecided: whoever asked has gone.
    pub(crate) deadline: Instant,
    pub(crate) reply: oneshot::Sender<Result<Answer, Refused>>,
}

/// How the engine is set up.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The issuer's prefix.
    pub prefix: Prefix,
    /// Most commands in one commit.
    pub batch_max: usize,
    /// Most commands that wait for the lane.
    pub queue_max: usize,
    /// Entries between snapshots.
    pub snapshot_every: u64,
    /// A full batch of at least so many commands is committed by a second thread. Deciding the next one then takes longer than
    /// handing this one over, which are two wake-ups of a thread.
    pub hand_over_min: usize,
}

impl EngineConfig {
    /// The defaults: batches of 512, a queue of 4 096, a snapshot every two million entries: some three seconds of a restart.
    pub fn new(prefix: Prefix) -> Self {
        let (batch_max, queue_max, snapshot_every) = (512, 4096, 2_000_000);
        Self { prefix, batch_max, queue_max, snapshot_every, hand_over_min: 32 }
    }
}

/// A running engine. Dropping it without [`Engine::stop`] ends it like a crash would, but for what is under way.
#[derive(Debug)]
pub struct Engine {
    jobs: SyncSender<Job>,
    pub(crate) shared: Arc<Shared>,
    threads: std::sync::Mutex<Vec<JoinHandle<()>>>,
    store: Arc<dyn Store>,
    vault: Arc<Vault>,
}

/// What the lane and those around it both see.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Position of the last committed entry.
    pub(crate) committed: watch::Sender<u64>,
    /// Position up to which the index has got.
    pub(crate) indexed: watch::Sender<u64>,
    /// For each partition: the last sequence that is committed.
    pub(crate) committed_sequences: Vec<AtomicU64>,
    /// For each partition: the last sequence that the index has.
    pub(crate) indexed_sequences: Vec<AtomicU64>,
    /// Set to end all threads.
    pub(crate) stopping: AtomicBool,
    /// Set before that at a clean stop: take a last snapshot.
    pub(crate) last_snapshot: AtomicBool,
    /// Why the lane takes no more commands.
    pub(crate) stopped: std::sync::Mutex<Option<&'static str>>,
}

impl Shared {
    /// Everything of a partition up to this head is committed.
    pub(crate) fn has_committed(&self, head: &Head) {
        if let Some(committed) = self.committed_sequences.get(usize::from(head.partition)) {
            committed.store(head.sequence, Ordering::Release);
        }
    }

    /// How many entries of one partition the index lacks at most.
    pub(crate) fn index_lag(&self) -> u64 {
        let sequences = self.committed_sequences.iter().zip(&self.indexed_sequences);
        let lags = sequences.map(|(committed, indexed)| {
            committed.load(Ordering::Acquire).saturating_sub(indexed.load(Ordering::Acquire))
        });
        lags.max().unwrap_or_default()
    }

    /// The index has everything of a partition up to this head.
    pub(crate) fn has_indexed(&self, head: &Head) {
        if let Some(indexed) = self.indexed_sequences.get(usize::from(head.partition)) {
            indexed.fetch_max(head.sequence, Ordering::AcqRel);
        }
    }

    /// The last sequence of a partition that the index has.
    pub(crate) fn indexed_sequence(&self, partition: u8) -> u64 {
        self.indexed_sequences
            .get(usize::from(partition))
            .map_or(0, |it| it.load(Ordering::Acquire))
    }
}

impl Engine {
    /// Recovers the state and starts the lane, the index and the snapshots.
    ///
    /// # Errors
    /// When the journal is damaged or does not belong to this vault key.
    pub fn start(
        config: EngineConfig,
        store: Arc<dyn Store>,
        vault: Arc<Vault>,
    ) -> anyhow::Result<Self> {
        let recovered = recover::recover(store.as_ref(), &vault, None)?;
        let indexed = store.indexed()?;
        let shared = Arc::new(Shared {
            committed: watch::Sender::new(recovered.position),
            indexed: watch::Sender::new(indexed),
            committed_sequences: (0..=u8::MAX).map(|_| AtomicU64::new(0)).collect(),
            indexed_sequences: (0..=u8::MAX).map(|_| AtomicU64::new(0)).collect(),
            stopping: AtomicBool::new(false),
            last_snapshot: AtomicBool::new(false),
            stopped: std::sync::Mutex::new(None),
        });
        // Entries at positions that the index believes to have would never get into it: their requests would be decided again.
        anyhow::ensure!(
            indexed <= recovered.position,
            "the journal ends at position {}, but the index has got to {indexed}: the end of the journal is lost. Restore all files of the data folder from one backup",
            recovered.position
        );
        // Nothing may be forgotten that the index does not have, so it catches up before the first decision.
        follow::catch_up_index(store.as_ref(), &shared)?;
        for folded in recovered.partitions.values() {
            shared.has_committed(&folded.head);
            shared.has_indexed(&folded.head);
        }
        let (jobs, inbox) = sync_channel(config.queue_max);
        let index = follow::spawn_index(Arc::clone(&store), Arc::clone(&shared))?;
        let snapshots = follow::spawn_snapshots(
            Arc::clone(&store),
            Arc::clone(&vault),
            Arc::clone(&shared),
            config.snapshot_every,
            recovered.from,
        )?;
        let lane = lane::Lane::new(
            config,
            Arc::clone(&store),
            Arc::clone(&vault),
            Arc::clone(&shared),
            recovered,
        )?;
        let lane =
            std::thread::Builder::new().name("lane".to_owned()).spawn(move || lane.run(&inbox))?;
        Ok(Self {
            jobs,
            shared,
            threads: std::sync::Mutex::new(vec![lane, index, snapshots]),
            store,
            vault,
        })
    }

    /// Asks the lane of a partition and waits for its answer, for `patience` at most.
    ///
    /// # Errors
    /// As [`Refused`]. After [`Refused::Unknown`] the same request may be repeated.
    pub async fn ask(
        &self,
        partition: u8,
        ask: Ask,
        patience: Duration,
    ) -> Result<Answer, Refused> {
        self.send_later(partition, ask, patience)?.await.unwrap_or(Err(Refused::Unknown))
    }

    /// Asks the lane and leaves the waiting to the caller, who may have many questions under way.
    ///
    /// # Errors
    /// [`Refused::NotAccepted`] when too many wait.
    pub fn send_later(
        &self,
        partition: u8,
        ask: Ask,
        patience: Duration,
    ) -> Result<oneshot::Receiver<Result<Answer, Refused>>, Refused> {
        let (reply, answer) = oneshot::channel();
        self.send(Job { partition, ask, deadline: Instant::now() + patience, reply })?;
        Ok(answer)
    }

    fn send(&self, job: Job) -> Result<(), Refused> {
        self.jobs.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(_) => {
                Refused::NotAccepted("too many requests wait; try again in a moment")
            }
            TrySendError::Disconnected(_) => Refused::NotAccepted("the issuer is stopping"),
        })
    }

    /// A payment, whatever its age.
    ///
    /// # Errors
    /// As [`Engine::ask`].
    pub async fn payment(
        &self,
        place: PaymentPlace,
        patience: Duration,
    ) -> Result<PaymentState, Refused> {
        let mut old = None;
        for _ in 0..READ_AGAIN_MAX {
            match self.ask(place.partition, Ask::Payment(place, old), patience).await {
                Ok(Answer::Payment(state)) => return Ok(state),
                Err(Refused::NotInMemory(place)) => old = Some(self.read_payment(place).await?),
                Err(refused) => return Err(refused),
                Ok(_) => return Err(Refused::NotFound),
            }
        }
        Err(Refused::NotAccepted("the payment changes faster than it can be read"))
    }

    /// Reads a payment from the journal, off the lane: the last entry that changed it holds it whole.
    ///
    /// # Errors
    /// [`Refused::NotFound`] when there is none; [`Refused::NotAccepted`] when the store can't be read.
    pub async fn read_payment(&self, place: PaymentPlace) -> Result<Box<OldPayment>, Refused> {
        // Before the reading: what is indexed later need not be in it.
        let as_of = self.shared.indexed_sequence(place.partition);
        let store = Arc::clone(&self.store);
        let read = tokio::task::spawn_blocking(move || read_payment(store.as_ref(), place)).await;
        match read {
            Ok(Ok(Some(payment))) => Ok(Box::new(OldPayment { payment, as_of })),
            Ok(Ok(None)) => Err(Refused::NotFound),
            Ok(Err(error)) => {
                tracing::error!(error = format!("{error:#}"), "an old payment can't be read");
                Err(Refused::NotAccepted("the journal can't be read now; see the issuer's log"))
            }
            Err(_) => Err(Refused::NotAccepted("reading the journal failed")),
        }
    }

    /// Position of the last committed entry, to be followed.
    pub fn committed(&self) -> watch::Receiver<u64> {
        self.shared.committed.subscribe()
    }

    /// Position up to which the index has got.
    pub fn indexed(&self) -> u64 {
        *self.shared.indexed.borrow()
    }

    /// How many entries of one partition the index lacks at most: at a whole window, the lane refuses more of that one.
    pub fn index_lag(&self) -> u64 {
        self.shared.index_lag()
    }

    /// Why nothing is accepted; nothing while all is well.
    pub fn trouble(&self) -> Option<&'static str> {
        *self.shared.stopped.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The journal, for those who follow it.
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// The vault, for those who fold the journal themselves.
    pub fn vault(&self) -> Arc<Vault> {
        Arc::clone(&self.vault)
    }

    /// Ends the lane after what it has taken, and takes a last snapshot.
    pub fn stop(&self) {
        self.shared.last_snapshot.store(true, Ordering::Release);
        self.end();
    }

    fn end(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.committed.send_modify(|_| ());
        let threads = std::mem::take(
            &mut *self.threads.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
        );
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the engine panicked");
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end();
    }
}

fn read_payment(store: &dyn Store, place: PaymentPlace) -> anyhow::Result<Option<Payment>> {
    let PaymentPlace { partition, first_sequence } = place;
    let sequence = store.last_change(partition, first_sequence)?.unwrap_or(first_sequence);
    let Some(bytes) = store.entry(partition, sequence)? else { return Ok(None) };
    let payment = Payment::left_by(&Entry::decode(&bytes)?);
    Ok(payment.filter(|it| it.first_sequence == first_sequence))
}

/// Opens (or makes) the SQLite store in a folder.
///
/// # Errors
/// When the folder can't be used; the message says why and what to do.
pub fn open_store(data: &Path, prefix: Prefix) -> anyhow::Result<Arc<dyn Store>> {
    Ok(Arc::new(crate::store::sqlite::SqliteStore::open(data, prefix)?))
}
